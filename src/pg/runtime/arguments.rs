//! Checks of the arguments of SQL functions.

use crate::error::{Error, Result};
use crate::ids::ChatbotId;
use crate::pg::runtime::encoding;
use crate::source::{Jsonb, SourceKey, SourceType};

/// The largest metadata, in bytes. It is copied to every chunk of a source, so it has to stay small.
const METADATA_LIMIT: usize = 64 * 1024;

/// Fails where an argument is NULL.
pub fn required<T>(name: &'static str, value: Option<T>) -> Result<T> {
    value.ok_or(Error::NullArgument { name })
}

/// Fails where an id is NULL or less than 1.
pub fn check_id(name: &'static str, value: Option<i64>) -> Result<i64> {
    match required(name, value)? {
        id if id > 0 => Ok(id),
        id => Err(Error::invalid(name, id, "1 or more")),
    }
}

/// Fails where a chatbot's id is NULL or less than 1.
pub fn check_chatbot_id(value: Option<i64>) -> Result<ChatbotId> {
    check_id("chatbot_id", value).map(ChatbotId)
}

/// Fails where an argument is NULL or none of the words that it takes.
pub fn one_of<'a>(name: &'static str, value: Option<&'a str>, known: &[&str]) -> Result<&'a str> {
    match required(name, value)? {
        word if known.contains(&word) => Ok(word),
        word => Err(Error::unknown(name, word, known)),
    }
}

/// Makes the key of a stored source of its three columns, as a step of a procedure returned them. Whether there is such a
/// kind of source is not checked.
pub fn stored_source_key(
    chatbot_id: Option<i64>,
    source_type: Option<&str>,
    source_id: Option<i64>,
) -> Result<SourceKey> {
    Ok(SourceKey {
        chatbot_id: ChatbotId(required("chatbot_id", chatbot_id)?),
        source_type: SourceType::named(required("source_type", source_type)?),
        source_id: required("source_id", source_id)?,
    })
}

/// Checks metadata: a JSON object of at most 64 KiB.
pub fn check_metadata(value: Option<Jsonb>) -> Result<Jsonb> {
    let value = required("metadata", value)?;
    encoding::require_utf8()?;
    if !value.is_object() {
        return Err(Error::invalid("metadata", value.kind(), "an object"));
    }
    check_metadata_size(&value)?;
    Ok(value)
}

/// Fails for metadata of more than 64 KiB.
pub fn check_metadata_size(value: &Jsonb) -> Result<()> {
    match value.as_str().len() {
        got if got > METADATA_LIMIT => {
            Err(Error::TooLarge { what: "metadata", got, limit: METADATA_LIMIT, unit: "bytes" })
        }
        _ => Ok(()),
    }
}
