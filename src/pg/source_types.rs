//! The kinds of source: `document` and `link`, and those that chatbot_add_source_type() has added.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::pg::runtime::arguments;
use crate::pg::store::{LatestSnapshot, host_triggers, source_type as store};
use crate::source::{BUILT_IN_TYPES, SourceKey, intern_type};

/// Bytes of the longest name.
const LONGEST: usize = 63;

/// The kind that an argument names; one that was not added is an error with the list of all. Until the transaction ends the
/// kind cannot be dropped.
pub fn required(parameter: &'static str, value: Option<&str>) -> Result<&'static str> {
    let name = arguments::required(parameter, value)?;
    if BUILT_IN_TYPES.contains(&name) || store::exists(name)? {
        return Ok(intern_type(name));
    }
    let all = all()?;
    Err(Error::unknown(parameter, name, &all.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Checks the argument `source_type`.
pub fn source_type(value: Option<&str>) -> Result<&'static str> {
    required("source_type", value)
}

/// Checks the three columns of a source's key.
pub fn source_key(chatbot_id: Option<i64>, of_type: Option<&str>, source_id: Option<i64>) -> Result<SourceKey> {
    Ok(SourceKey {
        chatbot_id: arguments::id("chatbot_id", chatbot_id)?,
        source_type: source_type(of_type)?,
        source_id: arguments::id("source_id", source_id)?,
    })
}

/// Returns the names of all kinds.
fn all() -> Result<Vec<String>> {
    let added = store::names()?.into_iter().filter(|name| !BUILT_IN_TYPES.contains(&name.as_str()));
    Ok(BUILT_IN_TYPES.into_iter().map(str::to_owned).chain(added).collect())
}

/// Adds a kind: false where it is there already.
pub fn add(name: Option<&str>) -> Result<bool> {
    let name = arguments::required("name", name)?;
    if name.is_empty() || name.len() > LONGEST || name.trim() != name || name.contains(char::is_control) {
        let expected = format!("1 to {LONGEST} bytes without control characters, and no space at its ends");
        return Err(Error::invalid("name", format!("\"{name}\""), expected));
    }
    store::insert(name)
}

/// Drops a kind that nothing is of: no attached table, no source and no job. Waits for the transactions that have named it.
pub fn drop(name: Option<&str>) -> Result<()> {
    let name = required("name", name)?;
    if BUILT_IN_TYPES.contains(&name) {
        return Err(Error::invalid("name", format!("\"{name}\""), "a kind that chatbot_add_source_type() added"));
    }
    let _newest = LatestSnapshot::new();
    let table = store::table()?;
    // SAFETY: waits, or raises an error where the lock is not to be had.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::AccessExclusiveLock.cast_signed()) };
    let mut uses = Vec::new();
    if let Some(table) = host_triggers::other_table(name)? {
        uses.push(format!("{table} is attached as it"));
    }
    let (has_sources, has_jobs) = store::is_used(name)?;
    if has_sources {
        uses.push("chatbot_sync.source has sources of it".to_owned());
    }
    if has_jobs {
        uses.push("jobs of it wait in chatbot_sync.job".to_owned());
    }
    if uses.is_empty() {
        return store::delete(name);
    }
    Err(Error::SourceTypeInUse { name: name.to_owned(), uses: uses.join("; ") })
}
