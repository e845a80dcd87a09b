//! Words in every language: how texts are read, in which language, and what a query finds then.

use postgres::Client;

use super::harness::{Db, EXTENSION, attached_documents, query_column, query_value};
use super::host_refresh::embedded_texts;

fn embed(client: &mut Client, id: i64, text: &str) {
    client.execute("SELECT chatbot_embed_source(1, 'document', $1, $2)", &[&id, &text]).unwrap();
}

/// The sources with words of a query, best first.
fn found(client: &mut Client, query: &str) -> Vec<i64> {
    query_column(client, &format!("SELECT source_id FROM chatbot_search(1, $q${query}$q$, mode => 'text')"))
}

/// Texts that Postgres' own parser reads otherwise in some locales or in all, and queries that find them.
const WRITTEN: [(i64, &str, &[&str]); 12] = [
    (1, "Our “vouchers” expire in May.", &["vouchers", "voucher", "VOUCHERS"]),
    (2, "We grant refunds—always.", &["refunds", "always"]),
    (3, "Return it within 30\u{a0}days, please.", &["30", "days"]),
    (4, "ÄPFEL und Birnen werden täglich geliefert.", &["Äpfel", "äpfel", "apfel"]),
    (5, "\u{feff}Invoices have a num\u{ad}ber and a zero\u{200b}width mark.", &["invoices", "number", "zerowidth"]),
    (6, "東京都の水道料金は毎月請求されます。", &["水道料金", "東京", "水"]),
    (7, "Сегодня посылка с мёдом доставлена покупателю.", &["мед", "мёд", "посылки", "ПОСЫЛКА"]),
    (8, "Contact sales@example.com or call E-4711.", &["sales@example.com", "4711", "e4711", "E-4711"]),
    (9, "Le café de l’hôtel rembourse les clients réguliers.", &["cafe", "café", "hotel", "HÔTEL"]),
    (10, "ｶﾞｽの料金はＡＢＣに支払う。", &["ガス", "abc"]),
    (11, "Cước vận chuyển được hoàn trả trong mười ngày.", &["van chuyen", "vận chuyển"]),
    (12, "สินค้าจะถูกจัดส่งภายในสามวัน", &["จัดส่ง"]),
];

fn finds_all(client: &mut Client) {
    for (id, text, _) in WRITTEN {
        embed(client, id, text);
    }
    for (id, text, queries) in WRITTEN {
        for query in queries {
            assert_eq!(found(client, query).first(), Some(&id), "{query} in {text}");
        }
    }
}

#[test]
fn texts_are_found_as_people_write() {
    finds_all(&mut Db::new().session("app"));
}

#[test]
fn texts_are_found_in_a_database_of_any_locale() {
    let mut db = Db::new();
    for (name, locale) in
        [("locale_c", "LC_CTYPE 'C' LC_COLLATE 'C'"), ("locale_icu", "LOCALE_PROVIDER icu ICU_LOCALE 'en'")]
    {
        let made =
            db.admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' {locale}"));
        if let Err(error) = made {
            // A server that was built without ICU, or before Postgres 15.
            assert_eq!(name, "locale_icu", "{error}");
            println!("not tested with {locale}: {error}");
            continue;
        }
        let mut other = db.in_database(name);
        other.admin.batch_execute(EXTENSION).unwrap();
        finds_all(&mut other.session("app"));
    }
}

#[test]
fn a_text_with_the_tones_of_a_vietnamese_query_is_found_first() {
    let db = Db::new();
    let app = &mut db.session("app");
    embed(app, 1, "Ban muon sach o thu vien.");
    embed(app, 2, "Bản mướn sạch ở thứ viện.");
    embed(app, 3, "Bạn mượn sách ở thư viện.");
    assert_eq!(found(app, "Bạn mượn sách ở thư viện?")[0], 3);
    assert_eq!(found(app, "Bản mướn sạch ở thứ viện?")[0], 2);
    assert_eq!(found(app, "Bạn mượn sách ở thư viện?").len(), 3);
    assert_eq!(found(app, "ban muon sach").len(), 3);
}

#[test]
fn words_of_the_version_before_are_found_until_they_are_read_anew() {
    let mut db = Db::new();
    let app = &mut db.session("app");
    embed(app, 1, "Cước vận chuyển được hoàn trả trong mười ngày sau khi nhận hàng.");
    embed(app, 2, "Refunds are paid within ten days of the parcel's return.");
    let words = "SELECT words::text FROM chatbot_sync.embedding WHERE source_id = 1";
    let with_tones = query_value::<String>(&mut db.admin, words);
    // Lexemes of the version before had no tones.
    db.admin
        .batch_execute(
            "UPDATE chatbot_sync.source SET chunking[6] = 2;
            UPDATE chatbot_sync.embedding
            SET words = 'chuyen cuoc duoc hang hoan khi muoi ngay nhan sau tra trong van'
            WHERE source_id = 1",
        )
        .unwrap();
    for (query, id) in [("vận chuyển", 1), ("van chuyen", 1), ("refunding", 2)] {
        assert_eq!(found(app, query), [id], "{query}");
    }
    app.batch_execute("CALL chatbot_sync_all(refresh => true)").unwrap();
    assert_eq!(query_value::<String>(&mut db.admin, words), with_tones);
    assert!(with_tones.contains("'van'") && with_tones.contains("'vận'"), "{with_tones}");
}

#[test]
fn the_language_of_a_source_is_said_or_detected() {
    let db = Db::new();
    let app = &mut db.session("app");
    embed(app, 1, "Refunds are paid within ten days of the parcel's return.");
    embed(app, 2, "Die Rückzahlung erfolgt innerhalb von zehn Tagen nach der Rücksendung.");
    embed(app, 3, "E-4711");
    let french = r#"SELECT chatbot_embed_source(1, 'document', 4, 'Refunds are paid.', '{"lang": "fr_FR"}')"#;
    app.batch_execute(french).unwrap();
    app.batch_execute("SET chatbot_sync.text_search_config = 'spanish'").unwrap();
    embed(app, 5, "Refunds are paid within ten days of the parcel's return.");
    app.batch_execute(&french.replace("4,", "6,")).unwrap();
    let read = "SELECT concat_ws(' ', lang, text_search_configs::text) FROM chatbot_sync.source ORDER BY source_id";
    assert_eq!(
        query_column::<String>(app, read),
        [
            "en {pg_catalog.english}",
            "de {pg_catalog.german}",
            "und {pg_catalog.simple}",
            "fr_FR {pg_catalog.french}",
            "{pg_catalog.spanish}",
            "fr_FR {pg_catalog.french}"
        ]
    );
}

#[test]
fn each_chunk_is_read_in_its_own_language() {
    let db = Db::new();
    let app = &mut db.session("app");
    app.batch_execute("SET chatbot_sync.chunk_size = 200; SET chatbot_sync.chunk_overlap = 0").unwrap();
    let german = "Die Rückzahlungen erfolgen innerhalb von zehn Tagen nach der Rücksendung der Pakete an unser Lager in der Stadt.";
    let english =
        "Refunds are paid within ten days of the return of all parcels to our store, if nothing of them is missing.";
    embed(app, 1, &format!("{german}\n\n{german}\n\n{english}"));
    let read = "SELECT lang || ' ' || array_to_string(text_search_configs, ' ') FROM chatbot_sync.source";
    assert_eq!(query_value::<String>(app, read), "de pg_catalog.german pg_catalog.english");
    assert_eq!((found(app, "refunding").len(), found(app, "rückzahlung").len()), (1, 2));
}

#[test]
fn a_query_is_read_in_every_language_of_its_chatbot() {
    let db = Db::new();
    let app = &mut db.session("app");
    embed(app, 1, "Refunds are paid within ten days of the parcel's return.");
    embed(app, 2, "Die Rechnungen werden innerhalb von zehn Tagen an die Kunden geschickt.");
    embed(app, 3, "Les remboursements sont effectués sous dix jours après le retour du colis.");
    embed(app, 4, "The plants die within ten days if nobody waters them in the garden.");
    for (query, id) in [("refunding", 1), ("Rechnung", 2), ("remboursement", 3), ("dying plant", 4), ("die", 4)] {
        assert_eq!(found(app, query), [id], "{query}");
    }
    // "die" is no word of a German question.
    assert_eq!(found(app, "Wie bezahle ich die Rechnung?"), [2]);
    // Two words of a question, each in two languages, are not found twice as well as one.
    let score = "SELECT score FROM chatbot_search(1, 'parcel', 1, mode => 'text')";
    let alone = query_value::<f32>(app, score);
    embed(app, 3, "");
    embed(app, 2, "");
    assert!(query_value::<f32>(app, score) < alone);
}

#[test]
fn words_that_an_older_version_read_are_found_until_they_are_read_anew() {
    let mut db = Db::new();
    let app = &mut db.session("app");
    let text = "Études de marché: l'entrepôt E-4711 expédie les colis 東京都の水道.";
    let embed = |app: &mut Client| {
        let sql = r#"SELECT embeddings_reused FROM chatbot_embed_source(1, 'document', 1, $1, '{"lang": "fr"}')"#;
        app.query_one(sql, &[&text]).unwrap().get::<_, i32>(0)
    };
    embed(app);
    db.admin
        .batch_execute(
            "UPDATE chatbot_sync.source SET lang = NULL, chunking = chunking[1:5];
            UPDATE chatbot_sync.embedding SET words = to_tsvector('french', translate(content, '''-_/\\.:@#', '        '))",
        )
        .unwrap();
    for query in ["études", "entrepôt", "4711", "expédie", "東京都の水道"] {
        assert_eq!(found(app, query), [1], "{query}");
    }
    assert_eq!(found(app, "水道"), [0i64; 0]);
    // Nothing has changed but how words are read.
    assert_eq!(embed(app), 1);
    for query in ["études", "etude", "entrepot", "4711", "e4711", "expedie", "水道", "水"] {
        assert_eq!(found(app, query), [1], "{query}");
    }
    assert_eq!(query_value::<String>(app, "SELECT lang || chunking[6] FROM chatbot_sync.source"), "fr3");
}

#[test]
fn words_of_an_older_version_are_counted_and_read_anew_without_embedding() {
    let (mut db, mock, mut app) = attached_documents();
    app.batch_execute(
        r#"INSERT INTO documents (chatbot_id, content) VALUES (1, '東京の水道料金は毎月請求されます。'), (1, 'Die Rückzahlungen erfolgen bald.');
        SELECT chatbot_embed_source(1, 'document', 901, 'Les colis sont expédiés chaque jour à nos clients.')"#,
    )
    .unwrap();
    db.admin
        .batch_execute(
            "UPDATE chatbot_sync.source SET lang = NULL, text_search_configs = '{pg_catalog.simple}', chunking = chunking[1:5];
            UPDATE chatbot_sync.embedding SET words = to_tsvector('simple', content)",
        )
        .unwrap();
    let before = embedded_texts(&mock);
    let waiting = "SELECT detail FROM chatbot_doctor() WHERE check_name = 'outdated sources'";
    assert!(query_value::<String>(&mut app, waiting).starts_with("3 sources "));
    assert_eq!((found(&mut app, "水道").len(), found(&mut app, "Rückzahlungen").len()), (0, 1));
    app.batch_execute("CALL chatbot_sync_all(refresh => true)").unwrap();
    for (query, id) in [("水道", 1), ("rückzahlung", 2), ("expedie", 901)] {
        assert_eq!(found(&mut app, query), [id], "{query}");
    }
    assert_eq!((embedded_texts(&mock), query_column::<String>(&mut app, waiting)), (before, vec![]));
    let langs = "SELECT lang FROM chatbot_sync.source ORDER BY source_id";
    assert_eq!(query_column::<String>(&mut app, langs), ["ja", "de", "fr"]);
}

#[test]
fn a_language_that_is_said_later_is_read_in() {
    let (_db, mock, mut app) = attached_documents();
    app.batch_execute("ALTER TABLE documents ADD COLUMN lang text, ADD COLUMN shown boolean DEFAULT true").unwrap();
    app.batch_execute(
        "SELECT chatbot_detach('documents');
        SELECT chatbot_attach('documents', 'document', metadata_columns => '{lang}', enabled_column => 'shown');
        INSERT INTO documents (chatbot_id, content) VALUES (1, 'Die Rückzahlungen erfolgen bald nach der Rücksendung.')",
    )
    .unwrap();
    let before = embedded_texts(&mock);
    let read = "SELECT concat_ws(' ', lang, text_search_configs::text) FROM chatbot_sync.source";
    let german = "de {pg_catalog.german}";
    assert_eq!(query_value::<String>(&mut app, read), german);
    app.batch_execute("UPDATE documents SET lang = 'nl'").unwrap();
    assert_eq!(query_value::<String>(&mut app, read), "nl {pg_catalog.dutch}");
    app.batch_execute("UPDATE documents SET lang = NULL").unwrap();
    assert_eq!(query_value::<String>(&mut app, read), german);
    // Of one that no search finds meanwhile, too.
    app.batch_execute("UPDATE documents SET lang = 'nl'").unwrap();
    app.batch_execute("UPDATE documents SET lang = NULL, shown = false; UPDATE documents SET shown = true").unwrap();
    assert_eq!(query_value::<String>(&mut app, read), german);
    assert_eq!(embedded_texts(&mock), before);
}

#[test]
fn the_doctor_says_that_a_model_does_not_know_most_languages() {
    let db = Db::new();
    let (mut app, mut boss) = (db.session("app"), db.session("boss"));
    let check = "SELECT concat_ws(' | ', status, detail, hint) FROM chatbot_doctor() WHERE check_name = 'languages'";
    let model = "SELECT chatbot_set_model('local', 'multilingual-static-256')";
    boss.batch_execute("SELECT chatbot_set_model('local', 'minilm-static-256')").unwrap();
    embed(&mut app, 1, "Refunds are paid within ten days of the parcel's return.");
    embed(&mut app, 2, "Die Rückzahlung erfolgt innerhalb von zehn Tagen nach der Rücksendung.");
    assert_eq!(query_column::<String>(&mut app, check), [""; 0]);
    embed(&mut app, 3, "Le remboursement est effectué sous dix jours après le retour du colis.");
    assert_eq!(
        query_value::<String>(&mut app, check),
        "warning | 2 of 3 sources are in languages that the model minilm-static-256 does not know (de, fr): they are found by their words alone \
        | SELECT chatbot_set_model('local', 'multilingual-static-256'); and CALL chatbot_reembed();"
    );
    boss.batch_execute(&format!("{model}; CALL chatbot_reembed()")).unwrap();
    assert_eq!(query_column::<String>(&mut app, check), [""; 0]);
    // One that no built-in model knows, by how it is said.
    for id in 4..8 {
        let sql = r#"SELECT chatbot_embed_source(1, 'document', $1, 'रिफ़ंड दस दिनों में।', '{"lang": "hi_IN"}')"#;
        app.execute(sql, &[&i64::from(id)]).unwrap();
    }
    let said = query_value::<String>(&mut app, check);
    assert!(said.contains("4 of 7 sources") && said.contains("(hi)") && said.contains("No built-in model"), "{said}");
}

#[test]
fn a_configuration_of_the_databases_own_reads_words() {
    let mut db = Db::new();
    let app = &mut db.session("app");
    db.admin
        .batch_execute(
            "CREATE TEXT SEARCH DICTIONARY public.exact (TEMPLATE = simple);
            CREATE TEXT SEARCH CONFIGURATION public.mine (COPY = english);
            ALTER TEXT SEARCH CONFIGURATION public.mine ALTER MAPPING FOR asciiword WITH exact;
            ALTER TEXT SEARCH CONFIGURATION public.mine DROP MAPPING FOR uint",
        )
        .unwrap();
    app.batch_execute("SET chatbot_sync.text_search_config = 'mine'").unwrap();
    embed(app, 1, "The refunds of 2024 are paid.");
    assert_eq!((found(app, "refunds"), found(app, "refund")), (vec![1], vec![]));
    assert_eq!(found(app, "2024"), [0i64; 0]);
    // Sessions that are open notice a change.
    db.admin
        .batch_execute("ALTER TEXT SEARCH CONFIGURATION public.mine ALTER MAPPING FOR asciiword WITH english_stem")
        .unwrap();
    embed(app, 2, "More refunds are paid.");
    assert_eq!(found(app, "refund"), [2]);
}

#[test]
fn what_is_stored_is_a_tsvector_of_postgres() {
    let mut db = Db::new();
    let app = &mut db.session("app");
    embed(app, 1, "Refunds are paid within ten days, and refunds of E-4711 later; the café pays.");
    let words = "SELECT words::text FROM chatbot_sync.embedding";
    let stored = query_value::<String>(&mut db.admin, words);
    for lexeme in ["'refund':1,8", "'4711' ", "'e4711' ", "'cafe' ", "'paid' "] {
        assert!(stored.contains(lexeme), "{lexeme}: {stored}");
    }
    // Postgres reads it back as it is, and finds in it by its own order of lexemes.
    assert!(query_value::<bool>(
        &mut db.admin,
        "SELECT bool_and(words = words::text::tsvector) FROM chatbot_sync.embedding"
    ));
    let each = "SELECT bool_and(words @@ quote_literal(lexeme)::tsquery) FROM chatbot_sync.embedding, unnest(words)";
    assert!(query_value::<bool>(&mut db.admin, each));
}
