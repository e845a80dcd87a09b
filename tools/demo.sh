#!/usr/bin/env bash
# Shows the extension on real text, on a throw-away Postgres. It runs tools/demo.sql, which is also a
# tutorial. DOCS=folder uses your own text, Markdown or HTML files; PG_CONFIG=... your own Postgres, which
# needs pgvector.
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
start_cluster
say "the demo: what stands below is tools/demo.sql"
python3 tools/pages.py "${docs[@]}" 2>/dev/null >"$CLUSTER/pages.csv"
psql_cluster -f tools/demo.sql <"$CLUSTER/pages.csv" 2>&1 | sed -E 's/^psql:[^ ]* (NOTICE|WARNING):  /      /'
say "done; the cluster is thrown away"
