//! Dumps and restores: a restored database has everything and continues to sync, as a superuser and as an application,
//! and no key is in a dump.

use postgres::Client;

use super::harness::{ATTACH, DOCUMENTS, Db, EXTENSION, query_column, query_value};
use super::mock::Mock;
use super::server::Server;

const KEY: &str = "sk-nobody-may-read-this";

/// Starts a server with a database `shop` that `app` owns, copied from a template with the extension. It has a row
/// of every kind.
fn server_with_shop() -> (Server, Mock) {
    let mock = Mock::new();
    let url = format!("chatbot_sync.openai_compatible_url={}", mock.url);
    let key = format!("chatbot_sync.openai_compatible_api_key={KEY}");
    let mut server = Server::with(&[], &[&url, &key]);
    let admin = &mut server.db.admin;
    admin.batch_execute("ALTER ROLE app CREATEDB").unwrap();
    admin.batch_execute("CREATE DATABASE with_extension IS_TEMPLATE true").unwrap();
    server.db.in_database("with_extension").admin.batch_execute(EXTENSION).unwrap();
    copy_database(&server, "with_extension", "shop");
    let mut shop = server.db.in_database("shop");
    let mut app = shop.session("app");
    app.batch_execute("SELECT chatbot_embed_source(3, 'link', 1, 'The first model has seen this.')").unwrap();
    // One model in full precision, and one in half.
    let half = r#"SELECT chatbot_set_model('openai_compatible', 'mock', 8, options => '{"storage": "half"}')"#;
    shop.admin.batch_execute(half).unwrap();
    shop.admin.batch_execute("CALL chatbot_reembed()").unwrap();
    shop.admin.batch_execute("SELECT chatbot_add_source_type('product')").unwrap();
    app.batch_execute("SELECT chatbot_embed_source(4, 'product', 1, 'A red chair.')").unwrap();
    app.batch_execute(DOCUMENTS).unwrap();
    app.batch_execute(ATTACH).unwrap();
    mock.state().poison = Some("poison");
    app.batch_execute(
        "CREATE TABLE dropped (id bigint PRIMARY KEY, chatbot_id bigint, content text);
         SELECT chatbot_attach('dropped', 'link'); DROP TABLE dropped;
         CREATE TABLE links (gone int, id bigint PRIMARY KEY, chatbot_id bigint, content jsonb, sync_status text);
         ALTER TABLE links DROP COLUMN gone;
         SELECT chatbot_attach('links', 'link', status_column => 'sync_status', mode => 'async', content_format => 'html');
         INSERT INTO documents (chatbot_id, title, content) VALUES
            (1, 'Refunds', 'Refunds are paid within ten days.'), (1, 'Shipping', 'Parcels leave at noon.'),
            (2, 'Bad', 'poison'), (2, E'Odd \\\\ title\\t', E'A text of two\\nlines.');
         UPDATE documents SET active = false WHERE id = 2;
         INSERT INTO links VALUES (5, 1, '{\"en_US\": \"<p>A link.</p>\"}'); CALL chatbot_process_queue();
         INSERT INTO links VALUES (6, 2, '{\"en_US\": \"<p>It waits.</p>\"}');
         CREATE TABLE products (gone int, id int PRIMARY KEY, name text, price int); ALTER TABLE products DROP COLUMN gone;
         SELECT chatbot_attach('products', 'document', chatbot_id => 5, content_column => 'name', title_column => 'name', condition => 'price > 0');
         SELECT chatbot_attach('products', 'product', chatbot_id => 6, content_column => 'name');
         INSERT INTO products VALUES (1, 'A chair', 1), (2, 'A table', 0);
         SELECT chatbot_enqueue_source(9, 'document', 900, 'It waits too.', '{\"a\": 1}', 7);
         SELECT chatbot_session_add_message(chatbot_session_open(1), 'user', 'Hello!');",
    )
    .unwrap();
    mock.state().poison = None;
    (server, mock)
}

/// Copies a template as the role `app`, as Odoo does.
fn copy_database(server: &Server, template: &str, name: &str) {
    let mut app = server.db.session("app");
    app.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).unwrap();
}

/// Returns everything that a restore has to bring back, as lines: rows, sequences, triggers, grants. The numbers of
/// columns are left out, since columns that were dropped before the dump do not come back.
fn restorable_state(client: &mut Client) -> Vec<String> {
    let mut lines = query_column::<String>(
        client,
        "SELECT format('%s is %s', oid::regclass, (SELECT string_agg(concat_ws(' ', a.grantee::regrole, a.privilege_type), ', '
            ORDER BY a.grantee::regrole::text, a.privilege_type) FROM aclexplode(relacl) AS a))
        FROM pg_class WHERE relnamespace = 'chatbot_sync'::regnamespace AND relkind IN ('r', 'v', 'S')
        UNION ALL SELECT format('%s is %s', oid::regprocedure, (SELECT string_agg(a.grantee::regrole::text, ', ' ORDER BY a.grantee::regrole::text)
            FROM aclexplode(proacl) AS a))
        FROM pg_proc WHERE proname LIKE 'chatbot%' OR pronamespace = 'chatbot_sync'::regnamespace
        UNION ALL SELECT concat_ws(' ', regexp_replace(pg_get_triggerdef(oid), ',\\d+\\]', ']', 'g'), tgenabled) FROM pg_trigger WHERE tgname LIKE 'chatbot_sync%'
        UNION ALL SELECT format('%s owns %s', relowner::regrole, oid::regclass) FROM pg_class WHERE relname IN ('documents', 'links', 'chatbots')
        ORDER BY 1",
    );
    let relations = "SELECT format('%s AS r: %s', oid::regclass, CASE relkind WHEN 'S' THEN 'concat_ws('' '', last_value, is_called)' ELSE 'r::text' END)
        FROM pg_class WHERE relkind IN ('r', 'S') AND (relnamespace = 'chatbot_sync'::regnamespace
            OR relname IN ('documents', 'links', 'chatbots', 'documents_id_seq'))";
    for relation in query_column::<String>(client, relations) {
        let (from, what) = relation.split_once(": ").unwrap();
        let rows = query_column::<String>(client, &format!("SELECT {what} FROM {from} ORDER BY 1"));
        lines.extend(rows.iter().map(|row| format!("{from}: {row}")));
    }
    lines
}

const ANSWERS: &str = "SELECT a::text FROM chatbot_search(1, 'Refunds are paid within ten days.') AS a
    UNION ALL SELECT a::text FROM chatbot_search(3, 'the first model', mode => 'text') AS a";

/// Fails unless a database has everything that `shop` has, answers searches in the same way, and continues to sync.
fn assert_restored(server: &Server, name: &str, how: &str) {
    let mut original = server.db.in_database("shop").session("app");
    let mut db = server.db.in_database(name);
    let mut app = db.session("app");
    let (before, after) = (restorable_state(&mut original), restorable_state(&mut app));
    let differ = |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
    let (lost, new) = (differ(&before, &after), differ(&after, &before));
    assert!(lost.is_empty() && new.is_empty() && before.len() == after.len(), "{how}: lost {lost:#?}, new {new:#?}");
    assert!(before.len() > 100);
    assert_eq!(query_column::<String>(&mut app, ANSWERS), query_column::<String>(&mut original, ANSWERS), "{how}");
    assert_continues_to_sync(&mut db, &mut app, how);
}

/// Fails unless edits sync in both modes, and the jobs of the dump are processed.
fn assert_continues_to_sync(db: &mut Db, app: &mut Client, how: &str) {
    app.batch_execute(
        "SELECT chatbot_embed_source(4, 'product', 2, 'A blue chair.');
         CALL chatbot_sync_all(); SELECT chatbot_retry(); CALL chatbot_process_queue();
         UPDATE documents SET content = 'Refunds take a month.' WHERE id = 1;
         UPDATE products SET price = 1 - price; INSERT INTO products VALUES (3, 'A lamp', 0);
         INSERT INTO documents (chatbot_id, title, content) VALUES (3, 'New', 'It came after the restore.');
         INSERT INTO links VALUES (7, 3, '{\"en_US\": \"Another.\"}'); CALL chatbot_process_queue()",
    )
    .unwrap_or_else(|error| panic!("{how}: {error:?}"));
    let statuses = "SELECT count(*) FROM links WHERE sync_status IS DISTINCT FROM 'synced'";
    assert_eq!(query_value::<i64>(app, statuses), 0, "{how}");
    let waits = "SELECT count(*) FROM chatbot_sync.job";
    assert_eq!(query_value::<i64>(app, waits), 0, "{how}");
    assert_eq!(query_column::<String>(&mut db.admin, "SELECT v::text FROM chatbot_verify() AS v"), [""; 0], "{how}");
    let found = "SELECT format('%s %s', chatbot_id, source_id) FROM chatbot_sync.source WHERE enabled AND chatbot_id IN (5, 6) ORDER BY 1";
    assert_eq!(query_column::<String>(app, found), ["5 2", "6 1", "6 2", "6 3"], "{how}");
    // A table that is attached later gets a new host id, none of those in the dump.
    app.batch_execute("SELECT chatbot_detach('links'); SELECT chatbot_attach('links', 'link')").unwrap();
    let hosts = query_column::<i32>(app, "SELECT host FROM chatbot_sync.host_table");
    assert!(hosts.contains(&6) && hosts.len() == 4, "{how}: {hosts:?}");
}

/// Dumps `shop` in a format as a role. Returns the path of the file or folder.
fn dump(server: &Server, role: &str, format: &str, options: &[&str]) -> String {
    let file = server.file(&format!("{role}.{format}"));
    let (said, done) =
        server.run_client_program("pg_dump", role, &[&["-F", format, "-f", &file, "-d", "shop"], options].concat());
    assert!(done && said.is_empty(), "{role}, {format}: {said}");
    file
}

/// Restores a dump into a database as a role. Returns what the program printed, and whether it succeeded.
fn restore(server: &Server, role: &str, file: &str, database: &str, options: &[&str]) -> (String, bool) {
    if file.ends_with(".plain") {
        server.run_client_program(
            "psql",
            role,
            &[&["-X", "-q", "-o", "/dev/null", "-d", database, "-f", file], options].concat(),
        )
    } else {
        server.run_client_program("pg_restore", role, &[&["-d", database], options, &[file]].concat())
    }
}

#[test]
fn a_superusers_restore_is_complete() {
    let (mut server, _mock) = server_with_shop();
    for role in ["app", "postgres"] {
        for format in ["plain", "custom", "directory"] {
            let file = dump(&server, role, format, &[]);
            for template in ["template0", "with_extension"] {
                let how = format!("{format} by {role} into {template}");
                server
                    .db
                    .admin
                    .batch_execute(&format!("CREATE DATABASE restored TEMPLATE {template} OWNER app"))
                    .unwrap();
                let options = if format == "plain" { ["-v", "ON_ERROR_STOP=1"] } else { ["-e", "-v"] };
                let (said, done) = restore(&server, "postgres", &file, "restored", &options);
                assert!(done, "{how}: {said}");
                assert_restored(&server, "restored", &how);
                server.db.admin.batch_execute("DROP DATABASE restored WITH (FORCE)").unwrap();
            }
        }
    }
}

#[test]
fn an_applications_restore_is_complete() {
    let (mut server, _mock) = server_with_shop();
    for format in ["plain", "custom", "directory"] {
        let file = dump(&server, "app", format, &["--no-owner"]);
        copy_database(&server, "with_extension", "restored");
        let options: &[&str] = if format == "plain" { &[] } else { &["--no-owner"] };
        let (said, _) = restore(&server, "app", &file, "restored", options);
        // Only the owner may comment on an extension and grant the level admin, and the template has both already.
        let harmless = ["must be owner of extension", "permission denied for function"];
        let errors = said.lines().filter(|l| l.contains("ERROR:") && !harmless.iter().any(|h| l.contains(h)));
        assert_eq!(errors.collect::<Vec<_>>(), [""; 0], "{format}");
        assert_restored(&server, "restored", format);
        server.db.admin.batch_execute("DROP DATABASE restored WITH (FORCE)").unwrap();
    }
}

#[test]
fn a_custom_format_restore_succeeds_without_comments_on_extensions() {
    let (mut server, _mock) = server_with_shop();
    for database in ["with_extension", "shop"] {
        let quiet = "COMMENT ON EXTENSION vector IS NULL; COMMENT ON EXTENSION chatbot_sync IS NULL; SELECT chatbot_revoke('boss')";
        server.db.in_database(database).admin.batch_execute(quiet).unwrap();
    }
    let file = dump(&server, "app", "custom", &["--no-owner"]);
    copy_database(&server, "with_extension", "restored");
    let (said, done) = restore(&server, "app", &file, "restored", &["--no-owner"]);
    assert!(done, "{said}");
    assert_restored(&server, "restored", "without comments");
    server.db.admin.batch_execute("DROP DATABASE restored WITH (FORCE)").unwrap();
}

#[test]
fn no_key_is_in_a_dump() {
    let (server, mock) = server_with_shop();
    let mut session = server.db.in_database("shop").admin;
    let file = server.file("key");
    session.batch_execute(&format!("COPY (SELECT 'sk-in-a-file') TO '{file}'")).unwrap();
    session.batch_execute("LOAD 'chatbot_sync'").unwrap();
    session.batch_execute(&format!("ALTER SYSTEM SET chatbot_sync.openai_api_key_file = '{file}'")).unwrap();
    session.batch_execute("SELECT pg_reload_conf()").unwrap();
    let (dumped, done) = server.run_client_program("pg_dump", "postgres", &["--create", "shop"]);
    assert!(done && dumped.contains("Refunds are paid"), "{dumped}");
    let (cluster, done) = server.run_client_program("pg_dumpall", "postgres", &[]);
    assert!(done && cluster.contains("Refunds are paid"), "{cluster}");
    for secret in [KEY, "sk-in-a-file"] {
        assert!(!dumped.contains(secret) && !cluster.contains(secret), "{secret}");
    }
    // The key was sent, so it was really configured.
    let asked = mock.state().requests.iter().any(|(headers, _)| headers.contains(KEY));
    assert!(asked);
}
