#!/usr/bin/env bash
# Builds for the Postgres of PG_CONFIG and installs into it. That needs write access to its folders, and
# pgvector in it.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -n "${PG_CONFIG:-}" ] || { echo "say which Postgres: make install PG_CONFIG=/path/to/pg_config" >&2; exit 1; }
. tools/env.sh
set_up
say "building and installing for $("$PG_CONFIG" --version)"
cargo pgrx install --release --no-default-features --features "pg$PG_MAJOR" --pg-config "$PG_CONFIG"
say "installed; now, as a superuser in each database: CREATE EXTENSION chatbot_sync CASCADE;"
