#!/usr/bin/env bash
# Makes a Debian package and a tarball for one major in target/packages: for the Postgres of PG_CONFIG, or
# with MAJOR=17 for one of Debian's (tools/postgres.sh). It needs no packaging tool but dpkg-deb.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
. tools/postgres.sh
if [ -n "${MAJOR:-}" ]; then
    postgres_of "$MAJOR" || die "Postgres $MAJOR is not to be had here: name its PG_CONFIG"
    export PG_CONFIG
fi
set_up
command -v dpkg-deb >/dev/null || die "dpkg-deb is missing"

version=$(cargo metadata --no-deps --format-version 1 | python3 -c 'import json, sys; print(json.load(sys.stdin)["packages"][0]["version"])')
architecture=$(dpkg --print-architecture)
name=postgresql-$PG_MAJOR-chatbot-sync
out=$PWD/target/packages
built=$out/built-$PG_MAJOR
root=$out/root-$PG_MAJOR
rm -rf "$built" "$root"

say "building for $("$PG_CONFIG" --version)"
cargo pgrx package --no-default-features --features "pg$PG_MAJOR" --pg-config "$PG_CONFIG" --out-dir "$built"

say "packing"
lib=$root/usr/lib/postgresql/$PG_MAJOR/lib
share=$root/usr/share/postgresql/$PG_MAJOR/extension
doc=$root/usr/share/doc/$name
mkdir -p "$lib" "$share" "$doc" "$root/DEBIAN"
install -m 644 "$built$("$PG_CONFIG" --pkglibdir)/chatbot_sync.so" "$lib/"
strip --strip-unneeded "$lib/chatbot_sync.so"
install -m 644 "$built$("$PG_CONFIG" --sharedir)"/extension/chatbot_sync* "$share/"
install -m 644 README.md "$doc/"
install -d "$doc/docs"
install -m 644 docs/*.md "$doc/docs/"
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
{
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: MIT\n'
    sed 's/^$/./; s/^/ /' LICENSE
    for model in minilm-static-256:Apache-2.0 multilingual-static-256:MIT; do
        printf '\nFiles: src/embedding/local/data/%s/*\nLicense: %s\n' "${model%:*}" "${model#*:}"
        sed 's/^$/./; s/^/ /' "src/embedding/local/data/${model%:*}/NOTICE"
        [ "${model#*:}" = Apache-2.0 ] || sed 's/^$/./; s/^/ /' "src/embedding/local/data/${model%:*}/LICENSE"
    done
} >"$doc/copyright"
find "$doc" -type f -exec chmod 644 {} +
# The lowest version of the C library that has all symbols of the library.
glibc=$(objdump -T "$lib/chatbot_sync.so" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
cat >"$root/DEBIAN/control" <<CONTROL
Package: $name
Version: $version-1
Architecture: $architecture
Section: database
Priority: optional
Maintainer: ${MAINTAINER:-$(git log -1 --format='%an <%ae>')}
Depends: postgresql-$PG_MAJOR, postgresql-$PG_MAJOR-pgvector (>= 0.5), libc6 (>= ${glibc#GLIBC_}), libgcc-s1, ca-certificates
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f 1)
Description: a chatbot's knowledge in step with the rows that own it, for PostgreSQL $PG_MAJOR
 Cuts the text of a chatbot's documents and links into chunks, embeds it (with a
 model that is built in, or a provider's) and keeps the vectors in step with the
 rows, in their transaction. Searches by meaning and by words.
 .
 After installing, a superuser says in each database:
 CREATE EXTENSION chatbot_sync CASCADE;
CONTROL
deb=$out/${name}_$version-1_$architecture.deb
dpkg-deb --build --root-owner-group "$root" "$deb" >/dev/null

tarball=$out/chatbot_sync-$version-pg$PG_MAJOR-linux-$architecture.tar.gz
stage=$out/chatbot_sync-$version-pg$PG_MAJOR
rm -rf "$stage"
mkdir -p "$stage/lib" "$stage/share/extension"
cp "$lib"/* "$stage/lib/"
cp "$share"/* "$stage/share/extension/"
cp -r README.md CHANGELOG.md LICENSE docs "$stage/"
for model in minilm-static-256 multilingual-static-256; do
    mkdir -p "$stage/models/$model"
    cp src/embedding/local/data/$model/{LICENSE,NOTICE} "$stage/models/$model/"
done
cat >"$stage/INSTALL" <<'TEXT'
As the owner of the server's folders, with its pg_config:

    install -m 755 lib/chatbot_sync.so "$(pg_config --pkglibdir)"
    install -m 644 share/extension/* "$(pg_config --sharedir)/extension"

Then, as a superuser in each database: CREATE EXTENSION chatbot_sync CASCADE;
TEXT
tar -C "$out" --owner=0 --group=0 --numeric-owner --sort=name -czf "$tarball" "${stage##*/}"
rm -rf "$built" "$root" "$stage"
say "made"
ls -lh "$deb" "$tarball"
