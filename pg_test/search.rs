//! Searches: the best chunk comes first, filters hold in every mode, codes and words are found by the language of their
//! source, and every text is a valid query.

use super::harness::{Db, expect_error, query_column, query_value};

fn embed_shop_texts(db: &Db) -> postgres::Client {
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
fn the_nearest_chunk_comes_first() {
    let db = Db::new();
    let mut app = embed_shop_texts(&db);
    let sql = "SELECT source_id FROM chatbot_search(1, 'How do I get my money back?')";
    let found = query_column::<i64>(&mut app, sql);
    assert_eq!((found[0], found.len()), (1, 4));
    let sql = "SELECT bool_and(similarity <= before AND score = similarity) FROM
        (SELECT similarity, score, lag(similarity, 1, 1.01::real) OVER () AS before FROM chatbot_search(1, 'opening hours', mode => 'vector')) AS s";
    assert!(query_value::<bool>(&mut app, sql));
    let sql = "SELECT source_id FROM chatbot_search(1, 'opening hours', 1)";
    assert_eq!(query_column::<i64>(&mut app, sql), [2]);
}

#[test]
fn similarity_is_the_cosine() {
    let db = Db::new();
    let mut app = embed_shop_texts(&db);
    let sql = "SELECT max(abs(s.similarity - (1 - (e.embedding <=> chatbot_embed('parcel', 'query')))))
        FROM chatbot_search(1, 'parcel') s JOIN chatbot_sync.embedding e USING (source_type, source_id, chunk_index)
        WHERE e.chatbot_id = 1";
    assert!(query_value::<f64>(&mut app, sql) < 1e-6);
}

#[test]
fn only_the_chatbots_own_chunks_are_found() {
    let db = Db::new();
    let mut app = embed_shop_texts(&db);
    let sql = "SELECT content FROM chatbot_search(2, 'refunds')";
    assert_eq!(query_column::<String>(&mut app, sql), ["Another shop pays refunds within a year."]);
    assert!(query_column::<String>(&mut app, "SELECT content FROM chatbot_search(3, 'refunds')").is_empty());
}

#[test]
fn filters_exclude_what_does_not_match() {
    let db = Db::new();
    let mut app = embed_shop_texts(&db);
    let ids = |app: &mut postgres::Client, rest: &str| {
        query_column::<i64>(app, &format!("SELECT source_id FROM chatbot_search(1, 'refunds', {rest}) ORDER BY 1"))
    };
    assert_eq!(ids(&mut app, "source_types => '{link}'"), [3, 4]);
    assert_eq!(ids(&mut app, "source_types => '{}'"), [0i64; 0]);
    assert_eq!(ids(&mut app, "metadata_filter => '{\"lang\": \"fr\"}'"), [4]);
    assert_eq!(ids(&mut app, "metadata_filter => '{\"lang\": \"de\"}'"), [0i64; 0]);
    assert_eq!(ids(&mut app, "min_similarity => 0.3"), [1]);
    assert_eq!(ids(&mut app, "min_similarity => -1").len(), 4);
}

#[test]
fn a_query_without_known_words_has_no_similar_chunks() {
    let db = Db::new();
    let mut app = embed_shop_texts(&db);
    app.batch_execute("SELECT chatbot_embed_source(1, 'document', 9, '\u{1f389}')").unwrap();
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(1, 'refunds', 10)"), 4);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(1, '')"), 0);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(1, '\u{1f389}')"), 0);
}

#[test]
fn a_search_writes_nothing() {
    let db = Db::new();
    embed_shop_texts(&db);
    let mut reader = db.session("reader");
    let mut tx = reader.build_transaction().read_only(true).start().unwrap();
    assert_eq!(tx.query("SELECT * FROM chatbot_search(1, 'refunds')", &[]).unwrap().len(), 4);
    assert_eq!(tx.query("SELECT * FROM chatbot_chunk('refunds')", &[]).unwrap().len(), 1);
    tx.query("SELECT chatbot_embed('refunds')", &[]).unwrap();
    let none = "SELECT pg_current_xact_id_if_assigned() IS NULL";
    assert!(tx.query_one(none, &[]).unwrap().get::<_, bool>(0));
}

#[test]
fn an_empty_database_answers_nothing_without_error() {
    let db = Db::new();
    let mut reader = db.session("reader");
    assert_eq!(query_value::<i64>(&mut reader, "SELECT count(*) FROM chatbot_search(1, 'refunds')"), 0);
}

/// Returns the source ids of the result, best first.
fn found_sources(client: &mut postgres::Client, query: &str, rest: &str) -> Vec<i64> {
    query_column(client, &format!("SELECT source_id FROM chatbot_search(1, $q${query}$q${rest})"))
}

#[test]
fn codes_and_names_are_found() {
    let db = Db::new();
    let app = &mut db.session("app");
    for (id, text) in [
        (1, "If the display shows E-4711, switch the machine off and on again."),
        (2, "If the display shows E-4712, call the service."),
        (3, "Order number 2024/0815 was sent to Mr. Quux."),
        (4, "Switch the machine off before you open the display."),
    ] {
        app.execute("SELECT chatbot_embed_source(1, 'document', $1, $2)", &[&i64::from(id), &text]).unwrap();
    }
    for mode in ["hybrid", "text"] {
        for (query, best) in [("E-4711", 1), ("4712", 2), ("error e-4712?", 2), ("Quux", 3), ("order 0815", 3)] {
            assert_eq!(found_sources(app, query, &format!(", 5, mode => '{mode}'"))[0], best, "{mode} {query}");
        }
    }
    // Words that are in all chunks count for little, and those that are in none for nothing.
    assert_eq!(found_sources(app, "the display of the E-4711 zzz", "")[0], 1);
    let scores = "SELECT similarity IS NULL AND score > 0 FROM chatbot_search(1, 'E-4711', 1, mode => 'text')";
    assert!(query_value::<bool>(app, scores));
    let fused = "SELECT abs(score - (0.6 * similarity + 0.4)) < 1e-6 FROM chatbot_search(1, 'E-4711', 1)";
    assert!(query_value::<bool>(app, fused));
}

#[test]
fn a_phrase_of_the_query_goes_before_its_words_apart() {
    let db = Db::new();
    let app = &mut db.session("app");
    // Two texts of the same words in another order each: same vectors, same BM25 scores.
    for (chatbot, lang, query, apart, phrase) in [
        (
            1,
            "en",
            "Where are sender addresses?",
            "A sender writes each message, and then the server looks for the right address.",
            "Each message, and then the right sender address, looks for the server: a writes.",
        ),
        (
            2,
            "de",
            "Absender der Adressen",
            "Der Absender schreibt, dann sucht der Server lange nach einer Adresse.",
            "Einer der Absender Adresse sucht lange nach der Server, dann schreibt.",
        ),
        (3, "ja", "東京都", "京都と大阪は遠い。東京も。", "東京都と大阪は遠い。京も。"),
    ] {
        for (id, text) in [(1, apart), (2, phrase)] {
            let sql = "SELECT chatbot_embed_source($1, 'document', $2, $3, jsonb_build_object('lang', $4::text))";
            app.execute(sql, &[&i64::from(chatbot), &i64::from(id), &text, &lang]).unwrap();
        }
        // However many languages the chatbot has; the names of these configurations come before those of the query's.
        for (id, lang) in [(3, "ar"), (4, "hy"), (5, "eu"), (6, "ca")] {
            let sql = "SELECT chatbot_embed_source($1, 'document', $2, '1234', jsonb_build_object('lang', $3::text))";
            app.execute(sql, &[&i64::from(chatbot), &i64::from(id), &lang]).unwrap();
        }
        let found = format!("SELECT source_id FROM chatbot_search({chatbot}, '{query}', 2)");
        assert_eq!(query_column::<i64>(app, &found), [2, 1], "{query}");
    }
    // A title is read as a part of each chunk.
    for (id, title) in [(1, "Address lists; the sender"), (2, "The sender address; lists")] {
        let sql =
            "SELECT chatbot_embed_source(4, 'document', $1, 'Kept for a year.', jsonb_build_object('title', $2::text))";
        app.execute(sql, &[&i64::from(id), &title]).unwrap();
    }
    assert_eq!(query_column::<i64>(app, "SELECT source_id FROM chatbot_search(4, 'sender address')"), [2, 1]);
    let same =
        "SELECT max(similarity) - min(similarity) < 1e-6 FROM chatbot_search(1, 'Where are sender addresses?', 2)";
    assert!(query_value::<bool>(app, same));
    let best = "SELECT abs(score - (0.6 * similarity + 0.4)) < 1e-6 FROM chatbot_search(1, 'sender addresses', 1)";
    assert!(query_value::<bool>(app, best));
}

#[test]
fn every_text_is_a_valid_query() {
    let db = Db::new();
    let mut app = embed_shop_texts(&db);
    let strange = ["'", r"\", "a & | !", ":*", "<->", r"refund's \'x", "((", "\u{1f389} '", "%_", "''", "0x -- /*"];
    for query in strange {
        for mode in ["hybrid", "vector", "text"] {
            found_sources(&mut app, query, &format!(", mode => '{mode}'"));
        }
    }
    found_sources(&mut app, &"word ".repeat(50_000), "");
    assert_eq!(found_sources(&mut app, "", ", mode => 'text'"), [0i64; 0]);
}

#[test]
fn terms_follow_the_language_of_their_source() {
    let db = Db::new();
    let mut app = embed_shop_texts(&db);
    let text = |app: &mut postgres::Client, query: &str| found_sources(app, query, ", mode => 'text'");
    // The metadata of these sources has the languages "en" and "fr".
    assert_eq!(text(&mut app, "refund parcels"), [1]);
    assert_eq!(text(&mut app, "rembourser"), [4]);
    // With another language the terms are made again, and nothing is embedded.
    let german = r#"SELECT embeddings_reused FROM chatbot_embed_source(1, 'document', 1,
        'Refunds are paid within ten days of the parcel''s return.', '{"lang": "xx"}')"#;
    assert_eq!(query_value::<i32>(&mut app, german), 1);
    assert_eq!(text(&mut app, "refund"), [0i64; 0]);
    assert_eq!(text(&mut app, "refunds"), [1]);
    app.batch_execute("SET chatbot_sync.text_search_config = 'english'").unwrap();
    app.batch_execute("SELECT chatbot_embed_source(1, 'document', 7, 'Vouchers expire.')").unwrap();
    assert_eq!(text(&mut app, "expiring voucher"), [7]);
    let mut admin = db.other();
    admin
        .batch_execute(
            "CREATE SCHEMA \"My shop\";
            GRANT USAGE ON SCHEMA \"My shop\" TO app;
            CREATE TEXT SEARCH CONFIGURATION public.mine (COPY = english);
            CREATE TEXT SEARCH CONFIGURATION \"My shop\".\"Mine\" (COPY = english)",
        )
        .unwrap();
    let names = [
        ("public.mine", "public.mine"),
        ("Public.MINE", "public.mine"),
        ("My shop.Mine", "\"My shop\".\"Mine\""),
        ("\"My shop\".\"Mine\"", "\"My shop\".\"Mine\""),
        ("pg_catalog.english", "pg_catalog.english"),
        ("English", "pg_catalog.english"),
    ];
    for (name, expected) in names {
        app.execute("SELECT set_config('chatbot_sync.text_search_config', $1, false)", &[&name]).unwrap();
        app.batch_execute("SELECT chatbot_embed_source(1, 'document', 9, 'Coupons expire, by ' || current_setting('chatbot_sync.text_search_config'))").unwrap();
        let read_with = "SELECT text_search_configs[1] FROM chatbot_sync.source WHERE source_id = 9";
        assert_eq!(query_value::<String>(&mut app, read_with), expected, "{name}");
        assert_eq!(text(&mut app, "coupon"), [9], "{name}");
    }
    app.batch_execute("SET chatbot_sync.text_search_config = 'klingon'").unwrap();
    let refused = super::harness::expect_error(&mut app, "SELECT chatbot_embed_source(1, 'document', 8, 'x')");
    assert_eq!(refused.code, "22023");
}

#[test]
fn results_per_source_can_be_limited() {
    let db = Db::new();
    let mut app = db.session("app");
    app.execute("SELECT chatbot_embed_source(1, 'document', 1, $1)", &[&super::harness::prose(300)]).unwrap();
    app.batch_execute("SELECT chatbot_embed_source(1, 'document', 2, 'A short text about a number.')").unwrap();
    let found = found_sources(&mut app, "Which sentence tells about number 370?", ", 10, mode => 'text'");
    assert!(found.iter().filter(|id| **id == 1).count() >= 9);
    app.batch_execute("SET chatbot_sync.max_results_per_source = 2").unwrap();
    let mut found = found_sources(&mut app, "Which sentence tells about the number?", ", 10");
    found.sort_unstable();
    assert_eq!(found, [1, 1, 2]);
}

#[test]
fn filters_hold_for_word_matches() {
    let db = Db::new();
    let mut app = embed_shop_texts(&db);
    for mode in ["hybrid", "text"] {
        let with = |app: &mut postgres::Client, rest: &str| {
            found_sources(app, "refunds remboursement moon", &format!(", mode => '{mode}', {rest}"))
        };
        assert!(with(&mut app, "source_types => '{link}'").iter().all(|id| [3, 4].contains(id)));
        assert_eq!(with(&mut app, r#"metadata_filter => '{"lang": "fr"}'"#), [4]);
    }
    assert_eq!(found_sources(&mut app, "refunds", ", min_similarity => 0.3"), [1]);
    // A word of another chatbot does not match.
    assert_eq!(found_sources(&mut app, "year", ", mode => 'text'"), [0i64; 0]);
}

/// The search that Citus runs on a node's shards works in the same way on the tables themselves.
#[test]
fn a_search_of_named_tables_returns_the_same_and_refuses_other_tables() {
    let mut db = Db::new();
    db.session("app")
        .batch_execute("SELECT chatbot_embed_source(1, 'document', i, 'Text ' || i) FROM generate_series(1, 20) AS i")
        .unwrap();
    let search = |embedding: &str, mode: &str, dimensions: i32| {
        format!(
            r#"SELECT s::text FROM chatbot_sync.search_in('{embedding}'::regclass, 'chatbot_sync.source'::regclass,
                '{{"filter": {{"chatbot_id": 1, "source_types": ["document"]}}, "model_id": 1, "dimensions": {dimensions}, "query": "Text 7",
                "limit": 5, "min_similarity": 0.1, "mode": "{mode}", "exact_limit": 5000, "most_per_source": 1}}',
                NULL, chatbot_embed('Text 7', 'query')::real[]) AS s"#
        )
    };
    db.admin.batch_execute("SET chatbot_sync.max_results_per_source = 1").unwrap();
    for mode in ["Vector", "Hybrid"] {
        let here = format!(
            "SELECT s::text FROM chatbot_search(1, 'Text 7', 5, '{{document}}', NULL, 0.1, lower('{mode}')) AS s"
        );
        let here = query_column::<String>(&mut db.admin, &here);
        assert_eq!(here.len(), 5);
        assert_eq!(query_column::<String>(&mut db.admin, &search("chatbot_sync.embedding", mode, 256)), here, "{mode}");
    }
    for table in ["pg_class", "chatbot_sync.source", "chatbot_sync.embedding_pkey"] {
        assert_eq!(expect_error(&mut db.admin, &search(table, "Vector", 256)).code, "XX000", "{table}");
    }
    assert_eq!(expect_error(&mut db.session("boss"), &search("chatbot_sync.embedding", "Vector", 256)).code, "42501");
}

#[test]
fn question_in_another_language_finds_the_text() {
    let db = Db::new();
    let mut app = embed_shop_texts(&db);
    for (question, source) in [
        ("Wie bekomme ich mein Geld zurück?", 1),
        ("Когда открыт офис?", 2),
        ("月亮绕地球", 3),
        ("¿A qué hora abre la oficina?", 2),
    ] {
        for mode in ["vector", "hybrid"] {
            let rest = format!(", mode => '{mode}', metadata_filter => '{{\"lang\": \"en\"}}'");
            assert_eq!(found_sources(&mut app, question, &rest)[0], source, "{mode} {question}");
        }
    }
}

#[test]
fn hybrid_goes_by_words_in_a_language_that_the_model_does_not_know() {
    let db = Db::new();
    db.session("boss").batch_execute("SELECT chatbot_set_model('local', 'minilm-static-256')").unwrap();
    let mut app = db.session("app");
    for (id, text) in [
        (1, "Возврат денег занимает десять дней."),
        (2, "Офис открыт с девяти до пяти."),
        (3, "Луна обращается вокруг Земли за месяц."),
    ] {
        app.execute("SELECT chatbot_embed_source(1, 'document', $1, $2)", &[&i64::from(id), &text]).unwrap();
    }
    for (question, source) in [("возврат денег", 1), ("офис открыт", 2), ("луна вокруг земли", 3)]
    {
        assert_eq!(found_sources(&mut app, question, "")[0], source, "{question}");
        let score = format!("SELECT score FROM chatbot_search(1, '{question}', 1)");
        assert!((query_value::<f32>(&mut app, &score) - 1.0).abs() < 1e-6, "{question}");
    }
}
