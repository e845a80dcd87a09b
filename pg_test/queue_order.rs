//! In which order jobs are claimed, and what overtakes a job that waits.

use std::collections::HashSet;

use super::harness::{application_with_mock, query_column, query_value};
use super::mock::Mock;

const JOBS: &str = "SELECT count(*) FROM chatbot_sync.job";

/// Jobs of chatbots, as an import makes them: the text of each begins with its chatbot.
fn import(chatbots: i32, documents: i32) -> String {
    format!(
        "SELECT chatbot_enqueue_source(c, 'document', d, c || ': document ' || d || '.')
        FROM generate_series(1, {chatbots}) AS c, generate_series(1, {documents}) AS d"
    )
}

fn place_of(mock: &Mock, text: &str) -> usize {
    mock.texts().iter().position(|sent| sent == text).unwrap()
}

#[test]
fn a_queued_text_never_overwrites_a_newer_one() {
    let (_db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "SELECT chatbot_enqueue_source(1, 'document', 1, 'Old.'); SELECT chatbot_embed_source(1, 'document', 1, 'New.');
         SELECT chatbot_embed_source(1, 'document', 2, 'Old.'); SELECT chatbot_enqueue_source(1, 'document', 2, 'New.')",
    )
    .unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    assert_eq!(query_column::<String>(&mut app, "SELECT content FROM chatbot_sync.embedding"), ["New."; 2]);
    assert_eq!(query_column::<String>(&mut app, "SELECT status FROM chatbot_sync.source"), ["synced"; 2]);
}

#[test]
fn a_row_moved_and_deleted_with_its_chatbot_leaves_nothing() {
    let (mut db, _mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE chatbots (id bigint PRIMARY KEY); INSERT INTO chatbots VALUES (1), (2);
         CREATE TABLE links (id bigint PRIMARY KEY, chatbot_id bigint REFERENCES chatbots ON DELETE CASCADE, content text);
         SELECT chatbot_attach('links', 'link', mode => 'async'); SELECT chatbot_attach_chatbots('chatbots');
         INSERT INTO links VALUES (1, 1, 'One.'), (2, 1, 'Two.')",
    )
    .unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    app.batch_execute("UPDATE links SET chatbot_id = 2 WHERE id = 1").unwrap();
    app.batch_execute("DELETE FROM chatbots WHERE id = 2").unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    let sources = "SELECT concat_ws(' ', chatbot_id, source_id) FROM chatbot_sync.source";
    assert_eq!(query_column::<String>(&mut app, sources), ["1 2"]);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.job"), 0);
    assert_eq!(query_value::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_verify()"), 0);
}

#[test]
fn a_row_moved_and_deleted_by_hand_leaves_nothing() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute(
        "CREATE TABLE links (id bigint PRIMARY KEY, chatbot_id bigint, content text);
         SELECT chatbot_attach('links', 'link', mode => 'async'); INSERT INTO links VALUES (1, 1, 'One.'), (2, 1, 'Two.')",
    )
    .unwrap();
    app.batch_execute("CALL chatbot_process_queue(); UPDATE links SET chatbot_id = 2 WHERE id = 1").unwrap();
    let deleted = "SELECT status FROM chatbot_delete_source(2, 'link', 1)";
    assert_eq!(query_value::<String>(&mut app, deleted), "not_found");
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    let sources = "SELECT concat_ws(' ', chatbot_id, source_id) FROM chatbot_sync.source";
    assert_eq!(query_column::<String>(&mut app, sources), ["1 2"]);
    // The row moves twice, and another row then takes its first key.
    app.batch_execute(
        "UPDATE links SET chatbot_id = 3 WHERE id = 2; UPDATE links SET chatbot_id = 4 WHERE id = 2;
         UPDATE links SET id = 3 WHERE id = 2; INSERT INTO links VALUES (2, 1, 'Another.');
         SELECT chatbot_delete_source(4, 'link', 3); CALL chatbot_process_queue()",
    )
    .unwrap();
    assert_eq!(query_column::<String>(&mut app, sources), ["1 2"]);
    assert_eq!(query_column::<String>(&mut app, "SELECT content FROM chatbot_sync.embedding"), ["Another."]);
    assert_eq!(query_value::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.job"), 0);
    assert_eq!(mock.texts(), ["One.", "Two.", "Another."]);
}

#[test]
fn every_chatbot_has_its_turn_in_a_pass() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute(&import(6, 150)).unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    let texts = mock.texts();
    let served: HashSet<&str> = texts[..200].iter().filter_map(|text| text.split(':').next()).collect();
    assert_eq!((served.len(), texts.len()), (6, 900));
    assert_eq!(query_value::<i64>(&mut app, JOBS), 0);
}

#[test]
fn a_job_of_a_higher_priority_overtakes_a_pass() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute(&import(1, 300)).unwrap();
    app.batch_execute(
        "DO $$ BEGIN
            CALL chatbot_process_queue(10);
            PERFORM chatbot_enqueue_source(2, 'document', 1, 'Urgent.', priority => 1);
            COMMIT;
            FOR i IN 1..291 LOOP CALL chatbot_process_queue(1); END LOOP;
        END $$",
    )
    .unwrap();
    assert!(place_of(&mock, "Urgent.") < 300, "it came last");
    assert_eq!((mock.texts().len(), query_value::<i64>(&mut app, JOBS)), (301, 0));
}

#[test]
fn jobs_that_appear_behind_a_pass_are_claimed_by_the_next_one() {
    let (mut db, mock, mut app) = application_with_mock();
    app.batch_execute(&import(2, 100)).unwrap();
    db.admin
        .batch_execute(
            "DO $$ BEGIN
                CALL chatbot_process_queue(150);
                INSERT INTO chatbot_sync.job (chatbot_id, source_type, source_id, content, metadata, due_at)
                VALUES (1, 'document', 1000, 'Late.', '{}', now() - interval '1 hour');
                COMMIT;
                CALL chatbot_process_queue();
            END $$",
        )
        .unwrap();
    assert_eq!(place_of(&mock, "Late."), 200);
    assert_eq!(query_value::<i64>(&mut app, JOBS), 0);
}

#[test]
fn priorities_are_claimed_from_the_highest_to_the_lowest() {
    let (_db, mock, mut app) = application_with_mock();
    app.batch_execute(
        "SELECT chatbot_enqueue_source(1, 'document', d, 'Document ' || d || '.', priority => d) FROM generate_series(1, 30) AS d",
    )
    .unwrap();
    app.batch_execute("CALL chatbot_process_queue()").unwrap();
    let expected: Vec<String> = (1..=30).rev().map(|d| format!("Document {d}.")).collect();
    assert_eq!(mock.texts(), expected);
}
