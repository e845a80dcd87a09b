//! Row-level security on the extension's tables applies to every search, view and report, and an application with a
//! policy writes as before.

use postgres::Client;

use super::harness::{Db, attached_documents, expect_error, find_differences, query_column, query_value};

/// The policies of docs/dba.md for the tests' roles: `app` has all chatbots, `reader` and `boss` see two of three.
const POLICIES: &str = "DO $$
DECLARE
    t regclass;
BEGIN
    FOREACH t IN ARRAY '{chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.job, chatbot_sync.sync_log}'::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY application ON %s TO app USING (true)', t);
        EXECUTE format('CREATE POLICY two_chatbots ON %s FOR SELECT TO reader, boss USING (chatbot_id IN (1, 2))', t);
    END LOOP;
END
$$";

/// Returns a database with three chatbots of the same texts, except that every chunk of the third has words that only
/// one chunk of the first has.
fn three_similar_chatbots() -> Db {
    let db = Db::new();
    db.session("app")
        .batch_execute(
            "SELECT chatbot_embed_source(c, 'document', i, format('Text %s tells about %s and the number %s.%s', i,
                (ARRAY['ships', 'horses', 'the moon', 'bread', 'music', 'winter', 'money'])[i % 7 + 1], i * i,
                CASE WHEN c = 3 OR i = 7 THEN ' Parcels leave at noon.' END))
            FROM generate_series(1, 3) AS c, generate_series(1, 200) AS i",
        )
        .unwrap();
    db
}

fn search_results(client: &mut Client, chatbot: i32, mode: &str) -> Vec<String> {
    let sql = format!(
        "SELECT format('%s %s %s', source_id, similarity, score)
        FROM chatbot_search({chatbot}, 'When do parcels leave?', 10, mode => '{mode}')"
    );
    query_column(client, &sql)
}

/// The number of scans of the HNSW index in this transaction.
const HNSW_SCANS: &str = "SELECT pg_stat_get_xact_numscans('chatbot_sync.embedding_hnsw_half_1'::regclass)";

#[test]
fn search_finds_visible_chatbots_only_in_every_mode() {
    let mut db = three_similar_chatbots();
    db.admin.batch_execute(POLICIES).unwrap();
    let check = |reader: &mut Client, app: &mut Client, place: &str| {
        for mode in ["hybrid", "vector", "text"] {
            assert_eq!(search_results(app, 3, mode).len(), 10, "{mode} {place}");
            assert_eq!(search_results(reader, 3, mode), [""; 0], "{mode} {place}");
            for chatbot in [1, 2] {
                let found = search_results(reader, chatbot, mode);
                assert!(!found.is_empty(), "{mode} {place}");
                assert!(found[0].starts_with("7 "), "{mode} {place}: {found:?}");
            }
        }
    };
    let (mut reader, mut app) = (db.session("reader"), db.session("app"));
    check(&mut reader, &mut app, "without indexes");
    let exact: Vec<_> = ["hybrid", "vector", "text"].map(|mode| search_results(&mut reader, 1, mode)).into();
    db.admin.batch_execute("CALL chatbot_create_index()").unwrap();
    for client in [&mut reader, &mut app] {
        client.batch_execute("SET chatbot_sync.exact_search_limit = 100").unwrap();
    }
    check(&mut reader, &mut app, "with indexes");
    // The scores do not depend on how frequent a word is in chatbots that this role cannot see.
    let indexed: Vec<_> = ["hybrid", "vector", "text"].map(|mode| search_results(&mut reader, 1, mode)).into();
    assert_eq!(indexed, exact);
    let mut tx = reader.transaction().unwrap();
    let before: i64 = tx.query_one(HNSW_SCANS, &[]).unwrap().get(0);
    tx.batch_execute("SELECT chatbot_search(1, 'parcels', mode => 'vector')").unwrap();
    assert_eq!(tx.query_one(HNSW_SCANS, &[]).unwrap().get::<_, i64>(0), before + 1);
}

#[test]
fn a_policy_may_split_the_sources_of_a_chatbot() {
    let mut db = three_similar_chatbots();
    db.admin.batch_execute(&POLICIES.replace("chatbot_id IN (1, 2)", "chatbot_id = 1")).unwrap();
    db.admin
        .batch_execute(
            "DROP POLICY two_chatbots ON chatbot_sync.embedding; DROP POLICY two_chatbots ON chatbot_sync.source;
            CREATE POLICY few ON chatbot_sync.embedding FOR SELECT TO reader USING (source_id > 190);
            CREATE POLICY few ON chatbot_sync.source FOR SELECT TO reader USING (source_id > 190)",
        )
        .unwrap();
    db.admin.batch_execute("CALL chatbot_create_index()").unwrap();
    let mut reader = db.session("reader");
    for limit in [5000, 10] {
        reader.batch_execute(&format!("SET chatbot_sync.exact_search_limit = {limit}")).unwrap();
        for mode in ["hybrid", "vector", "text"] {
            let sql = format!(
                "SELECT source_id FROM chatbot_search(1, 'Which text tells about ships?', 500, mode => '{mode}')"
            );
            let mut found = query_column::<i64>(&mut reader, &sql);
            found.sort_unstable();
            assert_eq!(found, (191..=200).collect::<Vec<i64>>(), "{mode}, limit {limit}");
        }
    }
}

#[test]
fn views_and_reports_show_visible_chatbots_only() {
    let (mut db, _mock, mut app) = attached_documents();
    app.batch_execute(
        "INSERT INTO documents (chatbot_id, content) SELECT i, 'Text ' || i FROM generate_series(1, 3) AS i",
    )
    .unwrap();
    app.batch_execute("SELECT chatbot_enqueue_source(i, 'link', i, 'A link.') FROM generate_series(1, 3) AS i")
        .unwrap();
    db.admin.batch_execute(POLICIES).unwrap();
    let views: bool = query_value(&mut db.admin, "SELECT current_setting('server_version_num')::int >= 150000");
    for role in ["reader", "boss"] {
        let mut session = db.session(role);
        for table in ["source", "embedding", "job", "sync_log", "source_status", "progress", "stats"] {
            let seen = format!("SELECT DISTINCT chatbot_id FROM chatbot_sync.{table} ORDER BY 1");
            if views || !["source_status", "progress", "stats"].contains(&table) {
                assert_eq!(query_column::<i64>(&mut session, &seen), [1, 2], "{role} {table}");
            }
        }
    }
    // The document of each chatbot has a problem.
    db.admin.batch_execute("UPDATE chatbot_sync.source SET content_hash = 'x' WHERE source_type = 'document'").unwrap();
    let mut boss = db.session("boss");
    assert_eq!(query_column::<i64>(&mut boss, "SELECT chatbot_id FROM chatbot_verify() ORDER BY 1"), [1, 2]);
    assert_eq!(query_value::<i64>(&mut boss, "SELECT sources FROM chatbot_estimate()"), 2);
    assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 2);
    assert_eq!(query_column::<i64>(&mut db.admin, "SELECT chatbot_id FROM chatbot_verify()"), [3]);
    assert_eq!(query_value::<i64>(&mut app, "SELECT sources FROM chatbot_estimate()"), 3);
    // Metrics count all rows, but no row is visible that a policy does not allow.
    assert_eq!(
        query_value::<f64>(
            &mut db.session("reader"),
            "SELECT value FROM chatbot_metrics() WHERE name = 'chatbot_sync_jobs' AND labels ->> 'state' = 'due'"
        ),
        3.0
    );
}

#[test]
fn an_application_with_a_policy_writes_as_before() {
    let (mut db, _mock, mut app) = attached_documents();
    db.admin.batch_execute(POLICIES).unwrap();
    app.batch_execute(
        "INSERT INTO documents (chatbot_id, content) SELECT 1 + i % 3, 'Text ' || i FROM generate_series(1, 9) AS i;
        UPDATE documents SET content = content || ', changed' WHERE id < 4; UPDATE documents SET chatbot_id = 2 WHERE id = 5;
        DELETE FROM documents WHERE id = 9; DELETE FROM chatbots WHERE id = 3",
    )
    .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute(
        "SELECT chatbot_embed_source(1, 'link', 1, 'A link.'); SELECT chatbot_embed_source(1, 'link', 1, 'Another.');
        SELECT chatbot_enqueue_source(1, 'link', 2, 'Later.'); CALL chatbot_process_queue();
        SELECT chatbot_retry(); CALL chatbot_sync_all(); SELECT chatbot_delete_source(1, 'link', 1)",
    )
    .unwrap();
    assert_eq!(
        query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.embedding WHERE source_type = 'link'"),
        [2]
    );
    app.batch_execute("SELECT chatbot_cleanup(1)").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source WHERE chatbot_id = 1"), 0);
    // Without the policy its triggers, which run as the owner, still work; its own calls are refused.
    db.admin.batch_execute("DROP POLICY application ON chatbot_sync.source").unwrap();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (2, 'One more.')").unwrap();
    assert_eq!(expect_error(&mut app, "SELECT chatbot_embed_source(1, 'link', 1, 'A link.')").code, "42501");
    assert_eq!(
        query_value::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_sync.embedding WHERE content = 'One more.'"),
        1
    );
}
