//! Sources in the caller's transaction: embedded, edited, moved and deleted, with vectors that belong to the
//! transaction and an edit that costs only what changed.

use postgres::IsolationLevel;

use super::harness::{Db, expect_error, prose, query_column, query_value, snapshot_of_all_tables, wait_for_lock};

const EMBED: &str = "SELECT status, chunks_created, embeddings_count, embeddings_reused, truncated
    FROM chatbot_embed_source($1, 'document', $2, $3, $4)";

fn embed_source(client: &mut impl postgres::GenericClient, chatbot: i64, id: i64, text: &str) -> (i32, i32) {
    let metadata: Option<String> = Some("{}".to_owned());
    let sql = EMBED.replace("$4", "$4::text::jsonb");
    let row = client.query_one(&sql, &[&chatbot, &id, &text, &metadata]).unwrap();
    assert_eq!(row.get::<_, &str>(0), "success");
    assert_eq!(row.get::<_, i32>(1), row.get::<_, i32>(2));
    (row.get(2), row.get(3))
}

#[test]
fn a_new_source_is_stored_completely() {
    let db = Db::new();
    let mut app = db.session("app");
    let text = prose(100);
    let (chunks, reused) = embed_source(&mut app, 1, 7, &text);
    assert!(chunks > 5);
    assert_eq!(reused, 0);
    let sql = "SELECT count(*) FROM chatbot_sync.embedding e JOIN chatbot_chunk($$TEXT$$) c USING (chunk_index)
        WHERE e.content = c.content AND e.start_offset = c.start_offset AND e.end_offset = c.end_offset
            AND e.content = substr($$TEXT$$, e.start_offset + 1, e.end_offset - e.start_offset)
            AND e.embedding = chatbot_embed(c.content)"
        .replace("TEXT", &text);
    assert_eq!(query_value::<i64>(&mut app, &sql), i64::from(chunks));
    let state = "SELECT status || ' ' || chunk_count || ' ' || (content_hash = sha256(convert_to($$TEXT$$, 'UTF8')))
        FROM chatbot_sync.source WHERE (chatbot_id, source_type, source_id) = (1, 'document', 7)"
        .replace("TEXT", &text);
    assert_eq!(query_value::<String>(&mut app, &state), format!("synced {chunks} true"));
}

#[test]
fn vectors_belong_to_the_callers_transaction() {
    let db = Db::new();
    let (mut app, mut other) = (db.session("app"), db.session("app"));
    embed_source(&mut app, 1, 1, &prose(50));
    let before = snapshot_of_all_tables(&mut other);
    let mut tx = app.transaction().unwrap();
    embed_source(&mut tx, 1, 1, "Another text about refunds.");
    embed_source(&mut tx, 1, 2, "A second source about parcels.");
    let seen = "SELECT count(*) FROM chatbot_search(1, 'refunds and parcels', 10)";
    assert_eq!(tx.query_one(seen, &[]).unwrap().get::<_, i64>(0), 2);
    assert_eq!(snapshot_of_all_tables(&mut other), before);
    tx.rollback().unwrap();
    assert_eq!(snapshot_of_all_tables(&mut other), before);
}

#[test]
fn rolling_back_to_a_savepoint_restores_the_old_vectors() {
    let db = Db::new();
    let mut app = db.session("app");
    embed_source(&mut app, 1, 1, &prose(50));
    let before = snapshot_of_all_tables(&mut app);
    let mut tx = app.transaction().unwrap();
    let mut inner = tx.savepoint("s").unwrap();
    embed_source(&mut inner, 1, 1, "Another text.");
    inner.rollback().unwrap();
    tx.commit().unwrap();
    assert_eq!(snapshot_of_all_tables(&mut app), before);
}

#[test]
fn an_unchanged_source_is_not_written() {
    let db = Db::new();
    let mut app = db.session("app");
    let text = prose(100);
    let (chunks, _) = embed_source(&mut app, 1, 1, &text);
    let before = snapshot_of_all_tables(&mut app);
    assert_eq!(embed_source(&mut app, 1, 1, &text), (chunks, chunks));
    assert_eq!(snapshot_of_all_tables(&mut app), before);
}

#[test]
fn an_edit_embeds_only_changed_chunks() {
    let db = Db::new();
    let mut app = db.session("app");
    let text = prose(700);
    let (chunks, _) = embed_source(&mut app, 1, 1, &text);
    for (at, new) in [(20, "A sentence that is new at the start. "), (30_000, "Another one amid. "), (45_000, "Late. ")]
    {
        let at = text[at..].find(". ").unwrap() + at + 2;
        let edited = format!("{}{new}{}", &text[..at], &text[at..]);
        let (now, reused) = embed_source(&mut app, 1, 1, &edited);
        assert!(now - reused <= 3, "{} of {now} embedded again", now - reused);
        let shifted = "SELECT count(*) FROM chatbot_sync.embedding
            WHERE content <> substr($$TEXT$$, start_offset + 1, end_offset - start_offset)"
            .replace("TEXT", &edited);
        assert_eq!(query_value::<i64>(&mut app, &shifted), 0);
        let indexes = query_column::<i32>(&mut app, "SELECT chunk_index FROM chatbot_sync.embedding ORDER BY 1");
        assert_eq!(indexes, (0..now).collect::<Vec<_>>());
        assert_eq!(embed_source(&mut app, 1, 1, &text).0, chunks);
    }
}

#[test]
fn unchanged_chunks_are_not_rewritten() {
    let db = Db::new();
    let mut app = db.session("app");
    let text = prose(400);
    embed_source(&mut app, 1, 1, &text);
    let rows = "SELECT content || xmin || ctid FROM chatbot_sync.embedding ORDER BY chunk_index";
    let before = query_column::<String>(&mut app, rows);
    // The replaced word has the same length, so no offset changes.
    let edited = text.replacen("Sentence 200 ", "Sentense 200 ", 1);
    assert_ne!(edited, text);
    let (chunks, reused) = embed_source(&mut app, 1, 1, &edited);
    let after = query_column::<String>(&mut app, rows);
    let same = after.iter().filter(|row| before.contains(row)).count();
    assert!(chunks - reused <= 3 && reused > 10);
    assert_eq!(same, usize::try_from(reused).unwrap());
}

#[test]
fn changed_metadata_costs_no_embedding() {
    let db = Db::new();
    let mut app = db.session("app");
    let sql = |metadata: &str| {
        format!(
            "SELECT embeddings_reused = embeddings_count FROM chatbot_embed_source(1, 'link', 1, $${}$$, '{metadata}')",
            prose(100)
        )
    };
    assert!(!query_value::<bool>(&mut app, &sql(r#"{"lang": "en"}"#)));
    let before =
        query_column::<String>(&mut app, "SELECT embedding::text FROM chatbot_sync.embedding ORDER BY chunk_index");
    assert!(query_value::<bool>(&mut app, &sql(r#"{"lang": "en", "price": 12345678901234567890.123456789}"#)));
    let after =
        query_column::<String>(&mut app, "SELECT embedding::text FROM chatbot_sync.embedding ORDER BY chunk_index");
    assert_eq!(before, after);
    let lost = "SELECT count(*) FROM (SELECT metadata FROM chatbot_sync.embedding UNION ALL
        SELECT metadata FROM chatbot_sync.source) AS m
        WHERE metadata <> '{\"lang\": \"en\", \"price\": 12345678901234567890.123456789}'";
    assert_eq!(query_value::<i64>(&mut app, lost), 0);
}

#[test]
fn metadata_and_text_that_change_together_are_both_stored() {
    let db = Db::new();
    let mut app = db.session("app");
    let text = prose(100);
    embed_source(&mut app, 1, 1, &text);
    app.batch_execute(&format!("SELECT chatbot_embed_source(1, 'document', 1, $$New. {text}$$, '{{\"a\": 1}}')"))
        .unwrap();
    let sql = "SELECT count(*) FROM chatbot_sync.embedding WHERE metadata <> '{\"a\": 1}'";
    assert_eq!(query_value::<i64>(&mut app, sql), 0);
}

#[test]
fn a_truncated_source_is_marked() {
    let db = Db::new();
    let mut app = db.session("app");
    app.batch_execute("SET chatbot_sync.max_chunks = 3").unwrap();
    let sql = format!("SELECT truncated FROM chatbot_embed_source(1, 'document', 1, $${}$$)", prose(200));
    assert!(query_value::<bool>(&mut app, &sql));
    assert!(query_value::<bool>(&mut app, &sql));
    assert!(query_value::<bool>(&mut app, "SELECT truncated AND chunk_count = 3 FROM chatbot_sync.source"));
    app.batch_execute("RESET chatbot_sync.max_chunks").unwrap();
    assert!(!query_value::<bool>(&mut app, &sql));
}

#[test]
fn changed_chunk_settings_are_noticed() {
    let db = Db::new();
    let mut app = db.session("app");
    let text = prose(60);
    let (chunks, _) = embed_source(&mut app, 1, 1, &text);
    app.batch_execute("SET chatbot_sync.chunk_size = 300; SET chatbot_sync.chunk_overlap = 40").unwrap();
    let (smaller, _) = embed_source(&mut app, 1, 1, &text);
    assert!(smaller > 2 * chunks);
    let longest = "SELECT max(length(content)) FROM chatbot_sync.embedding";
    assert!(query_value::<i32>(&mut app, longest) <= 300);
}

#[test]
fn blank_content_is_a_source_without_chunks() {
    let db = Db::new();
    let mut app = db.session("app");
    embed_source(&mut app, 1, 1, &prose(20));
    assert_eq!(embed_source(&mut app, 1, 1, " \n\t"), (0, 0));
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.embedding"), 0);
    assert_eq!(query_value::<String>(&mut app, "SELECT status FROM chatbot_sync.source"), "synced");
    assert_eq!(embed_source(&mut app, 1, 2, ""), (0, 0));
}

#[test]
fn the_same_text_twice_in_a_source_is_two_chunks() {
    let db = Db::new();
    let mut app = db.session("app");
    app.batch_execute("SET chatbot_sync.chunk_size = 40; SET chatbot_sync.chunk_overlap = 0").unwrap();
    let text = "The same line of text again.\n\n".repeat(5);
    assert_eq!(embed_source(&mut app, 1, 1, &text), (5, 0));
    assert_eq!(embed_source(&mut app, 1, 1, &text[30..]), (4, 4));
    assert_eq!(embed_source(&mut app, 1, 1, &format!("{text}Another line that comes after.")), (6, 4));
}

#[test]
fn a_deleted_source_is_not_found() {
    let db = Db::new();
    let mut app = db.session("app");
    let (chunks, _) = embed_source(&mut app, 1, 1, &prose(40));
    embed_source(&mut app, 1, 2, "Another source stays.");
    let sql = "SELECT status || ' ' || deleted_count FROM chatbot_delete_source(1, 'document', 1)";
    assert_eq!(query_value::<String>(&mut app, sql), format!("success {chunks}"));
    assert_eq!(query_value::<String>(&mut app, sql), "not_found 0");
    assert_eq!(query_column::<i64>(&mut app, "SELECT DISTINCT source_id FROM chatbot_sync.embedding"), [2]);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 1);
}

#[test]
fn cleanup_deletes_all_of_one_chatbot_only() {
    let db = Db::new();
    let mut app = db.session("app");
    let (chunks, _) = embed_source(&mut app, 1, 1, &prose(40));
    embed_source(&mut app, 2, 1, "Of another chatbot.");
    app.batch_execute("SELECT chatbot_session_add_message(chatbot_session_open(1), 'user', 'Hello')").unwrap();
    app.batch_execute("SELECT chatbot_session_open(2)").unwrap();
    let sql = "SELECT status || ' ' || chatbot_id || ' ' || embeddings_deleted || ' ' || sessions_deleted FROM chatbot_cleanup(1)";
    assert_eq!(query_value::<String>(&mut app, sql), format!("success 1 {chunks} 1"));
    assert_eq!(query_value::<String>(&mut app, sql), "success 1 0 0");
    for table in ["source", "embedding", "session", "message"] {
        let left = query_column::<i64>(&mut app, &format!("SELECT chatbot_id FROM chatbot_sync.{table}"));
        assert!(left.iter().all(|id| *id == 2), "{table}");
    }
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.embedding"), 1);
}

#[test]
fn two_sessions_that_make_one_source_never_mix_chunks() {
    let db = Db::new();
    let (mut first, mut second) = (db.session("app"), db.session("app"));
    let mut watcher = db.other();
    let pid: i32 = query_value(&mut second, "SELECT pg_backend_pid()");
    let mut tx = first.transaction().unwrap();
    embed_source(&mut tx, 1, 1, &prose(50));
    let text = prose(60).replace("tells", "says");
    let expected = text.clone();
    let waiting = std::thread::spawn(move || embed_source(&mut second, 1, 1, &text));
    wait_for_lock(&mut watcher, pid);
    tx.commit().unwrap();
    let (chunks, reused) = waiting.join().unwrap();
    assert_eq!(reused, 0);
    let sql = "SELECT count(*) FROM chatbot_sync.embedding JOIN chatbot_chunk($$TEXT$$) c USING (chunk_index, content)"
        .replace("TEXT", &expected);
    assert_eq!(query_value::<i64>(&mut first, &sql), i64::from(chunks));
    assert_eq!(query_value::<i64>(&mut first, "SELECT count(*) FROM chatbot_sync.embedding"), i64::from(chunks));
}

#[test]
fn repeatable_read_conflicts_only_with_a_newer_write_of_the_same_source() {
    let db = Db::new();
    let (mut first, mut second) = (db.session("app"), db.session("app"));
    embed_source(&mut first, 1, 1, "One text.");
    let mut old = second.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().unwrap();
    old.query_one("SELECT count(*) FROM chatbot_sync.source", &[]).unwrap();
    // Another source does not conflict.
    embed_source(&mut first, 1, 2, "Another source.");
    embed_source(&mut old, 1, 3, "A third source.");
    // The same source was written since the snapshot, so only a retry of the transaction can be right.
    embed_source(&mut first, 1, 1, "A newer text.");
    let error = old.query_one(&EMBED.replace("$4", "'{}'"), &[&1i64, &1i64, &"An older text."]).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "40001");
    drop(old);
    assert_eq!(
        query_column::<String>(&mut first, "SELECT content FROM chatbot_sync.embedding ORDER BY source_id"),
        ["A newer text.", "Another source."]
    );
}

/// Statistics of a table that was vacuumed while it was empty say that it is empty. A session that keeps its plans from
/// then would read all of the table for each source that it adds.
#[test]
fn a_growing_table_is_read_by_its_keys() {
    let mut db = Db::new();
    embed_source(&mut db.admin, 1, 1, "A text.");
    db.admin.batch_execute("SELECT chatbot_cleanup(1)").unwrap();
    db.admin.batch_execute("VACUUM ANALYZE chatbot_sync.source, chatbot_sync.embedding").unwrap();
    let mut app = db.session("app");
    let mut tx = app.transaction().unwrap();
    for id in 1..30 {
        embed_source(&mut tx, 1, id, &prose(10));
        embed_source(&mut tx, 1, id, &prose(12));
    }
    tx.execute("SELECT chatbot_delete_source(1, 'document', 1)", &[]).unwrap();
    let scans = "SELECT sum(seq_scan)::bigint FROM pg_stat_xact_all_tables WHERE relname IN ('source', 'embedding')";
    assert_eq!(tx.query_one(scans, &[]).unwrap().get::<_, i64>(0), 0);
}

#[test]
fn every_chunk_has_a_source() {
    let db = Db::new();
    let mut app = db.session("app");
    let sql =
        "INSERT INTO chatbot_sync.embedding (chatbot_id, source_type, source_id, model_id, chunk_id, chunk_index, start_offset, end_offset, content, embedding)
         SELECT 1, 'document', 1, 1, 1, 0, 0, 1, 'x', chatbot_embed('x')";
    assert_eq!(expect_error(&mut app, sql).code, "23503");
}

#[test]
fn a_session_survives_recreating_the_extension() {
    let mut db = Db::new();
    let admin = &mut db.admin;
    embed_source(admin, 1, 1, &prose(20));
    let ask = "SELECT count(*) FROM chatbot_search(1, 'number', 3)";
    assert_eq!(query_value::<i64>(admin, ask), 3);
    admin.batch_execute("DROP EXTENSION chatbot_sync; DROP EXTENSION vector; CREATE SCHEMA \"Vec tor\";").unwrap();
    admin.batch_execute("CREATE EXTENSION vector SCHEMA \"Vec tor\"; CREATE EXTENSION chatbot_sync;").unwrap();
    embed_source(admin, 1, 1, &prose(20));
    assert_eq!(query_value::<i64>(admin, ask), 3);
    admin.batch_execute("ALTER EXTENSION vector SET SCHEMA pg_catalog").ok();
    admin.batch_execute("CREATE SCHEMA other; ALTER EXTENSION vector SET SCHEMA other").unwrap();
    assert_eq!(query_value::<i64>(admin, ask), 3);
}

#[test]
fn every_search_path_and_schema_works() {
    let mut db = Db::new();
    let admin = &mut db.admin;
    admin
        .batch_execute(
            "DROP EXTENSION chatbot_sync; DROP EXTENSION vector; CREATE SCHEMA \"Vec tor\"; CREATE SCHEMA \"Their functions\";
             CREATE EXTENSION vector SCHEMA \"Vec tor\"; CREATE EXTENSION chatbot_sync SCHEMA \"Their functions\"; SELECT \"Their functions\".chatbot_grant('app');",
        )
        .unwrap();
    let mut app = db.session("app");
    // Tables of the same names, which come first in the search path.
    app.batch_execute(
        "CREATE TEMP TABLE source (a int); CREATE TEMP TABLE embedding (a int); SET search_path = pg_temp;
         SELECT \"Their functions\".chatbot_embed_source(1, 'document', 1, 'Refunds take ten days.');",
    )
    .unwrap();
    let sql = "SELECT content FROM \"Their functions\".chatbot_search(1, 'How long does a refund take?')";
    assert_eq!(query_column::<String>(&mut app, sql), ["Refunds take ten days."]);
}
