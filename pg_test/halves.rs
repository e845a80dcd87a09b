//! Vectors in half precision: stored, found and indexed; changing the precision of a model's vectors asks no provider.

use postgres::Client;

use super::harness::{Db, database_with_mock, embed_statement, expect_error, prose, query_column, query_value};
use super::mock::Mock;

const HALF: &str = r#"SELECT chatbot_set_model('openai_compatible', 'mock', 8, options => '{"storage": "half"}')"#;
const FULL: &str = "SELECT chatbot_set_model('openai_compatible', 'mock', 8)";
/// The chunks of the active model by the columns that their vectors are in: in full precision, in half, and neither or both.
const COLUMNS: &str = "SELECT concat_ws(' ',
        count(*) FILTER (WHERE embedding IS NOT NULL AND embedding_half IS NULL),
        count(*) FILTER (WHERE embedding IS NULL AND embedding_half IS NOT NULL),
        count(*) FILTER (WHERE num_nulls(embedding, embedding_half) <> 1))
    FROM chatbot_sync.embedding WHERE model_id = (SELECT id FROM chatbot_sync.model WHERE active)";
const FOUND: &str = "SELECT source_id FROM chatbot_search(1, 'Sentence 7', 100, mode => 'vector')";

/// Returns a database whose mock's model is stored as this statement says, with six sources, and sessions of `app` and `boss`.
fn database_with_sources(model: &str) -> (Db, Mock, Client, Client) {
    let (mut db, mock) = database_with_mock();
    db.admin.batch_execute(model).unwrap();
    let (mut app, boss) = (db.session("app"), db.session("boss"));
    for id in 1..=6 {
        app.batch_execute(&embed_statement(id, &format!("{id}. {}", prose(15)))).unwrap();
    }
    (db, mock, app, boss)
}

fn count_chunks(app: &mut Client) -> i64 {
    query_value(app, "SELECT sum(chunk_count)::bigint FROM chatbot_sync.source")
}

#[test]
fn halves_are_stored_and_found() {
    let (_db, _mock, mut app, _boss) = database_with_sources(HALF);
    let chunks = count_chunks(&mut app);
    assert_eq!(query_value::<String>(&mut app, COLUMNS), format!("0 {chunks} 0"));
    for mode in ["vector", "hybrid", "text"] {
        let best = format!("SELECT source_id FROM chatbot_search(1, '3. Sentence 1', 3, mode => '{mode}')");
        assert_eq!(query_column::<i64>(&mut app, &best).len(), 3, "{mode}");
    }
    let similarity: f32 = query_value(
        &mut app,
        "SELECT max(s.similarity) FROM chatbot_sync.embedding AS e, chatbot_search(1, e.content, 1, mode => 'vector') AS s
        WHERE e.source_id = 4",
    );
    assert!((similarity - 1.0).abs() < 1e-3, "{similarity}");
    // An edit keeps the vectors of chunks that did not change, and the copy of another chatbot is found as well.
    app.batch_execute(&embed_statement(4, "Another text.")).unwrap();
    let found = "SELECT source_id FROM chatbot_search(1, 'Another text.', 1, mode => 'vector')";
    assert_eq!(query_value::<i64>(&mut app, found), 4);
}

#[test]
fn unknown_storage_is_refused() {
    let mut db = Db::new();
    for provider in ["'local', 'multilingual-static-256'", "'openai', 'text-embedding-3-small'"] {
        let options = r#"'{"storage": "quarter"}'"#;
        let refused =
            expect_error(&mut db.admin, &format!("SELECT chatbot_set_model({provider}, options => {options})"));
        assert_eq!(
            (refused.code.as_str(), refused.message.as_str()),
            ("22023", r#"options is {"storage": "quarter"}, expected "storage" to be one of full, half"#)
        );
    }
}

#[test]
fn a_named_full_precision_is_the_same_model() {
    let mut db = Db::new();
    let id: i32 = query_value(&mut db.admin, "SELECT chatbot_set_model('local', 'multilingual-static-256')");
    let full = r#"SELECT chatbot_set_model('local', 'multilingual-static-256', options => '{"storage": "full"}')"#;
    assert_eq!(query_value::<i32>(&mut db.admin, full), id);
}

#[test]
fn converting_vectors_sends_no_request() {
    let (_db, mock, mut app, mut boss) = database_with_sources(FULL);
    let chunks = count_chunks(&mut app);
    let found = query_column::<i64>(&mut app, FOUND);
    let bought = mock.texts().len();
    boss.batch_execute(HALF).unwrap();
    assert_eq!(query_value::<String>(&mut app, COLUMNS), format!("{chunks} 0 0"));
    assert_eq!(query_value::<i64>(&mut boss, "SELECT chunks_to_embed FROM chatbot_estimate()"), 0);
    boss.batch_execute("CALL chatbot_reembed(2)").unwrap();
    assert_eq!(query_value::<String>(&mut app, COLUMNS), format!("0 {chunks} 0"));
    // Back again, after an edit that changed what is stored.
    app.batch_execute(&embed_statement(2, "Another text.")).unwrap();
    let bought_later = mock.texts().len();
    boss.batch_execute(FULL).unwrap();
    boss.batch_execute("CALL chatbot_reembed()").unwrap();
    let chunks = count_chunks(&mut app);
    assert_eq!(query_value::<String>(&mut app, COLUMNS), format!("{chunks} 0 0"));
    assert_eq!((bought_later, mock.texts().len()), (bought + 1, bought_later));
    // A search embeds its query, so it comes last.
    assert!(query_column::<i64>(&mut app, FOUND).len() < found.len());
    assert_eq!(query_value::<i64>(&mut boss, "SELECT count(*) FROM chatbot_verify()"), 0);
}

#[test]
fn choosing_another_precision_says_what_answers_until_then() {
    let (db, _mock, _app, _boss) = database_with_sources(FULL);
    let (mut boss, notices) = db.session_with_notices("boss");
    boss.batch_execute(HALF).unwrap();
    let expected =
        "NOTICE: model mock answers as it was chosen before until CALL chatbot_reembed(); has made its vectors";
    assert_eq!(*notices.lock().unwrap(), [expected]);
}

#[test]
fn writes_and_searches_go_on_while_vectors_are_converted() {
    let (_db, _mock, mut app, mut boss) = database_with_sources(FULL);
    boss.batch_execute(HALF).unwrap();
    boss.batch_execute(
        "SELECT chatbot_sync.reembed_begin(false); SELECT chatbot_sync.reembed_batch(3, NULL, NULL, NULL)",
    )
    .unwrap();
    let found = query_column::<i64>(&mut app, FOUND).len();
    assert_eq!(i64::try_from(found).unwrap(), count_chunks(&mut app));
    // Of the sources one is converted already, and one is not.
    app.batch_execute(&embed_statement(1, "Changed after it was converted.")).unwrap();
    app.batch_execute(&embed_statement(6, "Changed before it is converted.")).unwrap();
    app.batch_execute("SELECT chatbot_delete_source(1, 'document', 2)").unwrap();
    boss.batch_execute("CALL chatbot_reembed()").unwrap();
    let chunks = count_chunks(&mut app);
    assert_eq!(query_value::<String>(&mut app, COLUMNS), format!("0 {chunks} 0"));
    for (id, text) in [(1, "Changed after it was converted."), (6, "Changed before it is converted.")] {
        let best = format!("SELECT source_id FROM chatbot_search(1, '{text}', 1, mode => 'vector')");
        assert_eq!(query_value::<i64>(&mut app, &best), id);
    }
}

#[test]
fn verify_finds_chunks_without_a_vector() {
    let (mut db, _mock, mut app, mut boss) = database_with_sources(HALF);
    db.admin.batch_execute("UPDATE chatbot_sync.embedding SET embedding_half = NULL WHERE source_id = 3").unwrap();
    let problems = "SELECT concat_ws(' ', problem, source_id, detail) FROM chatbot_verify()";
    let said = query_column::<String>(&mut boss, problems);
    assert!(said.len() == 1 && said[0].ends_with("3 0 dimensions, expected 8"), "{said:?}");
    assert_eq!(query_column::<i64>(&mut app, FOUND).iter().filter(|id| **id == 3).count(), 0);
}

#[test]
fn halves_are_found_by_their_index() {
    let (db, _mock, mut app, mut boss) = database_with_sources(HALF);
    app.batch_execute(
        "SELECT chatbot_embed_source(1, 'document', i, format('Text %s tells about the number %s.', i, i * i))
        FROM generate_series(100, 300) AS i",
    )
    .unwrap();
    boss.batch_execute("CALL chatbot_create_index()").unwrap();
    let definition = "SELECT pg_get_indexdef(format('chatbot_sync.%s', name)::regclass) FROM chatbot_sync.model_index
        WHERE kind = 'hnsw' AND valid";
    assert!(query_value::<String>(&mut boss, definition).contains("halfvec_cosine_ops"));
    let mut reader = db.session("reader");
    let search =
        "SELECT source_id FROM chatbot_search(1, 'Text 200 tells about the number 40000.', 10, mode => 'vector')";
    let exact = query_column::<i64>(&mut reader, search);
    assert_eq!((exact.len(), exact[0]), (10, 200));
    reader.batch_execute("SET chatbot_sync.exact_search_limit = 10").unwrap();
    let mut transaction = reader.transaction().unwrap();
    let by_index: Vec<i64> = transaction.query(search, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    let scans =
        "SELECT pg_stat_get_xact_numscans(format('chatbot_sync.%s', name)::regclass) FROM chatbot_sync.model_index
        WHERE kind = 'hnsw' AND valid";
    assert_eq!(transaction.query_one(scans, &[]).unwrap().get::<_, i64>(0), 1);
    assert_eq!(by_index, exact);
}

#[test]
fn models_of_both_precisions_stand_side_by_side() {
    let (_db, _mock, mut app, mut boss) = database_with_sources(FULL);
    boss.batch_execute(HALF).unwrap();
    boss.batch_execute("CALL chatbot_reembed()").unwrap();
    let kept = "SELECT string_agg(concat_ws(' ', active, full_precision, half_precision), ', ' ORDER BY active)
        FROM (SELECT m.active, count(e.embedding) > 0 AS full_precision, count(e.embedding_half) > 0 AS half_precision
            FROM chatbot_sync.model AS m JOIN chatbot_sync.embedding AS e ON e.model_id = m.id GROUP BY 1) AS s";
    assert_eq!(query_value::<String>(&mut app, kept), "f t f, t f t");
    // As long as nothing has changed the other one answers again at once.
    boss.batch_execute(FULL).unwrap();
    assert_eq!(query_value::<String>(&mut app, kept), "f f t, t t f");
}
