//! The kinds of source: `document` and `link`, and those that chatbot_add_source_type() has added.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::pg::runtime::arguments;
use crate::pg::store::{LatestSnapshot, host_triggers, source_type as store};
use crate::source::{SourceKey, SourceType};

/// The length of the longest name, in bytes.
const MAX_NAME_BYTES: usize = 63;

/// Returns the kind that an argument names. Fails for one that was not added, with the list of all kinds. Until the
/// transaction ends the kind cannot be dropped.
pub fn check_source_type(parameter: &'static str, value: Option<&str>) -> Result<SourceType> {
    let name = arguments::required(parameter, value)?;
    let kind = SourceType::BUILT_IN.into_iter().find(|kind| kind.as_str() == name);
    if let Some(kind) = kind {
        return Ok(kind);
    }
    if store::has_source_type(name)? {
        return Ok(SourceType::named(name));
    }
    let names = all_names()?;
    Err(Error::unknown(parameter, name, &names.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Checks the three columns of a source's key.
pub fn check_source_key(
    chatbot_id: Option<i64>,
    source_type: Option<&str>,
    source_id: Option<i64>,
) -> Result<SourceKey> {
    Ok(SourceKey {
        chatbot_id: arguments::check_chatbot_id(chatbot_id)?,
        source_type: check_source_type("source_type", source_type)?,
        source_id: arguments::check_id("source_id", source_id)?,
    })
}

/// Returns the names of all kinds, the built-in ones first.
fn all_names() -> Result<Vec<String>> {
    let built_in = SourceType::BUILT_IN.map(SourceType::as_str);
    let added = store::source_type_names()?.into_iter().filter(|name| !built_in.contains(&name.as_str()));
    Ok(built_in.into_iter().map(str::to_owned).chain(added).collect())
}

/// Adds a kind; returns false where it is there already.
pub fn add(name: Option<&str>) -> Result<bool> {
    let name = arguments::required("name", name)?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.trim() != name || name.contains(char::is_control) {
        let expected = format!("1 to {MAX_NAME_BYTES} bytes without control characters, and no space at its ends");
        return Err(Error::invalid("name", format!("\"{name}\""), expected));
    }
    store::insert_source_type(name)
}

/// Drops a kind. Fails where an attached table, a source or a job is of it. Waits for the transactions that have named it.
pub fn drop(name: Option<&str>) -> Result<()> {
    let kind = check_source_type("name", name)?;
    if kind.is_built_in() {
        return Err(Error::invalid("name", format!("\"{kind}\""), "a kind that chatbot_add_source_type() added"));
    }
    let _latest = LatestSnapshot::new();
    let table = store::table()?;
    // SAFETY: waits, or raises an error where the lock is not to be had.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::AccessExclusiveLock.cast_signed()) };
    let mut uses = Vec::new();
    if let Some(table) = host_triggers::table_with_source_type(kind)? {
        uses.push(format!("{table} is attached as it"));
    }
    let used = store::source_type_use(kind)?;
    if used.by_sources {
        uses.push("chatbot_sync.source has sources of it".to_owned());
    }
    if used.by_jobs {
        uses.push("jobs of it wait in chatbot_sync.job".to_owned());
    }
    if uses.is_empty() {
        return store::delete_source_type(kind);
    }
    Err(Error::SourceTypeInUse { name: kind.to_string(), uses: uses.join("; ") })
}
