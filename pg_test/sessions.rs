//! Sessions: messages are complete and in order, and closed or unknown sessions are errors.

use super::harness::{Db, expect_error, query_column, query_value};

#[test]
fn a_conversation_is_complete_and_in_order() {
    let db = Db::new();
    let mut app = db.session("app");
    let id: String = query_value(&mut app, "SELECT chatbot_session_open(42, '{\"user\": 7}')::text");
    let ids: Vec<i64> = ["('user', 'Hello')", "('assistant', 'Good day')", "('system', 'Be brief')"]
        .iter()
        .map(|m| query_value(&mut app, &format!("SELECT chatbot_session_add_message('{id}', {}", &m[1..])))
        .collect();
    assert!(ids.is_sorted());
    let all = format!("SELECT role || ': ' || content FROM chatbot_session_messages('{id}')");
    assert_eq!(query_column::<String>(&mut app, &all), ["user: Hello", "assistant: Good day", "system: Be brief"]);
    let last = format!("SELECT content FROM chatbot_session_messages('{id}', 2)");
    assert_eq!(query_column::<String>(&mut app, &last), ["Good day", "Be brief"]);
    let stored = "SELECT chatbot_id || ' ' || metadata FROM chatbot_sync.session";
    assert_eq!(query_value::<String>(&mut app, stored), "42 {\"user\": 7}");
    assert_eq!(expect_error(&mut app, &format!("SELECT chatbot_session_messages('{id}', 0)")).code, "22023");
}

#[test]
fn a_closed_session_refuses_messages() {
    let db = Db::new();
    let mut app = db.session("app");
    let id: String = query_value(&mut app, "SELECT chatbot_session_open(1)::text");
    let close = format!("SELECT chatbot_session_close('{id}')");
    assert!(query_value::<bool>(&mut app, &close));
    assert!(!query_value::<bool>(&mut app, &close));
    let failure = expect_error(&mut app, &format!("SELECT chatbot_session_add_message('{id}', 'user', 'Hello')"));
    assert_eq!((failure.code.as_str(), failure.message), ("55000", format!("session {id} is closed")));
    assert!(failure.hint.contains("chatbot_session_open()"));
    assert!(
        query_column::<String>(&mut app, &format!("SELECT content FROM chatbot_session_messages('{id}')")).is_empty()
    );
}

#[test]
fn an_unknown_session_is_an_error() {
    let db = Db::new();
    let mut app = db.session("app");
    for id in ["00000000-0000-0000-0000-000000000000", "00000000-0001-8000-8000-000000000000"] {
        assert_eq!(expect_error(&mut app, &format!("SELECT chatbot_session_messages('{id}')")).code, "P0002");
        assert!(!query_value::<bool>(&mut app, &format!("SELECT chatbot_session_close('{id}')")));
    }
}
