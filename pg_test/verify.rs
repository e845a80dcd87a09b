//! chatbot_verify() finds every problem and chatbot_repair() repairs it, a healthy database has none, and neither
//! needs much memory.

use postgres::Client;

use super::harness::{
    Db, attached_documents, database_with_mock, query_column, query_value, set_for_database, use_mock,
};
use super::mock::{Fault, Mock};

const PROBLEMS: &str =
    "SELECT concat_ws(' ', problem, chatbot_id, source_type, source_id) FROM chatbot_verify() ORDER BY 1";
const BAD: &str = "SELECT check_name || ' ' || status FROM chatbot_doctor() WHERE status <> 'ok' ORDER BY 1";

fn attach_docs(db: &mut Db) -> Client {
    db.admin.batch_execute("GRANT CREATE ON SCHEMA public TO app").unwrap();
    let mut app = db.session("app");
    app.batch_execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, chatbot_id bigint, content text, status text);
         SELECT chatbot_attach('docs', 'document', status_column => 'status');
         INSERT INTO docs SELECT i, 1, 'Text number ' || i FROM generate_series(1, 9) AS i;
         SELECT chatbot_embed_source(2, 'link', 1, 'No table has it.')",
    )
    .unwrap();
    app
}

#[test]
fn sources_without_a_table_are_no_problem() {
    let mut db = Db::new();
    db.session("app").batch_execute("SELECT chatbot_embed_source(1, 'document', 1, 'Mine.')").unwrap();
    assert_eq!(query_column::<String>(&mut db.admin, PROBLEMS), [""; 0]);
}

#[test]
fn every_problem_is_found_and_repaired() {
    let mut db = Db::new();
    let mut app = attach_docs(&mut db);
    let mut boss = db.session("boss");
    assert_eq!(query_column::<String>(&mut boss, PROBLEMS), [""; 0]);
    app.batch_execute(
        "ALTER TABLE docs DISABLE TRIGGER USER;
         DELETE FROM docs WHERE id = 1; UPDATE docs SET content = 'Other.' WHERE id = 2;
         INSERT INTO docs VALUES (10, 1, 'New.'); UPDATE docs SET chatbot_id = 3 WHERE id = 3;
         ALTER TABLE docs ENABLE TRIGGER USER;
         DELETE FROM chatbot_sync.embedding WHERE source_id = 4;
         UPDATE chatbot_sync.embedding SET model_id = 77 WHERE source_id = 5;
         UPDATE chatbot_sync.embedding SET embedding = '[1,2,3]' WHERE source_id = 6;
         UPDATE chatbot_sync.embedding SET chunk_index = 5 WHERE chatbot_id = 2;
         UPDATE chatbot_sync.source SET host = 99 WHERE source_id = 7;
         INSERT INTO chatbot_sync.job (chatbot_id, source_type, source_id, host, due_at)
             SELECT 1, 'document', 8, 1, 'infinity' FROM generate_series(1, 3)",
    )
    .unwrap();
    assert_eq!(
        query_column::<String>(&mut boss, PROBLEMS),
        [
            "detached 1 document 7",
            "double job 1 document 8",
            "incomplete 1 document 4",
            "incomplete 2 link 1",
            "missing 1 document 10",
            "missing 1 document 7",
            "missing 3 document 3",
            "orphan 1 document 1",
            "orphan 1 document 3",
            "stale 1 document 2",
            "wrong dimensions 1 document 6",
            "wrong model 1 document 5",
        ]
    );
    let (mut boss, told) = db.session_with_notices("boss");
    assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 12);
    let told = told.lock().unwrap().clone();
    for (source, done) in [
        ("document 1 of chatbot 1", "orphan: forgotten"),
        ("document 2 of chatbot 1", "stale: to be embedded again"),
        ("document 8 of chatbot 1", "double job: all but the newest deleted"),
        ("document 10 of chatbot 1", "missing: is a source now"),
    ] {
        assert!(told.contains(&format!("NOTICE: {source}: {done}")), "{source}: {told:?}");
    }
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.job"), 1);
    app.batch_execute("DELETE FROM chatbot_sync.job").unwrap();
    // Its text is stored nowhere, so it stays in error until it is embedded again.
    assert_eq!(query_value::<i64>(&mut app, "SELECT chatbot_retry(2)"), 0);
    let left = "SELECT status || ' ' || error_code FROM chatbot_sync.source WHERE chatbot_id = 2";
    assert_eq!(query_value::<String>(&mut app, left), "error 55000");
    app.batch_execute("CALL chatbot_sync_all(); SELECT chatbot_embed_source(2, 'link', 1, 'No table has it.')")
        .unwrap();
    assert_eq!(query_column::<String>(&mut boss, PROBLEMS), [""; 0]);
    assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 0);
    let wrong = "SELECT count(*) FROM docs d FULL JOIN chatbot_sync.embedding e ON e.source_id = d.id AND e.chatbot_id = d.chatbot_id
        WHERE d.content IS DISTINCT FROM e.content AND e.chatbot_id IS DISTINCT FROM 2";
    assert_eq!(query_value::<i64>(&mut app, wrong), 0);
    assert_eq!(query_column::<String>(&mut app, "SELECT DISTINCT status FROM docs"), ["synced"]);
}

#[test]
fn a_database_without_host_tables_can_be_verified() {
    let db = Db::new();
    db.session("app").batch_execute("SELECT chatbot_embed_source(1, 'link', 1, 'No table has it.')").unwrap();
    let mut boss = db.session("boss");
    assert_eq!(query_column::<String>(&mut boss, PROBLEMS), [""; 0]);
    assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 0);
}

#[test]
fn a_healthy_database_is_all_ok() {
    let mut db = Db::new();
    let mut app = attach_docs(&mut db);
    assert_eq!(query_column::<String>(&mut app, BAD), [""; 0]);
    let checks = query_column::<String>(&mut app, "SELECT check_name FROM chatbot_doctor()");
    assert!(checks.len() >= 5, "{checks:?}");
}

#[test]
fn the_doctor_gives_a_hint_for_every_problem() {
    let mut db = Db::new();
    let mut app = attach_docs(&mut db);
    let mock = Mock::new();
    app.batch_execute("ALTER TABLE docs DISABLE TRIGGER USER; INSERT INTO docs VALUES (20, 1, 'Not seen.')").unwrap();
    app.batch_execute("SELECT chatbot_enqueue_source(1, 'link', 5, 'x'); UPDATE chatbot_sync.job SET due_at = now() - interval '1h', leased_by = 1").unwrap();
    app.batch_execute("UPDATE chatbot_sync.source SET status = 'error', error = 'why' WHERE source_id = 2; UPDATE chatbot_sync.source SET status = 'pending' WHERE source_id = 3").unwrap();
    app.batch_execute("DROP TRIGGER chatbot_sync_1_delete ON docs").unwrap();
    set_for_database(&mut db, "openai_api_key", "sk-x");
    set_for_database(&mut db, "openai_compatible_url", &mock.url);
    db.admin.batch_execute("SELECT chatbot_set_model('openai_compatible', 'mock', 8)").unwrap();
    assert_eq!(
        query_column::<String>(&mut app, &BAD.replace("SELECT check_name", "SELECT DISTINCT check_name")),
        [
            "keys warning",
            "leases warning",
            "models warning",
            "queue warning",
            "sources in error error",
            "sources that wait warning",
            "triggers error",
            "workers warning"
        ]
    );
    let silent = "SELECT count(*) FROM chatbot_doctor() WHERE status <> 'ok' AND (hint IS NULL OR detail IS NULL)";
    assert_eq!(query_value::<i64>(&mut app, silent), 0);
}

#[test]
fn the_doctor_asks_a_failing_provider_and_reports_it() {
    let (mut db, mock) = database_with_mock();
    use_mock(&mut db, &mock);
    mock.state().always = Some(Fault::Status(401, "", r#"{"error":{"message":"no such key"}}"#));
    let mut app = db.session("app");
    assert_eq!(query_column::<String>(&mut app, BAD), ["provider error"]);
    let said: String =
        query_value(&mut app, "SELECT detail || hint FROM chatbot_doctor() WHERE check_name = 'provider'");
    assert!(said.contains("no such key") && said.contains("28000") && said.contains("api_key_file"), "{said}");
}

#[test]
fn metrics_are_right() {
    let (mut db, mock) = database_with_mock();
    use_mock(&mut db, &mock);
    let mut app = attach_docs(&mut db);
    app.batch_execute("SELECT chatbot_enqueue_source(1, 'link', 5, 'x')").unwrap();
    let value = |app: &mut Client, name: &str, label: &str| -> f64 {
        query_value(
            app,
            &format!(
                "SELECT sum(value) FROM chatbot_metrics() WHERE name = 'chatbot_sync_{name}' AND labels::text LIKE '%{label}%'"
            ),
        )
    };
    assert_eq!(value(&mut app, "sources", "synced"), 10.0);
    assert_eq!(value(&mut app, "sources", "pending"), 1.0);
    assert_eq!(value(&mut app, "jobs", "due"), 1.0);
    assert_eq!(value(&mut app, "chunks", ""), 10.0);
    assert_eq!(value(&mut app, "syncs_total", "mock"), 10.0);
    assert_eq!(value(&mut app, "inputs_total", "mock"), 10.0);
    assert_eq!(value(&mut app, "requests_total", "mock"), mock.state().requests.len() as f64);
    assert_eq!(value(&mut app, "tokens_total", "mock"), 100.0);
    let odd = "SELECT count(*) FROM chatbot_metrics() WHERE name !~ '^chatbot_sync_[a-z_]+$' OR type NOT IN ('gauge', 'counter')
        OR (type = 'counter') <> (name LIKE '%\\_total') OR help IS NULL OR value IS NULL OR labels IS NULL";
    assert_eq!(query_value::<i64>(&mut app, odd), 0);
    let stats = "SELECT concat_ws(' ', chatbot_id, model, syncs, embedded, reused, inputs, p95_ms > 0) FROM chatbot_sync.stats ORDER BY 1";
    assert_eq!(query_column::<String>(&mut app, stats), ["1 mock 9 9 0 9 t", "2 mock 1 1 0 1 t"]);
    let status = "SELECT concat_ws(' ', source_id, status, age < '1h') FROM chatbot_sync.source_status WHERE chatbot_id = 1 ORDER BY source_type DESC, source_id LIMIT 2";
    assert_eq!(query_column::<String>(&mut app, status), ["5 pending", "1 synced t"]);
}

#[test]
fn waiting_and_failed_sources_are_no_problems() {
    let (db, mock, mut app) = attached_documents();
    let mut boss = db.session("boss");
    app.batch_execute(
        "INSERT INTO documents (chatbot_id, content, active) VALUES (1, 'Kept.', true), (1, 'Archived.', false)",
    )
    .unwrap();
    mock.state().always = Some(Fault::Status(401, "", "{}"));
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'Refused.')").unwrap();
    // Two jobs of one source that fail together become one.
    app.batch_execute(
        "SELECT chatbot_enqueue_source(1, 'link', 1, 'First.'); SELECT chatbot_enqueue_source(1, 'link', 1, 'Second.')",
    )
    .unwrap();
    assert_eq!(query_column::<String>(&mut boss, PROBLEMS), [""; 0]);
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_column::<String>(&mut app, "SELECT content FROM chatbot_sync.job"), ["Second."]);
    assert_eq!(query_column::<String>(&mut boss, PROBLEMS), [""; 0]);
    // chatbot_verify() writes nothing.
    boss.batch_execute("BEGIN READ ONLY; SELECT chatbot_verify(); COMMIT").unwrap();
}

#[test]
fn memory_of_statements_is_freed_at_once() {
    let (mut db, _mock, mut app) = attached_documents();
    let insert =
        "INSERT INTO documents (chatbot_id, content) SELECT 1, 'Text number ' || i FROM generate_series(1, 2000) AS i";
    app.batch_execute(insert).unwrap();
    let kept = "SELECT sum(used_bytes)::bigint FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext'";
    let verify = "SELECT count(*) FROM chatbot_verify()";
    // The first call also allocates what a session keeps.
    assert_eq!(query_value::<i64>(&mut db.admin, verify), 0);
    db.admin.batch_execute("BEGIN").unwrap();
    let before = query_value::<i64>(&mut db.admin, kept);
    assert_eq!(query_value::<i64>(&mut db.admin, verify), 0);
    let after = query_value::<i64>(&mut db.admin, kept);
    db.admin.batch_execute("COMMIT").unwrap();
    assert!(after - before < 20_000, "{before} bytes before, {after} after");
}
