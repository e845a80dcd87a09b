//! Settings of a provider: its address, key and model. A key is sent and never shown, and a missing setting is named.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::harness::{Db, database_with_mock, embed_statement, expect_error, query_value, set_for_database};
use super::mock::Fault;

#[test]
fn a_key_arrives_and_is_never_shown() {
    let (mut db, mock) = database_with_mock();
    let path = std::env::temp_dir().join(format!("chatbot_sync_key_{}", std::process::id()));
    let file = path.to_str().unwrap().to_owned();
    std::fs::write(&path, "sk-first\n").unwrap();
    // The server may run as another user than the test.
    let server = std::fs::metadata(query_value::<String>(&mut db.admin, "SHOW data_directory")).unwrap().uid();
    std::os::unix::fs::chown(&path, Some(server), None).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    set_for_database(&mut db, "openai_compatible_api_key_file", &file);
    let mut app = db.session("app");
    let refused = expect_error(&mut app, &embed_statement(1, "A text."));
    assert_eq!(refused.code, "F0000");
    assert!(refused.message.contains("may be read by others"), "{refused:?}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    for key in ["sk-first", "sk-second"] {
        std::fs::write(&path, key).unwrap();
        app.batch_execute(&embed_statement(1, key)).unwrap();
        let sent = mock.state().requests.last().unwrap().0.to_lowercase();
        assert!(sent.contains(&format!("authorization: bearer {key}\r\n")), "{sent}");
    }
    // The provider repeats the key in its refusal.
    mock.state().always =
        Some(Fault::Status(401, "", r#"{"error":{"message":"Incorrect API key provided: sk-second."}}"#));
    let refused = expect_error(&mut app, &embed_statement(2, "A text."));
    assert_eq!(refused.detail, "Model mock, HTTP status 401: Incorrect API key provided: ***.");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(expect_error(&mut app, &embed_statement(2, "A text.")).code, "F0000");

    db.admin.batch_execute("SET chatbot_sync.openai_api_key = 'sk-third'").unwrap();
    let shown = "SELECT count(*) FROM pg_settings WHERE setting LIKE '%sk-third%' OR name LIKE 'chatbot_sync.%api_key'";
    assert_eq!(query_value::<i64>(&mut db.admin, shown), 0);
    for sql in [
        "SHOW chatbot_sync.openai_api_key",
        "SHOW chatbot_sync.openai_url",
        "SET chatbot_sync.openai_url = 'http://evil/'",
        "SET chatbot_sync.openai_api_key = 'x'",
        "SET chatbot_sync.proxy = 'http://evil/'",
    ] {
        assert_eq!(expect_error(&mut app, sql).code, "42501", "{sql}");
    }
}

#[test]
fn missing_settings_are_named() {
    let mut db = Db::new();
    for (setup, model, code, message) in [
        ("", "'azure', 'm'", "F0000", "provider azure has no address: chatbot_sync.azure_url is not set"),
        ("", "'cohere', 'm'", "F0000", "provider cohere has no key"),
        (
            "SET chatbot_sync.ollama_url = 'http://u:secret@h/'",
            "'ollama', 'm'",
            "22023",
            "chatbot_sync.ollama_url is no address that can be used, expected http:// or https://, a host and perhaps a path, without user or password",
        ),
        ("", "'openai', 'text-embedding-3-small', 2000", "22023", "dimensions is 2000, expected 1 to 1536"),
        ("", "'openai', 'text-embedding-3-small', 0", "22023", "dimensions is 0, expected 1 to 16000"),
        ("", "'voyage', 'voyage-3.5', 300", "22023", "dimensions is 300, expected 256, 512, 1024, 2048"),
        (
            "",
            "'open_ai', 'm'",
            "22023",
            "provider is \"open_ai\", expected one of local, openai, openai_compatible, azure, ollama, cohere, voyage, gemini",
        ),
        // A name that no built-in model has is that of a folder.
        (
            "SET chatbot_sync.local_models = '/models'",
            "'local', 'gpt'",
            "58P01",
            "model gpt cannot be used: /models/gpt does not exist",
        ),
        ("", "'local', 'minilm-static-256', 128", "22023", "dimensions is 128, expected 256"),
        ("", "'ollama', ''", "22023", "model is empty, expected the name of a model"),
        ("", "NULL, 'm'", "22004", "provider is NULL"),
        ("", "'ollama', NULL", "22004", "model is NULL"),
        (
            "",
            "'ollama', 'm', options => '{\"url\": \"http://evil\"}'",
            "22023",
            "options is \"url\", expected one of keep_alive, num_ctx, truncate",
        ),
    ] {
        db.admin.batch_execute(setup).unwrap();
        let failure = expect_error(&mut db.admin, &format!("SELECT chatbot_set_model({model})"));
        assert_eq!((failure.code.as_str(), failure.message.as_str()), (code, message), "{model}");
    }
    assert_eq!(query_value::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_sync.model"), 0);
}

#[test]
fn unknown_dimensions_are_asked_of_the_provider() {
    let (mut db, mock) = database_with_mock();
    mock.state().requests.clear();
    db.admin.batch_execute("SELECT chatbot_set_model('openai_compatible', 'another')").unwrap();
    let model = "SELECT model || ' ' || dimensions || ' ' || shortened FROM chatbot_sync.model WHERE active";
    assert_eq!(query_value::<String>(&mut db.admin, model), "another 8 false");
    assert_eq!(mock.state().requests.len(), 1);
    assert_eq!(mock.state().requests[0].1.get("dimensions"), None);
}

#[test]
fn long_vectors_fit() {
    let mut db = Db::new();
    let storage = "SELECT attstorage::text FROM pg_attribute WHERE attrelid = 'chatbot_sync.embedding'::regclass AND attname = 'embedding'";
    db.admin.batch_execute("SELECT chatbot_set_model('openai', 'text-embedding-3-large')").unwrap();
    assert_eq!(query_value::<String>(&mut db.admin, storage), "e");
    db.admin.batch_execute("SELECT chatbot_embed_source(1, 'document', 1, '')").unwrap();
    let long = "INSERT INTO chatbot_sync.embedding (chatbot_id, source_type, source_id, model_id, chunk_id, chunk_index, start_offset, end_offset, content, embedding)
        SELECT 1, 'document', 1, 1, 0, 0, 0, 1, 'x', array_fill(0.1, '{3072}')::vector";
    db.admin.batch_execute(long).unwrap();
    db.admin
        .batch_execute("SELECT chatbot_cleanup(1); SELECT chatbot_set_model('local', 'minilm-static-256')")
        .unwrap();
    assert_eq!(query_value::<String>(&mut db.admin, storage), "p");
}
