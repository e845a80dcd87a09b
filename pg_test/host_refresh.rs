//! Sources that were made with other settings: they are found, reported, and made again with as few
//! embeddings as possible.

use std::sync::Mutex;

use postgres::Client;

use super::harness::{
    ATTACH, DOCUMENTS, application_with_mock, attached_documents, expect_error, find_differences, prose, query_column,
    query_value, set_for_database,
};
use super::mock::{Fault, Mock};

const REFRESH: &str = "CALL chatbot_sync_all(refresh => true)";

/// Returns the number of chunks and the length of the longest one.
fn chunks(client: &mut Client) -> (i64, i32) {
    let sql = "SELECT count(*), max(length(content)) FROM chatbot_sync.embedding";
    let row = client.query_one(sql, &[]).unwrap();
    (row.get(0), row.get(1))
}

fn insert(client: &mut Client, chatbot: i32, text: &str) {
    client.execute("INSERT INTO documents (chatbot_id, content) VALUES ($1, $2)", &[&chatbot, &text]).unwrap();
}

/// Returns the texts that were embedded, without the doctor's test request.
pub(crate) fn embedded_texts(mock: &Mock) -> Vec<String> {
    mock.texts().into_iter().filter(|text| text != "Is anybody there?").collect()
}

/// Returns and clears the messages that a session has received.
fn take_messages(told: &Mutex<Vec<String>>) -> Vec<String> {
    told.lock().unwrap().drain(..).collect()
}

fn check(client: &mut Client, name: &str) -> Vec<String> {
    query_column(
        client,
        &format!("SELECT concat_ws(' | ', status, detail, hint) FROM chatbot_doctor() WHERE check_name = '{name}'"),
    )
}

const OUTDATED: &str = "SELECT concat_ws(' ', problem, source_type, source_id) FROM chatbot_verify() WHERE problem = 'outdated' ORDER BY 1";

#[test]
fn refresh_applies_the_current_chunk_settings() {
    let (mut db, mock, mut app) = attached_documents();
    insert(&mut app, 1, &prose(40));
    insert(&mut app, 1, "Short.");
    insert(&mut app, 2, &prose(40));
    let before = chunks(&mut app);
    set_for_database(&mut db, "chunk_size", "300");
    set_for_database(&mut db, "chunk_overlap", "0");
    let (mut app, told) = db.session_with_notices("app");
    // Other statements neither refresh sources nor report it.
    app.batch_execute("UPDATE documents SET content = content; CALL chatbot_sync_all()").unwrap();
    assert_eq!((chunks(&mut app), take_messages(&told)), (before, vec![]));
    let found = check(&mut app, "outdated sources");
    assert_eq!(
        found,
        [
            "warning | 3 sources were cut, or their words read, by an older version or with other settings than those of this session | CALL chatbot_sync_all(refresh => true);"
        ]
    );
    // Only one chatbot is refreshed.
    app.batch_execute("CALL chatbot_sync_all(1, 100, true)").unwrap();
    assert_eq!(
        take_messages(&told),
        [
            "NOTICE: 2 sources were made with other settings, and are cut and read anew",
            "NOTICE: 2 of 2 sources, 0 failed"
        ]
    );
    let longest = "SELECT max(length(content)) FROM chatbot_sync.embedding WHERE chatbot_id = ";
    assert!(
        query_value::<i32>(&mut app, &format!("{longest} 1")) <= 300
            && query_value::<i32>(&mut app, &format!("{longest} 2")) > 300
    );
    app.batch_execute(REFRESH).unwrap();
    assert!(chunks(&mut app).1 <= 300);
    assert_eq!(check(&mut app, "outdated sources"), [""; 0]);
    assert_eq!(query_column::<String>(&mut app, "SELECT DISTINCT status FROM documents"), ["synced"]);
    // A chunk with the same text keeps its vector, and a second call has nothing to do.
    assert_eq!(mock.texts().iter().filter(|text| *text == "Short.").count(), 1);
    let asked = embedded_texts(&mock);
    take_messages(&told);
    app.batch_execute(REFRESH).unwrap();
    assert_eq!(embedded_texts(&mock), asked);
    assert_eq!(take_messages(&told), ["NOTICE: 0 sources were made with other settings, and are cut and read anew"]);
}

#[test]
fn refresh_keeps_the_vectors_of_unchanged_chunks() {
    let (_db, mock, mut app) = attached_documents();
    insert(&mut app, 1, &prose(100));
    let vectors = "SELECT count(*) FROM chatbot_sync.embedding";
    let (before, asked) = (query_value::<i64>(&mut app, vectors), embedded_texts(&mock).len());
    app.batch_execute("SET chatbot_sync.max_chunks = 3; CALL chatbot_sync_all(refresh => true)").unwrap();
    assert_eq!((query_value::<i64>(&mut app, vectors), embedded_texts(&mock).len()), (3, asked));
    assert_eq!(check(&mut app, "truncated sources").len(), 1);
    app.batch_execute("RESET chatbot_sync.max_chunks; CALL chatbot_sync_all(refresh => true)").unwrap();
    assert_eq!(
        (query_value::<i64>(&mut app, vectors), embedded_texts(&mock).len()),
        (before, asked + before as usize - 3)
    );
    assert_eq!(check(&mut app, "truncated sources"), [""; 0]);
}

#[test]
fn refresh_reads_terms_again_and_embeds_nothing() {
    let (mut db, mock, mut app) = attached_documents();
    app.batch_execute("SET chatbot_sync.text_search_config = 'simple'").unwrap();
    insert(&mut app, 1, "Vouchers expire after a year.");
    app.batch_execute(
        "CREATE TABLE faq (id int PRIMARY KEY, chatbot_id int, body jsonb); SELECT chatbot_attach('faq', 'link', content_column => 'body');
         INSERT INTO faq VALUES (1, 1, '{\"xx\": \"Parcels leave daily.\", \"fr_FR\": \"Les colis partent.\"}');
         SELECT chatbot_embed_source(1, 'document', 900, 'Refunds are paid.')",
    )
    .unwrap();
    let asked = embedded_texts(&mock);
    let text = |app: &mut Client, query: &str| {
        query_column::<i64>(
            app,
            &format!("SELECT source_id FROM chatbot_search(1, '{query}', mode => 'text') ORDER BY 1"),
        )
    };
    set_for_database(&mut db, "text_search_config", "english");
    let mut app = db.session("app");
    for query in ["voucher", "parcel", "refund"] {
        assert_eq!(text(&mut app, query), [0i64; 0], "{query}");
    }
    app.batch_execute(REFRESH).unwrap();
    for (query, id) in [("voucher", 1), ("parcel", 1), ("refund", 900), ("colis", 1)] {
        assert_eq!(text(&mut app, query), [id], "{query}");
    }
    assert_eq!((embedded_texts(&mock), check(&mut app, "outdated sources")), (asked, vec![]));
}

#[test]
fn sources_without_host_table_are_reported_when_their_text_is_needed() {
    let (mut db, mock, mut app) = application_with_mock();
    app.execute("SELECT chatbot_embed_source(1, 'document', 1, $1)", &[&prose(40)]).unwrap();
    app.batch_execute("SELECT chatbot_embed_source(1, 'document', 2, ' ')").unwrap();
    let asked = embedded_texts(&mock);
    set_for_database(&mut db, "chunk_size", "500");
    let (mut app, told) = db.session_with_notices("app");
    app.batch_execute(REFRESH).unwrap();
    let said = "NOTICE: 1 sources that no table has were cut with other settings: their text is not here, chatbot_embed_source() has to be given it again";
    assert_eq!(take_messages(&told)[1..], [said.to_owned()]);
    assert_eq!(embedded_texts(&mock), asked);
    // The statement in the doctor's hint finds this source.
    let hint: String = query_value(&mut app, "SELECT hint FROM chatbot_doctor() WHERE check_name = 'outdated sources'");
    let which = &hint[hint.find("SELECT * FROM").unwrap()..];
    assert_eq!(query_value::<i64>(&mut app, &which.replace("SELECT *", "SELECT count(*)")), 1);
    assert_eq!(query_column::<String>(&mut db.session("boss"), OUTDATED), [""; 0]);
    app.execute("SELECT chatbot_embed_source(1, 'document', 1, $1)", &[&prose(40)]).unwrap();
    assert_eq!(check(&mut app, "outdated sources"), [""; 0]);
}

#[test]
fn refresh_goes_on_where_it_was_stopped() {
    let (mut db, mock, mut app) = attached_documents();
    for i in 0..6 {
        insert(&mut app, 1, &format!("Document {i}. {}", prose(12)));
    }
    set_for_database(&mut db, "chunk_size", "200");
    set_for_database(&mut db, "chunk_overlap", "0");
    let (mut app, _) = db.session_with_notices("app");
    app.batch_execute("SET chatbot_sync.sync_timeout = '1h'").unwrap();
    let pid: i32 = query_value(&mut app, "SELECT pg_backend_pid()");
    mock.state().faults.extend([Fault::Gzip, Fault::Hang]);
    let call =
        std::thread::spawn(move || expect_error(&mut app, "CALL chatbot_sync_all(batch => 1, refresh => true)").code);
    mock.wait(|state| state.faults.is_empty() && state.in_flight == 1);
    let mut watcher = db.session("app");
    // Other sessions see the progress.
    let progress = "SELECT concat_ws(' ', synced, pending) FROM chatbot_sync.progress";
    assert_eq!(query_value::<String>(&mut watcher, progress), "1 5");
    db.admin.batch_execute(&format!("SELECT pg_cancel_backend({pid})")).unwrap();
    assert_eq!(call.join().unwrap(), "57014");
    watcher.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(check(&mut watcher, "outdated sources"), [""; 0]);
    assert!(chunks(&mut watcher).1 <= 200);
}

#[test]
fn two_calls_of_refresh_share_the_work() {
    let (mut db, mock, mut app) = attached_documents();
    for i in 0..30 {
        insert(&mut app, 1, &format!("Document {i}. {}", prose(12).replace("Sentence", &format!("Line of {i}:"))));
    }
    set_for_database(&mut db, "chunk_size", "900");
    set_for_database(&mut db, "chunk_overlap", "0");
    let asked = mock.texts().len();
    let (mut first, mut second) = (db.session("app"), db.session("app"));
    let call = "CALL chatbot_sync_all(batch => 3, refresh => true)";
    let other = std::thread::spawn(move || second.batch_execute(call).unwrap());
    first.batch_execute(call).unwrap();
    other.join().unwrap();
    let mut texts = mock.texts().split_off(asked);
    let all = texts.len();
    texts.sort();
    texts.dedup();
    // Each call skips the sources that the other has locked; the last call does what is left.
    first.batch_execute(REFRESH).unwrap();
    assert_eq!((texts.len(), check(&mut first, "outdated sources")), (all, vec![]));
}

#[test]
fn setting_status_pending_chunks_a_row_again() {
    for mode in ["sync", "async"] {
        let (mut db, mock, _) = application_with_mock();
        let mut app = db.session("app");
        app.batch_execute(DOCUMENTS).unwrap();
        app.batch_execute(
            &ATTACH.replace("error_column => 'error'", &format!("error_column => 'error', mode => '{mode}'")),
        )
        .unwrap();
        insert(&mut app, 1, &prose(40));
        insert(&mut app, 1, "Short.");
        app.batch_execute("CALL chatbot_process_queue()").unwrap();
        set_for_database(&mut db, "chunk_size", "300");
        let mut app = db.session("app");
        app.batch_execute("UPDATE documents SET status = 'pending' WHERE id = 1; CALL chatbot_process_queue()")
            .unwrap();
        assert!(chunks(&mut app).1 <= 300, "{mode}");
        let asked = embedded_texts(&mock);
        app.batch_execute("UPDATE documents SET status = 'pending'; CALL chatbot_process_queue()").unwrap();
        assert_eq!(embedded_texts(&mock), asked, "{mode}");
        assert_eq!(
            query_column::<String>(&mut app, "SELECT DISTINCT status || processed FROM documents"),
            ["syncedtrue"],
            "{mode}"
        );
    }
}

#[test]
fn verify_finds_outdated_sources_and_repair_updates_them() {
    let (mut db, _mock, mut app) = attached_documents();
    insert(&mut app, 1, &prose(40));
    app.batch_execute("SELECT chatbot_embed_source(1, 'link', 5, 'Refunds are paid.')").unwrap();
    set_for_database(&mut db, "chunk_size", "300");
    set_for_database(&mut db, "text_search_config", "english");
    let (mut boss, told) = db.session_with_notices("boss");
    // A source without a host table that was cut otherwise can only be embedded by the application, so verify does not
    // report it.
    assert_eq!(query_column::<String>(&mut boss, OUTDATED), ["outdated document 1"]);
    boss.batch_execute("SET chatbot_sync.chunk_size = 1000").unwrap();
    assert_eq!(query_column::<String>(&mut boss, OUTDATED), ["outdated document 1", "outdated link 5"]);
    assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 2);
    assert!(take_messages(&told).contains(&"NOTICE: link 5 of chatbot 1: outdated: its words read anew".to_owned()));
    let mut app = db.session("app");
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert!(chunks(&mut app).1 <= 300);
    assert_eq!(query_column::<String>(&mut db.session("boss"), OUTDATED), [""; 0]);
    assert_eq!(query_column::<i64>(&mut app, "SELECT source_id FROM chatbot_search(1, 'refund', mode => 'text')"), [5]);
}

#[test]
fn a_changed_text_search_configuration_is_reported_and_its_terms_are_read_again() {
    let (mut db, mock, app) = attached_documents();
    db.admin.batch_execute("CREATE TEXT SEARCH CONFIGURATION shop (COPY = pg_catalog.simple); ALTER TEXT SEARCH CONFIGURATION shop OWNER TO app;
        CREATE TEXT SEARCH DICTIONARY stems (TEMPLATE = snowball, Language = english); ALTER TEXT SEARCH DICTIONARY stems OWNER TO app").unwrap();
    set_for_database(&mut db, "text_search_config", "shop");
    let (mut app, told) = {
        drop(app);
        db.session_with_notices("app")
    };
    insert(&mut app, 1, "Vouchers expire after the year.");
    app.batch_execute("SELECT chatbot_embed_source(1, 'link', 5, 'Vouchers by hand.')").unwrap();
    let (asked, mut boss) = (embedded_texts(&mock).len(), db.session("boss"));
    let text = |app: &mut Client, query: &str| {
        let sql = format!("SELECT source_type FROM chatbot_search(1, '{query}', mode => 'text') ORDER BY 1");
        query_column::<String>(app, &sql)
    };
    let both = ["document", "link"];
    let said = |name: &str| {
        format!(
            "NOTICE: the words of 2 sources were read with public.{name} as it was: CALL chatbot_sync_all(refresh => true);"
        )
    };
    take_messages(&told);
    for alter in [
        "ALTER TEXT SEARCH CONFIGURATION shop ALTER MAPPING FOR asciiword WITH stems",
        "ALTER TEXT SEARCH DICTIONARY stems (StopWords = english)",
    ] {
        app.batch_execute(alter).unwrap();
        assert_eq!(take_messages(&told), [said("shop")], "{alter}");
        assert_eq!(query_column::<String>(&mut boss, OUTDATED), ["outdated document 1", "outdated link 5"]);
        app.batch_execute(REFRESH).unwrap();
        take_messages(&told);
        assert_eq!(
            (text(&mut app, "voucher"), query_column::<String>(&mut boss, OUTDATED)),
            (both.map(str::to_owned).to_vec(), vec![])
        );
    }
    assert_eq!(text(&mut app, "the"), [""; 0]);
    // Renaming the configuration, or moving it to another schema, is not a change.
    app.batch_execute("ALTER TEXT SEARCH CONFIGURATION shop RENAME TO \"my shop\"").unwrap();
    set_for_database(&mut db, "text_search_config", "my shop");
    let (mut app, told) = db.session_with_notices("app");
    assert_eq!(
        (text(&mut app, "voucher"), check(&mut app, "outdated sources")),
        (both.map(str::to_owned).to_vec(), vec![])
    );
    db.admin.batch_execute("CREATE SCHEMA \"s 1\" AUTHORIZATION app; ALTER TEXT SEARCH CONFIGURATION \"my shop\" SET SCHEMA \"s 1\"; ALTER SCHEMA \"s 1\" RENAME TO s2").unwrap();
    assert_eq!(
        (text(&mut app, "voucher"), check(&mut app, "outdated sources")),
        (both.map(str::to_owned).to_vec(), vec![])
    );
    // After it is dropped rows can still be written, and a notice, a warning and the doctor say so.
    app.batch_execute("DROP TEXT SEARCH CONFIGURATION s2.\"my shop\"").unwrap();
    assert!(
        take_messages(&told)[0].starts_with("NOTICE: the words of 2 sources were read with s2.\"my shop\" as it was")
    );
    insert(&mut app, 1, "Parcels leave daily.");
    assert!(take_messages(&told)[0].starts_with("WARNING: text search configuration \"my shop\" does not exist"));
    assert_eq!(text(&mut app, "parcels"), ["document"]);
    assert!(check(&mut app, "text search")[0].starts_with("error"));
    assert_eq!(expect_error(&mut app, "SELECT chatbot_embed_source(1, 'link', 6, 'x')").code, "22023");
    app.batch_execute(REFRESH).unwrap();
    assert_eq!((text(&mut app, "vouchers"), text(&mut app, "voucher")), (both.map(str::to_owned).to_vec(), vec![]));
    assert_eq!(embedded_texts(&mock).len(), asked + 1);
    app.batch_execute("SELECT chatbot_delete_source(1, 'link', 5)").unwrap();
    assert_eq!(find_differences(&mut app), [""; 0]);
}

#[test]
fn an_explicit_call_for_an_attached_row_lasts_until_the_row_is_synced() {
    let (mut db, mock, mut app) = attached_documents();
    let (mut hand, told) = db.session_with_notices("app");
    app.batch_execute("INSERT INTO documents (chatbot_id, title, content) VALUES (1, 'A', 'One.'), (1, 'B', 'Two.'), (1, 'C', 'Three.')")
        .unwrap();
    hand.batch_execute(
        "SELECT chatbot_embed_source(1, 'document', 1, 'By hand.'), chatbot_embed_source(1, 'document', 2, 'Two.');
         SELECT chatbot_enqueue_source(1, 'document', 3, 'Three.'); CALL chatbot_process_queue()",
    )
    .unwrap();
    let warning = |id| {
        format!(
            "WARNING: document {id} of chatbot 1 is a row of an attached table: what is embedded by hand holds until the row is synced again"
        )
    };
    assert_eq!(take_messages(&told), [warning(1), warning(2), warning(3)]);
    assert_eq!(find_differences(&mut app).len(), 6);
    assert_eq!(query_column::<String>(&mut app, "SELECT DISTINCT status FROM chatbot_sync.source"), ["pending"]);
    assert_eq!(check(&mut app, "sources that wait"), ["warning | 3 without a job | CALL chatbot_sync_all();"]);
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(
        (find_differences(&mut app), embedded_texts(&mock).split_off(3)),
        (vec![], vec!["By hand.".to_owned(), "One.".to_owned()])
    );
    assert_eq!(query_column::<String>(&mut db.admin, "SELECT problem FROM chatbot_verify()"), [""; 0]);
}

#[test]
fn refresh_refuses_null_and_old_calls_still_work() {
    let (_db, _mock, mut app) = attached_documents();
    let refused = expect_error(&mut app, "CALL chatbot_sync_all(refresh => NULL)");
    assert_eq!((refused.code.as_str(), refused.hint.is_empty()), ("22004", false));
    app.batch_execute("CALL chatbot_sync_all(); CALL chatbot_sync_all(1); CALL chatbot_sync_all(NULL, 5); CALL chatbot_sync_all(batch => 5)")
        .unwrap();
}

#[test]
fn refresh_includes_the_next_model() {
    let (mut db, mock, mut app) = attached_documents();
    insert(&mut app, 1, "Vouchers expire after a year.");
    app.batch_execute("SELECT chatbot_embed_source(1, 'link', 5, 'Vouchers by hand.')").unwrap();
    let mut boss = db.session("boss");
    boss.batch_execute(
        "SELECT chatbot_set_model('openai_compatible', 'other', 8); SELECT chatbot_sync.reembed_batch(100, NULL, NULL, NULL)",
    )
    .unwrap();
    let asked = mock.asked().1;
    set_for_database(&mut db, "text_search_config", "english");
    db.session("app").batch_execute(REFRESH).unwrap();
    boss.batch_execute("CALL chatbot_reembed()").unwrap();
    let found = "SELECT source_type FROM chatbot_search(1, 'voucher', mode => 'text') ORDER BY 1";
    assert_eq!(
        (query_column::<String>(&mut app, found), mock.asked().1),
        (vec!["document".to_owned(), "link".to_owned()], asked)
    );
}
