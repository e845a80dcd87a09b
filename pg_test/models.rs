//! Changing the model: searches stay complete meanwhile, concurrent writes are kept, work is shared and resumed, and a
//! refused text holds back no other source.

use postgres::Client;

use super::harness::{
    Db, database_with_mock, embed_statement, expect_error, prose, query_column, query_value, set_for_database,
};
use super::mock::Mock;

/// Returns a database with sources of the built-in model, a mock provider for the next one, and sessions of `app` and
/// `boss`.
fn database_with_two_models() -> (Db, Mock, Client, Client) {
    let (mut db, mock) = (Db::new(), Mock::new());
    set_for_database(&mut db, "openai_compatible_url", &mock.url);
    let (mut app, boss) = (db.session("app"), db.session("boss"));
    for id in 1..=6 {
        app.batch_execute(&embed_statement(id, &format!("{id}. {}", prose(15)))).unwrap();
    }
    (db, mock, app, boss)
}

const NEXT: &str = "SELECT chatbot_set_model('openai_compatible', 'mock', 8)";
const BACK: &str = "SELECT chatbot_set_model('local', 'multilingual-static-256')";
const ACTIVE: &str = "SELECT provider FROM chatbot_sync.model WHERE active";
/// Each chunk of the active model that a search finds: (its dimensions, source, chunk index, text).
const FOUND_CHUNKS: &str = "SELECT concat_ws(' ', vector_dims(e.embedding), s.source_id, s.chunk_index, s.content)
    FROM chatbot_search(1, 'number', 1000, mode => 'vector') s
    JOIN chatbot_sync.model m ON m.active
    JOIN chatbot_sync.embedding e ON e.model_id = m.id AND (e.source_type, e.source_id, e.chunk_index) = (s.source_type, s.source_id, s.chunk_index)
    ORDER BY s.source_id, s.chunk_index";

fn texts(answers: &[String]) -> Vec<&str> {
    answers.iter().map(|answer| answer.split_once(' ').unwrap().1).collect()
}

#[test]
fn searches_stay_complete_while_the_model_changes() {
    let (_db, mock, mut app, mut boss) = database_with_two_models();
    let before = query_column::<String>(&mut app, FOUND_CHUNKS);
    assert!(before.len() >= 12 && before.iter().all(|answer| answer.starts_with("256 ")));
    boss.batch_execute(NEXT).unwrap();
    assert_eq!(query_column::<String>(&mut app, FOUND_CHUNKS), before);
    assert_eq!(mock.texts().len(), 0);
    boss.batch_execute("CALL chatbot_reembed(2)").unwrap();
    assert_eq!(query_value::<String>(&mut app, ACTIVE), "openai_compatible");
    let after = query_column::<String>(&mut app, FOUND_CHUNKS);
    assert!(after.iter().all(|answer| answer.starts_with("8 ")));
    assert_eq!(texts(&after), texts(&before));
    assert_eq!(mock.texts().iter().filter(|text| *text != "number").count(), before.len());
    // Going back needs no embedding as long as nothing has changed.
    boss.batch_execute(BACK).unwrap();
    assert_eq!(query_column::<String>(&mut app, FOUND_CHUNKS), before);
    let asked = mock.state().requests.len();
    boss.batch_execute(NEXT).unwrap();
    assert_eq!(
        (query_value::<String>(&mut app, ACTIVE), mock.state().requests.len()),
        ("openai_compatible".to_owned(), asked)
    );
}

#[test]
fn writes_during_reembed_are_kept() {
    let (db, mock, mut app, mut boss) = database_with_two_models();
    boss.batch_execute(NEXT).unwrap();
    mock.state().held = true;
    let mut other = db.session("boss");
    let reembed = std::thread::spawn(move || other.batch_execute("CALL chatbot_reembed(100)").unwrap());
    mock.wait(|state| !state.requests.is_empty());
    // Writes use the active model while the vectors of the next one are made.
    app.batch_execute(&embed_statement(1, "Another text altogether.")).unwrap();
    app.batch_execute(&embed_statement(7, "A new source.")).unwrap();
    app.batch_execute(&embed_statement(3, &format!("3. {}", prose(15)).replace("Sentence 7 ", "Sentence seven ")))
        .unwrap();
    app.batch_execute("SELECT chatbot_delete_source(1, 'document', 2)").unwrap();
    assert_eq!(query_value::<String>(&mut app, ACTIVE), "local");
    let before = query_column::<String>(&mut app, FOUND_CHUNKS);
    mock.release();
    reembed.join().unwrap();
    assert_eq!(query_value::<String>(&mut app, ACTIVE), "openai_compatible");
    assert_eq!(texts(&query_column::<String>(&mut app, FOUND_CHUNKS)), texts(&before));
    // Going back embeds what has changed since, and nothing else.
    app.batch_execute(&embed_statement(4, "Changed again.")).unwrap();
    boss.batch_execute(BACK).unwrap();
    assert_eq!(query_value::<String>(&mut app, ACTIVE), "openai_compatible");
    boss.batch_execute("CALL chatbot_reembed()").unwrap();
    assert_eq!(query_value::<String>(&mut app, ACTIVE), "local");
    let after = query_column::<String>(&mut app, FOUND_CHUNKS);
    assert!(
        after.iter().any(|answer| answer.contains("Changed again."))
            && after.iter().all(|answer| answer.starts_with("256 "))
    );
}

#[test]
fn a_cancelled_reembed_resumes_and_two_share_the_work() {
    let (db, mock, mut app, mut boss) = database_with_two_models();
    boss.batch_execute(NEXT).unwrap();
    boss.batch_execute("CALL chatbot_reembed(1)").err();
    boss.batch_execute(BACK).unwrap();
    for id in 10..60 {
        app.batch_execute(&embed_statement(id, &format!("Text number {id}."))).unwrap();
    }
    let asked = mock.texts().len();
    boss.batch_execute(NEXT).unwrap();
    mock.state().poison = Some("Text number 35.");
    assert_eq!(expect_error(&mut boss, "CALL chatbot_reembed(5)").code, "HV00L");
    assert_eq!(query_value::<String>(&mut app, ACTIVE), "local");
    mock.state().poison = None;
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let mut session = db.session("boss");
            std::thread::spawn(move || session.batch_execute("CALL chatbot_reembed(5)").unwrap())
        })
        .collect();
    calls.into_iter().for_each(|call| call.join().unwrap());
    assert_eq!(query_value::<String>(&mut app, ACTIVE), "openai_compatible");
    // Only the batch with the refused text was sent again, in parts.
    assert!(mock.texts().len() - asked <= 50 + 5 * 4, "{}", mock.texts().len() - asked);
    assert_eq!(
        query_column::<String>(&mut app, FOUND_CHUNKS).len(),
        query_value::<i64>(&mut app, "SELECT sum(chunk_count)::bigint FROM chatbot_sync.source") as usize
    );
}

#[test]
fn only_an_inactive_model_can_be_dropped() {
    let (_db, _mock, mut app, mut boss) = database_with_two_models();
    boss.batch_execute(NEXT).unwrap();
    boss.batch_execute("CALL chatbot_reembed()").unwrap();
    let id = |client: &mut Client, which: &str| {
        query_value::<i32>(client, &format!("SELECT id FROM chatbot_sync.model WHERE {which}"))
    };
    let active = id(&mut boss, "active");
    assert_eq!(expect_error(&mut boss, &format!("CALL chatbot_drop_model({active})")).code, "55006");
    assert_eq!(expect_error(&mut boss, "CALL chatbot_drop_model(99)").code, "22023");
    assert_eq!(expect_error(&mut boss, "CALL chatbot_drop_model(NULL)").code, "22004");
    let before = id(&mut boss, "NOT active");
    boss.batch_execute(&format!("CALL chatbot_drop_model({before}, 5)")).unwrap();
    assert_eq!(
        query_value::<i64>(&mut boss, "SELECT count(*) FROM chatbot_sync.embedding WHERE vector_dims(embedding) = 256"),
        0
    );
    assert!(!query_column::<String>(&mut app, FOUND_CHUNKS).is_empty());
    boss.batch_execute(BACK).unwrap();
    assert_eq!(query_value::<String>(&mut app, ACTIVE), "openai_compatible");
}

#[test]
fn an_estimate_is_right_and_sends_nothing() {
    let (mut db, mock) = database_with_mock();
    db.admin.batch_execute("GRANT CREATE ON SCHEMA public TO app").unwrap();
    let mut app = db.session("app");
    app.batch_execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, chatbot_id bigint, content text); CREATE TABLE other (id int)",
    )
    .unwrap();
    app.execute("INSERT INTO docs SELECT i, 1, i || $1 FROM generate_series(1, 20) AS i", &[&prose(30)]).unwrap();
    app.batch_execute("SELECT chatbot_attach('docs', 'document')").unwrap();
    mock.state().requests.clear();
    let estimate = |app: &mut Client, of: &str| -> (i64, i64, i64, i64) {
        let row = app.query_one(&format!("SELECT * FROM chatbot_estimate({of})"), &[]).unwrap();
        (row.get(0), row.get(1), row.get(2), row.get(3))
    };
    let (sources, chunks, to_embed, tokens) = estimate(&mut app, "'docs'");
    assert_eq!((sources, chunks), (20, to_embed));
    assert_eq!(mock.state().requests.len(), 0);
    app.batch_execute("CALL chatbot_sync_all()").unwrap();
    assert_eq!(mock.texts().len(), usize::try_from(to_embed).unwrap());
    let bytes: usize = mock.texts().iter().map(|text| text.len().div_ceil(4)).sum();
    assert_eq!(usize::try_from(tokens).unwrap(), bytes);
    assert_eq!(estimate(&mut app, ""), (20, chunks, 0, 0));
    assert_eq!(expect_error(&mut app, "SELECT chatbot_estimate('other')").code, "42704");
    // The estimate of a change of the model.
    db.admin.batch_execute("SELECT chatbot_set_model('local', 'minilm-static-256')").unwrap();
    let (sources, all, to_embed, tokens) = estimate(&mut app, "");
    assert_eq!((sources, all, to_embed), (20, chunks, chunks));
    assert!(tokens > chunks);
}

#[test]
fn a_refused_text_holds_back_no_other_source() {
    let (db, mock, mut app, mut boss) = database_with_two_models();
    app.batch_execute(&embed_statement(7, "A poison.")).unwrap();
    boss.batch_execute(NEXT).unwrap();
    mock.state().poison = Some("poison");
    let failed = expect_error(&mut boss, "CALL chatbot_reembed(2)");
    assert_eq!(failed.code, "HV00L", "{failed:?}");
    assert!(failed.hint.contains("skip_errors"), "{failed:?}");
    let in_error = "SELECT source_id || ' ' || error FROM chatbot_sync.source WHERE status = 'error'";
    let errors = query_column::<String>(&mut app, in_error);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("7 ") && errors[0].contains("refuses chunk 0"), "{errors:?}");
    assert_eq!(query_value::<String>(&mut app, ACTIVE), "local");
    // The other sources are not sent again.
    let asked = mock.texts().len();
    let (mut listening, told) = db.session_with_notices("boss");
    listening.batch_execute("CALL chatbot_reembed(skip_errors => true)").unwrap();
    assert_eq!(mock.texts().len(), asked + 1);
    assert!(told.lock().unwrap().iter().any(|line| line.contains("without vectors of 1 sources")), "{told:?}");
    assert_eq!(query_value::<String>(&mut app, ACTIVE), "openai_compatible");
    assert_eq!(query_column::<String>(&mut app, in_error).len(), 1);
    assert!(query_column::<String>(&mut app, FOUND_CHUNKS).iter().all(|answer| !answer.contains("poison")));
}

#[test]
fn a_refused_source_is_synced_once_its_text_is_accepted() {
    let (_db, mock, mut app, mut boss) = database_with_two_models();
    boss.batch_execute(NEXT).unwrap();
    mock.state().always = Some(super::mock::Fault::Status(400, "", r#"{"error":{"message":"no"}}"#));
    assert_eq!(expect_error(&mut boss, "CALL chatbot_reembed()").code, "HV00L");
    let in_error = "SELECT count(*) FROM chatbot_sync.source WHERE status = 'error'";
    assert_eq!(query_value::<i64>(&mut app, in_error), 6);
    mock.state().always = None;
    boss.batch_execute("CALL chatbot_reembed()").unwrap();
    assert_eq!(query_value::<i64>(&mut app, in_error), 0);
    assert_eq!(query_value::<String>(&mut app, ACTIVE), "openai_compatible");
}

#[test]
fn database_keeps_its_built_in_model() {
    let db = Db::new();
    let (mut app, mut boss) = (db.session("app"), db.session("boss"));
    // As a version made it that had the English model alone.
    boss.batch_execute("SELECT chatbot_set_model('local', 'minilm-static-256')").unwrap();
    app.batch_execute(&embed_statement(1, "Refunds are paid within ten days.")).unwrap();
    app.batch_execute(&embed_statement(2, "The office is open from nine to five.")).unwrap();
    let used = "SELECT DISTINCT m.model FROM chatbot_sync.embedding e JOIN chatbot_sync.model m ON m.id = e.model_id";
    assert_eq!(query_column::<String>(&mut app, used), ["minilm-static-256"]);
    let found = "SELECT source_id FROM chatbot_search(1, 'How do I get my money back?', mode => 'vector')";
    assert_eq!(query_column::<i64>(&mut app, found), [1, 2]);
    // And moves to the other as to any model.
    boss.batch_execute("SELECT chatbot_set_model('local', 'multilingual-static-256'); CALL chatbot_reembed()").unwrap();
    let active = "SELECT model FROM chatbot_sync.model WHERE active";
    assert_eq!(query_value::<String>(&mut app, active), "multilingual-static-256");
    assert_eq!(query_column::<i64>(&mut app, found), [1, 2]);
}
