#!/usr/bin/env bash
# Tests pg_upgrade from one major to another, with the extension installed in both by `make check-all`:
# tools/pg_upgrade.sh 15 17
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
. tools/postgres.sh
old=${1:?from which major} new=${2:?to which major}
postgres_of "$old" || die "no Postgres $old"
old_bin=$("$PG_CONFIG" --bindir)
postgres_of "$new" || die "no Postgres $new"
new_bin=$("$PG_CONFIG" --bindir)

folder=$(mktemp -d "${TMPDIR:-/tmp}/chatbot_sync.XXXXXX")
chmod 755 "$folder"
server_folder "$folder"
bin=$old_bin data=$folder/old
finish() {
    unprivileged "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap finish EXIT
start() {
    unprivileged "$bin/pg_ctl" -D "$data" -w -l "$folder/log" -o "-c listen_addresses= -c unix_socket_directories=$folder $*" start >/dev/null ||
        { cat "$folder/log"; exit 1; }
}
sql() { # ROLE SQL
    "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$folder" -U "$1" -d shop -c "$2"
}

say "a server of $old with a row of every kind"
for major in old new; do
    eval "unprivileged \"\$${major}_bin/initdb\" -D \"$folder/$major\" -k -U postgres -A trust --no-locale -E UTF8" >/dev/null
done
start
"$bin/psql" -X -q -h "$folder" -U postgres -d postgres -c "CREATE ROLE shop LOGIN" -c "CREATE DATABASE shop OWNER shop"
sql postgres "SET client_min_messages = warning; CREATE EXTENSION chatbot_sync CASCADE; SELECT chatbot_grant('shop')" >/dev/null
sql shop "SET client_min_messages = warning;
    CREATE TABLE chatbots (id int PRIMARY KEY); INSERT INTO chatbots VALUES (1), (2);
    CREATE TABLE documents (gone int, id serial PRIMARY KEY, chatbot_id int REFERENCES chatbots ON DELETE CASCADE, content text, status text);
    ALTER TABLE documents DROP COLUMN gone;
    CREATE TABLE links (id serial PRIMARY KEY, chatbot_id int, content text);
    SELECT chatbot_attach('documents', 'document', status_column => 'status'), chatbot_attach('links', 'link', mode => 'async'), chatbot_attach_chatbots('chatbots');
    INSERT INTO documents (chatbot_id, content) SELECT 1 + i % 2, 'Refunds of order ' || i || ' are paid within ten days.' FROM generate_series(1, 50) AS i;
    INSERT INTO links (chatbot_id, content) VALUES (1, 'We are open from nine to five.');
    SELECT chatbot_session_add_message(chatbot_session_open(1), 'user', 'Hello!')" >/dev/null
rows="SELECT r::text FROM chatbot_sync.source AS r UNION ALL SELECT r::text FROM chatbot_sync.embedding AS r UNION ALL
    SELECT r::text FROM chatbot_sync.model AS r UNION ALL SELECT r::text FROM chatbot_sync.job AS r UNION ALL SELECT r::text FROM chatbot_sync.message AS r UNION ALL
    SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname LIKE 'chatbot_sync%' UNION ALL
    SELECT f::text FROM chatbot_search(1, 'When are refunds paid?') AS f ORDER BY 1"
sql shop "$rows" >"$folder/before"
unprivileged "$bin/pg_ctl" -D "$data" -m fast -w stop >/dev/null

say "pg_upgrade"
(cd "$folder" && unprivileged "$new_bin/pg_upgrade" -b "$old_bin" -B "$new_bin" -d "$folder/old" -D "$folder/new" -U postgres --socketdir "$folder" >"$folder/pg_upgrade.log") ||
    { tail -n 30 "$folder/pg_upgrade.log"; find "$folder/new/pg_upgrade_output.d" -name '*.log' -exec tail -n 20 {} +; exit 1; }

say "the same on $new"
bin=$new_bin data=$folder/new
start
sql shop "$rows" >"$folder/after"
diff "$folder/before" "$folder/after" || die "something is otherwise than before"
sql shop "UPDATE documents SET content = 'Refunds take a month.' WHERE id = 1; INSERT INTO documents (chatbot_id, content) VALUES (1, 'New.')"
sql shop "CALL chatbot_process_queue()"
left=$(sql postgres "SELECT (SELECT count(*) FROM chatbot_verify()), (SELECT count(*) FROM chatbot_sync.job), (SELECT count(*) FROM chatbot_sync.embedding), (SELECT string_agg(check_name || ': ' || detail, '; ') FROM chatbot_doctor() WHERE status = 'error')")
[ "$left" = "0|0|52|" ] || die "expected 0 problems, 0 jobs, 52 chunks and a healthy doctor: $left"
say "$old to $new: $(wc -l <"$folder/before") rows, triggers and answers are the same, and edits sync"
