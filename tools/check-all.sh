#!/usr/bin/env bash
# Runs the tests on every supported major of Postgres that can be had, then pg_upgrade from one major to the
# next.
set -euo pipefail
cd "$(dirname "$0")/.."
MAJORS=${MAJORS:-14 15 16 17 18} tools/test.sh
. tools/env.sh
for pair in "15 17" "17 18"; do
    read -r old new <<<"$pair"
    if [ -f "$DEV/postgres-$old/whole" ] && [ -f "$DEV/postgres-$new/whole" ]; then
        tools/pg_upgrade.sh "$old" "$new"
    fi
done
