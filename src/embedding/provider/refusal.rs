//! What an answer with another status than 200 means: by its status, and where that is not enough by its body.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::error::FaultKind;

/// Nobody waits longer, and there are clocks that do not go further.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The kind of a refusal, the provider's own words and how long it asks to wait.
pub fn refused(status: u16, retry_after: Option<&str>, body: &[u8]) -> (FaultKind, String, Option<Duration>) {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let message = message(&json).unwrap_or_else(|| {
        // Some proxies answer in HTML or plain text; the first line tells enough. It is whole, since a key that is cut
        // would not be found in it.
        let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
        String::from_utf8_lossy(line).trim().to_owned()
    });
    let wait = retry_after.and_then(parse_retry_after).or_else(|| retry_info(&json)).map(|wait| wait.min(LONGEST_WAIT));
    let kind = match status {
        // A limit of the plan, not of the minute: waiting does not help.
        402 => FaultKind::Quota,
        429 if is_quota(&json, &message) => FaultKind::Quota,
        429 if message.contains("Request too large") => FaultKind::Refused,
        429 => FaultKind::Throttled,
        400 if json.to_string().contains("API_KEY_INVALID") => FaultKind::Unauthorized,
        401 | 403 | 407 | 498 => FaultKind::Unauthorized,
        404 | 405 => FaultKind::NotFound,
        408 | 425 | 500.. => FaultKind::Server,
        300..400 => FaultKind::Redirect,
        _ => FaultKind::Refused,
    };
    (kind, message, wait)
}

/// Where the APIs put their words: `error.message`, `error`, `message`, `detail`.
fn message(json: &Value) -> Option<String> {
    let json = if json.is_array() { &json[0] } else { json };
    let found = [&json["error"]["message"], &json["error"], &json["message"], &json["detail"]];
    found.iter().find_map(|v| v.as_str()).filter(|s| !s.is_empty()).map(str::to_owned)
}

fn is_quota(json: &Value, message: &str) -> bool {
    const CODES: [&str; 5] = [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    ];
    let says = |field: &Value| field.as_str().is_some_and(|s| CODES.contains(&s));
    let per_day = json["error"]["details"].to_string().contains("PerDay");
    says(&json["error"]["code"]) || says(&json["error"]["type"]) || per_day || message.contains("calls / month")
}

/// Google's `RetryInfo`: `"retryDelay": "8.5s"`.
fn retry_info(json: &Value) -> Option<Duration> {
    let json = if json.is_array() { &json[0] } else { json };
    let delay = json["error"]["details"].as_array()?.iter().find_map(|d| d["retryDelay"].as_str())?;
    seconds(delay.strip_suffix('s')?)
}

/// `Retry-After` (RFC 9110): seconds, or a date.
fn parse_retry_after(value: &str) -> Option<Duration> {
    seconds(value.trim()).or_else(|| {
        let date = httpdate::parse_http_date(value.trim()).ok()?;
        Some(date.duration_since(SystemTime::now()).unwrap_or_default())
    })
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> FaultKind {
        refused(status, None, body.as_bytes()).0
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
            (413, FaultKind::Refused),
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
    fn the_providers_words_are_kept() {
        for (body, expected) in [
            (r#"{"error":{"message":"openai"}}"#, "openai"),
            (r#"{"error":"ollama"}"#, "ollama"),
            (r#"{"message":"cohere"}"#, "cohere"),
            (r#"{"detail":"voyage"}"#, "voyage"),
            (r#"[{"error":{"message":"gemini"}}]"#, "gemini"),
            ("<html>502 Bad Gateway</html>\nmore", "<html>502 Bad Gateway</html>"),
            ("", ""),
        ] {
            assert_eq!(refused(500, None, body.as_bytes()).1, expected);
        }
    }

    #[test]
    fn retry_after_is_read() {
        let wait = |value: &str| refused(429, Some(value), b"").2;
        assert_eq!(wait("2"), Some(Duration::from_secs(2)));
        assert_eq!(wait("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(wait("-1"), None);
        assert_eq!(wait("soon"), None);
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        let seconds = wait(&date).unwrap().as_secs();
        assert!((28..=30).contains(&seconds));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        for endless in ["1e19", "10000000000000000000", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(wait(endless), Some(LONGEST_WAIT));
        }
        let info = br#"{"error":{"details":[{"retryDelay":"8.5s"}]}}"#;
        assert_eq!(refused(429, None, info).2, Some(Duration::from_millis(8500)));
    }
}
