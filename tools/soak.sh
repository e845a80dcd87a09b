#!/usr/bin/env bash
# Runs bench/soak.py on a throw-away cluster, which crashes once in the middle: make soak DURATION=600 SEED=1
set -euo pipefail
cd "$(dirname "$0")/.."
duration=${DURATION:-180}
. tools/env.sh
. tools/cluster.sh
set_up
install_extension
[ -x "$DEV/venv/bin/python" ] || python3 -m venv "$DEV/venv" || { need virtualenv python3-venv; python3 -m venv "$DEV/venv"; }
"$DEV/venv/bin/python" -c 'import psycopg' 2>/dev/null || "$DEV/venv/bin/pip" install -q 'psycopg[binary]'
start_cluster -c shared_preload_libraries=chatbot_sync -c max_connections=50
"$DEV/venv/bin/python" bench/soak.py "host=$CLUSTER user=postgres dbname=postgres" "$duration" ${SEED:-} &
soak=$!
sleep $((duration / 2))
say "an immediate restart"
unprivileged "$("$PG_CONFIG" --bindir)/pg_ctl" -D "$CLUSTER/data" -w -l "$CLUSTER/log" -m immediate restart >/dev/null
wait "$soak" || { grep -E 'PANIC|terminated by signal|XX000' "$CLUSTER/log" | tail -n 20 >&2; die "something was lost, stale, doubled or resurrected"; }
say "nothing was lost, stale, doubled or resurrected"
