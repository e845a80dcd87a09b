//! Status columns: rows are written once, with the rights of the table's owner, and a provider's failure leaves row,
//! vectors and reason consistent.

use postgres::Client;

use super::harness::{
    Db, application_with_mock, attached_documents, expect_error, find_differences, query_column, query_value,
    set_for_database, snapshot_of_all_tables,
};
use super::mock::{Fault, Mock};

/// Returns the status columns of all rows.
fn status_columns(client: &mut Client) -> Vec<String> {
    let sql =
        "SELECT concat_ws(' ', id, COALESCE(status, '-'), processed, COALESCE(error, '-')) FROM documents ORDER BY id";
    query_column(client, sql)
}

/// Returns the texts of a chatbot that searches can find.
fn searchable_texts(client: &mut Client, chatbot: i32) -> Vec<String> {
    query_column(
        client,
        &format!("SELECT content FROM chatbot_sync.embedding WHERE chatbot_id = {chatbot} AND enabled ORDER BY 1"),
    )
}

/// Creates a trigger that adds a row to the table `fired` for each insert or update of a document.
const COUNT_TRIGGER_FIRINGS: &str = "CREATE TABLE fired (what text, id int);
    CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.fired VALUES (TG_OP, NEW.id); RETURN NULL;
    END $$;
    CREATE TRIGGER a_fired AFTER INSERT OR UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION fired();";

#[test]
fn a_synced_row_is_written_once() {
    let (_db, _mock, mut app) = attached_documents();
    app.batch_execute(COUNT_TRIGGER_FIRINGS).unwrap();
    app.batch_execute(
        "INSERT INTO documents (chatbot_id, content, status) VALUES (1, 'One.', 'pending'), (1, 'Two.', NULL)",
    )
    .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    let updated =
        "SELECT count(*) FROM documents WHERE xmin <> (SELECT min(xmin::text)::xid FROM documents) OR ctid > '(0,2)'";
    assert_eq!(query_value::<i64>(&mut app, updated), 0);
    app.batch_execute("UPDATE documents SET content = 'Two, edited.' WHERE id = 2; UPDATE documents SET write_uid = 7")
        .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    let fired = query_column::<String>(&mut app, "SELECT what || id FROM fired");
    assert_eq!(fired, ["INSERT1", "INSERT2", "UPDATE2", "UPDATE1", "UPDATE2"]);
    assert_eq!(status_columns(&mut app), ["1 synced t -", "2 synced t -"]);
}

#[test]
fn returning_returns_the_status() {
    let (_db, _mock, mut app) = attached_documents();
    let sql = "INSERT INTO documents (chatbot_id, content, active) VALUES (1, 'One.', true), (1, 'Two.', false), (NULL, 'Three.', true)
        RETURNING concat(status, ' ', processed)";
    assert_eq!(query_column::<String>(&mut app, sql), ["synced t", "pending f", " "]);
    app.batch_execute("UPDATE documents SET content = 'Changed.' WHERE id = 2").unwrap();
    assert_eq!(
        query_column::<String>(&mut app, "UPDATE documents SET active = true WHERE id = 2 RETURNING status"),
        ["synced"]
    );
    assert_eq!(
        query_column::<String>(&mut app, "UPDATE documents SET active = false WHERE id = 2 RETURNING status"),
        ["synced"]
    );
    assert_eq!(status_columns(&mut app), ["1 synced t -", "2 synced t -", "3 - -"]);
}

#[test]
fn content_changed_by_a_before_trigger_is_embedded_as_stored() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(
        "CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             NEW.content := btrim(NEW.content); NEW.status := 'draft'; RETURN NEW;
         END $$;
         CREATE TRIGGER tidy BEFORE INSERT OR UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION tidy();",
    )
    .unwrap();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, '  A text.  ')").unwrap();
    assert_eq!(mock.texts(), ["A text."]);
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute("DROP TRIGGER tidy ON documents; CREATE TRIGGER zzz BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION tidy()")
        .unwrap();
    app.batch_execute("UPDATE documents SET content = ' Another.'").unwrap();
    assert_eq!(mock.texts(), ["A text.", "Another."]);
}

#[test]
fn a_refused_text_marks_its_row_and_no_other() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(
        "INSERT INTO documents (chatbot_id, title, content) VALUES (1, 'T', 'Old one.'), (1, 'T', 'Old two.')",
    )
    .unwrap();
    mock.state().poison = Some("poison");
    app.batch_execute("UPDATE documents SET content = CASE id WHEN 1 THEN 'poison' ELSE 'New two.' END").unwrap();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'New three.'), (1, 'more poison')")
        .unwrap();
    assert_eq!(query_value::<String>(&mut app, "SELECT content FROM documents WHERE id = 1"), "poison");
    let rows = status_columns(&mut app);
    assert!(
        rows[0].starts_with(
            "1 error f provider openai_compatible refuses chunk 0 of document 1 of chatbot 1 (Model mock, HTTP"
        ),
        "{rows:?}"
    );
    assert_eq!(rows[1..3], ["2 synced t -", "3 synced t -"]);
    assert!(rows[3].starts_with("4 error f"), "{rows:?}");
    assert_eq!(searchable_texts(&mut app, 1), ["New three.", "New two.", "Old one."]);
    let sources = "SELECT concat_ws(' ', source_id, s.status, error_code, s.error = d.error) FROM chatbot_sync.source s
        JOIN documents d ON d.id = source_id ORDER BY source_id";
    assert_eq!(
        query_column::<String>(&mut app, sources),
        ["1 error HV00L t", "2 synced", "3 synced", "4 error HV00L t"]
    );
    // A source in error is not tried again by an update that changes nothing.
    let before = mock.asked();
    app.batch_execute("UPDATE documents SET write_uid = 1, content = content").unwrap();
    assert_eq!(mock.asked(), before);
    // It is tried again when its status is set to pending or its content changes.
    app.batch_execute("UPDATE documents SET status = 'pending' WHERE id = 1").unwrap();
    assert!(status_columns(&mut app)[0].starts_with("1 error f"));
    assert_eq!(query_value::<i32>(&mut app, "SELECT attempts FROM chatbot_sync.source WHERE source_id = 1"), 2);
    mock.state().poison = None;
    app.batch_execute(
        "UPDATE documents SET status = 'pending' WHERE id = 1; UPDATE documents SET content = 'Four.' WHERE id = 4",
    )
    .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    // The text whose vector is still stored needs no request.
    mock.state().poison = Some("poison");
    app.batch_execute("UPDATE documents SET content = 'more poison' WHERE id = 4").unwrap();
    let before = mock.asked();
    app.batch_execute("UPDATE documents SET content = 'Four.' WHERE id = 4").unwrap();
    assert_eq!((mock.asked(), find_differences(&mut app)), (before, vec![]));
}

#[test]
fn chunks_are_visible_again_after_a_failure() {
    let (_db, mock, mut app) = attached_documents();
    let paragraphs: Vec<String> =
        (0..9).map(|i| format!("{}\n\n", format!("Paragraph {i} of these. ").repeat(30))).collect();
    let text = paragraphs.concat();
    let update = |active: bool, text: &str| format!("UPDATE documents SET active = {active}, content = $${text}$$");
    app.batch_execute(&format!("INSERT INTO documents (chatbot_id, content) VALUES (1, $${text}$$)")).unwrap();
    let chunks = searchable_texts(&mut app, 1);
    app.batch_execute("UPDATE documents SET active = false").unwrap();
    assert_eq!(searchable_texts(&mut app, 1), [""; 0]);
    mock.state().poison = Some("poison");
    app.batch_execute(&update(true, &format!("{text}poison"))).unwrap();
    assert_eq!(query_value::<String>(&mut app, "SELECT status FROM documents"), "error");
    assert_eq!(searchable_texts(&mut app, 1), chunks);
    app.batch_execute(&update(true, &format!("{text}cure"))).unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.embedding WHERE NOT enabled"), 0);
}

#[test]
fn a_provider_that_is_down_loses_no_rows() {
    let (mut db, mock, mut app) = attached_documents();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'Old one.')").unwrap();
    set_for_database(&mut db, "max_attempts", "1");
    let mut app = db.session("app");
    mock.state().always = Some(Fault::Status(503, "", "down"));
    app.batch_execute("UPDATE documents SET content = 'New one.'; INSERT INTO documents (chatbot_id, content) SELECT 1, 'Text ' || i FROM generate_series(1, 5) i")
        .unwrap();
    assert_eq!(
        query_value::<i64>(
            &mut app,
            "SELECT count(*) FROM documents WHERE status = 'error' AND error LIKE '%503: down%'"
        ),
        6
    );
    assert_eq!(searchable_texts(&mut app, 1), ["Old one."]);
    mock.state().always = None;
    app.batch_execute("UPDATE documents SET status = 'pending', error = NULL WHERE status = 'error'").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
}

/// Returns a database with documents that are attached with `on_error => 'raise'`.
fn documents_with_on_error_raise() -> (Db, Mock, Client) {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute("CREATE TABLE documents (id serial PRIMARY KEY, chatbot_id int, content text, status text)")
        .unwrap();
    app.batch_execute("SELECT chatbot_attach('documents', 'document', status_column => 'status', on_error => 'raise')")
        .unwrap();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'One.'), (1, 'Two.')").unwrap();
    (db, mock, app)
}

#[test]
fn on_error_raise_fails_the_statement() {
    let (_db, mock, mut app) = documents_with_on_error_raise();
    let rows = |client: &mut Client| {
        format!(
            "{} {:?}",
            snapshot_of_all_tables(client),
            query_column::<String>(client, "SELECT d::text || xmin FROM documents d")
        )
    };
    let before = rows(&mut app);
    mock.state().poison = Some("poison");
    let failed = expect_error(&mut app, "UPDATE documents SET content = CASE id WHEN 1 THEN 'poison' ELSE 'Good.' END");
    assert_eq!(
        (failed.code.as_str(), failed.message.as_str()),
        ("HV00L", "provider openai_compatible refuses chunk 0 of document 1 of chatbot 1")
    );
    assert_eq!(failed.detail, "Model mock, HTTP status 400: this text will not do");
    assert_eq!(rows(&mut app), before);
    mock.state().poison = None;
    app.batch_execute("SET chatbot_sync.max_attempts = 1").unwrap();
    mock.state().always = Some(Fault::Status(503, "", ""));
    assert_eq!(
        expect_error(&mut app, "INSERT INTO documents (chatbot_id, content) VALUES (1, 'Three.')").code,
        "HV000"
    );
    assert_eq!(rows(&mut app), before);
    mock.state().always = None;
    app.batch_execute("UPDATE documents SET content = 'Good.'").unwrap();
    assert_eq!(searchable_texts(&mut app, 1), ["Good.", "Good."]);
}

#[test]
fn a_cancel_does_not_mark_the_row_as_failed() {
    for (db, mock, mut app) in [attached_documents(), documents_with_on_error_raise()] {
        app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'Old.')").unwrap();
        let before = snapshot_of_all_tables(&mut app);
        mock.state().always = Some(Fault::Hang);
        app.batch_execute("SET statement_timeout = '100ms'").unwrap();
        assert_eq!(expect_error(&mut app, "UPDATE documents SET content = 'New.'").code, "57014");
        app.batch_execute("RESET statement_timeout").unwrap();
        let pid: i32 = query_value(&mut app, "SELECT pg_backend_pid()");
        mock.wait(|state| state.in_flight == 0);
        let call = std::thread::spawn(move || {
            let failed =
                expect_error(&mut app, "INSERT INTO documents (chatbot_id, content) VALUES (1, 'New.'), (1, 'Newer.')");
            (failed.code, app)
        });
        mock.wait(|state| state.in_flight == 1);
        db.other().batch_execute(&format!("SELECT pg_cancel_backend({pid})")).unwrap();
        let (code, mut app) = call.join().unwrap();
        assert_eq!(code, "57014");
        mock.wait(|state| state.in_flight == 0);
        assert_eq!(snapshot_of_all_tables(&mut app), before);
        assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM documents WHERE content LIKE 'New%'"), 0);
        mock.state().always = None;
        app.batch_execute("UPDATE documents SET content = 'New.'").unwrap();
        assert_eq!(
            query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.embedding WHERE content <> 'New.'"),
            0
        );
    }
}

#[test]
fn status_columns_are_written_as_the_tables_owner() {
    let (mut db, mock, mut app) = attached_documents();
    app.batch_execute(
        "CREATE TABLE seen (who text, path text);
         CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.seen VALUES (current_user, current_setting('search_path')); RETURN NULL;
         END $$;
         CREATE TRIGGER seen AFTER UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION seen();",
    )
    .unwrap();
    mock.state().poison = Some("poison");
    db.admin.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'poison')").unwrap();
    assert_eq!(query_column::<String>(&mut app, "SELECT who || ' ' || path FROM seen"), ["app pg_catalog, pg_temp"]);
    let back = "SELECT current_user = session_user AND current_setting('search_path') LIKE '%public'";
    assert!(query_value::<bool>(&mut db.admin, back));
    // A role that may write rows of the host table needs no other privilege.
    db.admin
        .batch_execute("GRANT INSERT ON documents TO stranger; GRANT USAGE ON documents_id_seq TO stranger")
        .unwrap();
    let mut stranger = db.session("stranger");
    stranger.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'Fine.'), (1, 'poison')").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM documents WHERE status = 'error'"), 2);
    assert_eq!(searchable_texts(&mut app, 1), ["Fine."]);
    assert_eq!(expect_error(&mut stranger, "SELECT FROM chatbot_sync.source").code, "42501");
}

#[test]
fn writes_of_triggers_during_status_writeback_are_kept() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(
        "CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.status = 'error' THEN
                 INSERT INTO public.documents (chatbot_id, content) VALUES (2, 'Row ' || NEW.id || ' failed.');
             END IF; RETURN NULL;
         END $$;
         CREATE TRIGGER follow AFTER UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION follow();",
    )
    .unwrap();
    mock.state().poison = Some("poison");
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'poison')").unwrap();
    assert_eq!(searchable_texts(&mut app, 2), ["Row 1 failed."]);
    assert_eq!(status_columns(&mut app)[1], "2 synced t -");
}

#[test]
fn deferred_triggers_do_not_prevent_status_writeback() {
    let (mut db, _mock, mut app) = attached_documents();
    app.batch_execute(
        "CREATE TABLE fired (who text);
         CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.fired VALUES (current_user); RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER fired AFTER UPDATE ON documents DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fired();",
    )
    .unwrap();
    let late =
        "ALTER TABLE documents DISABLE TRIGGER USER; INSERT INTO documents (chatbot_id, content) VALUES (1, 'Late.');
        ALTER TABLE documents ENABLE TRIGGER USER";
    app.batch_execute(late).unwrap();
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(status_columns(&mut app), ["1 synced t -"]);
    assert!(query_value::<i64>(&mut app, "SELECT count(*) FROM fired WHERE who = 'app'") > 0);
    // Later it would run as the superuser who calls: it runs at once, as the owner.
    app.batch_execute(late).unwrap();
    db.admin.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(status_columns(&mut app)[1], "2 synced t -");
    let why = "SELECT concat_ws(' ', status, error_code) FROM chatbot_sync.source WHERE source_id = 2";
    assert_eq!(query_value::<String>(&mut app, why), "synced");
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM fired WHERE who <> 'app'"), 0);
}

#[test]
fn a_long_reason_is_cut_to_its_column() {
    let (_db, mock, mut app) = application_with_mock();
    mock.state().poison = Some("poison");
    for (status, error) in [("varchar(7)", "varchar(20)"), ("text", "text"), ("short", "short")] {
        app.batch_execute(
            "DROP TABLE IF EXISTS documents; DROP DOMAIN IF EXISTS short; CREATE DOMAIN short AS varchar(20)",
        )
        .unwrap();
        app.batch_execute(&format!(
            "CREATE TABLE documents (id int PRIMARY KEY, chatbot_id bigint, content text, status {status}, processed boolean, error {error})"
        ))
        .unwrap();
        app.batch_execute(
            "SELECT chatbot_attach('documents', 'link', status_column => 'status', error_column => 'error')",
        )
        .unwrap();
        app.batch_execute("INSERT INTO documents VALUES (1, 1, 'poison'), (2, 1, 'Fine.')").unwrap();
        let rows = status_columns(&mut app);
        assert!(rows[0].starts_with("1 error provider openai_comp"), "{rows:?}");
        assert_eq!(rows[1], "2 synced -");
    }
}

#[test]
fn a_status_that_a_domain_refuses_does_not_fail_the_statement() {
    let (_db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE DOMAIN state AS text CHECK (VALUE IN ('pending', 'error'));
         CREATE TABLE documents (id int PRIMARY KEY, chatbot_id int, content text, status state);
         SELECT chatbot_attach('documents', 'document', status_column => 'status')",
    )
    .unwrap();
    app.batch_execute("INSERT INTO documents VALUES (1, 1, 'Text.', 'pending')").unwrap();
    let state = "SELECT concat_ws(' ', d.status, s.status, s.error_code) FROM documents d, chatbot_sync.source s";
    assert_eq!(query_value::<String>(&mut app, state), "pending synced 23514");
}
