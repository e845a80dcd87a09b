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
server_tests
