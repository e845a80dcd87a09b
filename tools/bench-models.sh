#!/usr/bin/env bash
# Models in folders beside onnxruntime: the figures of bench/README.md. NAMES="all-MiniLM-L6-v2" says which.
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
say "building"
target=$DEV/bench-target
CARGO_TARGET_DIR=$target cargo build -q --release --manifest-path bench/models/Cargo.toml
say "vectors of published models against the committed ones"
MODELS=$DEV/models cargo test -q --release --no-default-features -- --ignored vectors_of_published_models
# shellcheck disable=SC2086
"$DEV/venv/bin/python" bench/models.py "$target/release/bench-models" "$DEV/models" "$DEV/pages.csv" $names
