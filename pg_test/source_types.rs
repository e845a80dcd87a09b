//! Kinds of source: adding, using and dropping them.

use super::harness::{Db, application_with_mock, expect_error, query_column, query_value, wait_for_lock};

fn with_products() -> Db {
    let (db, _mock, _app) = application_with_mock();
    assert!(query_value::<bool>(&mut db.session("boss"), "SELECT chatbot_add_source_type('product')"));
    db
}

#[test]
fn everything_that_takes_a_kind_takes_one_that_was_added() {
    let (db, _mock, mut app) = application_with_mock();
    db.session("boss").batch_execute("SELECT chatbot_add_source_type('product')").unwrap();
    app.batch_execute(
        "CREATE TABLE products (id int PRIMARY KEY, chatbot_id int, content text, status text);
         SELECT chatbot_attach('products', 'product', status_column => 'status');
         INSERT INTO products VALUES (1, 1, 'A red chair.', NULL), (2, 1, 'A blue table.', NULL);
         SELECT chatbot_embed_source(1, 'product', 3, 'A green lamp.');
         SELECT chatbot_embed_source(1, 'document', 3, 'A green door.');
         SELECT chatbot_enqueue_source(1, 'product', 4, 'A white bed.'); CALL chatbot_process_queue();
         SELECT chatbot_delete_source(1, 'product', 3)",
    )
    .unwrap();
    let found = "SELECT source_id FROM chatbot_search(1, 'A chair', source_types => '{product}') ORDER BY 1";
    assert_eq!(query_column::<i64>(&mut db.session("reader"), found), [1, 2, 4]);
    assert_eq!(query_column::<String>(&mut app, "SELECT status FROM products"), ["synced", "synced"]);
    let progress = "SELECT format('%s %s', source_type, synced) FROM chatbot_sync.progress ORDER BY 1";
    assert_eq!(query_column::<String>(&mut app, progress), ["document 1", "product 3"]);
    let states = "SELECT count(*) FROM chatbot_sync.source_status WHERE source_type = 'product' AND status = 'synced'";
    assert_eq!(query_value::<i64>(&mut app, states), 3);
    assert_eq!(query_value::<i64>(&mut app, "SELECT chatbot_retry(1, 'product')"), 0);
    let mut boss = db.session("boss");
    assert_eq!(query_column::<String>(&mut boss, "SELECT v::text FROM chatbot_verify() AS v"), [""; 0]);
    let wrong = "SELECT d::text FROM chatbot_doctor() AS d WHERE status = 'error'";
    assert_eq!(query_column::<String>(&mut boss, wrong), [""; 0]);
    app.batch_execute("CALL chatbot_sync_all(refresh => true); DELETE FROM products WHERE id = 1").unwrap();
    assert_eq!(query_column::<i64>(&mut app, found), [2, 4]);
}

#[test]
fn an_unknown_kind_is_refused_with_the_list_of_all() {
    let db = with_products();
    let mut app = db.session("app");
    for call in [
        "chatbot_embed_source(1, 'Product', 1, 'x')",
        "chatbot_enqueue_source(1, 'Product', 1, 'x')",
        "chatbot_delete_source(1, 'Product', 1)",
        "chatbot_retry(1, 'Product')",
        "chatbot_attach('pg_class', 'Product')",
    ] {
        let refused = expect_error(&mut app, &format!("SELECT {call}"));
        let message = "source_type is \"Product\", expected one of document, link, product";
        assert_eq!((refused.code.as_str(), refused.message.as_str()), ("22023", message), "{call}");
    }
    let refused = expect_error(&mut app, "SELECT chatbot_search(1, 'x', source_types => '{link,Product}')");
    assert_eq!(refused.message, "source_types is \"Product\", expected one of document, link, product");
    // It is as unknown to the one who would drop it.
    let refused = expect_error(&mut db.session("boss"), "SELECT chatbot_drop_source_type('Product')");
    assert_eq!(refused.message, "name is \"Product\", expected one of document, link, product");
}

#[test]
fn only_level_admin_adds_and_drops_kinds() {
    let db = with_products();
    for role in ["app", "reader", "stranger"] {
        let mut session = db.session(role);
        for call in ["chatbot_add_source_type('ticket')", "chatbot_drop_source_type('product')"] {
            assert_eq!(expect_error(&mut session, &format!("SELECT {call}")).code, "42501", "{role}: {call}");
        }
    }
    let mut boss = db.session("boss");
    assert!(!query_value::<bool>(&mut boss, "SELECT chatbot_add_source_type('product')"), "it was there already");
    for (name, message) in [
        ("NULL", "name is NULL".to_owned()),
        ("''", "name is \"\", expected 1 to 63 bytes without control characters, and no space at its ends".to_owned()),
        (
            "' a'",
            "name is \" a\", expected 1 to 63 bytes without control characters, and no space at its ends".to_owned(),
        ),
    ] {
        assert_eq!(expect_error(&mut boss, &format!("SELECT chatbot_add_source_type({name})")).message, message);
    }
    assert_eq!(expect_error(&mut boss, "SELECT chatbot_add_source_type(repeat('a', 64))").code, "22023");
    assert_eq!(expect_error(&mut boss, "SELECT chatbot_add_source_type(E'a\\nb')").code, "22023");
    let refused = expect_error(&mut boss, "SELECT chatbot_drop_source_type('link')");
    assert_eq!(refused.message, "name is \"link\", expected a kind that chatbot_add_source_type() added");
}

#[test]
fn a_kind_in_use_is_not_dropped_and_the_error_says_what_uses_it() {
    let db = with_products();
    let (mut app, mut boss) = (db.session("app"), db.session("boss"));
    app.batch_execute(
        "CREATE TABLE products (id int PRIMARY KEY, chatbot_id int, content text);
         SELECT chatbot_attach('products', 'product'); INSERT INTO products VALUES (1, 1, 'A red chair.');
         SELECT chatbot_enqueue_source(1, 'product', 2, 'It waits.')",
    )
    .unwrap();
    let refused = expect_error(&mut boss, "SELECT chatbot_drop_source_type('product')");
    assert_eq!((refused.code.as_str(), refused.message.as_str()), ("2BP01", "source type \"product\" is in use"));
    let uses =
        "public.products is attached as it; chatbot_sync.source has sources of it; jobs of it wait in chatbot_sync.job";
    assert_eq!(refused.detail, uses);
    app.batch_execute("SELECT chatbot_detach('products', true)").unwrap();
    app.batch_execute("SELECT chatbot_delete_source(1, 'product', 2)").unwrap();
    boss.batch_execute("SELECT chatbot_drop_source_type('product')").unwrap();
    assert_eq!(expect_error(&mut app, "SELECT chatbot_embed_source(1, 'product', 1, 'x')").code, "22023");
    assert_eq!(query_column::<String>(&mut app, "TABLE chatbot_sync.source_type ORDER BY 1"), ["document", "link"]);
}

#[test]
fn a_kind_is_not_dropped_while_a_transaction_makes_a_source_of_it() {
    let db = with_products();
    let (mut app, mut boss, mut watcher) = (db.session("app"), db.session("boss"), db.other());
    for isolation in ["READ COMMITTED", "REPEATABLE READ"] {
        app.batch_execute("BEGIN; SELECT chatbot_embed_source(1, 'product', 1, 'A red chair.')").unwrap();
        boss.batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM pg_class")).unwrap();
        let pid: i32 = query_value(&mut boss, "SELECT pg_backend_pid()");
        let dropping = std::thread::spawn(move || {
            let refused = expect_error(&mut boss, "SELECT chatbot_drop_source_type('product')");
            boss.batch_execute("ROLLBACK").unwrap();
            (boss, refused.code)
        });
        wait_for_lock(&mut watcher, pid);
        app.batch_execute("COMMIT").unwrap();
        let code;
        (boss, code) = dropping.join().unwrap();
        assert_eq!(code, "2BP01", "{isolation}");
        app.batch_execute("SELECT chatbot_delete_source(1, 'product', 1)").unwrap();
    }
}
