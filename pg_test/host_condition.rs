//! Host tables with a condition: rows that do not fulfil it are as those whose enabled_column is false.

use postgres::Client;

use super::harness::{Db, application_with_mock, expect_error, query_column, query_value};
use super::mock::Mock;

const PRODUCTS: &str = "CREATE TABLE products (id int PRIMARY KEY, chatbot_id int, content text, sale_ok boolean, list_price numeric, status text);";

/// The statement that attaches the table of products with a condition, and further arguments after it.
fn attach(condition: &str, more: &str) -> String {
    format!(
        "SELECT chatbot_attach('products', 'document', status_column => 'status', condition => $c${condition}$c${more})"
    )
}

fn products() -> (Db, Mock, Client) {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(PRODUCTS).unwrap();
    app.batch_execute(&attach("sale_ok AND list_price > 0", "")).unwrap();
    app.batch_execute(
        "INSERT INTO products VALUES (1, 1, 'A chair.', true, 10), (2, 1, 'A table.', false, 10), (3, 1, 'A lamp.', true, 0),
            (4, 1, 'A door.', NULL, 5)",
    )
    .unwrap();
    (db, mock, app)
}

/// The ids that a search finds.
fn found(client: &mut Client) -> Vec<i64> {
    query_column(client, "SELECT source_id FROM chatbot_search(1, 'a', 20, mode => 'text') ORDER BY 1")
}

fn verified(db: &Db) -> Vec<String> {
    query_column(&mut db.session("boss"), "SELECT v::text FROM chatbot_verify() AS v")
}

#[test]
fn rows_that_do_not_fulfil_the_condition_are_not_embedded() {
    let (db, mock, mut app) = products();
    assert_eq!((found(&mut app), mock.asked()), (vec![1], (1, 1)));
    let statuses = "SELECT string_agg(status, ' ' ORDER BY id) FROM products";
    assert_eq!(query_value::<String>(&mut app, statuses), "synced pending pending pending");
    app.batch_execute("UPDATE products SET sale_ok = true, list_price = 3").unwrap();
    assert_eq!((found(&mut app), mock.asked().1), (vec![1, 2, 3, 4], 4));
    assert_eq!(query_value::<String>(&mut app, statuses), "synced synced synced synced");
    // What it does not fulfil any more keeps its vectors, as with enabled_column.
    app.batch_execute("UPDATE products SET list_price = 0 WHERE id < 4").unwrap();
    assert_eq!(found(&mut app), [4]);
    app.batch_execute("UPDATE products SET list_price = 1").unwrap();
    assert_eq!((found(&mut app), mock.asked().1), (vec![1, 2, 3, 4], 4));
    assert_eq!(verified(&db), [""; 0]);
}

#[test]
fn another_value_that_fulfils_the_condition_writes_nothing() {
    let (_db, mock, mut app) = products();
    let stored = "SELECT string_agg(s.xmin::text || s.ctid::text, ' ' ORDER BY source_id) FROM chatbot_sync.source s";
    let before: String = query_value(&mut app, stored);
    app.batch_execute("UPDATE products SET list_price = list_price * 2").unwrap();
    assert_eq!((query_value::<String>(&mut app, stored), mock.asked()), (before, (1, 1)));
}

#[test]
fn condition_holds_for_rows_from_before_and_in_mode_async() {
    let (db, mock, mut app) = products();
    app.batch_execute("SELECT chatbot_detach('products', true)").unwrap();
    app.batch_execute(&attach("sale_ok AND list_price > 0", ", mode => 'async'")).unwrap();
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!((found(&mut app), verified(&db)), (vec![1], vec![]));
    app.batch_execute("UPDATE products SET sale_ok = NOT sale_ok; CALL chatbot_process_queue()").unwrap();
    assert_eq!((found(&mut app), verified(&db)), (vec![2], vec![]));
    app.batch_execute("INSERT INTO products VALUES (5, 1, 'A bed.', true, 1), (6, 1, 'A sofa.', true, -1); CALL chatbot_process_queue()")
        .unwrap();
    assert_eq!((found(&mut app), verified(&db)), (vec![2, 5], vec![]));
    assert_eq!(mock.asked().1, 4);
    let estimate = "SELECT concat_ws(' ', sources, chunks_to_embed) FROM chatbot_estimate('products')";
    assert_eq!(query_value::<String>(&mut app, estimate), "6 0");
}

#[test]
fn attach_refuses_a_condition_that_a_trigger_cannot_evaluate() {
    let (mut db, _mock, mut app) = application_with_mock();
    app.batch_execute(PRODUCTS).unwrap();
    app.batch_execute(
        "CREATE FUNCTION yes(int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
         CREATE FUNCTION same(int, int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';
         CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = same);
         CREATE DOMAIN positive AS int CHECK (yes(VALUE))",
    )
    .unwrap();
    for (condition, code) in [
        ("", "42P17"),
        ("sale_ok AND AND", "42601"),
        ("gone", "42703"),
        ("list_price", "42804"),
        ("id IN (SELECT 1)", "0A000"),
        ("count(*) > 0", "42803"),
        ("sale_ok, true", "42P17"),
        ("sale_ok FROM pg_class", "42P17"),
        ("sale_ok AS x", "42P17"),
        ("true", "42P17"),
        ("now() > '2020-01-01' AND sale_ok", "42P17"),
        ("random() > 0.5 AND sale_ok", "42P17"),
        ("status::date IS NULL", "42P17"),
        ("current_user = status", "42P17"),
        ("public.yes(id)", "42P17"),
        ("id OPERATOR(public.===) 1", "42P17"),
        ("id::public.positive IS NOT NULL", "42P17"),
        ("products IS NOT NULL", "42P17"),
        ("ctid IS NOT NULL", "42P10"),
        ("tableoid IS NOT NULL", "42P17"),
        ("status = 'synced'", "22023"),
    ] {
        let refused = expect_error(&mut app, &attach(condition, ""));
        assert_eq!(refused.code, code, "{condition}: {refused:?}");
    }
    let left = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal";
    assert_eq!(query_value::<i64>(&mut app, left), 0);
    // Whoever owns the table writes the trigger's argument, and the trigger runs as the extension's owner.
    app.batch_execute(&attach("list_price > 0", "")).unwrap();
    let definition: String =
        query_value(&mut app, "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname LIKE 'chatbot_sync%insert'");
    let forged = definition
        .replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER")
        .replace("(list_price > (0)::numeric)", "public.yes(id)");
    assert_ne!(forged, definition);
    db.admin.batch_execute("ALTER EVENT TRIGGER chatbot_sync_ddl DISABLE").unwrap();
    app.batch_execute(&forged).unwrap();
    assert_eq!(expect_error(&mut app, "INSERT INTO products VALUES (1, 1, 'x', true, 1)").code, "42P17");
}

#[test]
fn condition_follows_renamed_columns_and_partitions() {
    let (db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE products (id int, chatbot_id int, content text, sale_ok boolean, list_price numeric, region text, status text,
            PRIMARY KEY (id, region)) PARTITION BY LIST (region);
         CREATE TABLE eu PARTITION OF products FOR VALUES IN ('eu');
         CREATE TABLE us (gone int, status text, list_price numeric, region text NOT NULL, content text, chatbot_id int, id int NOT NULL,
            sale_ok boolean, PRIMARY KEY (id, region)); ALTER TABLE us DROP gone",
    )
    .unwrap();
    app.batch_execute(&attach("sale_ok AND list_price > 0", "")).unwrap();
    app.batch_execute("ALTER TABLE products ATTACH PARTITION us FOR VALUES IN ('us')").unwrap();
    app.batch_execute(
        "INSERT INTO products (id, chatbot_id, content, sale_ok, list_price, region) VALUES (1, 1, 'A chair.', true, 1, 'eu'),
            (2, 1, 'A table.', true, 0, 'eu'), (3, 1, 'A lamp.', true, 1, 'us'), (4, 1, 'A door.', false, 1, 'us')",
    )
    .unwrap();
    assert_eq!(found(&mut app), [1, 3]);
    // Each takes the other's name.
    app.batch_execute(
        "ALTER TABLE products RENAME list_price TO price; ALTER TABLE products ADD list_price text DEFAULT 'none'",
    )
    .unwrap();
    let condition = "SELECT condition FROM chatbot_sync.host_table";
    assert_eq!(query_value::<String>(&mut app, condition), "(sale_ok AND (price > (0)::numeric))");
    app.batch_execute("UPDATE products SET price = 1 - price").unwrap();
    assert_eq!((found(&mut app), verified(&db)), (vec![2], vec![]));
    app.batch_execute("ALTER TABLE products ALTER price TYPE bigint USING 1 - price").unwrap();
    assert_eq!((found(&mut app), verified(&db)), (vec![1, 3], vec![]));
    assert_eq!(query_value::<String>(&mut app, condition), "(sale_ok AND ((price)::numeric > (0)::numeric))");
    // A type that the condition cannot compare is refused, as that of a CHECK constraint's column is.
    let refused = expect_error(&mut app, "ALTER TABLE products ALTER price TYPE date USING '2020-01-01'");
    assert_eq!(refused.code, "42846", "{refused:?}");
    app.batch_execute("UPDATE products SET region = 'us' WHERE id = 1; UPDATE us SET price = 1, sale_ok = true")
        .unwrap();
    assert_eq!((found(&mut app), verified(&db)), (vec![1, 3, 4], vec![]));
    app.batch_execute("UPDATE products SET id = id + 10").unwrap();
    assert_eq!((found(&mut app), verified(&db)), (vec![11, 13, 14], vec![]));
}

#[test]
fn a_table_whose_condition_loses_a_column_is_detached() {
    let (db, _mock, mut app) = products();
    let (mut listening, told) = db.session_with_notices("app");
    listening.batch_execute("ALTER TABLE products DROP sale_ok").unwrap();
    let said = told.lock().unwrap().join("\n");
    assert!(said.contains("is detached, and what was embedded of it deleted: its column sale_ok is gone"), "{said}");
    // Otherwise rows would be found that the condition had hidden.
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 0);
    app.batch_execute("INSERT INTO products (id, chatbot_id, content) VALUES (9, 1, 'A bed.')").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 0);
}

#[test]
fn condition_holds_in_a_table_with_dropped_columns() {
    let (db, _mock, mut app) = application_with_mock();
    app.batch_execute(PRODUCTS).unwrap();
    app.batch_execute("ALTER TABLE products ADD note text, ADD remark text; ALTER TABLE products DROP note").unwrap();
    app.batch_execute(&attach("sale_ok AND list_price > 0", "")).unwrap();
    app.batch_execute("ALTER TABLE products DROP remark; ALTER TABLE products RENAME list_price TO price").unwrap();
    app.batch_execute("INSERT INTO products VALUES (1, 1, 'A chair.', true, 10), (2, 1, 'A table.', false, 10)")
        .unwrap();
    assert_eq!((found(&mut app), verified(&db)), (vec![1], vec![]));
    assert_eq!(
        query_value::<String>(&mut app, "SELECT condition FROM chatbot_sync.host_table"),
        "(sale_ok AND (price > (0)::numeric))"
    );
}

#[test]
fn a_condition_that_raises_is_an_error_of_that_row() {
    for mode in ["sync", "async"] {
        let (db, _mock, mut app) = application_with_mock();
        app.batch_execute(PRODUCTS).unwrap();
        app.batch_execute("INSERT INTO products VALUES (1, 1, 'A chair.', true, 2), (2, 1, 'A table.', true, 0)")
            .unwrap();
        app.batch_execute(&attach("1 / list_price < 1", &format!(", mode => '{mode}'"))).unwrap();
        app.batch_execute("CALL chatbot_sync_all()").unwrap();
        app.batch_execute("INSERT INTO products VALUES (3, 1, 'A lamp.', true, 0), (4, 1, 'A door.', true, 4); CALL chatbot_process_queue()")
            .unwrap();
        assert_eq!(found(&mut app), [1, 4], "{mode}");
        let errors = "SELECT source_id || ' ' || error_code FROM chatbot_sync.source WHERE status = 'error' ORDER BY 1";
        assert_eq!(query_column::<String>(&mut app, errors), ["2 22012", "3 22012"], "{mode}");
        let statuses = "SELECT string_agg(status, ' ' ORDER BY id) FROM products";
        assert_eq!(query_value::<String>(&mut app, statuses), "synced error error synced", "{mode}");
        let problems = "SELECT DISTINCT problem FROM chatbot_verify()";
        assert_eq!(query_column::<String>(&mut db.session("boss"), problems), ["unreadable"], "{mode}");
        app.batch_execute("UPDATE products SET list_price = 5; CALL chatbot_process_queue()").unwrap();
        assert_eq!((found(&mut app), verified(&db)), (vec![1, 2, 3, 4], vec![]), "{mode}");
    }
}

#[test]
fn two_sessions_agree_on_the_condition() {
    let (db, _mock, mut app) = products();
    let mut other = db.session("app");
    // The second one has the triggers' compiled condition from before the column is renamed.
    other.batch_execute("UPDATE products SET list_price = 4 WHERE id = 1").unwrap();
    app.batch_execute("ALTER TABLE products RENAME list_price TO price").unwrap();
    other
        .batch_execute("UPDATE products SET price = 0 WHERE id = 1; UPDATE products SET price = 9 WHERE id = 3")
        .unwrap();
    assert_eq!((found(&mut other), found(&mut app)), (vec![3], vec![3]));
    // An edit that waits for another sees what that one has made of the row.
    app.batch_execute("BEGIN; UPDATE products SET sale_ok = false WHERE id = 3").unwrap();
    let pid: i32 = query_value(&mut other, "SELECT pg_backend_pid()");
    let waiting = std::thread::spawn(move || {
        other.batch_execute("UPDATE products SET content = 'A red lamp.' WHERE id = 3").unwrap();
    });
    super::harness::wait_for_lock(&mut db.other(), pid);
    app.batch_execute("COMMIT").unwrap();
    waiting.join().unwrap();
    assert_eq!((found(&mut app), verified(&db)), (vec![], vec![]));
}
