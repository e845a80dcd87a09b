#!/usr/bin/env bash
# A step of a release: keeps the SQL of this version as sql/chatbot_sync--VERSION.sql, which no package
# contains. Tests install it, update it and compare the result with a new installation, object by object.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
set_up
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
kept=sql/chatbot_sync--$version.sql
[ ! -e "$kept" ] || die "$kept is there: what is released does not change; raise the version in Cargo.toml"
cargo pgrx schema "pg$PG_MAJOR" --no-default-features --features "pg$PG_MAJOR" --pg-config "$PG_CONFIG" --out "$kept"
say "$kept is written; now"
cat <<TEXT
 1. commit it with CHANGELOG.md, where "$version (unreleased)" becomes "$version" and its date; tag that commit
 2. raise the version in Cargo.toml, META.json and CHANGELOG.md, and begin sql/chatbot_sync--$version--NEXT.sql: as soon
    as the SQL of the next version differs, the tests say what that script has to do
 3. where that script changes what the library's functions take or find, raise OLDEST in src/version.rs
TEXT
