//! A long document with a call of its own:
//! - no text is sent twice, although its first request leaves before the rest is cut
//! - its first chunks are stored while the provider makes the vectors of the last ones
//! - a fault of the last request leaves nothing of the new chunks, and the old ones as they were

use super::harness::{database_with_mock, embed_statement, expect_error, pause, prose, query_value};
use super::mock::Fault;

const SETTINGS: &str = "SET chatbot_sync.batch_size = 10; SET chatbot_sync.max_chunks = 2000;
    SET chatbot_sync.max_parallel_requests = 64; SET chatbot_sync.sync_timeout = '1h'";
/// Sentences of a document of more than 200 chunks, the last of which has [`LAST`].
const SENTENCES: usize = 2400;
const LAST: &str = "Sentence 2399 of";

#[test]
fn no_text_is_sent_twice() {
    let (db, mock) = database_with_mock();
    let mut app = db.session("app");
    app.batch_execute(SETTINGS).unwrap();
    app.batch_execute(&embed_statement(1, &prose(SENTENCES))).unwrap();
    let chunks: i64 = query_value(&mut app, "SELECT count(*) FROM chatbot_sync.embedding");
    assert!(chunks > 200, "{chunks} chunks");
    let chunks = usize::try_from(chunks).unwrap();
    assert_eq!(mock.asked(), (chunks.div_ceil(10), chunks));
    // Each chunk has the vector of its own text.
    let sql = "SELECT count(*) FROM chatbot_sync.embedding e, chatbot_search(1, (
            SELECT content FROM chatbot_sync.embedding ORDER BY chunk_index LIMIT 1 OFFSET 150
        ), 1, mode => 'vector') AS found
        WHERE e.chunk_index = 150 AND e.content = found.content";
    assert_eq!(query_value::<i64>(&mut app, sql), 1);
}

#[test]
fn first_chunks_are_stored_while_the_last_ones_are_embedded() {
    let (mut db, mock) = database_with_mock();
    (mock.state().poison, mock.state().poison_fault) = (Some(LAST), Some(Fault::Hang));
    let mut app = db.session("app");
    app.batch_execute(SETTINGS).unwrap();
    let pid: i32 = query_value(&mut app, "SELECT pg_backend_pid()");
    let call = std::thread::spawn(move || expect_error(&mut app, &embed_statement(1, &prose(SENTENCES))).code);
    let mut watcher = db.other();
    while query_value::<i64>(&mut watcher, "SELECT pg_relation_size('chatbot_sync.embedding')") == 0 {
        pause();
    }
    watcher.batch_execute(&format!("SELECT pg_cancel_backend({pid})")).unwrap();
    assert_eq!(call.join().unwrap(), "57014");
    assert_eq!(query_value::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_sync.source"), 0);
    assert_eq!(query_value::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_sync.embedding"), 0);
}

#[test]
fn a_fault_of_the_last_request_leaves_what_was_stored_before() {
    let (mut db, mock) = database_with_mock();
    let mut app = db.session("app");
    app.batch_execute(SETTINGS).unwrap();
    app.batch_execute(&embed_statement(1, "The document as it was before.")).unwrap();
    mock.state().poison = Some(LAST);
    assert_eq!(expect_error(&mut app, &embed_statement(1, &prose(SENTENCES))).code, "HV00L");
    let stored = "SELECT string_agg(content, '|') FROM chatbot_sync.embedding";
    assert_eq!(query_value::<String>(&mut db.admin, stored), "The document as it was before.");
}
