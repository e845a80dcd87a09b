//! The columns of chunks' vectors: `embedding`, and `embedding_half` for models that are stored in half precision.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::embedding::storage::Storage;
use crate::error::{Error, Result};
use crate::pg::runtime::schema;
use crate::pg::runtime::vector::vector_type;
use crate::pg::store::{StatementMode, not_null, run, write};

/// A page without its header, of which rows of the same length share what they can.
const PAGE_BYTES: usize = 8_168;
/// The bytes of a row beside its vector and the texts that leave it: its header, keys, metadata and words.
const OTHER_BYTES: usize = 760;
/// The length that Postgres itself lets rows have before it moves texts out of them.
const LEAST_ROW_BYTES: usize = 2_032;
/// The longest vector that fits into a page beside keys and metadata, in bytes.
const MAX_INLINE_BYTES: usize = 7_608;

/// The column that a model's vectors are in.
pub fn column(storage: Storage) -> &'static str {
    match storage {
        Storage::Full => "embedding",
        Storage::Half => "embedding_half",
    }
}

/// A vector in SQL, given in full precision, as it is stored.
pub fn as_stored(vector: &str, storage: Storage) -> Result<String> {
    Ok(match storage {
        Storage::Full => vector.to_owned(),
        Storage::Half => format!("{vector}::{}.halfvec", vector_type()?.schema),
    })
}

/// A chunk's vector in SQL in full precision, however it is stored.
pub fn in_full_precision() -> Result<String> {
    Ok(if has_half_column()? {
        format!("COALESCE(embedding, embedding_half::{}.vector)", vector_type()?.schema)
    } else {
        "embedding".to_owned()
    })
}

/// Whether chunks have the column `embedding_half`: with pgvector 0.7 or later, and the SQL of version 0.3.0.
pub fn has_half_column() -> Result<bool> {
    has_column(c"embedding", c"embedding_half")
}

/// Whether a table of the extension has a column, which older versions of its SQL may lack.
pub fn has_column(table: &CStr, column: &CStr) -> Result<bool> {
    // SAFETY: look-ups in the catalog's cache.
    unsafe {
        let table = pg_sys::get_relname_relid(table.as_ptr(), schema::schema()?);
        Ok(pg_sys::get_attnum(table, column.as_ptr()) > 0)
    }
}

/// Makes the columns fit for a model: adds that of half precision where pgvector was updated after the extension was made.
/// Fails where pgvector is too old for it.
pub fn require_column(storage: Storage) -> Result<()> {
    if storage == Storage::Full || has_half_column()? {
        return Ok(());
    }
    let sql = "SELECT COALESCE(chatbot_sync.add_half_column(), false)";
    if has_function("add_half_column")? && run(sql, &[], StatementMode::Write, |rows| not_null(rows.first().get_one()))?
    {
        return Ok(());
    }
    Err(Error::NoHalfPrecision)
}

fn has_function(name: &str) -> Result<bool> {
    let sql = "SELECT pg_catalog.to_regproc('chatbot_sync.' || $1) IS NOT NULL";
    run(sql, &[name.into()], StatementMode::Read, |rows| not_null(rows.first().get_one()))
}

/// Lays rows out for vectors of these bytes, beside others of at most `longest`: vectors in the row or, where they would not
/// fit into a page, out of line, and as many rows in a page as fit with their words. The table is locked only if that changes.
pub fn set_row_layout(vector_bytes: usize, longest: usize) -> Result<()> {
    let in_line = longest <= MAX_INLINE_BYTES;
    if !has_function("set_row_layout")? {
        return write("SELECT chatbot_sync.set_vector_storage($1)", &[in_line.into()]).map(drop);
    }
    let row_bytes = if in_line { row_bytes(vector_bytes) } else { LEAST_ROW_BYTES };
    let row_bytes = i32::try_from(row_bytes).unwrap_or(i32::MAX);
    write("SELECT chatbot_sync.set_row_layout($1, $2)", &[in_line.into(), row_bytes.into()]).map(drop)
}

/// The length of a row with a vector of these bytes of which most fit into a page.
fn row_bytes(vector_bytes: usize) -> usize {
    /// A row's pointer in its page, and what rows are aligned to.
    const POINTER: usize = 4;
    const ALIGNMENT: usize = 8;
    let rows = (PAGE_BYTES / (vector_bytes + OTHER_BYTES)).max(1);
    ((PAGE_BYTES / rows - POINTER) / ALIGNMENT * ALIGNMENT).max(LEAST_ROW_BYTES)
}
