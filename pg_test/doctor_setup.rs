//! chatbot_doctor() reports problems of a database, its roles and its triggers, and its hints are statements
//! that solve them.

use postgres::Client;

use super::doctor::{assert_finding, assert_healthy, findings};
use super::harness::{
    Db, application_with_mock, attached_documents, expect_error, pause, query_column, query_value, wait_until,
};
use super::mock::Mock;
use super::server::Server;

/// Runs the statements in the hints of a check as a superuser.
fn follow_hints(admin: &mut Client, check: &str) {
    let sql = format!("SELECT hint FROM chatbot_doctor() WHERE check_name = '{check}' AND status <> 'ok'");
    for hint in query_column::<String>(admin, &sql) {
        for statement in hint.split_inclusive(';') {
            admin.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
    }
}

#[test]
fn a_healthy_database_has_no_findings_for_any_role() {
    let (mut db, _mock, mut app) = attached_documents();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'A text.')").unwrap();
    db.admin.batch_execute("CREATE ROLE watcher LOGIN IN ROLE pg_monitor").unwrap();
    for role in ["app", "boss", "watcher"] {
        assert_healthy(&mut db.session(role));
    }
    assert_eq!(expect_error(&mut db.session("reader"), "SELECT chatbot_doctor()").code, "42501");
    db.admin.batch_execute("DROP ROLE watcher").unwrap();
}

#[test]
fn the_doctor_names_a_worker_that_ends_at_its_start() {
    let mock = Mock::new();
    let mut server = Server::start_preloaded(&[]);
    super::harness::use_mock(&mut server.db, &mock);
    let mut admin = server.db.other();
    admin
        .batch_execute(
            "ALTER DATABASE postgres OWNER TO app;
            CREATE TABLE docs (id bigserial PRIMARY KEY, chatbot_id bigint, content text);
            SELECT chatbot_attach('docs', 'document', mode => 'async')",
        )
        .unwrap();
    assert_healthy(&mut admin);
    let insert = "INSERT INTO docs (chatbot_id, content) VALUES (1, 'A text.')";
    admin.batch_execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC, app").unwrap();
    let detail = "they connect as app, the owner of the database, who may not connect";
    assert_finding(&mut admin, "workers", &["error: workers end at their start: ", detail]);
    // The report is true: a worker that is started does end.
    admin.batch_execute(insert).unwrap();
    while !server.log().contains("permission denied for database") {
        pause();
    }
    follow_hints(&mut admin, "workers");
    admin.batch_execute(insert).unwrap();
    wait_until(&mut admin, "SELECT count(*) = 0 FROM chatbot_sync.job");
    assert_healthy(&mut admin);
}

#[test]
fn the_doctor_names_schemas_that_a_role_may_not_use() {
    let (mut db, _mock, mut app) = application_with_mock();
    assert_healthy(&mut app);
    db.admin.batch_execute("CREATE SCHEMA of_vector; ALTER EXTENSION vector SET SCHEMA of_vector").unwrap();
    assert_finding(
        &mut app,
        "roles",
        &[
            "error: role app may not use schema of_vector, where pgvector's type and operators are: GRANT USAGE ON SCHEMA of_vector TO app;",
            "role reader may not use",
            "role boss may not use",
        ],
    );
    follow_hints(&mut db.admin, "roles");
    assert_healthy(&mut app);
    db.session("reader").batch_execute("SELECT chatbot_search(1, 'text')").unwrap();
    db.admin.batch_execute("REVOKE USAGE ON SCHEMA chatbot_sync FROM reader").unwrap();
    assert_finding(
        &mut app,
        "roles",
        &["role reader may not use schema chatbot_sync, where the tables of chatbot_sync are"],
    );
    follow_hints(&mut db.admin, "roles");
    assert_healthy(&mut app);
}

#[test]
fn the_doctor_names_triggers_that_do_not_fire() {
    let (mut db, _mock, mut app) = attached_documents();
    app.batch_execute(
        "CREATE TABLE parts (id int NOT NULL, chatbot_id int, content text, status text) PARTITION BY LIST (chatbot_id);
        CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1); CREATE TABLE part_2 PARTITION OF parts FOR VALUES IN (2);
        SELECT chatbot_attach('parts', 'link', status_column => 'status');
        INSERT INTO parts VALUES (1, 1, 'A text.'), (2, 2, 'A text.')",
    )
    .unwrap();
    assert_healthy(&mut app);
    for (broken, what) in [
        (
            "ALTER TABLE documents ENABLE REPLICA TRIGGER chatbot_sync_1_insert",
            "chatbot_sync_1_insert of public.documents is enabled for replicas only",
        ),
        (
            "ALTER TABLE documents DISABLE TRIGGER chatbot_sync_1_update",
            "chatbot_sync_1_update of public.documents is disabled",
        ),
        (
            "ALTER TABLE documents DISABLE TRIGGER zz_chatbot_sync_1_status",
            "zz_chatbot_sync_1_status of public.documents is disabled",
        ),
        ("ALTER TABLE documents DISABLE TRIGGER USER", "chatbot_sync_1_truncate of public.documents is disabled"),
        ("ALTER TABLE part_2 DISABLE TRIGGER USER", "chatbot_sync_2_insert of public.part_2 is disabled"),
        (
            "ALTER TABLE ONLY parts DISABLE TRIGGER chatbot_sync_2_insert",
            "chatbot_sync_2_insert of public.parts is disabled",
        ),
        (
            "ALTER TABLE chatbots DISABLE TRIGGER chatbot_sync_chatbots_delete",
            "chatbot_sync_chatbots_delete of public.chatbots is disabled",
        ),
        ("ALTER TABLE chatbot_sync.source DISABLE TRIGGER ALL", "of chatbot_sync.source is disabled"),
        ("ALTER TABLE chatbot_sync.message DISABLE TRIGGER ALL", "of chatbot_sync.message is disabled"),
    ] {
        db.admin.batch_execute(broken).unwrap();
        assert_finding(
            &mut app,
            "triggers",
            &["error: trigger ", what, "SELECT chatbot_repair(); CALL chatbot_sync_all();"],
        );
        follow_hints(&mut db.admin, "triggers");
        assert_healthy(&mut app);
    }
    // A trigger may be ENABLE ALWAYS, for example for logical replication: that is not a problem.
    app.batch_execute("ALTER TABLE documents ENABLE ALWAYS TRIGGER chatbot_sync_1_insert").unwrap();
    assert_healthy(&mut app);
    app.batch_execute("DROP TRIGGER chatbot_sync_2_delete ON part_1").unwrap();
    assert_finding(
        &mut app,
        "triggers",
        &["error: public.part_1 has 4 of its 5 triggers", "SELECT chatbot_detach('public.parts');"],
    );
    let attach = "SELECT chatbot_attach('parts', 'link', status_column => 'status')";
    app.batch_execute(&format!("SELECT chatbot_detach('parts'); {attach}; CALL chatbot_sync_all()")).unwrap();
    assert_healthy(&mut app);
    // The triggers remain on the children only.
    let host: i32 =
        query_value(&mut app, "SELECT host FROM chatbot_sync.host_table WHERE relation = 'parts'::regclass");
    for event in ["insert", "update", "delete", "truncate"] {
        app.batch_execute(&format!("DROP TRIGGER chatbot_sync_{host}_{event} ON parts")).unwrap();
    }
    assert_finding(
        &mut app,
        "triggers",
        &["error: public.part_1 has triggers of a table that is not attached any more", "public.part_2 has"],
    );
    let hints = query_column::<String>(
        &mut app,
        "SELECT hint FROM chatbot_doctor() WHERE check_name = 'triggers' AND status <> 'ok'",
    );
    for hint in hints {
        app.batch_execute(hint.strip_suffix(" and chatbot_attach() again.").unwrap()).unwrap();
    }
    app.batch_execute(attach).unwrap();
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_healthy(&mut app);
}

#[test]
fn the_doctor_names_event_triggers_that_do_not_fire() {
    let mut db = Db::new();
    assert_healthy(&mut db.admin);
    for (name, state) in [
        ("ddl", "DISABLE"),
        ("drop", "ENABLE REPLICA"),
        ("update", "DISABLE"),
        ("drop", "DISABLE"),
        ("ddl", "ENABLE REPLICA"),
    ] {
        db.admin.batch_execute(&format!("ALTER EVENT TRIGGER chatbot_sync_{name} {state}")).unwrap();
        assert_finding(&mut db.admin, "event triggers", &["error: event trigger chatbot_sync_", name, "is disabled"]);
        follow_hints(&mut db.admin, "event triggers");
        assert_healthy(&mut db.admin);
    }
    db.admin.batch_execute("ALTER EVENT TRIGGER chatbot_sync_drop ENABLE ALWAYS").unwrap();
    assert_healthy(&mut db.admin);
    db.admin
        .batch_execute("ALTER EXTENSION chatbot_sync DROP EVENT TRIGGER chatbot_sync_update; DROP EVENT TRIGGER chatbot_sync_update")
        .unwrap();
    assert_finding(
        &mut db.admin,
        "event triggers",
        &["error: event trigger chatbot_sync_update is gone: roles keep no level"],
    );
}

#[test]
fn the_doctor_names_sessions_in_which_no_trigger_fires() {
    let mut db = Db::new();
    assert_healthy(&mut db.admin);
    let name: String = query_value(&mut db.admin, "SELECT current_database()::text");
    db.admin.batch_execute("CREATE ROLE replicator").unwrap();
    for whose in
        [format!("DATABASE {name}"), "ROLE replicator".to_owned(), format!("ROLE replicator IN DATABASE {name}")]
    {
        db.admin.batch_execute(&format!("ALTER {whose} SET session_replication_role = replica")).unwrap();
        assert_finding(
            &mut db.admin,
            "replication role",
            &["error: session_replication_role is replica", &format!("ALTER {whose} RESET")],
        );
        follow_hints(&mut db.admin, "replication role");
        assert_healthy(&mut db.admin);
    }
    db.admin.batch_execute("DROP ROLE replicator; SET session_replication_role = replica").unwrap();
    assert_finding(&mut db.admin, "replication role", &["error: session_replication_role is replica in this session"]);
    follow_hints(&mut db.admin, "replication role");
    assert_healthy(&mut db.admin);
}

#[test]
fn the_doctor_reports_a_key_that_postgres_would_log_without_showing_it() {
    let mut server = Server::start(&[]);
    let admin = &mut server.db.admin;
    assert_healthy(admin);
    admin.batch_execute("SELECT chatbot_chunk('')").unwrap();
    admin.batch_execute("ALTER SYSTEM SET chatbot_sync.openai_api_key = 'sk-secret'").unwrap();
    assert_finding(
        admin,
        "keys",
        &[
            "warning: chatbot_sync.openai_api_key is in postgresql.auto.conf",
            "ALTER SYSTEM SET chatbot_sync.openai_api_key_file = '/path/to/file'; ALTER SYSTEM RESET chatbot_sync.openai_api_key;",
        ],
    );
    assert!(!findings(admin, "keys").contains("sk-secret"));
    admin.batch_execute("ALTER SYSTEM RESET chatbot_sync.openai_api_key").unwrap();
    assert_healthy(admin);
    admin.batch_execute("ALTER ROLE app SET chatbot_sync.openai_api_key = 'sk-secret'").unwrap();
    assert_finding(admin, "keys", &["warning: a key is a setting of a role or database"]);
    admin.batch_execute("ALTER ROLE app RESET chatbot_sync.openai_api_key").unwrap();
    admin.batch_execute("CREATE DATABASE other").unwrap();
    admin.batch_execute("ALTER DATABASE other SET chatbot_sync.openai_api_key = 'sk-secret'").unwrap();
    assert_healthy(admin);
    admin.batch_execute("ALTER DATABASE postgres SET chatbot_sync.openai_api_key = 'sk-secret'").unwrap();
    assert_finding(admin, "keys", &["warning: a key is a setting of a role or database"]);
}

#[test]
fn the_doctor_names_a_database_that_is_switched_off() {
    let (mut db, mock, mut app) = attached_documents();
    assert_healthy(&mut app);
    let name: String = query_value(&mut db.admin, "SELECT current_database()::text");
    db.admin.batch_execute(&format!("ALTER DATABASE {name} SET chatbot_sync.enabled = off")).unwrap();
    let asked = mock.state().requests.len();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'A text.')").unwrap();
    let hint = format!("ALTER DATABASE {name} RESET chatbot_sync.enabled;");
    assert_finding(&mut app, "enabled", &["warning: chatbot_sync.enabled is off", "1 sources wait", &hint]);
    assert_eq!(findings(&mut app, "provider"), "");
    assert_eq!(mock.state().requests.len(), asked);
    db.admin.batch_execute(&hint).unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_healthy(&mut app);
}

#[test]
fn the_doctor_reports_tables_without_statistics() {
    let mut db = Db::new();
    let admin = &mut db.admin;
    admin
        .batch_execute(
            "ALTER TABLE chatbot_sync.source SET (autovacuum_enabled = off);
            INSERT INTO chatbot_sync.source (chatbot_id, source_type, source_id, status)
            SELECT 1, 'document', i, 'synced' FROM generate_series(1, 10001) AS i",
        )
        .unwrap();
    wait_until(
        admin,
        "SELECT n_live_tup > 10000 FROM pg_stat_user_tables WHERE relid = 'chatbot_sync.source'::regclass",
    );
    assert_finding(
        admin,
        "statistics",
        &["warning: chatbot_sync.source has 10001 rows, was never analyzed", "ANALYZE chatbot_sync.source;"],
    );
    admin.batch_execute("ANALYZE chatbot_sync.source").unwrap();
    wait_until(
        admin,
        "SELECT last_analyze IS NOT NULL FROM pg_stat_user_tables WHERE relid = 'chatbot_sync.source'::regclass",
    );
    assert_healthy(admin);
}

#[test]
fn the_doctor_reports_row_security_that_hides_nothing_or_breaks_a_backup() {
    let (mut db, _mock, mut app) = attached_documents();
    assert_healthy(&mut app);
    db.admin.batch_execute("ALTER TABLE chatbot_sync.source ENABLE ROW LEVEL SECURITY").unwrap();
    assert_finding(
        &mut app,
        "row security",
        &[
            "error: it is on for chatbot_sync.source, and not for ",
            "ALTER TABLE chatbot_sync.embedding ENABLE ROW LEVEL SECURITY;",
        ],
    );
    for table in ["embedding", "job", "sync_log"] {
        db.admin.batch_execute(&format!("ALTER TABLE chatbot_sync.{table} ENABLE ROW LEVEL SECURITY")).unwrap();
    }
    assert!(!findings(&mut app, "row security").contains("error"));
    assert_finding(
        &mut app,
        "backup",
        &["warning: a pg_dump that app makes fails: row security is on", "ALTER ROLE app BYPASSRLS;"],
    );
    for table in ["source", "embedding", "job", "sync_log"] {
        db.admin.batch_execute(&format!("ALTER TABLE chatbot_sync.{table} DISABLE ROW LEVEL SECURITY")).unwrap();
    }
    assert_healthy(&mut app);
}
