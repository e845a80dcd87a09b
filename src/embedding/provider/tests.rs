//! Requests and responses of each API, compared with its documentation.

use serde_json::{Value, json};

use super::*;

fn model(name: &str, dimensions: usize, shortened: bool) -> Model {
    Model {
        provider: String::new(),
        name: name.to_owned(),
        dimensions,
        shortened,
        document_prefix: String::new(),
        query_prefix: String::new(),
        options: Map::new(),
    }
}

fn endpoint(url: &str) -> Endpoint {
    Endpoint { url: url.to_owned(), key: Some(Secret::new("sk-test")) }
}

fn sent(name: &str, model: &Model, input: InputType) -> (String, Vec<(&'static str, String)>, Value) {
    let provider = find_provider(name).unwrap();
    let url = provider.default_url().unwrap_or("http://host/v1");
    let request = provider.encode(&endpoint(url), model, input, &["one", "two"]);
    let headers = request.headers.iter().map(|(n, v)| (*n, v.reveal().to_owned())).collect();
    (request.url, headers, serde_json::from_slice(&request.body).unwrap())
}

fn bearer() -> Vec<(&'static str, String)> {
    vec![("authorization", "Bearer sk-test".to_owned())]
}

#[test]
fn openai_requests_have_the_documented_shape() {
    let (url, headers, body) = sent("openai", &model("text-embedding-3-small", 1536, false), InputType::Document);
    assert_eq!((url.as_str(), headers), ("https://api.openai.com/v1/embeddings", bearer()));
    let mut expected = json!({"model": "text-embedding-3-small", "input": ["one", "two"], "encoding_format": "base64"});
    assert_eq!(body, expected);
    expected["dimensions"] = 256.into();
    assert_eq!(sent("openai", &model("text-embedding-3-small", 256, true), InputType::Query).2, expected);
}

#[test]
fn compatible_servers_get_only_common_fields() {
    let mut mistral = model("codestral-embed", 512, true);
    let plain = model("bge", 1024, false);
    let (url, headers, body) = sent("openai_compatible", &plain, InputType::Document);
    assert_eq!((url.as_str(), headers), ("http://host/v1/embeddings", bearer()));
    assert_eq!(body, json!({"model": "bge", "input": ["one", "two"]}));
    mistral.options =
        json!({"dimensions_field": "output_dimension", "encoding_format": "base64"}).as_object().unwrap().clone();
    let body = sent("openai_compatible", &mistral, InputType::Document).2;
    let expected = json!({"model": "codestral-embed", "input": ["one", "two"], "encoding_format": "base64", "output_dimension": 512});
    assert_eq!(body, expected);
}

#[test]
fn azure_requests_have_the_documented_shape() {
    let provider = find_provider("azure").unwrap();
    let mut model = model("my deployment", 1536, false);
    let request = provider.encode(&endpoint("https://r.openai.azure.com"), &model, InputType::Document, &["one"]);
    assert_eq!(request.url, "https://r.openai.azure.com/openai/v1/embeddings");
    assert_eq!(request.headers, [("api-key", Secret::new("sk-test"))]);
    model.options = json!({"api_version": "2024-10-21"}).as_object().unwrap().clone();
    let request = provider.encode(&endpoint("https://r.openai.azure.com"), &model, InputType::Document, &["one"]);
    let expected = "https://r.openai.azure.com/openai/deployments/my%20deployment/embeddings?api-version=2024-10-21";
    assert_eq!(request.url, expected);
}

#[test]
fn ollama_requests_have_the_documented_shape() {
    let mut model = model("nomic-embed-text", 256, true);
    model.options = json!({"keep_alive": "5m", "num_ctx": 4096, "truncate": false}).as_object().unwrap().clone();
    let (url, _, body) = sent("ollama", &model, InputType::Document);
    assert_eq!(url, "http://127.0.0.1:11434/api/embed");
    let expected = json!({"model": "nomic-embed-text", "input": ["one", "two"], "dimensions": 256, "keep_alive": "5m",
        "truncate": false, "options": {"num_ctx": 4096}});
    assert_eq!(body, expected);
}

#[test]
fn cohere_requests_have_the_documented_shape() {
    let (url, headers, body) = sent("cohere", &model("embed-v4.0", 512, true), InputType::Document);
    assert_eq!((url.as_str(), headers), ("https://api.cohere.com/v2/embed", bearer()));
    let expected = json!({"model": "embed-v4.0", "texts": ["one", "two"], "input_type": "search_document",
        "embedding_types": ["float"], "output_dimension": 512});
    assert_eq!(body, expected);
    let body = sent("cohere", &model("embed-english-v3.0", 1024, false), InputType::Query).2;
    assert_eq!((&body["input_type"], &body["output_dimension"]), (&json!("search_query"), &Value::Null));
}

#[test]
fn voyage_requests_have_the_documented_shape() {
    let (url, headers, body) = sent("voyage", &model("voyage-3.5", 256, true), InputType::Query);
    assert_eq!((url.as_str(), headers), ("https://api.voyageai.com/v1/embeddings", bearer()));
    let expected = json!({"model": "voyage-3.5", "input": ["one", "two"], "input_type": "query",
        "encoding_format": "base64", "output_dimension": 256});
    assert_eq!(body, expected);
}

#[test]
fn gemini_requests_have_the_documented_shape() {
    let (url, headers, body) = sent("gemini", &model("gemini-embedding-001", 768, true), InputType::Query);
    let expected = "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:batchEmbedContents";
    assert_eq!((url.as_str(), headers), (expected, vec![("x-goog-api-key", "sk-test".to_owned())]));
    let one = |text: &str| {
        json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]},
            "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 768})
    };
    assert_eq!(body, json!({"requests": [one("one"), one("two")]}));
    let body = sent("gemini", &model("gemini-embedding-2", 3072, false), InputType::Query).2;
    assert_eq!(
        body["requests"][0],
        json!({"model": "models/gemini-embedding-2", "content": {"parts": [{"text": "one"}]}})
    );
}

#[test]
fn documented_responses_are_decoded() {
    let two = vec![(0, vec![0.5, -1.0]), (1, vec![2.0, 0.0])];
    for (name, body, tokens) in [
        (
            "openai",
            r#"{"object":"list","data":[{"object":"embedding","index":1,"embedding":"AAAAQAAAAAA="},
            {"object":"embedding","index":0,"embedding":"AAAAPwAAgL8="}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            8,
        ),
        ("openai_compatible", r#"{"data":[{"embedding":[0.5,-1]},{"embedding":[2,0.0]}]}"#, 0),
        (
            "azure",
            r#"{"data":[{"index":0,"embedding":[0.5,-1]},{"index":1,"embedding":[2,0.0]}],"usage":{"total_tokens":3}}"#,
            3,
        ),
        (
            "ollama",
            r#"{"model":"all-minilm","embeddings":[[0.5,-1],[2,0]],"total_duration":14143917,"load_duration":1019500,"prompt_eval_count":8}"#,
            8,
        ),
        (
            "cohere",
            r#"{"id":"x","texts":["a","b"],"embeddings":{"float":[[0.5,-1],[2,0]]},"meta":{"api_version":{"version":"2"},
            "billed_units":{"input_tokens":2.0}},"response_type":"embeddings_by_type"}"#,
            2,
        ),
        (
            "voyage",
            r#"{"object":"list","data":[{"object":"embedding","embedding":"AAAAPwAAgL8=","index":0},
            {"object":"embedding","embedding":[2,0],"index":1}],"model":"voyage-3.5","usage":{"total_tokens":10}}"#,
            10,
        ),
        (
            "gemini",
            r#"{"embeddings":[{"values":[0.5,-1]},{"values":[2,0]}],"usageMetadata":{"promptTokenCount":10}}"#,
            10,
        ),
    ] {
        let mut answer = find_provider(name).unwrap().decode(body.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        answer.vectors.sort_by_key(|v| v.0);
        assert_eq!(answer, Answer::new(two.clone(), tokens), "{name}");
    }
}

#[test]
fn broken_responses_are_refused() {
    for body in [
        "",
        "{",
        "<html>",
        "[]",
        "{}",
        r#"{"data":null}"#,
        r#"{"data":[{"embedding":null}]}"#,
        r#"{"data":[{"embedding":[]}]}"#,
        r#"{"data":[{"embedding":[0.5,null]}]}"#,
        r#"{"data":[{"embedding":["x"]}]}"#,
        r#"{"data":[{"embedding":"AAA"}]}"#,
        r#"{"data":[{"embedding":"AAAAPwA="}]}"#,
        r#"{"data":[{"index":-1,"embedding":[1]}]}"#,
        r#"{"data":[{"embedding":[0.5,1]}"#,
    ] {
        for provider in http_providers() {
            assert!(provider.decode(body.as_bytes()).is_err(), "{}: {body}", provider.name());
        }
    }
}

#[test]
fn keys_are_never_shown() {
    let secret = Secret::new("sk-very-secret");
    assert_eq!(format!("{secret:?}"), "***");
    let endpoint = Endpoint { url: "http://h".to_owned(), key: Some(secret) };
    assert!(!format!("{endpoint:?}").contains("secret"));
    for provider in http_providers() {
        let request = provider.encode(&endpoint, &model("m", 2, false), InputType::Document, &["x"]);
        assert!(!format!("{request:?} {}", request.url).contains("secret"), "{}", provider.name());
    }
}

#[test]
fn unusable_addresses_are_refused() {
    for url in [
        "",
        "host",
        "ftp://host",
        "http://",
        "https://user:pw@host/v1",
        "http://user@host",
        "http://:80",
        "http://h ost",
        "http://host/?a=b",
        "http://host/#x",
        "file:///etc/passwd",
        "http://ho\nst",
    ] {
        let error = check_url("chatbot_sync.openai_url", url).unwrap_err().to_string();
        assert!(
            error.starts_with("chatbot_sync.openai_url is no address that can be used, expected http://"),
            "{error}"
        );
        assert!(!error.contains("pw"));
    }
    assert_eq!(check_url("u", "https://host/v1/").unwrap(), "https://host/v1");
    assert_eq!(check_url("u", "http://[::1]:8080").unwrap(), "http://[::1]:8080");
}

#[test]
fn unknown_options_are_refused() {
    let check = |name: &str, options: Value| {
        check_options(find_provider(name).unwrap().options(), options.as_object().unwrap())
    };
    assert!(check("ollama", json!({"num_ctx": 100, "truncate": true})).is_ok());
    let error = check("ollama", json!({"num_ctx": 0})).unwrap_err().to_string();
    assert_eq!(error, "options is {\"num_ctx\": 0}, expected \"num_ctx\" to be a whole number, 1 or more");
    let error = check("ollama", json!({"url": "http://evil"})).unwrap_err().to_string();
    assert_eq!(error, "options is \"url\", expected one of keep_alive, num_ctx, truncate");
    assert!(check("openai", json!({"user": "x"})).is_err());
    assert!(check("openai_compatible", json!({"encoding_format": "int8"})).is_err());
}

#[test]
fn impossible_dimensions_are_refused() {
    let refuses =
        |provider: &str, name: &str, n| find_provider(provider).unwrap().known(name).unwrap().check_dimensions(n);
    assert_eq!(refuses("openai", "text-embedding-3-small", 256), None);
    assert_eq!(refuses("openai", "text-embedding-3-small", 2000).unwrap(), "1 to 1536");
    assert_eq!(refuses("openai", "text-embedding-ada-002", 512).unwrap(), "1536");
    assert_eq!(refuses("cohere", "embed-v4.0", 300).unwrap(), "256, 512, 1024, 1536");
}
