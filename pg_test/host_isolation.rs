//! Two sessions at REPEATABLE READ and SERIALIZABLE: they conflict where the host table's own rows do, and nowhere
//! else.

use std::thread::JoinHandle;

use postgres::Client;

use super::harness::{
    Db, application_with_mock, attached_documents, expect_error, find_differences, query_column, query_value,
    wait_for_lock,
};
use super::mock::Mock;

const ROWS: &str = "INSERT INTO documents (chatbot_id, title, content) SELECT 1 + i % 2, 'T' || i, 'Text number ' || i FROM generate_series(1, 20) i";

/// Returns two sessions with open transactions that have read the table, before anything is written.
fn two_open_transactions(level: &str) -> (Db, Mock, Client, Client) {
    let (db, mock, mut first) = attached_documents();
    first.batch_execute(ROWS).unwrap();
    let mut second = db.session("app");
    for client in [&mut first, &mut second] {
        client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM documents")).unwrap();
    }
    (db, mock, first, second)
}

/// Runs a statement in another thread and waits until it is blocked by a lock. The thread returns its SQLSTATE.
fn run_blocked(db: &Db, mut client: Client, sql: &'static str) -> JoinHandle<(Option<String>, Client)> {
    let pid: i32 = query_value(&mut client, "SELECT pg_backend_pid()");
    let call = std::thread::spawn(move || {
        let code = client.batch_execute(sql).err().map(|error| error.code().unwrap().code().to_owned());
        (code, client)
    });
    wait_for_lock(&mut db.other(), pid);
    call
}

/// Runs one statement in each of two open transactions, the second one after the first has committed (`waits` false),
/// or blocked until it commits (`waits` true). Returns the SQLSTATE of the second statement and what is stored wrongly.
fn run_in_two_sessions(
    level: &str,
    one: &'static str,
    other: &'static str,
    waits: bool,
) -> (Option<String>, Vec<String>) {
    let (db, _mock, mut first, mut second) = two_open_transactions(level);
    first.batch_execute(one).unwrap();
    let (code, mut second) = if waits {
        let call = run_blocked(&db, second, other);
        first.batch_execute("COMMIT").unwrap();
        call.join().unwrap()
    } else {
        first.batch_execute("COMMIT").unwrap();
        let code = second.batch_execute(other).err().map(|error| error.code().unwrap().code().to_owned());
        (code, second)
    };
    second.batch_execute("COMMIT").unwrap();
    (code, find_differences(&mut first))
}

/// Pairs of statements that change different rows.
const DIFFERENT_ROWS: [(&str, &str); 8] = [
    ("UPDATE documents SET content = 'One.' WHERE id = 1", "UPDATE documents SET content = 'Two.' WHERE id = 2"),
    ("UPDATE documents SET content = 'One.' WHERE id = 1", "UPDATE documents SET content = 'Three.' WHERE id = 3"),
    ("UPDATE documents SET chatbot_id = 2 WHERE id = 2", "UPDATE documents SET chatbot_id = 1 WHERE id = 1"),
    (
        "UPDATE documents SET title = 'X', active = false WHERE id = 1",
        "UPDATE documents SET title = 'Y', active = false WHERE id = 3",
    ),
    (
        "INSERT INTO documents (id, chatbot_id, content) VALUES (30, 1, 'New.')",
        "INSERT INTO documents (id, chatbot_id, content) VALUES (31, 1, 'Newer.')",
    ),
    ("INSERT INTO documents (id, chatbot_id, content) VALUES (30, 3, 'New.')", "DELETE FROM documents WHERE id = 1"),
    ("DELETE FROM documents WHERE id = 1", "DELETE FROM documents WHERE id = 3"),
    ("UPDATE documents SET id = 40 WHERE id = 1", "UPDATE documents SET id = 41 WHERE id = 3"),
];

#[test]
fn different_rows_do_not_conflict_at_repeatable_read() {
    for (first, second) in DIFFERENT_ROWS {
        assert_eq!(run_in_two_sessions("REPEATABLE READ", first, second, false), (None, vec![]), "{first}; {second}");
        assert_eq!(run_in_two_sessions("REPEATABLE READ", second, first, false), (None, vec![]), "{second}; {first}");
    }
    // Both transactions are open at once, and neither waits for the other.
    for (one, other) in DIFFERENT_ROWS {
        let (_db, _mock, mut first, mut second) = two_open_transactions("REPEATABLE READ");
        first.batch_execute(one).unwrap();
        second.batch_execute(other).unwrap();
        second.batch_execute("COMMIT").unwrap();
        first.batch_execute("COMMIT").unwrap();
        assert_eq!(find_differences(&mut first), [""; 0], "{one}; {other}");
    }
}

#[test]
fn the_same_row_is_stored_as_one_session_wrote_it() {
    let edit = "UPDATE documents SET content = 'Edited.' WHERE id = 1";
    for (first, second) in [
        (edit, "UPDATE documents SET content = 'Another edit.' WHERE id = 1"),
        (edit, "DELETE FROM documents WHERE id = 1"),
        (edit, "UPDATE documents SET title = 'Other' WHERE id = 1"),
        ("DELETE FROM documents WHERE id = 1", edit),
        ("DELETE FROM documents WHERE id = 1", "DELETE FROM documents WHERE id = 1"),
        ("UPDATE documents SET chatbot_id = 3 WHERE id = 1", edit),
        ("DELETE FROM chatbots WHERE id = 2", edit),
    ] {
        for waits in [false, true] {
            let expected = (Some("40001".to_owned()), vec![]);
            assert_eq!(run_in_two_sessions("REPEATABLE READ", first, second, waits), expected, "{first}; {second}");
        }
    }
    for waits in [false, true] {
        let new = "INSERT INTO documents (id, chatbot_id, content) VALUES (30, 1, 'New.')";
        assert_eq!(run_in_two_sessions("REPEATABLE READ", new, new, waits), (Some("23505".to_owned()), vec![]));
    }
}

#[test]
fn deleting_a_chatbot_wins_over_a_concurrent_edit() {
    // At READ COMMITTED the second statement sees what the first one committed.
    let edit = "UPDATE documents SET content = 'Edited.' WHERE id = 1";
    let delete = "DELETE FROM chatbots WHERE id = 2";
    let new = "INSERT INTO documents (id, chatbot_id, content) VALUES (30, 2, 'New.')";
    for (first, second) in [(edit, delete), (delete, edit), (new, delete)] {
        for waits in [false, true] {
            assert_eq!(
                run_in_two_sessions("READ COMMITTED", first, second, waits),
                (None, vec![]),
                "{first}; {second}"
            );
        }
    }
    for waits in [false, true] {
        assert_eq!(run_in_two_sessions("READ COMMITTED", delete, new, waits), (Some("23503".to_owned()), vec![]));
    }
    let (db, _mock, mut first, second) = two_open_transactions("READ COMMITTED");
    first.batch_execute(edit).unwrap();
    let call = run_blocked(&db, second, delete);
    first.batch_execute("ROLLBACK").unwrap();
    let (code, mut second) = call.join().unwrap();
    second.batch_execute("COMMIT").unwrap();
    assert_eq!((code, find_differences(&mut second)), (None, vec![]));
    let left = "SELECT chatbot_id FROM chatbot_sync.embedding UNION SELECT chatbot_id FROM chatbot_sync.source";
    assert_eq!(query_column::<i64>(&mut second, left), [1]);
}

#[test]
fn the_first_rows_of_a_database_do_not_conflict() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let db = Db::new();
        db.other().batch_execute("GRANT CREATE ON SCHEMA public TO app").unwrap();
        let (mut first, mut second) = (db.session("app"), db.session("app"));
        first.batch_execute(super::harness::DOCUMENTS).unwrap();
        first.batch_execute(super::harness::ATTACH).unwrap();
        let begin = format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM chatbots");
        for (client, chatbot) in [(&mut first, 1), (&mut second, 2)] {
            client.batch_execute(&begin).unwrap();
            client
                .batch_execute(&format!(
                    "INSERT INTO documents (chatbot_id, content) VALUES ({chatbot}, 'The first text.')"
                ))
                .unwrap();
        }
        second.batch_execute("COMMIT").unwrap();
        first.batch_execute("COMMIT").unwrap();
        assert_eq!(find_differences(&mut first), [""; 0]);
        assert_eq!(query_value::<i64>(&mut first, "SELECT count(*) FROM chatbot_sync.source"), 2);
    }
}

/// Runs `by` in another session after a transaction has begun, and then `then` in that transaction. The table has
/// no status columns.
fn write_after_a_concurrent_commit(level: &str, mode: &str, by: &str, then: &str) -> (Db, Mock, Client) {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(&format!(
        "CREATE TABLE chatbots (id bigint PRIMARY KEY); INSERT INTO chatbots VALUES (1), (2);
         CREATE TABLE documents (id bigint PRIMARY KEY, chatbot_id bigint, title text, content text, active bool DEFAULT true,
             status text DEFAULT 'synced', processed bool DEFAULT true, error text);
         INSERT INTO documents SELECT i, 1 + i % 2, 'T' || i, 'Text number ' || i FROM generate_series(1, 4) i;
         SELECT chatbot_attach('documents', 'document', metadata_columns => '{{title}}', mode => '{mode}');
         SELECT chatbot_attach_chatbots('chatbots')"
    ))
    .unwrap();
    let mut other = db.session("app");
    app.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM documents")).unwrap();
    other.batch_execute(by).unwrap();
    app.batch_execute(then).unwrap_or_else(|error| panic!("{level}, {mode}, {by}, {then}: {error:?}"));
    app.batch_execute("COMMIT; CALL chatbot_process_queue()").unwrap();
    (db, mock, app)
}

#[test]
fn background_writes_do_not_conflict_with_an_editor() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        for then in [
            "UPDATE documents SET content = 'Edited.'",
            "UPDATE documents SET title = 'Edited.'",
            "UPDATE documents SET chatbot_id = 2 WHERE id = 2; DELETE FROM documents WHERE id = 3",
        ] {
            let (_db, _mock, mut app) = write_after_a_concurrent_commit(level, "sync", "CALL chatbot_sync_all()", then);
            app.batch_execute("CALL chatbot_sync_all()").unwrap();
            assert_eq!(find_differences(&mut app), [""; 0], "{level}, {then}");
        }
        let delete = "DELETE FROM chatbots WHERE id = 2; DELETE FROM documents WHERE chatbot_id = 2";
        let queue =
            "SELECT chatbot_retry(); CALL chatbot_sync_all(); UPDATE documents SET title = title || '!' WHERE id = 2;
            CALL chatbot_process_queue()";
        let (_db, _mock, mut app) = write_after_a_concurrent_commit(level, "async", queue, delete);
        assert_eq!(find_differences(&mut app), [""; 0], "{level}, {delete}");
    }
}

#[test]
fn an_editor_waits_for_a_worker_that_stores() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        for then in [
            "UPDATE documents SET content = 'Edited.'",
            "DELETE FROM documents WHERE id = 1",
            "DELETE FROM chatbots WHERE id = 2; DELETE FROM documents WHERE chatbot_id = 2",
        ] {
            let (mut db, _mock, mut app) =
                write_after_a_concurrent_commit(level, "sync", "CALL chatbot_sync_all()", "SELECT 1");
            app.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM documents")).unwrap();
            // A worker or chatbot_reembed() writes the source in this way.
            let store = "BEGIN; UPDATE chatbot_sync.source SET synced_at = now() WHERE source_id IN (1, 2)";
            db.admin.batch_execute(store).unwrap();
            let call = run_blocked(&db, app, then);
            db.admin.batch_execute("COMMIT").unwrap();
            let (code, mut app) = call.join().unwrap();
            assert_eq!(code, None, "{level}, {then}");
            app.batch_execute("COMMIT").unwrap();
            assert_eq!(find_differences(&mut app), [""; 0], "{level}, {then}");
        }
    }
}

#[test]
fn a_freed_key_can_be_used_again() {
    let again = "INSERT INTO documents (id, chatbot_id, content) VALUES (1, 2, 'Again.')";
    for mode in ["sync", "async"] {
        let by = "CALL chatbot_sync_all(); DELETE FROM documents WHERE id = 1; CALL chatbot_process_queue()";
        for level in ["REPEATABLE READ", "SERIALIZABLE"] {
            let (_db, _mock, mut app) = write_after_a_concurrent_commit(level, mode, by, again);
            assert_eq!(find_differences(&mut app), [""; 0], "{level}, {mode}");
        }
    }
}

#[test]
fn serializable_stores_what_some_serial_order_would() {
    // Each transaction reads all documents and changes one, which has no serial order: one of them has to fail.
    let (_db, _mock, mut first, mut second) = two_open_transactions("SERIALIZABLE");
    first.batch_execute("UPDATE documents SET content = 'One.' WHERE id = 1").unwrap();
    second.batch_execute("UPDATE documents SET content = 'Two.' WHERE id = 2").unwrap();
    first.batch_execute("COMMIT").unwrap();
    assert_eq!(expect_error(&mut second, "COMMIT").code, "40001");
    assert_eq!(find_differences(&mut first), [""; 0]);
}

#[test]
fn serializable_fails_only_where_the_table_itself_would() {
    let (db, _mock, mut first) = attached_documents();
    let mut second = db.session("app");
    let rows = "INSERT INTO documents (chatbot_id, content) SELECT 1 + i % 2, 'Text number ' || i FROM generate_series(1, 2000) i; ANALYZE documents";
    first.batch_execute(rows).unwrap();
    // Rows far apart and next to each other, in the table and in our indexes.
    for (one, other) in [(1, 1999), (2, 1999), (1, 3)] {
        for client in [&mut first, &mut second] {
            client.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL enable_seqscan = off").unwrap();
        }
        first.batch_execute(&format!("UPDATE documents SET content = 'One.' WHERE id = {one}")).unwrap();
        second.batch_execute(&format!("UPDATE documents SET content = 'Two.' WHERE id = {other}")).unwrap();
        first.batch_execute("COMMIT").unwrap();
        second.batch_execute("COMMIT").unwrap();
    }
    assert_eq!(find_differences(&mut first), [""; 0]);
}
