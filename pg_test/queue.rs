//! The queue, processed by ordinary sessions: sources are stored after their commit, the newest text wins, and editors never
//! wait for it.

use postgres::Client;

use super::harness::{Db, database_with_mock, expect_error, prose, query_column, query_value, set_for_database};
use super::mock::Mock;

/// Creates a table that is attached in mode async, and returns a session of its owner.
fn attach_async_table(db: &mut Db) -> Client {
    db.admin.batch_execute("GRANT CREATE ON SCHEMA public TO app").unwrap();
    let mut app = db.session("app");
    app.batch_execute(
        "CREATE TABLE docs (id bigserial PRIMARY KEY, chatbot_id bigint, title text, content text,
             active boolean DEFAULT true, status text, note text);
         SELECT chatbot_attach('docs', 'document', metadata_columns => '{title}', enabled_column => 'active',
             status_column => 'status', error_column => 'note', mode => 'async')",
    )
    .unwrap();
    app
}

/// Creates such a table in a database whose provider is a mock, with a retry delay of 1 ms.
pub fn async_table_with_mock() -> (Db, Mock, Client) {
    let (mut db, mock) = database_with_mock();
    set_for_database(&mut db, "retry_delay", "1ms");
    let app = attach_async_table(&mut db);
    (db, mock, app)
}

/// Each source as: chatbot, id, status, chunks, SQLSTATE, attempts.
pub const SOURCES: &str = "SELECT concat_ws(' ', chatbot_id, source_id, status, chunk_count, error_code, attempts)
    FROM chatbot_sync.source ORDER BY chatbot_id, source_id";
/// The number of jobs.
pub const JOBS: &str = "SELECT count(*) FROM chatbot_sync.job";
/// Each row as: id, status, note.
pub const STATUS: &str = "SELECT concat_ws(' ', id, status, note) FROM docs ORDER BY id";

#[test]
fn a_row_is_embedded_after_its_commit() {
    let (_db, mock, mut app) = async_table_with_mock();
    app.batch_execute(
        "INSERT INTO docs (chatbot_id, content) VALUES (1, 'First.'), (2, 'Second.'), (NULL, 'Not here.')",
    )
    .unwrap();
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["1 1 pending 0 0", "2 2 pending 0 0"]);
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 pending", "2 pending", "3"]);
    assert_eq!(mock.texts().len(), 0);
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["1 1 synced 1 0", "2 2 synced 1 0"]);
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 synced", "2 synced", "3"]);
    assert_eq!((query_value::<i64>(&mut app, JOBS), mock.state().requests.len()), (0, 1));

    app.batch_execute("UPDATE docs SET content = 'Other.' WHERE id = 1; DELETE FROM docs WHERE id = 2").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(2, 'second')"), 1);
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["1 1 synced 1 0"]);
    assert_eq!(query_column::<String>(&mut app, "SELECT content FROM chatbot_sync.embedding"), ["Other."]);
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 synced", "3"]);
    assert_eq!((query_value::<i64>(&mut app, JOBS), mock.texts().iter().filter(|t| *t == "Other.").count()), (0, 1));
}

#[test]
fn changes_without_new_text_ask_no_provider() {
    let (_db, mock, mut app) = async_table_with_mock();
    app.batch_execute(
        "INSERT INTO docs (chatbot_id, content) VALUES (1, 'First.'), (1, 'Second.'); CALL chatbot_process_queue()",
    )
    .unwrap();
    let requests = mock.state().requests.len();
    for (change, sources) in [
        ("UPDATE docs SET title = 'A title' WHERE id = 1", ["1 1 synced 1 0", "1 2 synced 1 0"]),
        ("UPDATE docs SET active = false WHERE id = 1", ["1 1 synced 1 0", "1 2 synced 1 0"]),
        ("UPDATE docs SET active = true WHERE id = 1", ["1 1 synced 1 0", "1 2 synced 1 0"]),
        ("UPDATE docs SET chatbot_id = 3 WHERE id = 1", ["1 2 synced 1 0", "3 1 synced 1 0"]),
        ("UPDATE docs SET id = 9 WHERE id = 2", ["1 9 synced 1 0", "3 1 synced 1 0"]),
        ("UPDATE docs SET status = 'pending'", ["1 9 synced 1 0", "3 1 synced 1 0"]),
    ] {
        app.batch_execute(change).unwrap();
        app.batch_execute("CALL chatbot_process_queue()").unwrap();
        assert_eq!(query_column::<String>(&mut app, SOURCES), sources, "{change}");
        assert_eq!(query_column::<String>(&mut app, "SELECT DISTINCT status FROM docs"), ["synced"], "{change}");
    }
    assert_eq!(mock.state().requests.len(), requests);
    let titles = "SELECT metadata::text FROM chatbot_sync.embedding ORDER BY source_id";
    assert_eq!(query_column::<String>(&mut app, titles), [r#"{"title": "A title"}"#, r#"{"title": null}"#]);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(3, 'first')"), 1);
    app.batch_execute("UPDATE docs SET chatbot_id = NULL WHERE id = 9; CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["3 1 synced 1 0"]);
    app.batch_execute("TRUNCATE docs; CALL chatbot_process_queue()").unwrap();
    assert_eq!((query_column::<String>(&mut app, SOURCES).len(), query_value::<i64>(&mut app, JOBS)), (0, 0));
}

#[test]
fn many_small_sources_share_requests() {
    let (_db, mock, mut app) = async_table_with_mock();
    app.batch_execute("INSERT INTO docs (chatbot_id, content) SELECT 1 + i % 7, 'Text number ' || i FROM generate_series(1, 150) AS i").unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(mock.texts().len(), 150);
    assert_eq!(mock.state().requests.len(), 2);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source WHERE status = 'synced'"), 150);
    let log = "SELECT sum(inputs) || ' ' || sum(requests) || ' ' || sum(tokens) FROM chatbot_sync.sync_log";
    assert_eq!(query_value::<String>(&mut app, log), "150 2 1500");
}

#[test]
fn a_busy_chatbot_does_not_delay_other_chatbots() {
    let (_db, mock, mut app) = async_table_with_mock();
    app.batch_execute(
        "INSERT INTO docs (chatbot_id, content) SELECT 1, 'Bulk ' || i FROM generate_series(1, 300) AS i",
    )
    .unwrap();
    app.batch_execute(
        "INSERT INTO docs (chatbot_id, content) SELECT 2, 'Also bulk ' || i FROM generate_series(1, 50) AS i",
    )
    .unwrap();
    app.batch_execute("INSERT INTO docs (chatbot_id, content) VALUES (1, 'An edit.')").unwrap();
    app.batch_execute("CALL chatbot_process_queue(1)").unwrap();
    assert_eq!(mock.texts(), ["An edit."]);
    app.batch_execute("CALL chatbot_process_queue(50)").unwrap();
    let of = |bot| format!("SELECT count(*) FROM chatbot_sync.source WHERE status = 'synced' AND chatbot_id = {bot}");
    assert!(query_value::<i64>(&mut app, &of(2)) >= 25);
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source WHERE status <> 'synced'"), 0);
    assert_eq!(mock.texts().len(), 351);
}

/// Processes the queue in another session while the provider's answers are held, and runs `act` when the request
/// has been sent.
fn while_processing(db: &Db, mock: &Mock, act: impl FnOnce()) {
    mock.state().held = true;
    let asked = mock.state().requests.len();
    let mut other = db.session("app");
    let drain = std::thread::spawn(move || other.batch_execute("CALL chatbot_process_queue()").unwrap());
    mock.wait(|state| state.requests.len() > asked);
    act();
    mock.release();
    drain.join().unwrap();
}

#[test]
fn delete_during_embed_leaves_no_vectors() {
    let (db, mock, mut app) = async_table_with_mock();
    app.batch_execute("INSERT INTO docs (chatbot_id, content) VALUES (1, 'First.'), (1, 'Second.')").unwrap();
    app.batch_execute("SELECT chatbot_enqueue_source(1, 'link', 7, 'Third.')").unwrap();
    while_processing(&db, &mock, || {
        app.batch_execute("DELETE FROM docs WHERE id = 1; SELECT chatbot_delete_source(1, 'link', 7)").unwrap();
    });
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_column::<String>(&mut app, "SELECT content FROM chatbot_sync.embedding"), ["Second."]);
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["1 2 synced 1 0"]);
    assert_eq!(query_value::<i64>(&mut app, JOBS), 0);
}

#[test]
fn chatbot_deleted_during_embed_leaves_no_vectors() {
    let (db, mock, mut app) = async_table_with_mock();
    app.batch_execute("INSERT INTO docs (chatbot_id, content) VALUES (1, 'First.'), (2, 'Second.')").unwrap();
    while_processing(&db, &mock, || {
        app.batch_execute("DELETE FROM docs WHERE chatbot_id = 1; SELECT chatbot_cleanup(1)").unwrap()
    });
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["2 2 synced 1 0"]);
}

#[test]
fn newest_text_wins() {
    let (db, mock, mut app) = async_table_with_mock();
    app.batch_execute("INSERT INTO docs (chatbot_id, content) VALUES (1, 'Old.')").unwrap();
    app.batch_execute("SELECT chatbot_enqueue_source(1, 'link', 7, 'Older.')").unwrap();
    while_processing(&db, &mock, || {
        app.batch_execute("UPDATE docs SET content = 'New.'; SELECT chatbot_enqueue_source(1, 'link', 7, 'Newer.')")
            .unwrap();
    });
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    let texts = "SELECT content FROM chatbot_sync.embedding ORDER BY source_type";
    assert_eq!(query_column::<String>(&mut app, texts), ["New.", "Newer."]);
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 synced"]);
    assert_eq!(query_value::<i64>(&mut app, JOBS), 0);
}

#[test]
fn a_moved_source_is_stored_in_its_new_place() {
    let (db, mock, mut app) = async_table_with_mock();
    app.batch_execute("INSERT INTO docs (chatbot_id, content) VALUES (1, 'First.')").unwrap();
    while_processing(&db, &mock, || app.batch_execute("UPDATE docs SET chatbot_id = 2").unwrap());
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["2 1 synced 1 0"]);
}

#[test]
fn queued_texts_collapse_to_the_newest() {
    let (_db, mock, mut app) = async_table_with_mock();
    for text in ["One.", "Two.", "Three."] {
        app.batch_execute(&format!("SELECT chatbot_enqueue_source(1, 'document', 1, '{text}')")).unwrap();
    }
    assert_eq!(query_value::<i64>(&mut app, JOBS), 3);
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(mock.texts(), ["Three."]);
    assert_eq!(query_value::<i64>(&mut app, JOBS), 0);
    app.batch_execute(
        r#"SELECT chatbot_enqueue_source(1, 'document', 1, 'Three.', '{"a": 1}'); CALL chatbot_process_queue()"#,
    )
    .unwrap();
    assert_eq!(mock.texts().len(), 1);
    assert_eq!(query_value::<String>(&mut app, "SELECT metadata::text FROM chatbot_sync.embedding"), r#"{"a": 1}"#);
}

#[test]
fn editors_at_repeatable_read_do_not_conflict_with_the_queue() {
    let (mut db, _mock, mut app) = async_table_with_mock();
    // These rows have no status columns, so only their editors write to them.
    app.batch_execute("CREATE TABLE plain (id bigint PRIMARY KEY, chatbot_id bigint, content text); SELECT chatbot_attach('plain', 'link', mode => 'async')").unwrap();
    app.batch_execute("INSERT INTO plain SELECT i, 1 + i % 2, 'Text ' || i FROM generate_series(1, 80) AS i").unwrap();
    let editors: Vec<_> = (0..8)
        .map(|editor| {
            let mut session = db.session("app");
            std::thread::spawn(move || {
                for round in 0..25 {
                    let id = 1 + editor * 10 + round % 10;
                    session
                        .batch_execute(&format!(
                            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM chatbot_sync.source;
                             UPDATE plain SET content = 'Editor {editor}, round {round}' WHERE id = {id};
                             DELETE FROM plain WHERE id = {id} + 1000; INSERT INTO plain VALUES ({id} + 1000, 3, 'New {round}');
                             COMMIT"
                        ))
                        .unwrap();
                }
            })
        })
        .collect();
    let drains: Vec<_> = (0..2)
        .map(|_| {
            let mut session = db.session("app");
            std::thread::spawn(move || {
                (0..20).for_each(|_| session.batch_execute("CALL chatbot_process_queue()").unwrap())
            })
        })
        .collect();
    editors.into_iter().chain(drains).for_each(|thread| thread.join().unwrap());
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    let wrong = "SELECT count(*) FROM plain p FULL JOIN chatbot_sync.embedding e
        ON e.source_id = p.id AND e.chatbot_id = p.chatbot_id AND e.source_type = 'link' WHERE p.content IS DISTINCT FROM e.content";
    assert_eq!(query_value::<i64>(&mut db.admin, wrong), 0);
    assert_eq!(query_value::<i64>(&mut app, JOBS), 0);
}

#[test]
fn a_row_of_repeatable_read_is_a_source_at_once() {
    let (_db, _mock, mut app) = async_table_with_mock();
    app.batch_execute(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO docs (chatbot_id, content) VALUES (1, 'First.'); COMMIT",
    )
    .unwrap();
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["1 1 pending 0 0"]);
}

#[test]
fn an_edited_source_is_pending() {
    let (db, _mock, mut app) = async_table_with_mock();
    app.batch_execute("INSERT INTO docs (chatbot_id, content) VALUES (1, 'First.'), (1, 'Second.'), (1, 'Third.')")
        .unwrap();
    app.batch_execute("SELECT chatbot_enqueue_source(2, 'link', 1, 'Fourth.')").unwrap();
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        app.batch_execute("CALL chatbot_process_queue()").unwrap();
        // Another session has stored sources meanwhile and holds a lock on one of them; neither session waits for the
        // other.
        let (mut editor, mut other) = (db.session("app"), db.session("app"));
        editor.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM docs")).unwrap();
        let enqueue = format!("SELECT chatbot_enqueue_source(2, 'link', 1, 'Another at {level}.')");
        other.batch_execute(&format!("{enqueue}; CALL chatbot_process_queue()")).unwrap();
        other.batch_execute("BEGIN; SELECT FROM chatbot_sync.source WHERE source_id = 2 FOR UPDATE").unwrap();
        editor
            .batch_execute(&format!(
                "SET LOCAL lock_timeout = '5s'; UPDATE docs SET content = 'Edited at {level}.' WHERE id IN (2, 3);
                 SAVEPOINT a; UPDATE docs SET title = 'Undone' WHERE id = 1; ROLLBACK TO a;
                 SELECT chatbot_enqueue_source(2, 'link', 1, 'Fourth at {level}.')"
            ))
            .unwrap();
        let statuses = "SELECT chatbot_id || ' ' || source_id || ' ' || status FROM chatbot_sync.source ORDER BY 1";
        assert_eq!(
            query_column::<String>(&mut app, statuses),
            ["1 1 synced", "1 2 synced", "1 3 synced", "2 1 synced"]
        );
        editor.batch_execute("COMMIT").unwrap();
        assert_eq!(
            query_column::<String>(&mut app, statuses),
            ["1 1 synced", "1 2 synced", "1 3 pending", "2 1 pending"]
        );
        other.batch_execute("COMMIT").unwrap();
        app.batch_execute("BEGIN; UPDATE docs SET content = 'Undone' WHERE id = 1; ROLLBACK").unwrap();
        app.batch_execute("CALL chatbot_process_queue()").unwrap();
        assert_eq!(
            query_column::<String>(&mut app, statuses),
            ["1 1 synced", "1 2 synced", "1 3 synced", "2 1 synced"]
        );
    }
    app.batch_execute("BEGIN; DELETE FROM docs WHERE id = 1; UPDATE docs SET id = 12 WHERE id = 2; COMMIT").unwrap();
    assert_eq!(query_column::<String>(&mut app, SOURCES)[0], "1 1 pending 1 0");
}

#[test]
fn two_calls_share_the_work() {
    let (db, mock, mut app) = async_table_with_mock();
    app.batch_execute("INSERT INTO docs (chatbot_id, content) SELECT i % 5, 'Text ' || i FROM generate_series(5, 604) AS i WHERE i % 5 > 0").unwrap();
    let drains: Vec<_> = (0..3)
        .map(|_| {
            let mut session = db.session("app");
            std::thread::spawn(move || session.batch_execute("CALL chatbot_process_queue()").unwrap())
        })
        .collect();
    drains.into_iter().for_each(|thread| thread.join().unwrap());
    let mut texts = mock.texts();
    texts.sort();
    texts.dedup();
    assert_eq!((texts.len(), mock.texts().len()), (480, 480));
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source WHERE status = 'synced'"), 480);
}

#[test]
fn a_locked_row_gets_its_status_later() {
    let (db, mock, mut app) = async_table_with_mock();
    app.batch_execute("INSERT INTO docs (chatbot_id, content) VALUES (1, 'First.')").unwrap();
    let mut other = db.session("app");
    while_processing(&db, &mock, || other.batch_execute("BEGIN; SELECT FROM docs FOR UPDATE").unwrap());
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["1 1 synced 1 0"]);
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 pending"]);
    other.batch_execute("COMMIT; UPDATE chatbot_sync.job SET due_at = now()").unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_column::<String>(&mut app, STATUS), ["1 synced"]);
}

#[test]
fn a_call_within_a_transaction_commits_nothing() {
    let (_db, _mock, mut app) = async_table_with_mock();
    app.batch_execute(
        "BEGIN; INSERT INTO docs (chatbot_id, content) VALUES (1, 'First.'); CALL chatbot_process_queue()",
    )
    .unwrap();
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["1 1 synced 1 0"]);
    app.batch_execute("ROLLBACK").unwrap();
    assert_eq!(query_column::<String>(&mut app, SOURCES), [""; 0]);
    assert_eq!(expect_error(&mut app, "CALL chatbot_process_queue(0)").code, "22023");
}

#[test]
fn a_long_document_is_embedded_whole_by_the_queue() {
    let (_db, mock, mut app) = async_table_with_mock();
    app.execute("INSERT INTO docs (chatbot_id, content) VALUES (1, $1)", &[&prose(600)]).unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    let chunks: i32 = query_value(&mut app, "SELECT chunk_count FROM chatbot_sync.source");
    assert_eq!(mock.texts().len(), usize::try_from(chunks).unwrap());
    app.execute("UPDATE docs SET content = $1", &[&prose(600).replace("Sentence 300 ", "Sentence three hundred ")])
        .unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert!(mock.texts().len() <= usize::try_from(chunks).unwrap() + 3);
}
