//! The queue and locks: a locked table delays only its own rows, and COMMIT PREPARED wakes a worker.

use postgres::Client;

use super::harness::{Db, application_with_mock, query_column, query_value, use_mock, wait_until};
use super::mock::Mock;
use super::server::Server;

const TABLES: &str = "CREATE TABLE docs (id int, chatbot_id int, content text, status text, PRIMARY KEY (id, chatbot_id)) PARTITION BY LIST (chatbot_id);
    CREATE TABLE docs_1 PARTITION OF docs FOR VALUES IN (1); CREATE TABLE docs_2 PARTITION OF docs FOR VALUES IN (2);
    CREATE TABLE links (id int PRIMARY KEY, chatbot_id int, content text, status text);
    SELECT chatbot_attach('docs', 'document', status_column => 'status', mode => 'async');
    SELECT chatbot_attach('links', 'link', status_column => 'status', mode => 'async')";
const ROWS: &str = "INSERT INTO docs SELECT i, 1, 'Document ' || i FROM generate_series(1, 60) i;
    INSERT INTO links SELECT i, 1, 'Link ' || i FROM generate_series(1, 60) i";
const LINKS_ARE_SYNCED: &str = "SELECT bool_and(status = 'synced') FROM links";

fn lock_in_another_session(db: &Db, lock: &str) -> Client {
    let mut locker = db.session("app");
    locker.batch_execute(&format!("BEGIN; {lock}")).unwrap();
    locker
}

#[test]
fn rows_of_other_tables_do_not_wait_for_a_locked_table() {
    for lock in ["LOCK TABLE docs IN ACCESS EXCLUSIVE MODE", "LOCK TABLE docs_1 IN ACCESS EXCLUSIVE MODE"] {
        let (mut db, mock, mut app) = application_with_mock();
        app.batch_execute(TABLES).unwrap();
        app.batch_execute(ROWS).unwrap();
        let mut holder = lock_in_another_session(&db, lock);
        app.batch_execute("CALL chatbot_process_queue()").unwrap();
        assert!(query_value::<bool>(&mut app, LINKS_ARE_SYNCED), "{lock}");
        let left =
            "SELECT concat_ws(' ', source_type, count(*), max(attempts)) FROM chatbot_sync.job GROUP BY source_type";
        assert_eq!(query_column::<String>(&mut app, left), ["document 60 0"], "{lock}");
        // Other functions that read all tables skip the locked one, and delete nothing.
        app.batch_execute("CALL chatbot_sync_all(); SELECT chatbot_estimate()").unwrap();
        let mut boss = db.session("boss");
        assert_eq!(query_column::<String>(&mut boss, "SELECT problem FROM chatbot_verify()"), [""; 0], "{lock}");
        assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 0);
        // The doctor names the session that holds the lock.
        let pid: i32 = query_value(&mut holder, "SELECT pg_backend_pid()");
        db.admin.batch_execute("UPDATE chatbot_sync.job SET created_at = created_at - interval '1 hour'").unwrap();
        let said: String = query_value(
            &mut boss,
            "SELECT status || ' ' || detail || hint FROM chatbot_doctor() WHERE check_name = 'queue'",
        );
        assert!(said.starts_with("warning ") && said.contains(&format!("docs is locked by process {pid}")), "{said}");
        holder.batch_execute("ROLLBACK").unwrap();
        while query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.job") > 0 {
            app.batch_execute("CALL chatbot_process_queue()").unwrap();
        }
        assert!(query_value::<bool>(&mut app, "SELECT bool_and(status = 'synced') FROM docs"), "{lock}");
        // Each row is sent once; the doctor's own test request does not count.
        let mut texts: Vec<String> = mock.texts().into_iter().filter(|text| text != "Is anybody there?").collect();
        texts.sort();
        let count = texts.len();
        texts.dedup();
        assert_eq!((count, texts.len()), (120, 120), "{lock}");
    }
}

#[test]
fn a_table_locked_while_its_rows_are_embedded_gets_its_status_later() {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(TABLES).unwrap();
    app.batch_execute("INSERT INTO docs VALUES (1, 1, 'Document.'); INSERT INTO links VALUES (1, 1, 'Link.')").unwrap();
    mock.state().held = true;
    let mut caller = db.session("app");
    let call = std::thread::spawn(move || caller.batch_execute("CALL chatbot_process_queue()").unwrap());
    mock.wait(|state| state.in_flight > 0);
    let mut holder = lock_in_another_session(&db, "LOCK TABLE docs IN ACCESS EXCLUSIVE MODE");
    mock.release();
    call.join().unwrap();
    assert!(query_value::<bool>(&mut app, LINKS_ARE_SYNCED));
    assert_eq!(query_column::<i32>(&mut app, "SELECT attempts FROM chatbot_sync.job"), [0]);
    holder.batch_execute("ROLLBACK").unwrap();
    while query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.job") > 0 {
        app.batch_execute("CALL chatbot_process_queue()").unwrap();
    }
    assert_eq!(query_value::<String>(&mut app, "SELECT status FROM docs"), "synced");
}

fn server_with_workers(settings: &[&str]) -> (Server, Mock, Client) {
    let (mut server, mock) = (Server::start_preloaded(settings), Mock::new());
    use_mock(&mut server.db, &mock);
    server.db.admin.batch_execute("GRANT CREATE ON SCHEMA public TO app").unwrap();
    let mut app = server.db.session("app");
    app.batch_execute(TABLES).unwrap();
    (server, mock, app)
}

#[test]
fn a_worker_does_not_wait_for_a_locked_table() {
    let (server, _mock, mut app) = server_with_workers(&["chatbot_sync.naptime=1h"]);
    let mut holder = lock_in_another_session(&server.db, "LOCK TABLE docs IN ACCESS EXCLUSIVE MODE");
    let rows = "INSERT INTO links SELECT i, 1, 'Link ' || i FROM generate_series(1, 60) i";
    holder.batch_execute("INSERT INTO docs SELECT i, 1, 'Document ' || i FROM generate_series(1, 60) i; COMMIT; BEGIN; LOCK TABLE docs IN ACCESS EXCLUSIVE MODE").unwrap();
    app.batch_execute(rows).unwrap();
    wait_until(&mut app, LINKS_ARE_SYNCED);
    holder.batch_execute("ROLLBACK").unwrap();
    wait_until(&mut app, "SELECT bool_and(status = 'synced') FROM docs");
}

#[test]
fn commit_prepared_wakes_a_worker() {
    // With this naptime only the commit can wake a worker.
    let (mut server, mock, mut app) = server_with_workers(&["chatbot_sync.naptime=1h", "max_prepared_transactions=5"]);
    app.batch_execute("INSERT INTO links VALUES (1, 1, 'First.')").unwrap();
    wait_until(&mut app, LINKS_ARE_SYNCED);
    for (id, other_session) in [(2, false), (3, true)] {
        app.batch_execute(&format!(
            "BEGIN; INSERT INTO links VALUES ({id}, 1, 'Text {id}.'); PREPARE TRANSACTION 'two'"
        ))
        .unwrap();
        let mut other = server.db.session("app");
        let committer = if other_session { &mut other } else { &mut app };
        committer.batch_execute("COMMIT PREPARED 'two'").unwrap();
        wait_until(&mut app, &format!("SELECT count(*) = {id} FROM chatbot_sync.embedding"));
    }
    // Errors of COMMIT PREPARED, and of other statements, pass through unchanged.
    app.batch_execute("BEGIN; INSERT INTO links VALUES (4, 1, 'Never.'); PREPARE TRANSACTION 'two'").unwrap();
    app.batch_execute("ROLLBACK PREPARED 'two'").unwrap();
    let failed = super::harness::expect_error(&mut app, "COMMIT PREPARED 'two'");
    assert_eq!(failed.code, "42704");
    server
        .db
        .admin
        .batch_execute("DO $$ BEGIN RAISE 'own' USING ERRCODE = 'T0003'; EXCEPTION WHEN SQLSTATE 'T0003' THEN END $$")
        .unwrap();
    assert_eq!(mock.texts().len(), 3);
}
