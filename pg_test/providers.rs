//! The built-in model through SQL: same vectors, one model row, and cancelling.

use super::harness::{Db, query_column, query_value};

#[test]
fn built_in_models_answer_through_sql_as_their_references_do() {
    let db = Db::new();
    let mut boss = db.session("boss");
    for (model, expected) in [
        // Of a new database, where none was chosen.
        (None, include_str!("../tests/data/multilingual_expected.json")),
        (Some("minilm-static-256"), include_str!("../tests/data/local_expected.json")),
        (Some("multilingual-static-256"), include_str!("../tests/data/multilingual_expected.json")),
    ] {
        if let Some(model) = model {
            boss.execute("SELECT chatbot_set_model('local', $1)", &[&model]).unwrap();
        }
        let cases: serde_json::Value = serde_json::from_str(expected).unwrap();
        for case in cases.as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let vector: String = boss.query_one("SELECT chatbot_embed($1)::text", &[&text]).unwrap().get(0);
            let vector: Vec<f64> = serde_json::from_str(&vector).unwrap();
            let expected: Vec<f64> = serde_json::from_value(case["vector"].clone()).unwrap();
            assert_eq!(vector.len(), 256);
            assert!(
                vector.iter().zip(&expected).all(|(ours, theirs)| (ours - theirs).abs() < 1e-4),
                "{model:?} {text}"
            );
        }
    }
}

#[test]
fn the_first_source_creates_one_model() {
    let db = Db::new();
    let mut app = db.session("app");
    let models = "SELECT provider || ' ' || dimensions FROM chatbot_sync.model WHERE active";
    assert!(query_column::<String>(&mut app, models).is_empty());
    for id in 1..3 {
        app.batch_execute(&format!("SELECT chatbot_embed_source(1, 'document', {id}, 'A text.')")).unwrap();
    }
    assert_eq!(query_column::<String>(&mut app, models), ["local 256"]);
    assert_eq!(
        query_value::<i64>(
            &mut app,
            "SELECT count(*) FROM chatbot_sync.embedding JOIN chatbot_sync.model m ON m.id = model_id"
        ),
        2
    );
}

#[test]
fn embedding_can_be_cancelled() {
    let db = Db::new();
    let mut app = db.session("app");
    // Two hundred megabytes: without a cancel it would run for more than a minute.
    let sql = "SET chatbot_sync.max_chunks = 100000; SET statement_timeout = '200ms';
        SELECT chatbot_embed_source(1, 'document', 1, string_agg(md5(i::text), ' ')) FROM generate_series(1, 1000000) i";
    let code = app.batch_execute(sql).unwrap_err().code().unwrap().code().to_owned();
    assert_eq!(code, "57014");
    app.batch_execute("SET statement_timeout = 0").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 0);
    app.batch_execute("SELECT chatbot_embed_source(1, 'document', 1, 'A text.')").unwrap();
}
