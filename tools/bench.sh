#!/usr/bin/env bash
# Measures the figures of bench/README.md as ratios within one run, with the manual of the demo and a
# throw-away cluster.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
. tools/cluster.sh
set_up

say "chunks: quality and speed on the manual"
fetch_manual || die "the benchmarks need the manual: no network?"
python3 tools/pages.py "$MANUAL" >"$DEV/pages.csv" 2>/dev/null
python3 - "$DEV" <<'PY'
import csv, pathlib, sys
csv.field_size_limit(1 << 30)
folder = pathlib.Path(sys.argv[1])
(folder / "pages").mkdir(exist_ok=True)
for number, _, content in csv.reader((folder / "pages.csv").open(newline="")):
    (folder / "pages" / f"{number}.txt").write_text(content)
PY
cargo run -q --release --manifest-path bench/chunker/Cargo.toml -- "$DEV/pages"

say "store: against COPY BINARY and against Python"
install_extension
start_cluster
fill_cluster() {
    query "CREATE TABLE page (id bigint PRIMARY KEY, title text, content text)" "\copy page FROM $DEV/pages.csv CSV" \
        "CREATE EXTENSION chatbot_sync CASCADE" "VACUUM ANALYZE page"
}
fill_cluster
[ -x "$DEV/venv/bin/python" ] || python3 -m venv "$DEV/venv" || { need virtualenv python3-venv; python3 -m venv "$DEV/venv"; }
"$DEV/venv/bin/python" -c 'import model2vec, psycopg' 2>/dev/null || "$DEV/venv/bin/pip" install -q model2vec 'psycopg[binary]'
"$DEV/venv/bin/python" bench/store.py "host=$CLUSTER user=postgres dbname=postgres"

say "scale: what a chunk takes, many of them, chatbots on shards"
"$DEV/venv/bin/python" bench/sizes.py "host=$CLUSTER user=postgres dbname=postgres"
python3 bench/scale.py
python3 bench/shards.py

say "providers: against a bare client"
cargo run -q --release --manifest-path bench/http/Cargo.toml -- "host=$CLUSTER user=postgres dbname=postgres"

say "host tables: against the same without triggers, and against a call a document"
"$DEV/venv/bin/python" bench/hosts.py "host=$CLUSTER user=postgres dbname=postgres"

say "growth: what a row costs among many, against among few"
"$DEV/venv/bin/python" bench/growth.py "host=$CLUSTER user=postgres dbname=postgres"

say "the queue: backlogs, single edits, killed workers"
stop_cluster
start_cluster -c shared_preload_libraries=chatbot_sync
fill_cluster
"$DEV/venv/bin/python" bench/workers.py "host=$CLUSTER user=postgres dbname=postgres"
