//! Host tables whose rows all belong to one chatbot, and tables that several chatbots know.

use postgres::Client;

use super::harness::{Db, application_with_mock, expect_error, prose, query_column, query_value};
use super::mock::Mock;

const PRODUCTS: &str =
    "CREATE TABLE products (id int PRIMARY KEY, content text, price int DEFAULT 1, one text, two text);";

/// Chunks of chatbot 1 that chatbot 2 has with the same vector of a model.
fn shared_vectors(client: &mut Client) -> i64 {
    query_value(
        client,
        "SELECT count(*) FROM chatbot_sync.embedding a JOIN chatbot_sync.embedding b USING (source_id, chunk_index, model_id)
        WHERE (a.chatbot_id, b.chatbot_id) = (1, 2) AND a.content = b.content AND a.embedding::text = b.embedding::text",
    )
}

/// A table that chatbots 1 and 2 know, the second one only products that cost more than 5.
fn shared(mode: &str) -> (Db, Mock, Client) {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(PRODUCTS).unwrap();
    app.batch_execute(&format!(
        "SELECT chatbot_attach('products', 'document', chatbot_id => 1, status_column => 'one', mode => '{mode}');
         SELECT chatbot_attach('products', 'link', chatbot_id => 2, status_column => 'two', condition => 'price > 5', mode => '{mode}')"
    ))
    .unwrap();
    (db, mock, app)
}

fn sources(client: &mut Client) -> Vec<String> {
    query_column(
        client,
        "SELECT format('%s %s %s', chatbot_id, source_type, source_id) FROM chatbot_sync.source WHERE enabled ORDER BY 1",
    )
}

fn verified(db: &Db) -> Vec<String> {
    query_column(&mut db.session("boss"), "SELECT v::text FROM chatbot_verify() AS v")
}

#[test]
fn rows_of_a_table_belong_to_the_constant_chatbot() {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(PRODUCTS).unwrap();
    app.batch_execute(
        "INSERT INTO products VALUES (1, 'A chair.'); SELECT chatbot_attach('products', 'document', chatbot_id => 7, status_column => 'one');
         CALL chatbot_sync_all(); INSERT INTO products VALUES (2, 'A table.'), (3, 'A lamp.');
         UPDATE products SET content = 'A door.' WHERE id = 1; UPDATE products SET id = 5 WHERE id = 2; DELETE FROM products WHERE id = 3",
    )
    .unwrap();
    assert_eq!(sources(&mut app), ["7 document 1", "7 document 5"]);
    assert_eq!((mock.asked().1, verified(&db)), (4, vec![]));
    assert_eq!(query_column::<String>(&mut app, "SELECT one FROM products"), ["synced", "synced"]);
    let shown = "SELECT concat_ws(' ', chatbot_id, chatbot_column, content_column) FROM chatbot_sync.host_table";
    assert_eq!(query_value::<String>(&mut app, shown), "7 content");
    let wrong = "SELECT d::text FROM chatbot_doctor() AS d WHERE status = 'error'";
    assert_eq!(query_column::<String>(&mut db.session("boss"), wrong), [""; 0]);
    app.batch_execute("TRUNCATE products").unwrap();
    assert_eq!(sources(&mut app), [""; 0]);
}

#[test]
fn what_two_chatbots_know_is_embedded_once() {
    for mode in ["sync", "async"] {
        let (db, mock, mut app) = shared(mode);
        let text = prose(30);
        app.execute("INSERT INTO products VALUES (1, $1, 9), (2, 'A table.', 9), (3, 'A lamp.', 1)", &[&text]).unwrap();
        app.batch_execute("CALL chatbot_process_queue()").unwrap();
        let chunks: i64 = query_value(&mut app, "SELECT count(*) FROM chatbot_sync.embedding WHERE chatbot_id = 1");
        assert_eq!(mock.asked().1 as i64, chunks, "{mode}");
        assert_eq!(shared_vectors(&mut app), chunks - 1, "{mode}");
        // The second chatbot hears of it later.
        app.batch_execute("UPDATE products SET price = 9; CALL chatbot_process_queue()").unwrap();
        assert_eq!((mock.asked().1 as i64, shared_vectors(&mut app)), (chunks, chunks), "{mode}");
        app.batch_execute("UPDATE products SET content = 'A bed.' WHERE id = 3; CALL chatbot_process_queue()").unwrap();
        assert_eq!((mock.asked().1 as i64, shared_vectors(&mut app)), (chunks + 1, chunks), "{mode}");
        assert_eq!(
            query_column::<String>(&mut app, "SELECT DISTINCT one || two FROM products"),
            ["syncedsynced"],
            "{mode}"
        );
        assert_eq!(verified(&db), [""; 0], "{mode}");
    }
}

#[test]
fn what_two_chatbots_know_is_embedded_once_by_another_model_too() {
    let (db, mock, mut app) = shared("sync");
    app.batch_execute("INSERT INTO products VALUES (1, 'A chair.', 9), (2, 'A table.', 9), (3, 'A lamp.', 1)").unwrap();
    assert_eq!(mock.asked().1, 3);
    let mut boss = db.session("boss");
    boss.batch_execute("SELECT chatbot_set_model('openai_compatible', 'mock', 8, document_prefix => 'passage: ')")
        .unwrap();
    // Sources of a batch together, and one after the other.
    boss.batch_execute("CALL chatbot_reembed(4)").unwrap();
    assert_eq!((mock.asked().1, shared_vectors(&mut app), verified(&db)), (6, 4, vec![]));
    boss.batch_execute("SELECT chatbot_set_model('openai_compatible', 'mock', 8, document_prefix => 'text: ')")
        .unwrap();
    boss.batch_execute("CALL chatbot_reembed(1)").unwrap();
    assert_eq!((mock.asked().1, verified(&db)), (9, vec![]));
}

#[test]
fn each_attachment_follows_the_table_by_itself() {
    let (db, _mock, mut app) = shared("sync");
    app.batch_execute("INSERT INTO products VALUES (1, 'A chair.', 9), (2, 'A table.', 2)").unwrap();
    assert_eq!(sources(&mut app), ["1 document 1", "1 document 2", "2 link 1"]);
    app.batch_execute("UPDATE products SET id = id + 10, price = 11 - price").unwrap();
    assert_eq!(sources(&mut app), ["1 document 11", "1 document 12", "2 link 12"]);
    app.batch_execute("ALTER TABLE products RENAME price TO cost; ALTER TABLE products RENAME TO goods").unwrap();
    app.batch_execute("UPDATE goods SET cost = 7; DELETE FROM goods WHERE id = 11").unwrap();
    assert_eq!((sources(&mut app), verified(&db)), (vec!["1 document 12".to_owned(), "2 link 12".to_owned()], vec![]));
    app.batch_execute("SELECT chatbot_detach('goods', true, chatbot_id => 2)").unwrap();
    assert_eq!(sources(&mut app), ["1 document 12"]);
    assert_eq!(expect_error(&mut app, "SELECT chatbot_detach('goods', chatbot_id => 2)").code, "42704");
    app.batch_execute(
        "SELECT chatbot_attach('goods', 'document', chatbot_id => 3); CALL chatbot_sync_all(); DROP TABLE goods",
    )
    .unwrap();
    assert_eq!(sources(&mut app), [""; 0]);
}

#[test]
fn attachments_that_would_meet_are_refused() {
    let (_db, _mock, mut app) = shared("sync");
    for (arguments, code) in [
        ("'document', chatbot_id => 1", "42710"),
        ("'document', chatbot_column => 'price'", "42710"),
        ("'document', chatbot_id => 0", "22023"),
        ("'document', chatbot_id => 3, chatbot_column => 'price'", "22023"),
        ("'document', chatbot_id => 3, status_column => 'one'", "22023"),
        ("'document', chatbot_id => 3, metadata_columns => '{one}'", "22023"),
        ("'document', chatbot_id => 3, condition => 'two IS NULL'", "22023"),
    ] {
        let refused = expect_error(&mut app, &format!("SELECT chatbot_attach('products', {arguments})"));
        assert_eq!(refused.code, code, "{arguments}: {refused:?}");
    }
    app.batch_execute(
        "CREATE TABLE rows (id int PRIMARY KEY, chatbot_id int, content text); SELECT chatbot_attach('rows', 'document')",
    )
    .unwrap();
    assert_eq!(expect_error(&mut app, "SELECT chatbot_attach('rows', 'link', chatbot_id => 4)").code, "42710");
}

#[test]
fn partitions_of_a_table_that_two_chatbots_know_have_the_triggers_of_both() {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE products (id int, region text, content text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
         CREATE TABLE eu PARTITION OF products FOR VALUES IN ('eu');
         SELECT chatbot_attach('products', 'document', chatbot_id => 1); SELECT chatbot_attach('products', 'document', chatbot_id => 2);
         CREATE TABLE us PARTITION OF products FOR VALUES IN ('us');
         INSERT INTO products VALUES (1, 'eu', 'A chair.'), (2, 'us', 'A table.')",
    )
    .unwrap();
    assert_eq!(sources(&mut app), ["1 document 1", "1 document 2", "2 document 1", "2 document 2"]);
    assert_eq!((mock.asked().1, verified(&db)), (2, vec![]));
    let wrong = "SELECT d::text FROM chatbot_doctor() AS d WHERE status = 'error'";
    assert_eq!(query_column::<String>(&mut db.session("boss"), wrong), [""; 0]);
    app.batch_execute("ALTER TABLE products DETACH PARTITION us").unwrap();
    assert_eq!(sources(&mut app), ["1 document 1", "2 document 1"]);
    // A part of the table is none that could be attached by itself.
    assert_eq!(expect_error(&mut app, "SELECT chatbot_attach('eu', 'document', chatbot_id => 3)").code, "42710");
}

#[test]
fn a_chatbot_that_is_deleted_takes_its_attachments_along() {
    let (db, _mock, mut app) = shared("sync");
    app.batch_execute(
        "CREATE TABLE chatbots (id int PRIMARY KEY); INSERT INTO chatbots VALUES (1), (2); SELECT chatbot_attach_chatbots('chatbots');
         INSERT INTO products VALUES (1, 'A chair.', 9); DELETE FROM chatbots WHERE id = 2; UPDATE products SET content = 'A bed.'",
    )
    .unwrap();
    assert_eq!(sources(&mut app), ["1 document 1"]);
    assert_eq!(query_column::<i64>(&mut app, "SELECT chatbot_id FROM chatbot_sync.host_table"), [1]);
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!((sources(&mut app), verified(&db)), (vec!["1 document 1".to_owned()], vec![]));
    // A table of somebody else's stays attached, and a WARNING says so.
    let mut db = db;
    db.admin
        .batch_execute(
            "CREATE TABLE theirs (id int PRIMARY KEY, content text); SELECT chatbot_attach('theirs', 'link', chatbot_id => 1)",
        )
        .unwrap();
    let (mut listening, told) = db.session_with_notices("app");
    listening.batch_execute("DELETE FROM chatbots WHERE id = 1").unwrap();
    let said = told.lock().unwrap().join("\n");
    assert!(said.contains("theirs stays attached to chatbot 1, which is gone (it has another owner)"), "{said}");
    assert_eq!(query_column::<String>(&mut app, "SELECT relation::text FROM chatbot_sync.host_table"), ["theirs"]);
}
