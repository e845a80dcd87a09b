//! Texts are cut and read, and the built-in models embed, on as many threads as `chatbot_sync.local_threads` says:
//! - the same is stored with any number of threads, by the built-in model and by a provider
//! - a statement has no more threads than the setting says, and none of them after its end; with 1 no thread is made
//! - a cancel ends a statement whose texts are on threads, and leaves nothing of it

use std::fmt::Write;

use postgres::Client;

use super::harness::{Db, database_with_mock, pause, prose, query_value};

/// What is stored of every chunk of a chatbot.
const STORED: &str = "SELECT string_agg(md5(ROW(
            source_id, chunk_index, start_offset, end_offset, lang, content, embedding, words, metadata, enabled
        )::text), ' ' ORDER BY source_id, chunk_index)
    FROM chatbot_sync.embedding";

/// Gives `app` a table of documents of several languages and lengths, which is not attached.
fn make_documents(db: &mut Db, count: usize) {
    let mut sql = String::from("CREATE TABLE doc (id bigint PRIMARY KEY, chatbot_id bigint, content text);\n");
    for id in 0..count {
        let text = match id % 4 {
            0 => "Die Rückzahlung erfolgt innerhalb von zehn Tagen nach der Rücksendung des Pakets. ".repeat(60),
            1 => "返金は商品の返品から十日以内に行われます。".repeat(120),
            2 => String::new(),
            _ => prose(30 + id % 7),
        };
        let _ = writeln!(sql, "INSERT INTO doc VALUES ({id}, 1, '{text} Number {id}.');");
    }
    db.admin.batch_execute(&sql).unwrap();
    db.admin
        .batch_execute("CREATE TABLE attached (LIKE doc INCLUDING ALL); ALTER TABLE attached OWNER TO app")
        .unwrap();
    db.admin.batch_execute("GRANT SELECT ON doc TO app").unwrap();
    db.session("app").batch_execute("SELECT chatbot_attach('attached', 'document')").unwrap();
}

/// Syncs all documents, edits some and syncs them again, with so many threads; returns what is stored.
fn sync_with_threads(app: &mut Client, threads: usize) -> String {
    app.batch_execute(&format!(
        "SET chatbot_sync.local_threads = {threads};
        DELETE FROM attached;
        INSERT INTO attached SELECT * FROM doc;
        UPDATE attached SET content = 'A sentence that is new. ' || content WHERE id % 3 = 0;
        UPDATE attached SET content = content || ' A sentence that is new.' WHERE id % 5 = 0"
    ))
    .unwrap();
    query_value(app, STORED)
}

#[test]
fn the_same_is_stored_with_any_number_of_threads() {
    for provider in [false, true] {
        let (mut db, _mock) = database_with_mock();
        if !provider {
            db.session("boss").batch_execute("SELECT chatbot_set_model('local', 'multilingual-static-256')").unwrap();
        }
        make_documents(&mut db, 40);
        let mut app = db.session("app");
        let alone = sync_with_threads(&mut app, 1);
        assert!(alone.len() > 100 * 33, "{} bytes", alone.len());
        for threads in [2, 5] {
            assert!(sync_with_threads(&mut app, threads) == alone, "{threads} threads, provider: {provider}");
        }
    }
}

fn count_threads(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

#[test]
fn a_statement_has_no_more_threads_than_the_setting_says() {
    let mut db = Db::new();
    make_documents(&mut db, 150);
    for threads in [1, 3] {
        let mut app = db.session("app");
        let pid: i32 = query_value(&mut app, "SELECT pg_backend_pid()");
        app.batch_execute(&format!("SET chatbot_sync.local_threads = {threads}; DELETE FROM attached")).unwrap();
        let sync = std::thread::spawn(move || {
            app.batch_execute("INSERT INTO attached SELECT * FROM doc").unwrap();
            app
        });
        let mut most = 0;
        while !sync.is_finished() {
            most = most.max(count_threads(pid));
        }
        let _app = sync.join().unwrap();
        assert_eq!(most, threads);
        while count_threads(pid) > 1 {
            pause();
        }
    }
}

#[test]
fn a_cancel_ends_a_statement_whose_texts_are_on_threads() {
    let mut db = Db::new();
    make_documents(&mut db, 150);
    let (mut app, mut watcher) = (db.session("app"), db.other());
    let pid: i32 = query_value(&mut app, "SELECT pg_backend_pid()");
    let sync = std::thread::spawn(move || {
        app.batch_execute("SET chatbot_sync.local_threads = 3").unwrap();
        let error = app.batch_execute("INSERT INTO attached SELECT * FROM doc").unwrap_err();
        (error.code().map(|code| code.code().to_owned()), query_value::<i64>(&mut app, "SELECT count(*) FROM attached"))
    });
    while count_threads(pid) < 3 {
        std::thread::yield_now();
    }
    watcher.batch_execute(&format!("SELECT pg_cancel_backend({pid})")).unwrap();
    assert_eq!(sync.join().unwrap(), (Some("57014".to_owned()), 0));
    assert_eq!(query_value::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_sync.source"), 0);
}
