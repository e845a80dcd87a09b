//! Logical replication: a subscriber that has our tables searches without embedding, and one that has only host tables
//! can be repaired.

use super::harness::{ATTACH, DOCUMENTS, find_differences, query_column, query_value, wait_until};
use super::mock::Mock;
use super::server::Server;

/// Starts two servers, each with a mock provider and attached documents, with the same ids.
fn publisher_and_subscriber() -> [(Server, Mock); 2] {
    [(); 2].map(|()| {
        let mock = Mock::new();
        let url = format!("chatbot_sync.openai_compatible_url={}", mock.url);
        let mut server = Server::with(&[], &["wal_level=logical", &url]);
        server.db.admin.batch_execute(DOCUMENTS).unwrap();
        server.db.admin.batch_execute(ATTACH).unwrap();
        (server, mock)
    })
}

fn replicate(from: &mut Server, to: &mut Server, tables: &str) {
    from.db.admin.batch_execute("SELECT chatbot_set_model('openai_compatible', 'mock', 8)").unwrap();
    from.db.admin.batch_execute("INSERT INTO documents (chatbot_id, title, content) VALUES (1, 'a', 'One.')").unwrap();
    from.db.admin.batch_execute(&format!("CREATE PUBLICATION everything FOR TABLE {tables}")).unwrap();
    // The subscriber begins with empty tables.
    to.db.admin.batch_execute("TRUNCATE chatbots, documents").unwrap();
    if tables.contains("chatbot_sync.model") {
        to.db.admin.batch_execute("DELETE FROM chatbot_sync.model").unwrap();
    }
    let connection = format!("host={} dbname=postgres user=postgres", from.file(""));
    let sql = format!("CREATE SUBSCRIPTION follower CONNECTION '{connection}' PUBLICATION everything");
    to.db.admin.batch_execute(&sql).unwrap();
    // The initial copy of each table is independent of the others; after it, changes arrive in the order of commits.
    wait_until(&mut to.db.admin, "SELECT count(*) > 1 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel");
    from.db
        .admin
        .batch_execute(
            "INSERT INTO documents (chatbot_id, title, content) VALUES (1, 'b', 'Two.'), (1, 'c', 'Three.'), (2, 'd', 'Four.');
             UPDATE documents SET content = 'Changed.' WHERE id = 1; UPDATE documents SET title = 'B' WHERE id = 2;
             DELETE FROM documents WHERE id = 3; DELETE FROM chatbots WHERE id = 2;
             INSERT INTO documents (chatbot_id, title, content) VALUES (3, 'last', 'Last.')",
        )
        .unwrap();
    wait_until(&mut to.db.admin, "SELECT EXISTS (SELECT FROM documents WHERE title = 'last' AND status = 'synced')");
}

#[test]
fn a_subscriber_of_our_tables_finds_the_same_without_embedding() {
    let [(mut publisher, _mock), (mut subscriber, idle)] = publisher_and_subscriber();
    let tables = "chatbots, documents, chatbot_sync.model, chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.session, chatbot_sync.message";
    replicate(&mut publisher, &mut subscriber, tables);
    let found = "SELECT f::text FROM chatbot_search(1, 'Changed.') AS f";
    let expected = query_column::<String>(&mut publisher.db.admin, found);
    assert_eq!(expected.len(), 2);
    assert_eq!(idle.asked(), (0, 0));
    assert_eq!(query_column::<String>(&mut subscriber.db.admin, found), expected);
    assert_eq!(find_differences(&mut subscriber.db.admin), [""; 0]);
    let rows = "SELECT e::text FROM chatbot_sync.embedding AS e UNION ALL SELECT s::text FROM chatbot_sync.source AS s ORDER BY 1";
    assert_eq!(
        query_column::<String>(&mut subscriber.db.admin, rows),
        query_column::<String>(&mut publisher.db.admin, rows)
    );
    // The subscriber takes over. Sequences are not replicated.
    subscriber.db.admin.batch_execute("DROP SUBSCRIPTION follower").unwrap();
    subscriber
        .db
        .admin
        .batch_execute(
            "SELECT setval('documents_id_seq', 100); INSERT INTO documents (chatbot_id, title, content) VALUES (1, 'e', 'Five.');
             UPDATE documents SET content = 'Changed again.' WHERE id = 1",
        )
        .unwrap();
    assert_eq!(find_differences(&mut subscriber.db.admin), [""; 0]);
    assert_eq!(query_column::<String>(&mut subscriber.db.admin, "SELECT v::text FROM chatbot_verify() AS v"), [""; 0]);
}

#[test]
fn a_subscriber_of_host_tables_alone_can_be_repaired() {
    let [(mut publisher, _theirs), (mut subscriber, mock)] = publisher_and_subscriber();
    subscriber.db.admin.batch_execute("SELECT chatbot_set_model('openai_compatible', 'mock', 8)").unwrap();
    subscriber.db.admin.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'Its own.')").unwrap();
    replicate(&mut publisher, &mut subscriber, "chatbots, documents");
    // Statement-level triggers do not fire for what replication writes.
    assert_eq!(query_value::<i64>(&mut subscriber.db.admin, "SELECT count(*) FROM chatbot_sync.source"), 0);
    subscriber.db.admin.batch_execute("SELECT chatbot_repair(); CALL chatbot_sync_all()").unwrap();
    assert_eq!(find_differences(&mut subscriber.db.admin), [""; 0]);
    assert_eq!(mock.texts().len(), 1 + 3);
    publisher.db.admin.batch_execute("UPDATE documents SET content = 'Once more.' WHERE id = 1").unwrap();
    wait_until(&mut subscriber.db.admin, "SELECT EXISTS (SELECT FROM documents WHERE content = 'Once more.')");
    subscriber.db.admin.batch_execute("SELECT chatbot_repair(); CALL chatbot_sync_all()").unwrap();
    assert_eq!(find_differences(&mut subscriber.db.admin), [""; 0]);
}
