//! The kinds of source that an application has added: `chatbot_sync.source_type`.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::pg::runtime::catalog;
use crate::pg::runtime::schema::schema;
use crate::pg::store::{StatementMode, not_null, run, write};
use crate::source::SourceType;
use crate::version::OWN;

/// Returns the table of kinds; `None` in a database whose SQL is older than 0.3.0.
fn find_table() -> Result<Option<pg_sys::Oid>> {
    // SAFETY: a look-up in the catalog's cache.
    let oid = unsafe { pg_sys::get_relname_relid(c"source_type".as_ptr(), schema()?) };
    Ok((oid != pg_sys::InvalidOid).then_some(oid))
}

/// Returns the table of kinds. Fails in a database whose SQL is older than 0.3.0.
pub fn table() -> Result<pg_sys::Oid> {
    let outdated = || -> Result<Error> {
        let sql = catalog::extension_version()?.unwrap_or_default();
        Ok(Error::SqlTooOld { sql, library: OWN.to_owned() })
    };
    find_table()?.map_or_else(|| Err(outdated()?), Ok)
}

/// Whether chatbot_add_source_type() has added a kind with this name.
pub fn has_source_type(name: &str) -> Result<bool> {
    if find_table()?.is_none() {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT FROM chatbot_sync.source_type WHERE name = $1)";
    run(sql, &[name.into()], StatementMode::Read, |rows| not_null(rows.first().get_one()))
}

/// Returns the names of all kinds, sorted.
pub fn source_type_names() -> Result<Vec<String>> {
    if find_table()?.is_none() {
        return Ok(Vec::new());
    }
    let sql = "SELECT name
        FROM chatbot_sync.source_type
        ORDER BY name COLLATE \"C\"";
    run(sql, &[], StatementMode::Read, |rows| rows.map(|row| not_null(row.get(1))).collect())
}

/// Inserts a kind; returns false where it is there already.
pub fn insert_source_type(name: &str) -> Result<bool> {
    table()?;
    let sql = "INSERT INTO chatbot_sync.source_type (name)
        VALUES ($1)
        ON CONFLICT DO NOTHING";
    Ok(write(sql, &[name.into()])? > 0)
}

/// Deletes a kind.
pub fn delete_source_type(kind: SourceType) -> Result<()> {
    write("DELETE FROM chatbot_sync.source_type WHERE name = $1", &[kind.into()]).map(drop)
}

/// The uses of a kind.
pub struct SourceTypeUse {
    /// Whether there are sources of the kind.
    pub by_sources: bool,
    /// Whether there are jobs for sources of the kind.
    pub by_jobs: bool,
}

/// Returns the uses of a kind.
pub fn source_type_use(kind: SourceType) -> Result<SourceTypeUse> {
    let any = |table: &str| {
        let sql = format!("SELECT EXISTS (SELECT FROM chatbot_sync.{table} WHERE source_type = $1)");
        run(&sql, &[kind.into()], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
    };
    Ok(SourceTypeUse { by_sources: any("source")?, by_jobs: any("job")? })
}
