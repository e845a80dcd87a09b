//! Reads settings out of a JSON object, and says which one has a value of another kind.

use serde_json::{Map, Value};

use crate::embedding::transformer::folder::Folder;
use crate::error::local_model::{Result, malformed};

/// A setting that is true or false; false where it is not there.
pub fn flag(settings: &Map<String, Value>, name: &str) -> Result<bool> {
    match settings.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => malformed(format!("{name} is {other}, expected true or false")),
    }
}

/// A setting that is a text; none where it is not there.
pub fn text<'a>(settings: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>> {
    match settings.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(value)) => Ok(Some(value)),
        Some(other) => malformed(format!("{name} is {other}, expected a text")),
    }
}

/// A file of settings; none where it is not there.
pub fn object(folder: &Folder, name: &str) -> Result<Option<Map<String, Value>>> {
    let Some(content) = folder.settings(name)? else { return Ok(None) };
    match serde_json::from_slice(&content) {
        Ok(object) => Ok(Some(object)),
        Err(error) => malformed(format!("{} is no JSON object: {error}", folder.describe(name))),
    }
}
