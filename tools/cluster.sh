# Functions for a throw-away cluster with the extension, and for the manual as text; to be sourced after
# env.sh.

# With it a server takes a backtrace of every error, a cancel's too, which is some 60 ms.
unset RUST_BACKTRACE

install_extension() {
    say "building the extension for Postgres $PG_MAJOR (some minutes the first time)"
    cargo pgrx install --release --no-default-features --features "pg$PG_MAJOR" --pg-config "$PG_CONFIG" ||
        die "the extension does not build, or $PG_CONFIG's Postgres may not be written to"
}

# Downloads the first of some Debian packages that can be had, and unpacks it into a folder without installing
# it. Fails where none can be had.
fetch_package() { # FOLDER PACKAGE...
    local apt=$DEV/apt folder=$1 options package
    shift
    [ ! -d "$folder" ] || return 0
    say "fetching $*"
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    options=(-qq -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=)
    (
        cd "$apt"
        [ -n "${APT_UPDATED:-}" ] || apt-get "${options[@]}" update || exit 1
        for package in "$@"; do
            ! apt-get "${options[@]}" download "$package" || exit 0
        done
        exit 1
    ) >/dev/null 2>&1 || return 1
    APT_UPDATED=yes
    dpkg -x "$apt"/*.deb "$folder.new" && mv "$folder.new" "$folder" && rm "$apt"/*.deb
}

# Sets MANUAL to the folder of the PostgreSQL manual. Fails where it cannot be had.
fetch_manual() {
    MANUAL=$DEV/manual
    fetch_package "$MANUAL" postgresql-doc-15 postgresql-doc-16 postgresql-doc-17 postgresql-doc-18
}

# Starts a cluster and sets CLUSTER, its folder, which also has its socket. Options are those of the server,
# and must not contain blanks: -c name=value. The cluster is deleted when the script ends.
start_cluster() { # SERVER OPTION...
    local bin
    bin=$("$PG_CONFIG" --bindir)
    CLUSTER=$(mktemp -d "${TMPDIR:-/tmp}/chatbot_sync.XXXXXX")
    chmod 755 "$CLUSTER"
    server_folder "$CLUSTER"
    trap stop_cluster EXIT
    say "starting a throw-away cluster in $CLUSTER"
    unprivileged "$bin/initdb" -D "$CLUSTER/data" -U postgres -A trust --no-locale -E UTF8 >/dev/null
    unprivileged "$bin/pg_ctl" -D "$CLUSTER/data" -w -l "$CLUSTER/log" \
        -o "-c listen_addresses= -c unix_socket_directories=$CLUSTER -c max_wal_size=4GB $*" start >/dev/null ||
        { cat "$CLUSTER/log"; exit 1; }
}

stop_cluster() {
    unprivileged "$("$PG_CONFIG" --bindir)/pg_ctl" -D "$CLUSTER/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$CLUSTER"
}

psql_cluster() {
    "$("$PG_CONFIG" --bindir)/psql" -X -q -v ON_ERROR_STOP=1 -h "$CLUSTER" -U postgres -d postgres "$@"
}

query() { # STATEMENT...
    local statement options=()
    for statement in "$@"; do options+=(-c "$statement"); done
    psql_cluster "${options[@]}" >/dev/null
}
