//! Host tables with inheritance children: rows of children are sources like those of the parent, and children that are
//! added or removed take their rows along.

use postgres::Client;

use super::harness::{Db, application_with_mock, expect_error, find_differences, query_column, query_value};
use super::mock::Mock;

/// A table with a child and a grandchild, which have columns of their own in another order.
const FAMILY: &str = "CREATE TABLE documents (id int PRIMARY KEY, chatbot_id int, title text, content text, active boolean DEFAULT true,
        status text, processed boolean, error text);
    CREATE TABLE letters (sender text, PRIMARY KEY (id)) INHERITS (documents);
    CREATE TABLE base (status text, id int NOT NULL); CREATE TABLE invoices (total int, PRIMARY KEY (id)) INHERITS (base, letters);";
const ATTACH: &str = "SELECT chatbot_attach('documents', 'document', metadata_columns => '{title}', enabled_column => 'active', status_column => 'status',
        processed_column => 'processed', error_column => 'error');";
const ROWS: &str = "INSERT INTO documents (id, chatbot_id, content) VALUES (1, 1, 'A document.');
    INSERT INTO letters (id, chatbot_id, content) VALUES (2, 1, 'A letter.'); INSERT INTO invoices (id, chatbot_id, content) VALUES (3, 2, 'An invoice.')";

fn documents_with_children() -> (Db, Mock, Client) {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(FAMILY).unwrap();
    app.batch_execute(ATTACH).unwrap();
    app.batch_execute(ROWS).unwrap();
    (db, mock, app)
}

fn sources(client: &mut Client) -> Vec<i64> {
    query_column(client, "SELECT source_id FROM chatbot_sync.source ORDER BY 1")
}

#[test]
fn rows_of_children_are_sources() {
    let (mut db, mock, mut app) = documents_with_children();
    assert_eq!((find_differences(&mut app), mock.texts().len()), (vec![], 3));
    app.batch_execute("UPDATE invoices SET content = 'A paid invoice.'; UPDATE documents SET title = 'T', content = content || ' Edited.'").unwrap();
    assert_eq!((find_differences(&mut app), mock.texts().len()), (vec![], 7));
    app.batch_execute(
        "UPDATE ONLY letters SET active = false; DELETE FROM letters WHERE id = 3; UPDATE letters SET active = true",
    )
    .unwrap();
    assert_eq!((find_differences(&mut app), sources(&mut app)), (vec![], vec![1, 2]));
    mock.state().poison = Some("poison");
    app.batch_execute("UPDATE documents SET content = 'poison ' || id").unwrap();
    assert_eq!(query_column::<String>(&mut app, "SELECT DISTINCT status FROM documents"), ["error"]);
    app.batch_execute("UPDATE documents SET content = 'Good ' || id").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(query_column::<String>(&mut db.admin, "SELECT problem FROM chatbot_verify()"), [""; 0]);
}

#[test]
fn truncate_deletes_the_sources_of_its_rows() {
    let (_db, _mock, mut app) = documents_with_children();
    app.batch_execute("TRUNCATE ONLY documents").unwrap();
    assert_eq!(sources(&mut app), [2, 3]);
    app.batch_execute("TRUNCATE ONLY letters").unwrap();
    assert_eq!(sources(&mut app), [3]);
    app.batch_execute("TRUNCATE documents").unwrap();
    assert_eq!(sources(&mut app), [0i64; 0]);
}

#[test]
fn children_that_come_and_go_take_their_rows_along() {
    let (db, _mock, mut app) = documents_with_children();
    let (mut listener, told) = db.session_with_notices("app");
    app.batch_execute("CREATE TABLE memos (LIKE letters INCLUDING ALL); INSERT INTO memos (id, chatbot_id, content) VALUES (4, 1, 'A memo.')").unwrap();
    listener.batch_execute("ALTER TABLE memos INHERIT letters").unwrap();
    assert_eq!(*told.lock().unwrap(), ["NOTICE: 1 rows of public.documents are pending: CALL chatbot_sync_all();"]);
    app.batch_execute("CALL chatbot_sync_all(); CREATE TABLE faxes () INHERITS (documents); INSERT INTO faxes (id, chatbot_id, content) VALUES (5, 1, 'A fax.')").unwrap();
    assert_eq!((find_differences(&mut app), sources(&mut app)), (vec![], vec![1, 2, 3, 4, 5]));
    app.batch_execute("ALTER TABLE documents RENAME content TO body; UPDATE faxes SET body = 'Another fax.'; ALTER TABLE documents RENAME body TO content").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute("ALTER TABLE memos NO INHERIT letters; UPDATE memos SET content = 'Not seen.'; DROP TABLE faxes")
        .unwrap();
    assert_eq!((find_differences(&mut app), sources(&mut app)), (vec![], vec![1, 2, 3]));
    assert_eq!(expect_error(&mut app, "CREATE TEMP TABLE mine () INHERITS (documents)").code, "42809");
    assert_eq!(expect_error(&mut app, "SELECT chatbot_attach('letters', 'link')").code, "42710");
    app.batch_execute(
        "SELECT chatbot_detach('documents'); INSERT INTO letters (id, chatbot_id, content) VALUES (9, 1, 'x')",
    )
    .unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%chatbot_sync%'"), 0);
}

#[test]
fn a_child_without_triggers_is_reported_and_repaired() {
    let (db, _mock, mut app) = documents_with_children();
    // As a version that ignored children created it.
    app.batch_execute("DROP TRIGGER chatbot_sync_1_insert ON letters; DROP TRIGGER chatbot_sync_1_update ON letters; DROP TRIGGER chatbot_sync_1_delete ON letters;
        DROP TRIGGER chatbot_sync_1_truncate ON letters; DROP TRIGGER zz_chatbot_sync_1_status ON letters; INSERT INTO letters (id, chatbot_id, content) VALUES (7, 1, 'Not seen.')").unwrap();
    let said = "SELECT detail || ' | ' || hint FROM chatbot_doctor() WHERE check_name = 'triggers'";
    assert_eq!(
        query_column::<String>(&mut app, said),
        [
            "public.letters, whose rows are rows of public.documents, has none of its triggers | SELECT chatbot_repair();"
        ]
    );
    db.session("boss").batch_execute("SELECT chatbot_repair()").unwrap();
    app.batch_execute("CALL chatbot_sync_all(); INSERT INTO letters (id, chatbot_id, content) VALUES (8, 1, 'Seen.')")
        .unwrap();
    assert_eq!((find_differences(&mut app), query_column::<String>(&mut app, said)), (vec![], vec![]));
}
