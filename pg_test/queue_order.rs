//! The order of the queue: a waiting text never replaces a newer one, and a moved row that is deleted leaves nothing.

use super::harness::{application_with_mock, one, query_column};

#[test]
fn a_queued_text_never_overwrites_a_newer_one() {
    let (_db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "SELECT chatbot_enqueue_source(1, 'document', 1, 'Old.'); SELECT chatbot_embed_source(1, 'document', 1, 'New.');
         SELECT chatbot_embed_source(1, 'document', 2, 'Old.'); SELECT chatbot_enqueue_source(1, 'document', 2, 'New.')",
    )
    .unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_column::<String>(&mut app, "SELECT content FROM chatbot_sync.embedding"), ["New."; 2]);
    assert_eq!(query_column::<String>(&mut app, "SELECT status FROM chatbot_sync.source"), ["synced"; 2]);
}

#[test]
fn a_row_moved_and_deleted_with_its_chatbot_leaves_nothing() {
    let (mut db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE chatbots (id bigint PRIMARY KEY); INSERT INTO chatbots VALUES (1), (2);
         CREATE TABLE links (id bigint PRIMARY KEY, chatbot_id bigint REFERENCES chatbots ON DELETE CASCADE, content text);
         SELECT chatbot_attach('links', 'link', mode => 'async'); SELECT chatbot_attach_chatbots('chatbots');
         INSERT INTO links VALUES (1, 1, 'One.'), (2, 1, 'Two.')",
    )
    .unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    app.batch_execute("UPDATE links SET chatbot_id = 2 WHERE id = 1").unwrap();
    app.batch_execute("DELETE FROM chatbots WHERE id = 2").unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    let sources = "SELECT concat_ws(' ', chatbot_id, source_id) FROM chatbot_sync.source";
    assert_eq!(query_column::<String>(&mut app, sources), ["1 2"]);
    assert_eq!(one::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.job"), 0);
    assert_eq!(one::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_verify()"), 0);
}

#[test]
fn a_row_moved_and_deleted_by_hand_leaves_nothing() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE links (id bigint PRIMARY KEY, chatbot_id bigint, content text);
         SELECT chatbot_attach('links', 'link', mode => 'async'); INSERT INTO links VALUES (1, 1, 'One.'), (2, 1, 'Two.')",
    )
    .unwrap();
    app.batch_execute("CALL chatbot_process_queue(); UPDATE links SET chatbot_id = 2 WHERE id = 1").unwrap();
    let deleted = "SELECT status FROM chatbot_delete_source(2, 'link', 1)";
    assert_eq!(one::<String>(&mut app, deleted), "not_found");
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    let sources = "SELECT concat_ws(' ', chatbot_id, source_id) FROM chatbot_sync.source";
    assert_eq!(query_column::<String>(&mut app, sources), ["1 2"]);
    // The row moves twice, and another row then takes its first key.
    app.batch_execute(
        "UPDATE links SET chatbot_id = 3 WHERE id = 2; UPDATE links SET chatbot_id = 4 WHERE id = 2;
         UPDATE links SET id = 3 WHERE id = 2; INSERT INTO links VALUES (2, 1, 'Another.');
         SELECT chatbot_delete_source(4, 'link', 3); CALL chatbot_process_queue()",
    )
    .unwrap();
    assert_eq!(query_column::<String>(&mut app, sources), ["1 2"]);
    assert_eq!(query_column::<String>(&mut app, "SELECT content FROM chatbot_sync.embedding"), ["Another."]);
    assert_eq!(one::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.job"), 0);
    assert_eq!(mock.texts(), ["One.", "Two.", "Another."]);
}
