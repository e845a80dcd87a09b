#!/usr/bin/env bash
# Measures the quality and speed of searches for bench/README.md, with two manuals and a throw-away cluster.
# SIZES="100000/1 1000000/mixed" sets the numbers of chunks and chatbots of the last part; a million chunks take a quarter of
# an hour. INDEXED="20000 768" sets the number of chunks and of dimensions for the comparison of indexes.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
. tools/cluster.sh
set_up
fetch_manual || die "the benchmarks need the manual: no network?"
fetch_package "$DEV/faq" python3.11-doc python3.12-doc python3.13-doc python3.14-doc || die "the benchmarks need Python's manual: no network?"
python3 tools/pages.py "$MANUAL" >"$DEV/pages.csv" 2>/dev/null
python3 bench/faq.py "$DEV"/faq/usr/share/doc/python3*/html >"$DEV/faq.csv"
install_extension
start_cluster -c shared_buffers=2GB
query "CREATE TABLE page (id bigint PRIMARY KEY, title text, content text)" "\copy page FROM $DEV/pages.csv CSV" \
    "CREATE EXTENSION chatbot_sync CASCADE" "VACUUM ANALYZE page"
[ -x "$DEV/venv/bin/python" ] || python3 -m venv "$DEV/venv" || { need virtualenv python3-venv; python3 -m venv "$DEV/venv"; }
"$DEV/venv/bin/python" -c 'import numpy, psycopg, rank_bm25, snowballstemmer' 2>/dev/null ||
    "$DEV/venv/bin/pip" install -q numpy 'psycopg[binary]' rank_bm25 snowballstemmer
say "quality: headings and questions against what they should find"
"$DEV/venv/bin/python" bench/search.py quality "host=$CLUSTER user=postgres dbname=postgres" "$DEV/pages.csv" "$DEV/faq.csv"
say "titles: questions about long pages, with the title before each chunk and without"
"$DEV/venv/bin/python" bench/titles.py "host=$CLUSTER user=postgres dbname=postgres" "$DEV/pages.csv"
say "recall: what halves and bits find"
"$DEV/venv/bin/python" bench/recall.py "host=$CLUSTER user=postgres dbname=postgres"
say "indexes: over vectors, halves and bits"
"$DEV/venv/bin/python" bench/indexes.py "host=$CLUSTER user=postgres dbname=postgres" ${INDEXED:-}
say "speed: against bare pgvector"
"$DEV/venv/bin/python" bench/search.py speed "host=$CLUSTER user=postgres dbname=postgres" ${SIZES:-}
