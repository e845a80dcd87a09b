#!/usr/bin/env bash
# Tests the addon of odoo/ in a real Odoo 19, with a role that is no superuser: first Odoo's tests of the
# module, then everything over HTTP with a mock provider (odoo/test_flow.py). Odoo is Debian's package,
# unpacked and not installed. The first run takes about ten minutes, most of them for building the extension;
# later ones about four. Where Chromium is installed, a tour runs in it. TEST_TAGS and FLOW (names of tests)
# choose what is run.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/supervise.sh
supervise "$@"
. tools/env.sh
. tools/cluster.sh
set_up

ODOO=$DEV/odoo
SITE=$ODOO/deb/usr/lib/python3/dist-packages

set_up_odoo() {
    ! cmp -s odoo/requirements.txt "$ODOO/requirements.txt" || return 0
    mkdir -p "$ODOO"
    if [ ! -d "$ODOO/deb" ]; then
        say "fetching Odoo 19"
        fetch_odoo || die "Odoo 19 is not to be had: it needs a Debian package mirror that has sid, and dpkg"
    fi
    say "Odoo's Python environment"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "Odoo 19 needs Python 3.10 or later"
    python3 -c 'import ensurepip' 2>/dev/null || need ensurepip python3-venv
    python3 -m venv "$ODOO/venv"
    "$ODOO/venv/bin/pip" install -q --disable-pip-version-check -r odoo/requirements.txt
    cp odoo/requirements.txt "$ODOO"
}

# The mirror is that of this machine, the release is sid, since no other release has Odoo 19.
fetch_odoo() {
    local apt=$ODOO/apt uri options package
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -1)
    [ -n "$uri" ] || return 1
    mkdir -p "$apt"/{sources,lists/partial,cache/archives/partial}
    printf 'Types: deb\nURIs: %s\nSuites: sid\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
        "$uri" >"$apt/sources/sid.sources"
    options=(-qq -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$apt/sources" -o "Dir::State::Lists=$apt/lists"
        -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=)
    (
        cd "$apt"
        apt-get "${options[@]}" update && apt-get "${options[@]}" download odoo-19 libjs-jquery libjs-jquery-form libjs-underscore
    ) || return 1
    rm -rf "$ODOO/unpacked"
    mkdir "$ODOO/unpacked"
    for package in "$apt"/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$ODOO/unpacked" --exclude='*/i18n/*'
    done
    mv "$ODOO/unpacked" "$ODOO/deb"
    rm -r "$apt"
}

odoo() { # COMMAND ARGUMENT...
    env PYTHONPATH="$SITE" HOME="$ODOO" PGHOST= "$ODOO/venv/bin/python" -m odoo "$1" \
        --addons-path "$SITE/odoo/addons,$PWD/odoo" --data-dir "$CLUSTER/filestore" --pg_path "$("$PG_CONFIG" --bindir)" \
        --db_host "$CLUSTER" --db_port 5432 --db_user odoo --db_password odoo --db-template template_chatbot \
        --without-demo=True --http-interface 127.0.0.1 "${@:2}"
}

as_superuser() { # DATABASE STATEMENT...
    local database=$1
    shift
    printf '%s\n' "$@" | "$("$PG_CONFIG" --bindir)/psql" -X -q -v ON_ERROR_STOP=1 -h "$CLUSTER" -U postgres -d "$database" >/dev/null
}

# Debian leaves out a library of the module mail, and a page whose bundle lacks a file fails in a tour. Nothing here needs it.
complete_odoo() {
    local missing=$SITE/odoo/addons/mail/static/lib/selfie_segmentation/selfie_segmentation.js
    [ -e "$missing" ] || { mkdir -p "$(dirname "$missing")" && : >"$missing"; }
}

set_up_odoo
complete_odoo
install_extension
start_cluster -c shared_preload_libraries=chatbot_sync -c fsync=off
mkdir "$CLUSTER/filestore"
as_superuser postgres "CREATE ROLE odoo LOGIN CREATEDB PASSWORD 'odoo';" "CREATE DATABASE template_chatbot TEMPLATE template0 IS_TEMPLATE true;"

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
log=$CLUSTER/odoo.log

say "Odoo 19: without the extension, the module says what to run"
if odoo server -d flow -i base,chatbot_sync --stop-after-init --no-http --logfile "$log" >/dev/null 2>&1 || ! grep -q "may not use\|cannot be created" "$log"; then
    tail -20 "$log"
    die "the module installs without the extension, or does not say why it does not"
fi
# Runs the statements that the error message names.
for database in flow template_chatbot; do
    mapfile -t statements < <(grep -E "^(CREATE EXTENSION|SELECT chatbot_grant)" "$log" | sort -u)
    as_superuser "$database" "${statements[@]}" 2>/dev/null
done

# Odoo's role may not add kinds of source. Those of the records that the tests connect are added here, in the database alone: a
# backup brings its kinds along.
for model in res.partner product.template x_article; do
    as_superuser flow "SELECT chatbot_add_source_type('$model');"
done

say "Odoo 19: installing the module beside product, and its tests"
odoo server -d flow -i chatbot_sync,product --skip-auto-install --stop-after-init --http-port "$port" --test-tags "${TEST_TAGS:-/chatbot_sync}" \
    --logfile "$log" --screenshots "$ODOO" >/dev/null 2>&1 || { grep -vE " INFO | werkzeug" "$log" | tail -80; die "the tests of the module fail"; }
grep -E "tests in|failed, |skipped" "$log" | sed -E 's/^.* INFO [^ ]+ [^ ]+ /      /'

say "Odoo 19: the whole flow, over HTTP"
odoo server -d flow --db-filter '^flow' --http-port "$port" --max-cron-threads 1 --logfile "$CLUSTER/server.log" >/dev/null 2>&1 &
ODOO_URL=http://127.0.0.1:$port PGHOST=$CLUSTER PGUSER=postgres "$ODOO/venv/bin/python" odoo/test_flow.py -v ${FLOW:-} || {
    grep -vE " INFO " "$CLUSTER/server.log" | tail -60
    die "the flow fails"
}
