# To be sourced by scripts that start servers. Whatever way such a script ends, finished, failed, by Ctrl-C, by TERM, nothing
# that it has started is left.

# Runs the script again in a process group and a temporary folder of its own, and does not return to the first one.
# When that has ended, or a signal arrives, the whole group ends, and so does each Postgres whose folder is in the temporary one:
# it is in no group but its own.
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
    set -m # a background job is a process group of its own
    SUPERVISED=1 TMPDIR=$run "$BASH" "$0" "$@" </dev/null &
    group=$!
    set +m
    # A signal interrupts "wait", and nothing else.
    wait "$group" || status=$?
    exit "$status"
}

end_run() {
    local file pid
    trap '' INT TERM HUP # the second Ctrl-C of an impatient person leaves nothing either
    if [ -n "${group:-}" ]; then
        # The script first, so that it may end its cluster itself; it is given some seconds.
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

# Waits until a process or a group is gone, at most so many tenths of a second.
wait_for_end() { # TENTHS PROCESS...
    local tenths=$1
    shift
    while [ "$tenths" -gt 0 ] && kill -0 "$@" 2>/dev/null; do
        sleep 0.1
        tenths=$((tenths - 1))
    done
}
