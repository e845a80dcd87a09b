//! Attempts of the queue: they are counted and end, a refused text fails alone, throttling is no attempt, and jobs of lost or
//! cancelled sessions are due again.

use super::harness::{expect_error, query_column, query_value, set_for_database};
use super::mock::Fault;
use super::queue::{JOBS, SOURCES, STATUS, async_table_with_mock};

#[test]
fn attempts_are_counted_and_end() {
    let (mut db, mock, mut app) = async_table_with_mock();
    set_for_database(&mut db, "retry_delay", "1h");
    let mut app2 = db.session("app");
    mock.state().always = Some(Fault::Status(500, "", "oops"));
    app.batch_execute("INSERT INTO docs (chatbot_id, content) VALUES (1, 'First.')").unwrap();
    for attempt in 1..=3 {
        app2.batch_execute("CALL chatbot_process_queue()").unwrap();
        assert_eq!(mock.state().requests.len(), attempt);
        let status = if attempt < 3 { "pending" } else { "error" };
        assert_eq!(query_column::<String>(&mut app, SOURCES), [format!("1 1 {status} 0 HV000 {attempt}")]);
        // The waits are one and two hours, each times 0.5 to 1.5.
        let due = "SELECT count(*) FROM chatbot_sync.source WHERE next_attempt_at > now() + make_interval(mins => 29)";
        assert_eq!(query_value::<i64>(&mut app, due), i64::from(attempt < 3));
        db.admin.batch_execute("UPDATE chatbot_sync.job SET due_at = now() WHERE due_at < 'infinity'").unwrap();
    }
    assert_eq!(
        query_column::<String>(&mut app, STATUS),
        [
            "1 error provider openai_compatible failed at chunk 0 of document 1 of chatbot 1 (Model mock, HTTP status 500: oops)"
        ]
    );
    // The job is kept, and not tried again before chatbot_retry().
    app2.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(mock.state().requests.len(), 3);
    mock.state().always = None;
    assert_eq!(query_value::<i64>(&mut app, "SELECT chatbot_retry(2)"), 0);
    assert_eq!(query_value::<i64>(&mut app, "SELECT chatbot_retry(1, 'link')"), 0);
    assert_eq!(query_value::<i64>(&mut app, "SELECT chatbot_retry(1, 'document', 1)"), 1);
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["1 1 pending 0 0"]);
    app2.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["1 1 synced 1 0"]);
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 synced"]);
}

#[test]
fn a_refused_text_fails_alone() {
    let (_db, mock, mut app) = async_table_with_mock();
    mock.state().poison = Some("poison");
    app.batch_execute("INSERT INTO docs (chatbot_id, content) SELECT 1, CASE i WHEN 5 THEN 'poison' ELSE 'Text ' || i END FROM generate_series(1, 9) AS i").unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    let good = "SELECT count(*) FROM chatbot_sync.source WHERE status = 'synced'";
    assert_eq!(query_value::<i64>(&mut app, good), 8);
    let note = "SELECT note FROM docs WHERE status = 'error'";
    assert_eq!(
        query_column::<String>(&mut app, note),
        [
            "provider openai_compatible refuses chunk 0 of document 5 of chatbot 1 (Model mock, HTTP status 400: this text will not do)"
        ]
    );
    app.batch_execute("UPDATE docs SET content = 'Better.' WHERE id = 5; CALL chatbot_process_queue()").unwrap();
    assert_eq!((query_value::<i64>(&mut app, good), query_value::<i64>(&mut app, JOBS)), (9, 0));
}

#[test]
fn throttling_does_not_count_as_an_attempt() {
    let (mut db, mock, mut app) = async_table_with_mock();
    app.batch_execute(
        "SET chatbot_sync.sync_timeout = '1s'; INSERT INTO docs (chatbot_id, content) VALUES (1, 'First.')",
    )
    .unwrap();
    mock.state().faults.push_back(Fault::Status(429, "retry-after: 100\r\n", ""));
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["1 1 pending 0 53000 0"]);
    let wait =
        "SELECT count(*) FROM chatbot_sync.source WHERE next_attempt_at BETWEEN now() + '90s' AND now() + '101s'";
    assert_eq!(query_value::<i64>(&mut app, wait), 1);
    // Other texts are not sent either before the wait is over.
    app.batch_execute("INSERT INTO docs (chatbot_id, content) VALUES (1, 'Second.'); CALL chatbot_process_queue()")
        .unwrap();
    assert_eq!(mock.state().requests.len(), 1);
    db.admin.batch_execute("SELECT 1").unwrap();
}

#[test]
fn jobs_of_a_lost_session_are_released() {
    let (mut db, mock, mut app) = async_table_with_mock();
    app.batch_execute("INSERT INTO docs (chatbot_id, content) SELECT 1, 'Text ' || i FROM generate_series(1, 30) AS i")
        .unwrap();
    mock.state().held = true;
    let mut other = db.session("app");
    let pid: i32 = query_value(&mut other, "SELECT pg_backend_pid()");
    let drain = std::thread::spawn(move || other.batch_execute("CALL chatbot_process_queue()").is_err());
    mock.wait(|state| state.requests.len() == 1);
    assert_eq!(
        query_value::<i64>(
            &mut app,
            "SELECT count(*) FROM chatbot_sync.job WHERE leased_by IS NOT NULL AND due_at > now()"
        ),
        30
    );
    // Another session finds no job while the first one works on them.
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    db.admin.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    assert!(drain.join().unwrap());
    while query_value::<i64>(&mut db.admin, &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")) > 0 {}
    mock.release();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source WHERE status = 'synced'"), 30);
    assert_eq!((query_value::<i64>(&mut app, JOBS), mock.texts().len()), (0, 60));
}

#[test]
fn a_cancel_releases_what_was_claimed() {
    let (_db, mock, mut app) = async_table_with_mock();
    app.batch_execute("INSERT INTO docs (chatbot_id, content) VALUES (1, 'First.')").unwrap();
    mock.state().always = Some(Fault::Hang);
    app.batch_execute("SET statement_timeout = '100ms'").unwrap();
    assert_eq!(expect_error(&mut app, "CALL chatbot_process_queue()").code, "57014");
    mock.state().always = None;
    app.batch_execute("SET statement_timeout = 0; CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["1 1 synced 1 0"]);
}
