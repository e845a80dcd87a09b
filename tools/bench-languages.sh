#!/usr/bin/env bash
# Measures how well searches find in some twenty languages: a row a language, as in bench/README.md. Texts are Debian's manuals and
# manual pages, fetched through apt; a throw-away cluster. MODELS="multilingual-e5-small" measures models in folders beside
# those that are built in, with /int8 in eight bits, and LANGUAGES="de ja" these languages alone.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
. tools/cluster.sh
set_up

manuals() { # NAME LANGUAGE...
    local name=$1 language
    shift
    for language in "$@"; do
        fetch_package "$DEV/languages/$name${language:+-$language}" "$name${language:+-$language}" || say "$name $language is not to be had"
    done
}
mkdir -p "$DEV/languages"
manuals debian-reference en de es fr id it ja pt pt-br zh-cn zh-tw
manuals debian-faq "" de fr it ja ko nl pt ru zh-cn
manuals developers-reference "" de fr it ja ru
manuals maint-guide "" ca de es fr it ja ru vi zh-cn zh-tw
manuals aptitude-doc en cs es fi fr it ja nl ru
manuals manpages "" cs da de el es fi fr hu id it ja nb nl pl pt-br ro ru sv tr uk vi zh
python3 bench/languages.py texts "$DEV/languages" >"$DEV/languages.json"

[ -x "$DEV/venv/bin/python" ] || python3 -m venv "$DEV/venv" || { need virtualenv python3-venv; python3 -m venv "$DEV/venv"; }
"$DEV/venv/bin/python" -c 'import psycopg' 2>/dev/null || "$DEV/venv/bin/pip" install -q 'psycopg[binary]'
install_extension
for model in ${MODELS:-}; do MODEL=${model%/int8} MODELS=$DEV/models tools/model.sh; done
start_cluster -c chatbot_sync.local_models="$DEV/models"
query "CREATE EXTENSION chatbot_sync CASCADE"
"$DEV/venv/bin/python" bench/languages.py run "host=$CLUSTER user=postgres dbname=postgres" "$DEV/languages.json"
