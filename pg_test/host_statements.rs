//! Every kind of statement that an application changes rows with keeps the vectors in step, and embeds
//! only what changed.

use std::io::Write;

use postgres::Client;

use super::harness::{
    attached_documents, expect_error, find_differences, query_column, query_value, snapshot_of_all_tables,
    wait_for_lock,
};

/// Runs statements as Odoo does: in one transaction at REPEATABLE READ.
fn odoo(client: &mut Client, sql: &str) {
    client
        .batch_execute(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {sql}; COMMIT"))
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Returns the texts with their vectors. Embedding a text again gives the same vector, so tests count requests as well.
fn vectors(client: &mut Client) -> Vec<String> {
    query_column(client, "SELECT content || embedding::text FROM chatbot_sync.embedding ORDER BY 1")
}

/// Returns the keys and statuses of all sources.
fn sources(client: &mut Client) -> Vec<String> {
    query_column(client, "SELECT chatbot_id || '/' || source_id || ' ' || status FROM chatbot_sync.source ORDER BY 1")
}

const THREE: &str = "INSERT INTO documents (chatbot_id, title, content) VALUES
    (1, 'A', 'First text.'), (1, 'B', 'Second text.'), (2, 'C', 'Third text.')";

#[test]
fn odoos_statements_keep_vectors_in_step() {
    let (_db, mock, mut app) = attached_documents();
    let rows: Vec<String> = (1..=100)
        .map(|i| format!("({}, 'T{i}', 'Text number {i}.', NULL, 'pending', NULL, now(), 2)", i % 2 + 1))
        .collect();
    let ids = query_column::<i32>(
        &mut app,
        &format!(
            "INSERT INTO documents (chatbot_id, title, content, active, status, processed, write_date, write_uid)
             VALUES {} RETURNING id",
            rows.join(", ")
        ),
    );
    assert_eq!(ids, (1..=100).collect::<Vec<_>>());
    // A boolean that Odoo has not set is NULL, which is not active.
    assert_eq!(mock.state().requests.len(), 0);
    odoo(
        &mut app,
        "UPDATE documents SET active = __tmp.active::bool, write_uid = __tmp.write_uid::int4
         FROM (VALUES (1, true, 2), (2, true, 2), (3, true, 2)) AS __tmp(id, active, write_uid) WHERE documents.id = __tmp.id",
    );
    assert_eq!(mock.asked(), (1, 3));
    odoo(
        &mut app,
        "UPDATE documents SET content = __tmp.content::text, write_date = __tmp.write_date::timestamp, write_uid = 2
         FROM (VALUES (1, 'Another text.', '2026-01-01'), (2, 'Text number 2.', '2026-01-01')) AS __tmp(id, content, write_date)
         WHERE documents.id = __tmp.id",
    );
    assert_eq!(mock.texts().split_off(3), ["Another text."]);
    odoo(&mut app, "DELETE FROM documents WHERE id IN (2, 4, 5, 6)");
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 96);
    odoo(&mut app, "UPDATE documents SET active = true WHERE id > 50; DELETE FROM chatbots WHERE id = 1");
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source WHERE chatbot_id = 1"), 0);
    odoo(&mut app, "UPDATE documents SET active = true");
    assert_eq!(find_differences(&mut app), [""; 0]);
    odoo(&mut app, "DELETE FROM documents WHERE id IN (SELECT id FROM documents)");
    assert_eq!(sources(&mut app), [""; 0]);
}

#[test]
fn rows_of_one_statement_share_requests() {
    let (_db, mock, mut app) = attached_documents();
    let insert =
        "INSERT INTO documents (chatbot_id, content) SELECT 1, 'Text number ' || i FROM generate_series(1, 50) i";
    odoo(&mut app, insert);
    assert_eq!(mock.asked(), (1, 50));
    odoo(&mut app, "SET LOCAL chatbot_sync.batch_size = 10; UPDATE documents SET content = 'New ' || content");
    assert_eq!(mock.asked(), (6, 100));
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(1, 'number', 100)"), 50);
}

#[test]
fn a_statement_larger_than_work_mem_is_embedded() {
    let (_db, _mock, mut app) = attached_documents();
    // With so little work_mem the transition tables are written to disk.
    app.batch_execute(
        "SET work_mem = '64kB';
         INSERT INTO documents (chatbot_id, title, content)
         SELECT 1, 'T', i || repeat(' A sentence.', 60) FROM generate_series(1, 500) AS i",
    )
    .unwrap();
    assert_eq!(sources(&mut app).len(), 500);
    assert!(find_differences(&mut app).is_empty());
    app.batch_execute("UPDATE documents SET content = 'New: ' || content").unwrap();
    assert!(find_differences(&mut app).is_empty());
    app.batch_execute("DELETE FROM documents").unwrap();
    assert!(sources(&mut app).is_empty());
}

#[test]
fn every_kind_of_insert_is_seen() {
    let (_db, mock, mut app) = attached_documents();
    odoo(&mut app, "INSERT INTO documents (chatbot_id, content) SELECT 1, 'No row' WHERE false");
    app.batch_execute("UPDATE documents SET content = 'none'; DELETE FROM documents").unwrap();
    assert_eq!(mock.state().requests.len(), 0);
    let mut copy = app.copy_in("COPY documents (chatbot_id, title, content) FROM STDIN").unwrap();
    copy.write_all(b"1\tA\tCopied text.\n2\tB\tAnother one.\n\\N\tC\tNobody's.\n").unwrap();
    assert_eq!(copy.finish().unwrap(), 3);
    assert_eq!(mock.state().requests.len(), 1);
    odoo(
        &mut app,
        "INSERT INTO documents (id, chatbot_id, content) VALUES (1, 1, 'x'), (7, 1, 'New.') ON CONFLICT DO NOTHING",
    );
    assert_eq!(mock.texts().split_off(2), ["New."]);
    odoo(
        &mut app,
        "INSERT INTO documents AS d (id, chatbot_id, title, content) VALUES (1, 1, 'A', 'Changed.'), (8, 1, 'H', 'Made.')
         ON CONFLICT (id) DO UPDATE SET content = EXCLUDED.content",
    );
    let mut texts = mock.texts().split_off(3);
    texts.sort();
    assert_eq!(texts, ["Changed.", "Made."]);
    odoo(
        &mut app,
        "INSERT INTO documents (id, chatbot_id, content) VALUES (8, 1, 'x') ON CONFLICT (id) DO UPDATE SET title = 'I'",
    );
    odoo(
        &mut app,
        "WITH made AS (INSERT INTO documents (chatbot_id, content) VALUES (2, 'Of a CTE.') RETURNING id, content),
            gone AS (DELETE FROM documents WHERE id = 7 RETURNING id)
         UPDATE documents SET title = (SELECT content FROM made) || (SELECT count(*) FROM gone) WHERE id = 2",
    );
    assert_eq!(mock.texts().split_off(5), ["Of a CTE."]);
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(sources(&mut app), ["1/1 synced", "1/8 synced", "2/2 synced", "2/4 synced"]);
}

#[test]
fn merge_is_seen() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(THREE).unwrap();
    odoo(
        &mut app,
        "MERGE INTO documents AS d USING (VALUES (1, 'Merged.'), (2, NULL), (10, 'Made by MERGE.')) AS n (id, content) ON d.id = n.id
         WHEN MATCHED AND n.content IS NULL THEN DELETE
         WHEN MATCHED THEN UPDATE SET content = n.content
         WHEN NOT MATCHED THEN INSERT (id, chatbot_id, content) VALUES (n.id, 1, n.content)",
    );
    let mut texts = mock.texts().split_off(3);
    texts.sort();
    assert_eq!(texts, ["Made by MERGE.", "Merged."]);
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(sources(&mut app), ["1/1 synced", "1/10 synced", "2/3 synced"]);
}

#[test]
fn cascades_and_truncate_leave_no_orphans() {
    let (_db, _mock, mut app) = attached_documents();
    app.batch_execute(THREE).unwrap();
    app.batch_execute("SELECT chatbot_session_open(1), chatbot_session_open(3)").unwrap();
    odoo(&mut app, "DELETE FROM chatbots WHERE id = 1");
    assert_eq!(sources(&mut app), ["2/3 synced"]);
    assert_eq!(query_column::<i64>(&mut app, "SELECT chatbot_id FROM chatbot_sync.session"), [3]);
    app.batch_execute("BEGIN; TRUNCATE documents").unwrap();
    assert_eq!(sources(&mut app), [""; 0]);
    app.batch_execute("ROLLBACK").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    odoo(&mut app, "TRUNCATE chatbots CASCADE");
    assert_eq!(sources(&mut app), [""; 0]);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.session"), 0);
}

#[test]
fn a_renumbered_chatbot_takes_its_sources_along() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(
        "ALTER TABLE documents DROP CONSTRAINT documents_chatbot_id_fkey;
         ALTER TABLE documents ADD FOREIGN KEY (chatbot_id) REFERENCES chatbots ON UPDATE CASCADE ON DELETE SET NULL",
    )
    .unwrap();
    app.batch_execute(THREE).unwrap();
    let (before, requests) = (vectors(&mut app), mock.state().requests.len());
    odoo(&mut app, "UPDATE chatbots SET id = 11 WHERE id = 1");
    assert_eq!(sources(&mut app), ["11/1 synced", "11/2 synced", "2/3 synced"]);
    assert_eq!((vectors(&mut app), mock.state().requests.len()), (before, requests));
    odoo(&mut app, "DELETE FROM chatbots WHERE id = 11");
    assert_eq!(sources(&mut app), ["2/3 synced"]);
    assert_eq!(find_differences(&mut app), [""; 0]);
}

#[test]
fn a_rollback_restores_vectors_exactly() {
    let (_db, _mock, mut app) = attached_documents();
    app.batch_execute(THREE).unwrap();
    let before = snapshot_of_all_tables(&mut app);
    let all = "INSERT INTO documents (chatbot_id, content) VALUES (1, 'Fourth.');
        UPDATE documents SET content = 'Other ' || id, chatbot_id = 2 WHERE id < 3; DELETE FROM documents WHERE id = 3";
    app.batch_execute(&format!("BEGIN; {all}; ROLLBACK")).unwrap();
    assert_eq!(snapshot_of_all_tables(&mut app), before);
    odoo(&mut app, &format!("SAVEPOINT s; {all}; ROLLBACK TO s"));
    assert_eq!(snapshot_of_all_tables(&mut app), before);
    // The statement fails after our trigger has run.
    app.batch_execute("CREATE TABLE taken (id int UNIQUE DEFERRABLE); INSERT INTO taken VALUES (1)").unwrap();
    let sql = "WITH a AS (UPDATE documents SET content = 'None') INSERT INTO taken VALUES (1)";
    assert_eq!(expect_error(&mut app, sql).code, "23505");
    assert_eq!(snapshot_of_all_tables(&mut app), before);
    odoo(&mut app, &format!("SAVEPOINT s; {all}; ROLLBACK TO s; {all}"));
    assert_eq!(find_differences(&mut app), [""; 0]);
}

#[test]
fn an_edit_sends_only_changed_chunks() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(THREE).unwrap();
    let paragraphs =
        |n: usize| (0..n).map(|i| format!("{}. ", format!("Words of paragraph {i}").repeat(30))).collect::<String>();
    let sql = |text: String| format!("UPDATE documents SET content = $${text}$$ WHERE id = 1");
    app.batch_execute(&sql(paragraphs(20))).unwrap();
    let (before, chunks) =
        (mock.texts().len(), query_value::<i32>(&mut app, "SELECT max(chunk_count) FROM chatbot_sync.source"));
    app.batch_execute(&sql(paragraphs(20).replace("paragraph 10W", "paragraph tenW"))).unwrap();
    assert!(chunks > 10 && mock.texts().len() - before <= 3, "{chunks} {}", mock.texts().len() - before);
}

#[test]
fn changes_of_other_columns_embed_nothing() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(THREE).unwrap();
    let (before, requests) = (vectors(&mut app), mock.state().requests.len());
    odoo(
        &mut app,
        "UPDATE documents SET title = __tmp.title FROM (VALUES (1, 'New'), (3, NULL)) AS __tmp(id, title) WHERE documents.id = __tmp.id",
    );
    assert_eq!(find_differences(&mut app), [""; 0]);
    let title = "SELECT source_id FROM chatbot_search(1, 'text', metadata_filter => '{\"title\": \"New\"}')";
    assert_eq!(query_column::<i64>(&mut app, title), [1]);
    let requests = requests + 1;
    odoo(&mut app, "UPDATE documents SET chatbot_id = 3 WHERE id = 1");
    assert_eq!(sources(&mut app), ["1/2 synced", "2/3 synced", "3/1 synced"]);
    assert_eq!(find_differences(&mut app), [""; 0]);
    odoo(&mut app, "UPDATE documents SET active = NOT active");
    assert_eq!(
        query_value::<i64>(&mut app, "SELECT count(*) FROM generate_series(1, 3) c, chatbot_search(c, 'text')"),
        0
    );
    let hidden = "SELECT count(*) FROM chatbot_sync.source WHERE NOT enabled";
    assert_eq!(query_value::<i64>(&mut app, hidden), 3);
    odoo(&mut app, "UPDATE documents SET active = NOT active");
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(vectors(&mut app), before);
    // The three requests are those of the searches, for the vectors of their queries.
    assert_eq!(mock.state().requests.len(), requests + 3);
}

#[test]
fn an_update_that_changes_nothing_writes_nothing() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(THREE).unwrap();
    app.batch_execute(
        "INSERT INTO documents (chatbot_id, content, active) VALUES (1, 'Archived.', false), (NULL, 'No one.', true)",
    )
    .unwrap();
    let before = snapshot_of_all_tables(&mut app);
    odoo(
        &mut app,
        "UPDATE documents SET content = content, title = title, chatbot_id = chatbot_id, active = active, id = id",
    );
    odoo(&mut app, "UPDATE documents SET write_date = now(), write_uid = 7");
    odoo(
        &mut app,
        "UPDATE documents SET content = __tmp.content::text FROM (VALUES (1, 'First text.')) AS __tmp(id, content) WHERE documents.id = __tmp.id",
    );
    assert_eq!(snapshot_of_all_tables(&mut app), before);
    assert_eq!(mock.texts().len(), 3);
}

#[test]
fn changed_keys_take_their_vectors_along() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(
        "ALTER TABLE documents DROP CONSTRAINT documents_pkey, ADD PRIMARY KEY (id) DEFERRABLE INITIALLY IMMEDIATE",
    )
    .unwrap();
    app.batch_execute(THREE).unwrap();
    app.batch_execute("UPDATE documents SET chatbot_id = 1").unwrap();
    let (before, requests) = (vectors(&mut app), mock.state().requests.len());
    for update in [
        "SET id = 50 WHERE id = 1",
        "SET id = id + 1",
        "SET id = id - 2",
        "SET id = CASE id WHEN 1 THEN 0 + 49 WHEN 49 THEN 1 END WHERE id IN (1, 49)",
        "SET id = id + 1, title = 'Chain ' || id",
        "SET chatbot_id = 2 WHERE id > 10",
        "SET chatbot_id = 3 - chatbot_id",
        "SET chatbot_id = 3 - chatbot_id, id = 60 - id",
        "SET title = id::text, chatbot_id = 3",
    ] {
        odoo(&mut app, &format!("UPDATE documents {update}"));
        assert_eq!(find_differences(&mut app), [""; 0], "{update}");
    }
    assert_eq!((vectors(&mut app), mock.state().requests.len()), (before, requests));
    // Keys are swapped and some of the texts change in the same statement.
    odoo(
        &mut app,
        "UPDATE documents SET id = 100 - id, content = CASE WHEN id < 20 THEN content ELSE 'Swapped ' || id END",
    );
    assert_eq!(find_differences(&mut app), [""; 0]);
}

#[test]
fn a_row_without_a_chatbot_is_no_source_until_it_has_one() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(THREE).unwrap();
    odoo(&mut app, "UPDATE documents SET chatbot_id = NULL WHERE id = 1");
    assert_eq!(sources(&mut app), ["1/2 synced", "2/3 synced"]);
    odoo(&mut app, "UPDATE documents SET content = 'Changed meanwhile.' WHERE id = 1");
    assert_eq!(mock.texts().len(), 3);
    odoo(&mut app, "UPDATE documents SET chatbot_id = 3 WHERE id = 1");
    assert_eq!(find_differences(&mut app), [""; 0]);
    // Another row takes over its key.
    app.batch_execute("ALTER TABLE documents DROP CONSTRAINT documents_pkey, ADD PRIMARY KEY (id) DEFERRABLE").unwrap();
    odoo(
        &mut app,
        "UPDATE documents SET chatbot_id = CASE id WHEN 2 THEN NULL ELSE 1 END, id = CASE id WHEN 2 THEN 3 WHEN 3 THEN 2 ELSE id END",
    );
    assert_eq!(sources(&mut app), ["1/1 synced", "1/2 synced"]);
    assert_eq!(find_differences(&mut app), [""; 0]);
}

#[test]
fn one_id_under_two_chatbots_is_two_sources() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute("ALTER TABLE documents DROP CONSTRAINT documents_pkey, ADD PRIMARY KEY (chatbot_id, id)")
        .unwrap();
    odoo(&mut app, "INSERT INTO documents (id, chatbot_id, content) VALUES (1, 1, 'Of one.'), (1, 2, 'Of two.')");
    assert_eq!(find_differences(&mut app), [""; 0]);
    mock.state().poison = Some("poison");
    odoo(&mut app, "UPDATE documents SET content = 'poison' WHERE chatbot_id = 2");
    assert_eq!(
        query_column::<String>(&mut app, "SELECT status FROM documents ORDER BY chatbot_id"),
        ["synced", "error"]
    );
}

#[test]
fn a_statement_that_waited_embeds_the_row_as_it_is_then() {
    let (db, _mock, mut app) = attached_documents();
    app.batch_execute(THREE).unwrap();
    let (mut second, mut watcher) = (db.session("app"), db.other());
    let pid: i32 = query_value(&mut second, "SELECT pg_backend_pid()");
    app.batch_execute("BEGIN; UPDATE documents SET content = 'First edit.', title = 'First' WHERE id = 1").unwrap();
    let waits = std::thread::spawn(move || {
        second.batch_execute("UPDATE documents SET content = content || ' Second edit.' WHERE id = 1").unwrap();
    });
    wait_for_lock(&mut watcher, pid);
    app.batch_execute("COMMIT").unwrap();
    waits.join().unwrap();
    assert_eq!(
        query_value::<String>(&mut app, "SELECT content FROM documents WHERE id = 1"),
        "First edit. Second edit."
    );
    assert_eq!(find_differences(&mut app), [""; 0]);
}
