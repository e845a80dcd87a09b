//! Lines in the server's log, as key=value: routine events at DEBUG1, failures at LOG. No line contains a document's text, a
//! provider's message (which may repeat the text) or an API key.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::error::Error;
use crate::pg::runtime::sql_error;
use crate::source::SourceKey;

/// Writes a line at DEBUG1; `fields` is only called where that level is logged or sent to the client.
pub fn debug_line(event: &str, fields: impl FnOnce() -> String) {
    if is_debug_line_interesting() {
        pgrx::debug1!("chatbot_sync: event={event} {}", fields());
    }
}

#[allow(unsafe_code)]
fn is_debug_line_interesting() -> bool {
    // SAFETY: reads settings of this backend.
    unsafe { pgrx::pg_sys::message_level_is_interesting(pgrx::pg_sys::DEBUG1.cast_signed()) }
}

/// A source's key as fields of a line.
pub fn source_fields(key: &SourceKey) -> String {
    let SourceKey { chatbot_id, source_type, source_id } = key;
    format!("chatbot_id={chatbot_id} source_type={source_type} source_id={source_id}")
}

/// A value as it is where it is a single word, and quoted otherwise.
pub fn quoted_value(of: impl Display) -> String {
    let text = of.to_string();
    let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '=';
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("{text:?}") }
}

/// Counts failures by SQLSTATE, so that a run logs one line for each kind of error, however many sources failed.
#[derive(Default)]
pub struct FailureSummary(BTreeMap<String, FailureGroup>);

/// Failures with the same SQLSTATE.
struct FailureGroup {
    /// The number of sources that failed.
    sources: u64,
    /// The first of them, as fields of a line.
    first: String,
}

impl FailureSummary {
    /// Counts a failed source under its error's SQLSTATE.
    pub fn add(&mut self, key: &SourceKey, error: &Error) {
        let sqlstate = sql_error::sqlstate(error);
        debug_line("failed", || format!("{} sqlstate={sqlstate}{}", source_fields(key), provider_fields(error)));
        let first = || format!("{}{}", source_fields(key), provider_fields(error));
        self.0.entry(sqlstate).or_insert_with(|| FailureGroup { sources: 0, first: first() }).sources += 1;
    }

    /// Writes one LOG line for each SQLSTATE, with the number of sources and the first one's key.
    pub fn write(self) {
        for (sqlstate, FailureGroup { sources, first }) in self.0 {
            pgrx::log!("chatbot_sync: event=failed sqlstate={sqlstate} sources={sources} {first}");
        }
    }
}

fn provider_fields(error: &Error) -> String {
    let Error::Provider(fault) = error else { return String::new() };
    let status = fault.status.map_or(String::new(), |status| format!(" http_status={status}"));
    format!(" provider={} model={}{status}", quoted_value(&fault.provider), quoted_value(&fault.model))
}
