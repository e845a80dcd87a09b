//! Privileges: a role may do exactly what its level includes, and a role without a level nothing.

use super::harness::{Db, expect_error, query_column, query_value};

/// A call of every function. Some fail for every role, with an error about their arguments.
const CALLS: [(&str, &str); 33] = [
    ("read", "chatbot_chunk('A text.')"),
    ("read", "chatbot_embed('A text.')"),
    ("read", "chatbot_search(1, 'A text.')"),
    ("app", "chatbot_embed_source(1, 'document', 1, 'A text.')"),
    ("app", "chatbot_delete_source(1, 'document', 1)"),
    ("app", "chatbot_session_open(1)"),
    ("app", "chatbot_session_add_message('00000000-0001-8000-8000-000000000000', 'user', 'x')"),
    ("app", "chatbot_session_messages('00000000-0001-8000-8000-000000000000')"),
    ("app", "chatbot_session_close('00000000-0001-8000-8000-000000000000')"),
    ("app", "chatbot_cleanup(1)"),
    ("app", "chatbot_attach('pg_class', 'no such type')"),
    ("app", "chatbot_attach_chatbots('pg_class', NULL)"),
    ("app", "chatbot_detach('pg_class', NULL)"),
    ("app", "chatbot_sync_all()"),
    ("app", "chatbot_process_queue()"),
    ("app", "chatbot_enqueue_source(1, 'document', 1, 'A text.')"),
    ("app", "chatbot_retry()"),
    ("app", "chatbot_estimate()"),
    ("read", "chatbot_metrics()"),
    ("app", "chatbot_doctor()"),
    ("admin", "chatbot_verify()"),
    ("admin", "chatbot_repair()"),
    ("admin", "chatbot_reembed()"),
    ("admin", "chatbot_drop_model(1000)"),
    ("admin", "chatbot_create_index(1000)"),
    ("admin", "chatbot_drop_index(1000)"),
    ("admin", "chatbot_set_model('local', 'minilm-static-256')"),
    ("admin", "chatbot_add_source_type('link')"),
    ("admin", "chatbot_drop_source_type('link')"),
    ("owner", "chatbot_grant('stranger')"),
    ("owner", "chatbot_revoke('app')"),
    ("owner", "chatbot_distribute()"),
    ("owner", "chatbot_undistribute()"),
];

#[test]
fn a_role_can_call_exactly_the_functions_of_its_level() {
    let db = Db::new();
    for (role, levels) in
        [("stranger", &[][..]), ("reader", &["read"]), ("app", &["read", "app"]), ("boss", &["read", "app", "admin"])]
    {
        let mut session = db.session(role);
        for (level, call) in CALLS {
            let procedure = [
                "chatbot_sync_all",
                "chatbot_process_queue",
                "chatbot_reembed",
                "chatbot_drop_model",
                "chatbot_create_index",
            ]
            .iter()
            .any(|p| call.starts_with(p));
            let sql = format!("{} {call}", if procedure { "CALL" } else { "SELECT * FROM" });
            match session.batch_execute(&sql) {
                Ok(()) => assert!(levels.contains(&level), "{role} may call {call}"),
                Err(error) => {
                    let denied = error.code().unwrap().code() == "42501";
                    assert_eq!(denied, !levels.contains(&level), "{role}: {call}: {error}");
                }
            }
        }
    }
}

#[test]
fn every_function_has_a_level_and_none_is_public() {
    let mut db = Db::new();
    let functions = query_column::<String>(
        &mut db.admin,
        "SELECT DISTINCT proname::text FROM pg_proc WHERE proname LIKE 'chatbot\\_%' ORDER BY 1",
    );
    for function in functions {
        assert!(CALLS.iter().any(|(_, call)| call.starts_with(&format!("{function}("))), "{function}");
    }
    let public = "SELECT count(*) FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'chatbot_sync'
        WHERE has_function_privilege('stranger', p.oid, 'EXECUTE')";
    assert_eq!(query_value::<i64>(&mut db.admin, public), 0);
}

#[test]
fn a_role_without_a_level_reads_and_writes_nothing() {
    let mut db = Db::new();
    let tables = query_column::<String>(
        &mut db.admin,
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'chatbot_sync'::regnamespace AND relkind IN ('r', 'v')",
    );
    assert!(tables.len() >= 5);
    let mut stranger = db.session("stranger");
    for table in &tables {
        assert_eq!(expect_error(&mut stranger, &format!("SELECT FROM {table}")).code, "42501", "{table}");
        assert_eq!(expect_error(&mut stranger, &format!("DELETE FROM {table}")).code, "42501", "{table}");
    }
    let mut reader = db.session("reader");
    assert_eq!(expect_error(&mut reader, "DELETE FROM chatbot_sync.source").code, "42501");
    assert_eq!(expect_error(&mut reader, "SELECT FROM chatbot_sync.message").code, "42501");
}

#[test]
fn level_app_reads_all_that_a_backup_needs() {
    let mut db = Db::new();
    let missing = "SELECT count(*) FROM pg_class WHERE relnamespace = 'chatbot_sync'::regnamespace
        AND (relkind IN ('r', 'v') AND NOT has_table_privilege('app', oid, 'SELECT, INSERT, UPDATE, DELETE')
            OR relkind = 'S' AND NOT has_sequence_privilege('app', oid, 'SELECT, UPDATE, USAGE'))";
    assert_eq!(query_value::<i64>(&mut db.admin, missing), 0);
    let undumped =
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'chatbot_sync'::regnamespace AND relkind IN ('r', 'S')
        AND oid <> ALL (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'chatbot_sync')";
    assert_eq!(query_value::<i64>(&mut db.admin, undumped), 0);
}

#[test]
fn grant_replaces_the_level_and_revoke_removes_it() {
    let mut db = Db::new();
    db.admin.batch_execute("SELECT chatbot_grant('app', 'read')").unwrap();
    let mut app = db.session("app");
    assert_eq!(expect_error(&mut app, "SELECT chatbot_embed_source(1, 'document', 1, 'x')").code, "42501");
    app.batch_execute("SELECT chatbot_search(1, 'x')").unwrap();
    db.admin.batch_execute("SELECT chatbot_revoke('app')").unwrap();
    assert_eq!(expect_error(&mut app, "SELECT chatbot_search(1, 'x')").code, "42501");
    let left = "SELECT count(*) FROM pg_shdepend WHERE refobjid = 'app'::regrole
        AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(query_value::<i64>(&mut db.admin, left), 0);
}

#[test]
fn bad_grants_are_refused() {
    let mut db = Db::new();
    for (call, code) in [
        ("chatbot_grant(NULL)", "22004"),
        ("chatbot_grant('app', NULL)", "22004"),
        ("chatbot_grant('app', 'owner')", "22023"),
        ("chatbot_grant('nobody there')", "42704"),
        ("chatbot_grant('public')", "42704"),
        ("chatbot_revoke(NULL)", "22004"),
    ] {
        assert_eq!(expect_error(&mut db.admin, &format!("SELECT {call}")).code, code, "{call}");
    }
}
