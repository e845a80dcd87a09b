//! Databases in other encodings than UTF-8 are refused with a clear error, and clients in other encodings are served.

use postgres::Client;

use super::harness::{Db, attached_documents, expect_error, query_value};
use super::server::Server;
use super::upgrade::{TemporaryScript, extension_folder};
use crate::version::OWN;

const REFUSED: [&str; 4] = ["LATIN1", "WIN1252", "EUC_JP", "SQL_ASCII"];

fn create_database(encoding: &str, name: &str) -> Db {
    let mut db = Db::without_extension();
    let name = format!("{name}_{}", encoding.to_lowercase());
    let sql = format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
    db.admin.batch_execute(&sql).unwrap();
    let mut db = db.in_database(&name);
    db.admin.batch_execute("CREATE EXTENSION vector").unwrap();
    db
}

fn assert_refused(client: &mut Client, call: &str, encoding: &str) {
    let refused = expect_error(client, call);
    let message = format!("the encoding of this database is {encoding}, expected UTF8");
    assert_eq!((refused.code.as_str(), refused.message.as_str()), ("0A000", message.as_str()), "{call}: {refused:?}");
    assert!(refused.hint.contains("ENCODING 'UTF8' TEMPLATE template0"), "{call}: {refused:?}");
}

#[test]
fn create_extension_is_refused_where_texts_are_not_utf8() {
    for encoding in REFUSED {
        let mut db = create_database(encoding, "fresh");
        assert_refused(&mut db.admin, "CREATE EXTENSION chatbot_sync", encoding);
        let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'chatbot_sync'";
        assert_eq!(query_value::<i64>(&mut db.admin, left), 0, "{encoding}");
    }
    // With the C locale and in UTF-8 the extension works.
    let mut db = create_database("UTF8", "fresh");
    db.admin
        .batch_execute(
            "CREATE EXTENSION chatbot_sync; SELECT chatbot_embed_source(1, 'document', 1, 'Crème brûlée, 日本')",
        )
        .unwrap();
    assert_eq!(query_value::<i64>(&mut db.admin, "SELECT source_id FROM chatbot_search(1, 'crème')"), 1);
}

#[test]
fn an_existing_database_in_another_encoding_gets_an_error_from_each_call() {
    // The scripts of 0.2.0, under a version number that no other test uses.
    let folder = extension_folder();
    let released = include_str!("../sql/chatbot_sync--0.2.0.sql");
    let update = include_str!("../sql/chatbot_sync--0.2.0--0.3.0.sql");
    let _scripts = [
        TemporaryScript::new(&folder, "0.2.7", released),
        TemporaryScript::new(&folder, &format!("0.2.7--{OWN}"), update),
    ];
    // The trigger of a table that is attached in another database, as a restore would create it.
    let (mut other, _mock, _app) = attached_documents();
    let trigger = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'chatbot_sync_1_insert'";
    let trigger: String = query_value(&mut other.admin, trigger);
    for encoding in REFUSED {
        let mut db = create_database(encoding, "old");
        let admin = &mut db.admin;
        admin.batch_execute("CREATE EXTENSION chatbot_sync VERSION '0.2.7'").unwrap();
        for text in ["An ASCII text.", "Un café."] {
            for call in [
                format!("SELECT chatbot_embed_source(1, 'document', 1, '{text}')"),
                format!("SELECT chatbot_enqueue_source(1, 'document', 1, '{text}')"),
                format!("SELECT chatbot_search(1, '{text}')"),
                format!("SELECT chatbot_embed('{text}')"),
                format!("SELECT chatbot_chunk('{text}')"),
                format!("SELECT chatbot_set_model('{text}', 'model')"),
                format!("SELECT chatbot_session_open(1, jsonb_build_object('name', '{text}'))"),
                format!("SELECT chatbot_session_add_message(gen_random_uuid(), 'user', '{text}')"),
                format!("SELECT chatbot_attach('pg_class', '{text}')"),
            ] {
                assert_refused(admin, &call, encoding);
            }
        }
        for call in [
            "CALL chatbot_process_queue()",
            "CALL chatbot_sync_all()",
            "SELECT chatbot_verify()",
            "SELECT chatbot_estimate()",
        ] {
            assert_refused(admin, call, encoding);
        }
        assert_refused(admin, "ALTER EXTENSION chatbot_sync UPDATE", encoding);
        let stored = "SELECT (SELECT count(*) FROM chatbot_sync.source) + (SELECT count(*) FROM chatbot_sync.job)
            + (SELECT count(*) FROM chatbot_sync.session)";
        assert_eq!(query_value::<i64>(admin, stored), 0, "{encoding}");
        let said: String = query_value(admin, "SELECT status || ': ' || detail || ': ' || hint FROM chatbot_doctor()");
        assert!(
            said.starts_with(&format!("error: the encoding of this database is {encoding}, expected UTF8: ")),
            "{said}"
        );
        // The application's row is stored, and its source has the reason why it is not embedded.
        admin
            .batch_execute(
                "CREATE TABLE documents (id serial PRIMARY KEY, chatbot_id int, title text, content text,
                    active boolean DEFAULT true, status varchar, processed boolean, error text, write_date timestamp, write_uid int)",
            )
            .unwrap();
        admin.batch_execute(&trigger).unwrap();
        admin
            .batch_execute("INSERT INTO documents (chatbot_id, content) VALUES (1, 'Un café.'), (1, 'A text.')")
            .unwrap();
        let sources = "SELECT string_agg(DISTINCT format('%s %s', status, error_code), ', ') FROM chatbot_sync.source";
        assert_eq!(query_value::<String>(admin, sources), "error 0A000", "{encoding}");
        assert_eq!(query_value::<i64>(admin, "SELECT count(*) FROM chatbot_sync.embedding"), 0, "{encoding}");
        admin.batch_execute("DROP EXTENSION chatbot_sync CASCADE").unwrap();
    }
}

/// Returns a text as bytes in LATIN1.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

#[test]
fn a_client_in_another_encoding_reads_and_writes_its_characters() {
    let server = Server::start(&[]);
    let (script, out) = (server.file("latin1.sql"), server.file("latin1.out"));
    let statements = format!(
        "SET client_encoding = 'LATIN1';
        SELECT chatbot_embed_source(1, 'document', 1, 'Crème brûlée for dessert.', '{{\"chef\": \"José\"}}');
        \\o {out}
        \\t
        SELECT content, metadata ->> 'chef' FROM chatbot_search(1, 'crème', mode => 'text');
        SELECT chatbot_embed_source(1, 'dócument', 1, 'x');
        SELECT chatbot_embed_source(1, repeat('é', 100), 1, 'x');"
    );
    std::fs::write(&script, latin1(&statements)).unwrap();
    let (said, _) = server.run_client_program("psql", "postgres", &["-X", "-d", "postgres", "-f", &script]);
    let answer = std::fs::read(&out).unwrap();
    let has = |text: &str| answer.windows(text.chars().count()).any(|window| window == latin1(text));
    assert!(has("Crème brûlée for dessert.") && has("José"), "{answer:?}");
    // psql reports its errors in LATIN1, so its accented characters are not valid UTF-8 here.
    assert!(said.contains("source_type is \"d\u{fffd}cument\", expected one of document, link"), "{said}");
    assert!(said.contains("\u{fffd}...\", expected one of"), "{said}");
    assert!(!said.contains("has no equivalent"), "{said}");
}
