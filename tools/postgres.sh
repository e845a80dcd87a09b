# Functions to get Postgres of other majors from Debian's packages, to build for and to test on; to be sourced
# after env.sh. The packages are unpacked below $DEV and not installed. Their programs run with the C library
# of their own release, so that an older Debian can run them: 15 is in Debian 12, 17 in Debian 13, 18 in the
# unstable release; 14 and 16 are in none.

# Sets PG_CONFIG and PG_MAJOR for a major: the private Postgres, an installed one, or Debian's. Fails where
# none can be had.
postgres_of() { # MAJOR
    if [ "$1" = 16 ]; then
        PG_CONFIG=
        set_up_postgres
        return
    fi
    PG_CONFIG=/usr/lib/postgresql/$1/bin/pg_config
    [ -f "$PG_CONFIG" ] && [ -d "$("$PG_CONFIG" --includedir-server)" ] && [ -w "$("$PG_CONFIG" --pkglibdir)" ] &&
        [ -f "$("$PG_CONFIG" --sharedir)/extension/vector.control" ] || debian_postgres "$1" || return 1
    PG_MAJOR=$1
}

# Sets PG_CONFIG for a major of Debian's, and downloads it once. Fails where it cannot be had.
debian_postgres() { # MAJOR
    local folder=$DEV/postgres-$1 suite
    case $1 in
        15) suite=bookworm ;;
        17) suite=trixie ;;
        18) suite=sid ;;
        *) return 1 ;;
    esac
    PG_CONFIG=$folder/usr/lib/postgresql/$1/bin/pg_config
    [ ! -f "$folder/whole" ] || return 0
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    say "fetching Postgres $1 of Debian's $suite"
    rm -rf "$folder"
    mkdir -p "$folder"
    if ! (unpack_postgres "$1" "$suite" "$folder") >"$DEV/postgres-$1.log" 2>&1; then
        tail -n 5 "$DEV/postgres-$1.log" >&2
        return 1
    fi
    touch "$folder/whole"
}

unpack_postgres() { # MAJOR SUITE FOLDER
    local apt=$3/apt options mirror from package packages
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    # The mirror that this machine gets its own packages from.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$')
    from="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror"
    printf '%s\n' "deb $from $2 main" "deb-src $from trixie main" >"$apt/sources"
    touch "$apt/status"
    options=(-qq -o "Dir::Etc::sourcelist=$apt/sources" -o Dir::Etc::sourceparts=- -o Dir::Etc::preferencesparts=-
        -o "Dir::State::status=$apt/status" -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache"
        -o APT::Sandbox::User= -o Acquire::Check-Valid-Until=false -o Debug::NoLocking=true)
    packages=("postgresql-$1" "postgresql-client-$1")
    [ "$1" = 15 ] || packages+=("postgresql-$1-pgvector")
    apt-get "${options[@]}" update || return
    apt-get "${options[@]}" install -y --no-install-recommends --download-only "${packages[@]}" || return
    cd "$apt/cache/archives" || return
    # The server's headers, without the compiler that their package depends on.
    apt-get "${options[@]}" download "postgresql-server-dev-$1" libpq-dev || return
    for package in *.deb; do dpkg -x "$package" "$3" || return; done
    wrap_programs "$3" "$3/usr/lib/postgresql/$1" || return
    if [ "$1" = 15 ]; then # its release has no package of pgvector
        cd "$apt" && apt-get "${options[@]}" source pgvector && cd pgvector-*/ || return
        make -s OPTFLAGS= with_llvm=no PG_CONFIG="$3/usr/lib/postgresql/15/bin/pg_config" install || return
    fi
    rm -rf "$apt"
}

# Replaces each program by a script that starts it with the loader and the libraries below ROOT.
wrap_programs() { # ROOT PREFIX
    local loader program paths
    # JIT compilation is removed: it would need the libraries of LLVM.
    rm -rf "$2"/lib/bitcode "$2"/lib/llvmjit*
    loader=$(find "$1" -name 'ld-linux*.so.*' -type f | head -n 1)
    [ -n "$loader" ] || return
    paths=$(find "$1"/lib "$1"/usr/lib -maxdepth 1 -type d -name '*-linux-gnu' | paste -sd :)
    mkdir "$2/programs"
    for program in "$2"/bin/*; do
        mv "$program" "$2/programs/"
        cat >"$program" <<SCRIPT
#!/bin/sh
exec "$loader" --argv0 "\$0" --library-path "$paths" "$2/programs/${program##*/}" "\$@"
SCRIPT
        chmod 755 "$program"
    done
}
