//! The meaning of a response without vectors: by its status, and by its body where the status is ambiguous.

use std::time::Duration;

use serde_json::Value;

use super::wait::requested_wait;
use crate::error::FaultKind;

/// Returns the kind of fault, the provider's message, and how long it asks to wait.
pub fn refused(status: u16, headers: &[(&str, String)], body: &[u8]) -> (FaultKind, String, Option<Duration>) {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let message = message(&json).unwrap_or_else(|| {
        // Some proxies answer in HTML or plain text, of which the first line says enough. It is not shortened here,
        // since a key that is cut in two could not be found and removed later.
        let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
        String::from_utf8_lossy(line).trim().to_owned()
    });
    let wait = requested_wait(status, headers, &json);
    (fault_kind(status, &json, &message), message, wait)
}

/// Does the same for a response with status 200 that contains an error instead of vectors; `None` where it
/// contains no error.
pub fn refused_with_status_200(
    headers: &[(&str, String)],
    body: &[u8],
) -> Option<(FaultKind, String, Option<Duration>)> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let error = match &error_object(&json)["error"] {
        Value::Null | Value::Bool(false) => return None,
        error => error,
    };
    let message = message(&json).unwrap_or_else(|| error.to_string());
    // Some servers put the intended status into the body.
    let meant = [&error["code"], &error["status"], &error["status_code"], &error_object(&json)["status"]];
    let meant = meant.iter().find_map(|status| match status {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64().and_then(|n| u16::try_from(n).ok()),
    });
    let status = match meant {
        Some(status @ 400..600) => status,
        _ if is_about_a_limit(&json) => 429,
        _ if is_invalid(&json) => 400,
        _ => 500,
    };
    let kind = match fault_kind(status, &json, &message) {
        // Only the words of the message say what kind of error it is.
        FaultKind::Server if meant.is_none() => fault_kind_by_message(&message).unwrap_or(FaultKind::Server),
        kind => kind,
    };
    Some((kind, message, requested_wait(status, headers, &json)))
}

fn fault_kind(status: u16, json: &Value, message: &str) -> FaultKind {
    match status {
        // This is a limit of the plan, not of the minute: waiting does not help.
        402 => FaultKind::Quota,
        400.. if is_quota(json, message) => FaultKind::Quota,
        429 if message.contains("Request too large") => FaultKind::Refused,
        429 => FaultKind::Throttled,
        300..400 => FaultKind::Redirect,
        401 | 403 | 407 | 498 => FaultKind::Unauthorized,
        _ if has_error_code(json, &["invalid_api_key", "authentication_error", "API_KEY_INVALID"]) => {
            FaultKind::Unauthorized
        }
        404 | 405 => FaultKind::NotFound,
        _ if has_error_code(json, &["model_not_found", "DeploymentNotFound"]) => FaultKind::NotFound,
        // A text that is longer than any model takes, or a request that is too large as a whole.
        413 => FaultKind::TooLong,
        // Self-hosted servers say so with various statuses: llama.cpp and Ollama also with 500.
        _ if is_too_long(json, message) => FaultKind::TooLong,
        408 | 425 | 500.. => FaultKind::Server,
        _ => FaultKind::Refused,
    }
}

fn error_object(json: &Value) -> &Value {
    if json.is_array() { &json[0] } else { json }
}

/// Returns the message from where the APIs put it: `error.message`, `error`, `message`, `detail`, `error.details`;
/// `None` where there is none.
fn message(json: &Value) -> Option<String> {
    let json = error_object(json);
    let found =
        [&json["error"]["message"], &json["error"], &json["message"], &json["detail"], &json["error"]["details"]];
    found.iter().find_map(|v| v.as_str()).filter(|s| !s.is_empty()).map(str::to_owned)
}

/// Whether a code, type or reason in an error is one of these.
fn has_error_code(json: &Value, codes: &[&str]) -> bool {
    let json = error_object(json);
    let error = &json["error"];
    let details = error["details"].as_array().into_iter().flatten().map(|detail| &detail["reason"]);
    let fields = [&error["code"], &error["type"], &error["status"], &json["code"], &json["type"], &json["error_type"]];
    fields.into_iter().chain(details).any(|field| field.as_str().is_some_and(|said| codes.contains(&said)))
}

fn is_about_a_limit(json: &Value) -> bool {
    has_error_code(
        json,
        &["rate_limit_exceeded", "rate_limit_error", "too_many_requests", "RESOURCE_EXHAUSTED", "tokens", "requests"],
    )
}

fn is_invalid(json: &Value) -> bool {
    has_error_code(
        json,
        &["invalid_request_error", "invalid_request", "BadRequestError", "INVALID_ARGUMENT", "Validation"],
    )
}

fn is_quota(json: &Value, message: &str) -> bool {
    const CODES: [&str; 6] = [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
    ];
    let per_day = error_object(json)["error"]["details"].to_string().contains("PerDay");
    has_error_code(json, &CODES) || per_day || message.contains("calls / month")
}

/// Whether the error says that a text has more tokens than the model takes.
fn is_too_long(json: &Value, message: &str) -> bool {
    const CODES: [&str; 4] =
        ["context_length_exceeded", "string_above_max_length", "exceed_context_size_error", "max_tokens_per_request"];
    const WORDS: [&str; 20] = [
        // OpenAI, Azure, vLLM, Mistral
        "maximum context length",
        "maximum input length",
        "max model len",
        "maximum model length",
        "string too long",
        // Ollama
        "context length",
        // llama.cpp and servers built on it
        "input is too large to process",
        "input prompt is too big",
        "context size",
        "n_ctx",
        // TEI
        "tokens. given:",
        // Cohere, Voyage
        "too many tokens",
        "context window",
        "max allowed tokens",
        // Gemini
        "input token count",
        "maximum number of tokens",
        "payload size exceeds",
        // LiteLLM, LM Studio, Together and others
        "input is too long",
        "input too long",
        "token limit",
    ];
    let message = message.to_lowercase();
    has_error_code(json, &CODES) || WORDS.iter().any(|words| message.contains(words))
}

/// Whether the message of a refusal is about the vector length that was asked for.
pub fn is_about_dimensions(message: &str) -> bool {
    let message = message.to_lowercase();
    ["dimension", "matryoshka"].iter().any(|word| message.contains(word))
}

fn fault_kind_by_message(message: &str) -> Option<FaultKind> {
    let message = message.to_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if any(&["api key", "unauthorized", "authentication", "not authorized"]) {
        Some(FaultKind::Unauthorized)
    } else if any(&["quota", "billing", "credit"]) {
        Some(FaultKind::Quota)
    } else if any(&["rate limit", "too many requests"]) {
        Some(FaultKind::Throttled)
    } else if any(&["model"]) && any(&["not found", "does not exist", "unknown"]) {
        Some(FaultKind::NotFound)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> FaultKind {
        refused(status, &[], body.as_bytes()).0
    }

    #[test]
    fn each_status_has_its_kind_of_fault() {
        for (status, expected) in [
            (301, FaultKind::Redirect),
            (400, FaultKind::Refused),
            (401, FaultKind::Unauthorized),
            (402, FaultKind::Quota),
            (403, FaultKind::Unauthorized),
            (404, FaultKind::NotFound),
            (408, FaultKind::Server),
            (413, FaultKind::TooLong),
            (422, FaultKind::Refused),
            (429, FaultKind::Throttled),
            (500, FaultKind::Server),
            (503, FaultKind::Server),
        ] {
            assert_eq!(kind(status, "{}"), expected, "{status}");
        }
    }

    #[test]
    fn an_exhausted_quota_is_not_waited_for() {
        for body in [
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"x","details":[{"violations":[{"quotaId":"EmbedContentRequestsPerDayPerUser"}]}]}}"#,
            r#"{"message":"You are limited to 1000 API calls / month"}"#,
        ] {
            assert_eq!(kind(429, body), FaultKind::Quota, "{body}");
        }
        let rate = r#"{"error":{"message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded"}}"#;
        assert_eq!(kind(429, rate), FaultKind::Throttled);
        let large =
            r#"{"error":{"message":"Request too large for x: Limit 100, Requested 200","code":"rate_limit_exceeded"}}"#;
        assert_eq!(kind(429, large), FaultKind::Refused);
        let key = r#"{"error":{"code":400,"message":"API key not valid.","details":[{"reason":"API_KEY_INVALID"}]}}"#;
        assert_eq!(kind(400, key), FaultKind::Unauthorized);
    }

    #[test]
    fn provider_messages_are_kept() {
        for (body, expected) in [
            (r#"{"error":{"message":"openai"}}"#, "openai"),
            (r#"{"error":"ollama"}"#, "ollama"),
            (r#"{"message":"cohere"}"#, "cohere"),
            (r#"{"detail":"voyage"}"#, "voyage"),
            (r#"[{"error":{"message":"gemini"}}]"#, "gemini"),
            ("<html>502 Bad Gateway</html>\nmore", "<html>502 Bad Gateway</html>"),
            ("", ""),
        ] {
            assert_eq!(refused(500, &[], body.as_bytes()).1, expected);
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_told_from_one_that_is_refused() {
        for (status, body) in [
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens, however you requested 10000 tokens","type":"invalid_request_error","code":null}}"#,
            ),
            (
                400,
                r#"{"error":{"message":"Invalid 'input[0]': maximum input length is 8192 tokens.","type":"invalid_request_error"}}"#,
            ),
            (400, r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#),
            (
                413,
                r#"{"error":"Input validation error: `inputs` must have less than 512 tokens. Given: 785","error_type":"Validation"}"#,
            ),
            (422, r#"{"error":"`inputs` must have less than 512 tokens. Given: 785","error_type":"Validation"}"#),
            (400, r#"{"error":"the input length exceeds the context length"}"#),
            (500, r#"{"error":"input length exceeds maximum context length"}"#),
            (
                500,
                r#"{"error":{"code":500,"message":"input is too large to process. increase the physical batch size","type":"server_error"}}"#,
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#,
            ),
            (400, r#"{"message":"too many tokens: size limit exceeded by 11326 tokens."}"#),
            (
                400,
                r#"{"detail":"The example at index 0 in your batch has too many tokens and does not fit into the model's context window of 32000 tokens."}"#,
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"The input token count (3000) exceeds the maximum number of tokens allowed (2048).","status":"INVALID_ARGUMENT"}}"#,
            ),
        ] {
            assert_eq!(kind(status, body), FaultKind::TooLong, "{body}");
        }
        let content = r#"{"error":{"message":"this text breaks the rules","type":"invalid_request_error"}}"#;
        assert_eq!(kind(400, content), FaultKind::Refused);
    }

    #[test]
    fn an_error_with_status_200_is_what_it_says() {
        let kind = |body: &str| refused_with_status_200(&[], body.as_bytes()).map(|(kind, ..)| kind);
        for (body, expected) in [
            (r#"{"error":{"message":"x","code":"invalid_api_key"}}"#, FaultKind::Unauthorized),
            (r#"{"error":{"message":"x","type":"insufficient_quota"}}"#, FaultKind::Quota),
            (r#"{"error":{"message":"x","code":"model_not_found"}}"#, FaultKind::NotFound),
            (r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#, FaultKind::TooLong),
            (r#"{"error":{"message":"x","code":"rate_limit_exceeded"}}"#, FaultKind::Throttled),
            (r#"{"error":{"message":"x","type":"invalid_request_error"}}"#, FaultKind::Refused),
            (r#"{"error":{"message":"x","code":401}}"#, FaultKind::Unauthorized),
            (r#"{"error":{"message":"x","code":"429"}}"#, FaultKind::Throttled),
            (r#"{"error":{"message":"x","code":503}}"#, FaultKind::Server),
            (r#"{"error":"Invalid API key"}"#, FaultKind::Unauthorized),
            (r#"{"error":"model \"x\" not found, try pulling it first"}"#, FaultKind::NotFound),
            (r#"{"error":"out of memory"}"#, FaultKind::Server),
            (r#"{"error":{}}"#, FaultKind::Server),
        ] {
            assert_eq!(kind(body), Some(expected), "{body}");
        }
        for body in [r#"{"data":[]}"#, r#"{"error":null}"#, "<html>", ""] {
            assert_eq!(kind(body), None, "{body}");
        }
        let words = refused_with_status_200(&[], br#"{"error":{"message":"out of memory"}}"#);
        assert_eq!(words.map(|(_, words, _)| words), Some("out of memory".to_owned()));
    }
}
