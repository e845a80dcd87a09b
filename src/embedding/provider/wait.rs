//! The wait that a provider asks for, read from the headers or the body of its response.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// The longest wait that is accepted: a daily quota is available again by then.
pub const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The headers that [`requested_wait`] reads.
pub const WAIT_HEADERS: [&str; 10] = [
    "retry-after",
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-after",
    "x-ratelimit-reset",
    "ratelimit-reset",
];

/// Returns how long a response asks to wait; `None` where it does not say. The order is `Retry-After`, Azure's
/// headers in milliseconds, Google's `RetryInfo` in the body, and for status 429 the time at which the exhausted rate
/// limit is reset.
pub fn requested_wait(status: u16, headers: &[(&str, String)], body: &Value) -> Option<Duration> {
    let value = |name: &str| headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.trim());
    let millis = |name| seconds(value(name)?).map(|wait| wait / 1000);
    let wait = value("retry-after")
        .and_then(retry_after)
        .or_else(|| millis("retry-after-ms"))
        .or_else(|| millis("x-ms-retry-after-ms"))
        .or_else(|| retry_info(body));
    // Some providers send these headers with every response, so they only count where a limit was hit.
    let reset = || {
        let used_up = |limit: &str| value(&format!("x-ratelimit-remaining-{limit}")) == Some("0");
        let limits = ["requests", "tokens"];
        let any_used_up = limits.iter().any(|limit| used_up(limit));
        let resets = limits.iter().filter(|limit| !any_used_up || used_up(limit));
        let longest = resets.filter_map(|limit| duration(value(&format!("x-ratelimit-reset-{limit}"))?)).max();
        longest
            .or_else(|| seconds(value("x-ratelimit-reset-after")?))
            .or_else(|| point_in_time(value("x-ratelimit-reset")?))
            .or_else(|| point_in_time(value("ratelimit-reset")?))
    };
    wait.or_else(|| if status == 429 { reset() } else { None }).map(|wait| wait.min(LONGEST_WAIT))
}

/// Reads Google's `RetryInfo`: `"retryDelay": "8.5s"`.
fn retry_info(body: &Value) -> Option<Duration> {
    let body = if body.is_array() { &body[0] } else { body };
    let delay = body["error"]["details"].as_array()?.iter().find_map(|d| d["retryDelay"].as_str())?;
    seconds(delay.strip_suffix('s')?)
}

/// Reads `Retry-After` (RFC 9110): seconds, or a date.
fn retry_after(value: &str) -> Option<Duration> {
    seconds(value).or_else(|| date(value))
}

fn date(value: &str) -> Option<Duration> {
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Reads a point in time: seconds from now, seconds or milliseconds since 1970, a date, or a duration with units.
fn point_in_time(value: &str) -> Option<Duration> {
    /// Larger numbers are points in time: seconds since 1970 up to 2001. As a wait it would be 31 years, which no
    /// provider asks for.
    const EPOCH: f64 = 1e9;
    let Some(wait) = seconds(value) else { return date(value).or_else(|| duration(value)) };
    let since_1970 = match wait.as_secs_f64() {
        small if small < EPOCH => return Some(wait),
        large if large < EPOCH * 1000.0 => wait,
        _ => wait / 1000,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(since_1970.saturating_sub(now))
}

/// Reads a duration in Go's format, which OpenAI uses: "20ms", "1s", "6m0s", "1h2m3.5s".
fn duration(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (amount, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" | "" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(amount.parse::<f64>().ok()? * seconds).ok()?;
        sum = sum.saturating_add(part);
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(headers: &[(&str, &str)]) -> Option<Duration> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        requested_wait(429, &headers, &Value::Null)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let wait = |value: &str| wait(&[("retry-after", value)]);
        assert_eq!(wait("2"), Some(Duration::from_secs(2)));
        assert_eq!(wait("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(wait("-1"), None);
        assert_eq!(wait("NaN"), None);
        assert_eq!(wait("soon"), None);
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        assert!((28..=30).contains(&wait(&date).unwrap().as_secs()));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        for endless in ["1e19", "10000000000000000000", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(wait(endless), Some(LONGEST_WAIT));
        }
    }

    #[test]
    fn other_headers_count_where_retry_after_says_nothing() {
        let millis = |n| Some(Duration::from_millis(n));
        assert_eq!(wait(&[("retry-after-ms", "1500")]), millis(1500));
        assert_eq!(wait(&[("x-ms-retry-after-ms", "20.5")]), Some(Duration::from_micros(20_500)));
        assert_eq!(wait(&[("retry-after-ms", "1500"), ("retry-after", "3")]), millis(3000));
        assert_eq!(wait(&[("retry-after-ms", "1500"), ("retry-after", "soon")]), millis(1500));
        assert_eq!(wait(&[("x-ratelimit-reset-tokens", "6m0s"), ("retry-after", "1")]), millis(1000));
        assert_eq!(wait(&[("x-ratelimit-reset-requests", "20ms")]), millis(20));
        assert_eq!(wait(&[("x-ratelimit-reset-tokens", "1h2m3.5s")]), millis(3_723_500));
        assert_eq!(wait(&[("x-ratelimit-reset-after", "1.25")]), millis(1250));
        assert_eq!(wait(&[("x-ratelimit-reset", "7")]), millis(7000));
        assert_eq!(wait(&[("ratelimit-reset", "1s")]), millis(1000));
        assert_eq!(wait(&[("x-ratelimit-reset", "1000000000")]), millis(0));
        assert_eq!(wait(&[("x-ratelimit-reset", "99999999999")]), Some(LONGEST_WAIT));
        for nonsense in ["", "soon", "-1s", "1x", "s", "1.2.3s"] {
            assert_eq!(wait(&[("x-ratelimit-reset-tokens", nonsense)]), None, "{nonsense}");
        }
    }

    #[test]
    fn the_reset_of_the_limit_that_was_hit_counts() {
        let both = [("x-ratelimit-reset-requests", "8h"), ("x-ratelimit-reset-tokens", "2s")];
        assert_eq!(wait(&both), Some(Duration::from_secs(8 * 3600)));
        let with = |limit: &'static str| [both[0], both[1], (limit, "0")];
        assert_eq!(wait(&with("x-ratelimit-remaining-tokens")), Some(Duration::from_secs(2)));
        assert_eq!(wait(&with("x-ratelimit-remaining-requests")), Some(Duration::from_secs(8 * 3600)));
        // No limit was hit.
        let headers: Vec<_> = both.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        assert_eq!(requested_wait(503, &headers, &Value::Null), None);
    }

    #[test]
    fn googles_retry_info_is_read_from_the_body() {
        let info = serde_json::json!({"error": {"details": [{"@type": "x"}, {"retryDelay": "8.5s"}]}});
        assert_eq!(requested_wait(429, &[], &info), Some(Duration::from_millis(8500)));
        assert_eq!(requested_wait(429, &[], &serde_json::json!([info])), Some(Duration::from_millis(8500)));
    }
}
