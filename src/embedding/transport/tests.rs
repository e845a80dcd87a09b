use std::sync::Mutex;

use serde_json::Map;

use super::*;
use crate::embedding::provider::{Secret, find_provider};

/// A transport that always gives the same outcome and records its requests.
struct RecordingTransport {
    outcome: std::result::Result<Response, Failure>,
    asked: Mutex<Vec<(Request, Duration)>>,
}

impl Transport for RecordingTransport {
    fn send(&self, request: &Request, timeout: Duration) -> std::result::Result<Response, Failure> {
        self.asked.lock().unwrap().push((request.clone(), timeout));
        self.outcome.clone()
    }
}

const KEY: &str = "sk-secret";
const TIMEOUT: Duration = Duration::from_secs(7);

fn send_request(outcome: std::result::Result<Response, Failure>) -> (std::result::Result<Answer, Fault>, Request) {
    let memory = RecordingTransport { outcome, asked: Mutex::default() };
    let endpoint = Endpoint { url: "http://host/v1".to_owned(), key: Some(Secret::new(KEY)) };
    let model = Model {
        provider: "openai".to_owned(),
        name: "small".to_owned(),
        dimensions: 2,
        shortened: false,
        document_prefix: String::new(),
        query_prefix: String::new(),
        options: Map::new(),
    };
    let provider = find_provider("openai").unwrap();
    let answer =
        request_embeddings(&memory, provider, &endpoint, &model, InputType::Document, &["a text", "another"], TIMEOUT);
    let mut asked = memory.asked.into_inner().unwrap();
    let (request, timeout) = asked.pop().unwrap();
    assert!(asked.is_empty());
    assert!(timeout <= TIMEOUT && timeout > TIMEOUT / 2);
    (answer, request)
}

fn response(status: u16, retry_after: Option<&str>, body: &str) -> std::result::Result<Response, Failure> {
    let wait_headers = retry_after.map(|value| ("retry-after", value.to_owned())).into_iter().collect();
    Ok(Response { status, wait_headers, body: body.as_bytes().to_vec() })
}

/// Returns the fault of a request with this outcome.
fn fault(outcome: std::result::Result<Response, Failure>) -> Fault {
    let fault = send_request(outcome).0.unwrap_err();
    assert_eq!((fault.provider.as_str(), fault.model.as_str()), ("openai", "small"));
    fault
}

/// Returns a provider's message as it is shown to the user.
fn shown_message(words: &str) -> String {
    fault(response(500, None, &serde_json::json!({"error": {"message": words}}).to_string())).message
}

#[test]
fn request_and_response_arrive_unchanged() {
    let body = r#"{"data":[{"index":1,"embedding":[3,4]},{"index":0,"embedding":[1,2]}],"usage":{"total_tokens":5}}"#;
    let (answer, request) = send_request(response(200, None, body));
    assert_eq!(answer, Ok(Answer::new(vec![(1, vec![3.0, 4.0]), (0, vec![1.0, 2.0])], 5)));
    assert_eq!(request.url, "http://host/v1/embeddings");
    assert_eq!(request.headers, [("authorization", Secret::new("Bearer sk-secret"))]);
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["input"], serde_json::json!(["a text", "another"]));
}

#[test]
fn each_failure_has_its_kind_of_fault() {
    for (failure, kind, message) in [
        (Failure::Unreachable("io: broken\npipe".to_owned()), FaultKind::Unreachable, "io: broken pipe"),
        (Failure::Disconnected("io: closed".to_owned()), FaultKind::Disconnected, "io: closed"),
        (Failure::TimedOut, FaultKind::TimedOut, "chatbot_sync.sync_timeout is over"),
        (Failure::TooLarge, FaultKind::AnswerTooLarge, ""),
    ] {
        let fault = fault(Err(failure));
        assert_eq!((fault.kind, fault.status, fault.message.as_str()), (kind, None, message));
        assert_eq!(fault.retry_after, None);
    }
}

#[test]
fn each_http_status_has_its_kind_of_fault() {
    for (status, kind) in [
        (301, FaultKind::Redirect),
        (308, FaultKind::Redirect),
        (400, FaultKind::Refused),
        (401, FaultKind::Unauthorized),
        (402, FaultKind::Quota),
        (403, FaultKind::Unauthorized),
        (404, FaultKind::NotFound),
        (408, FaultKind::Server),
        (422, FaultKind::Refused),
        (429, FaultKind::Throttled),
        (500, FaultKind::Server),
        (503, FaultKind::Server),
        (599, FaultKind::Server),
    ] {
        let fault = fault(response(status, Some("7"), r#"{"error":{"message":"words"}}"#));
        assert_eq!((fault.kind, fault.status, fault.message.as_str()), (kind, Some(status), "words"), "{status}");
        assert_eq!(fault.retry_after, Some(Duration::from_secs(7)), "{status}");
    }
}

#[test]
fn a_response_of_another_shape_is_a_fault() {
    for (body, message) in [
        ("", "it ends in the middle"),
        (r#"{"data":[{"index":0,"#, "it ends in the middle"),
        ("<html>", "it is no JSON"),
        (r#"{"data":{}}"#, "its shape is another: "),
        (r#"{"data":[{"embedding":"sk-secret"}]}"#, "its shape is another: "),
        (r#"{"data":"sk-secret"}"#, "its shape is another: "),
    ] {
        let fault = fault(response(200, None, body));
        assert_eq!((fault.kind, fault.status), (FaultKind::BadAnswer, Some(200)));
        assert!(fault.message.starts_with(message) && !fault.message.contains(KEY), "{}", fault.message);
    }
}

#[test]
fn provider_messages_are_one_line() {
    for (words, expected) in [
        ("plain", "plain"),
        ("  two\r\n\tlines \u{2028} and\u{a0}more  ", "two lines and more"),
        ("a\u{0}b\u{1b}[31mc\u{7f}\u{85}d", "ab[31mc d"),
        ("Größe 漢字 👍", "Größe 漢字 👍"),
    ] {
        assert_eq!(shown_message(words), expected);
    }
    assert_eq!(shown_message(&"ä".repeat(200)), "ä".repeat(200));
    assert_eq!(shown_message(&"ä".repeat(201)), "ä".repeat(200) + "...");
}

#[test]
fn keys_are_removed_from_provider_messages() {
    assert_eq!(shown_message("The key sk-secret is not sk-secrets: sk-secret"), "The key *** is not ***s: ***");
    // Leaving out control characters must not put the key together again.
    assert_eq!(shown_message("The key sk-\u{0}secret"), "The key ***");
    // Cutting the message must not leave a part of the key.
    let long = "x".repeat(195) + KEY;
    assert_eq!(shown_message(&long), "x".repeat(195) + "***");
    // The page of a proxy that contains the key where the message is cut.
    for spaces in 380..400 {
        let page = format!("Refused:{}{KEY}", " ".repeat(spaces));
        assert_eq!(fault(response(401, None, &page)).message, "Refused: ***", "{spaces}");
    }
    assert_eq!(fault(Err(Failure::Unreachable(format!("no {KEY}")))).message, "no ***");
    // A header's value is sent without the white space around it.
    let endpoint = Endpoint { url: String::new(), key: Some(Secret::new(format!("{KEY} "))) };
    assert_eq!(redacted_line("The key sk-secret.", &endpoint), "The key ***.");
}

#[test]
fn resolving_and_connecting_are_bounded() {
    let config = HttpConfig { connect_timeout: TIMEOUT, max_response_bytes: 1024, proxy: None };
    let timeouts = Http::new(&config).unwrap().agent.config().timeouts();
    // The client has a timeout of its own for the DNS lookup.
    assert_eq!((timeouts.resolve, timeouts.connect), (Some(TIMEOUT), Some(TIMEOUT)));
}

/// A server whose model gives `own_dimensions` numbers. It refuses texts over `longest` bytes and a `dimensions` of 3,
/// and records its requests.
struct Server {
    longest: usize,
    requests: Mutex<Vec<Vec<String>>>,
    own_dimensions: usize,
}

impl Transport for Server {
    fn send(&self, request: &Request, _: Duration) -> std::result::Result<Response, Failure> {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let texts: Vec<String> = serde_json::from_value(body["input"].clone()).unwrap();
        self.requests.lock().unwrap().push(texts.clone());
        if texts.iter().any(|text| text.len() > self.longest) {
            return response(400, None, r#"{"error":{"message":"This model's maximum context length is 8 tokens"}}"#);
        }
        if body["dimensions"] == 3 {
            return response(400, None, r#"{"error":{"message":"Model does not support matryoshka representation"}}"#);
        }
        let length = body["dimensions"].as_u64().map_or(self.own_dimensions, |n| n as usize);
        let data: Vec<_> = texts.iter().map(|_| serde_json::json!({"embedding": vec![1.0; length]})).collect();
        response(200, None, &serde_json::json!({"data": data, "usage": {"total_tokens": -1.5}}).to_string())
    }
}

fn ask_server(server: &Server, name: &str, length: usize, text: &str) -> std::result::Result<Answer, Fault> {
    let endpoint = Endpoint { url: "http://host/v1".to_owned(), key: None };
    let model = Model {
        provider: "openai_compatible".to_owned(),
        name: name.to_owned(),
        dimensions: length,
        shortened: true,
        document_prefix: "passage: ".to_owned(),
        query_prefix: String::new(),
        options: Map::new(),
    };
    let provider = find_provider("openai_compatible").unwrap();
    request_embeddings(server, provider, &endpoint, &model, InputType::Document, &[text], TIMEOUT)
}

#[test]
fn a_text_that_is_too_long_is_embedded_in_parts() {
    let server = Server { longest: 40, requests: Mutex::default(), own_dimensions: 2 };
    let words = "word ".repeat(20);
    let answer = ask_server(&server, "long", 2, &format!("passage: {words}")).unwrap();
    assert_eq!((answer.parts, answer.more_requests, answer.tokens), (4, 2, 0));
    assert!((answer.vectors[0].1[0] - 0.5_f32.sqrt()).abs() < 1e-6);
    let requests = server.requests.into_inner().unwrap();
    let parts = requests.last().unwrap();
    assert!(parts.iter().all(|part| part.starts_with("passage: word")));
    let all: Vec<&str> = parts.iter().flat_map(|part| part.split_whitespace().skip(1)).collect();
    assert_eq!(all.join(" "), words.trim());
    // Text without white space is cut too, and a server that refuses everything is asked only a few times.
    let server = Server { longest: 0, requests: Mutex::default(), own_dimensions: 2 };
    let refused = ask_server(&server, "long", 2, &"漢".repeat(1000)).unwrap_err();
    assert_eq!(refused.kind, FaultKind::TooLong);
    assert_eq!(server.requests.into_inner().unwrap().len(), 7);
}

#[test]
fn a_length_is_asked_for_only_where_it_is_not_the_models_own() {
    let server = Server { longest: 40, requests: Mutex::default(), own_dimensions: 3 };
    assert_eq!(ask_server(&server, "own", 3, "a").unwrap().more_requests, 0);
    assert_eq!(ask_server(&server, "shorter", 2, "a").unwrap().more_requests, 1);
    assert_eq!(ask_server(&server, "shorter", 2, "a").unwrap().more_requests, 0);
    assert_eq!(server.requests.lock().unwrap().len(), 4);
    let server = Server { longest: 40, requests: Mutex::default(), own_dimensions: 8 };
    assert_eq!(ask_server(&server, "refusing", 3, "a").unwrap_err().kind, FaultKind::Dimensions);
}
