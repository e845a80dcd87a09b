//! Security of host tables: no user's code runs with the rights of another role, and triggers of other roles
//! stop no statement.

use super::harness::{application_with_mock, attached_documents, expect_error, query_column, query_value};

#[test]
fn a_users_cast_never_runs_as_superuser() {
    let (mut db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TYPE mood AS ENUM ('good', 'bad');
         CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN
             RETURN json_build_object('as', current_user, 'session', current_setting('is_superuser'));
         END $$;
         CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
         CREATE TABLE t (id int PRIMARY KEY, chatbot_id int, content text, mood mood);
         INSERT INTO t VALUES (1, 1, 'There before.', 'good')",
    )
    .unwrap();
    app.batch_execute("SELECT chatbot_attach('t', 'document', metadata_columns => '{mood}')").unwrap();
    let sql = "SELECT concat_ws(' ', source_id, metadata #>> '{mood,as}') FROM chatbot_sync.embedding ORDER BY 1";
    db.admin.batch_execute("INSERT INTO t VALUES (2, 1, 'New.', 'bad'); CALL chatbot_sync_all()").unwrap();
    assert_eq!(query_column::<String>(&mut app, sql), ["1 app", "2 app"]);
    db.admin.batch_execute("UPDATE t SET mood = 'bad', content = content || id").unwrap();
    assert_eq!(query_column::<String>(&mut app, sql), ["1 app", "2 app"]);
}

#[test]
fn ddl_on_a_host_table_runs_no_code_as_superuser() {
    let (mut db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE FUNCTION visible() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
             IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RAISE 'runs as %', current_user; END IF; RETURN true;
         END $$;
         CREATE TABLE t (id int, chatbot_id int, content text, status text, PRIMARY KEY (id, chatbot_id)) PARTITION BY LIST (chatbot_id);
         CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t2 (LIKE t INCLUDING ALL);
         INSERT INTO t1 VALUES (1, 1, 'One.'); INSERT INTO t2 VALUES (2, 2, 'Two.');
         SELECT chatbot_attach('t', 'document', status_column => 'status');
         CREATE POLICY p ON t USING (visible()); ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;
         ALTER TABLE t ATTACH PARTITION t2 FOR VALUES IN (2); ALTER TABLE t RENAME content TO body; CALL chatbot_sync_all();
         TRUNCATE t1; ALTER TABLE t DETACH PARTITION t2; DROP TABLE t1",
    )
    .unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 0);
    // Tables that other roles have attached do not stop a statement.
    let mut stranger = db.session("stranger");
    stranger.batch_execute("CREATE TEMP TABLE own (a int); ALTER TABLE own RENAME a TO b; DROP TABLE own").unwrap();
    db.admin.batch_execute("DROP TABLE t").unwrap();
}

#[test]
fn a_trigger_made_by_hand_is_refused() {
    let (_db, _mock, mut app) = attached_documents();
    app.batch_execute("CREATE TABLE t (LIKE documents INCLUDING ALL)").unwrap();
    let argument: String = query_value(
        &mut app,
        "SELECT quote_literal(convert_from(substring(tgargs, 1, length(tgargs) - 1), 'UTF8')) FROM pg_trigger WHERE tgname LIKE 'chatbot_sync_%_insert'",
    );
    for (when, function, argument) in [
        ("AFTER INSERT ON t FOR EACH ROW", "host_changed", argument.as_str()),
        ("AFTER INSERT ON t FOR EACH STATEMENT", "host_changed", &argument),
        ("BEFORE INSERT ON t FOR EACH ROW", "host_changed", &argument),
        ("AFTER INSERT ON t FOR EACH ROW", "host_status", &argument),
        ("BEFORE INSERT ON t FOR EACH STATEMENT", "host_status", &argument),
        ("BEFORE INSERT ON t FOR EACH STATEMENT", "host_truncated", &argument),
        ("AFTER INSERT ON t FOR EACH ROW", "chatbots_deleted", "'[\"id\", 1]'"),
        ("AFTER DELETE ON t FOR EACH ROW", "chatbots_deleted", "'[\"id\", 1]'"),
    ] {
        let made = app.batch_execute(&format!(
            "CREATE TRIGGER t BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
            CREATE OR REPLACE TRIGGER t {when} EXECUTE FUNCTION chatbot_sync.{function}({argument})"
        ));
        if made.is_ok() {
            let fired = "INSERT INTO t (id, chatbot_id, content) VALUES (1, 1, 'x'); DELETE FROM t";
            assert_eq!(expect_error(&mut app, fired).code, "22023", "{when} {function}");
        }
        app.batch_execute("DROP TRIGGER IF EXISTS t ON t").unwrap();
    }
    assert_eq!(
        expect_error(
            &mut app,
            "CREATE TRIGGER t AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION chatbot_sync.host_changed('x')"
        )
        .code,
        "22P02"
    );
}

#[test]
fn other_triggers_do_not_disturb_attaching() {
    let (_db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TABLE o (id int); CREATE TRIGGER o AFTER INSERT ON o FOR EACH ROW EXECUTE FUNCTION other('no JSON');
         CREATE TABLE t (id int PRIMARY KEY, chatbot_id int, content text);
         CREATE TRIGGER o AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION other('no JSON')",
    )
    .unwrap();
    app.batch_execute(
        "SELECT chatbot_attach('t', 'document'); ALTER TABLE t RENAME content TO body; TABLE chatbot_sync.host_table;
         CALL chatbot_sync_all(); ALTER TABLE o RENAME id TO nr; SELECT chatbot_detach('t'); DROP TABLE o, t",
    )
    .unwrap();
}
