#!/usr/bin/env bash
# The main job on real text, on a throw-away Postgres: tools/demo.sql is what is run, and a tutorial.
# MODEL=all-MiniLM-L6-v2 takes that model instead of the built-in one. DOCS=folder takes text, Markdown or HTML files of one's own; PG_CONFIG=... a Postgres of one's own that has pgvector.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
. tools/cluster.sh
set_up
install_extension

if [ -n "${DOCS:-}" ]; then
    docs=("$DOCS")
elif fetch_manual; then
    docs=("$MANUAL")
else
    say "the manual is not to be had (no network?): the text files of this folder take its place"
    docs=(README.md CHANGELOG.md LICENSE bench/README.md)
fi
[ -z "${MODEL:-}" ] || tools/model.sh
start_cluster
say "the demo: what stands below is tools/demo.sql"
python3 tools/pages.py "${docs[@]}" 2>/dev/null >"$CLUSTER/pages.csv"
psql_cluster ${MODEL:+-v model="$MODEL"} -f tools/demo.sql <"$CLUSTER/pages.csv" 2>&1 | sed -E 's/^psql:[^ ]* (NOTICE|WARNING):  /      /'
say "done; the cluster is thrown away"
