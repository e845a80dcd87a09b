//! Titles, which go before the text of every chunk when it is embedded and when its words are read.

use postgres::Client;

use super::harness::{Db, application_with_mock, prose, query_column, query_value};
use super::mock::Mock;

const ARTICLES: &str =
    "CREATE TABLE articles (id int PRIMARY KEY, chatbot_id int, title text, content text, status text);
    SELECT chatbot_attach('articles', 'document', title_column => 'title', status_column => 'status');";

fn articles() -> (Db, Mock, Client) {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(ARTICLES).unwrap();
    (db, mock, app)
}

fn verified(db: &Db) -> Vec<String> {
    query_column(&mut db.session("boss"), "SELECT v::text FROM chatbot_verify() AS v")
}

#[test]
fn title_goes_before_every_chunk_and_is_not_in_its_content() {
    let (db, mock, mut app) = articles();
    let text = prose(40);
    app.execute("INSERT INTO articles VALUES (1, 1, 'Zebras', $1)", &[&text]).unwrap();
    let chunks: i64 = query_value(&mut app, "SELECT count(*) FROM chatbot_sync.embedding");
    assert!(chunks > 2);
    let sent = mock.texts();
    assert!(
        sent.len() == chunks as usize
            && sent.iter().all(|text| text.starts_with("Zebras\n\nS") || text.starts_with("Zebras\n\n"))
    );
    let with_title = "SELECT count(*) FROM chatbot_sync.embedding WHERE content LIKE '%Zebras%'";
    assert_eq!(query_value::<i64>(&mut app, with_title), 0);
    let shown = "SELECT DISTINCT metadata ->> 'title' FROM chatbot_search(1, 'zebras', 10, mode => 'text')";
    assert_eq!(query_column::<String>(&mut app, shown), ["Zebras"]);
    let by_words = "SELECT count(*) FROM chatbot_search(1, 'zebras', 100, mode => 'text')";
    assert_eq!(query_value::<i64>(&mut app, by_words), chunks);
    let places = "SELECT bool_and(substr(a.content, e.start_offset + 1, e.end_offset - e.start_offset) = e.content)
        FROM chatbot_sync.embedding e JOIN articles a ON a.id = e.source_id";
    assert!(query_value::<bool>(&mut app, places));
    assert_eq!(verified(&db), [""; 0]);
}

#[test]
fn another_title_embeds_every_chunk_and_another_word_few() {
    let (db, mock, mut app) = articles();
    let text = prose(40);
    app.execute("INSERT INTO articles VALUES (1, 1, 'Zebras', $1)", &[&text]).unwrap();
    let chunks = mock.asked().1;
    app.batch_execute("UPDATE articles SET title = 'Horses'").unwrap();
    assert_eq!(mock.asked().1, 2 * chunks);
    assert!(mock.texts()[chunks..].iter().all(|text| text.starts_with("Horses\n\n")));
    app.batch_execute("UPDATE articles SET content = replace(content, 'Sentence 20 ', 'Paragraph 20 ')").unwrap();
    assert!(mock.asked().1 <= 2 * chunks + 3);
    let found = |app: &mut Client, word: &str| {
        query_value::<i64>(app, &format!("SELECT count(*) FROM chatbot_search(1, '{word}', 100, mode => 'text')"))
    };
    assert_eq!((found(&mut app, "zebras"), found(&mut app, "horses")), (0, chunks as i64));
    // None, and back.
    app.batch_execute("UPDATE articles SET title = NULL").unwrap();
    assert_eq!(found(&mut app, "horses"), 0);
    app.batch_execute("UPDATE articles SET title = 'Horses'; CALL chatbot_sync_all(refresh => true)").unwrap();
    assert_eq!((found(&mut app, "horses"), verified(&db)), (chunks as i64, vec![]));
}

#[test]
fn a_title_that_changed_while_the_row_was_not_found_is_embedded_when_it_is() {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE articles (id int PRIMARY KEY, chatbot_id int, title text, content text, active boolean DEFAULT true);
         SELECT chatbot_attach('articles', 'document', title_column => 'title', enabled_column => 'active');
         INSERT INTO articles VALUES (1, 1, 'Zebras', 'They have stripes.');
         UPDATE articles SET active = false; UPDATE articles SET title = 'Horses'; UPDATE articles SET active = true",
    )
    .unwrap();
    assert_eq!(mock.texts(), ["Zebras\n\nThey have stripes.", "Horses\n\nThey have stripes."]);
    assert_eq!(verified(&db), [""; 0]);
}

#[test]
fn title_has_the_language_of_its_chunk() {
    let (db, mock, mut app) = application_with_mock();
    app.batch_execute(
        r#"CREATE TABLE products (id int PRIMARY KEY, chatbot_id int, name jsonb, description jsonb);
         SELECT chatbot_attach('products', 'document', title_column => 'name', content_column => 'description');
         INSERT INTO products VALUES (1, 1, '{"en_US": "Chair", "fr_FR": "Chaise"}',
            '{"en_US": "Made of oak.", "fr_FR": "En chêne.", "de_DE": "Aus Eiche."}')"#,
    )
    .unwrap();
    assert_eq!(mock.texts(), ["Chair\n\nAus Eiche.", "Chair\n\nMade of oak.", "Chaise\n\nEn chêne."]);
    let titles =
        "SELECT string_agg(concat_ws(' ', lang, metadata ->> 'lang', metadata ->> 'title'), ', ' ORDER BY lang)
        FROM chatbot_sync.embedding";
    let expected = "de_DE de_DE Chair, en_US en_US Chair, fr_FR fr_FR Chaise";
    assert_eq!(query_value::<String>(&mut app, titles), expected);
    app.batch_execute(r#"UPDATE products SET name = name || '{"de_DE": "Stuhl"}'"#).unwrap();
    assert_eq!(query_value::<String>(&mut app, titles), expected.replace("de_DE Chair", "de_DE Stuhl"));
    assert_eq!(verified(&db), [""; 0]);
}

#[test]
fn embed_source_takes_the_title_from_the_metadata() {
    let (db, mock, mut app) = application_with_mock();
    let embed = |title: &str| {
        format!(
            "SELECT chatbot_embed_source(1, 'document', 1, 'They have stripes.', '{{\"title\": \"{title}\", \"a\": 1}}')"
        )
    };
    app.batch_execute(&embed("Zebras")).unwrap();
    app.batch_execute(&embed("Zebras")).unwrap();
    app.batch_execute("SELECT chatbot_enqueue_source(1, 'document', 2, 'They have none.', '{\"title\": \"Horses\"}'); CALL chatbot_process_queue()")
        .unwrap();
    assert_eq!(mock.texts(), ["Zebras\n\nThey have stripes.", "Horses\n\nThey have none."]);
    // A title that the text begins with is not said twice.
    app.batch_execute("SELECT chatbot_embed_source(1, 'document', 3, 'Mules are both.', '{\"title\": \"Mules\"}')")
        .unwrap();
    assert_eq!(mock.texts()[2], "Mules are both.");
    db.session("boss").batch_execute("SELECT chatbot_set_model('openai_compatible', 'mock', 8, document_prefix => 'passage: '); CALL chatbot_reembed()").unwrap();
    let mut again = mock.texts()[3..].to_vec();
    again.sort();
    assert_eq!(
        again,
        ["passage: Horses\n\nThey have none.", "passage: Mules are both.", "passage: Zebras\n\nThey have stripes."]
    );
}

#[test]
fn a_table_whose_title_column_is_dropped_goes_on_without() {
    let (db, mock, mut app) = articles();
    app.batch_execute("INSERT INTO articles VALUES (1, 1, 'Zebras', 'They have stripes.')").unwrap();
    app.batch_execute("ALTER TABLE articles RENAME title TO heading").unwrap();
    app.batch_execute("UPDATE articles SET heading = 'Horses'; ALTER TABLE articles DROP heading").unwrap();
    assert_eq!(query_value::<String>(&mut app, "SELECT status FROM articles"), "pending");
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(mock.texts()[1..], ["Horses\n\nThey have stripes.", "They have stripes."]);
    assert_eq!(query_value::<String>(&mut app, "SELECT metadata::text FROM chatbot_sync.embedding"), "{}");
    assert_eq!(verified(&db), [""; 0]);
}

#[test]
fn words_that_are_read_anew_have_the_title() {
    let (db, _mock, mut app) = articles();
    app.batch_execute(
        "INSERT INTO articles VALUES (1, 1, 'Zebras', 'They have stripes.');
         SELECT chatbot_embed_source(1, 'link', 1, 'They have none.', '{\"title\": \"Zebras\"}');
         SET chatbot_sync.text_search_config = 'english'; CALL chatbot_sync_all(refresh => true)",
    )
    .unwrap();
    let lexemes = "SELECT count(*) FROM chatbot_sync.embedding WHERE words @@ 'zebra'::tsquery";
    assert_eq!(query_value::<i64>(&mut app, lexemes), 2);
    drop(db);
}
