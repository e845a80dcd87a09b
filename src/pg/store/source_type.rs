//! The kinds of source that there are.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::pg::runtime::catalog;
use crate::pg::runtime::schema::schema;
use crate::pg::store::{StatementMode, not_null, run, write};
use crate::source::SourceType;
use crate::version::OWN;

/// Where the kinds are; none in a database whose SQL is older than they.
fn relation() -> Result<Option<pg_sys::Oid>> {
    // SAFETY: a look-up in the catalog's cache.
    let oid = unsafe { pg_sys::get_relname_relid(c"source_type".as_ptr(), schema()?) };
    Ok((oid != pg_sys::InvalidOid).then_some(oid))
}

/// The table of kinds, which SQL older than 0.3.0 has not.
pub fn table() -> Result<pg_sys::Oid> {
    let outdated = || -> Result<Error> {
        let sql = catalog::extension_version()?.unwrap_or_default();
        Ok(Error::SqlTooOld { sql, library: OWN.to_owned() })
    };
    relation()?.map_or_else(|| Err(outdated()?), Ok)
}

/// Whether there is a kind of that name.
pub fn exists(name: &str) -> Result<bool> {
    if relation()?.is_none() {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT FROM chatbot_sync.source_type WHERE name = $1)";
    run(sql, &[name.into()], StatementMode::Read, |rows| not_null(rows.first().get_one()))
}

/// The names of all kinds, sorted.
pub fn names() -> Result<Vec<String>> {
    if relation()?.is_none() {
        return Ok(Vec::new());
    }
    let sql = "SELECT name FROM chatbot_sync.source_type ORDER BY name COLLATE \"C\"";
    run(sql, &[], StatementMode::Read, |rows| rows.map(|row| not_null(row.get(1))).collect())
}

/// Adds a kind: false where it is there already.
pub fn insert(name: &str) -> Result<bool> {
    table()?;
    let sql = "INSERT INTO chatbot_sync.source_type (name) VALUES ($1) ON CONFLICT DO NOTHING";
    Ok(write(sql, &[name.into()])? > 0)
}

/// Takes a kind away.
pub fn delete(kind: SourceType) -> Result<()> {
    write("DELETE FROM chatbot_sync.source_type WHERE name = $1", &[kind.into()]).map(drop)
}

/// Whether there are sources, and whether there are jobs of a kind.
pub fn is_used(kind: SourceType) -> Result<(bool, bool)> {
    let any = |table: &str| {
        let sql = format!("SELECT EXISTS (SELECT FROM chatbot_sync.{table} WHERE source_type = $1)");
        run(&sql, &[kind.into()], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
    };
    Ok((any("source")?, any("job")?))
}
