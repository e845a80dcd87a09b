#!/usr/bin/env bash
# Runs tools/demo.sql, which is also a tutorial, on real text and a throw-away Postgres. MODEL=all-MiniLM-L6-v2 takes that
# model instead of the built-in one, DOCS=folder text, Markdown or HTML files of your own, and PG_CONFIG=... a Postgres of your
# own that has pgvector.
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
