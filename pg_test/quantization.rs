//! Indexes over halves and over bits: used, as good as an exact search, chosen by what they find, made again.

use postgres::Client;

use super::harness::{Db, expect_error, query_column, query_value};

const FORMS: [(&str, &str, &str); 3] = [
    ("none", "embedding_hnsw_1", "vector_cosine_ops"),
    ("half", "embedding_hnsw_half_1", "halfvec_cosine_ops"),
    ("binary", "embedding_hnsw_binary_1", "bit_hamming_ops"),
];
/// The definitions of the indexes of vectors.
const DEFINITIONS: &str =
    "SELECT pg_get_indexdef(i.indexrelid) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE i.indrelid = 'chatbot_sync.embedding'::regclass AND i.indisvalid AND c.relname LIKE '%hnsw%'";
const QUERIES: [&str; 8] =
    ["ships at sea", "How cold is it?", "a song", "baking", "number 144", "horses", "earth", "coins"];

/// Returns a database with 400 chunks of chatbot 1, and a session of `boss`.
fn database_with_chunks() -> (Db, Client) {
    let db = Db::new();
    db.session("app")
        .batch_execute(
            "SELECT chatbot_embed_source(1, 'document', i, format('Text %s tells about %s and the number %s.',
                i, (ARRAY['ships', 'horses', 'the moon', 'bread', 'music', 'winter', 'money'])[i % 7 + 1], i * i))
            FROM generate_series(1, 400) AS i",
        )
        .unwrap();
    let boss = db.session("boss");
    (db, boss)
}

fn create_index(boss: &mut Client, quantization: &str) {
    boss.batch_execute(&format!("CALL chatbot_create_index(quantization => '{quantization}')")).unwrap();
}

/// Returns the sources that a search finds, and how often it scanned an index.
fn search_with_index(reader: &mut Client, query: &str, index: &str) -> (Vec<i64>, i64) {
    let scans = format!("SELECT pg_stat_get_xact_numscans('chatbot_sync.{index}'::regclass)");
    let mut transaction = reader.build_transaction().read_only(true).start().unwrap();
    let before: i64 = transaction.query_one(&scans, &[]).unwrap().get(0);
    let search = format!("SELECT source_id FROM chatbot_search(1, '{query}', 10, mode => 'vector')");
    let found = transaction.query(&search, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    let after: i64 = transaction.query_one(&scans, &[]).unwrap().get(0);
    (found, after - before)
}

#[test]
fn indexes_of_every_quantization_are_used_and_find_the_nearest() {
    let (db, mut boss) = database_with_chunks();
    let mut reader = db.session("reader");
    let exact: Vec<Vec<i64>> = QUERIES
        .iter()
        .map(|query| {
            let search = format!("SELECT source_id FROM chatbot_search(1, '{query}', 10, mode => 'vector')");
            query_column(&mut reader, &search)
        })
        .collect();
    reader.batch_execute("SET chatbot_sync.exact_search_limit = 100").unwrap();
    for (quantization, index, class) in FORMS {
        create_index(&mut boss, quantization);
        let definitions = query_column::<String>(&mut boss, DEFINITIONS);
        assert!(definitions.len() == 1 && definitions[0].contains(class), "{definitions:?}");
        let mut right = 0;
        for (query, exact) in QUERIES.iter().zip(&exact) {
            let (found, scans) = search_with_index(&mut reader, query, index);
            assert_eq!((found.len(), scans), (10, 1), "{quantization}: {query}");
            right += found.iter().filter(|id| exact.contains(id)).count();
        }
        // Vectors of 256 dimensions are short for bits, which are not their default.
        let least = if quantization == "binary" { 70 } else { 79 };
        assert!(right >= least, "{quantization}: {right} of {}", QUERIES.len() * 10);
    }
}

#[test]
fn an_index_is_used_until_that_of_another_quantization_is_valid() {
    let (db, mut boss) = database_with_chunks();
    create_index(&mut boss, "none");
    let mut admin = db.other();
    // As a change of the quantization leaves it whose build has not ended.
    admin.batch_execute("UPDATE chatbot_sync.model SET quantization = 'binary'").unwrap();
    let mut reader = db.session("reader");
    reader.batch_execute("SET chatbot_sync.exact_search_limit = 100").unwrap();
    let (found, scans) = search_with_index(&mut reader, "ships at sea", "embedding_hnsw_1");
    assert_eq!((found.len(), scans), (10, 1));
    let missing = "SELECT detail FROM chatbot_doctor() WHERE check_name = 'indexes' AND status = 'error'";
    assert_eq!(query_column::<String>(&mut admin, missing), ["embedding_hnsw_binary_1 is missing"]);
    assert_eq!(query_value::<i64>(&mut boss, "SELECT chatbot_repair()"), 1);
    let definitions = query_column::<String>(&mut boss, DEFINITIONS);
    assert!(definitions.len() == 1 && definitions[0].contains("bit_hamming_ops"), "{definitions:?}");
}

#[test]
fn a_model_keeps_its_quantization() {
    let (db, mut boss) = database_with_chunks();
    create_index(&mut boss, "binary");
    boss.batch_execute("SELECT chatbot_drop_index(); CALL chatbot_create_index(concurrent => false)").unwrap();
    assert!(query_column::<String>(&mut boss, DEFINITIONS)[0].contains("bit_hamming_ops"));
    // An index that version 0.2.0 made.
    create_index(&mut boss, "none");
    let mut admin = db.other();
    admin.batch_execute("UPDATE chatbot_sync.model SET quantization = NULL").unwrap();
    boss.batch_execute("CALL chatbot_create_index()").unwrap();
    assert!(query_column::<String>(&mut boss, DEFINITIONS)[0].contains("vector_cosine_ops"));
}

#[test]
fn unknown_quantizations_are_refused() {
    let (_db, mut boss) = database_with_chunks();
    let refused = expect_error(&mut boss, "CALL chatbot_create_index(quantization => 'quarter')");
    assert_eq!(
        (refused.code.as_str(), refused.message.as_str()),
        ("22023", "quantization is \"quarter\", expected one of none, half, binary")
    );
}

#[test]
fn bits_are_the_default_where_they_find_the_nearest() {
    let (mut db, mut boss) = database_with_chunks();
    // 256 dimensions.
    assert_eq!(query_value::<String>(&mut boss, "SELECT chatbot_sync.default_quantization(1)"), "half");
    let random = |number: &str| {
        format!(
            "TRUNCATE chatbot_sync.source CASCADE; UPDATE chatbot_sync.model SET dimensions = 768;
            SELECT setseed(0.5);
            INSERT INTO chatbot_sync.source (chatbot_id, source_type, source_id, status) SELECT 1, 'document', i, 'synced' FROM generate_series(1, 50) AS i;
            INSERT INTO chatbot_sync.embedding (chatbot_id, source_type, source_id, model_id, chunk_id, chunk_index, start_offset, end_offset, content, embedding)
            SELECT 1, 'document', i / 20 + 1, 1, i % 20, i % 20, 0, 1, 'x', ARRAY(
                SELECT {number} FROM generate_series(1, 768) AS d)::real[]::vector
            FROM generate_series(0, 999) AS i"
        )
    };
    // Fifty clusters of texts that are alike, by dimensions of either sign.
    db.admin.batch_execute(&random("sin(d * (i % 50 + 1)) + 0.2 * cos(d * i) + 0.2 * (random() - 0.5)")).unwrap();
    let dense: f32 = query_value(&mut boss, "SELECT chatbot_sync.measure_recall_of_bits(1)");
    assert!(dense >= 0.98, "{dense}");
    assert_eq!(query_value::<String>(&mut boss, "SELECT chatbot_sync.default_quantization(1)"), "binary");
    // The same, all of them positive: bits say nothing.
    db.admin.batch_execute(&random("2 + sin(d * (i % 50 + 1)) + 0.2 * cos(d * i) + 0.2 * (random() - 0.5)")).unwrap();
    assert_eq!(query_value::<String>(&mut boss, "SELECT chatbot_sync.default_quantization(1)"), "half");
}

#[test]
fn the_doctor_says_what_an_index_takes_in_memory() {
    let (_db, mut boss) = database_with_chunks();
    let said = "SELECT detail FROM chatbot_doctor() WHERE check_name = 'index memory'";
    assert_eq!(query_column::<String>(&mut boss, said), [""; 0]);
    create_index(&mut boss, "binary");
    let said: String = query_value(&mut boss, said);
    assert!(
        said.starts_with("HNSW over 400 chunks by quantization: none 5")
            && said.contains(", half ")
            && said.ends_with("; there is binary"),
        "{said}"
    );
}
