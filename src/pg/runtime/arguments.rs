//! Arguments as SQL gives them, checked.

use crate::error::{Error, Result};
use crate::pg::runtime::encoding;
use crate::source::{Jsonb, SOURCE_TYPES, SourceKey};

/// Metadata goes to every chunk of a source, so it has to stay small.
const METADATA_LIMIT: usize = 64 * 1024;

/// A value that must be there.
pub fn required<T>(name: &'static str, value: Option<T>) -> Result<T> {
    value.ok_or(Error::NullArgument { name })
}

/// An id: 1 or more.
pub fn id(name: &'static str, value: Option<i64>) -> Result<i64> {
    match required(name, value)? {
        id if id > 0 => Ok(id),
        id => Err(Error::invalid(name, id, "1 or more")),
    }
}

/// One of the words that a parameter takes.
pub fn one_of<'a>(name: &'static str, value: Option<&'a str>, known: &[&str]) -> Result<&'a str> {
    match required(name, value)? {
        word if known.contains(&word) => Ok(word),
        word => Err(Error::unknown(name, word, known)),
    }
}

/// The kind of a source.
pub fn source_type(value: Option<&str>) -> Result<&'static str> {
    let given = one_of("source_type", value, &SOURCE_TYPES)?;
    Ok(SOURCE_TYPES.into_iter().find(|t| *t == given).unwrap_or_default())
}

/// The key of a source.
pub fn source(chatbot_id: Option<i64>, of_type: Option<&str>, source_id: Option<i64>) -> Result<SourceKey> {
    Ok(SourceKey {
        chatbot_id: id("chatbot_id", chatbot_id)?,
        source_type: source_type(of_type)?,
        source_id: id("source_id", source_id)?,
    })
}

/// A JSON object that is not too large.
pub fn metadata(value: Option<Jsonb>) -> Result<Jsonb> {
    let value = required("metadata", value)?;
    encoding::require()?;
    if !value.is_object() {
        return Err(Error::invalid("metadata", value.kind(), "an object"));
    }
    metadata_fits(&value)?;
    Ok(value)
}

/// Fails for metadata that is too large.
pub fn metadata_fits(value: &Jsonb) -> Result<()> {
    match value.as_str().len() {
        got if got > METADATA_LIMIT => {
            Err(Error::TooLarge { what: "metadata", got, limit: METADATA_LIMIT, unit: "bytes" })
        }
        _ => Ok(()),
    }
}
