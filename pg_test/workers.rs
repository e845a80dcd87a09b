//! Background workers: commits wake them, they stop when idle, copies and drops of databases succeed while they run,
//! and crashes and restarts lose no job.

use postgres::Client;

use super::harness::{Db, expect_error, query_column, query_value, set_for_database, use_mock, wait_until};
use super::mock::{Fault, Mock};
use super::server::Server;

/// Starts a server with workers and a mock provider, with a table that is attached in mode async. Returns a session of
/// its owner too.
fn server_with_workers(settings: &[&str]) -> (Server, Mock, Client) {
    let (mut server, mock) = (Server::start_preloaded(settings), Mock::new());
    use_mock(&mut server.db, &mock);
    let app = attach_async_table(&mut server.db);
    (server, mock, app)
}

pub(crate) fn attach_async_table(db: &mut Db) -> Client {
    db.admin.batch_execute("GRANT CREATE ON SCHEMA public TO app").unwrap();
    let mut app = db.session("app");
    app.batch_execute(
        "CREATE TABLE docs (id bigserial PRIMARY KEY, chatbot_id bigint, content text, status text);
         SELECT chatbot_attach('docs', 'document', status_column => 'status', mode => 'async')",
    )
    .unwrap();
    app
}

pub(crate) const QUEUE_IS_EMPTY: &str = "SELECT count(*) = 0 FROM chatbot_sync.job WHERE due_at < 'infinity'";
pub(crate) const WORKER_PIDS: &str = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'chatbot_sync worker'";
const VECTORS_MATCH_ROWS: &str =
    "SELECT NOT EXISTS (SELECT FROM docs d FULL JOIN chatbot_sync.embedding e ON e.source_id = d.id
    WHERE d.content IS DISTINCT FROM e.content)";

pub(crate) fn insert_texts(app: &mut Client, texts: i32) {
    app.execute(
        "INSERT INTO docs (chatbot_id, content) SELECT 1 + i % 3, 'Text ' || i FROM generate_series(1, $1) AS i",
        &[&texts],
    )
    .unwrap();
}

#[test]
fn a_commit_wakes_a_worker_that_leaves_when_idle() {
    // With this naptime only the commit can wake a worker.
    let (mut server, mock, mut app) = server_with_workers(&["chatbot_sync.naptime=1h"]);
    let admin = &mut server.db.admin;
    for text in ["First.", "Second."] {
        app.execute("INSERT INTO docs (chatbot_id, content) VALUES (1, $1)", &[&text]).unwrap();
        wait_until(&mut app, "SELECT bool_and(status = 'synced') FROM docs");
        wait_until(admin, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'chatbot_sync worker'");
    }
    assert_eq!(mock.texts(), ["First.", "Second."]);
    let launcher =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'chatbot_sync launcher' AND datname IS NULL";
    assert_eq!(query_value::<i64>(admin, launcher), 1);
    // A rollback wakes no worker and leaves nothing.
    app.batch_execute("BEGIN; INSERT INTO docs (chatbot_id, content) VALUES (1, 'Never.'); ROLLBACK").unwrap();
    app.batch_execute("SELECT chatbot_enqueue_source(1, 'link', 1, 'A text.')").unwrap();
    wait_until(&mut app, "SELECT count(*) = 3 FROM chatbot_sync.embedding");
}

#[test]
fn an_empty_queue_starts_no_workers() {
    let (mut server, _mock, mut app) = server_with_workers(&["chatbot_sync.naptime=1h", "log_min_messages=debug1"]);
    let started =
        |server: &Server| server.log().matches("starting background worker process \"chatbot_sync worker\"").count();
    let mut edit = |server: &mut Server, text: i32| {
        app.execute("INSERT INTO docs (chatbot_id, content) VALUES (1, $1)", &[&format!("Text {text}.")]).unwrap();
        wait_until(&mut app, "SELECT bool_and(status = 'synced') FROM docs");
        wait_until(
            &mut server.db.admin,
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'chatbot_sync worker'",
        );
    };
    // After this edit the launcher has finished its first look at every database.
    edit(&mut server, 0);
    let before = started(&server);
    (1..=20).for_each(|text| edit(&mut server, text));
    let edits = started(&server) - before;
    assert!((20..=21).contains(&edits), "{edits} workers for 20 edits");
}

#[test]
fn a_retry_runs_when_it_is_due() {
    let (mut server, mock, mut app) = server_with_workers(&["chatbot_sync.naptime=1h"]);
    set_for_database(&mut server.db, "retry_delay", "10ms");
    mock.state().faults.extend([Fault::Status(500, "", ""), Fault::Status(429, "retry-after: 0.1\r\n", "")]);
    insert_texts(&mut app, 1);
    wait_until(&mut app, "SELECT bool_and(status = 'synced') FROM docs");
    assert_eq!(mock.state().requests.len(), 3);
}

#[test]
fn a_worker_is_named_and_runs_as_the_database_owner() {
    let (mut server, mock, mut app) = server_with_workers(&[]);
    server.db.admin.batch_execute("ALTER DATABASE postgres OWNER TO app").unwrap();
    mock.state().held = true;
    insert_texts(&mut app, 3);
    mock.wait(|state| state.in_flight > 0);
    // It looks for more sources before it waits for these.
    let who = "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'chatbot_sync worker'
        AND (usename, datname, query) = ('app', 'postgres', 'embedding 3 sources')";
    wait_until(&mut server.db.admin, who);
    // A worker that waits holds no transaction, and the database's owner may end it.
    let open = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'chatbot_sync worker' AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)";
    assert_eq!(query_value::<i64>(&mut server.db.admin, open), 0);
    let pid = query_value::<i32>(&mut server.db.admin, WORKER_PIDS);
    assert!(query_value::<bool>(&mut app, &format!("SELECT pg_terminate_backend({pid})")));
    mock.release();
    insert_texts(&mut app, 1);
    wait_until(&mut app, QUEUE_IS_EMPTY);
    assert!(query_value::<bool>(&mut app, VECTORS_MATCH_ROWS));
}

#[test]
fn a_database_can_be_copied_while_workers_run() {
    let (mut server, mock, mut app) = server_with_workers(&["chatbot_sync.naptime=1s"]);
    let mut maker = server.db.other();
    maker.batch_execute("CREATE DATABASE busy TEMPLATE template0").unwrap();
    drop(maker);
    mock.state().held = true;
    insert_texts(&mut app, 5);
    mock.wait(|state| state.in_flight > 0);
    drop(app);
    // As Odoo does: other sessions are ended, and the database is copied.
    let mut elsewhere = server.db.in_database("busy");
    server.db.admin = elsewhere.other();
    elsewhere.admin.batch_execute("CREATE DATABASE copy TEMPLATE postgres").unwrap();
    let url = mock.url.clone();
    elsewhere
        .admin
        .batch_execute(&format!("ALTER DATABASE copy SET chatbot_sync.openai_compatible_url = '{url}'"))
        .unwrap();
    mock.release();
    for name in ["postgres", "copy"] {
        let mut db = server.db.in_database(name);
        wait_until(&mut db.admin, QUEUE_IS_EMPTY);
        assert!(query_value::<bool>(&mut db.admin, VECTORS_MATCH_ROWS), "{name}");
        assert_eq!(query_value::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_sync.embedding"), 5);
    }
}

#[test]
fn a_database_can_be_dropped_while_workers_run() {
    let (server, mock, app) = server_with_workers(&["chatbot_sync.naptime=1h"]);
    let mut maker = server.db.other();
    drop(app);
    maker.batch_execute("CREATE DATABASE doomed TEMPLATE template0").unwrap();
    {
        let mut doomed = server.db.in_database("doomed");
        doomed.admin.batch_execute(super::harness::EXTENSION).unwrap();
        use_mock(&mut doomed, &mock);
        let mut app = attach_async_table(&mut doomed);
        mock.state().held = true;
        insert_texts(&mut app, 5);
        mock.wait(|state| state.in_flight > 0);
    }
    maker.batch_execute("DROP DATABASE doomed").unwrap();
    mock.release();
}

#[test]
fn a_killed_worker_loses_nothing_and_repeats_at_most_one_batch() {
    let (mut server, mock, mut app) = server_with_workers(&["chatbot_sync.naptime=1s"]);
    for (round, signal) in (0..).zip(["TERM", "KILL", "KILL", "TERM"]) {
        mock.state().held = true;
        let asked = mock.state().requests.len();
        app.execute(
            "INSERT INTO docs (chatbot_id, content) SELECT 1, $1 || i FROM generate_series(1, 30) AS i",
            &[&format!("Round {round}, ")],
        )
        .unwrap();
        mock.wait(|state| state.requests.len() > asked);
        let workers = query_column::<i32>(&mut server.db.admin, WORKER_PIDS);
        workers.into_iter().for_each(|pid| server.signal(signal, pid));
        mock.release();
        if signal == "KILL" {
            // The server ends all sessions, as after any crash.
            while app.batch_execute("SELECT 1").is_ok() {}
            server.reconnect();
            app = server.db.session("app");
        }
        wait_until(&mut app, QUEUE_IS_EMPTY);
        assert!(query_value::<bool>(&mut app, VECTORS_MATCH_ROWS), "{signal}");
    }
    // At most one batch was sent twice in each round.
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.embedding"), 120);
    assert!(mock.texts().len() <= 240, "{}", mock.texts().len());
}

#[test]
fn the_queue_survives_a_restart() {
    let (mut server, mock, mut app) = server_with_workers(&["chatbot_sync.naptime=1h"]);
    for mode in ["fast", "immediate"] {
        mock.state().held = true;
        let asked = mock.state().requests.len();
        insert_texts(&mut app, 10);
        mock.wait(|state| state.requests.len() > asked);
        server.restart(mode);
        mock.release();
        app = server.db.session("app");
        wait_until(&mut app, QUEUE_IS_EMPTY);
        assert!(query_value::<bool>(&mut app, VECTORS_MATCH_ROWS), "{mode}");
    }
}

#[test]
fn a_standby_leaves_the_queue_until_it_is_promoted() {
    let (server, mock, mut app) = server_with_workers(&["chatbot_sync.naptime=1s"]);
    insert_texts(&mut app, 3);
    wait_until(&mut app, QUEUE_IS_EMPTY);
    let mut standby = server.standby();
    mock.state().held = true;
    insert_texts(&mut app, 4);
    mock.wait(|state| state.in_flight > 0);
    let lsn: String = query_value(&mut app, "SELECT pg_current_wal_insert_lsn()::text");
    wait_until(&mut standby.db.admin, &format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'"));
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'chatbot_sync%'";
    assert_eq!(query_value::<i64>(&mut standby.db.admin, ours), 0);
    let found = "SELECT count(*) FROM chatbot_search(1, 'text', mode => 'vector')";
    mock.release();
    assert!(query_value::<i64>(&mut standby.db.admin, found) > 0);
    for write in ["CALL chatbot_process_queue()", "SELECT chatbot_embed_source(1, 'link', 1, 'A text.')"] {
        let failure = expect_error(&mut standby.db.admin, write);
        assert_eq!(failure.code, "25006", "{failure:?}");
    }
    server.stop("immediate");
    standby.promote();
    wait_until(&mut standby.db.admin, QUEUE_IS_EMPTY);
    assert!(query_value::<bool>(&mut standby.db.admin, VECTORS_MATCH_ROWS));
}

#[test]
fn the_extension_can_be_dropped_while_workers_run() {
    let (mut server, mock, mut app) = server_with_workers(&["chatbot_sync.naptime=1h"]);
    mock.state().held = true;
    insert_texts(&mut app, 5);
    mock.wait(|state| state.in_flight > 0);
    server.db.admin.batch_execute("DROP EXTENSION chatbot_sync CASCADE").unwrap();
    mock.release();
    wait_until(
        &mut server.db.admin,
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'chatbot_sync worker'",
    );
    insert_texts(&mut app, 1);
    server
        .db
        .admin
        .batch_execute("DROP TABLE docs; CREATE EXTENSION chatbot_sync; SELECT chatbot_grant('app')")
        .unwrap();
    use_mock(&mut server.db, &mock);
    let mut app = attach_async_table(&mut server.db);
    insert_texts(&mut app, 5);
    wait_until(&mut app, QUEUE_IS_EMPTY);
    assert!(query_value::<bool>(&mut app, VECTORS_MATCH_ROWS));
}

#[test]
fn a_missing_worker_slot_is_reported_once_and_the_queue_drains() {
    // The launcher of logical replication and ours use both worker processes.
    let (server, _mock, mut app) = server_with_workers(&["max_worker_processes=2"]);
    insert_texts(&mut app, 5);
    while !server.log().contains("could not start a worker") {}
    insert_texts(&mut app, 5);
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert!(query_value::<bool>(&mut app, VECTORS_MATCH_ROWS));
    assert_eq!(server.log().matches("could not start a worker").count(), 1);
}

#[test]
fn only_listed_databases_have_workers() {
    let (server, mock, mut app) =
        server_with_workers(&["chatbot_sync.databases=one, listed", "chatbot_sync.naptime=1s"]);
    server.db.other().batch_execute("CREATE DATABASE listed TEMPLATE template0").unwrap();
    let mut listed = server.db.in_database("listed");
    listed.admin.batch_execute(super::harness::EXTENSION).unwrap();
    use_mock(&mut listed, &mock);
    let mut other = attach_async_table(&mut listed);
    // The launcher is notified of both databases in the same way, so the jobs of one show that it has seen those of the
    // other.
    for _ in 0..2 {
        insert_texts(&mut app, 2);
        insert_texts(&mut other, 2);
        wait_until(&mut other, QUEUE_IS_EMPTY);
    }
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.job WHERE leased_by IS NULL"), 4);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.embedding"), 0);
}

#[test]
fn a_big_backlog_has_several_workers() {
    let (mut server, mock, mut app) =
        server_with_workers(&["chatbot_sync.workers_per_database=3", "chatbot_sync.naptime=1h"]);
    mock.state().held = true;
    insert_texts(&mut app, 450);
    wait_until(
        &mut server.db.admin,
        "SELECT count(*) = 3 FROM pg_stat_activity WHERE backend_type = 'chatbot_sync worker'",
    );
    mock.release();
    wait_until(&mut app, QUEUE_IS_EMPTY);
    assert!(query_value::<bool>(&mut app, VECTORS_MATCH_ROWS));
    assert_eq!(mock.texts().len(), 450);
}

#[test]
fn a_source_that_cannot_be_stored_delays_no_other() {
    let (mut server, _mock, mut app) = server_with_workers(&["chatbot_sync.naptime=1h"]);
    set_for_database(&mut server.db, "retry_delay", "10ms");
    server
        .db
        .admin
        .batch_execute("ALTER TABLE chatbot_sync.embedding ADD CONSTRAINT no_threes CHECK (content <> 'Text 3')")
        .unwrap();
    insert_texts(&mut app, 5);
    wait_until(&mut app, QUEUE_IS_EMPTY);
    let sources = "SELECT concat_ws(' ', source_id, status, error_code, error) FROM chatbot_sync.source ORDER BY 1";
    let sources = query_column::<String>(&mut app, sources);
    assert_eq!(sources.iter().filter(|source| source.contains("synced")).count(), 4, "{sources:?}");
    assert!(sources[2].starts_with("3 error 23514 the source cannot be stored: ") && sources[2].contains("no_threes"));
}

#[test]
fn jobs_of_an_ended_worker_are_claimed_at_once() {
    let (mut server, mock, mut app) = server_with_workers(&["chatbot_sync.naptime=1h"]);
    mock.state().held = true;
    insert_texts(&mut app, 3);
    mock.wait(|state| state.in_flight > 0);
    let admin = &mut server.db.admin;
    assert!(query_value::<bool>(
        admin,
        &format!("SELECT bool_and(pg_terminate_backend(pid)) FROM ({WORKER_PIDS}) AS w")
    ));
    wait_until(admin, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'chatbot_sync worker'");
    mock.release();
    // No commit and no naptime: the launcher was notified that the worker ended.
    wait_until(&mut app, QUEUE_IS_EMPTY);
    assert!(query_value::<bool>(&mut app, VECTORS_MATCH_ROWS));
}
