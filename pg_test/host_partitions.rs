//! Partitioned host tables: rows are followed however they are written, moved, attached or detached.

use std::io::Write;

use postgres::Client;

use super::harness::{Db, application_with_mock, expect_error, find_differences, query_column, query_value};
use super::mock::Mock;

/// Documents by chatbot and region. The second partition has its columns in another order, the third one
/// is partitioned itself.
const PARTITIONED: &str = "CREATE TABLE documents (id int NOT NULL, chatbot_id int, region text, title text, content text, active boolean DEFAULT true,
        status text, processed boolean, error text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE eu PARTITION OF documents FOR VALUES IN ('eu');
    CREATE TABLE us (error text, gone int, processed boolean, status text, content text, region text NOT NULL, title text, id int NOT NULL,
        active boolean DEFAULT true, chatbot_id int, PRIMARY KEY (id, region)); ALTER TABLE us DROP gone;
    ALTER TABLE documents ATTACH PARTITION us FOR VALUES IN ('us');
    CREATE TABLE rest PARTITION OF documents DEFAULT PARTITION BY LIST (region);
    CREATE TABLE asia PARTITION OF rest FOR VALUES IN ('asia'); CREATE TABLE other PARTITION OF rest DEFAULT;
    SELECT chatbot_attach('documents', 'document', metadata_columns => '{title}', enabled_column => 'active', status_column => 'status',
        processed_column => 'processed', error_column => 'error');";

const ROWS: &str = "INSERT INTO documents (id, chatbot_id, region, title, content) VALUES
    (1, 1, 'eu', 'A', 'One.'), (2, 1, 'us', 'B', 'Two.'), (3, 2, 'asia', 'C', 'Three.'), (4, 2, 'mars', 'D', 'Four.')";

fn partitioned() -> (Db, Mock, Client) {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(PARTITIONED).unwrap();
    app.batch_execute(ROWS).unwrap();
    assert_eq!(mock.asked(), (1, 4));
    (db, mock, app)
}

/// Returns each table with its number of triggers.
fn trigger_counts(client: &mut Client) -> Vec<String> {
    query_column(
        client,
        "SELECT tgrelid::regclass || ' ' || count(*) FROM pg_trigger WHERE tgname LIKE '%chatbot_sync%' GROUP BY tgrelid ORDER BY 1",
    )
}

#[test]
fn rows_in_partitions_are_embedded() {
    let (_db, mock, mut app) = partitioned();
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(trigger_counts(&mut app), ["asia 5", "documents 4", "eu 5", "other 5", "rest 4", "us 5"]);
    app.batch_execute("UPDATE documents SET content = content || ' Edited.', title = region").unwrap();
    assert_eq!((mock.asked(), find_differences(&mut app)), ((2, 8), vec![]));
    // Written to the partitions directly.
    for table in ["eu", "us", "rest", "asia", "other"] {
        app.batch_execute(&format!("UPDATE {table} SET content = content || ' In {table}.', title = '{table}'"))
            .unwrap();
        assert_eq!(find_differences(&mut app), [""; 0], "{table}");
    }
    app.batch_execute("INSERT INTO us (id, chatbot_id, region, content) VALUES (5, 2, 'us', 'Five.'); INSERT INTO rest (id, chatbot_id, region, content) VALUES (6, 2, 'asia', 'Six.')")
        .unwrap();
    let mut copy = app.copy_in("COPY eu (id, chatbot_id, region, content) FROM STDIN").unwrap();
    copy.write_all(b"9\t2\teu\tNine.\n").unwrap();
    copy.finish().unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute("DELETE FROM us WHERE id = 5; DELETE FROM rest WHERE id = 6; DELETE FROM documents WHERE id = 1")
        .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    mock.state().poison = Some("poison");
    app.batch_execute("UPDATE documents SET content = 'poison ' || id; UPDATE us SET content = 'more poison'").unwrap();
    assert_eq!(
        query_column::<String>(
            &mut app,
            "SELECT id || status || processed FROM documents WHERE error LIKE '%this text will not do)' ORDER BY 1"
        ),
        ["2errorfalse", "3errorfalse", "4errorfalse", "9errorfalse"]
    );
}

#[test]
fn moving_between_partitions_costs_no_embedding() {
    let (_db, mock, mut app) = partitioned();
    let asked = mock.asked();
    for update in [
        "documents SET region = 'us' WHERE id = 1",
        "documents SET region = CASE region WHEN 'us' THEN 'asia' ELSE 'eu' END",
        "rest SET region = CASE id WHEN 1 THEN 'venus' ELSE 'asia' END",
        "documents SET region = 'us', chatbot_id = 3 - chatbot_id, id = id + 10, title = 'Moved'",
        "documents SET active = false, region = 'eu'",
        "documents SET active = true, region = 'asia'",
    ] {
        app.batch_execute(&format!("UPDATE {update}")).unwrap();
        assert_eq!((mock.asked(), find_differences(&mut app)), (asked, vec![]), "{update}");
    }
    app.batch_execute(
        "UPDATE documents SET region = CASE WHEN id < 13 THEN 'eu' ELSE 'us' END, content = content || ' Edited.'",
    )
    .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(mock.asked(), (asked.0 + 1, asked.1 + 4));
}

#[test]
fn a_row_that_a_partition_rejects_has_no_source() {
    let (_db, _mock, mut app) = partitioned();
    app.batch_execute(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id % 2 = 0 THEN RETURN NULL; END IF; RETURN NEW; END';
         CREATE TRIGGER no BEFORE INSERT ON eu FOR EACH ROW EXECUTE FUNCTION no();
         INSERT INTO documents (id, chatbot_id, region, content) VALUES (5, 1, 'us', 'Five.'), (6, 1, 'us', 'Six.'), (7, 1, 'us', 'Seven.'), (8, 1, 'eu', 'Eight.');
         UPDATE documents SET region = 'eu', content = content || ' Edited.' WHERE region = 'us'",
    )
    .unwrap();
    assert_eq!(query_column::<i32>(&mut app, "SELECT id FROM documents ORDER BY id"), [1, 3, 4, 5, 7]);
    assert_eq!(find_differences(&mut app), [""; 0]);
}

#[test]
fn attached_and_detached_partitions_are_followed() {
    let (mut db, mock, mut app) = partitioned();
    let (mut listener, told) = db.session_with_notices("app");
    app.batch_execute(
        "CREATE TABLE moon (LIKE documents INCLUDING ALL); INSERT INTO moon (id, chatbot_id, region, content) VALUES (20, 1, 'moon', 'Twenty.')",
    )
    .unwrap();
    listener.batch_execute("ALTER TABLE documents ATTACH PARTITION moon FOR VALUES IN ('moon')").unwrap();
    assert_eq!(
        told.lock().unwrap().last().unwrap(),
        "NOTICE: 1 rows of public.documents are pending: CALL chatbot_sync_all();"
    );
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute(
        "CREATE TABLE sun PARTITION OF documents FOR VALUES IN ('sun') PARTITION BY LIST (region);
         CREATE TABLE sun_1 PARTITION OF sun FOR VALUES IN ('sun'); INSERT INTO sun_1 (id, chatbot_id, region, content) VALUES (21, 1, 'sun', 'Hot.');
         ALTER TABLE documents RENAME content TO body; UPDATE sun_1 SET body = 'Very hot.'; ALTER TABLE documents RENAME body TO content",
    )
    .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute("TRUNCATE us; TRUNCATE rest").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.source ORDER BY 1"), [1, 20, 21]);
    app.batch_execute("ALTER TABLE documents DETACH PARTITION sun; UPDATE sun SET content = 'Cold.'; DROP TABLE eu")
        .unwrap();
    assert_eq!(query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.source ORDER BY 1"), [20]);
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute("ALTER TABLE documents DETACH PARTITION rest").unwrap();
    app.batch_execute("ALTER TABLE documents DETACH PARTITION moon CONCURRENTLY").unwrap();
    assert_eq!(trigger_counts(&mut app), ["documents 4", "us 5"]);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 0);
    db.admin
        .batch_execute("CREATE FOREIGN DATA WRAPPER w; CREATE SERVER x FOREIGN DATA WRAPPER w; GRANT USAGE ON FOREIGN SERVER x TO app")
        .unwrap();
    let foreign =
        expect_error(&mut app, "CREATE FOREIGN TABLE far PARTITION OF documents FOR VALUES IN ('far') SERVER x");
    assert_eq!(foreign.code, "42809");
    let asked = mock.asked();
    app.batch_execute("SELECT chatbot_detach('documents'); INSERT INTO us (id, chatbot_id, region, content) VALUES (1, 1, 'us', 'x'); DROP TABLE documents").unwrap();
    assert_eq!((mock.asked(), trigger_counts(&mut app)), (asked, vec![]));
}

#[test]
fn a_restored_partition_has_its_triggers_once() {
    let (_db, _mock, mut app) = partitioned();
    let made = query_column::<String>(
        &mut app,
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname LIKE '%chatbot_sync%' ORDER BY tgrelid, tgname",
    );
    app.batch_execute("DROP TABLE documents").unwrap();
    app.batch_execute(PARTITIONED.split("SELECT chatbot_attach").next().unwrap()).unwrap();
    for trigger in &made {
        app.batch_execute(trigger).unwrap_or_else(|error| panic!("{trigger}: {error:?}"));
    }
    assert_eq!(trigger_counts(&mut app), ["asia 5", "documents 4", "eu 5", "other 5", "rest 4", "us 5"]);
    app.batch_execute(ROWS).unwrap();
    app.batch_execute("UPDATE us SET content = 'Edited.'").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
}
