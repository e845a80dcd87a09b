//! `chatbot_sync.enabled = off`: no provider is asked, no change is lost, and everything is embedded after it
//! is on again.

use postgres::Client;

use super::harness::{
    ATTACH, DOCUMENTS, Db, application_with_mock, attached_documents, embed_statement, expect_error, find_differences,
    query_column, query_value, use_mock, wait_until,
};
use super::mock::Mock;
use super::server::Server;

/// Runs ALTER DATABASE on the session's own database.
fn alter_database(client: &mut Client, what: &str) {
    let database: String = query_value(client, "SELECT quote_ident(current_database())");
    client.batch_execute(&format!("ALTER DATABASE {database} {what}")).unwrap();
}

const OFF: &str = "SET chatbot_sync.enabled = off";
const ON: &str = "RESET chatbot_sync.enabled";
const STATUS: &str = "SELECT format('%s %s', id, status) FROM documents ORDER BY id";

#[test]
fn off_asks_no_provider_and_pending_sources_are_embedded_later() {
    let (mut db, mock, mut app) = attached_documents();
    app.batch_execute("INSERT INTO documents (chatbot_id, title, content) SELECT 1, 'T', 'Text ' || i FROM generate_series(1, 4) AS i").unwrap();
    let asked = mock.state().requests.len();
    // A session that is already open follows the change.
    alter_database(&mut db.admin, OFF);
    app.batch_execute(
        "INSERT INTO documents (chatbot_id, content) VALUES (1, 'New.');
        UPDATE documents SET content = 'Changed.' WHERE id = 1;
        UPDATE documents SET title = 'Retitled' WHERE id = 2;
        UPDATE documents SET chatbot_id = 2 WHERE id = 3;
        DELETE FROM documents WHERE id = 4",
    )
    .unwrap();
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 pending", "2 synced", "3 synced", "5 pending"]);
    let stored = "SELECT format('%s %s %s %s', chatbot_id, source_id, content, metadata ->> 'title') FROM chatbot_sync.embedding ORDER BY source_id";
    assert_eq!(query_column::<String>(&mut app, stored), ["1 1 Text 1 T", "1 2 Text 2 Retitled", "2 3 Text 3 T"]);
    for call in [
        embed_statement(7, "By hand.").as_str(),
        "SELECT chatbot_embed('text')",
        "SELECT chatbot_search(1, 'text')",
        "SELECT chatbot_search(1, 'text', mode => 'vector')",
    ] {
        let refused = expect_error(&mut app, call);
        assert_eq!(refused.code, "55000", "{call}: {refused:?}");
        assert!(refused.message.contains("chatbot_sync.enabled is off"), "{call}: {refused:?}");
        assert!(refused.hint.contains("RESET chatbot_sync.enabled"), "{call}: {refused:?}");
    }
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(1, 'text', mode => 'text')"), 2);
    let (mut listening, said) = db.session_with_notices("app");
    for call in ["CALL chatbot_process_queue()", "CALL chatbot_sync_all()"] {
        said.lock().unwrap().clear();
        listening.batch_execute(call).unwrap();
        let said = said.lock().unwrap().join("\n");
        assert!(said.contains("NOTICE: chatbot_sync.enabled is off"), "{call}: {said}");
    }
    db.admin.batch_execute("SELECT chatbot_set_model('openai_compatible', 'another', 8)").unwrap();
    assert_eq!(expect_error(&mut db.admin, "CALL chatbot_reembed()").code, "55000");
    assert_eq!(
        expect_error(&mut db.admin, "SELECT chatbot_set_model('openai_compatible', 'unknown length')").code,
        "55000"
    );
    db.admin.batch_execute("SELECT chatbot_set_model('openai_compatible', 'mock', 8)").unwrap();
    assert_eq!(mock.state().requests.len(), asked);
    alter_database(&mut db.admin, ON);
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(mock.texts()[4..], ["Changed.", "New."]);
}

#[test]
fn off_keeps_rows_for_every_mode_on_error_and_model() {
    for (mode, on_error, model) in [
        ("sync", "mark", "mock"),
        ("sync", "raise", "mock"),
        ("async", "mark", "mock"),
        ("sync", "mark", "local"),
        ("async", "raise", "local"),
    ] {
        let (mut db, mock, mut app) = application_with_mock();
        if model == "local" {
            db.admin.batch_execute("SELECT chatbot_set_model('local', 'minilm-static-256')").unwrap();
        }
        app.batch_execute(DOCUMENTS).unwrap();
        app.batch_execute(&ATTACH.replace(
            "error_column => 'error'",
            &format!("error_column => 'error', mode => '{mode}', on_error => '{on_error}'"),
        ))
        .unwrap();
        app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'One.'), (1, 'Two.')").unwrap();
        app.batch_execute("CALL chatbot_process_queue()").unwrap();
        let asked = mock.state().requests.len();
        alter_database(&mut db.admin, OFF);
        app.batch_execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO documents (chatbot_id, content) VALUES (1, 'Three.'), (1, ''); COMMIT;
            DELETE FROM documents WHERE id = 1; UPDATE documents SET content = 'Two, changed.' WHERE id = 2",
        )
        .unwrap();
        let place = format!("{mode} {on_error} {model}");
        assert_eq!(query_column::<String>(&mut app, STATUS), ["2 pending", "3 pending", "4 synced"], "{place}");
        assert_eq!(query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.embedding"), [2], "{place}");
        assert_eq!(mock.state().requests.len(), asked, "{place}");
        alter_database(&mut db.admin, ON);
        // Both procedures embed what waits.
        let work_off = if on_error == "mark" { "CALL chatbot_sync_all()" } else { "CALL chatbot_process_queue()" };
        app.batch_execute(work_off).unwrap();
        assert_eq!(find_differences(&mut app), [""; 0], "{place}");
        app.batch_execute("CALL chatbot_process_queue()").unwrap();
        assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.job"), 0, "{place}");
    }
}

#[test]
fn searches_with_the_built_in_model_answer_while_off() {
    let mut db = Db::new();
    let mut app = db.session("app");
    app.batch_execute(&embed_statement(1, "Parcels leave at noon.")).unwrap();
    alter_database(&mut db.admin, OFF);
    for mode in ["hybrid", "vector", "text"] {
        let sql = format!("SELECT source_id FROM chatbot_search(1, 'parcels', mode => '{mode}')");
        assert_eq!(query_column::<i64>(&mut app, &sql), [1], "{mode}");
    }
    // The change also applies within one message with several statements.
    let name: String = query_value(&mut db.admin, "SELECT current_database()::text");
    let both = format!(
        "SELECT chatbot_embed_source(2, 'document', 1, 'On.'); ALTER DATABASE {name} {OFF}; {}",
        embed_statement(2, "Off.")
    );
    alter_database(&mut db.admin, ON);
    assert_eq!(expect_error(&mut db.admin, &both).code, "55000");
    alter_database(&mut db.admin, OFF);
    // A text that did not change needs no vector, so the call succeeds.
    app.batch_execute(&embed_statement(1, "Parcels leave at noon.")).unwrap();
    assert_eq!(expect_error(&mut app, &embed_statement(1, "Parcels leave at one.")).code, "55000");
}

#[test]
fn a_session_can_switch_off_but_not_on() {
    let (mut db, mock, mut app) = attached_documents();
    app.batch_execute("SET chatbot_sync.enabled = off; INSERT INTO documents (chatbot_id, content) VALUES (1, 'One.')")
        .unwrap();
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 pending"]);
    app.batch_execute("SET chatbot_sync.enabled = on; CALL chatbot_sync_all()").unwrap();
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 synced"]);
    alter_database(&mut db.admin, OFF);
    let asked = mock.state().requests.len();
    // The setting was on when this session began, so it may set it on; that has no effect.
    app.batch_execute("SET chatbot_sync.enabled = on; INSERT INTO documents (chatbot_id, content) VALUES (1, 'Two.')")
        .unwrap();
    let mut later = db.session("app");
    later.batch_execute("SELECT chatbot_chunk('')").unwrap();
    let refused = expect_error(&mut later, "SET chatbot_sync.enabled = on");
    assert_eq!(refused.code, "42501", "{refused:?}");
    assert!(refused.hint.contains("ALTER DATABASE"), "{refused:?}");
    // The role or the session sets it before the library is loaded, so the library cannot refuse it then.
    db.admin
        .batch_execute("CREATE ROLE said_on LOGIN IN ROLE app; ALTER ROLE said_on SET chatbot_sync.enabled = on")
        .unwrap();
    for mut session in [db.session("said_on"), db.session("app")] {
        session.batch_execute("SET chatbot_sync.enabled = on").ok();
        assert_eq!(expect_error(&mut session, &embed_statement(1, "A text.")).code, "55000");
    }
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 synced", "2 pending"]);
    assert_eq!(mock.state().requests.len(), asked);
    alter_database(&mut db.admin, ON);
    db.admin.batch_execute("DROP ROLE said_on").unwrap();
}

#[test]
fn the_owner_of_a_database_switches_its_copy_off() {
    let (mut db, mock, app) = attached_documents();
    drop(app);
    let name: String = query_value(&mut db.admin, "SELECT current_database()::text");
    db.admin.batch_execute(&format!("ALTER DATABASE {name} OWNER TO app")).unwrap();
    let mut app = db.session("app");
    // As neutralize.sql does. The library has to be loaded, since it defines the setting.
    app.batch_execute("SELECT chatbot_chunk('')").unwrap();
    alter_database(&mut app, OFF);
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'One.')").unwrap();
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 pending"]);
    assert_eq!(mock.texts(), [""; 0]);
    alter_database(&mut app, "SET chatbot_sync.enabled = on");
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 synced"]);
}

#[test]
fn a_server_that_is_off_asks_no_provider_whatever_role_or_connection_set() {
    for preload in [true, false] {
        let mock = Mock::new();
        let settings = ["chatbot_sync.enabled=off"];
        let mut server = if preload { Server::start_preloaded(&settings) } else { Server::with(&[], &settings) };
        use_mock(&mut server.db, &mock);
        server
            .db
            .admin
            .batch_execute("CREATE ROLE said_on LOGIN IN ROLE app; ALTER ROLE said_on SET chatbot_sync.enabled = on")
            .unwrap();
        for role in ["app", "said_on"] {
            let mut session = server.db.session(role);
            session.batch_execute("SET chatbot_sync.enabled = on").ok();
            assert_eq!(
                expect_error(&mut session, &embed_statement(1, "A text.")).code,
                "55000",
                "{role}, preloaded: {preload}"
            );
        }
        let call = embed_statement(1, "A text.");
        let (said, _) = server.run_client_program(
            "psql",
            "app",
            &["-X", "-d", "dbname=postgres options='-c chatbot_sync.enabled=on'", "-c", &call],
        );
        assert!(said.contains("chatbot_sync.enabled"), "{said}");
        assert_eq!(mock.texts(), [""; 0]);
        // A setting of the database takes precedence over that of the server.
        alter_database(&mut server.db.admin, "SET chatbot_sync.enabled = on");
        server.db.session("app").batch_execute(&embed_statement(1, "A text.")).unwrap();
        assert_eq!(mock.texts(), ["A text."]);
    }
}

#[test]
fn workers_are_idle_while_a_database_is_off() {
    let mock = Mock::new();
    let mut server = Server::start_preloaded(&["chatbot_sync.naptime=1s", "log_min_messages=debug1"]);
    server.db.other().batch_execute("CREATE DATABASE quiet TEMPLATE template0").unwrap();
    let mut quiet = server.db.in_database("quiet");
    quiet.admin.batch_execute(super::harness::EXTENSION).unwrap();
    for db in [&mut server.db, &mut quiet] {
        use_mock(db, &mock);
        db.admin
            .batch_execute(
                "CREATE TABLE docs (id bigserial PRIMARY KEY, chatbot_id bigint, content text);
                SELECT chatbot_attach('docs', 'document', mode => 'async')",
            )
            .unwrap();
    }
    let insert = "INSERT INTO docs (chatbot_id, content) VALUES (1, current_database() || clock_timestamp())";
    let done = "SELECT count(*) = 0 FROM chatbot_sync.job";
    quiet.admin.batch_execute(insert).unwrap();
    wait_until(&mut quiet.admin, done);
    alter_database(&mut quiet.admin, OFF);
    wait_until(
        &mut quiet.admin,
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'chatbot_sync worker'",
    );
    let asked = mock.texts().iter().filter(|text| text.starts_with("quiet")).count();
    // The launcher is notified of both databases in the same way, so the jobs of one show that it has seen those of the
    // other.
    for _ in 0..3 {
        quiet.admin.batch_execute(insert).unwrap();
        server.db.admin.batch_execute(insert).unwrap();
        wait_until(&mut server.db.admin, done);
    }
    assert_eq!(mock.texts().iter().filter(|text| text.starts_with("quiet")).count(), asked);
    assert_eq!(
        query_value::<i64>(&mut quiet.admin, "SELECT count(*) FROM chatbot_sync.job WHERE leased_by IS NULL"),
        3
    );
    // No commit follows: the launcher looks at every database again after chatbot_sync.naptime.
    alter_database(&mut quiet.admin, ON);
    wait_until(&mut quiet.admin, done);
    assert_eq!(query_value::<i64>(&mut quiet.admin, "SELECT count(*) FROM chatbot_sync.embedding"), 4);
}
