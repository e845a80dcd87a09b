# A function for scripts that start servers, to be sourced. However such a script ends (success, failure,
# Ctrl-C, TERM), none of its processes and files is left.

# Runs the script again in a process group and a temporary folder of its own, and does not return in the outer
# script. When the inner one ends or a signal arrives, the process group is ended, and so is each Postgres in
# the temporary folder, since servers have process groups of their own.
supervise() { # ARGUMENT...
    if [ -n "${SUPERVISED:-}" ]; then
        unset SUPERVISED
        return
    fi
    local status=0
    run=$(mktemp -d "${TMPDIR:-/tmp}/chatbot_sync.XXXXXX")
    chmod 755 "$run"
    trap end_run EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    set -m # job control gives a background job a process group of its own
    SUPERVISED=1 TMPDIR=$run "$BASH" "$0" "$@" </dev/null &
    group=$!
    set +m
    # Signals interrupt "wait", but not a foreground command.
    wait "$group" || status=$?
    exit "$status"
}

end_run() {
    local file pid
    trap '' INT TERM HUP # a second Ctrl-C must not interrupt the cleanup
    if [ -n "${group:-}" ]; then
        # TERM first, so that the script may stop its cluster itself; KILL after ten seconds.
        kill -TERM -- "-$group" 2>/dev/null && wait_for_end 100 -- "-$group"
        kill -KILL -- "-$group" 2>/dev/null && wait_for_end 100 -- "-$group"
    fi
    for file in "$run"/*/data/postmaster.pid; do
        [ -f "$file" ] || continue
        pid=$(head -1 "$file")
        kill -QUIT "$pid" 2>/dev/null && wait_for_end 100 "$pid"
        kill -KILL "$pid" 2>/dev/null
    done
    rm -rf "$run"
}

# Waits until a process or a group has ended, for at most TENTHS tenths of a second.
wait_for_end() { # TENTHS PROCESS...
    local tenths=$1
    shift
    while [ "$tenths" -gt 0 ] && kill -0 "$@" 2>/dev/null; do
        sleep 0.1
        tenths=$((tenths - 1))
    done
}
