//! With Citus: a distributed database gives the same answers as a plain one, rows and vectors commit together, and a
//! node that is down or lacks rights is reported.

use postgres::Client;

use super::citus_cluster::{Cluster, count_indexed_shards, create_documents_before_attach};
use super::harness::{
    ATTACH, Db, DbError, database_with_mock, expect_error, prose, query_column, query_value, use_mock, wait_until,
};
use super::mock::{Fault, Mock};

/// Returns the stored rows, without the columns that differ between two databases.
fn comparable_state(client: &mut Client) -> Vec<String> {
    query_column(
        client,
        "SELECT s::text FROM (SELECT chatbot_id, source_type, source_id, status, error_code, attempts,
            chunk_count, content_hash, model_id, next_model_id, host, enabled, metadata, text_search_configs
            FROM chatbot_sync.source) AS s
        UNION ALL SELECT e::text FROM (SELECT * FROM chatbot_sync.embedding) AS e
        UNION ALL SELECT c::text FROM (SELECT chatbot_id, metadata, closed_at IS NULL FROM chatbot_sync.session) AS c
        UNION ALL SELECT m::text FROM (SELECT chatbot_id, id, role, content FROM chatbot_sync.message) AS m
        UNION ALL SELECT d::text FROM documents AS d
        UNION ALL SELECT j::text FROM (SELECT chatbot_id, source_id, host, priority, attempts FROM chatbot_sync.job) AS j
        ORDER BY 1",
    )
}

/// The statements of an application and of its administrator.
const STATEMENTS: [&str; 40] = [
    ATTACH,
    "CALL chatbot_sync_all(batch => 3)",
    "INSERT INTO documents (chatbot_id, title, content) SELECT 1 + i % 3, 'Title ' || i, 'Document ' || i || ' says this.'
        FROM generate_series(1, 30) AS i",
    "UPDATE documents SET content = content || ' And more.' WHERE id % 2 = 0",
    "UPDATE documents SET title = 'Other' WHERE id % 3 = 0",
    "UPDATE documents SET active = false WHERE id % 4 = 0",
    "UPDATE documents SET active = true WHERE id % 8 = 0",
    "UPDATE documents SET chatbot_id = 1 + chatbot_id % 3 WHERE id % 5 = 0",
    "UPDATE documents SET id = CASE id WHEN 6 THEN 7 ELSE 6 END + 1000 WHERE id IN (6, 7)",
    "DELETE FROM documents WHERE id % 11 = 0",
    "BEGIN; INSERT INTO documents (chatbot_id, content) VALUES (1, 'Never.'); DELETE FROM documents WHERE id = 1; ROLLBACK",
    "ALTER TABLE documents RENAME title TO heading",
    "UPDATE documents SET status = 'pending' WHERE id % 13 = 0",
    "DELETE FROM chatbots WHERE id = 3",
    "SELECT chatbot_embed_source(7, 'link', i, $t$PROSE$t$ || i, '{\"lang\": \"en\"}') FROM generate_series(1, 4) AS i",
    "SELECT chatbot_embed_source(7, 'link', 1, 'New first sentence. ' || $t$PROSE$t$, '{\"lang\": \"en\"}')",
    "SELECT chatbot_embed_source(7, 'link', 2, $t$PROSE$t$ || 2, '{\"lang\": \"de\", \"a\": 1}')",
    "SELECT chatbot_embed_source(7, 'link', 3, $t$PROSE$t$ || 3, '{\"lang\": \"en\", \"a\": 2}')",
    "SELECT chatbot_embed_source(7, 'link', 5, '')",
    "SELECT chatbot_delete_source(7, 'link', 4), chatbot_delete_source(7, 'link', 400)",
    "CREATE TABLE chats AS SELECT chatbot_session_open(i) AS id FROM generate_series(7, 9) AS i",
    "SELECT chatbot_session_add_message(id, 'user', 'Hello.') FROM chats",
    "SELECT chatbot_session_close(id) FROM chats LIMIT 1",
    "SELECT chatbot_cleanup(8)",
    "SELECT chatbot_enqueue_source(7, 'document', 50, 'From the queue.', priority => 3)",
    "CALL chatbot_process_queue()",
    "SELECT chatbot_detach('documents'); SELECT chatbot_attach('documents', 'document', metadata_columns => '{heading}',
        enabled_column => 'active', status_column => 'status', mode => 'async')",
    "CALL chatbot_process_queue()",
    "INSERT INTO documents (chatbot_id, content) VALUES (1, 'Later.'), (2, 'Later, too.')",
    "UPDATE documents SET content = 'Changed later ' || id WHERE id % 3 = 0",
    "UPDATE documents SET chatbot_id = 1 + chatbot_id % 2 WHERE id % 7 = 0",
    "DELETE FROM documents WHERE id = 9",
    "CALL chatbot_process_queue(2); CALL chatbot_process_queue()",
    "ALTER TABLE documents DISABLE TRIGGER USER; DELETE FROM documents WHERE id = 2;
        UPDATE documents SET content = 'Unseen.' WHERE id = 4; ALTER TABLE documents ENABLE TRIGGER USER;
        UPDATE chatbot_sync.embedding SET embedding = '[1,2,3]' WHERE chatbot_id = 7 AND source_id = 1;
        DELETE FROM chatbot_sync.embedding WHERE chatbot_id = 7 AND source_id = 2",
    "SELECT chatbot_repair()",
    "CALL chatbot_sync_all(); CALL chatbot_process_queue()",
    "ALTER TABLE documents DROP heading",
    "SELECT * FROM chatbot_search(1, 'document'); SELECT * FROM chatbot_estimate(); SELECT * FROM chatbot_estimate('documents')",
    "TABLE chatbot_sync.progress; TABLE chatbot_sync.source_status; TABLE chatbot_sync.stats; SELECT chatbot_metrics();
        SELECT chatbot_doctor()",
    "TRUNCATE documents",
];

#[test]
fn a_distributed_database_answers_as_a_plain_one() {
    let Some(mut cluster) = Cluster::start("a_distributed_database_answers_as_a_plain_one", "citus") else {
        return;
    };
    let (mut plain, _mock) = database_with_mock();
    let mock = Mock::new();
    use_mock(&mut cluster.coordinator.db, &mock);
    // No workers, so that each step of the queue happens where the test calls it.
    cluster
        .admin()
        .batch_execute("ALTER SYSTEM SET chatbot_sync.workers_per_database = 0; SELECT pg_reload_conf()")
        .ok();
    create_documents_before_attach(&mut plain);
    create_documents_before_attach(&mut cluster.coordinator.db);
    cluster.distribute();
    let spread = "SELECT count(*) = 32 AND count(DISTINCT nodeport) = 2 FROM pg_dist_shard_placement";
    assert!(query_value::<bool>(cluster.admin(), spread));
    assert_eq!(query_value::<i64>(cluster.admin(), "SELECT pg_relation_size('chatbot_sync.embedding')"), 0);
    let text = prose(60);
    for sql in STATEMENTS {
        let sql = sql.replace("PROSE", &text);
        for db in [&mut plain, &mut cluster.coordinator.db] {
            let role = if sql.contains("repair") { "boss" } else { "app" };
            // Each statement alone, since a procedure that commits cannot run with others in one message.
            for statement in if sql.starts_with("CALL") { sql.split(';').collect() } else { vec![sql.as_str()] } {
                db.session(role).batch_execute(statement).unwrap_or_else(|error| panic!("{statement:.200}: {error:?}"));
            }
        }
        let (plain, spread) = (comparable_state(&mut plain.admin), comparable_state(cluster.admin()));
        for (plain, spread) in plain.iter().zip(&spread) {
            assert_eq!(plain, spread, "after {sql:.200}");
        }
        assert_eq!(plain.len(), spread.len(), "after {sql:.200}");
    }
    let answers = "SELECT source_id || ' ' || chunk_index || ' ' || score || ' ' || similarity
        FROM chatbot_search(7, 'the number 37', 20, metadata_filter => '{\"lang\": \"en\"}')";
    let found = query_column::<String>(&mut plain.admin, answers);
    assert!(found.len() > 3);
    assert_eq!(found, query_column::<String>(cluster.admin(), answers));
    let before = comparable_state(cluster.admin());
    cluster.admin().batch_execute("SELECT chatbot_undistribute()").unwrap();
    assert_eq!(before, comparable_state(cluster.admin()));
    assert_eq!(found, query_column::<String>(cluster.admin(), answers));
    for node in &mut cluster.nodes {
        let left = "SELECT count(*) FROM pg_dist_partition";
        assert_eq!(query_value::<i64>(&mut node.db.admin, left), 0);
    }
    cluster.admin().batch_execute("SELECT chatbot_distribute()").unwrap();
    assert_eq!(before, comparable_state(cluster.admin()));
}

#[test]
fn faults_and_model_changes_work_on_distributed_tables() {
    let name = "faults_and_model_changes_work_on_distributed_tables";
    let Some(mut cluster) = Cluster::start(name, "citus") else { return };
    let mock = Mock::new();
    use_mock(&mut cluster.coordinator.db, &mock);
    create_documents_before_attach(&mut cluster.coordinator.db);
    cluster.coordinator.db.session("boss").batch_execute("CALL chatbot_create_index(concurrent => false)").unwrap();
    cluster.distribute();
    let valid = "SELECT count(*) FROM chatbot_sync.model_index WHERE wanted AND valid";
    assert_eq!(query_value::<i64>(cluster.admin(), valid), 2);
    let mut app = cluster.coordinator.db.session("app");
    let mut boss = cluster.coordinator.db.session("boss");
    app.batch_execute(ATTACH).unwrap();
    mock.state().always = Some(Fault::Status(401, "", "{}"));
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (2, 'Refused.')").unwrap();
    app.batch_execute("SELECT chatbot_enqueue_source(9, 'link', 1, 'Refused, too.')").unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    let failed = "SELECT count(*) FROM chatbot_sync.source WHERE status = 'error' AND error_code = '28000'";
    assert!(query_value::<i64>(&mut app, failed) >= 2);
    mock.state().always = None;
    assert!(query_value::<i64>(&mut app, "SELECT chatbot_retry()") >= 2);
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    let bad = "SELECT count(*) FROM chatbot_sync.source WHERE status <> 'synced'";
    assert_eq!(query_value::<i64>(&mut app, bad), 0);
    // Another model whose vectors do not fit into a page, and back.
    let old = query_value::<i32>(&mut app, "SELECT id FROM chatbot_sync.model WHERE active");
    let storage = "SELECT string_agg(DISTINCT result, '') FROM run_command_on_shards('chatbot_sync.embedding',
        $$SELECT attstorage FROM pg_attribute WHERE attrelid = '%s'::regclass AND attname = 'embedding'$$)";
    assert_eq!(query_value::<String>(cluster.admin(), storage), "p");
    boss.batch_execute("SELECT chatbot_set_model('local', 'minilm-static-256')").unwrap();
    app.batch_execute("SELECT chatbot_estimate()").unwrap();
    app.batch_execute("UPDATE documents SET content = 'Not the same.' WHERE id = 1").unwrap();
    boss.batch_execute("CALL chatbot_reembed(2)").unwrap();
    let models = "SELECT count(*) FROM chatbot_sync.embedding e JOIN chatbot_sync.model m ON m.id = e.model_id
        WHERE m.active AND vector_dims(e.embedding) = 256";
    assert_eq!(
        query_value::<i64>(cluster.admin(), models),
        query_value::<i64>(&mut app, "SELECT sum(chunk_count) FROM chatbot_sync.source")
    );
    assert_eq!(query_value::<i64>(cluster.admin(), &format!("{valid} AND model_id <> {old}")), 2);
    boss.batch_execute(&format!("CALL chatbot_drop_model({old}, 3)")).unwrap();
    assert_eq!(count_indexed_shards(&mut cluster), 8);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(DISTINCT model_id) FROM chatbot_sync.embedding"), 1);
    boss.batch_execute("SELECT chatbot_set_model('openai_compatible', 'wide', 3000)").unwrap();
    assert_eq!(query_value::<String>(cluster.admin(), storage), "e");
    assert_eq!(query_column::<String>(&mut boss, "SELECT problem FROM chatbot_verify()"), [""; 0]);
}

#[test]
fn rows_and_vectors_commit_together_on_nodes_and_workers_follow() {
    let name = "rows_and_vectors_commit_together_on_nodes_and_workers_follow";
    let Some(mut cluster) = Cluster::start(name, "citus,chatbot_sync") else { return };
    create_documents_before_attach(&mut cluster.coordinator.db);
    cluster.distribute();
    let mut app = cluster.coordinator.db.session("app");
    app.batch_execute("SELECT chatbot_attach('documents', 'document', status_column => 'status', mode => 'async')")
        .unwrap();
    app.batch_execute("UPDATE documents SET content = content || ' More.'").unwrap();
    wait_until(&mut app, "SELECT count(*) = 7 FROM documents WHERE status = 'synced'");
    app.batch_execute("SELECT chatbot_detach('documents')").unwrap();
    app.batch_execute(ATTACH).unwrap();
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    // The rows that triggers wrote as the owner are visible in the same transaction.
    app.batch_execute("BEGIN; INSERT INTO documents (chatbot_id, content) VALUES (1, 'Fresh news.')").unwrap();
    let seen = "SELECT count(*) FROM chatbot_search(1, 'fresh news', 20) WHERE content = 'Fresh news.'";
    assert_eq!(query_value::<i64>(&mut app, seen), 1);
    app.batch_execute("CALL chatbot_sync_all(); SELECT chatbot_embed_source(1, 'link', 5, 'A link.')").unwrap();
    app.batch_execute("SELECT chatbot_delete_source(1, 'link', 5); ROLLBACK").unwrap();
    assert_eq!(query_value::<i64>(&mut app, seen), 0);
    // A chatbot on the first node, which is then stopped.
    let on_node = format!(
        "SELECT c::int FROM generate_series(1, 100) AS c WHERE {} = (SELECT nodeport FROM pg_dist_shard_placement
            WHERE shardid = get_shard_id_for_distribution_column('chatbot_sync.source', c)) LIMIT 1",
        cluster.ports[1]
    );
    let chatbot: i32 = query_value(cluster.admin(), &on_node);
    cluster.admin().batch_execute(&format!("INSERT INTO chatbots SELECT {chatbot} WHERE {chatbot} > 3")).unwrap();
    let rows: i64 = query_value(&mut app, "SELECT count(*) FROM documents");
    cluster.nodes[0].stop("immediate");
    let insert = format!("INSERT INTO documents (chatbot_id, content) VALUES ({chatbot}, 'Lost?')");
    let DbError { message, .. } = expect_error(&mut app, &insert);
    assert!(message.contains("connection"), "{message}");
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM documents"), rows);
    let down = "SELECT check_name || ' ' || status FROM chatbot_doctor() WHERE check_name LIKE 'node%' ORDER BY 1";
    assert_eq!(query_column::<String>(&mut app, down), ["node down error", "nodes ok"]);
}

#[test]
fn the_doctor_names_a_node_that_cannot_serve_a_role() {
    let Some(mut cluster) = Cluster::start("the_doctor_names_a_node_that_cannot_serve_a_role", "citus") else { return };
    let nodes =
        "SELECT status || ' ' || coalesce(hint, '') FROM chatbot_doctor() WHERE check_name = 'nodes' ORDER BY 1";
    assert_eq!(query_column::<String>(cluster.admin(), nodes), [""; 0]);
    cluster.distribute();
    assert_eq!(query_column::<String>(cluster.admin(), nodes), ["ok ", "ok "]);
    // A level that is revoked or granted later is revoked or granted on the nodes too.
    cluster.admin().batch_execute("SELECT chatbot_revoke('app')").unwrap();
    let rights = "SELECT has_schema_privilege('app', 'chatbot_sync', 'USAGE')";
    assert!(!query_value::<bool>(&mut cluster.nodes[0].db.admin, rights));
    cluster.admin().batch_execute("SELECT chatbot_grant('app')").unwrap();
    assert!(query_value::<bool>(&mut cluster.nodes[0].db.admin, rights));
    cluster.nodes[1]
        .db
        .admin
        .batch_execute("SET citus.enable_ddl_propagation = off; REVOKE USAGE ON SCHEMA chatbot_sync FROM app")
        .unwrap();
    let told = query_column::<String>(cluster.admin(), nodes);
    assert_eq!(told.len(), 2);
    assert!(told[0].starts_with("error ") && told[0].contains("chatbot_grant") && told[1] == "ok ", "{told:?}");
}

#[test]
fn distributing_is_refused_where_it_cannot_work() {
    let mut db = Db::new();
    for call in ["chatbot_distribute()", "chatbot_undistribute()"] {
        let refused = expect_error(&mut db.admin, &format!("SELECT {call}"));
        assert_eq!((refused.code.as_str(), refused.message.as_str()), ("55000", "this database has no Citus"));
        assert!(refused.hint.contains("CREATE EXTENSION citus"));
    }
    assert_eq!(expect_error(&mut db.admin, "SELECT chatbot_distribute(0)").code, "22023");
    let Some(mut cluster) = Cluster::start("distributing_is_refused_where_it_cannot_work", "citus") else { return };
    cluster.add_nodes();
    assert_eq!(expect_error(cluster.admin(), "SELECT chatbot_undistribute()").code, "55000");
    cluster.admin().batch_execute("SELECT chatbot_distribute(4)").unwrap();
    assert_eq!(expect_error(cluster.admin(), "SELECT chatbot_distribute(8)").code, "55000");
    let refused = expect_error(&mut cluster.nodes[0].db.admin, "SELECT chatbot_distribute()");
    assert_eq!((refused.code.as_str(), refused.message.as_str()), ("55000", "this node is no coordinator"));
}
