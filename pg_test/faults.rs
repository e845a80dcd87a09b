//! Faults of a provider: which error a statement raises, that it changes nothing, which requests are sent again, and
//! that only the text that causes a fault fails.

use super::harness::{
    DbError, attached_documents, database_with_mock, embed_statement, expect_error, prose, query_column, query_value,
    set_for_database, snapshot_of_all_tables,
};
use super::mock::{Fault, Mock};

/// Eight numbers in base64, the last of which is NaN.
const NAN: &str = "AACAPwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAwH8=";

/// Each fault, with its SQLSTATE and a part of its detail.
const FAULTS: [(Fault, &str, &str); 29] = [
    (Fault::Status(400, "", r#"{"error":{"message":"too long"}}"#), "HV00L", "HTTP status 400: too long"),
    (Fault::Status(401, "", r#"{"error":{"message":"no such key"}}"#), "28000", "HTTP status 401: no such key"),
    (Fault::Status(403, "", "{}"), "28000", "HTTP status 403"),
    (Fault::Status(404, "", "{}"), "HV00J", "HTTP status 404"),
    (Fault::Status(301, "location: http://127.0.0.1:1/\r\n", ""), "HV024", "HTTP status 301"),
    (Fault::Status(402, "", "{}"), "53400", "HTTP status 402"),
    (Fault::Status(429, "retry-after: 3600\r\n", r#"{"error":{"message":"slow down"}}"#), "53000", "slow down"),
    (Fault::Status(500, "", "oops\n"), "HV000", "HTTP status 500: oops"),
    (Fault::Status(503, "", ""), "HV000", "HTTP status 503"),
    (Fault::Cut, "HV00N", ""),
    (Fault::Close, "HV00N", ""),
    (Fault::Status(200, "", ""), "HV00M", "it ends in the middle"),
    (Fault::Status(200, "", r#"{"data":[]}"#), "HV00M", "0 vectors for 1 texts"),
    (Fault::Count, "HV00M", "0 vectors for 1 texts"),
    (Fault::Extra, "HV00M", "2 vectors for 1 texts"),
    (Fault::Beyond, "HV00M", "a vector for text 1 of 1"),
    (Fault::Dimensions, "HV00M", "a vector of 3 dimensions, expected 8"),
    (Fault::NotFinite, "HV00M", ""),
    (Fault::Status(200, "", r#"{"error":{"message":"bad key","code":"invalid_api_key"}}"#), "28000", "bad key"),
    (Fault::Vector("!AAA"), "HV00M", "a vector that is no base64"),
    (Fault::Vector("AAAA"), "HV00M", "a vector whose base64 is no float4s"),
    (Fault::Vector(""), "HV00M", "a vector of 0 dimensions, expected 8"),
    (Fault::Vector(NAN), "HV00M", "a vector with a number that is not finite"),
    (Fault::NotJson, "HV00M", "it is no JSON"),
    (Fault::Large, "54000", ""),
    (Fault::Bomb, "54000", ""),
    (Fault::Status(200, "content-encoding: gzip\r\n", "{}"), "HV00N", ""),
    (Fault::Hang, "58030", "chatbot_sync.sync_timeout is over"),
    (Fault::Drip, "58030", "chatbot_sync.sync_timeout is over"),
];

#[test]
fn a_fault_changes_nothing_and_the_session_goes_on() {
    let (mut db, mock) = database_with_mock();
    set_for_database(&mut db, "max_response_bytes", "100kB");
    let base64 =
        r#"SELECT chatbot_set_model('openai_compatible', 'mock', 8, options => '{"encoding_format": "base64"}')"#;
    db.admin.batch_execute(base64).unwrap();
    let mut app = db.session("app");
    let another = embed_statement(1, &prose(12));
    app.batch_execute(&embed_statement(1, "The text that was there before.")).unwrap();
    app.batch_execute("SET chatbot_sync.max_attempts = 2").unwrap();
    let before = snapshot_of_all_tables(&mut app);
    for (fault, code, detail) in FAULTS {
        let timeout = if code == "58030" { "300ms" } else { "60s" };
        app.batch_execute(&format!("SET chatbot_sync.sync_timeout = '{timeout}'")).unwrap();
        mock.state().always = Some(fault);
        let failure = expect_error(&mut app, &another);
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(failure.detail.contains(detail), "{failure:?}");
        assert!(failure.detail.contains("Model mock") && !failure.hint.is_empty(), "{failure:?}");
        mock.state().always = None;
        assert_eq!(snapshot_of_all_tables(&mut app), before);
        // The wait that the provider asked for would delay the next fault's requests.
        clear_throttling(&mut db.admin);
        assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(1, 'text')"), 1);
    }
    app.batch_execute(&another).unwrap();
    assert_ne!(snapshot_of_all_tables(&mut app), before);
}

fn clear_throttling(admin: &mut postgres::Client) {
    let sql = "SELECT current_setting('data_directory') || '/pg_stat_tmp/chatbot_sync.' || oid || '.openai_compatible'
        FROM pg_database WHERE datname = current_database()";
    let _ = std::fs::remove_file(query_value::<String>(admin, sql));
}

#[test]
fn a_failed_request_is_sent_again() {
    let (db, mock) = database_with_mock();
    let mut app = db.session("app");
    for fault in [Fault::Status(500, "", ""), Fault::Close, Fault::Count, Fault::TwoOfOne, Fault::Cut] {
        mock.state().faults.push_back(fault);
        let requests = mock.state().requests.len();
        app.batch_execute(&embed_statement(1, &prose(30).replace("tells", &format!("tells{requests}")))).unwrap();
        assert_eq!(mock.state().requests.len() - requests, 2);
    }
}

#[test]
fn a_throttled_request_is_sent_again_after_the_wait() {
    let (db, mock) = database_with_mock();
    let (mut app, mut other) = (db.session("app"), db.session("app"));
    app.batch_execute("SET chatbot_sync.max_attempts = 1").unwrap();
    for _ in 0..3 {
        mock.state().faults.push_back(Fault::Status(429, "retry-after: 0.1\r\n", ""));
    }
    app.batch_execute(&embed_statement(1, "A text.")).unwrap();
    assert_eq!(mock.state().requests.len(), 4);
    // A wait that one session was asked for applies to all sessions, and they fail without a request.
    mock.state().faults.push_back(Fault::Status(429, "retry-after: 1000\r\n", ""));
    assert_eq!(expect_error(&mut app, &embed_statement(1, "Another text.")).code, "53000");
    assert_eq!(expect_error(&mut other, &embed_statement(2, "A second text.")).code, "53000");
    assert_eq!(mock.state().requests.len(), 5);
}

#[test]
fn throttling_until_the_timeout_is_reported_as_throttling() {
    let (mut db, mock) = database_with_mock();
    set_for_database(&mut db, "sync_timeout", "500ms");
    let mut app = db.session("app");
    mock.state().faults.extend([Fault::Status(429, "retry-after: 0.1\r\n", ""), Fault::Hang]);
    assert_eq!(expect_error(&mut app, &embed_statement(1, "A text.")).code, "53000");
    assert_eq!(mock.state().requests.len(), 2);
}

#[test]
fn retry_after_as_a_date_is_honoured() {
    let (db, mock) = database_with_mock();
    let mut app = db.session("app");
    mock.state().faults.push_back(Fault::Status(429, "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", ""));
    app.batch_execute(&embed_statement(1, "A text.")).unwrap();
    assert_eq!(mock.state().requests.len(), 2);
    mock.state().faults.push_back(Fault::Status(429, "retry-after: Fri, 31 Dec 2100 23:59:59 GMT\r\n", ""));
    assert_eq!(expect_error(&mut app, &embed_statement(1, "Another text.")).code, "53000");
    assert_eq!(mock.state().requests.len(), 3);
}

#[test]
fn an_endless_retry_after_ends_with_the_timeout() {
    let (mut db, mock) = database_with_mock();
    let mut app = db.session("app");
    for fault in [
        Fault::Status(429, "retry-after: 10000000000000000000\r\n", ""),
        Fault::Status(429, "retry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\n", ""),
        Fault::Status(429, "", r#"{"error":{"details":[{"retryDelay":"10000000000000000000s"}]}}"#),
    ] {
        mock.state().faults.push_back(fault);
        assert_eq!(expect_error(&mut app, &embed_statement(1, "A text.")).code, "53000");
        clear_throttling(&mut db.admin);
    }
    mock.state().faults.push_back(Fault::Status(503, "retry-after: 10000000000000000000\r\n", ""));
    assert_eq!(expect_error(&mut app, &embed_statement(1, "A text.")).code, "HV000");
    app.batch_execute(&embed_statement(1, "A text.")).unwrap();
}

#[test]
fn the_refused_chunk_is_named() {
    let (db, mock) = database_with_mock();
    let mut app = db.session("app");
    let text = prose(200).replace("Sentence 100 ", "Sentence 100 poison ");
    let chunk: i32 = app
        .query_one("SELECT min(chunk_index) FROM chatbot_chunk($1) WHERE content LIKE '%poison%'", &[&text])
        .unwrap()
        .get(0);
    mock.state().poison = Some("poison");
    let failure = expect_error(&mut app, &embed_statement(7, &text));
    let expected = DbError {
        code: "HV00L".to_owned(),
        message: format!("provider openai_compatible refuses chunk {chunk} of document 7 of chatbot 1"),
        detail: "Model mock, HTTP status 400: this text will not do".to_owned(),
        hint: failure.hint.clone(),
    };
    // If the text is in two overlapping chunks, either of them may be found first.
    let second = expected.message.replace(&format!("chunk {chunk}"), &format!("chunk {}", chunk + 1));
    assert!(failure == expected || failure.message == second, "{failure:?}");
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 0);
}

#[test]
fn a_missing_server_fails_at_once() {
    let (mut db, _mock) = database_with_mock();
    set_for_database(&mut db, "openai_compatible_url", "http://127.0.0.1:1/v1");
    let mut app = db.session("app");
    let failure = expect_error(&mut app, &embed_statement(1, "A text."));
    assert_eq!(
        (failure.code.as_str(), failure.message.as_str()),
        ("HV00N", "provider openai_compatible cannot be reached")
    );
}

/// Lets every request with a poisoned text fail with a fault.
fn fail_poisoned_requests(mock: &Mock, fault: Fault) {
    let mut state = mock.state();
    state.poison = Some("poison");
    state.poison_fault = Some(fault);
    state.requests.clear();
}

#[test]
fn a_fault_of_one_row_leaves_the_others_synced_in_every_path() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute("SET chatbot_sync.max_attempts = 1").unwrap();
    let failed = "SELECT source_id FROM chatbot_sync.source WHERE status <> 'synced'";
    for fault in [Fault::Status(500, "", "oops"), Fault::Close, Fault::Count, Fault::NotJson] {
        fail_poisoned_requests(&mock, fault);
        let insert = "INSERT INTO documents (chatbot_id, title, content)
            SELECT 1, 'T', CASE i WHEN 17 THEN 'A poison.' ELSE 'Text ' || i END FROM generate_series(1, 50) AS i";
        app.batch_execute(insert).unwrap();
        let poisoned = query_column::<i64>(&mut app, "SELECT id::bigint FROM documents WHERE content LIKE '%poison%'");
        assert_eq!(query_column::<i64>(&mut app, failed), poisoned);
        assert!(mock.asked().0 <= 1 + 3 * 6, "{}", mock.asked().0);
        let error: String = query_value(&mut app, "SELECT error FROM chatbot_sync.source WHERE status <> 'synced'");
        assert!(error.contains(&format!("chunk 0 of document {} of chatbot 1", poisoned[0])), "{error}");
        // chatbot_sync_all(), which tries sources in error again, isolates the text as well.
        app.batch_execute("CALL chatbot_sync_all()").unwrap();
        assert_eq!(query_column::<i64>(&mut app, failed), poisoned);
        // So does the queue.
        app.batch_execute("SELECT chatbot_retry(); CALL chatbot_process_queue()").unwrap();
        assert_eq!(query_column::<i64>(&mut app, failed), poisoned);
        app.batch_execute("DELETE FROM documents").unwrap();
    }
}

#[test]
fn a_server_that_only_works_for_single_texts_gets_single_texts() {
    let (db, mock) = database_with_mock();
    let mut app = db.session("app");
    app.batch_execute("SET chatbot_sync.max_attempts = 1").unwrap();
    mock.state().always = Some(Fault::TwoOfOne);
    app.batch_execute(&embed_statement(1, &prose(12))).unwrap();
    assert_eq!(query_value::<String>(&mut app, "SELECT status FROM chatbot_sync.source"), "synced");
}

#[test]
fn a_text_that_is_never_answered_is_found_in_time() {
    let (mut db, mock, mut app) = attached_documents();
    set_for_database(&mut db, "sync_timeout", "4s");
    app.batch_execute("SET chatbot_sync.sync_timeout = '4s'").unwrap();
    fail_poisoned_requests(&mock, Fault::Hang);
    app.batch_execute(
        "INSERT INTO documents (chatbot_id, title, content)
        SELECT 1, 'T', CASE i WHEN 3 THEN 'A poison.' ELSE 'Text ' || i END FROM generate_series(1, 8) AS i",
    )
    .unwrap();
    let failed = "SELECT source_id || ' ' || error_code FROM chatbot_sync.source WHERE status = 'error'";
    assert_eq!(query_column::<String>(&mut app, failed), ["3 58030"]);
}

#[test]
fn a_provider_that_is_down_is_asked_a_few_times_for_many_rows() {
    let (_db, mock, mut app) = attached_documents();
    mock.state().always = Some(Fault::Status(500, "", "down"));
    mock.state().requests.clear();
    let insert = "INSERT INTO documents (chatbot_id, title, content)
        SELECT 1, 'T', 'Text ' || i FROM generate_series(1, 50) AS i";
    app.batch_execute(insert).unwrap();
    assert!(mock.asked().0 <= 10, "{}", mock.asked().0);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source WHERE status = 'error'"), 50);
}

#[test]
fn a_chunk_or_a_question_that_is_too_long_is_embedded_in_parts() {
    let (db, mock) = database_with_mock();
    let (mut app, told) = db.session_with_notices("app");
    mock.state().longest = Some(600);
    let text = prose(60);
    let chunks: i64 = query_value(&mut app, &format!("SELECT count(*) FROM chatbot_chunk($t${text}$t$)"));
    app.batch_execute(&embed_statement(1, &text)).unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.embedding"), chunks);
    let warning = "WARNING: chunk 1 of document 1 of chatbot 1 is longer than model mock takes";
    assert!(told.lock().unwrap().iter().any(|line| line.starts_with(warning)), "{told:?}");
    told.lock().unwrap().clear();
    app.batch_execute(&format!("SELECT chatbot_search(1, $t${}$t$)", prose(10))).unwrap();
    assert!(told.lock().unwrap()[0].starts_with("NOTICE: the text is longer than model mock takes"), "{told:?}");
}

#[test]
fn dimensions_are_not_sent_where_they_are_the_models_own() {
    let (db, mock) = database_with_mock();
    db.session("app").batch_execute(&embed_statement(1, "A text.")).unwrap();
    assert!(mock.state().requests.iter().all(|(_, body)| body["dimensions"].is_null()));
}

#[test]
fn retry_after_ms_applies_to_all_sessions() {
    let (db, mock) = database_with_mock();
    mock.state().faults.push_back(Fault::Status(429, "retry-after-ms: 3600000\r\n", ""));
    assert_eq!(expect_error(&mut db.session("app"), &embed_statement(1, "A text.")).code, "53000");
    assert_eq!(expect_error(&mut db.session("app"), &embed_statement(2, "A text.")).code, "53000");
    assert_eq!(mock.asked().0, 1);
}
