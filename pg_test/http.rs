//! Providers over HTTP, from within a backend.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::harness::{Db, Failure, column, everything, failure, one, prose};
use super::mock::{Fault, Mock, vector};

/// A database that embeds with a mock, and the mock.
fn remote() -> (Db, Mock) {
    let mut db = Db::new();
    let mock = Mock::new();
    set(&mut db, "openai_compatible_url", &mock.url);
    db.admin.batch_execute("SELECT chatbot_set_model('openai_compatible', 'mock', 8)").unwrap();
    (db, mock)
}

/// A setting for every later session, and for the superuser's at once.
fn set(db: &mut Db, name: &str, value: &str) {
    let name = format!("chatbot_sync.{name}");
    db.admin.batch_execute(&format!("SET {name} = '{value}'")).unwrap();
    let database: String = one(&mut db.admin, "SELECT current_database()::text");
    db.admin.batch_execute(&format!("ALTER DATABASE {database} SET {name} = '{value}'")).unwrap();
}

fn embed(id: i64, text: &str) -> String {
    format!("SELECT chatbot_embed_source(1, 'document', {id}, $text${text}$text$)")
}

#[test]
fn vectors_are_those_of_other_texts() {
    let (db, mock) = remote();
    let mut app = db.session("app");
    app.batch_execute("SET chatbot_sync.batch_size = 3; SET chatbot_sync.max_parallel_requests = 5").unwrap();
    app.batch_execute(&embed(1, &prose(200))).unwrap();
    let rows = app.query("SELECT content, embedding::text FROM chatbot_sync.embedding", &[]).unwrap();
    assert!(rows.len() > 15);
    for row in rows {
        let stored: Vec<f32> = serde_json::from_str(row.get(1)).unwrap();
        assert!(stored.iter().zip(vector(row.get(0))).all(|(s, v)| (s - v).abs() < 1e-6));
    }
    assert!(mock.state().requests.iter().all(|(_, body)| body["input"].as_array().unwrap().len() <= 3));
}

#[test]
fn requests_are_sent_one_at_a_time() {
    let (db, mock) = remote();
    let mut app = db.session("app");
    // The server answers none of them before it has sixteen.
    mock.state().gather = 16;
    app.batch_execute("SET chatbot_sync.batch_size = 1; SET chatbot_sync.max_parallel_requests = 16").unwrap();
    app.batch_execute(&embed(1, &prose(160))).unwrap();
    assert!(mock.state().connections <= 16);
}

#[test]
fn a_connection_is_not_kept() {
    let (db, mock) = remote();
    let mut app = db.session("app");
    let before = mock.state().connections;
    for id in 1..10 {
        app.batch_execute(&embed(id, "A short text.")).unwrap();
    }
    app.batch_execute("SELECT chatbot_search(1, 'short')").unwrap();
    assert_eq!(mock.state().connections - before, 1);
    assert_eq!(mock.state().requests.len(), 10);
}

/// Each fault with its code, and a word of the detail.
const FAULTS: [(Fault, &str, &str); 18] = [
    (Fault::Status(400, "", r#"{"error":{"message":"too long"}}"#), "HV00L", "HTTP status 400: too long"),
    (Fault::Status(401, "", r#"{"error":{"message":"no such key"}}"#), "28000", "HTTP status 401: no such key"),
    (Fault::Status(403, "", "{}"), "28000", "HTTP status 403"),
    (Fault::Status(404, "", "{}"), "HV00J", "HTTP status 404"),
    (Fault::Status(301, "location: http://127.0.0.1:1/\r\n", ""), "HV024", "HTTP status 301"),
    (Fault::Status(402, "", "{}"), "53400", "HTTP status 402"),
    (Fault::Status(429, "retry-after: 3600\r\n", r#"{"error":{"message":"slow down"}}"#), "53000", "slow down"),
    (Fault::Status(500, "", "oops\n"), "HV000", "HTTP status 500: oops"),
    (Fault::Status(503, "", ""), "HV000", "HTTP status 503"),
    (Fault::Cut, "HV00N", ""),
    (Fault::Close, "HV00N", ""),
    (Fault::Count, "HV00M", "0 vectors for 1 texts"),
    (Fault::Dimensions, "HV00M", "a vector of 3 dimensions, expected 8"),
    (Fault::NotFinite, "HV00M", ""),
    (Fault::NotJson, "HV00M", "it is no JSON"),
    (Fault::Large, "54000", ""),
    (Fault::Hang, "58030", "chatbot_sync.sync_timeout is over"),
    (Fault::Drip, "58030", "chatbot_sync.sync_timeout is over"),
];

#[test]
fn a_fault_changes_vectors_or_spoils_the_session() {
    let (mut db, mock) = remote();
    set(&mut db, "max_response_bytes", "100kB");
    let mut app = db.session("app");
    app.batch_execute(&embed(1, "The text that was there before.")).unwrap();
    app.batch_execute("SET chatbot_sync.max_attempts = 2").unwrap();
    let before = everything(&mut app);
    for (fault, code, detail) in FAULTS {
        let timeout = if code == "58030" { "300ms" } else { "60s" };
        app.batch_execute(&format!("SET chatbot_sync.sync_timeout = '{timeout}'")).unwrap();
        mock.state().always = Some(fault);
        let failure = failure(&mut app, &embed(1, "Another text."));
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(failure.detail.contains(detail), "{failure:?}");
        assert!(failure.detail.contains("Model mock") && !failure.hint.is_empty(), "{failure:?}");
        mock.state().always = None;
        assert_eq!(everything(&mut app), before);
        // What a provider asked for must not outlive this test's fault.
        forget_throttling(&mut db.admin);
        assert_eq!(one::<i64>(&mut app, "SELECT count(*) FROM chatbot_search(1, 'text')"), 1);
    }
    app.batch_execute(&embed(1, "Another text.")).unwrap();
    assert_ne!(everything(&mut app), before);
}

fn forget_throttling(admin: &mut postgres::Client) {
    let sql = "SELECT current_setting('data_directory') || '/pg_stat_tmp/chatbot_sync.' || oid || '.openai_compatible'
        FROM pg_database WHERE datname = current_database()";
    let _ = std::fs::remove_file(one::<String>(admin, sql));
}

#[test]
fn one_failed_request_is_final() {
    let (db, mock) = remote();
    let mut app = db.session("app");
    for fault in [Fault::Status(500, "", ""), Fault::Close, Fault::Count, Fault::TwoOfOne, Fault::Cut] {
        mock.state().faults.push_back(fault);
        let requests = mock.state().requests.len();
        app.batch_execute(&embed(1, &prose(30).replace("tells", &format!("tells{requests}")))).unwrap();
        assert_eq!(mock.state().requests.len() - requests, 2);
    }
}

#[test]
fn a_throttled_request_is_not_sent_again_or_at_once() {
    let (db, mock) = remote();
    let (mut app, mut other) = (db.session("app"), db.session("app"));
    app.batch_execute("SET chatbot_sync.max_attempts = 1").unwrap();
    for _ in 0..3 {
        mock.state().faults.push_back(Fault::Status(429, "retry-after: 0.1\r\n", ""));
    }
    app.batch_execute(&embed(1, "A text.")).unwrap();
    assert_eq!(mock.state().requests.len(), 4);
    // What one session was told all know, and say without asking.
    mock.state().faults.push_back(Fault::Status(429, "retry-after: 1000\r\n", ""));
    assert_eq!(failure(&mut app, &embed(1, "Another text.")).code, "53000");
    assert_eq!(failure(&mut other, &embed(2, "A second text.")).code, "53000");
    assert_eq!(mock.state().requests.len(), 5);
}

#[test]
fn a_refused_chunk_is_not_named() {
    let (db, mock) = remote();
    let mut app = db.session("app");
    let text = prose(200).replace("Sentence 100 ", "Sentence 100 poison ");
    let chunk: i32 = app
        .query_one("SELECT min(chunk_index) FROM chatbot_chunk($1) WHERE content LIKE '%poison%'", &[&text])
        .unwrap()
        .get(0);
    mock.state().poison = Some("poison");
    let failure = failure(&mut app, &embed(7, &text));
    let expected = Failure {
        code: "HV00L".to_owned(),
        message: format!("provider openai_compatible refuses chunk {chunk} of document 7 of chatbot 1"),
        detail: "Model mock, HTTP status 400: this text will not do".to_owned(),
        hint: failure.hint.clone(),
    };
    // Where the text stands in two chunks either may be found first.
    let second = expected.message.replace(&format!("chunk {chunk}"), &format!("chunk {}", chunk + 1));
    assert!(failure == expected || failure.message == second, "{failure:?}");
    assert_eq!(one::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.source"), 0);
}

/// Ends a call that waits for a server which hangs, with so many requests in flight.
fn interrupt(requests: usize, fault: Fault, how: &str) -> String {
    let (db, mock) = remote();
    let mut app = db.session("app");
    let mut watcher = db.other();
    let pid: i32 = one(&mut app, "SELECT pg_backend_pid()");
    mock.state().always = Some(fault);
    let sql = format!(
        "SET chatbot_sync.sync_timeout = '1h'; SET chatbot_sync.batch_size = 1;
         SET chatbot_sync.max_parallel_requests = {requests}; {}",
        embed(1, &prose(20 * requests))
    );
    let call = std::thread::spawn(move || {
        let error = app.batch_execute(&sql).unwrap_err();
        let code = error.code().map_or_else(|| format!("{error:?}"), |c| c.code().to_owned());
        let works =
            app.query_one("SELECT count(*) FROM chatbot_sync.source", &[]).is_ok_and(|row| row.get::<_, i64>(0) == 0);
        format!("{code} {works}")
    });
    mock.wait(|state| state.in_flight == requests);
    watcher.batch_execute(&how.replace("PID", &pid.to_string())).unwrap();
    let outcome = call.join().unwrap();
    // Every socket is closed: the server notices each of its clients leave.
    mock.wait(|state| state.in_flight == 0);
    assert_eq!(mock.state().abandoned, requests);
    outcome
}

#[test]
fn a_cancel_waits_for_the_provider() {
    for (requests, fault) in [(1, Fault::Hang), (16, Fault::Hang), (4, Fault::Drip)] {
        assert_eq!(interrupt(requests, fault, "SELECT pg_cancel_backend(PID)"), "57014 true");
    }
}

#[test]
fn a_terminated_session_waits_for_the_provider() {
    assert_eq!(interrupt(1, Fault::Hang, "SELECT pg_terminate_backend(PID)"), "57P01 false");
    assert_eq!(interrupt(16, Fault::Hang, "SELECT pg_terminate_backend(PID)"), "57P01 false");
}

#[test]
fn a_statement_timeout_waits_for_the_provider_or_leaves_threads() {
    let (mut db, mock) = remote();
    mock.state().always = Some(Fault::Hang);
    let mut app = db.session("app");
    let pid: i32 = one(&mut app, "SELECT pg_backend_pid()");
    for _ in 0..3 {
        app.batch_execute("SET statement_timeout = '50ms'").unwrap();
        assert_eq!(failure(&mut app, &embed(1, "A text.")).code, "57014");
        app.batch_execute("SET statement_timeout = 0").unwrap();
    }
    mock.wait(|state| state.in_flight == 0);
    // Threads end as soon as their sockets do.
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    while threads() > 1 {
        std::thread::yield_now();
    }
    assert_eq!(one::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_sync.source"), 0);
}

#[test]
fn a_client_that_left_keeps_its_backend_waiting() {
    let (db, mock) = remote();
    mock.state().always = Some(Fault::Hang);
    let mut app = db.session("app");
    let mut watcher = db.other();
    let pid: i32 = one(&mut app, "SELECT pg_backend_pid()");
    app.batch_execute("SET client_connection_check_interval = '20ms'; SET chatbot_sync.sync_timeout = '1h'").unwrap();
    let cancel = app.cancel_token();
    let call = std::thread::spawn(move || app.batch_execute(&embed(1, "A text.")).is_err());
    mock.wait(|state| state.in_flight == 1);
    // The client's socket is shut without a word.
    let sql = format!("SELECT client_port FROM pg_stat_activity WHERE pid = {pid}");
    shut_socket(u16::try_from(one::<i32>(&mut watcher, &sql)).unwrap());
    mock.wait(|state| state.in_flight == 0);
    assert!(call.join().unwrap());
    drop(cancel);
}

/// Shuts this process' end of the connection that has this local port.
#[allow(unsafe_code)]
fn shut_socket(port: u16) {
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        // SAFETY: getsockname fails on what is no socket; the address has room for any; shutting a socket frees nothing.
        unsafe {
            let mut address: libc::sockaddr_in = std::mem::zeroed();
            let mut length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            let found = libc::getsockname(fd, (&raw mut address).cast(), &raw mut length) == 0;
            if found && i32::from(address.sin_family) == libc::AF_INET && u16::from_be(address.sin_port) == port {
                libc::shutdown(fd, libc::SHUT_RDWR);
            }
        }
    }
}

#[test]
fn a_server_that_is_not_there_is_waited_for() {
    let (mut db, _mock) = remote();
    set(&mut db, "openai_compatible_url", "http://127.0.0.1:1/v1");
    let mut app = db.session("app");
    let failure = failure(&mut app, &embed(1, "A text."));
    assert_eq!(
        (failure.code.as_str(), failure.message.as_str()),
        ("HV00N", "provider openai_compatible cannot be reached")
    );
}

#[test]
fn a_server_that_never_accepts_cannot_be_left() {
    let (mut db, _mock) = remote();
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    set(&mut db, "openai_compatible_url", &format!("http://{}/v1", deaf.local_addr().unwrap()));
    let mut app = db.session("app");
    app.batch_execute("SET statement_timeout = '50ms'; SET chatbot_sync.sync_timeout = '1h'").unwrap();
    assert_eq!(failure(&mut app, &embed(1, "A text.")).code, "57014");
    app.batch_execute("RESET statement_timeout; SELECT chatbot_chunk('still here')").unwrap();
}

#[test]
fn a_key_does_not_arrive_or_is_seen() {
    let (mut db, mock) = remote();
    let path = std::env::temp_dir().join(format!("chatbot_sync_key_{}", std::process::id()));
    let file = path.to_str().unwrap().to_owned();
    std::fs::write(&path, "sk-first\n").unwrap();
    // The server may run as another user than this test.
    let server = std::fs::metadata(one::<String>(&mut db.admin, "SHOW data_directory")).unwrap().uid();
    std::os::unix::fs::chown(&path, Some(server), None).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    set(&mut db, "openai_compatible_api_key_file", &file);
    let mut app = db.session("app");
    let refused = failure(&mut app, &embed(1, "A text."));
    assert_eq!(refused.code, "F0000");
    assert!(refused.message.contains("may be read by others"), "{refused:?}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    for key in ["sk-first", "sk-second"] {
        std::fs::write(&path, key).unwrap();
        app.batch_execute(&embed(1, key)).unwrap();
        let sent = mock.state().requests.last().unwrap().0.to_lowercase();
        assert!(sent.contains(&format!("authorization: bearer {key}\r\n")), "{sent}");
    }
    // The provider repeats the key that it refuses.
    mock.state().always =
        Some(Fault::Status(401, "", r#"{"error":{"message":"Incorrect API key provided: sk-second."}}"#));
    let refused = failure(&mut app, &embed(2, "A text."));
    assert_eq!(refused.detail, "Model mock, HTTP status 401: Incorrect API key provided: ***.");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(failure(&mut app, &embed(2, "A text.")).code, "F0000");

    db.admin.batch_execute("SET chatbot_sync.openai_api_key = 'sk-third'").unwrap();
    let shown = "SELECT count(*) FROM pg_settings WHERE setting LIKE '%sk-third%' OR name LIKE 'chatbot_sync.%api_key'";
    assert_eq!(one::<i64>(&mut db.admin, shown), 0);
    for sql in [
        "SHOW chatbot_sync.openai_api_key",
        "SHOW chatbot_sync.openai_url",
        "SET chatbot_sync.openai_url = 'http://evil/'",
        "SET chatbot_sync.openai_api_key = 'x'",
        "SET chatbot_sync.proxy = 'http://evil/'",
    ] {
        assert_eq!(failure(&mut app, sql).code, "42501", "{sql}");
    }
}

#[test]
fn what_is_missing_is_not_said() {
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
        ("", "'local', 'gpt'", "22023", "model is \"gpt\", expected one of minilm-static-256"),
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
        let failure = failure(&mut db.admin, &format!("SELECT chatbot_set_model({model})"));
        assert_eq!((failure.code.as_str(), failure.message.as_str()), (code, message), "{model}");
    }
    assert_eq!(one::<i64>(&mut db.admin, "SELECT count(*) FROM chatbot_sync.model"), 0);
}

#[test]
fn an_unknown_length_is_not_asked_for() {
    let (mut db, mock) = remote();
    mock.state().requests.clear();
    db.admin.batch_execute("SELECT chatbot_set_model('openai_compatible', 'another')").unwrap();
    let model = "SELECT model || ' ' || dimensions || ' ' || shortened FROM chatbot_sync.model WHERE active";
    assert_eq!(one::<String>(&mut db.admin, model), "another 8 false");
    assert_eq!(mock.state().requests.len(), 1);
    assert_eq!(mock.state().requests[0].1.get("dimensions"), None);
}

#[test]
fn a_model_is_changed_under_its_vectors() {
    let (mut db, _mock) = remote();
    let mut app = db.session("app");
    app.batch_execute(&embed(1, "A text.")).unwrap();
    let failure = failure(&mut db.admin, "SELECT chatbot_set_model('local', 'minilm-static-256')");
    assert_eq!(
        (failure.code.as_str(), failure.message.as_str()),
        ("55006", "the database has vectors of model mock of provider openai_compatible")
    );
    db.admin
        .batch_execute("SELECT chatbot_set_model('openai_compatible', 'mock', 8); SELECT chatbot_cleanup(1);")
        .unwrap();
    db.admin.batch_execute("SELECT chatbot_set_model('local', 'minilm-static-256')").unwrap();
    app.batch_execute(&embed(1, "A text.")).unwrap();
    assert_eq!(one::<i32>(&mut app, "SELECT vector_dims(embedding) FROM chatbot_sync.embedding"), 256);
}

#[test]
fn a_query_is_embedded_as_a_document() {
    let (mut db, mock) = remote();
    let sql = "SELECT chatbot_set_model('openai_compatible', 'mock', 8, 'passage: ', 'query: ')";
    db.admin.batch_execute(sql).unwrap();
    let mut app = db.session("app");
    app.batch_execute(&embed(1, "A text.")).unwrap();
    let mut tx = app.build_transaction().read_only(true).start().unwrap();
    assert_eq!(tx.query("SELECT * FROM chatbot_search(1, 'A question')", &[]).unwrap().len(), 1);
    tx.query("SELECT chatbot_embed('A document'), chatbot_embed('Another', 'query')", &[]).unwrap();
    assert_eq!(mock.texts(), ["passage: A text.", "query: A question", "passage: A document", "query: Another"]);
    drop(tx);
    assert_eq!(one::<String>(&mut app, "SELECT content FROM chatbot_sync.embedding"), "A text.");
}

#[test]
fn long_vectors_do_not_fit() {
    let mut db = Db::new();
    let storage = "SELECT attstorage::text FROM pg_attribute WHERE attrelid = 'chatbot_sync.embedding'::regclass AND attname = 'embedding'";
    db.admin.batch_execute("SELECT chatbot_set_model('openai', 'text-embedding-3-large')").unwrap();
    assert_eq!(one::<String>(&mut db.admin, storage), "e");
    db.admin.batch_execute("SELECT chatbot_embed_source(1, 'document', 1, '')").unwrap();
    let long = "INSERT INTO chatbot_sync.embedding (chatbot_id, source_type, source_id, model_id, chunk_id, chunk_index, start_offset, end_offset, content, embedding)
        SELECT 1, 'document', 1, 1, 0, 0, 0, 1, 'x', array_fill(0.1, '{3072}')::vector";
    db.admin.batch_execute(long).unwrap();
    db.admin
        .batch_execute("SELECT chatbot_cleanup(1); SELECT chatbot_set_model('local', 'minilm-static-256')")
        .unwrap();
    assert_eq!(one::<String>(&mut db.admin, storage), "p");
}

#[test]
fn what_was_used_is_not_counted() {
    let (db, mock) = remote();
    let mut app = db.session("app");
    mock.state().faults.push_back(Fault::Status(500, "", ""));
    app.batch_execute("SET chatbot_sync.batch_size = 2").unwrap();
    app.batch_execute(&embed(1, &prose(30))).unwrap();
    let chunks: i32 = one(&mut app, "SELECT chunk_count FROM chatbot_sync.source");
    let requests = mock.state().requests.len();
    let inputs = mock.texts().len();
    let log = "SELECT chunks || ' ' || embedded || ' ' || requests || ' ' || inputs || ' ' || tokens || ' ' || (total_ms >= embedding_ms)
        FROM chatbot_sync.sync_log";
    let expected = format!("{chunks} {chunks} {requests} {inputs} {} true", chunks * 10);
    assert_eq!(column::<String>(&mut app, log), [expected]);
    app.batch_execute(&embed(1, &prose(30))).unwrap();
    assert_eq!(one::<i64>(&mut app, "SELECT count(*) FROM chatbot_sync.sync_log"), 1);
}
