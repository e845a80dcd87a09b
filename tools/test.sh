#!/usr/bin/env bash
# Every test: the pure layer, the linters in both feature sets, and the server tests on a Postgres that has pgvector.
# The first run builds for about ten minutes; the next take a minute or two, nearly all of it the server tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
set_up

say "format"
cargo fmt --check
say "clippy, the pure layer"
cargo clippy -q --no-default-features --all-targets -- -D warnings
say "clippy, with Postgres $PG_MAJOR"
cargo clippy -q --no-default-features --features "pg$PG_MAJOR pg_test" --all-targets -- -D warnings
say "tests of the pure layer"
cargo test --no-default-features
say "tests in Postgres $PG_MAJOR"
if [ -z "$SERVER_USER" ]; then
    unprivileged cargo pgrx test "pg$PG_MAJOR" --no-default-features
else
    # pgrx calls "sudo -u USER COMMAND..." for what the server's user does, and "sudo COMMAND..." for what root does.
    data=$(mktemp -d /tmp/chatbot_sync.XXXXXX)
    trap 'rm -rf "$data"' EXIT
    mkdir "$data/bin" "$data/cluster"
    server_folder "$data/cluster"
    chmod 755 "$data"
    cat >"$data/bin/sudo" <<SUDO
#!/bin/sh
[ "\$1" = -u ] || exec "\$@"
shift 2
exec setpriv --reuid $SERVER_USER --regid $(id -g "$SERVER_USER") --clear-groups env HOME=/ "\$@"
SUDO
    chmod 755 "$data/bin/sudo"
    PATH=$data/bin:$PATH USER=root cargo pgrx test "pg$PG_MAJOR" --no-default-features --runas "$SERVER_USER" --pgdata "$data/cluster"
fi
