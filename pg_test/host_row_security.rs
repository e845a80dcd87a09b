//! Host tables with row-level security: a table whose owner does not see every row is refused, and rows that are hidden
//! later do not count as deleted.

use postgres::Client;

use super::harness::{Db, application_with_mock, expect_error, query_column, query_value};
use super::mock::Mock;

const POLICY: &str = "CREATE POLICY own ON docs USING (tenant = current_setting('app.tenant', true));
    ALTER TABLE docs ENABLE ROW LEVEL SECURITY; ALTER TABLE docs FORCE ROW LEVEL SECURITY;";

fn create_table(db: &(Db, Mock, Client)) -> Client {
    let mut app = db.0.session("app");
    app.batch_execute("SET app.tenant = 'one'; CREATE TABLE docs (id int PRIMARY KEY, chatbot_id int, tenant text, content text, status text, error text)").unwrap();
    app
}

fn attach(app: &mut Client, mode: &str) {
    app.batch_execute(&format!(
        "SELECT chatbot_attach('docs', 'document', status_column => 'status', error_column => 'error', mode => '{mode}');
         INSERT INTO docs VALUES (1, 1, 'one', 'One.'), (2, 1, 'one', 'Two.'); CALL chatbot_process_queue()"
    ))
    .unwrap();
}

#[test]
fn a_table_whose_owner_does_not_see_all_rows_is_not_attached() {
    let mut db = application_with_mock();
    let mut app = create_table(&db);
    app.batch_execute(POLICY).unwrap();
    let failed = expect_error(&mut app, "SELECT chatbot_attach('docs', 'document')");
    assert_eq!(failed.code, "0A000");
    assert!(failed.message.contains("public.docs") && failed.message.contains("app"), "{failed:?}");
    assert!(failed.hint.contains("NO FORCE ROW LEVEL SECURITY") && failed.hint.contains("BYPASSRLS"), "{failed:?}");
    // The owner is not subject to this policy, so it hides nothing from it.
    app.batch_execute("ALTER TABLE docs NO FORCE ROW LEVEL SECURITY; SET app.tenant = 'two'").unwrap();
    attach(&mut app, "async");
    assert_eq!(query_column::<String>(&mut app, "SELECT status FROM docs ORDER BY id"), ["synced", "synced"]);
    // Nor is a role with BYPASSRLS.
    let name: String = query_value(&mut db.0.admin, "SELECT 'owner_' || current_database()");
    db.0.admin
        .batch_execute(&format!(
            "CREATE ROLE {name} BYPASSRLS; SELECT chatbot_grant('{name}'); GRANT CREATE ON SCHEMA public TO {name};
             SELECT chatbot_detach('docs', true); ALTER TABLE docs OWNER TO {name}; ALTER TABLE docs FORCE ROW LEVEL SECURITY;
             SET ROLE {name}; SELECT chatbot_attach('docs', 'document'); RESET ROLE; CALL chatbot_sync_all()"
        ))
        .unwrap();
    assert_eq!(query_value::<i64>(&mut db.0.admin, "SELECT count(*) FROM chatbot_sync.embedding"), 2);
}

#[test]
fn a_partition_whose_owner_does_not_see_all_rows_is_not_attached() {
    let (_db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE docs (id int, chatbot_id int, tenant text, content text, PRIMARY KEY (id, chatbot_id)) PARTITION BY LIST (chatbot_id);
         CREATE TABLE docs_1 PARTITION OF docs FOR VALUES IN (1);
         ALTER TABLE docs_1 ENABLE ROW LEVEL SECURITY; ALTER TABLE docs_1 FORCE ROW LEVEL SECURITY",
    )
    .unwrap();
    let failed = expect_error(&mut app, "SELECT chatbot_attach('docs', 'document')");
    assert_eq!((failed.code.as_str(), failed.message.contains("public.docs_1")), ("0A000", true));
}

#[test]
fn rows_that_are_hidden_later_are_neither_orphans_nor_deleted() {
    for mode in ["sync", "async"] {
        let db = application_with_mock();
        attach(&mut create_table(&db), mode);
        let (mut app, told) = db.0.session_with_notices("app");
        app.batch_execute(POLICY).unwrap();
        let said = told.lock().unwrap().clone();
        assert!(
            said.iter().any(|line| line.starts_with("WARNING: row-level security of public.docs is forced")),
            "{said:?}"
        );
        let mut boss = db.0.session("boss");
        let problems = "SELECT concat_ws(' ', problem, source_id) FROM chatbot_verify() ORDER BY 1";
        assert_eq!(query_column::<String>(&mut boss, problems), ["unreadable 1", "unreadable 2"], "{mode}");
        assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 0);
        let doctor = "SELECT status FROM chatbot_doctor() WHERE check_name = 'row-level security'";
        assert_eq!(query_column::<String>(&mut boss, doctor), ["error"]);
        // One statement changes a row that its session sees; the others run in a session that sees no row.
        app.batch_execute(
            "SET app.tenant = 'one'; UPDATE docs SET content = 'Edited.' WHERE id = 1; SET app.tenant = 'two';
            SELECT chatbot_retry(); CALL chatbot_process_queue(); CALL chatbot_sync_all(); SELECT chatbot_estimate()",
        )
        .unwrap();
        assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.embedding"), 2, "{mode}");
        let status = "SELECT concat_ws(' ', status, error_code) FROM chatbot_sync.source WHERE source_id = 1";
        let expected = if mode == "sync" { "synced" } else { "error 42501" };
        assert_eq!(query_value::<String>(&mut app, status), expected);
        // The rows are visible again.
        app.batch_execute("ALTER TABLE docs NO FORCE ROW LEVEL SECURITY; CALL chatbot_sync_all()").unwrap();
        assert_eq!(query_column::<String>(&mut boss, problems), [""; 0], "{mode}");
        assert_eq!(
            query_column::<String>(&mut app, "SELECT status FROM docs ORDER BY id"),
            ["synced", "synced"],
            "{mode}"
        );
        assert_eq!(query_column::<String>(&mut boss, doctor), [""; 0]);
    }
}

#[test]
fn a_policy_that_raises_stops_no_other_table() {
    let (db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE docs (id int PRIMARY KEY, chatbot_id int, content text, status text);
         CREATE TABLE links (id int PRIMARY KEY, chatbot_id int, content text, status text);
         SELECT chatbot_attach('docs', 'document', status_column => 'status', mode => 'async');
         SELECT chatbot_attach('links', 'link', status_column => 'status', mode => 'async');
         CREATE POLICY own ON docs USING (chatbot_id = current_setting('app.tenant')::int) WITH CHECK (true);
         ALTER TABLE docs ENABLE ROW LEVEL SECURITY; ALTER TABLE docs FORCE ROW LEVEL SECURITY;
         INSERT INTO docs VALUES (1, 1, 'One.'); INSERT INTO links VALUES (1, 1, 'One.')",
    )
    .unwrap();
    app.batch_execute("CALL chatbot_process_queue(); CALL chatbot_sync_all()").unwrap();
    assert_eq!(query_value::<String>(&mut app, "SELECT status FROM links"), "synced");
    let sql = "SELECT concat_ws(' ', source_type, status, error_code) FROM chatbot_sync.source ORDER BY 1";
    assert_eq!(query_column::<String>(&mut app, sql), ["document error 42501", "link synced"]);
    let mut boss = db.session("boss");
    assert_eq!(query_column::<String>(&mut boss, "SELECT problem FROM chatbot_verify()"), ["unreadable"]);
}
