//! Host tables with several content columns.

use super::harness::{application_with_mock, expect_error, query_column, query_value};

const PRODUCTS: &str = "CREATE TABLE products (id int PRIMARY KEY, chatbot_id int, name text, description text, code varchar, names jsonb, status text);";

#[test]
fn content_columns_are_paragraphs_in_the_order_given() {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(PRODUCTS).unwrap();
    app.batch_execute(
        "SELECT chatbot_attach('products', 'document', content_columns => '{name,description,code}', status_column => 'status',
            content_formats => '{text,html,text}');
         INSERT INTO products VALUES (1, 1, 'A < B', '<p>Of <b>oak</b></p>', 'C-1'), (2, 1, NULL, NULL, 'C-2'), (3, 1, NULL, '', NULL)",
    )
    .unwrap();
    let contents = "SELECT content FROM chatbot_sync.embedding ORDER BY source_id";
    assert_eq!(query_column::<String>(&mut app, contents), ["A < B\n\nOf oak\n\nC-1", "C-2"]);
    let places = "SELECT start_offset || '-' || end_offset FROM chatbot_sync.embedding ORDER BY source_id";
    assert_eq!(query_column::<String>(&mut app, places), ["0-18", "0-3"]);
    assert_eq!(query_column::<String>(&mut app, "SELECT DISTINCT status FROM products"), ["synced"]);
    // Any of them is the content.
    for change in ["name = 'D'", "description = '<p>Of iron</p>'", "code = 'C-3'"] {
        let asked = mock.asked().1;
        app.batch_execute(&format!("UPDATE products SET {change} WHERE id = 1")).unwrap();
        assert_eq!(mock.asked().1, asked + 1, "{change}");
    }
    assert_eq!(query_column::<String>(&mut app, contents), ["D\n\nOf iron\n\nC-3", "C-2"]);
    let shown = "SELECT concat_ws(' ', content_column, content_columns, content_format) FROM chatbot_sync.host_table";
    assert_eq!(query_value::<String>(&mut app, shown), "{name,description,code} [\"text\", \"html\", \"text\"]");
    app.batch_execute("CALL chatbot_sync_all(refresh => true)").unwrap();
    assert_eq!(query_column::<String>(&mut db.session("boss"), "SELECT v::text FROM chatbot_verify() AS v"), [""; 0]);
}

#[test]
fn content_columns_with_translations_are_joined_by_language() {
    let (db, _mock, mut app) = application_with_mock();
    app.batch_execute(PRODUCTS).unwrap();
    app.batch_execute(
        r#"SELECT chatbot_attach('products', 'document', content_columns => '{names,code}', mode => 'async');
         INSERT INTO products (id, chatbot_id, names, code) VALUES (1, 1, '{"en_US": "Chair", "fr_FR": "Chaise"}', 'C-1'), (2, 1, NULL, 'C-2');
         CALL chatbot_process_queue()"#,
    )
    .unwrap();
    let contents = "SELECT concat_ws(': ', lang, content) FROM chatbot_sync.embedding ORDER BY source_id, lang";
    assert_eq!(query_column::<String>(&mut app, contents), ["en_US: Chair\n\nC-1", "fr_FR: Chaise\n\nC-1", "C-2"]);
    assert_eq!(query_column::<String>(&mut db.session("boss"), "SELECT v::text FROM chatbot_verify() AS v"), [""; 0]);
}

#[test]
fn a_content_column_that_is_dropped_leaves_the_others() {
    let (db, _mock, mut app) = application_with_mock();
    app.batch_execute(PRODUCTS).unwrap();
    app.batch_execute(
        "SELECT chatbot_attach('products', 'document', content_columns => '{name,description,code}', content_formats => '{text,html,text}');
         INSERT INTO products (id, chatbot_id, name, description, code) VALUES (1, 1, 'A chair', '<p>Of oak</p>', 'C-1');
         ALTER TABLE products RENAME name TO title; ALTER TABLE products DROP description; CALL chatbot_sync_all()",
    )
    .unwrap();
    let contents = "SELECT content FROM chatbot_sync.embedding";
    assert_eq!(query_column::<String>(&mut app, contents), ["A chair\n\nC-1"]);
    assert_eq!(query_column::<String>(&mut db.session("boss"), "SELECT v::text FROM chatbot_verify() AS v"), [""; 0]);
    app.batch_execute(
        "ALTER TABLE products DROP code; UPDATE products SET title = 'A <b> chair'; CALL chatbot_sync_all()",
    )
    .unwrap();
    assert_eq!(query_column::<String>(&mut app, contents), ["A <b> chair"]);
    // The last one takes its rows along.
    app.batch_execute("ALTER TABLE products DROP title").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 0);
}

#[test]
fn attach_refuses_content_columns_that_do_not_go_together() {
    let (_db, _mock, mut app) = application_with_mock();
    app.batch_execute(PRODUCTS).unwrap();
    for (arguments, code, message) in [
        ("content_columns => '{}'", "22023", "content_columns is empty, expected one column or more"),
        ("content_columns => '{name,NULL}'", "22004", "content_columns is NULL"),
        (
            "content_columns => '{name,name}'",
            "22023",
            "content_columns is \"name\", expected a column that is named once",
        ),
        (
            "content_columns => '{name,description}', content_column => 'code'",
            "22023",
            "content_column is \"code\", expected nothing, since content_columns is given",
        ),
        (
            "content_columns => '{name,description}', content_formats => '{text}'",
            "22023",
            "content_formats is 1, expected as many as there are content columns, 2",
        ),
        (
            "content_columns => '{name,description}', content_formats => '{text,pdf}'",
            "22023",
            "content_formats is \"pdf\", expected one of text, html",
        ),
        (
            "content_columns => '{name,gone}'",
            "42703",
            "public.products has no column \"gone\", which content_columns names",
        ),
        (
            "content_columns => '{name,id}'",
            "42804",
            "column \"id\" of public.products, which content_columns names, is integer, expected text or character varying or jsonb",
        ),
        (
            "content_column => 'name', title_column => 'gone'",
            "42703",
            "public.products has no column \"gone\", which title_column names",
        ),
    ] {
        let refused = expect_error(&mut app, &format!("SELECT chatbot_attach('products', 'document', {arguments})"));
        assert_eq!((refused.code.as_str(), refused.message.as_str()), (code, message), "{arguments}");
    }
}
