//! A database moves from the built-in model to one in a folder and back, while rows are edited, searches go on, and workers
//! and the sessions that embed anew are ended.

use std::thread;

use postgres::Client;

use super::harness::{query_column, query_value, wait_until};
use super::local_models::{choose, slow_model};
use super::server::Server;
use super::workers::{QUEUE_IS_EMPTY, WORKER_PIDS, attach_async_table, insert_texts};
use crate::embedding::transformer::tests::Models;

const REEMBED: &str = "CALL chatbot_reembed()";

/// Ends the workers that there are, and sessions that embed anew.
fn end_workers_and_reembed(server: &mut Server) {
    let workers = query_column::<i32>(&mut server.db.admin, WORKER_PIDS);
    workers.into_iter().for_each(|pid| server.signal("TERM", pid));
    let sessions = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query = '{REEMBED}' AND state = 'active'"
    );
    query_value::<i64>(&mut server.db.admin, &sessions);
}

fn assert_search_finds_all(app: &mut Client) {
    let found = "SELECT count(*) FROM chatbot_search(1, 'Which text is it?', 10)";
    assert_eq!(query_value::<i64>(app, found), 10);
}

#[test]
fn a_database_moves_to_a_transformer_and_back_while_workers_are_ended() {
    const ROWS: i32 = 60;
    let models = Models::new();
    models.publish(&slow_model());
    let folder = format!("chatbot_sync.local_models={}", models.0.to_str().unwrap());
    let mut server = Server::start_preloaded(&["chatbot_sync.naptime=1s", &folder]);
    let mut app = attach_async_table(&mut server.db);
    insert_texts(&mut app, ROWS);
    wait_until(&mut app, QUEUE_IS_EMPTY);

    for name in ["slow", "multilingual-static-256"] {
        let model_id = choose(&mut server.db.admin, name);
        let mut session = server.db.other();
        let first = thread::spawn(move || session.batch_execute(REEMBED));
        let begun = format!("SELECT count(*) > 0 FROM chatbot_sync.embedding WHERE model_id = {model_id}");
        wait_until(&mut app, &begun);
        app.batch_execute("UPDATE docs SET content = content || ', edited' WHERE id % 5 = 0").unwrap();
        end_workers_and_reembed(&mut server);
        // It was ended, or was through already.
        let _ = first.join().unwrap();
        assert_search_finds_all(&mut app);

        let mut session = server.db.other();
        let second = thread::spawn(move || session.batch_execute(REEMBED));
        while !second.is_finished() {
            assert_search_finds_all(&mut app);
        }
        second.join().unwrap().unwrap();

        wait_until(&mut app, QUEUE_IS_EMPTY);
        let active = "SELECT id FROM chatbot_sync.model WHERE active";
        assert_eq!(query_value::<i32>(&mut app, active), model_id);
        let chunks = format!(
            "SELECT count(*) FROM docs AS d JOIN chatbot_sync.embedding AS e ON e.source_id = d.id AND e.content = d.content
            WHERE e.model_id = {model_id}"
        );
        assert_eq!(query_value::<i64>(&mut app, &chunks), i64::from(ROWS));
        assert_eq!(query_column::<String>(&mut server.db.admin, "SELECT problem FROM chatbot_verify()"), [""; 0]);
        assert_search_finds_all(&mut app);
    }
}
