//! Figures of models: how long an estimate says that a sync takes, when a sync will be done, and what words count for.

use postgres::Client;

use super::harness::{Db, application_with_mock, embed_statement, prose, query_column, query_value, wait_until};
use super::local_models::{choose, with_models};
use super::server::Server;

/// A table of 30 documents that are no sources yet.
const DOCUMENTS: &str = "CREATE TABLE docs (id bigint PRIMARY KEY, chatbot_id bigint, content text);
    INSERT INTO docs SELECT i, 1, 'Document ' || i || ' is about refunds.' FROM generate_series(1, 30) AS i;
    SELECT chatbot_attach('docs', 'document')";
const SECONDS: &str = "SELECT seconds FROM chatbot_estimate()";
/// The figure of the model that answers.
const FIGURE: &str = "SELECT max(bytes_per_second)::double precision FROM chatbot_sync.model WHERE active";

fn database_with_documents() -> (Db, Client) {
    let mut db = Db::new();
    db.admin.batch_execute("GRANT CREATE ON SCHEMA public TO app").unwrap();
    let mut app = db.session("app");
    app.batch_execute(DOCUMENTS).unwrap();
    (db, app)
}

fn set_figure(db: &mut Db, bytes_per_second: f64) {
    db.admin.execute("UPDATE chatbot_sync.model SET bytes_per_second = $1::float8", &[&bytes_per_second]).unwrap();
}

#[test]
fn seconds_are_null_until_the_speed_was_measured() {
    let (_db, mut app) = database_with_documents();
    assert_eq!(query_value::<Option<f64>>(&mut app, SECONDS), None);
    app.batch_execute("CALL chatbot_sync_all(batch => 20)").unwrap();
    assert!(query_value::<Option<f64>>(&mut app, FIGURE).is_some_and(|figure| figure > 0.0));
    assert_eq!(query_value::<Option<f64>>(&mut app, SECONDS), Some(0.0), "nothing is left to embed");
    app.batch_execute("SELECT chatbot_detach('docs'); INSERT INTO docs VALUES (31, 1, 'Another document.')").unwrap();
    app.batch_execute("SELECT chatbot_attach('docs', 'document')").unwrap();
    assert!(query_value::<Option<f64>>(&mut app, SECONDS).is_some_and(|seconds| seconds > 0.0));
}

#[test]
fn seconds_are_those_of_a_slow_model_and_of_a_fast_one() {
    let (mut db, mut app) = database_with_documents();
    let bytes: i64 = query_value(&mut app, "SELECT sum(octet_length(content)) FROM docs");
    app.batch_execute("SELECT chatbot_embed_source(2, 'document', 1, 'A text.')").unwrap();
    for chunks_per_second in [15.0, 10_000.0] {
        set_figure(&mut db, chunks_per_second * 1000.0);
        let seconds: f64 = query_value(&mut app, SECONDS);
        let expected = bytes as f64 / (chunks_per_second * 1000.0);
        assert!((seconds - expected).abs() <= 0.0005, "{seconds} is not {expected}");
    }
}

#[test]
fn a_transformer_is_measured_when_it_is_chosen() {
    let (mut db, _models) = with_models(&["bert-mean"]);
    choose(&mut db.session("boss"), "bert-mean");
    assert!(query_value::<Option<f64>>(&mut db.admin, FIGURE).is_some_and(|figure| figure > 0.0));
    set_figure(&mut db, 1.0);
    choose(&mut db.session("boss"), "bert-mean");
    assert_eq!(query_value::<Option<f64>>(&mut db.admin, FIGURE), Some(1.0), "what syncs measured stays");
}

#[test]
fn reembed_measures_the_model_that_is_to_follow() {
    let (mut db, _mock, mut app) = application_with_mock();
    for id in 1..=30 {
        app.batch_execute(&embed_statement(id, &format!("Document {id}."))).unwrap();
    }
    let (mut boss, told) = db.session_with_notices("boss");
    boss.batch_execute("SELECT chatbot_set_model('local', 'minilm-static-256')").unwrap();
    assert_eq!(query_value::<Option<f64>>(&mut app, SECONDS), None);
    boss.batch_execute("CALL chatbot_reembed(25)").unwrap();
    assert!(query_value::<Option<f64>>(&mut db.admin, FIGURE).is_some_and(|figure| figure > 0.0));
    let told = told.lock().unwrap();
    assert!(told.iter().any(|line| line.starts_with("NOTICE: 25 of 30 sources, about ")), "{told:?}");
    assert!(told.contains(&"NOTICE: 30 of 30 sources, about 0 s to go".to_owned()), "{told:?}");
}

#[test]
fn the_queue_measures_in_sessions_and_in_workers() {
    let enqueue =
        "SELECT count(chatbot_enqueue_source(1, 'document', i, 'Document ' || i)) FROM generate_series(1, 40) AS i";
    let mut app = Db::new().session("app");
    query_value::<i64>(&mut app, enqueue);
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert!(query_value::<Option<f64>>(&mut app, FIGURE).is_some());

    let server = Server::start_preloaded(&["chatbot_sync.naptime=1"]);
    let mut app = server.db.session("app");
    query_value::<i64>(&mut app, enqueue);
    wait_until(&mut app, &format!("SELECT ({FIGURE}) IS NOT NULL"));
}

#[test]
fn a_statement_of_the_application_writes_no_figure() {
    let (mut db, mut app) = database_with_documents();
    app.batch_execute("SELECT chatbot_embed_source(2, 'document', 1, 'A text.')").unwrap();
    let row = "SELECT xmin::text || ctid FROM chatbot_sync.model";
    let before: String = query_value(&mut db.admin, row);
    app.execute("SELECT chatbot_embed_source(2, 'document', 2, $1)", &[&prose(900)]).unwrap();
    app.batch_execute("BEGIN; CALL chatbot_sync_all(); COMMIT").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source WHERE status = 'synced'"), 32);
    assert_eq!(query_value::<String>(&mut db.admin, row), before);
}

#[test]
fn figures_raise_no_conflict_at_repeatable_read() {
    let (mut db, mut app) = database_with_documents();
    app.batch_execute("SELECT chatbot_embed_source(2, 'document', 1, 'A text.')").unwrap();
    let mut boss = db.session("boss");
    for session in [&mut app, &mut boss] {
        session.batch_execute("SET default_transaction_isolation = 'repeatable read'").unwrap();
    }
    // A transaction with an older snapshot chooses a model whose row was written since.
    boss.batch_execute("BEGIN; SELECT count(*) FROM chatbot_sync.model").unwrap();
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert!(query_value::<Option<f64>>(&mut app, FIGURE).is_some());
    boss.batch_execute("SELECT chatbot_set_model('local', 'minilm-static-256'); COMMIT").unwrap();
    boss.batch_execute("SELECT chatbot_set_model('local', 'multilingual-static-256')").unwrap();
    // A row that another session has locked is left to a later sample.
    let mut app = db.session("app");
    app.batch_execute("SET default_transaction_isolation = 'repeatable read'").unwrap();
    db.admin.batch_execute("UPDATE chatbot_sync.model SET bytes_per_second = NULL").unwrap();
    db.admin.batch_execute("BEGIN; SELECT FROM chatbot_sync.model FOR UPDATE").unwrap();
    let more = "SELECT count(chatbot_enqueue_source(1, 'link', i, 'Link ' || i)) FROM generate_series(1, 40) AS i";
    query_value::<i64>(&mut app, more);
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    db.admin.batch_execute("COMMIT").unwrap();
    assert_eq!(query_value::<Option<f64>>(&mut app, FIGURE), None);
    query_value::<i64>(&mut app, &more.replace("'Link '", "'Another link '"));
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert!(query_value::<Option<f64>>(&mut app, FIGURE).is_some());
}

#[test]
fn the_doctor_says_what_a_model_gives_and_takes() {
    let (mut db, _models) = with_models(&["bert-mean"]);
    choose(&mut db.session("boss"), "bert-mean");
    let sql = "SELECT detail FROM chatbot_doctor() WHERE check_name = 'local model' AND status = 'ok'";
    let detail: String = query_value(&mut db.admin, sql);
    for part in
        ["bert-mean is imported", "MB that all sessions share", "MB for a statement", " thread", "chunks a second"]
    {
        assert!(detail.contains(part), "{detail}");
    }
}

/// Logs syncs of so many sources, which took so many seconds together and were stored so many seconds ago.
fn log_batch(admin: &mut Client, sources: i32, seconds: f64, ago: f64) {
    let sql = "INSERT INTO chatbot_sync.sync_log (chatbot_id, logged_at, source_type, source_id, model_id, chunks, embedded, requests,
            inputs, tokens, chunking_ms, embedding_ms, storing_ms, total_ms)
        SELECT 1, now() - make_interval(secs => $3), 'document', i, m.id, 100, 100, 0, 0, 0, 0, $2, 0, $2
        FROM generate_series(1, $1) AS i, chatbot_sync.model AS m WHERE m.active";
    admin.execute(sql, &[&sources, &(seconds * 1000.0), &ago]).unwrap();
}

#[test]
fn progress_is_right_where_a_batch_takes_longer_than_a_minute() {
    let mut db = Db::new();
    let mut app = db.session("app");
    app.batch_execute(&embed_statement(1, "A text.")).unwrap();
    db.admin.batch_execute("DELETE FROM chatbot_sync.sync_log").unwrap();
    let rate = "SELECT per_second FROM chatbot_sync.progress";
    // Eight documents of 100 chunks at eight chunks a second, the first of them just stored.
    log_batch(&mut db.admin, 8, 100.0, 0.0);
    assert_eq!(query_value::<f64>(&mut app, rate), 0.08);
    // The next batch is at work, and the one before is older than a minute.
    db.admin.batch_execute("DELETE FROM chatbot_sync.sync_log").unwrap();
    log_batch(&mut db.admin, 8, 100.0, 190.0);
    log_batch(&mut db.admin, 8, 100.0, 90.0);
    assert_eq!(query_value::<f64>(&mut app, rate), 0.08);
    // Fast ones are counted over the last minute, and what is long past is no rate.
    db.admin.batch_execute("DELETE FROM chatbot_sync.sync_log").unwrap();
    log_batch(&mut db.admin, 600, 0.2, 59.0);
    log_batch(&mut db.admin, 600, 0.2, 1.0);
    let fast: f64 = query_value(&mut app, rate);
    assert!((19.0..21.0).contains(&fast), "{fast}");
    db.admin.batch_execute("DELETE FROM chatbot_sync.sync_log").unwrap();
    log_batch(&mut db.admin, 8, 100.0, 900.0);
    assert_eq!(query_value::<f64>(&mut app, rate), 0.0);
}

#[test]
fn progress_does_not_wait_for_sources_that_are_not_enabled() {
    let (_db, mut app) = database_with_documents();
    app.batch_execute("SELECT chatbot_detach('docs', delete_embeddings => true)").unwrap();
    app.batch_execute("SELECT chatbot_attach('docs', 'document', condition => 'id > 10'); CALL chatbot_sync_all()")
        .unwrap();
    let progress = "SELECT concat_ws(' ', sources, synced, pending, estimated_end IS NULL) FROM chatbot_sync.progress";
    assert_eq!(query_value::<String>(&mut app, progress), "30 20 0 t");
}

#[test]
fn words_count_for_as_much_as_is_stored_with_the_model() {
    let mut db = Db::new();
    let mut app = db.session("app");
    for (id, text) in [(1, "Refunds are paid within ten days."), (2, "The office has a tea kitchen.")] {
        app.batch_execute(&embed_statement(id, text)).unwrap();
    }
    let weight = "SELECT text_weight::double precision FROM chatbot_sync.model WHERE active";
    assert!((query_value::<f64>(&mut app, weight) - 0.4).abs() < 1e-6);
    let first = "SELECT ARRAY[score - text_weight - (1 - text_weight) * similarity, similarity]
        FROM chatbot_search(1, 'when are refunds paid?', 1), chatbot_sync.model WHERE active";
    for weight in ["0.4", "0.1", "0"] {
        db.admin.batch_execute(&format!("UPDATE chatbot_sync.model SET text_weight = {weight}")).unwrap();
        // The best chunk by words has their full weight.
        let found: Vec<f64> = query_value(&mut app, first);
        assert!(found[0].abs() < 1e-6 && found[1] < 1.0, "{weight}: {found:?}");
    }
    let refused = db.admin.batch_execute("UPDATE chatbot_sync.model SET text_weight = 1.5").unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("23514"));
}

#[test]
fn a_transformer_has_the_weight_that_was_measured_for_it() {
    let (mut db, _models) = with_models(&["bert-mean", "static-plain"]);
    let mut boss = db.session("boss");
    choose(&mut boss, "bert-mean");
    choose(&mut boss, "static-plain");
    let weights = "SELECT model || ' ' || (text_weight < 0.4::real) FROM chatbot_sync.model ORDER BY id";
    assert_eq!(query_column::<String>(&mut db.admin, weights), ["bert-mean true", "static-plain false"]);
    boss.batch_execute("SELECT chatbot_set_model('local', 'minilm-static-256')").unwrap();
    assert!(query_value::<bool>(&mut db.admin, "SELECT text_weight = 0.4::real FROM chatbot_sync.model WHERE active"));
}
