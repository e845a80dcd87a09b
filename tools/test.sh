#!/usr/bin/env bash
# Runs every test: the pure layer, the linters with both feature sets, and the server tests on a Postgres with
# pgvector of each of MAJORS. Without MAJORS that is the Postgres of PG_CONFIG if it is set, otherwise 16 (the
# private one) and 15. The first run builds for about fifteen minutes; later ones take some minutes, nearly
# all of them for the server tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
. tools/postgres.sh
own_config=${PG_CONFIG:-}
set_up
own_major=${own_config:+$PG_MAJOR}
MAJORS=${MAJORS:-${own_major:-16 15}}

say "format"
cargo fmt --check
say "clippy, the pure layer"
cargo clippy -q --no-default-features --all-targets -- -D warnings
say "clippy, with Postgres $PG_MAJOR"
cargo clippy -q --no-default-features --features "pg$PG_MAJOR pg_test" --all-targets -- -D warnings
say "tests of the pure layer"
cargo test --no-default-features

test_in_postgres() {
    set_up_pgrx
    say "tests in $("$PG_CONFIG" --version)"
    server_tests ${FILTER:-}
}

tested= missing=
for major in $MAJORS; do
    if [ "$major" = "$own_major" ]; then
        PG_CONFIG=$own_config PG_MAJOR=$major
        test_in_postgres
        tested+=" $major"
    elif postgres_of "$major"; then
        test_in_postgres
        tested+=" $major"
    else
        missing+=" $major"
    fi
done
say "tested in Postgres$tested${missing:+; not to be had here, and not tested:$missing}"
[ -n "$tested" ]
