//! chatbot_sync_all(): pending rows are embedded batch by batch, calls share the work, and a row that fails
//! stops no other.

use std::sync::{Arc, Mutex};

use postgres::Client;

use super::harness::{
    ATTACH, DOCUMENTS, Db, application_with_mock, attached_documents, expect_error, find_differences, query_column,
    query_value, set_for_database,
};
use super::mock::{Fault, Mock};

/// Returns a database with this many documents of two chatbots, which were there before their table was attached.
fn pending_documents(rows: usize) -> (Db, Mock, Client, Arc<Mutex<Vec<String>>>) {
    let (db, mock, _) = application_with_mock();
    let (mut app, told) = db.session_with_notices("app");
    app.batch_execute(DOCUMENTS).unwrap();
    app.batch_execute(&format!(
        "INSERT INTO documents (chatbot_id, title, content) SELECT 1 + i % 2, 'T' || i, 'Text number ' || i FROM generate_series(1, {rows}) i"
    ))
    .unwrap();
    told.lock().unwrap().clear();
    app.batch_execute(ATTACH).unwrap();
    (db, mock, app, told)
}

fn take_messages(told: &Mutex<Vec<String>>) -> Vec<String> {
    told.lock().unwrap().drain(..).collect()
}

fn count_sources(client: &mut Client, status: &str) -> i64 {
    query_value(client, &format!("SELECT count(*) FROM chatbot_sync.source WHERE status = '{status}'"))
}

#[test]
fn attaching_leaves_rows_pending_with_a_notice() {
    let (_db, mock, mut app, told) = pending_documents(7);
    assert_eq!(take_messages(&told), ["NOTICE: 7 rows of public.documents are pending: CALL chatbot_sync_all();"]);
    assert_eq!((mock.asked(), count_sources(&mut app, "pending")), ((0, 0), 7));
    assert_eq!(
        query_column::<String>(&mut app, "SELECT DISTINCT status || processed FROM documents"),
        ["pendingfalse"]
    );
    let progress = "SELECT concat_ws(' ', chatbot_id, source_type, sources, synced, pending, failed) FROM chatbot_sync.progress ORDER BY 1";
    assert_eq!(query_column::<String>(&mut app, progress), ["1 document 3 0 3 0", "2 document 4 0 4 0"]);
    app.batch_execute("UPDATE documents SET content = 'Edited.' WHERE id = 1; CALL chatbot_sync_all(1, 2)").unwrap();
    assert_eq!(take_messages(&told), ["NOTICE: 2 of 3 sources, 0 failed", "NOTICE: 3 of 3 sources, 0 failed"]);
    assert_eq!(query_column::<String>(&mut app, progress), ["1 document 3 3 0 0", "2 document 4 1 3 0"]);
    app.batch_execute("CALL chatbot_sync_all(batch => 100); CALL chatbot_sync_all()").unwrap();
    assert_eq!(take_messages(&told), ["NOTICE: 3 of 3 sources, 0 failed"]);
    assert_eq!((mock.asked().1, find_differences(&mut app)), (7, vec![]));
}

#[test]
fn bad_arguments_are_refused() {
    let (_db, _mock, mut app) = attached_documents();
    for (call, code) in [("NULL, NULL", "22023"), ("NULL, 0", "22023"), ("NULL, -1", "22023")] {
        let failed = expect_error(&mut app, &format!("CALL chatbot_sync_all({call})"));
        assert_eq!((failed.code.as_str(), failed.hint.is_empty()), (code, false), "{call}");
    }
}

#[test]
fn progress_is_committed_batch_by_batch() {
    let (db, mock, mut app, _) = pending_documents(9);
    let mut watcher = db.session("app");
    // The third batch does not get a response.
    app.batch_execute("SET chatbot_sync.sync_timeout = '1h'").unwrap();
    let pid: i32 = query_value(&mut app, "SELECT pg_backend_pid()");
    for fault in [Fault::Gzip, Fault::Gzip, Fault::Hang] {
        mock.state().faults.push_back(fault);
    }
    let call = std::thread::spawn(move || (expect_error(&mut app, "CALL chatbot_sync_all(batch => 3)").code, app));
    mock.wait(|state| state.requests.len() == 3 && state.in_flight == 1);
    assert_eq!((count_sources(&mut watcher, "synced"), count_sources(&mut watcher, "pending")), (6, 3));
    assert_eq!(query_value::<i64>(&mut watcher, "SELECT count(*) FROM documents WHERE status = 'synced'"), 6);
    assert_eq!(query_value::<i64>(&mut watcher, "SELECT sum(synced)::bigint FROM chatbot_sync.progress"), 6);
    // What was committed stays, and the next call does the rest.
    db.other().batch_execute(&format!("SELECT pg_cancel_backend({pid})")).unwrap();
    let (code, mut app) = call.join().unwrap();
    assert_eq!(code, "57014");
    assert_eq!((count_sources(&mut app, "synced"), count_sources(&mut app, "pending")), (6, 3));
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    let mut texts = mock.texts();
    texts.sort();
    texts.dedup();
    assert_eq!((texts.len(), mock.texts().len()), (9, 12));
}

#[test]
fn two_calls_share_the_rows() {
    let (db, mock, mut app, _) = pending_documents(40);
    let mut second = db.session("app");
    for client in [&mut app, &mut second] {
        client.batch_execute("SET chatbot_sync.sync_timeout = '1h'").unwrap();
    }
    // Both calls have sent a request before either is answered.
    mock.state().gather = 2;
    let call = std::thread::spawn(move || second.batch_execute("CALL chatbot_sync_all(batch => 5)").unwrap());
    app.batch_execute("CALL chatbot_sync_all(batch => 5)").unwrap();
    call.join().unwrap();
    let mut texts = mock.texts();
    assert_eq!(texts.len(), 40);
    texts.sort();
    texts.dedup();
    assert_eq!((texts.len(), find_differences(&mut app)), (40, vec![]));
}

#[test]
fn a_call_within_a_transaction_works_and_commits_nothing() {
    let (db, mock, mut app, told) = pending_documents(5);
    take_messages(&told);
    let mut watcher = db.session("app");
    app.batch_execute("BEGIN; CALL chatbot_sync_all(batch => 2)").unwrap();
    assert_eq!(count_sources(&mut watcher, "pending"), 5);
    assert_eq!(count_sources(&mut app, "synced"), 5);
    assert_eq!(take_messages(&told).len(), 3);
    app.batch_execute("ROLLBACK").unwrap();
    assert_eq!(count_sources(&mut app, "pending"), 5);
    app.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; CALL chatbot_sync_all(batch => 2); COMMIT").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(mock.asked().1, 10);
}

#[test]
fn a_call_in_a_function_works() {
    let (_db, _mock, mut app, _) = pending_documents(3);
    app.batch_execute(
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS 'BEGIN CALL chatbot_sync_all(batch => 2); END'; SELECT f()",
    )
    .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
}

#[test]
fn a_row_that_fails_is_tried_once_and_stops_no_other() {
    let (_db, mock, mut app, told) = pending_documents(6);
    take_messages(&told);
    app.batch_execute(
        "ALTER TABLE documents DISABLE TRIGGER USER; UPDATE documents SET content = 'poison' WHERE id = 3;
        UPDATE documents SET title = repeat('x', 70000) WHERE id = 1; ALTER TABLE documents ENABLE TRIGGER USER",
    )
    .unwrap();
    mock.state().poison = Some("poison");
    app.batch_execute("CALL chatbot_sync_all(batch => 2)").unwrap();
    assert_eq!(take_messages(&told).last().unwrap(), "NOTICE: 6 of 6 sources, 2 failed");
    let errors = "SELECT d.id || ' ' || d.status || ' ' || error_code || ' ' || attempts FROM documents d JOIN chatbot_sync.source s ON s.source_id = d.id
        WHERE s.status = 'error' ORDER BY 1";
    assert_eq!(query_column::<String>(&mut app, errors), ["1 error 54000 1", "3 error HV00L 1"]);
    app.batch_execute("CALL chatbot_sync_all(batch => 1)").unwrap();
    assert_eq!(query_column::<String>(&mut app, errors), ["1 error 54000 2", "3 error HV00L 2"]);
    app.batch_execute("UPDATE documents SET title = 'short' WHERE id = 1").unwrap();
    mock.state().poison = None;
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
}

#[test]
fn a_provider_that_is_down_ends_the_call() {
    let (mut db, mock, _app, _) = pending_documents(8);
    set_for_database(&mut db, "max_attempts", "1");
    let (mut app, told) = db.session_with_notices("app");
    mock.state().always = Some(Fault::Status(401, "", "no"));
    app.batch_execute("CALL chatbot_sync_all(batch => 2)").unwrap();
    assert_eq!(
        take_messages(&told),
        [
            "NOTICE: 2 of 8 sources, 2 failed",
            "WARNING: stopped: provider openai_compatible refuses the key (Model mock, HTTP status 401: no)"
        ]
    );
    assert_eq!((mock.asked().0, count_sources(&mut app, "pending"), count_sources(&mut app, "error")), (1, 6, 2));
    mock.state().always = None;
    app.batch_execute("CALL chatbot_sync_all(batch => 2)").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
}

#[test]
fn rows_written_without_triggers_are_embedded() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(
        "ALTER TABLE documents DISABLE TRIGGER USER;
         INSERT INTO documents (chatbot_id, content, active) VALUES (1, 'Unseen.', true), (1, 'Archived.', false), (NULL, 'Nobody''s.', true);
         ALTER TABLE documents ENABLE TRIGGER USER; CALL chatbot_sync_all()",
    )
    .unwrap();
    assert_eq!(mock.texts(), ["Unseen."]);
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute("UPDATE documents SET active = true WHERE id = 2").unwrap();
    assert_eq!((mock.asked().1, find_differences(&mut app)), (2, vec![]));
}

#[test]
fn a_row_that_is_being_edited_is_skipped() {
    let (db, mock, mut app, _) = pending_documents(4);
    let mut editor = db.session("app");
    editor.batch_execute("BEGIN; UPDATE documents SET content = 'Edited.' WHERE id = 2").unwrap();
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(count_sources(&mut app, "pending"), 1);
    editor.batch_execute("COMMIT").unwrap();
    assert_eq!((mock.asked().1, find_differences(&mut app)), (4, vec![]));
}
