//! Requests over HTTP from a backend: what is sent, in parallel and over kept connections, and that each text gets
//! its own vector.

use super::harness::{database_with_mock, embed_statement, prose, query_column, query_value};
use super::mock::{Fault, vector};

#[test]
fn each_text_gets_its_own_vector() {
    let (db, mock) = database_with_mock();
    let mut app = db.session("app");
    app.batch_execute("SET chatbot_sync.batch_size = 3; SET chatbot_sync.max_parallel_requests = 5").unwrap();
    app.batch_execute(&embed_statement(1, &prose(200))).unwrap();
    let rows = app.query("SELECT content, embedding::text FROM chatbot_sync.embedding", &[]).unwrap();
    assert!(rows.len() > 15);
    for row in rows {
        let stored: Vec<f32> = serde_json::from_str(row.get(1)).unwrap();
        assert!(stored.iter().zip(vector(row.get(0))).all(|(s, v)| (s - v).abs() < 1e-6));
    }
    assert!(mock.state().requests.iter().all(|(_, body)| body["input"].as_array().unwrap().len() <= 3));
}

#[test]
fn base64_vectors_are_stored_exactly() {
    let (mut db, mock) = database_with_mock();
    let base64 =
        r#"SELECT chatbot_set_model('openai_compatible', 'mock', 8, options => '{"encoding_format": "base64"}')"#;
    db.admin.batch_execute(base64).unwrap();
    let mut app = db.session("app");
    app.batch_execute(&embed_statement(1, &prose(100))).unwrap();
    assert_eq!(mock.state().requests.last().unwrap().1["encoding_format"], "base64");
    let rows = app.query("SELECT content, embedding::real[] FROM chatbot_sync.embedding", &[]).unwrap();
    assert!(rows.len() > 5);
    for row in rows {
        let bits = |vector: Vec<f32>| vector.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
        assert_eq!(bits(row.get(1)), bits(vector(row.get(0))));
    }
}

#[test]
fn compressed_answers_are_requested_and_understood() {
    let (db, mock) = database_with_mock();
    let mut app = db.session("app");
    mock.state().faults.push_back(Fault::Gzip);
    app.batch_execute(&embed_statement(1, "A text.")).unwrap();
    assert!(mock.state().requests[0].0.to_lowercase().contains("accept-encoding: gzip\r\n"));
    assert_eq!(mock.state().requests.len(), 1);
    // The connection is used again.
    app.batch_execute(&embed_statement(1, "Another text.")).unwrap();
    assert_eq!(mock.state().connections, 1);
}

#[test]
fn requests_are_sent_in_parallel() {
    let (db, mock) = database_with_mock();
    let mut app = db.session("app");
    // The mock answers no request before it has sixteen.
    mock.state().gather = 16;
    app.batch_execute("SET chatbot_sync.batch_size = 1; SET chatbot_sync.max_parallel_requests = 16").unwrap();
    app.batch_execute(&embed_statement(1, &prose(160))).unwrap();
    assert!(mock.state().connections <= 16);
}

#[test]
fn connections_are_kept() {
    let (db, mock) = database_with_mock();
    let mut app = db.session("app");
    let before = mock.state().connections;
    for id in 1..10 {
        app.batch_execute(&embed_statement(id, "A short text.")).unwrap();
    }
    app.batch_execute("SELECT chatbot_search(1, 'short')").unwrap();
    assert_eq!(mock.state().connections - before, 1);
    assert_eq!(mock.state().requests.len(), 10);
}

#[test]
fn queries_are_embedded_as_queries() {
    let (mut db, mock) = database_with_mock();
    let sql = "SELECT chatbot_set_model('openai_compatible', 'mock', 8, 'passage: ', 'query: ')";
    db.admin.batch_execute(sql).unwrap();
    let mut app = db.session("app");
    app.batch_execute(&embed_statement(1, "A text.")).unwrap();
    let mut tx = app.build_transaction().read_only(true).start().unwrap();
    assert_eq!(tx.query("SELECT * FROM chatbot_search(1, 'A question')", &[]).unwrap().len(), 1);
    tx.query("SELECT chatbot_embed('A document'), chatbot_embed('Another', 'query')", &[]).unwrap();
    assert_eq!(mock.texts(), ["passage: A text.", "query: A question", "passage: A document", "query: Another"]);
    drop(tx);
    assert_eq!(query_value::<String>(&mut app, "SELECT content FROM chatbot_sync.embedding"), "A text.");
}

#[test]
fn usage_is_counted() {
    let (db, mock) = database_with_mock();
    let mut app = db.session("app");
    mock.state().faults.push_back(Fault::Status(500, "", ""));
    app.batch_execute("SET chatbot_sync.batch_size = 2").unwrap();
    app.batch_execute(&embed_statement(1, &prose(30))).unwrap();
    let chunks: i32 = query_value(&mut app, "SELECT chunk_count FROM chatbot_sync.source");
    let requests = mock.state().requests.len();
    let inputs = mock.texts().len();
    let log = "SELECT chunks || ' ' || embedded || ' ' || requests || ' ' || inputs || ' ' || tokens || ' ' || (total_ms >= embedding_ms)
        FROM chatbot_sync.sync_log";
    let expected = format!("{chunks} {chunks} {requests} {inputs} {} true", chunks * 10);
    assert_eq!(query_column::<String>(&mut app, log), [expected]);
    app.batch_execute(&embed_statement(1, &prose(30))).unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.sync_log"), 1);
}
