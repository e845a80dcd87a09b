//! chatbot_attach(): any table with suitable columns can be attached, by any name; anything else is refused and
//! leaves nothing behind.

use postgres::Client;

use super::harness::{
    application_with_mock, attached_documents, expect_error, find_differences, query_column, query_value,
};

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, maybe int, chatbot_id int, content text, title text, active boolean,
    status text, short varchar(6), done boolean, error text, needed text NOT NULL DEFAULT '',
    made text GENERATED ALWAYS AS (title) STORED, at timestamp)";

/// Fails unless nothing is attached, not even partly.
fn assert_nothing_attached(client: &mut Client) {
    let left =
        "SELECT (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal) + (SELECT count(*) FROM chatbot_sync.source)
        + (SELECT count(*) FROM chatbot_sync.host_table)";
    assert_eq!(query_value::<i64>(client, left), 0);
}

#[test]
fn attach_refuses_what_cannot_be_attached_and_leaves_nothing() {
    let (mut db, _mock, mut app) = application_with_mock();
    app.batch_execute(TABLE).unwrap();
    app.batch_execute(
        "INSERT INTO t (id, chatbot_id, content) VALUES (1, 1, 'A text.');
         CREATE VIEW v AS SELECT * FROM t; CREATE MATERIALIZED VIEW m AS SELECT * FROM t; CREATE SEQUENCE s; CREATE INDEX i ON t (title);
         CREATE TEMP TABLE tmp (id int PRIMARY KEY, chatbot_id int, content text); CREATE TYPE c AS (id int);
         CREATE TABLE low (id int PRIMARY KEY, chatbot_id int, content text); INSERT INTO low VALUES (0, 1, 'x')",
    )
    .unwrap();
    db.admin
        .batch_execute(
            "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER x FOREIGN DATA WRAPPER w;
             CREATE FOREIGN TABLE f (id int NOT NULL, chatbot_id int, content text) SERVER x; ALTER FOREIGN TABLE f OWNER TO app;
             CREATE TABLE others (id int PRIMARY KEY, chatbot_id int, content text)",
        )
        .unwrap();
    let column = |name: &str, role: &str, got: &str, expected: &str| {
        format!("column \"{name}\" of public.t, which {role} names, is {got}, expected {expected}")
    };
    let wrong = |name: &str, role: &str, got: &str, expected: &str| ("42804", column(name, role, got, expected));
    let word = |name: &str, got: &str, known: &str| ("22023", format!("{name} is \"{got}\", expected one of {known}"));
    let kind = |name: &str, got: &str| ("42809", format!("{name} is {got}, expected a table"));
    let null = |name: &str| ("22004", format!("{name} is NULL"));
    let missing = |name: &str, role: &str| ("42703", format!("public.t has no column \"{name}\", which {role} names"));
    let integers = "smallint or integer or bigint";
    let texts = "text or character varying";
    for (call, (code, message)) in [
        ("NULL, 'document'", null("relation")),
        ("'t', NULL", null("source_type")),
        ("'t', 'document', id_column => NULL", null("id_column")),
        ("'t', 'document', chatbot_column => NULL", null("chatbot_column")),
        ("'t', 'document', content_column => NULL", null("content_column")),
        ("'t', 'document', metadata_columns => NULL", null("metadata_columns")),
        ("'t', 'document', metadata_columns => '{title,NULL}'", null("metadata_columns")),
        ("'t', 'document', mode => NULL", null("mode")),
        ("'t', 'document', on_error => NULL", null("on_error")),
        ("'t', 'document', content_format => NULL", null("content_format")),
        ("'t', 'page'", word("source_type", "page", "document, link")),
        ("'t', 'document', on_error => 'ignore'", word("on_error", "ignore", "mark, raise")),
        ("'t', 'document', content_format => 'pdf'", word("content_format", "pdf", "text, html")),
        ("'v', 'document'", kind("public.v", "a view")),
        ("'m', 'document'", kind("public.m", "a materialized view")),
        ("'f', 'document'", kind("public.f", "a foreign table")),
        ("'s', 'document'", kind("public.s", "a sequence")),
        ("'i', 'document'", kind("public.i", "an index")),
        ("'c', 'document'", kind("public.c", "a type")),
        ("'tmp', 'document'", kind("pg_temp.tmp", "a temporary table")),
        ("99999999::oid, 'document'", ("22023", "relation is 99999999, expected a table".to_owned())),
        ("'others', 'document'", ("42501", "must be owner of table public.others".to_owned())),
        ("'t', 'document', 'no'", missing("no", "id_column")),
        ("'t', 'document', 'ctid'", missing("ctid", "id_column")),
        ("'t', 'document', enabled_column => 'Active'", missing("Active", "enabled_column")),
        ("'t', 'document', 'title'", wrong("title", "id_column", "text", integers)),
        ("'t', 'document', 'maybe'", wrong("maybe", "id_column", "nullable", "NOT NULL")),
        ("'t', 'document', chatbot_column => 'title'", wrong("title", "chatbot_column", "text", integers)),
        (
            "'t', 'document', content_column => 'at'",
            wrong("at", "content_column", "timestamp without time zone", "text or character varying or jsonb"),
        ),
        ("'t', 'document', enabled_column => 'title'", wrong("title", "enabled_column", "text", "boolean")),
        ("'t', 'document', status_column => 'done'", wrong("done", "status_column", "boolean", texts)),
        (
            "'t', 'document', status_column => 'short'",
            wrong("short", "status_column", "character varying(6)", "character varying(7) or longer"),
        ),
        (
            "'t', 'document', status_column => 'made'",
            wrong("made", "status_column", "generated", "one that can be written"),
        ),
        ("'t', 'document', processed_column => 'status'", wrong("status", "processed_column", "text", "boolean")),
        ("'t', 'document', error_column => 'at'", wrong("at", "error_column", "timestamp without time zone", texts)),
        ("'t', 'document', error_column => 'needed'", wrong("needed", "error_column", "NOT NULL", "nullable")),
        (
            "'t', 'document', metadata_columns => '{title,title}'",
            ("22023", "metadata_columns is \"title\", expected a column that is named once".to_owned()),
        ),
        (
            "'t', 'document', status_column => 'title', error_column => 'title'",
            ("22023", "error_column is \"title\", expected a column that is named once".to_owned()),
        ),
        (
            "'t', 'document', status_column => 'content'",
            ("22023", "status_column is \"content\", expected a column that is named once".to_owned()),
        ),
    ] {
        let failed = expect_error(&mut app, &format!("SELECT chatbot_attach({call})"));
        assert_eq!((failed.code.as_str(), failed.message.as_str()), (code, message.as_str()), "{call}");
        assert!(!failed.hint.is_empty(), "{call}");
        assert_nothing_attached(&mut app);
    }
    assert_eq!(expect_error(&mut app, "SELECT chatbot_attach('nowhere', 'document')").code, "42P01");
    for (call, code) in
        [("NULL", "22004"), ("'v'", "42809"), ("'others'", "42501"), ("'t', 'no'", "42703"), ("'t', 'title'", "42804")]
    {
        assert_eq!(expect_error(&mut app, &format!("SELECT chatbot_attach_chatbots({call})")).code, code, "{call}");
    }
    for (call, code) in
        [("NULL", "22004"), ("'t', NULL", "22004"), ("'t'", "42704"), ("'v'", "42809"), ("'others'", "42501")]
    {
        assert_eq!(expect_error(&mut app, &format!("SELECT chatbot_detach({call})")).code, code, "{call}");
    }
    assert_nothing_attached(&mut app);
    let mut reader = db.session("reader");
    assert_eq!(expect_error(&mut reader, "SELECT chatbot_attach('t', 'document')").code, "42501");
    assert_eq!(expect_error(&mut db.session("stranger"), "SELECT chatbot_attach('t', 'document')").code, "42501");
    // The failed calls left nothing in the session that would disturb this one.
    app.batch_execute(
        "SELECT chatbot_attach('t', 'document', metadata_columns => '{title}'); ALTER TABLE t RENAME title TO name",
    )
    .unwrap();
    assert_eq!(query_value::<Vec<String>>(&mut app, "SELECT metadata_columns FROM chatbot_sync.host_table"), ["name"]);
}

#[test]
fn attaching_twice_is_refused() {
    let (_db, _mock, mut app) = attached_documents();
    assert_eq!(expect_error(&mut app, "SELECT chatbot_attach('documents', 'link')").code, "42710");
    assert_eq!(expect_error(&mut app, "SELECT chatbot_attach_chatbots('chatbots')").code, "42710");
    app.batch_execute(
        "CREATE TABLE parts (id int NOT NULL, chatbot_id int, content text, PRIMARY KEY (id, chatbot_id)) PARTITION BY LIST (chatbot_id);
         CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1); CREATE TABLE part_2 PARTITION OF parts FOR VALUES IN (2)",
    )
    .unwrap();
    app.batch_execute("SELECT chatbot_attach('parts', 'link')").unwrap();
    assert_eq!(expect_error(&mut app, "SELECT chatbot_attach('part_1', 'link')").code, "42710");
    app.batch_execute("SELECT chatbot_detach('parts'); SELECT chatbot_attach('part_1', 'link')").unwrap();
    assert_eq!(
        expect_error(&mut app, "SELECT chatbot_attach('parts', 'link')").message,
        "public.part_1 is attached already"
    );
}

#[test]
fn any_name_and_search_path_can_be_attached() {
    let (mut db, mock, mut app) = application_with_mock();
    db.admin.batch_execute("CREATE SCHEMA \"We ird\" AUTHORIZATION app; CREATE SCHEMA evil AUTHORIZATION app").unwrap();
    app.batch_execute(
        r#"CREATE TABLE "We ird"."Dok'u""mente \n" ("I d" smallint PRIMARY KEY, "chat ""bot""'s" bigint, "Inhält\" varchar(500),
             "ti'tle" text, "an/aus" boolean, "Stand" varchar(10), "é" text, "fertig?" boolean);
         CREATE TABLE "We ird"."Chat bots" ("N r" bigint PRIMARY KEY);
         -- What is not what it says, first in the path.
         CREATE FUNCTION evil.wrong() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
         CREATE FUNCTION evil.eq(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT evil.wrong()';
         CREATE FUNCTION evil.eq(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT evil.wrong()';
         CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.wrong()';
         CREATE FUNCTION evil.eq(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT evil.wrong()';
         CREATE FUNCTION evil.get(jsonb, text) RETURNS text LANGUAGE sql AS 'SELECT evil.wrong()::text';
         CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.eq);
         CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.eq);
         CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.eq);
         CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
         CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
         CREATE OPERATOR evil.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = evil.get);
         CREATE FUNCTION evil.format_type(oid, int) RETURNS text LANGUAGE sql AS 'SELECT evil.wrong()::text';
         CREATE FUNCTION evil.unnest(bigint[]) RETURNS SETOF bigint LANGUAGE sql AS 'SELECT evil.wrong()::int';
         CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT evil.wrong()::text::timestamptz';
         CREATE AGGREGATE evil.count(*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '1000');
         CREATE TABLE evil.jsonb (a int); CREATE TABLE evil.int8 (a int); CREATE TABLE evil.pg_trigger (a int); CREATE TABLE evil.source (a int);
         SET search_path = evil, "We ird", public, pg_catalog"#,
    )
    .unwrap();
    app.batch_execute(
        r#"SELECT chatbot_attach('"Dok''u""mente \n"', 'link', 'I d', 'chat "bot"''s', 'Inhält\',
               ARRAY['ti''tle', 'I d']::name[], 'an/aus', 'Stand', 'fertig?', 'é');
           SELECT chatbot_attach_chatbots('"Chat bots"', 'N r');"#,
    )
    .unwrap();
    mock.state().poison = Some("poison");
    app.batch_execute(
        r#"INSERT INTO "Chat bots" VALUES (5), (6);
           INSERT INTO "Dok'u""mente \n" VALUES (1, 5, 'Ein Text.', 'T', true), (2, 6, 'Noch einer.', 'U', true), (3, 6, 'poison', 'V', true);
           UPDATE "Dok'u""mente \n" SET "I d" = "I d" OPERATOR(pg_catalog.+) 10::smallint;
           UPDATE "Dok'u""mente \n" SET "ti'tle" = 'W', "Inhält\" = 'Neu.' WHERE "I d" OPERATOR(pg_catalog.<) 12::smallint;
           CALL chatbot_sync_all();
           DELETE FROM "Chat bots" WHERE "N r" OPERATOR(pg_catalog.=) 6::bigint;
           SET search_path = public"#,
    )
    .unwrap();
    let rows = query_column::<String>(
        &mut app,
        "SELECT concat_ws(' ', chatbot_id, source_id, content, metadata) FROM chatbot_sync.embedding",
    );
    assert_eq!(rows, [r#"5 11 Neu. {"I d": 11, "ti'tle": "W"}"#]);
    let told = r#"SELECT concat_ws(' ', "I d", "Stand", "fertig?", left("é", 8)) FROM "We ird"."Dok'u""mente \n" ORDER BY "I d""#;
    assert_eq!(query_column::<String>(&mut app, told), ["11 synced t", "12 synced t", "13 error f provider"]);
    app.batch_execute(
        r#"ALTER TABLE "We ird"."Dok'u""mente \n" RENAME "Inhält\" TO "con'tent"; ALTER TABLE "We ird"."Dok'u""mente \n" RENAME TO "x'y";
           UPDATE "We ird"."x'y" SET "con'tent" = 'Neuer.' WHERE "I d" = 11"#,
    )
    .unwrap();
    let view = r#"SELECT relation::text || content_column FROM chatbot_sync.host_table"#;
    assert_eq!(query_column::<String>(&mut app, view), [r#""We ird"."x'y"con'tent"#]);
    assert_eq!(query_column::<String>(&mut app, "SELECT content FROM chatbot_sync.embedding"), ["Neuer."]);
    app.batch_execute(r#"SET search_path = evil, pg_catalog; SELECT public.chatbot_detach('"We ird"."x''y"', true)"#)
        .unwrap();
}

#[test]
fn every_type_of_id_and_content_is_read() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute("CREATE DOMAIN words AS varchar(99); CREATE DOMAIN nr AS bigint NOT NULL").unwrap();
    for (id, chatbot, content) in [
        ("smallint", "int", "text"),
        ("int", "smallint", "varchar"),
        ("bigint", "bigint", "words"),
        ("bigint", "nr", "varchar(30)"),
    ] {
        app.batch_execute(&format!(
            "CREATE TABLE t (id {id} PRIMARY KEY, gone int, chatbot_id {chatbot}, content {content}); ALTER TABLE t DROP gone;
             SELECT chatbot_attach('t', 'link'); INSERT INTO t VALUES (32767, 7, 'As {id}.'); UPDATE t SET id = id - 1;
             UPDATE t SET content = content || ' {content}'"
        ))
        .unwrap();
        let stored = "SELECT chatbot_id || '/' || source_id || ' ' || content FROM chatbot_sync.embedding";
        assert_eq!(query_column::<String>(&mut app, stored), [format!("7/32766 As {id}. {content}")]);
        app.batch_execute("SELECT chatbot_detach('t', true); DROP TABLE t").unwrap();
    }
    assert_eq!(mock.asked(), (8, 8));
}

#[test]
fn each_translation_is_embedded_once_under_its_language() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, chatbot_id int, name jsonb, body jsonb, status text);
         SELECT chatbot_attach('t', 'document', content_column => 'body', metadata_columns => '{name}', status_column => 'status',
             content_format => 'html');
         INSERT INTO t VALUES (1, 1, '{\"en_US\": \"N\"}', '{\"en_US\": \"<p>Hello</p>\", \"fr_FR\": \"<p>Bonjour</p>\", \"de_DE\": false}'), (2, 1, NULL, NULL)",
    )
    .unwrap();
    let stored = "SELECT concat_ws(' ', source_id, content, metadata) FROM chatbot_sync.embedding ORDER BY content";
    let both = |english: &str| {
        [
            r#"1 Bonjour {"lang": "fr_FR", "name": {"en_US": "N"}}"#.to_owned(),
            format!(r#"1 {english} {{"lang": "en_US", "name": {{"en_US": "N"}}}}"#),
        ]
    };
    assert_eq!(query_column::<String>(&mut app, stored), both("Hello"));
    app.batch_execute("UPDATE t SET body = body || '{\"en_US\": \"<b>Welcome</b>\"}' WHERE id = 1").unwrap();
    assert_eq!(query_column::<String>(&mut app, stored), both("Welcome"));
    assert_eq!(mock.texts().split_off(2), ["Welcome"]);
    app.batch_execute("UPDATE t SET name = '{}' WHERE id = 1; UPDATE t SET body = body - 'fr_FR' WHERE id = 1")
        .unwrap();
    assert_eq!(query_column::<String>(&mut app, stored), [r#"1 Welcome {"lang": "en_US", "name": {}}"#]);
    // The same text in another language is another chunk.
    app.batch_execute("UPDATE t SET body = '{\"fr_FR\": \"Welcome\"}' WHERE id = 1").unwrap();
    assert_eq!(
        query_column::<String>(&mut app, "SELECT lang || (metadata ->> 'lang') FROM chatbot_sync.embedding"),
        ["fr_FRfr_FR"]
    );
    app.batch_execute("UPDATE t SET body = '{\"en_US\": 3}' WHERE id = 1").unwrap();
    assert_eq!(
        query_value::<String>(&mut app, "SELECT error_code FROM chatbot_sync.source WHERE source_id = 1"),
        "22023"
    );
    assert_eq!(query_column::<String>(&mut app, "SELECT status FROM t ORDER BY id"), ["error", "synced"]);
    app.batch_execute("UPDATE t SET body = 'null'").unwrap();
    assert_eq!(query_column::<String>(&mut app, "SELECT status FROM t"), ["synced", "synced"]);
    assert_eq!(query_column::<String>(&mut app, stored), [""; 0]);
}

#[test]
fn the_text_of_html_is_embedded_without_tags() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, chatbot_id int, content text); SELECT chatbot_attach('t', 'document', content_format => 'html');
         INSERT INTO t VALUES (1, 1, '<h1>Title</h1><p>A &amp; B<script>x()</script></p>')",
    )
    .unwrap();
    assert_eq!(mock.texts(), ["Title\n\nA & B"]);
    let sql = "SELECT start_offset || ' ' || end_offset FROM chatbot_sync.embedding";
    assert_eq!(query_value::<String>(&mut app, sql), "0 12");
    // Other tags with the same text: the vector is kept.
    app.batch_execute("UPDATE t SET content = '<h2>Title</h2> <div>A &#38; B</div>'").unwrap();
    assert_eq!(mock.asked(), (1, 1));
}

#[test]
fn html_of_an_older_reader_is_read_again_and_only_changed_text_is_embedded() {
    let (mut db, mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, chatbot_id int, content text, title text);
         SELECT chatbot_attach('t', 'document', metadata_columns => '{title}', content_format => 'html');
         INSERT INTO t VALUES (1, 1, '<p>Parcels leave at once.</p>'), (2, 1, '<p>Refunds <i style=\"display:none\">draft</i>are paid.</p>')",
    )
    .unwrap();
    assert_eq!(mock.texts(), ["Parcels leave at once.", "Refunds are paid."]);
    // The state that the HTML reader of 0.2.0 left, which embedded hidden text.
    db.admin
        .batch_execute(
            "UPDATE chatbot_sync.source SET chunking[5] = 1;
             UPDATE chatbot_sync.embedding SET content = 'Refunds draft are paid.' WHERE source_id = 2",
        )
        .unwrap();
    app.batch_execute("UPDATE t SET title = 'A title'").unwrap();
    let stored = "SELECT content FROM chatbot_sync.embedding ORDER BY source_id";
    assert_eq!(query_column::<String>(&mut app, stored), ["Parcels leave at once.", "Refunds are paid."]);
    assert_eq!(mock.texts().split_off(2), ["Refunds are paid."]);
    assert_eq!(query_column::<bool>(&mut app, "SELECT DISTINCT chunking[5] > 1 FROM chatbot_sync.source"), [true]);
}

#[test]
fn sources_that_exist_keep_their_vectors_on_attach() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute(super::harness::DOCUMENTS).unwrap();
    app.batch_execute(
        "INSERT INTO documents (chatbot_id, title, content, active) VALUES (1, 'A', 'One.', true), (1, 'B', 'Two.', false), (2, 'C', 'Three.', true);
         SELECT chatbot_embed_source(chatbot_id, 'document', id, content, jsonb_build_object('title', title)) FROM documents",
    )
    .unwrap();
    app.batch_execute(super::harness::ATTACH).unwrap();
    // Sources of inactive rows are not found once the table is attached.
    assert_eq!(
        query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.embedding WHERE enabled ORDER BY 1"),
        [1, 3]
    );
    assert_eq!(query_column::<String>(&mut app, "SELECT DISTINCT status FROM documents"), ["pending"]);
    app.batch_execute("CALL chatbot_sync_all(); UPDATE documents SET active = true").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(mock.asked(), (3, 3));
    // The source exists before its row is inserted.
    app.batch_execute(
        "SELECT chatbot_embed_source(1, 'document', 4, 'Four.'), chatbot_embed_source(1, 'document', 5, 'Five.');
         INSERT INTO documents (id, chatbot_id, content, active) VALUES (4, 1, 'Four.', true), (5, 1, 'Five.', false)",
    )
    .unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
    assert_eq!(mock.texts().split_off(3), ["Four.", "Five.", "Four."]);
    assert_eq!(query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_sync.source WHERE host IS NULL"), [0; 0]);
}

#[test]
fn attaching_warns_only_of_a_dropped_status_column() {
    let (db, _mock, mut app) = application_with_mock();
    app.batch_execute("CREATE TABLE chatbots (id int PRIMARY KEY); CREATE TABLE docs (id int PRIMARY KEY, chatbot_id int, content text, state text)").unwrap();
    app.batch_execute(
        "CREATE TABLE parts (id int NOT NULL, chatbot_id int, content text) PARTITION BY LIST (chatbot_id)",
    )
    .unwrap();
    let (mut app, told) = db.session_with_notices("app");
    app.batch_execute("SELECT chatbot_attach('docs', 'document'); SELECT chatbot_attach('parts', 'link')").unwrap();
    app.batch_execute("CREATE TABLE part PARTITION OF parts DEFAULT; SELECT chatbot_attach_chatbots('chatbots')")
        .unwrap();
    app.batch_execute("SELECT chatbot_detach('docs'), chatbot_detach('parts'), chatbot_detach('chatbots')").unwrap();
    app.batch_execute(
        "SELECT chatbot_attach('docs', 'document', status_column => 'state'); ALTER TABLE docs DROP state",
    )
    .unwrap();
    let dropped = "WARNING: column state of public.docs is gone: it was status_column of chatbot_attach()";
    assert_eq!(*told.lock().unwrap(), [dropped]);
}
