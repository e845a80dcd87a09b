//! With Citus: a search runs in one statement on one node and finds what a single server finds, and writers of
//! different rows do not conflict.

use postgres::Client;

use super::citus_cluster::{Cluster, count_indexed_shards, create_documents_before_attach};
use super::harness::{ATTACH, expect_error, pause, prose, query_column, query_value, use_mock};
use super::mock::Mock;
use super::server::Server;

#[test]
fn a_node_searches_a_large_chatbot_as_one_machine_does() {
    let name = "a_node_searches_a_large_chatbot_as_one_machine_does";
    let Some(mut cluster) = Cluster::start(name, "citus") else { return };
    let db = &mut cluster.coordinator.db;
    db.session("app")
        .batch_execute(
            "SELECT chatbot_embed_source(c, 'document', i, format('Text %s of chatbot %s tells about %s and the number %s.',
                i, c, (ARRAY['ships', 'horses', 'the moon', 'bread', 'music', 'winter', 'money'])[i % 7 + 1], i * i),
                jsonb_build_object('odd', i % 2 = 1, 'exact', 0.12345678901234567890123))
            FROM (SELECT 1 AS c, generate_series(1, 400) AS i UNION ALL SELECT 2, generate_series(1, 20)) AS s",
        )
        .unwrap();
    let searches: Vec<String> = ["ships at sea", "How cold is it?", "number 144", "horses"]
        .iter()
        .flat_map(|query| {
            [
                format!("1, '{query}', 10, mode => 'vector'"),
                format!("1, '{query}', 10"),
                format!("1, '{query}', 10, mode => 'text'"),
                format!("1, '{query}', 300"),
                format!("1, '{query}', 10, min_similarity => 0.3"),
                format!(
                    "1, '{query}', 10, metadata_filter => '{{\"odd\": true, \"exact\": 0.12345678901234567890123}}'"
                ),
                format!("1, '{query}', 10, metadata_filter => '{{\"exact\": 0.12345678901234567890124}}'"),
                format!("1, '{query}', 10, source_types => '{{link}}'"),
                format!("2, '{query}', 10"),
                format!("3, '{query}', 10"),
            ]
        })
        .map(|rest| format!("SELECT s::text FROM chatbot_search({rest}) AS s"))
        .collect();
    let answers =
        |client: &mut Client| searches.iter().map(|sql| query_column::<String>(client, sql)).collect::<Vec<_>>();
    let right = answers(&mut cluster.coordinator.db.session("reader"));
    cluster.distribute();
    let mut reader = cluster.coordinator.db.session("reader");
    assert_eq!(answers(&mut reader), right);
    let advice = "SELECT concat_ws(' ', status, detail, hint) FROM chatbot_doctor() WHERE check_name = 'indexes' AND status <> 'ok'";
    let mut boss = cluster.coordinator.db.session("boss");
    boss.batch_execute("SET chatbot_sync.exact_search_limit = 99").unwrap();
    assert_eq!(
        query_column::<String>(&mut boss, advice),
        ["warning a search of chatbot 1 reads all its 400 chunks CALL chatbot_create_index();"]
    );
    boss.batch_execute("CALL chatbot_create_index()").unwrap();
    assert_eq!(count_indexed_shards(&mut cluster), 8);
    assert_eq!(query_column::<String>(&mut boss, advice), [""; 0]);
    let sizes = "SELECT count(*) FROM chatbot_sync.model_index WHERE valid AND chunks IS NULL AND bytes IS NULL";
    assert_eq!(query_value::<i64>(&mut reader, sizes), 2);
    // The index of the node is used for the large chatbot only, and finds the same chunks.
    let mut scans = || {
        let sql = "SELECT coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_all_indexes WHERE indexrelname LIKE 'embedding\\_hnsw\\_%'";
        let shown = "SET citus.override_table_visibility = off";
        let of = |node: &mut Server| {
            node.db.admin.batch_execute(shown).unwrap();
            query_value::<i64>(&mut node.db.admin, sql)
        };
        cluster.nodes.iter_mut().map(of).sum::<i64>()
    };
    // One session of the node answers all three searches, and reports its index scans when it ends. Only the last
    // search uses the index.
    let on_one_node = "SELECT count(DISTINCT nodeport) = 1 FROM pg_dist_shard_placement WHERE shardid IN (
        SELECT get_shard_id_for_distribution_column('chatbot_sync.embedding', c) FROM (VALUES (1), (2)) AS v (c))";
    assert!(query_value::<bool>(&mut cluster.coordinator.db.admin, on_one_node));
    let before = scans();
    let mut asks = cluster.coordinator.db.session("reader");
    for (limit, chatbot) in [(100, 2), (400, 1), (100, 1)] {
        let search = format!(
            "SET chatbot_sync.exact_search_limit = {limit}; SELECT chatbot_search({chatbot}, 'How cold is it?')"
        );
        asks.batch_execute(&search).unwrap();
    }
    drop(asks);
    while scans() == before {
        pause();
    }
    assert_eq!(scans() - before, 1);
    reader.batch_execute("SET chatbot_sync.exact_search_limit = 100").unwrap();
    assert_eq!(answers(&mut reader), right);
    // Searches work at REPEATABLE READ and READ ONLY.
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").unwrap();
    assert_eq!(answers(&mut reader), right);
    reader.batch_execute("COMMIT").unwrap();
    // A search sends one statement to one node.
    let (mut app, told) = cluster.coordinator.db.session_with_notices("app");
    app.batch_execute("SELECT chatbot_search(1, 'number 144'); SET citus.log_remote_commands = on").unwrap();
    told.lock().unwrap().clear();
    app.batch_execute("SELECT chatbot_search(1, 'number 144')").unwrap();
    let issued: Vec<String> = told.lock().unwrap().iter().filter(|line| line.contains("issuing")).cloned().collect();
    assert!(issued.len() == 1 && issued[0].contains("search_in"), "{issued:?}");
    assert_eq!(expect_error(&mut app, "SELECT chatbot_sync.search_in(1, 1, '{}', NULL, NULL)").code, "42501");
    boss.batch_execute("SELECT chatbot_drop_index()").unwrap();
    assert_eq!(count_indexed_shards(&mut cluster), 0);
}

/// Returns the shards of a table that a statement was sent to, each once.
fn shards_asked(client: &mut Client, told: &std::sync::Mutex<Vec<String>>, sql: &str, table: &str) -> Vec<String> {
    let name = format!("{table}_1");
    told.lock().unwrap().clear();
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let told = told.lock().unwrap();
    let mut shards: Vec<String> = told
        .iter()
        .filter(|line| line.contains("issuing"))
        .flat_map(|line| line.split(&name).skip(1))
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect())
        .collect();
    shards.sort_unstable();
    shards.dedup();
    shards
}

#[test]
fn a_statement_about_one_chatbot_asks_one_shard() {
    let Some(mut cluster) = Cluster::start("a_statement_about_one_chatbot_asks_one_shard", "citus") else {
        return;
    };
    let mock = Mock::new();
    use_mock(&mut cluster.coordinator.db, &mock);
    create_documents_before_attach(&mut cluster.coordinator.db);
    cluster.distribute();
    let (mut app, told) = cluster.coordinator.db.session_with_notices("app");
    app.batch_execute(ATTACH).unwrap();
    app.batch_execute("SET citus.log_remote_commands = on").unwrap();
    let session: String = query_value(&mut app, "SELECT chatbot_session_open(1)::text");
    let text = prose(60);
    let of_one = [
        format!("SELECT chatbot_embed_source(1, 'document', 500, $t${text}$t$)"),
        format!("SELECT chatbot_embed_source(1, 'document', 500, 'Before. ' || $t${text}$t$, '{{\"a\": 1}}')"),
        format!("SELECT chatbot_embed_source(1, 'document', 500, 'Before. ' || $t${text}$t$, '{{\"lang\": \"fr\"}}')"),
        "SELECT chatbot_search(1, 'number 37')".to_owned(),
        "SELECT chatbot_search(1, 'number 37', mode => 'vector', source_types => '{document}')".to_owned(),
        "SELECT chatbot_search(1, 'number 37', mode => 'text', metadata_filter => '{\"a\": 1}')".to_owned(),
        "INSERT INTO documents (chatbot_id, content) SELECT 1, 'Row ' || i FROM generate_series(1, 5) AS i".to_owned(),
        "UPDATE documents SET content = content || '!' WHERE content LIKE 'Row%'".to_owned(),
        "UPDATE documents SET title = 'T' WHERE content LIKE 'Row%'".to_owned(),
        "UPDATE documents SET active = false WHERE content LIKE 'Row%'".to_owned(),
        "UPDATE documents SET id = id + 10000 WHERE content LIKE 'Row%'".to_owned(),
        "DELETE FROM documents WHERE content LIKE 'Row%'".to_owned(),
        "SELECT chatbot_delete_source(1, 'document', 500)".to_owned(),
        "SELECT chatbot_enqueue_source(1, 'document', 501, 'Queued.')".to_owned(),
        "CALL chatbot_process_queue()".to_owned(),
        "CALL chatbot_sync_all(1)".to_owned(),
        "SELECT chatbot_retry(1)".to_owned(),
        format!("SELECT chatbot_session_add_message('{session}', 'user', 'Hello.')"),
        format!("SELECT chatbot_session_messages('{session}')"),
        format!("SELECT chatbot_session_close('{session}')"),
        "SELECT chatbot_cleanup(1)".to_owned(),
    ];
    // chatbot_sync_all() reads every host table before it begins; this call does that outside the measured ones.
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    let mut asked = 0;
    for sql in &of_one {
        for table in ["source", "embedding", "session", "message"] {
            if sql.starts_with("CALL chatbot_sync_all") && table == "source" {
                continue;
            }
            let shards = shards_asked(&mut app, &told, sql, table);
            assert!(shards.len() <= 1, "{sql:.100}: {table} {shards:?}");
            asked += shards.len();
        }
    }
    assert!(asked > 10, "{asked}");
    let plan = query_column::<String>(
        cluster.admin(),
        "EXPLAIN SELECT content FROM chatbot_sync.embedding WHERE chatbot_id = 1 ORDER BY embedding <=> '[1,0,0,0,0,0,0,0]' LIMIT 5",
    );
    assert!(plan.iter().any(|line| line.trim() == "Task Count: 1"), "{plan:?}");
}

#[test]
fn writers_of_different_rows_do_not_conflict_on_nodes_at_repeatable_read() {
    let name = "writers_of_different_rows_do_not_conflict_on_nodes_at_repeatable_read";
    let Some(mut cluster) = Cluster::start(name, "citus") else { return };
    create_documents_before_attach(&mut cluster.coordinator.db);
    cluster.distribute();
    let db = &cluster.coordinator.db;
    let (mut app, mut other) = (db.session("app"), db.session("app"));
    app.batch_execute(ATTACH).unwrap();
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    let mine = "UPDATE documents SET content = 'Mine.' WHERE id = 3";
    let cases = [
        ("UPDATE documents SET content = 'Theirs.' WHERE id = 6", mine),
        ("CALL chatbot_sync_all()", mine),
        ("SELECT chatbot_embed_source(1, 'document', 3, 'Theirs.')", mine),
        (
            "DELETE FROM documents WHERE id = 3",
            "INSERT INTO documents (id, chatbot_id, content) VALUES (3, 1, 'Mine.')",
        ),
        ("INSERT INTO documents (chatbot_id, content) VALUES (1, 'New.')", mine),
        ("SELECT chatbot_embed_source(1, 'link', 9, 'Theirs.')", "SELECT chatbot_embed_source(1, 'link', 9, 'Mine.')"),
        ("SELECT chatbot_cleanup(1)", mine),
    ];
    for (nth, (theirs, mine)) in cases.into_iter().enumerate() {
        let text = format!("Mine {nth}.");
        let mine = &mine.replace("Mine.", &text);
        app.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM documents").unwrap();
        other.batch_execute(theirs).unwrap_or_else(|error| panic!("{theirs}: {error:?}"));
        app.batch_execute(mine).unwrap_or_else(|error| panic!("{mine} after {theirs}: {error:?}"));
        app.batch_execute("COMMIT").unwrap_or_else(|error| panic!("{mine} after {theirs}: {error:?}"));
        let found =
            format!("SELECT EXISTS (SELECT FROM chatbot_sync.embedding WHERE chatbot_id = 1 AND content = '{text}')");
        assert!(query_value::<bool>(&mut app, &found), "{mine} after {theirs}");
    }
}
