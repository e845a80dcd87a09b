//! The tables that a search reads: the extension's own, or a node's shards of them.

use crate::error::{Error, Result};
use crate::pg::runtime::catalog;
use crate::pg::runtime::schema::{has_citus, schema};
use crate::pg::store::{StatementMode, not_null, run};
use crate::version::OWN;
use std::ffi::CStr;
use std::fmt::{self, Display};

use pgrx::pg_sys;

/// A table that is searched.
pub struct SearchTable {
    /// The table's oid.
    pub id: pg_sys::Oid,
    name: String,
}

/// The two tables that a search reads, which have the same chatbots.
pub struct Tables {
    /// The table of chunks.
    pub embedding: SearchTable,
    /// The table of sources.
    pub source: SearchTable,
}

impl Tables {
    /// Returns the extension's own tables.
    pub fn extension_tables() -> Result<Self> {
        let table = |name: &'static CStr| {
            // SAFETY: look-ups in the catalog's cache.
            let id = unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema()?) };
            SearchTable::named(id, name)
        };
        Ok(Self { embedding: table(c"embedding")?, source: table(c"source")? })
    }

    /// Returns two shards of them on this node. Fails for any other relations.
    pub fn shard_tables(embedding: pg_sys::Oid, source: pg_sys::Oid) -> Result<Self> {
        Ok(Self {
            embedding: SearchTable::named(embedding, c"embedding")?,
            source: SearchTable::named(source, c"source")?,
        })
    }
}

impl Tables {
    /// Whether policies of row security restrict what the current role sees of the tables.
    pub fn are_restricted(&self) -> bool {
        [&self.embedding, &self.source].into_iter().any(|table| is_restricted(table.id, pg_sys::InvalidOid))
    }
}

/// Whether policies of row security restrict what a role sees of a table; InvalidOid is the current role.
pub fn is_restricted(table: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the catalog's cache, and no error where row_security is off.
    let applies = unsafe { pg_sys::check_enable_rls(table, role, true) };
    applies == pg_sys::CheckEnableRlsResult::RLS_ENABLED.cast_signed()
}

impl SearchTable {
    /// Returns the extension's table with this name, or a shard of it; fails for any other relation.
    fn named(id: pg_sys::Oid, table: &CStr) -> Result<Self> {
        // SAFETY: look-ups in the catalog's cache; the name is copied.
        let name = unsafe {
            let name = pg_sys::get_rel_name(id);
            if name.is_null() || pg_sys::get_rel_namespace(id) != schema()? {
                return Err(not_a_search_table(id));
            }
            CStr::from_ptr(name).to_string_lossy().into_owned()
        };
        let shard = name.strip_prefix(&*table.to_string_lossy());
        match shard {
            Some(shard) if shard.bytes().all(|c| c == b'_' || c.is_ascii_digit()) => Ok(Self { id, name }),
            _ => Err(not_a_search_table(id)),
        }
    }

    /// Returns the name of an index on this table, to which Citus appends the number of a shard.
    pub fn index_name(&self, name: &str) -> String {
        let shard = self.name.find('_').map_or("", |at| &self.name[at..]);
        format!("{name}{shard}")
    }
}

impl Display for SearchTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chatbot_sync.{}", self.name)
    }
}

fn not_a_search_table(id: pg_sys::Oid) -> Error {
    Error::Internal(format!("the relation with the oid {} is none that is searched", id.to_u32()))
}

/// Whether Citus distributes the extension's tables. Fails where the SQL of the database is too old to search them.
pub fn is_distributed() -> Result<bool> {
    if !has_citus() {
        return Ok(false);
    }
    let sql = "SELECT
            EXISTS (
                SELECT FROM pg_catalog.pg_dist_partition
                WHERE logicalrelid = 'chatbot_sync.embedding'::pg_catalog.regclass
            ),
            pg_catalog.to_regproc('chatbot_sync.search_in') IS NOT NULL";
    let (distributed, has_search_in) = run(sql, &[], StatementMode::Read, |rows| {
        let row = rows.first();
        Ok((not_null::<bool>(row.get(1))?, not_null::<bool>(row.get(2))?))
    })?;
    if distributed && !has_search_in {
        let sql = catalog::extension_version()?.unwrap_or_default();
        return Err(Error::SqlTooOld { sql, library: OWN.to_owned() });
    }
    Ok(distributed)
}
