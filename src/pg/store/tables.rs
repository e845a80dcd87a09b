//! The tables that a search reads: ours, or a node's shards of them.

use crate::error::{Error, Result};
use crate::pg::runtime::catalog;
use crate::pg::runtime::schema::{has_citus, schema};
use crate::pg::store::{Mode, one, run};
use crate::version::OWN;
use std::ffi::CStr;
use std::fmt::{self, Display};

use pgrx::pg_sys;

/// A table that is searched.
pub struct Table {
    /// The table's oid.
    pub id: pg_sys::Oid,
    name: String,
}

/// Both, with the same chatbots in them.
pub struct Tables {
    /// The table of chunks.
    pub embedding: Table,
    /// The table of sources.
    pub source: Table,
}

impl Tables {
    /// The extension's own tables, not single shards of them.
    pub fn whole() -> Result<Self> {
        let table = |name: &'static CStr| {
            // SAFETY: look-ups in the catalog's cache.
            let id = unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema()?) };
            Table::named(id, name)
        };
        Ok(Self { embedding: table(c"embedding")?, source: table(c"source")? })
    }

    /// Two shards on this node.
    pub fn shards(embedding: pg_sys::Oid, source: pg_sys::Oid) -> Result<Self> {
        Ok(Self { embedding: Table::named(embedding, c"embedding")?, source: Table::named(source, c"source")? })
    }
}

impl Tables {
    /// Whether policies of row security restrict what the current role sees of them.
    pub fn are_restricted(&self) -> bool {
        [&self.embedding, &self.source].into_iter().any(|table| is_restricted(table.id, pg_sys::InvalidOid))
    }
}

/// Whether policies of row security restrict what a role sees of a table; the current role where none is said.
pub fn is_restricted(table: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the catalog's cache, and no error where row_security is off.
    let applies = unsafe { pg_sys::check_enable_rls(table, role, true) };
    applies == pg_sys::CheckEnableRlsResult::RLS_ENABLED.cast_signed()
}

impl Table {
    /// A table of ours, or a shard of the table of this name.
    fn named(id: pg_sys::Oid, table: &CStr) -> Result<Self> {
        // SAFETY: look-ups in the catalog's cache; the name is copied.
        let name = unsafe {
            let name = pg_sys::get_rel_name(id);
            if name.is_null() || pg_sys::get_rel_namespace(id) != schema()? {
                return Err(not_ours(id));
            }
            CStr::from_ptr(name).to_string_lossy().into_owned()
        };
        let shard = name.strip_prefix(&*table.to_string_lossy());
        match shard {
            Some(shard) if shard.bytes().all(|c| c == b'_' || c.is_ascii_digit()) => Ok(Self { id, name }),
            _ => Err(not_ours(id)),
        }
    }

    /// What the name of an index is here, that Citus calls otherwise on a shard.
    pub fn index(&self, name: &str) -> String {
        let shard = self.name.find('_').map_or("", |at| &self.name[at..]);
        format!("{name}{shard}")
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chatbot_sync.{}", self.name)
    }
}

fn not_ours(id: pg_sys::Oid) -> Error {
    Error::Internal(format!("the relation with the oid {} is none that is searched", id.to_u32()))
}

/// Whether Citus has the tables.
pub fn distributed() -> Result<bool> {
    if !has_citus() {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition
            WHERE logicalrelid = 'chatbot_sync.embedding'::pg_catalog.regclass),
        pg_catalog.to_regproc('chatbot_sync.search_in') IS NOT NULL";
    let (distributed, is_asked) = run(sql, &[], Mode::Read, |rows| {
        let row = rows.first();
        Ok((one::<bool>(row.get(1))?, one::<bool>(row.get(2))?))
    })?;
    if distributed && !is_asked {
        let sql = catalog::extension_version()?.unwrap_or_default();
        return Err(Error::SqlTooOld { sql, library: OWN.to_owned() });
    }
    Ok(distributed)
}
