//! Rows that cannot be read, stored or given their status: the error is that of the one row, and other rows are synced.

use postgres::Client;

use super::harness::{Db, application_with_mock, expect_error, query_column, query_value};
use super::mock::Mock;

/// Values that cannot be read as metadata, each with the SQLSTATE that reading it raises.
const UNREADABLE: [(&str, &str); 5] = [
    (r#"'{"t":"\ud83d"}'::json"#, "22P02"),
    (r#"'{"t":"\u0000"}'::json"#, "22P05"),
    ("'bad'::mood", "T0001"),
    ("'zero'::mood", "22012"),
    ("'deep'::mood", "54001"),
];

/// Creates and attaches a table whose metadata column has the given type. The type `mood` has a cast to json that
/// raises an error for some values.
fn attach_table_with_metadata(mode: &str, of_type: &str, on_error: &str) -> (Db, Mock, Client) {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(&format!(
        "CREATE TYPE mood AS ENUM ('good', 'bad', 'zero', 'deep');
         CREATE FUNCTION deep(int) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RETURN public.deep($1 + 1); END $$;
         CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN
             IF $1 = 'bad' THEN RAISE 'a bad mood' USING ERRCODE = 'T0001', DETAIL = 'It is bad.'; END IF;
             IF $1 = 'zero' THEN PERFORM 1 / 0; END IF;
             IF $1 = 'deep' THEN PERFORM public.deep(0); END IF;
             RETURN '\"good\"';
         END $$;
         CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
         CREATE TABLE docs (id int PRIMARY KEY, bot int, content text, meta {of_type}, status text, processed boolean, error text);
         SELECT chatbot_attach('docs', 'document', chatbot_column => 'bot', metadata_columns => '{{meta}}',
             status_column => 'status', processed_column => 'processed', error_column => 'error',
             mode => '{mode}', on_error => '{on_error}')"
    ))
    .unwrap();
    (db, mock, app)
}

fn type_of(value: &str) -> &str {
    value.rsplit("::").next().unwrap()
}

fn readable_value(of_type: &str) -> &'static str {
    if of_type == "mood" { "'good'" } else { "'{}'" }
}

const STATUSES: &str =
    "SELECT concat_ws(' ', d.id, d.status, d.processed, s.status, s.error_code, d.error IS NOT DISTINCT FROM s.error)
    FROM docs d LEFT JOIN chatbot_sync.source s ON (s.chatbot_id, s.source_id) = (d.bot, d.id) ORDER BY d.id";

#[test]
fn an_unreadable_row_is_in_error_and_the_others_are_synced() {
    for mode in ["sync", "async"] {
        for (value, code) in UNREADABLE {
            let of_type = type_of(value);
            let (mut db, _mock, mut app) = attach_table_with_metadata(mode, of_type, "mark");
            let good = readable_value(of_type);
            app.batch_execute(&format!(
                "INSERT INTO docs (id, bot, content, meta) VALUES (1, 1, 'One.', {good}), (2, 1, 'Two.', {value}), (3, 1, 'Three.', {good})"
            ))
            .unwrap_or_else(|error| panic!("{mode} {value}: {error:?}"));
            app.batch_execute("CALL chatbot_process_queue()").unwrap();
            let expected = [
                "1 synced t synced t".to_owned(),
                format!("2 error f error {code} t"),
                "3 synced t synced t".to_owned(),
            ];
            assert_eq!(query_column::<String>(&mut app, STATUSES), expected, "{mode} {value}");
            let reason: String = query_value(&mut app, "SELECT error FROM docs WHERE id = 2");
            assert!(reason.starts_with("the row cannot be read: "), "{reason}");
            // Functions that read all rows process all others.
            let mut boss = db.session("boss");
            let estimate = "SELECT concat_ws(' ', sources, chunks, chunks_to_embed) FROM chatbot_estimate()";
            assert_eq!(query_value::<String>(&mut app, estimate), "3 2 0");
            let problems = "SELECT concat_ws(' ', problem, source_id) FROM chatbot_verify()";
            assert_eq!(query_column::<String>(&mut boss, problems), ["unreadable 2"]);
            assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 0);
            app.batch_execute(
                "ALTER TABLE docs DISABLE TRIGGER USER; INSERT INTO docs (id, bot, content) VALUES (4, 1, 'Four.');
                ALTER TABLE docs ENABLE TRIGGER USER; CALL chatbot_sync_all()",
            )
            .unwrap();
            let synced = "SELECT source_id::int FROM chatbot_sync.embedding ORDER BY 1";
            assert_eq!(query_column::<i32>(&mut app, synced), [1, 3, 4], "{mode} {value}");
            assert_eq!(query_column::<String>(&mut app, STATUSES)[1], expected[1], "{mode} {value}");
            db.admin.batch_execute("CALL chatbot_reembed()").unwrap();
            // The row is corrected.
            app.batch_execute(&format!("UPDATE docs SET meta = {good} WHERE id = 2; CALL chatbot_process_queue()"))
                .unwrap();
            assert_eq!(query_column::<String>(&mut app, STATUSES)[1], "2 synced t synced t", "{mode} {value}");
            // A row that becomes unreadable keeps its vectors.
            app.batch_execute(&format!(
                "UPDATE docs SET meta = {value}, content = content || id; CALL chatbot_process_queue()"
            ))
            .unwrap();
            assert_eq!(query_column::<i32>(&mut app, synced), [1, 2, 3, 4], "{mode} {value}");
            assert_eq!(
                query_value::<i64>(&mut app, "SELECT count(*) FROM docs WHERE status = 'error'"),
                4,
                "{mode} {value}"
            );
        }
    }
}

#[test]
fn on_error_raise_fails_with_the_error_itself() {
    for (value, code) in UNREADABLE.into_iter().filter(|(_, code)| *code != "T0001") {
        let (_db, _mock, mut app) = attach_table_with_metadata("sync", type_of(value), "raise");
        let insert = format!("INSERT INTO docs (id, bot, content, meta) VALUES (1, 1, 'One.', {value})");
        assert_eq!(expect_error(&mut app, &insert).code, code);
        assert_eq!(expect_error(&mut app, "INSERT INTO docs (id, bot, content) VALUES (1, 0, 'One.')").code, "22023");
        assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 0);
    }
}

#[test]
fn interrupts_are_not_errors_of_a_row() {
    let (_db, _mock, mut app) = attach_table_with_metadata("sync", "mood", "mark");
    app.batch_execute(
        "CREATE OR REPLACE FUNCTION mood_json(mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); END $$;
         SET statement_timeout = '100ms'",
    )
    .unwrap();
    let insert = "INSERT INTO docs (id, bot, content, meta) VALUES (1, 1, 'One.', 'good')";
    assert_eq!(expect_error(&mut app, insert).code, "57014");
    app.batch_execute(
        "CREATE OR REPLACE FUNCTION mood_json(mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN
             RAISE 'met' USING ERRCODE = '40001';
         END $$; RESET statement_timeout",
    )
    .unwrap();
    assert_eq!(expect_error(&mut app, insert).code, "40001");
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM docs"), 0);
}

#[test]
fn invalid_ids_are_errors_of_their_rows() {
    for mode in ["sync", "async"] {
        let (db, _mock, mut app) = attach_table_with_metadata(mode, "json", "mark");
        app.batch_execute(
            "INSERT INTO docs (id, bot, content) VALUES (1, 0, 'One.'), (2, -3, 'Two.'), (-4, 1, 'Three.'), (5, 1, 'Four.'), (6, NULL, 'Five.')",
        )
        .unwrap();
        app.batch_execute("CALL chatbot_process_queue()").unwrap();
        let sql = "SELECT concat_ws(' ', id, status, processed, error) FROM docs ORDER BY id";
        let expected = [
            "-4 error f source_id is -4, expected 1 or more",
            "1 error f chatbot_id is 0, expected 1 or more",
            "2 error f chatbot_id is -3, expected 1 or more",
            "5 synced t",
            "6",
        ];
        assert_eq!(query_column::<String>(&mut app, sql), expected, "{mode}");
        assert_eq!(query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.source"), [5]);
        let mut boss = db.session("boss");
        let problems = "SELECT concat_ws(' ', problem, chatbot_id, source_id) FROM chatbot_verify() ORDER BY 1";
        assert_eq!(
            query_column::<String>(&mut boss, problems),
            ["invalid id -3 2", "invalid id 0 1", "invalid id 1 -4"]
        );
        assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 0);
        app.batch_execute("CALL chatbot_sync_all(); SELECT chatbot_estimate()").unwrap();
        // A source that moves to such an id ends, and one that moves away from it begins.
        app.batch_execute(
            "UPDATE docs SET bot = 0 WHERE id = 5; UPDATE docs SET bot = 2 WHERE id = 1; CALL chatbot_process_queue()",
        )
        .unwrap();
        assert_eq!(query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.embedding"), [1]);
        assert_eq!(query_value::<String>(&mut app, "SELECT status FROM docs WHERE id = 5"), "error");
        app.batch_execute("DELETE FROM docs; CALL chatbot_process_queue()").unwrap();
        assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 0);
    }
}

#[test]
fn rows_that_were_there_before_do_not_stop_attaching() {
    let (_db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        r#"CREATE DOMAIN state AS text CHECK (VALUE IN ('synced', 'new'));
         CREATE TABLE docs (id int PRIMARY KEY, bot int, content text, meta json, status state DEFAULT 'new');
         INSERT INTO docs VALUES (1, 0, 'One.', '{}'), (2, 1, 'Two.', '{"t":"\ud83d"}'), (3, 1, 'Three.', '{}');
         SELECT chatbot_attach('docs', 'document', chatbot_column => 'bot', metadata_columns => '{meta}', status_column => 'status')"#,
    )
    .unwrap();
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    let sql = "SELECT concat_ws(' ', source_id, status, error_code) FROM chatbot_sync.source ORDER BY source_id";
    assert_eq!(query_column::<String>(&mut app, sql), ["2 error 22P02", "3 synced"]);
    assert_eq!(query_column::<String>(&mut app, "SELECT status::text FROM docs ORDER BY id"), ["new", "new", "synced"]);
}

#[test]
fn metadata_over_the_limit_is_an_error_of_its_row() {
    for mode in ["sync", "async"] {
        let (_db, _mock, mut app) = attach_table_with_metadata(mode, "text", "mark");
        app.batch_execute("INSERT INTO docs (id, bot, content, meta) VALUES (1, 1, 'One.', repeat('x', 70000)), (2, 1, 'Two.', 'x'); CALL chatbot_process_queue()").unwrap();
        assert_eq!(query_column::<String>(&mut app, STATUSES), ["1 error f error 54000 t", "2 synced t synced t"]);
    }
}

/// Statements after which row 2 refuses the status 'synced', each with the SQLSTATE of the refusal.
const REFUSALS: [(&str, &str); 8] = [
    ("ALTER TABLE docs ADD CHECK (id <> 2 OR status IN ('new', 'pending'))", "23514"),
    ("ALTER TABLE docs ADD CHECK (id <> 2 OR NOT processed)", "23514"),
    ("CREATE UNIQUE INDEX ON docs ((CASE WHEN id < 3 THEN status END)) WHERE id < 3", "23505"),
    ("CREATE TABLE states (name text PRIMARY KEY); INSERT INTO states VALUES ('new'), ('pending'), ('error');
      ALTER TABLE docs ADD FOREIGN KEY (status) REFERENCES states", "23503"),
    ("ALTER TABLE docs ADD shown int GENERATED ALWAYS AS (CASE WHEN status = 'synced' THEN 1 / (id - 2) END) STORED", "22012"),
    ("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF NEW.id = 2 AND NEW.status = 'synced' THEN RAISE 'not so' USING ERRCODE = 'T0002'; END IF; RETURN NEW;
      END $$; CREATE TRIGGER zzz BEFORE INSERT OR UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION refuse()", "T0002"),
    ("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF to_jsonb(NEW) ->> 'status' = 'synced' AND NEW.id = 2 THEN RAISE 'not so' USING ERRCODE = 'T0002'; END IF; RETURN NULL;
      END $$; CREATE TRIGGER after AFTER INSERT OR UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION refuse()", "T0002"),
    ("CREATE DOMAIN state AS text CHECK (VALUE <> 'synced'); ALTER TABLE docs ALTER status TYPE state", "23514"),
];

#[test]
fn a_status_that_is_refused_leaves_the_row_as_it_was_written() {
    for mode in ["sync", "async"] {
        for (refusal, code) in REFUSALS {
            let (db, _mock, mut app) = attach_table_with_metadata(mode, "text", "mark");
            app.batch_execute(refusal).unwrap();
            let (mut app, told) = db.session_with_notices("app");
            app.batch_execute("INSERT INTO docs (id, bot, content, status, processed) VALUES (1, 1, 'One.', 'new', false), (2, 1, 'Two.', 'pending', false); CALL chatbot_process_queue()")
                .unwrap_or_else(|error| panic!("{mode} {refusal}: {error:?}"));
            assert_eq!(
                query_value::<String>(&mut app, "SELECT status::text FROM docs WHERE id = 2"),
                "pending",
                "{mode} {refusal}"
            );
            assert_eq!(
                query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.embedding ORDER BY 1"),
                [1, 2]
            );
            let why = "SELECT concat_ws(' ', status, error_code) FROM chatbot_sync.source WHERE source_id = 2";
            assert_eq!(query_value::<String>(&mut app, why), format!("synced {code}"), "{mode} {refusal}");
            let told = told.lock().unwrap().clone();
            let warning = |line: &String| {
                line.starts_with(
                    "WARNING: document 2 of chatbot 1: its row of public.docs does not take the status synced",
                )
            };
            assert!(told.iter().any(warning), "{mode} {refusal}: {told:?}");
        }
    }
}

#[test]
fn a_status_is_taken_once_nothing_refuses_it_any_more() {
    let (_db, _mock, mut app) = attach_table_with_metadata("sync", "text", "mark");
    app.batch_execute("ALTER TABLE docs ADD CONSTRAINT never CHECK (status <> 'synced'); INSERT INTO docs (id, bot, content) VALUES (1, 1, 'One.')").unwrap();
    assert_eq!(query_column::<String>(&mut app, STATUSES), [" synced 23514 f".replacen(' ', "1 ", 1)]);
    app.batch_execute("ALTER TABLE docs DROP CONSTRAINT never; UPDATE docs SET content = content, status = 'pending'")
        .unwrap();
    assert_eq!(query_column::<String>(&mut app, STATUSES), ["1 synced t synced t"]);
}

#[test]
fn a_constraint_on_our_tables_fails_only_its_source() {
    for mode in ["sync", "async"] {
        let (mut db, mock, mut app) = attach_table_with_metadata(mode, "text", "mark");
        db.admin.batch_execute("ALTER TABLE chatbot_sync.embedding ADD CHECK (content <> 'No.')").unwrap();
        app.batch_execute("SET chatbot_sync.max_attempts = 1; INSERT INTO docs (id, bot, content) VALUES (1, 1, 'Yes.'), (2, 1, 'No.'), (3, 1, 'Well.'); CALL chatbot_process_queue()").unwrap();
        let expected = ["1 synced t synced t", "2 error f error 23514 t", "3 synced t synced t"];
        assert_eq!(query_column::<String>(&mut app, STATUSES), expected, "{mode}");
        db.admin.batch_execute("ALTER TABLE chatbot_sync.embedding DROP CONSTRAINT embedding_content_check").unwrap();
        app.batch_execute("CALL chatbot_sync_all()").unwrap();
        assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM docs WHERE status = 'synced'"), 3, "{mode}");
        drop(mock);
    }
}

#[test]
fn a_disabled_source_that_becomes_unreadable_stays_hidden() {
    let (_db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        r#"CREATE TABLE docs (id int PRIMARY KEY, chatbot_id int, content text, meta json, active boolean);
         SELECT chatbot_attach('docs', 'document', metadata_columns => '{meta}', enabled_column => 'active');
         INSERT INTO docs VALUES (1, 1, 'One.', '{}', true);
         UPDATE docs SET active = false, meta = '{"t":"\ud83d"}'"#,
    )
    .unwrap();
    let found = "SELECT count(*) FROM chatbot_sync.embedding WHERE enabled";
    assert_eq!(query_value::<i64>(&mut app, found), 0);
    app.batch_execute("SELECT chatbot_retry(); CALL chatbot_process_queue(); CALL chatbot_sync_all()").unwrap();
    assert_eq!(query_value::<i64>(&mut app, found), 0);
}
