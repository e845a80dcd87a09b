//! Catalog look-ups that use nothing of the extension's own: pgvector's type, the extension's version and owner.

use std::ffi::c_char;

use pgrx::{Spi, pg_sys};

use crate::error::Result;
use crate::pg::runtime::spi::{execute, not_null};
use crate::pg::runtime::statement_mode::StatementMode;

/// Returns a catalog's column of type "char" as the byte that Postgres' constants are: C's `char` is signed on x86, and
/// unsigned on ARM.
pub const fn catalog_byte(char: c_char) -> u8 {
    char.to_ne_bytes()[0]
}

/// pgvector's type in this database.
#[derive(Debug, Clone)]
pub struct VectorType {
    /// The oid of the type `vector`.
    pub oid: pg_sys::Oid,
    /// The schema that the type and its operators are in, quoted.
    pub schema: String,
}

/// Returns pgvector's type; `None` where pgvector is missing.
pub fn vector_type() -> Result<Option<VectorType>> {
    let sql = "SELECT t.oid, pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND d.refobjid = e.oid AND d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.deptype = 'e'
        JOIN pg_catalog.pg_type t ON t.oid = d.objid
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
        WHERE e.extname = 'vector' AND t.typname = 'vector'";
    Ok(execute(sql, &[], StatementMode::Read, |mut rows| match rows.next() {
        Some(row) => Ok(Some(VectorType { oid: not_null(row.get(1))?, schema: not_null(row.get(2))? })),
        None => Ok(None),
    })?)
}

/// Returns the version of the extension's SQL in this database; `None` where the extension is not there.
pub fn extension_version() -> Result<Option<String>> {
    let sql = "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'chatbot_sync'";
    Ok(Spi::connect(|client| client.select(sql, None, &[])?.next().map(|row| not_null(row.get(1))).transpose())?)
}

/// Returns the version that CREATE EXTENSION would install now; `None` where its files are gone.
pub fn installed_version() -> Result<Option<String>> {
    let sql = "SELECT default_version::text FROM pg_catalog.pg_available_extensions() WHERE name = 'chatbot_sync'";
    Ok(Spi::connect(|client| client.select(sql, None, &[])?.next().map(|row| row.get(1)).transpose())?.flatten())
}

/// Returns the role that owns the extension in this database; `None` where the extension is not there.
pub fn extension_owner() -> Result<Option<pg_sys::Oid>> {
    let sql = "SELECT extowner FROM pg_catalog.pg_extension WHERE extname = 'chatbot_sync'";
    Ok(execute(sql, &[], StatementMode::Read, |mut rows| rows.next().map(|row| not_null(row.get(1))).transpose())?)
}
