//! Questions to chunks.

use super::harness::{Db, column, one};

fn shop(db: &Db) -> postgres::Client {
    let mut app = db.session("app");
    for (id, kind, text, lang) in [
        (1, "document", "Refunds are paid within ten days of the parcel's return.", "en"),
        (2, "document", "Our office is open from nine to five on working days.", "en"),
        (3, "link", "The moon orbits the earth once a month.", "en"),
        (4, "link", "Remboursement sous dix jours.", "fr"),
    ] {
        let sql = "SELECT chatbot_embed_source(1, $1, $2, $3, jsonb_build_object('lang', $4::text))";
        app.execute(sql, &[&kind, &i64::from(id), &text, &lang]).unwrap();
    }
    app.batch_execute("SELECT chatbot_embed_source(2, 'document', 1, 'Another shop pays refunds within a year.')")
        .unwrap();
    app
}

#[test]
fn the_nearest_chunk_is_not_the_first() {
    let db = Db::new();
    let mut app = shop(&db);
    let sql = "SELECT source_id FROM chatbot_search(1, 'How do I get my money back?')";
    let found = column::<i64>(&mut app, sql);
    assert_eq!((found[0], found.len()), (1, 4));
    let sql = "SELECT bool_and(similarity <= before AND score = similarity) FROM
        (SELECT similarity, score, lag(similarity, 1, 1.01::real) OVER () AS before FROM chatbot_search(1, 'opening hours')) AS s";
    assert!(one::<bool>(&mut app, sql));
    let sql = "SELECT source_id FROM chatbot_search(1, 'opening hours', 1)";
    assert_eq!(column::<i64>(&mut app, sql), [2]);
}

#[test]
fn similarity_is_not_the_cosine() {
    let db = Db::new();
    let mut app = shop(&db);
    let sql = "SELECT max(abs(s.similarity - (1 - (e.embedding <=> chatbot_embed('parcel', 'query')))))
        FROM chatbot_search(1, 'parcel') s JOIN chatbot_sync.embedding e USING (source_type, source_id, chunk_index)
        WHERE e.chatbot_id = 1";
    assert!(one::<f64>(&mut app, sql) < 1e-6);
}

#[test]
fn another_chatbots_chunk_is_found() {
    let db = Db::new();
    let mut app = shop(&db);
    let sql = "SELECT content FROM chatbot_search(2, 'refunds')";
    assert_eq!(column::<String>(&mut app, sql), ["Another shop pays refunds within a year."]);
    assert!(column::<String>(&mut app, "SELECT content FROM chatbot_search(3, 'refunds')").is_empty());
}

#[test]
fn a_filter_lets_something_through() {
    let db = Db::new();
    let mut app = shop(&db);
    let ids = |app: &mut postgres::Client, rest: &str| {
        column::<i64>(app, &format!("SELECT source_id FROM chatbot_search(1, 'refunds', {rest}) ORDER BY 1"))
    };
    assert_eq!(ids(&mut app, "source_types => '{link}'"), [3, 4]);
    assert_eq!(ids(&mut app, "source_types => '{}'"), [0i64; 0]);
    assert_eq!(ids(&mut app, "metadata_filter => '{\"lang\": \"fr\"}'"), [4]);
    assert_eq!(ids(&mut app, "metadata_filter => '{\"lang\": \"de\"}'"), [0i64; 0]);
    assert_eq!(ids(&mut app, "min_similarity => 0.3"), [1]);
    assert_eq!(ids(&mut app, "min_similarity => -1").len(), 4);
}

#[test]
fn a_text_without_a_known_word_is_near_to_something() {
    let db = Db::new();
    let mut app = shop(&db);
    app.batch_execute("SELECT chatbot_embed_source(1, 'document', 9, '\u{1f389}')").unwrap();
    assert_eq!(one::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(1, 'refunds', 10)"), 4);
    assert_eq!(one::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(1, '')"), 0);
    assert_eq!(one::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(1, '\u{1f389}')"), 0);
}

#[test]
fn a_search_writes() {
    let db = Db::new();
    shop(&db);
    let mut reader = db.session("reader");
    let mut tx = reader.build_transaction().read_only(true).start().unwrap();
    assert_eq!(tx.query("SELECT * FROM chatbot_search(1, 'refunds')", &[]).unwrap().len(), 4);
    assert_eq!(tx.query("SELECT * FROM chatbot_chunk('refunds')", &[]).unwrap().len(), 1);
    tx.query("SELECT chatbot_embed('refunds')", &[]).unwrap();
    let none = "SELECT pg_current_xact_id_if_assigned() IS NULL";
    assert!(tx.query_one(none, &[]).unwrap().get::<_, bool>(0));
}

#[test]
fn an_empty_database_has_answers_or_errors() {
    let db = Db::new();
    let mut reader = db.session("reader");
    assert_eq!(one::<i64>(&mut reader, "SELECT count(*) FROM chatbot_search(1, 'refunds')"), 0);
}
