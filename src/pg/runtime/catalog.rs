//! What is looked up in the catalog before anything of the extension's own can be used: pgvector's type, the extension's
//! version and owner.

use pgrx::{Spi, pg_sys};

use crate::error::Result;
use crate::pg::runtime::mode::Mode;
use crate::pg::runtime::spi::{execute, one};

/// The oid of pgvector's type, and the schema that the type and its operators are in, quoted; none where it is missing.
pub fn vector_type() -> Result<Option<(pg_sys::Oid, String)>> {
    let sql = "SELECT t.oid, pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND d.refobjid = e.oid AND d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.deptype = 'e'
        JOIN pg_catalog.pg_type t ON t.oid = d.objid
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
        WHERE e.extname = 'vector' AND t.typname = 'vector'";
    Ok(execute(sql, &[], Mode::Read, |mut rows| match rows.next() {
        Some(row) => Ok(Some((one(row.get(1))?, one(row.get(2))?))),
        None => Ok(None),
    })?)
}

/// The version of the extension in this database; none where it is not there.
pub fn extension_version() -> Result<Option<String>> {
    let sql = "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'chatbot_sync'";
    Ok(Spi::connect(|client| client.select(sql, None, &[])?.next().map(|row| one(row.get(1))).transpose())?)
}

/// The version that CREATE EXTENSION would make now; none where its files are gone.
pub fn installed_version() -> Result<Option<String>> {
    let sql = "SELECT default_version::text FROM pg_catalog.pg_available_extensions() WHERE name = 'chatbot_sync'";
    Ok(Spi::connect(|client| client.select(sql, None, &[])?.next().map(|row| row.get(1)).transpose())?.flatten())
}

/// Who owns the extension in this database; none where it is not there.
pub fn extension_owner() -> Result<Option<pg_sys::Oid>> {
    let sql = "SELECT extowner FROM pg_catalog.pg_extension WHERE extname = 'chatbot_sync'";
    Ok(execute(sql, &[], Mode::Read, |mut rows| rows.next().map(|row| one(row.get(1))).transpose())?)
}
