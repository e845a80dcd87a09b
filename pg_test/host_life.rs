//! Changes of the host table itself: renamed, altered, dropped, detached and restored tables and columns are followed,
//! and nothing is left behind.

use postgres::Client;

use super::harness::{
    application_with_mock, attached_documents, expect_error, find_differences, query_column, query_value,
};

const ROWS: &str =
    "INSERT INTO documents (chatbot_id, title, content) VALUES (1, 'A', 'First text.'), (2, 'B', 'Second text.')";

/// Returns the keys of all sources.
fn source_keys(client: &mut Client) -> Vec<String> {
    query_column(client, "SELECT chatbot_id || '/' || source_id FROM chatbot_sync.source ORDER BY 1")
}

/// Counts the sources, chunks and triggers of ours that are left.
fn count_leftovers(client: &mut Client) -> i64 {
    query_value(
        client,
        "SELECT (SELECT count(*) FROM chatbot_sync.source) + (SELECT count(*) FROM chatbot_sync.embedding)
            + (SELECT count(*) FROM pg_trigger t WHERE tgfoid::regproc::text LIKE 'chatbot_sync.%')",
    )
}

#[test]
fn renamed_tables_and_columns_are_followed() {
    let (db, mock, mut app) = attached_documents();
    app.batch_execute(ROWS).unwrap();
    // A session that has written before and caches what it knows about the table.
    let mut other = db.session("app");
    other.batch_execute("UPDATE documents SET content = content || ' Edited.'").unwrap();
    mock.state().poison = Some("poison");
    for (rename, back) in [
        ("ALTER TABLE documents RENAME content TO body", "ALTER TABLE documents RENAME body TO content"),
        ("ALTER TABLE documents RENAME id TO nr", "ALTER TABLE documents RENAME nr TO id"),
        ("ALTER TABLE documents RENAME chatbot_id TO bot", "ALTER TABLE documents RENAME bot TO chatbot_id"),
        ("ALTER TABLE documents RENAME title TO name", "ALTER TABLE documents RENAME name TO title"),
        ("ALTER TABLE documents RENAME active TO visible", "ALTER TABLE documents RENAME visible TO active"),
        ("ALTER TABLE documents RENAME status TO state", "ALTER TABLE documents RENAME state TO status"),
        ("ALTER TABLE documents RENAME error TO reason", "ALTER TABLE documents RENAME reason TO error"),
        ("ALTER TABLE documents RENAME TO docs", "ALTER TABLE docs RENAME TO documents"),
        (
            "ALTER TABLE chatbots RENAME id TO nr; ALTER TABLE chatbots RENAME TO bots",
            "ALTER TABLE bots RENAME TO chatbots; ALTER TABLE chatbots RENAME nr TO id",
        ),
        (
            "ALTER TABLE documents RENAME content TO old; ALTER TABLE documents RENAME title TO content; ALTER TABLE documents RENAME old TO title",
            "ALTER TABLE documents RENAME content TO old; ALTER TABLE documents RENAME title TO content; ALTER TABLE documents RENAME old TO title",
        ),
    ] {
        app.batch_execute(rename).unwrap();
        let columns = "SELECT format('UPDATE %s SET %I = %2$s || ''.'', %I = ''T'' || %3$s', relation, content_column, metadata_columns[1])
            FROM chatbot_sync.host_table";
        let edit: String = query_value(&mut app, columns);
        other.batch_execute(&edit).unwrap();
        let poison: String = query_value(
            &mut app,
            "SELECT format('INSERT INTO %s (%I, %I) VALUES (3, ''poison'')', relation, chatbot_column, content_column) FROM chatbot_sync.host_table",
        );
        other.batch_execute(&poison).unwrap();
        app.batch_execute(back).unwrap();
        other.batch_execute("DELETE FROM documents WHERE chatbot_id = 3").unwrap();
        assert_eq!(find_differences(&mut app), [""; 0], "{rename}");
    }
    app.batch_execute("DELETE FROM chatbots").unwrap();
    assert_eq!(source_keys(&mut app), [""; 0]);
}

#[test]
fn a_renamed_schema_is_followed() {
    let (mut db, mock, mut app) = application_with_mock();
    db.admin.batch_execute("CREATE SCHEMA one AUTHORIZATION app").unwrap();
    app.batch_execute(
        "CREATE TABLE one.t (id int PRIMARY KEY, chatbot_id int, content text, status text);
         SELECT chatbot_attach('one.t', 'document', status_column => 'status'); INSERT INTO one.t VALUES (1, 1, 'Text.')",
    )
    .unwrap();
    db.admin.batch_execute("ALTER SCHEMA one RENAME TO two").unwrap();
    mock.state().poison = Some("poison");
    app.batch_execute("INSERT INTO two.t VALUES (2, 1, 'poison'); UPDATE two.t SET content = 'Edited.' WHERE id = 1")
        .unwrap();
    assert_eq!(query_column::<String>(&mut app, "SELECT status FROM two.t ORDER BY id"), ["synced", "error"]);
    app.batch_execute("ALTER TABLE two.t SET SCHEMA public; INSERT INTO t VALUES (3, 1, 'poison')").unwrap();
    db.admin.batch_execute("DROP SCHEMA two CASCADE").unwrap();
    assert_eq!(source_keys(&mut app), ["1/1", "1/2", "1/3"]);
    db.admin.batch_execute("CREATE SCHEMA two AUTHORIZATION app").unwrap();
    app.batch_execute("ALTER TABLE t SET SCHEMA two").unwrap();
    db.admin.batch_execute("DROP SCHEMA two CASCADE").unwrap();
    assert_eq!(count_leftovers(&mut app), 0);
}

#[test]
fn a_dropped_column_leaves_nothing_and_statements_go_on() {
    for how in ["", " CASCADE"] {
        let (db, _mock, mut app) = attached_documents();
        let (mut listener, told) = db.session_with_notices("app");
        app.batch_execute(ROWS).unwrap();
        app.batch_execute("INSERT INTO documents (chatbot_id, content, active) VALUES (1, 'Archived.', false)")
            .unwrap();
        for (dropped, role) in [
            ("title", "metadata_columns"),
            ("status", "status_column"),
            ("processed", "processed_column"),
            ("error", "error_column"),
        ] {
            listener.batch_execute(&format!("ALTER TABLE documents DROP {dropped}{how}")).unwrap();
            let warning =
                format!("WARNING: column {dropped} of public.documents is gone: it was {role} of chatbot_attach()");
            assert_eq!(told.lock().unwrap().drain(..).collect::<Vec<_>>(), [warning]);
            app.batch_execute("UPDATE documents SET content = content || '.'").unwrap();
        }
        assert_eq!(
            query_value::<i64>(
                &mut app,
                "SELECT count(*) FROM chatbot_sync.embedding WHERE metadata <> '{}' OR content NOT LIKE '%.....'"
            ),
            0
        );
        listener.batch_execute(&format!("ALTER TABLE documents DROP active{how}; CALL chatbot_sync_all()")).unwrap();
        assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(1, 'text')"), 2);
        listener.batch_execute(&format!("ALTER TABLE documents DROP content{how}")).unwrap();
        let warning =
            "WARNING: public.documents is detached, and what was embedded of it deleted: its column content is gone";
        assert_eq!(told.lock().unwrap().last().unwrap(), warning);
        assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 0);
        app.batch_execute("INSERT INTO documents (chatbot_id) VALUES (1); DROP TABLE documents").unwrap();
        listener.batch_execute("ALTER TABLE chatbots DROP id CASCADE").unwrap();
        assert_eq!(told.lock().unwrap().last().unwrap(), "WARNING: public.chatbots is detached: its column id is gone");
        assert_eq!(count_leftovers(&mut app), 0);
    }
}

#[test]
fn a_column_dropped_with_its_type_is_noticed() {
    let (_db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE DOMAIN words AS text; CREATE DOMAIN tenant AS int; CREATE TYPE mood AS ENUM ('good');
         CREATE TABLE t (id int PRIMARY KEY, chatbot_id tenant, content words, mood mood);
         SELECT chatbot_attach('t', 'document', metadata_columns => '{mood}'); INSERT INTO t VALUES (1, 1, 'A text.', 'good')",
    )
    .unwrap();
    assert_eq!(
        query_value::<String>(&mut app, "SELECT metadata::text FROM chatbot_sync.source"),
        r#"{"mood": "good"}"#
    );
    app.batch_execute("DROP TYPE mood CASCADE; UPDATE t SET content = 'Another.'").unwrap();
    assert_eq!(
        query_value::<String>(&mut app, "SELECT metadata::text || content FROM chatbot_sync.embedding"),
        "{}Another."
    );
    app.batch_execute("BEGIN; DROP DOMAIN words CASCADE; UPDATE t SET id = 2").unwrap();
    assert_eq!(count_leftovers(&mut app), 0);
    app.batch_execute("ROLLBACK; UPDATE t SET id = 3").unwrap();
    assert_eq!(source_keys(&mut app), ["1/3"]);
    app.batch_execute("DROP DOMAIN tenant CASCADE").unwrap();
    assert_eq!(count_leftovers(&mut app), 0);
}

#[test]
fn a_changed_column_type_is_read_or_refused_at_once() {
    let (db, mock, mut app) = attached_documents();
    let (mut listener, told) = db.session_with_notices("app");
    app.batch_execute(ROWS).unwrap();
    let before = mock.asked();
    app.batch_execute(
        "ALTER TABLE documents ALTER id TYPE bigint, ALTER title TYPE varchar(50), ALTER write_uid TYPE text, ADD more int DEFAULT 5;
         ALTER TABLE documents ALTER status TYPE text, ALTER content TYPE varchar(100), DROP more; UPDATE documents SET title = title || '!'",
    )
    .unwrap();
    assert_eq!((mock.asked(), find_differences(&mut app)), (before, vec![]));
    for (alter, message) in [
        (
            "content TYPE bytea USING content::bytea",
            "column \"content\" of public.documents, which content_column names, is bytea, expected text or character varying or jsonb",
        ),
        (
            "id TYPE text",
            "column \"id\" of public.documents, which id_column names, is text, expected smallint or integer or bigint",
        ),
        (
            "status TYPE varchar(4)",
            "column \"status\" of public.documents, which status_column names, is character varying(4), expected character varying(7) or longer",
        ),
    ] {
        app.batch_execute(
            "ALTER TABLE documents ALTER id DROP DEFAULT; UPDATE documents SET status = NULL, processed = true",
        )
        .unwrap();
        let failed = expect_error(&mut app, &format!("ALTER TABLE documents ALTER {alter}"));
        assert_eq!((failed.code.as_str(), failed.message.as_str()), ("42804", message));
        assert!(failed.hint.contains("chatbot_detach"));
        app.batch_execute("UPDATE documents SET status = 'pending'").unwrap();
    }
    assert_eq!((mock.asked(), find_differences(&mut app)), (before, vec![]));
    listener.batch_execute("ALTER TABLE documents ALTER content TYPE jsonb USING jsonb_build_object('en_US', content, 'fr_FR', 'Texte ' || id)").unwrap();
    assert_eq!(
        told.lock().unwrap().last().unwrap(),
        "NOTICE: 2 rows of public.documents are pending: CALL chatbot_sync_all();"
    );
    app.batch_execute(
        "CALL chatbot_sync_all(); UPDATE documents SET content = content || '{\"fr_FR\": \"Autre\"}' WHERE id = 1",
    )
    .unwrap();
    let texts = "SELECT lang || ' ' || content FROM chatbot_sync.embedding ORDER BY content";
    assert_eq!(
        query_column::<String>(&mut app, texts),
        ["fr_FR Autre", "en_US First text.", "en_US Second text.", "fr_FR Texte 2"]
    );
    app.batch_execute(
        "ALTER TABLE documents ALTER content TYPE text USING content ->> 'en_US'; CALL chatbot_sync_all()",
    )
    .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
}

#[test]
fn a_disabled_trigger_stays_disabled() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(ROWS).unwrap();
    app.batch_execute("ALTER TABLE documents DISABLE TRIGGER USER; ALTER TABLE documents RENAME content TO body; ALTER TABLE documents RENAME body TO content")
        .unwrap();
    app.batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'Not seen.')").unwrap();
    assert_eq!(mock.asked().1, 2);
    app.batch_execute("ALTER TABLE documents ENABLE TRIGGER USER; UPDATE documents SET content = content || ' Seen.'")
        .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
}

#[test]
fn dropped_tables_leave_nothing() {
    for (before, end) in [
        ("", "DROP TABLE documents"),
        ("", "DROP TABLE documents, chatbots"),
        ("", "DROP OWNED BY app CASCADE"),
        (
            "CREATE SCHEMA odoo; GRANT ALL ON SCHEMA odoo TO app; ALTER TABLE documents SET SCHEMA odoo; ALTER TABLE chatbots SET SCHEMA odoo",
            "DROP SCHEMA odoo CASCADE",
        ),
        ("", "DROP TABLE chatbots CASCADE; DROP TABLE documents"),
        ("", "SELECT chatbot_detach('documents', true); SELECT chatbot_detach('chatbots')"),
        ("", "BEGIN; TRUNCATE documents; DROP TABLE documents; COMMIT"),
    ] {
        let (mut db, _mock, mut app) = attached_documents();
        app.batch_execute(ROWS).unwrap();
        db.admin.batch_execute(before).unwrap();
        db.admin.batch_execute(&format!("{end}; DROP TABLE IF EXISTS chatbots CASCADE")).unwrap();
        assert_eq!(count_leftovers(&mut db.admin), 0, "{end}");
    }
}

#[test]
fn a_dropped_chatbots_table_leaves_nothing() {
    for end in [
        "DELETE FROM chatbots",
        "TRUNCATE chatbots CASCADE",
        "DROP TABLE chatbots CASCADE",
        "ALTER TABLE chatbots RENAME id TO nr; DELETE FROM chatbots",
    ] {
        let (_db, _mock, mut app) = attached_documents();
        app.batch_execute(ROWS).unwrap();
        app.batch_execute("SELECT chatbot_embed_source(2, 'link', 9, 'No row has it.'), chatbot_session_open(3)")
            .unwrap();
        app.batch_execute(end).unwrap();
        assert_eq!(
            query_value::<i64>(
                &mut app,
                "SELECT (SELECT count(*) FROM chatbot_sync.source) + (SELECT count(*) FROM chatbot_sync.session)"
            ),
            0,
            "{end}"
        );
    }
}

#[test]
fn drop_extension_removes_all_triggers() {
    let (mut db, _mock, mut app) = attached_documents();
    app.batch_execute(ROWS).unwrap();
    assert_eq!(expect_error(&mut db.admin, "DROP EXTENSION chatbot_sync").code, "2BP01");
    db.admin.batch_execute("DROP EXTENSION chatbot_sync CASCADE").unwrap();
    app.batch_execute("UPDATE documents SET content = 'Unseen.'; ALTER TABLE documents RENAME title TO name; ALTER TABLE documents RENAME name TO title").unwrap();
    db.admin.batch_execute("CREATE EXTENSION chatbot_sync; SELECT chatbot_grant('app')").unwrap();
    app.batch_execute(super::harness::ATTACH).unwrap();
    app.batch_execute("CALL chatbot_sync_all(); UPDATE documents SET content = 'Seen ' || id WHERE id = 1").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
}

#[test]
fn detach_keeps_or_deletes_embeddings_as_asked() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute(ROWS).unwrap();
    app.batch_execute("SELECT chatbot_detach('documents')").unwrap();
    assert_eq!(source_keys(&mut app), ["1/1", "2/2"]);
    app.batch_execute(
        "UPDATE documents SET content = 'Changed.' WHERE id = 2; UPDATE documents SET active = false WHERE id = 1",
    )
    .unwrap();
    assert_eq!(expect_error(&mut app, "SELECT chatbot_detach('documents')").code, "42704");
    app.batch_execute(super::harness::ATTACH).unwrap_err();
    let attach = super::harness::ATTACH.split_once(';').unwrap().0;
    app.batch_execute(attach).unwrap();
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute("UPDATE documents SET active = true").unwrap();
    // The vector of the text that did not change was still stored.
    assert_eq!((mock.texts().split_off(2), find_differences(&mut app)), (vec!["Changed.".to_owned()], vec![]));
    app.batch_execute("SELECT chatbot_detach('documents', true); SELECT chatbot_detach('chatbots')").unwrap();
    assert_eq!(count_leftovers(&mut app), 0);
}

#[test]
fn a_restored_table_keeps_its_columns() {
    let (mut db, _mock, mut app) = attached_documents();
    app.batch_execute(ROWS).unwrap();
    let triggers = query_column::<String>(
        &mut app,
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname",
    );
    assert_eq!(triggers.len(), 7);
    // As a restore finds the database: our tables have their rows, and no event trigger fired.
    db.admin
        .batch_execute(
            "CREATE TABLE kept AS TABLE chatbot_sync.source; CREATE TABLE kept_too AS TABLE chatbot_sync.embedding",
        )
        .unwrap();
    app.batch_execute(
        "CREATE TABLE new_chatbots (name text, id int PRIMARY KEY); CREATE TABLE new_documents (error text, processed boolean,
             status varchar, active boolean, gone int, content text, title text, chatbot_id int, id int PRIMARY KEY);
         ALTER TABLE new_documents DROP gone; INSERT INTO new_chatbots SELECT name, id FROM chatbots;
         INSERT INTO new_documents SELECT error, processed, status, active, content, title, chatbot_id, id FROM documents;
         DROP TABLE documents, chatbots; ALTER TABLE new_documents RENAME TO documents; ALTER TABLE new_chatbots RENAME TO chatbots",
    )
    .unwrap();
    db.admin.batch_execute("INSERT INTO chatbot_sync.source SELECT * FROM kept; INSERT INTO chatbot_sync.embedding SELECT * FROM kept_too").unwrap();
    for trigger in &triggers {
        app.batch_execute(trigger).unwrap_or_else(|error| panic!("{trigger}: {error:?}"));
    }
    app.batch_execute("ALTER TABLE documents ADD FOREIGN KEY (chatbot_id) REFERENCES chatbots ON DELETE CASCADE")
        .unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"), 7);
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute("ALTER TABLE documents RENAME content TO body; ALTER TABLE documents RENAME title TO name; ALTER TABLE chatbots RENAME id TO nr").unwrap();
    app.batch_execute("UPDATE documents SET body = 'Edited ' || id, name = 'N'").unwrap();
    app.batch_execute("ALTER TABLE documents RENAME body TO content; ALTER TABLE documents RENAME name TO title")
        .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    app.batch_execute("DELETE FROM chatbots WHERE nr = 1").unwrap();
    assert_eq!(source_keys(&mut app), ["2/2"]);
}
