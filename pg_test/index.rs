//! Indexes for large chatbots: they are used where they pay, find what an exact search finds, and are built, rebuilt
//! and dropped on request.

use postgres::Client;

use super::harness::{
    Db, embed_statement, expect_error, pause, query_column, query_value, set_for_database, wait_until,
};
use super::mock::Mock;
use super::server::Server;

const CREATE: &str = "CALL chatbot_create_index()";
const VALID: &str = "SELECT count(*) = 2 FROM chatbot_sync.model_index WHERE valid AND model_id = 1";
const SCANS: &str = "SELECT pg_stat_get_xact_numscans('chatbot_sync.embedding_hnsw_half_1'::regclass),
    pg_stat_get_xact_numscans('chatbot_sync.embedding_pkey'::regclass)";
/// Makes chatbots of more than a hundred chunks large for this session.
const LOW_EXACT_SEARCH_LIMIT: &str = "SET chatbot_sync.exact_search_limit = 100";
const INDEX_PROBLEMS: &str =
    "SELECT concat_ws(' ', status, detail, hint) FROM chatbot_doctor() WHERE check_name = 'indexes' AND status <> 'ok'";

/// Returns a database in which chatbot 1 has 400 chunks and chatbot 2 has 20.
fn large_and_small_chatbot() -> Db {
    let db = Db::new();
    db.session("app")
        .batch_execute(
            "SELECT chatbot_embed_source(c, 'document', i, format('Text %s of chatbot %s tells about %s and the number %s.',
                i, c, (ARRAY['ships', 'horses', 'the moon', 'bread', 'music', 'winter', 'money'])[i % 7 + 1], i * i),
                jsonb_build_object('odd', i % 2 = 1, 'place', i))
            FROM (SELECT 1 AS c, generate_series(1, 400) AS i UNION ALL SELECT 2, generate_series(1, 20)) AS s",
        )
        .unwrap();
    db
}

/// Returns the same database with indexes, and a session of `reader`.
fn chatbots_with_indexes() -> (Db, Client) {
    let db = large_and_small_chatbot();
    db.session("boss").batch_execute(CREATE).unwrap();
    let mut reader = db.session("reader");
    reader.batch_execute(LOW_EXACT_SEARCH_LIMIT).unwrap();
    (db, reader)
}

/// Returns how often a search scanned the HNSW index, and the primary key.
fn count_index_scans(reader: &mut Client, search: &str) -> (i64, i64) {
    let mut tx = reader.build_transaction().read_only(true).start().unwrap();
    // The counters may include scans of earlier transactions.
    let before = tx.query_one(SCANS, &[]).unwrap();
    tx.query(search, &[]).unwrap();
    let after = tx.query_one(SCANS, &[]).unwrap();
    let more = |at: usize| after.get::<_, i64>(at) - before.get::<_, i64>(at);
    (more(0), more(1))
}

fn found_sources(client: &mut Client, rest: &str) -> Vec<i64> {
    query_column(client, &format!("SELECT source_id FROM chatbot_search({rest})"))
}

#[test]
fn small_chatbots_are_searched_exactly_and_large_ones_by_index() {
    let (_db, mut reader) = chatbots_with_indexes();
    for mode in ["vector", "hybrid"] {
        let search = |chatbot: i32| format!("SELECT chatbot_search({chatbot}, 'How cold is it?', mode => '{mode}')");
        assert_eq!(count_index_scans(&mut reader, &search(1)).0, 1, "{mode}");
        let (index, key) = count_index_scans(&mut reader, &search(2));
        assert!(index == 0 && key > 0, "{mode} {index} {key}");
    }
    reader.batch_execute("SET chatbot_sync.exact_search_limit = 400").unwrap();
    assert_eq!(count_index_scans(&mut reader, "SELECT chatbot_search(1, 'How cold is it?')").0, 0);
}

#[test]
fn an_index_search_leaves_no_settings_behind() {
    let (_db, mut reader) = chatbots_with_indexes();
    reader.batch_execute("SET hnsw.ef_search = 77").unwrap();
    assert_eq!(count_index_scans(&mut reader, "SELECT chatbot_search(1, 'How cold is it?')").0, 1);
    let settings = "SELECT concat_ws(' ', current_setting('hnsw.ef_search'), current_setting('hnsw.iterative_scan'),
        current_setting('enable_sort'), current_setting('plan_cache_mode'))";
    assert_eq!(query_value::<String>(&mut reader, settings), "77 off on auto");
    assert!(query_value::<bool>(&mut reader, VALID));
    // Also in a session that has not loaded pgvector before.
    reader.batch_execute("RESET ALL").unwrap();
    assert_eq!(query_value::<String>(&mut reader, settings), "40 off on auto");
}

#[test]
fn an_index_search_finds_what_an_exact_one_finds() {
    let (db, mut reader) = chatbots_with_indexes();
    let mut exact = db.session("reader");
    for query in ["ships at sea", "How cold is it?", "a song", "baking", "number 144", "horses", "earth", "coins"] {
        for rest in [
            format!("1, '{query}', 10, mode => 'vector'"),
            format!("1, '{query}', 10"),
            format!("1, '{query}', 10, mode => 'text'"),
            format!("1, '{query}', 300"),
            format!("1, '{query}', 10, metadata_filter => '{{\"odd\": true}}'"),
            format!("1, '{query}', 10, metadata_filter => '{{\"place\": 77}}'"),
            format!("1, '{query}', 10, source_types => '{{link}}'"),
        ] {
            assert_eq!(found_sources(&mut reader, &rest), found_sources(&mut exact, &rest), "{rest}");
        }
    }
    assert_eq!(found_sources(&mut reader, "1, '\u{1f389}'"), [0i64; 0]);
    // The chatbot is now smaller than the statistics say.
    db.session("app")
        .batch_execute("SELECT chatbot_delete_source(1, 'document', i) FROM generate_series(4, 400) i")
        .unwrap();
    assert_eq!(found_sources(&mut reader, "1, 'ships at sea'").len(), 3);
}

#[test]
fn a_rare_term_is_found_among_frequent_ones() {
    let (db, mut reader) = chatbots_with_indexes();
    for mode in ["hybrid", "text"] {
        assert_eq!(
            found_sources(&mut reader, &format!("1, 'the text that tells about 19321', 3, mode => '{mode}'"))[0],
            139
        );
    }
    db.session("app").batch_execute(&embed_statement(1000, "Fehler E-4711: Gerät neu starten.")).unwrap();
    assert_eq!(found_sources(&mut reader, "1, 'E-4711', 3")[0], 1000);
    // Words that are in all chunks.
    assert_eq!(found_sources(&mut reader, "1, 'text tells about', 500, mode => 'text'").len(), 400);
}

#[test]
fn an_index_is_built_once_and_writers_go_on() {
    let db = large_and_small_chatbot();
    let mut app = db.session("app");
    app.batch_execute("BEGIN; SELECT chatbot_embed_source(1, 'document', 500, 'Not committed yet.')").unwrap();
    let (making, told): (Vec<_>, Vec<_>) = (0..2)
        .map(|_| {
            let (mut boss, told) = db.session_with_notices("boss");
            (std::thread::spawn(move || boss.batch_execute(CREATE).unwrap()), told)
        })
        .unzip();
    let mut admin = db.other();
    wait_until(
        &mut admin,
        "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase ~ 'waiting for writers')",
    );
    let mut other = db.session("app");
    other.batch_execute("SET lock_timeout = '60s'").unwrap();
    other.batch_execute(&embed_statement(501, "Written while the index is made.")).unwrap();
    assert_eq!(query_column::<String>(&mut other, INDEX_PROBLEMS), [""; 0]);
    // Both calls report the progress of the one that builds.
    let hears =
        |told: &std::sync::Mutex<Vec<String>>| told.lock().unwrap().iter().any(|n| n.contains("waiting for writers"));
    while !told.iter().all(|told| hears(told)) {
        pause();
    }
    app.batch_execute("COMMIT").unwrap();
    making.into_iter().for_each(|call| call.join().unwrap());
    assert!(query_value::<bool>(&mut admin, VALID));
    let mut reader = db.session("reader");
    reader.batch_execute(LOW_EXACT_SEARCH_LIMIT).unwrap();
    assert_eq!(found_sources(&mut reader, "1, 'Written while the index is made.', 1, mode => 'vector'"), [501]);
    assert_eq!(found_sources(&mut reader, "1, 'Not committed yet.', 1, mode => 'vector'"), [500]);
}

#[test]
fn a_cancelled_index_build_can_be_repeated() {
    let db = large_and_small_chatbot();
    let mut app = db.session("app");
    app.batch_execute("BEGIN; SELECT chatbot_embed_source(1, 'document', 500, 'Not committed yet.')").unwrap();
    let mut boss = db.session("boss");
    let pid: i32 = query_value(&mut boss, "SELECT pg_backend_pid()");
    let call = std::thread::spawn(move || (expect_error(&mut boss, CREATE).code, boss));
    let mut admin = db.other();
    wait_until(
        &mut admin,
        "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase ~ 'waiting for writers')",
    );
    admin.batch_execute(&format!("SELECT pg_cancel_backend({pid})")).unwrap();
    let (code, mut boss) = call.join().unwrap();
    assert_eq!(code, "57014");
    app.batch_execute("COMMIT").unwrap();
    wait_until(
        &mut admin,
        "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'chatbot_sync index' AND datname = current_database())",
    );
    let ill = query_column::<String>(&mut app, INDEX_PROBLEMS);
    assert!(ill.len() == 1 && ill[0].ends_with("CALL chatbot_create_index(1);"), "{ill:?}");
    boss.batch_execute(CREATE).unwrap();
    assert!(query_value::<bool>(&mut admin, VALID));
}

#[test]
fn repair_builds_indexes_after_a_restore() {
    let (mut db, _) = chatbots_with_indexes();
    let (mut app, mut boss) = (db.session("app"), db.session("boss"));
    assert_eq!(query_column::<String>(&mut app, INDEX_PROBLEMS), [""; 0]);
    db.admin.batch_execute("DROP INDEX chatbot_sync.embedding_hnsw_half_1, chatbot_sync.embedding_words_1").unwrap();
    let ill = "error embedding_words_1 is missing, embedding_hnsw_half_1 is missing CALL chatbot_create_index(1);";
    assert_eq!(query_column::<String>(&mut app, INDEX_PROBLEMS), [ill]);
    assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 1);
    assert!(query_value::<bool>(&mut db.admin, VALID));
    // The invalid index that a failed CREATE INDEX CONCURRENTLY leaves.
    db.admin
        .batch_execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chatbot_sync.embedding_hnsw_half_1'::regclass",
        )
        .unwrap();
    let ill = "error embedding_hnsw_half_1 is invalid CALL chatbot_create_index(1);";
    assert_eq!(query_column::<String>(&mut app, INDEX_PROBLEMS), [ill]);
    boss.batch_execute(CREATE).unwrap();
    assert!(query_value::<bool>(&mut db.admin, VALID));
    assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 0);
}

#[test]
fn a_failed_index_build_reports_its_reason() {
    let mut db = large_and_small_chatbot();
    let (mut app, mut boss) = (db.session("app"), db.session("boss"));
    db.admin.batch_execute("UPDATE chatbot_sync.embedding SET embedding = '[1,2,3]' WHERE source_id = 300").unwrap();
    let refused = expect_error(&mut boss, CREATE);
    assert_eq!(
        (refused.code.as_str(), refused.message.as_str()),
        ("58000", "the index could not be made: expected 256 dimensions, not 3")
    );
    assert!(
        query_column::<String>(&mut app, INDEX_PROBLEMS)[0]
            .contains("embedding_hnsw_half_1 is invalid: expected 256 dimensions, not 3")
    );
    app.batch_execute("SELECT chatbot_delete_source(1, 'document', 300)").unwrap();
    boss.batch_execute(CREATE).unwrap();
    assert_eq!(query_column::<String>(&mut app, INDEX_PROBLEMS), [""; 0]);
}

#[test]
fn bad_index_requests_are_refused() {
    let db = Db::new();
    let mut boss = db.session("boss");
    assert_eq!(expect_error(&mut boss, CREATE).code, "22023");
    db.session("app").batch_execute(&embed_statement(1, "A text.")).unwrap();
    assert_eq!(expect_error(&mut boss, "CALL chatbot_create_index(99)").code, "22023");
    assert_eq!(expect_error(&mut boss, "SELECT chatbot_drop_index(99)").code, "22023");
    assert_eq!(expect_error(&mut boss, "CALL chatbot_create_index(concurrent => NULL)").code, "22004");
    boss.batch_execute("BEGIN").unwrap();
    assert_eq!(expect_error(&mut boss, CREATE).code, "25001");
    boss.batch_execute("ROLLBACK; BEGIN; CALL chatbot_create_index(concurrent => false); COMMIT").unwrap();
    assert!(query_value::<bool>(&mut boss, VALID));
    // Creating and dropping an index again succeeds.
    boss.batch_execute("CALL chatbot_create_index(1)").unwrap();
    boss.batch_execute("SELECT chatbot_drop_index(), chatbot_drop_index(1)").unwrap();
    assert!(query_value::<bool>(
        &mut boss,
        "SELECT bool_and(NOT present AND NOT wanted) FROM chatbot_sync.model_index"
    ));
}

#[test]
fn the_doctor_suggests_an_index_where_it_pays() {
    let db = large_and_small_chatbot();
    let mut app = db.session("app");
    assert_eq!(query_column::<String>(&mut app, INDEX_PROBLEMS), [""; 0]);
    app.batch_execute("SET chatbot_sync.exact_search_limit = 99").unwrap();
    let advice = "warning a search of chatbot 1 reads all its 400 chunks CALL chatbot_create_index();";
    assert_eq!(query_column::<String>(&mut app, INDEX_PROBLEMS), [advice]);
    db.session("boss").batch_execute(CREATE).unwrap();
    assert_eq!(query_column::<String>(&mut app, INDEX_PROBLEMS), [""; 0]);
    let mut admin = db.other();
    admin.batch_execute("DELETE FROM pg_statistic WHERE starelid = 'chatbot_sync.embedding'::regclass; UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'").unwrap();
    let ill = query_column::<String>(&mut app, INDEX_PROBLEMS);
    assert!(
        ill.len() == 2
            && ill[0].contains("0.7.4")
            && ill[1].ends_with("ANALYZE chatbot_sync.embedding, chatbot_sync.source;"),
        "{ill:?}"
    );
}

#[test]
fn models_get_and_lose_their_own_indexes() {
    let (mut db, mock) = (chatbots_with_indexes().0, Mock::new());
    set_for_database(&mut db, "openai_compatible_url", &mock.url);
    let (mut boss, mut reader) = (db.session("boss"), db.session("reader"));
    reader.batch_execute(LOW_EXACT_SEARCH_LIMIT).unwrap();
    // More dimensions than an HNSW index of vector takes, so halfvec is used.
    let halves = r#"SELECT chatbot_set_model('openai_compatible', 'mock', 2100, options => '{"dimensions_field": "dimensions"}')"#;
    boss.batch_execute(halves).unwrap();
    boss.batch_execute("CALL chatbot_reembed()").unwrap();
    let valid = "SELECT count(*) FROM chatbot_sync.model_index WHERE valid AND model_id = (SELECT id FROM chatbot_sync.model WHERE active)";
    assert_eq!(
        query_value::<String>(&mut boss, "SELECT provider FROM chatbot_sync.model WHERE active"),
        "openai_compatible"
    );
    assert_eq!(query_value::<i64>(&mut boss, valid), 2);
    let mut tx = reader.transaction().unwrap();
    assert_eq!(tx.query("SELECT chatbot_search(1, 'winter', 10, mode => 'vector')", &[]).unwrap().len(), 10);
    let used = "SELECT pg_stat_get_xact_numscans(format('chatbot_sync.embedding_hnsw_%s', id)::regclass) FROM chatbot_sync.model WHERE active";
    assert_eq!(tx.query_one(used, &[]).unwrap().get::<_, i64>(0), 1);
    drop(tx);
    boss.batch_execute("CALL chatbot_drop_model(1)").unwrap();
    assert_eq!(
        query_value::<i64>(&mut boss, "SELECT count(*) FROM pg_class WHERE relname LIKE 'embedding\\_%\\_1'"),
        0
    );
    assert_eq!(query_value::<i64>(&mut boss, valid), 2);
}

#[test]
fn index_builds_fail_clearly_on_standbys_and_without_workers() {
    let mut server = Server::start_preloaded(&["max_worker_processes=1", "max_logical_replication_workers=0"]);
    server
        .db
        .session("app")
        .batch_execute("SELECT chatbot_embed_source(1, 'document', i, 'Text ' || i) FROM generate_series(1, 200) AS i")
        .unwrap();
    let mut boss = server.db.session("boss");
    wait_until(
        &mut server.db.admin,
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'chatbot_sync launcher')",
    );
    let refused = expect_error(&mut boss, CREATE);
    assert!(refused.code == "53000" && refused.hint.contains("concurrent => false"), "{refused:?}");
    boss.batch_execute("CALL chatbot_create_index(concurrent => false)").unwrap();
    let standby = server.standby();
    let lsn: String = query_value(&mut server.db.admin, "SELECT pg_current_wal_lsn()::text");
    let mut reader = standby.db.session("reader");
    wait_until(&mut reader, &format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'"));
    reader.batch_execute(LOW_EXACT_SEARCH_LIMIT).unwrap();
    assert_eq!(count_index_scans(&mut reader, "SELECT chatbot_search(1, 'Text 7')").0, 1);
    assert_eq!(found_sources(&mut reader, "1, 'Text 7', 1"), [7]);
}

#[test]
fn frequent_terms_count_for_near_chunks() {
    let (db, mut reader) = chatbots_with_indexes();
    db.session("app")
        .batch_execute(
            "SELECT chatbot_embed_source(3, 'document', i, format('Winter of the year %s%s', i, CASE i WHEN 7 THEN ': Quux.' ELSE '.' END))
            FROM generate_series(1, 2000) AS i",
        )
        .unwrap();
    db.other().batch_execute("ANALYZE chatbot_sync.embedding").unwrap();
    // The word "winter" is in more chunks than the index is asked for.
    let worth = "SELECT source_id, (score - 0.6 * similarity)::real FROM chatbot_search(3, 'Quux winter', 20)";
    let answers = reader.query(worth, &[]).unwrap();
    assert_eq!((answers[0].get::<_, i64>(0), answers.len()), (7, 20));
    for answer in answers {
        assert!(answer.get::<_, f32>(1) > 1e-6, "{answer:?}");
    }
}
