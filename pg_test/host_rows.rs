//! Host rows and the sources that are made of them say the same, whatever refuses it, and sources outlive missing triggers.

use super::harness::{application_with_mock, attached_documents, expect_error, prose, query_column, query_value};

const JOBS: &str = "SELECT count(*) FROM chatbot_sync.job";
const SOURCES: &str =
    "SELECT concat_ws(' ', source_id, status, error_code, host IS NULL) FROM chatbot_sync.source ORDER BY source_id";

/// An attached table in mode async.
const ASYNC: &str = "CREATE TABLE docs (id int PRIMARY KEY, chatbot_id int, content text, status text);
    SELECT chatbot_attach('docs', 'document', status_column => 'status', mode => 'async');
    INSERT INTO docs VALUES (1, 1, 'One.'), (2, 1, 'Two.'), (3, 1, 'Three.')";

#[test]
fn a_detached_table_keeps_the_sources_whose_jobs_wait() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute(&format!("{ASYNC}; CALL chatbot_process_queue()")).unwrap();
    app.batch_execute("UPDATE docs SET content = 'Edited.' WHERE id = 2; SELECT chatbot_detach('docs')").unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.embedding"), 3);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source WHERE host IS NULL"), 3);
    assert_eq!((query_value::<i64>(&mut app, JOBS), mock.texts().len()), (0, 3));
}

/// The sources with their states, in the order of their ids.
const STATES: &str =
    "SELECT string_agg(concat_ws(' ', source_id, status, host, error_code, chunk_count), ', ' ORDER BY source_id)
    FROM chatbot_sync.source";

#[test]
fn a_source_that_was_pending_when_its_table_was_detached_has_the_state_of_its_vectors() {
    let (mut db, _mock, mut app) = application_with_mock();
    app.batch_execute(&format!("{ASYNC}; CALL chatbot_process_queue()")).unwrap();
    // 1 has vectors of an older text, 2 is known to have the wrong ones, 3 is synced, 4 never had any.
    app.batch_execute("UPDATE docs SET content = 'Edited.' WHERE id < 3; INSERT INTO docs VALUES (4, 1, 'Four.')")
        .unwrap();
    db.admin
        .batch_execute(
            "UPDATE chatbot_sync.source SET content_hash = NULL WHERE source_id = 2; SELECT chatbot_repair()",
        )
        .unwrap();
    app.batch_execute("SELECT chatbot_detach('docs')").unwrap();
    let expected = "1 synced 1, 2 error 55000 1, 3 synced 1";
    assert_eq!(query_value::<String>(&mut app, STATES), expected);
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_value::<String>(&mut app, STATES), expected);
    assert_eq!(query_value::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_verify()"), 0);
}

#[test]
fn a_source_that_is_pending_without_table_or_job_is_found_and_repaired() {
    let (mut db, _mock, mut app) = application_with_mock();
    app.batch_execute(&format!("{ASYNC}; CALL chatbot_process_queue(); SELECT chatbot_detach('docs')")).unwrap();
    db.admin
        .batch_execute(
            "UPDATE chatbot_sync.source SET status = 'pending';
            UPDATE chatbot_sync.source SET content_hash = NULL WHERE source_id > 1;
            DELETE FROM chatbot_sync.embedding WHERE source_id = 3;
            UPDATE chatbot_sync.source SET chunk_count = 0 WHERE source_id = 3",
        )
        .unwrap();
    let found = "SELECT string_agg(problem, ' ') FROM chatbot_verify()";
    assert_eq!(query_value::<String>(&mut db.admin, found), "detached detached detached");
    assert_eq!(query_value::<i64>(&mut db.admin, "SELECT chatbot_repair()"), 3);
    assert_eq!(query_value::<String>(&mut app, STATES), "1 synced 1, 2 error 55000 1");
    assert_eq!(query_value::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_verify()"), 0);
}

#[test]
fn the_queue_deletes_no_source_of_a_table_that_lacks_its_triggers() {
    let (mut db, _mock, mut app) = application_with_mock();
    app.batch_execute(&format!("{ASYNC}; CALL chatbot_process_queue()")).unwrap();
    app.batch_execute("UPDATE docs SET content = 'Edited.' WHERE id = 2").unwrap();
    // As in the middle of a restore: rows and jobs are there, triggers are not yet.
    db.admin
        .batch_execute(
            "CREATE TABLE triggers AS SELECT tgname, pg_get_triggerdef(oid) AS definition FROM pg_trigger
                WHERE tgrelid = 'docs'::regclass AND NOT tgisinternal;
            DO $$ DECLARE t record; BEGIN
                FOR t IN TABLE triggers LOOP EXECUTE format('DROP TRIGGER %I ON docs', t.tgname); END LOOP;
            END $$",
        )
        .unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.embedding"), 3);
    assert_eq!(query_value::<i64>(&mut app, JOBS), 1);
    db.admin
        .batch_execute(
            "DO $$ DECLARE t record; BEGIN
                FOR t IN TABLE triggers LOOP EXECUTE t.definition; END LOOP;
            END $$; UPDATE chatbot_sync.job SET due_at = now()",
        )
        .unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(
        query_value::<String>(&mut app, "SELECT content FROM chatbot_sync.embedding WHERE source_id = 2"),
        "Edited."
    );
    assert_eq!(query_value::<i64>(&mut app, JOBS), 0);
}

#[test]
fn a_refused_status_does_not_quote_the_row() {
    let (_db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE docs (id int PRIMARY KEY, chatbot_id int, content text, status text CHECK (status <> 'synced'));
        SELECT chatbot_attach('docs', 'document', status_column => 'status');
        INSERT INTO docs VALUES (1, 1, 'A secret.')",
    )
    .unwrap();
    let said = "SELECT error_code || ' ' || error FROM chatbot_sync.source";
    let said = query_value::<String>(&mut app, said);
    assert!(said.starts_with("23514 ") && said.contains("docs_status_check") && !said.contains("secret"), "{said}");
}

#[test]
fn a_deferred_constraint_refuses_the_status_of_its_row_alone() {
    let (mut db, _mock, mut app) = application_with_mock();
    app.batch_execute(ASYNC).unwrap();
    app.batch_execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.status = 'synced' AND NEW.id = 2 THEN RAISE 'not so' USING ERRCODE = 'T0002'; END IF; RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER refused AFTER UPDATE ON docs DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .unwrap();
    // As a worker: a role that is not the table's owner.
    db.admin.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(
        query_column::<String>(&mut app, "SELECT status FROM docs ORDER BY id"),
        ["synced", "pending", "synced"]
    );
    assert_eq!(query_column::<String>(&mut app, SOURCES), ["1 synced f", "2 synced T0002 f", "3 synced f"]);
    assert_eq!(query_value::<i64>(&mut app, JOBS), 0);
    app.batch_execute("UPDATE chatbot_sync.source SET status = 'pending'").unwrap();
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(
        query_column::<String>(&mut app, "SELECT status FROM docs ORDER BY id"),
        ["synced", "pending", "synced"]
    );
}

#[test]
fn a_source_says_that_a_chunk_was_embedded_in_parts() {
    let said = "SELECT concat_ws(' ', status, error_code, error) FROM chatbot_sync.source WHERE source_id = 1";
    for queued in [false, true] {
        let (_db, mock, mut app) = attached_documents();
        mock.state().longest = Some(600);
        if queued {
            app.batch_execute("SELECT chatbot_detach('documents'); SELECT chatbot_attach('documents', 'document', metadata_columns => '{title}', status_column => 'status', mode => 'async')").unwrap();
        }
        app.execute("INSERT INTO documents (id, chatbot_id, content) VALUES (1, 1, $1)", &[&prose(8)]).unwrap();
        app.batch_execute("CALL chatbot_process_queue()").unwrap();
        let expected = "synced 01000 chunk 0 is longer than model mock takes: embedded in parts, each vector is the mean of its parts";
        assert_eq!(query_value::<String>(&mut app, said), expected, "queued: {queued}");
        assert_eq!(query_value::<String>(&mut app, "SELECT status FROM documents"), "synced");
        // It stays while the chunk does, and is no reason to embed anything again.
        let asked = mock.texts().len();
        app.batch_execute(
            "UPDATE documents SET title = 'Another'; CALL chatbot_process_queue(); CALL chatbot_sync_all()",
        )
        .unwrap();
        assert_eq!(
            (query_value::<String>(&mut app, said), mock.texts().len()),
            (expected.to_owned(), asked),
            "queued: {queued}"
        );
        app.batch_execute("UPDATE documents SET content = 'Short.'; CALL chatbot_process_queue()").unwrap();
        assert_eq!(query_value::<String>(&mut app, said), "synced", "queued: {queued}");
    }
}

#[test]
fn rows_say_what_reembed_made_of_their_sources() {
    let (mut db, mock, mut app) = attached_documents();
    app.batch_execute("INSERT INTO documents (id, chatbot_id, content) VALUES (1, 1, 'Good.'), (2, 1, 'A poison.')")
        .unwrap();
    let rows = "SELECT concat_ws(' ', d.id, d.status, s.status, d.error IS NOT DISTINCT FROM s.error)
        FROM documents d JOIN chatbot_sync.source s ON s.source_id = d.id ORDER BY 1";
    db.admin.batch_execute("SELECT chatbot_set_model('openai_compatible', 'other', 8)").unwrap();
    mock.state().poison = Some("poison");
    assert_eq!(expect_error(&mut db.admin, "CALL chatbot_reembed()").code, "HV00L");
    assert_eq!(query_column::<String>(&mut app, rows), ["1 synced synced t", "2 error error t"]);
    mock.state().poison = None;
    db.admin.batch_execute("CALL chatbot_reembed()").unwrap();
    assert_eq!(query_column::<String>(&mut app, rows), ["1 synced synced t", "2 synced synced t"]);
}

#[test]
fn an_estimate_counts_the_rows_whose_content_cannot_be_cut() {
    let (db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE docs (id int PRIMARY KEY, chatbot_id int, content jsonb, status text);
        SELECT chatbot_attach('docs', 'document', status_column => 'status');
        INSERT INTO docs VALUES (1, 1, '[1]'), (2, 1, '{\"en\": \"Good.\"}')",
    )
    .unwrap();
    assert_eq!(query_column::<String>(&mut app, "SELECT status FROM docs ORDER BY id"), ["error", "synced"]);
    let (mut listening, told) = db.session_with_notices("app");
    let counted = "SELECT concat_ws(' ', sources, chunks, chunks_to_embed) FROM chatbot_estimate()";
    assert_eq!(query_value::<String>(&mut listening, counted), "2 1 0");
    assert!(told.lock().unwrap().iter().any(|line| line.contains("1 rows cannot be read")), "{told:?}");
}
