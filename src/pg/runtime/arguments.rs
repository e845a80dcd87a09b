//! Checks of the arguments of SQL functions.

use crate::error::{Error, Result};
use crate::pg::runtime::encoding;
use crate::source::{Jsonb, SOURCE_TYPES, SourceKey};

/// The largest metadata, in bytes. It is copied to every chunk of a source, so it has to stay small.
const METADATA_LIMIT: usize = 64 * 1024;

/// Fails where an argument is NULL.
pub fn required<T>(name: &'static str, value: Option<T>) -> Result<T> {
    value.ok_or(Error::NullArgument { name })
}

/// Fails where an id is NULL or less than 1.
pub fn id(name: &'static str, value: Option<i64>) -> Result<i64> {
    match required(name, value)? {
        id if id > 0 => Ok(id),
        id => Err(Error::invalid(name, id, "1 or more")),
    }
}

/// Fails where an argument is NULL or none of the words that it takes.
pub fn one_of<'a>(name: &'static str, value: Option<&'a str>, known: &[&str]) -> Result<&'a str> {
    match required(name, value)? {
        word if known.contains(&word) => Ok(word),
        word => Err(Error::unknown(name, word, known)),
    }
}

/// Checks a source type: `document` or `link`.
pub fn source_type(value: Option<&str>) -> Result<&'static str> {
    let given = one_of("source_type", value, &SOURCE_TYPES)?;
    Ok(SOURCE_TYPES.into_iter().find(|t| *t == given).unwrap_or_default())
}

/// Checks the three columns of a source's key.
pub fn source_key(chatbot_id: Option<i64>, of_type: Option<&str>, source_id: Option<i64>) -> Result<SourceKey> {
    Ok(SourceKey {
        chatbot_id: id("chatbot_id", chatbot_id)?,
        source_type: source_type(of_type)?,
        source_id: id("source_id", source_id)?,
    })
}

/// Checks metadata: a JSON object of at most 64 KiB.
pub fn metadata(value: Option<Jsonb>) -> Result<Jsonb> {
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
