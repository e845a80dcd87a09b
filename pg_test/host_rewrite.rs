//! Values that change without an UPDATE of the row, such as in a table rewrite or by ON DELETE SET NULL: sources
//! follow, and unchanged texts are not embedded again.

use postgres::Client;

use super::harness::{
    ATTACH, DOCUMENTS, application_with_mock, attached_documents, find_differences, query_column, query_value,
};

const ROWS: &str =
    "INSERT INTO documents (chatbot_id, title, content) VALUES (1, 'A', 'First text.'), (2, 'B', 'Second text.')";
const PROBLEMS: &str =
    "SELECT concat_ws(' ', problem, chatbot_id, source_type, source_id) FROM chatbot_verify() ORDER BY 1";

fn statuses(client: &mut Client) -> Vec<String> {
    query_column(
        client,
        "SELECT concat_ws(' ', id, COALESCE(status, '-'), processed, COALESCE(error, '-')) FROM documents ORDER BY id",
    )
}

#[test]
fn a_table_rewrite_makes_changed_rows_pending() {
    for mode in ["sync", "async"] {
        let (db, mock, mut app) = application_with_mock();
        app.batch_execute(DOCUMENTS).unwrap();
        app.batch_execute(
            &ATTACH.replace("error_column => 'error'", &format!("error_column => 'error', mode => '{mode}'")),
        )
        .unwrap();
        app.batch_execute(ROWS).unwrap();
        app.batch_execute("CALL chatbot_process_queue()").unwrap();
        let (mut owner, told) = db.session_with_notices("app");
        owner
            .batch_execute("ALTER TABLE documents ALTER content TYPE varchar USING CASE id WHEN 1 THEN 'Other text.' ELSE content END")
            .unwrap();
        let expected: &[&str] = if mode == "sync" {
            &["NOTICE: 1 rows of public.documents are pending: CALL chatbot_sync_all();"]
        } else {
            &[]
        };
        assert_eq!(*told.lock().unwrap(), expected);
        assert_eq!(statuses(&mut app), ["1 pending f -", "2 synced t -"], "{mode}");
        app.batch_execute(if mode == "sync" { "CALL chatbot_sync_all()" } else { "CALL chatbot_process_queue()" })
            .unwrap();
        assert_eq!(
            (find_differences(&mut app), mock.texts().split_off(2)),
            (vec![], vec!["Other text.".to_owned()]),
            "{mode}"
        );
    }
}

#[test]
fn a_table_rewrite_with_the_same_values_keeps_rows_synced() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(ROWS).unwrap();
    let before = mock.asked();
    for alter in [
        "ALTER id TYPE bigint",
        "ADD at timestamptz DEFAULT clock_timestamp()",
        "ALTER content TYPE varchar(200)",
        "SET UNLOGGED",
        "SET LOGGED",
        "ALTER title TYPE varchar USING title::varchar",
    ] {
        app.batch_execute(&format!("ALTER TABLE documents {alter}")).unwrap();
        assert_eq!((mock.asked(), find_differences(&mut app)), (before, vec![]), "{alter}");
    }
}

#[test]
fn metadata_and_enabled_follow_a_table_rewrite_at_once() {
    let (mut db, mock, mut app) = attached_documents();
    app.batch_execute(ROWS).unwrap();
    app.batch_execute(
        "INSERT INTO documents (chatbot_id, title, content, active) VALUES (1, 'C', 'Third text.', false)",
    )
    .unwrap();
    let before = mock.asked();
    app.batch_execute("ALTER TABLE documents ALTER title TYPE varchar USING 'Title ' || id").unwrap();
    assert_eq!((find_differences(&mut app), mock.asked()), (vec![], before));
    app.batch_execute("ALTER TABLE documents ALTER active DROP DEFAULT, ALTER active TYPE boolean USING id <> 1")
        .unwrap();
    assert_eq!(
        query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.embedding WHERE enabled ORDER BY 1"),
        [2]
    );
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!((find_differences(&mut app), mock.asked().1), (vec![], before.1 + 1));
    assert_eq!(query_column::<String>(&mut db.admin, PROBLEMS), [""; 0]);
}

#[test]
fn a_column_replaced_by_one_of_the_same_name_is_read_again() {
    let (mut db, mock, mut app) = attached_documents();
    app.batch_execute(ROWS).unwrap();
    let before = mock.asked();
    app.batch_execute("ALTER TABLE documents DROP title, ADD title text DEFAULT 'New'").unwrap();
    assert_eq!((find_differences(&mut app), mock.asked()), (vec![], before));
    app.batch_execute("ALTER TABLE documents DROP content, ADD content text DEFAULT 'The same for all.'").unwrap();
    assert_eq!(statuses(&mut app), ["1 pending f -", "2 pending f -"]);
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute("ALTER TABLE documents DROP chatbot_id, ADD chatbot_id int DEFAULT 3; CALL chatbot_sync_all()")
        .unwrap();
    assert_eq!(query_column::<i64>(&mut app, "SELECT chatbot_id FROM chatbot_sync.source"), [3, 3]);
    assert_eq!((find_differences(&mut app), query_column::<String>(&mut db.admin, PROBLEMS)), (vec![], vec![]));
    // A new column with the name of a dropped one is not part of the metadata.
    app.batch_execute(
        "ALTER TABLE documents DROP title; ALTER TABLE documents ADD title text DEFAULT 'Not of attach';
         UPDATE documents SET content = 'Edited ' || id",
    )
    .unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.embedding WHERE metadata <> '{}'"), 0);
}

#[test]
fn keys_follow_a_table_rewrite() {
    let (mut db, _mock, mut app) = attached_documents();
    app.batch_execute(ROWS).unwrap();
    app.batch_execute("ALTER TABLE documents ALTER id TYPE bigint USING id + 100; CALL chatbot_sync_all()").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute(
        "ALTER TABLE documents ALTER chatbot_id TYPE int USING NULLIF(chatbot_id, 1); CALL chatbot_sync_all()",
    )
    .unwrap();
    assert_eq!(query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.source"), [102]);
    assert_eq!(query_column::<String>(&mut db.admin, PROBLEMS), [""; 0]);
}

#[test]
fn changes_of_generated_columns_and_types_are_followed() {
    let (mut db, mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TYPE place AS (town text, moods mood[]); CREATE DOMAIN felt AS mood;
         CREATE TABLE t (id int PRIMARY KEY, chatbot_id int, name text, body text GENERATED ALWAYS AS ('Dear ' || name) STORED,
             felt felt, place place, status text);
         SELECT chatbot_attach('t', 'document', content_column => 'body', metadata_columns => '{felt,place}', status_column => 'status');
         INSERT INTO t (id, chatbot_id, name, felt, place) VALUES (1, 1, 'Ann', 'good', ('Bern', '{good}')); UPDATE t SET name = 'Ben'",
    )
    .unwrap();
    assert_eq!(mock.texts(), ["Dear Ann", "Dear Ben"]);
    let metadata = "SELECT metadata::text FROM chatbot_sync.embedding";
    app.batch_execute("ALTER TYPE mood RENAME VALUE 'good' TO 'fine'").unwrap();
    assert_eq!(
        query_value::<String>(&mut app, metadata),
        r#"{"felt": "fine", "place": {"town": "Bern", "moods": ["fine"]}}"#
    );
    app.batch_execute("ALTER TYPE place RENAME ATTRIBUTE town TO city").unwrap();
    assert_eq!(
        query_value::<String>(&mut app, metadata),
        r#"{"felt": "fine", "place": {"city": "Bern", "moods": ["fine"]}}"#
    );
    assert_eq!((mock.asked().1, query_column::<String>(&mut db.admin, PROBLEMS)), (2, vec![]));
    assert_eq!(query_column::<String>(&mut app, "SELECT status FROM t"), ["synced"]);
    if query_value::<i32>(&mut app, "SELECT current_setting('server_version_num')::int") >= 170_000 {
        app.batch_execute("ALTER TABLE t ALTER body SET EXPRESSION AS ('Hello ' || name)").unwrap();
        assert_eq!(query_column::<String>(&mut app, "SELECT status FROM t"), ["pending"]);
        app.batch_execute("CALL chatbot_sync_all()").unwrap();
        assert_eq!(query_value::<String>(&mut app, "SELECT content FROM chatbot_sync.embedding"), "Hello Ben");
    }
}

#[test]
fn a_rewritten_partition_is_compared() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE parts (id int NOT NULL, chatbot_id int, content text, status text) PARTITION BY LIST (chatbot_id);
         CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1); CREATE TABLE part_2 PARTITION OF parts DEFAULT;
         SELECT chatbot_attach('parts', 'document', status_column => 'status');
         INSERT INTO parts VALUES (1, 1, 'One.'), (2, 2, 'Two.');
         ALTER TABLE parts ALTER content TYPE varchar USING content || ' More.'",
    )
    .unwrap();
    assert_eq!(query_column::<String>(&mut app, "SELECT status FROM parts"), ["pending", "pending"]);
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(mock.texts(), ["One.", "Two.", "One. More.", "Two. More."]);
}

#[test]
fn a_row_without_chatbot_is_never_synced() {
    for mode in ["sync", "async"] {
        let (mut db, mock, mut app) = application_with_mock();
        app.batch_execute(&DOCUMENTS.replace("ON DELETE CASCADE", "ON DELETE SET NULL")).unwrap();
        app.batch_execute(
            &ATTACH.replace("error_column => 'error'", &format!("error_column => 'error', mode => '{mode}'")),
        )
        .unwrap();
        app.batch_execute(
            "INSERT INTO documents (chatbot_id, content) VALUES (1, 'One.'), (2, 'Two.'), (3, 'Three.'), (3, 'poison')",
        )
        .unwrap();
        mock.state().poison = Some("poison");
        app.batch_execute("CALL chatbot_process_queue(); UPDATE documents SET content = 'poison!' WHERE id = 4; CALL chatbot_process_queue()").unwrap();
        app.batch_execute("DELETE FROM chatbots WHERE id = 1; UPDATE documents SET chatbot_id = NULL WHERE chatbot_id = 3; CALL chatbot_process_queue()").unwrap();
        assert_eq!(statuses(&mut app), ["1 - f -", "2 synced t -", "3 - f -", "4 - f -"], "{mode}");
        assert_eq!(query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.source"), [2], "{mode}");
        // The status is corrected as well where a statement writes it.
        app.batch_execute("INSERT INTO documents (content, status, processed) VALUES ('Five.', 'synced', true), ('Six.', 'pending', false);
            UPDATE documents SET status = 'synced' WHERE id = 1").unwrap();
        assert_eq!(statuses(&mut app)[4..], ["5 - f -", "6 pending f -"], "{mode}");
        assert_eq!(statuses(&mut app)[0], "1 - f -");
        // With a chatbot again the row is embedded again.
        app.batch_execute("UPDATE documents SET chatbot_id = 2 WHERE id = 1; CALL chatbot_process_queue()").unwrap();
        assert_eq!(statuses(&mut app)[..2], ["1 synced t -", "2 synced t -"], "{mode}");
        assert_eq!(query_column::<String>(&mut db.admin, PROBLEMS), [""; 0]);
    }
}

#[test]
fn a_row_that_moves_to_a_default_chatbot_keeps_its_vectors() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute(&DOCUMENTS.replace(
        "int REFERENCES chatbots ON DELETE CASCADE",
        "int NOT NULL DEFAULT 3 REFERENCES chatbots ON DELETE SET DEFAULT",
    ))
    .unwrap();
    app.batch_execute(ATTACH.split_once(';').unwrap().0).unwrap();
    app.batch_execute(ROWS).unwrap();
    let asked = mock.asked();
    app.batch_execute("DELETE FROM chatbots WHERE id = 1").unwrap();
    assert_eq!((find_differences(&mut app), mock.asked()), (vec![], asked));
    // Where the status column is NOT NULL the status is pending.
    app.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, chatbot_id int REFERENCES chatbots ON DELETE SET NULL, content text, status text NOT NULL DEFAULT 'pending');
         SELECT chatbot_attach('t', 'link', status_column => 'status'); INSERT INTO t VALUES (1, 2, 'A link.'); DELETE FROM documents; DELETE FROM chatbots WHERE id = 2",
    )
    .unwrap();
    assert_eq!(query_column::<String>(&mut app, "SELECT status FROM t"), ["pending"]);
}

#[test]
fn a_trigger_that_fires_after_ours_is_followed() {
    let (_db, _mock, mut app) = attached_documents();
    app.batch_execute(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             NEW.content := upper(NEW.content); NEW.title := 'Late'; IF NEW.write_uid = 1 THEN NEW.active := false; END IF;
             IF NEW.write_uid = 2 THEN NEW.chatbot_id := NULL; END IF; IF NEW.write_uid = 3 THEN NEW.status := 'error'; END IF; RETURN NEW;
         END $$;
         CREATE TRIGGER zzz_late BEFORE INSERT OR UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION late();
         INSERT INTO documents (chatbot_id, content, write_uid) VALUES (1, 'One.', 0), (1, 'Two.', 1), (1, 'Three.', 0);
         UPDATE documents SET content = 'one more.' WHERE id = 1; UPDATE documents SET write_uid = 2 WHERE id = 3",
    )
    .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.source ORDER BY 1"), [1, 2]);
}

#[test]
fn verify_compares_every_attribute_and_repair_corrects_it() {
    let (mut db, _mock, mut app) = attached_documents();
    app.batch_execute("INSERT INTO documents (chatbot_id, title, content, active) SELECT 1, 'T' || i, 'Text ' || i, i < 6 FROM generate_series(1, 7) AS i").unwrap();
    app.batch_execute(
        "ALTER TABLE documents DISABLE TRIGGER USER;
         UPDATE documents SET title = 'Other' WHERE id = 1; UPDATE documents SET active = false WHERE id = 2;
         UPDATE documents SET chatbot_id = 2 WHERE id = 3; UPDATE documents SET active = true WHERE id = 6;
         ALTER TABLE documents ENABLE TRIGGER USER;
         UPDATE chatbot_sync.embedding SET metadata = '{}' WHERE source_id = 4; UPDATE chatbot_sync.embedding SET enabled = false WHERE source_id = 5",
    )
    .unwrap();
    assert_eq!(
        query_column::<String>(&mut db.admin, PROBLEMS),
        [
            "missing 2 document 3",
            "orphan 1 document 3",
            "stale 1 document 1",
            "stale 1 document 2",
            "stale 1 document 6",
            "wrong attributes 1 document 4",
            "wrong attributes 1 document 5",
        ]
    );
    let mut boss = db.session("boss");
    assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 7);
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(query_column::<String>(&mut boss, PROBLEMS), [""; 0]);
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 0);
}

#[test]
fn a_table_keeps_its_sources_under_another_owner_or_in_another_schema() {
    let (mut db, mock, mut app) = attached_documents();
    app.batch_execute(ROWS).unwrap();
    db.admin.batch_execute("CREATE SCHEMA odoo; GRANT ALL ON SCHEMA odoo TO app, boss; REASSIGN OWNED BY app TO boss; ALTER TABLE documents SET SCHEMA odoo; ALTER TABLE chatbots SET SCHEMA odoo").unwrap();
    let mut boss = db.session("boss");
    boss.batch_execute("SET search_path = odoo, public; UPDATE documents SET content = content || ' Edited.'; ALTER TABLE documents ALTER content TYPE varchar USING content || ' Twice.'; CALL chatbot_sync_all()").unwrap();
    assert_eq!((find_differences(&mut boss), mock.texts().len()), (vec![], 6));
    assert_eq!(query_column::<String>(&mut boss, PROBLEMS), [""; 0]);
}

#[test]
fn metadata_does_not_depend_on_the_session_that_writes_a_row() {
    let (mut db, mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, chatbot_id int, content text, at timestamptz, took interval, part bytea, share float8);
         SELECT chatbot_attach('t', 'document', metadata_columns => '{at,took,part,share}');
         INSERT INTO t VALUES (1, 1, 'A text.', '2026-03-29 12:00+00', '1 day 2 hours', 'x', 0.1)",
    )
    .unwrap();
    app.batch_execute(
        "SET TimeZone = 'Asia/Tokyo'; SET IntervalStyle = iso_8601; SET bytea_output = escape; SET extra_float_digits = -15; SET DateStyle = German;
         INSERT INTO t SELECT 2, 1, 'Another.', at, took, part, share FROM t; UPDATE t SET content = content || ' Edited.' WHERE id = 1",
    )
    .unwrap();
    let stored = "SELECT DISTINCT metadata::text FROM chatbot_sync.embedding";
    let utc = r#"{"at": "2026-03-29T12:00:00+00:00", "part": "\\x78", "took": "1 day 02:00:00", "share": 0.1}"#;
    assert_eq!(query_column::<String>(&mut app, stored), [utc]);
    assert_eq!((query_column::<String>(&mut db.admin, PROBLEMS), mock.texts().len()), (vec![], 3));
}
