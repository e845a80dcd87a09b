//! Texts to vectors.

use super::harness::{Db, column, one};

#[test]
fn the_built_in_model_answers_the_same_through_sql() {
    let db = Db::new();
    let mut reader = db.session("reader");
    let cases: serde_json::Value = serde_json::from_str(include_str!("../tests/data/local_expected.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let sql = "SELECT chatbot_embed($1)::text";
        let got: String = reader.query_one(sql, &[&text]).unwrap().get(0);
        let got: Vec<f64> = serde_json::from_str(&got).unwrap();
        let expected: Vec<f64> = serde_json::from_value(case["vector"].clone()).unwrap();
        assert_eq!(got.len(), 256);
        assert!(got.iter().zip(&expected).all(|(g, e)| (g - e).abs() < 1e-4), "{text}");
    }
}

#[test]
fn the_first_source_creates_one_model() {
    let db = Db::new();
    let mut app = db.session("app");
    let models = "SELECT provider || ' ' || dimensions FROM chatbot_sync.model WHERE active";
    assert!(column::<String>(&mut app, models).is_empty());
    for id in 1..3 {
        app.batch_execute(&format!("SELECT chatbot_embed_source(1, 'document', {id}, 'A text.')")).unwrap();
    }
    assert_eq!(column::<String>(&mut app, models), ["local 256"]);
    assert_eq!(
        one::<i64>(
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
    // Two hundred megabytes: more than a minute's work without a cancel.
    let sql = "SET chatbot_sync.max_chunks = 100000; SET statement_timeout = '200ms';
        SELECT chatbot_embed_source(1, 'document', 1, string_agg(md5(i::text), ' ')) FROM generate_series(1, 1000000) i";
    let code = app.batch_execute(sql).unwrap_err().code().unwrap().code().to_owned();
    assert_eq!(code, "57014");
    app.batch_execute("SET statement_timeout = 0").unwrap();
    assert_eq!(one::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 0);
    app.batch_execute("SELECT chatbot_embed_source(1, 'document', 1, 'A text.')").unwrap();
}
