#!/usr/bin/env bash
# Runs pg_test/citus*.rs: a coordinator and two worker nodes on loopback. Citus is not downloaded: PG_CONFIG
# has to name a Postgres that has it.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
set_up
[ -f "$("$PG_CONFIG" --sharedir)/extension/citus.control" ] || die "the Postgres of $PG_CONFIG has no Citus: make test-citus PG_CONFIG=/path/to/pg_config"
say "tests with Citus in Postgres $PG_MAJOR"
CHATBOT_SYNC_CITUS=required server_tests citus
