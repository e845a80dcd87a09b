#!/usr/bin/env bash
# Measures models in folders against onnxruntime, and in a server, for bench/README.md. NAMES="all-MiniLM-L6-v2" says which.
# QUALITY=no leaves out how well searches find, which embeds two manuals with each model.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
. tools/cluster.sh
set_up
fetch_manual || die "the benchmarks need the manual: no network?"
python3 tools/pages.py "$MANUAL" >"$DEV/pages.csv" 2>/dev/null
names=${NAMES:-all-MiniLM-L6-v2 multilingual-e5-small}
for name in $names; do MODEL=$name MODELS=$DEV/models tools/model.sh; done
[ -x "$DEV/venv/bin/python" ] || python3 -m venv "$DEV/venv" || { need virtualenv python3-venv; python3 -m venv "$DEV/venv"; }
"$DEV/venv/bin/python" -c 'import numpy, onnx, onnxruntime, safetensors, tokenizers' 2>/dev/null ||
    "$DEV/venv/bin/pip" install -q numpy onnx onnxruntime safetensors tokenizers
"$DEV/venv/bin/python" -c 'import psycopg' 2>/dev/null || "$DEV/venv/bin/pip" install -q 'psycopg[binary]'
say "building"
target=$DEV/bench-target
CARGO_TARGET_DIR=$target cargo build -q --release --manifest-path bench/models/Cargo.toml
say "vectors of published models against the committed ones"
MODELS=$DEV/models cargo test -q --release --no-default-features -- --ignored vectors_of_published_models
say "beside onnxruntime"
# shellcheck disable=SC2086
"$DEV/venv/bin/python" bench/models.py "$target/release/bench-models" "$DEV/models" "$DEV/pages.csv" $names
say "in a server"
fetch_package "$DEV/faq" python3.11-doc python3.12-doc python3.13-doc python3.14-doc || die "the benchmarks need Python's manual: no network?"
python3 bench/faq.py "$DEV"/faq/usr/share/doc/python3*/html >"$DEV/faq.csv"
install_extension
start_cluster -c chatbot_sync.local_models="$DEV/models" -c shared_buffers=512MB
query "CREATE EXTENSION chatbot_sync CASCADE"
with_int8=$(for name in $names; do printf '%s %s/int8 ' "$name" "$name"; done)
# shellcheck disable=SC2086
QUALITY=${QUALITY:-yes} "$DEV/venv/bin/python" bench/models_server.py "host=$CLUSTER user=postgres dbname=postgres" \
    "$DEV/pages.csv" "$DEV/faq.csv" minilm-static-256 $with_int8
