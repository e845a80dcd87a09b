//! Each sync is logged and counted, also when it fails or its transaction rolls back; logs and views contain no texts
//! and no keys.

use postgres::Client;

use super::harness::{
    Db, application_with_mock, attached_documents, database_with_mock, embed_statement, prose, query_column,
    query_value, set_for_database, use_mock, wait_until,
};
use super::mock::{Fault, Mock};
use super::server::Server;

const REFUSED: Fault = Fault::Status(401, "", r#"{"error":{"message":"no"}}"#);

/// Returns the sum of a metric's values whose labels contain a text.
fn value(client: &mut Client, name: &str, label: &str) -> f64 {
    let sql = format!(
        "SELECT coalesce(sum(value), 0) FROM chatbot_metrics() WHERE name = 'chatbot_sync_{name}' AND labels::text LIKE '%{label}%'"
    );
    query_value(client, &sql)
}

#[test]
fn a_sync_is_logged_with_its_stages() {
    let db = Db::new();
    let mut app = db.session("app");
    app.batch_execute(&embed_statement(1, &prose(40))).unwrap();
    app.batch_execute(&embed_statement(1, &prose(40))).unwrap();
    app.batch_execute(&embed_statement(1, &prose(40).replace("Sentence 20 ", "Sentence twenty "))).unwrap();
    let log =
        "SELECT concat_ws(' ', chunks = (SELECT chunk_count FROM chatbot_sync.source), embedded BETWEEN 1 AND chunks - 1,
            chunking_ms > 0 AND embedding_ms > 0 AND storing_ms > 0, chunking_ms + embedding_ms + storing_ms <= total_ms,
            error_code IS NULL, requests)
        FROM chatbot_sync.sync_log ORDER BY id";
    // A statement that changes nothing is not logged as a sync.
    assert_eq!(query_column::<String>(&mut app, log), ["t f t t t 0", "t t t t t 0"]);
    let stats = "SELECT concat_ws(' ', chatbot_id, provider, syncs, failed, success_rate, reused > 0, pending,
            abs(mean_ms - mean_chunking_ms - mean_embedding_ms - mean_storing_ms) < mean_ms, p95_ms >= p95_storing_ms)
        FROM chatbot_sync.stats";
    assert_eq!(query_column::<String>(&mut app, stats), ["1 local 2 0 1 t 0 t t"]);
    app.batch_execute("SET chatbot_sync.log_retention = 0").unwrap_err();
    let mut admin = db.other();
    admin.batch_execute("SET chatbot_sync.log_retention = 0").unwrap();
    admin.batch_execute(&embed_statement(2, "Not logged.")).unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.sync_log"), 2);
}

#[test]
fn a_failure_is_logged_and_counted() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'First.')").unwrap();
    mock.state().always = Some(REFUSED);
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'Second.'), (1, 'Third.')").unwrap();
    // Failures in the queue are logged as well.
    app.batch_execute("SELECT chatbot_enqueue_source(1, 'link', 1, 'Fourth.'); CALL chatbot_process_queue()").unwrap();
    let stats = "SELECT concat_ws(' ', syncs, failed, success_rate, errors, tokens) FROM chatbot_sync.stats";
    assert_eq!(query_column::<String>(&mut app, stats), [r#"1 3 0.25 {"28000": 3} 10"#]);
    assert_eq!(value(&mut app, "sync_errors_total", r#""sqlstate": "28000""#), 3.0);
    assert_eq!(value(&mut app, "syncs_total", "mock"), 1.0);
}

#[test]
fn old_log_rows_are_deleted_and_counters_never_decrease() {
    let (mut db, _mock) = database_with_mock();
    let mut app = db.session("app");
    for id in 1..=5 {
        app.batch_execute(&embed_statement(id, &format!("Text {id}."))).unwrap();
    }
    let counters = "SELECT concat_ws(' ', name, labels, round(value::numeric, 6)) FROM chatbot_metrics() WHERE type = 'counter' ORDER BY 1";
    let before = query_column::<String>(&mut app, counters);
    assert!(
        before.iter().any(|c| c.starts_with("chatbot_sync_tokens_total") && c.ends_with(" 50.000000")),
        "{before:?}"
    );
    let rows = "SELECT count(*) FROM chatbot_sync.sync_log";
    app.batch_execute("UPDATE chatbot_sync.sync_log SET logged_at = now() - source_id * interval '10 days'").unwrap();
    set_for_database(&mut db, "log_retention", "-1");
    db.session("app").batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_value::<i64>(&mut app, rows), 5);
    set_for_database(&mut db, "log_retention", "45d");
    db.session("app").batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; CALL chatbot_sync_all(); COMMIT").unwrap();
    assert_eq!(query_value::<i64>(&mut app, rows), 4);
    set_for_database(&mut db, "log_retention", "25d");
    db.session("app").batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_value::<i64>(&mut app, rows), 2);
    assert_eq!(query_column::<String>(&mut app, counters), before);
    app.batch_execute("SELECT chatbot_cleanup(1)").unwrap();
    assert_eq!(query_value::<i64>(&mut app, rows), 0);
    assert_eq!(query_column::<String>(&mut app, counters), before);
    // Rows of sync_total are merged into one.
    app.batch_execute("INSERT INTO chatbot_sync.sync_total (model_id, syncs, chunks, embedded, requests, inputs, tokens, chunking_ms, embedding_ms, storing_ms)
            SELECT 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM generate_series(1, 1000)").unwrap();
    app.batch_execute(&embed_statement(1, "Text.")).unwrap();
    let before = query_column::<String>(&mut app, counters);
    app.batch_execute("UPDATE chatbot_sync.sync_log SET logged_at = 'epoch'; CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.sync_total"), 1);
    assert_eq!(query_column::<String>(&mut app, counters), before);
}

#[test]
fn a_worker_deletes_old_log_rows() {
    let server = Server::start_preloaded(&["chatbot_sync.naptime=1s"]);
    let mut app = server.db.session("app");
    app.batch_execute(&embed_statement(1, "A text.")).unwrap();
    app.batch_execute("UPDATE chatbot_sync.sync_log SET logged_at = 'epoch'").unwrap();
    wait_until(&mut app, "SELECT count(*) = 0 FROM chatbot_sync.sync_log");
    assert_eq!(value(&mut app, "syncs_total", "local"), 1.0);
    assert_eq!(value(&mut app, "preloaded", ""), 1.0);
}

#[test]
fn progress_shows_pending_sources_and_estimates_the_end() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE docs (id bigserial PRIMARY KEY, chatbot_id bigint, content text);
         SELECT chatbot_attach('docs', 'document', mode => 'async')",
    )
    .unwrap();
    app.batch_execute(
        "BEGIN ISOLATION LEVEL REPEATABLE READ;
         INSERT INTO docs (chatbot_id, content) SELECT 1, 'Text ' || i FROM generate_series(1, 6) AS i; COMMIT",
    )
    .unwrap();
    let progress = "SELECT concat_ws(' ', sources, synced, pending, in_work, failed, per_second > 0, estimated_end > now()) FROM chatbot_sync.progress";
    // They have jobs but no sources yet, since the transaction was at REPEATABLE READ.
    assert_eq!(query_value::<String>(&mut app, progress), "6 0 6 0 0 f");
    let status = "SELECT count(*) FROM chatbot_sync.source_status WHERE status = 'pending'";
    assert_eq!(query_value::<i64>(&mut app, status), 6);
    app.batch_execute("CALL chatbot_process_queue(2)").unwrap();
    assert_eq!(query_value::<String>(&mut app, progress), "6 2 4 0 0 t t");
    app.batch_execute("UPDATE chatbot_sync.job SET leased_by = pg_backend_pid(), due_at = now() + interval '1 minute' WHERE source_id = 3").unwrap();
    mock.state().always = Some(REFUSED);
    app.batch_execute("CALL chatbot_process_queue(1)").unwrap();
    let waits = "SELECT concat_ws(' ', pending, oldest_pending <= now()) FROM chatbot_sync.stats";
    assert_eq!(query_value::<String>(&mut app, waits), "3 t");
    app.batch_execute("UPDATE chatbot_sync.job SET leased_by = 1, due_at = now() + interval '1 minute' WHERE due_at < 'infinity' AND source_id > 5").unwrap();
    assert_eq!(query_value::<String>(&mut app, progress), "6 2 2 1 1 t t");
}

#[test]
fn usage_of_rolled_back_syncs_is_counted() {
    let (mut server, mock) = (Server::start_preloaded(&["chatbot_sync.naptime=1h"]), Mock::new());
    use_mock(&mut server.db, &mock);
    let mut app = server.db.session("app");
    let lost = |app: &mut Client, code: &str| {
        [
            value(app, "rolled_back_syncs_total", &format!(r#""sqlstate": "{code}""#)),
            value(app, "rolled_back_tokens_total", &format!(r#""sqlstate": "{code}""#)),
        ]
    };
    app.batch_execute(&format!(
        "BEGIN; {}; SAVEPOINT s; {}; RELEASE s; COMMIT",
        embed_statement(1, "Kept."),
        embed_statement(2, "Kept too.")
    ))
    .unwrap();
    assert_eq!(lost(&mut app, "%"), [0.0, 0.0]);
    app.batch_execute(&format!("BEGIN; {}; ROLLBACK", embed_statement(3, "Not kept."))).unwrap();
    assert_eq!(lost(&mut app, "00000"), [1.0, 10.0]);
    app.batch_execute(&format!(
        "BEGIN; {}; SAVEPOINT s; {}; ROLLBACK TO s; COMMIT",
        embed_statement(4, "Kept."),
        embed_statement(5, "Not kept.")
    ))
    .unwrap();
    assert_eq!(lost(&mut app, "00000"), [2.0, 20.0]);
    app.batch_execute(&format!("BEGIN; SAVEPOINT s; {}; RELEASE s; ROLLBACK", embed_statement(6, "Not kept.")))
        .unwrap();
    assert_eq!(lost(&mut app, "00000"), [3.0, 30.0]);
    mock.state().always = Some(REFUSED);
    app.batch_execute(&embed_statement(7, "Refused.")).unwrap_err();
    assert_eq!(lost(&mut app, "28000"), [1.0, 0.0]);
    mock.state().always = Some(Fault::Hang);
    app.batch_execute("SET statement_timeout = 50").unwrap();
    app.batch_execute(&embed_statement(8, "Too late.")).unwrap_err();
    app.batch_execute("RESET statement_timeout").unwrap();
    assert_eq!(lost(&mut app, "other"), [1.0, 0.0]);
    assert_eq!(value(&mut app, "sync_errors_total", ""), 0.0);
    assert_eq!(value(&mut app, "syncs_total", ""), 3.0);
    // The counters are per database.
    server.db.other().batch_execute("CREATE DATABASE beside TEMPLATE template0").unwrap();
    let mut beside = server.db.in_database("beside");
    beside.admin.batch_execute(super::harness::EXTENSION).unwrap();
    assert_eq!(lost(&mut beside.admin, "%"), [0.0, 0.0]);
}

#[test]
fn log_lines_contain_no_texts_and_keys() {
    const TEXT: &str = "Confidential words";
    let settings = ["log_min_messages=debug1", "log_min_error_statement=panic", "chatbot_sync.naptime=1h"];
    let (mut server, mock) = (Server::start_preloaded(&settings), Mock::new());
    use_mock(&mut server.db, &mock);
    set_for_database(&mut server.db, "openai_compatible_api_key", "sk-confidential");
    server.db.admin.batch_execute("GRANT CREATE ON SCHEMA public TO app").unwrap();
    let mut app = server.db.session("app");
    app.batch_execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, chatbot_id bigint, content text);
         CREATE TABLE links (id bigint PRIMARY KEY, chatbot_id bigint, content text);
         SELECT chatbot_attach('docs', 'document'); SELECT chatbot_attach('links', 'link', mode => 'async')",
    )
    .unwrap();
    let insert = |app: &mut Client, table: &str, id: i64| {
        app.execute(&format!("INSERT INTO {table} VALUES ($1, 7, $2)"), &[&id, &TEXT]).unwrap();
    };
    insert(&mut app, "docs", 1);
    insert(&mut app, "links", 1);
    wait_until(&mut app, "SELECT count(*) = 2 FROM chatbot_sync.embedding");
    // The provider repeats the text and the key in its message.
    mock.state().always =
        Some(Fault::Status(400, "", r#"{"error":{"message":"not Confidential words with sk-confidential"}}"#));
    insert(&mut app, "docs", 2);
    insert(&mut app, "links", 2);
    wait_until(&mut app, "SELECT count(*) = 2 FROM chatbot_sync.source WHERE status = 'error'");
    app.execute("SELECT chatbot_embed_source(7, 'document', 3, $1)", &[&TEXT]).unwrap_err();
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once("chatbot_sync: event=")?.1)).collect();
    for source in ["source_type=document source_id=1", "source_type=link source_id=1"] {
        for event in ["started", "chunked", "stored"] {
            let line = format!("{event} chatbot_id=7 {source} ");
            assert!(lines.iter().any(|l| l.starts_with(&line)), "{line}: {lines:#?}");
        }
    }
    let answers = lines.iter().filter(|l| l.starts_with("answered provider=openai_compatible model=mock inputs=1 ms="));
    assert!(answers.clone().any(|l| l.ends_with(" outcome=ok")), "{lines:#?}");
    assert!(answers.clone().any(|l| l.ends_with(" outcome=Refused http_status=400")), "{lines:#?}");
    for source in ["source_type=document source_id=2", "source_type=link source_id=2"] {
        let line = format!(
            "LOG:  chatbot_sync: event=failed sqlstate=HV00L sources=1 chatbot_id=7 {source} provider=openai_compatible model=mock http_status=400"
        );
        assert!(log.contains(&line), "{line}: {lines:#?}");
    }
    let said = lines.join("\n").to_lowercase();
    assert!(!said.contains("confidential"), "{said}");
}

#[test]
fn monitoring_roles_see_metrics_and_no_texts() {
    let mut db = Db::new();
    db.admin.batch_execute(&embed_statement(1, "A text.")).unwrap();
    db.admin.batch_execute("GRANT pg_monitor TO stranger").unwrap();
    let mut watcher = db.session("stranger");
    let mut sees = |from: &str| watcher.batch_execute(&format!("SELECT * FROM {from}")).is_ok();
    for from in ["source_status", "progress", "stats", "host_table", "model", "sync_log", "sync_total"] {
        assert!(sees(&format!("chatbot_sync.{from}")), "{from}");
    }
    assert!(sees("chatbot_metrics()") && sees("chatbot_doctor()"));
    for from in ["source", "embedding", "job", "session", "message"] {
        assert!(!sees(&format!("chatbot_sync.{from}")), "{from}");
    }
    assert!(!sees("chatbot_search(1, 'A text.')") && !sees("chatbot_verify()"));
    db.admin.batch_execute("REVOKE pg_monitor FROM stranger").unwrap();
}

#[test]
fn reembedding_is_logged() {
    let (mut db, _mock) = database_with_mock();
    let mut app = db.session("app");
    app.batch_execute(&embed_statement(1, &prose(30))).unwrap();
    app.batch_execute(&embed_statement(2, "A text.")).unwrap();
    db.admin
        .batch_execute("SELECT chatbot_set_model('openai_compatible', 'other', 8); CALL chatbot_reembed()")
        .unwrap();
    let stats =
        "SELECT concat_ws(' ', syncs, embedded = (SELECT sum(chunk_count) FROM chatbot_sync.source), inputs = embedded,
            tokens = 10 * inputs, requests) FROM chatbot_sync.stats WHERE model = 'other'";
    assert_eq!(query_column::<String>(&mut app, stats), ["2 t t t 1"]);
}
