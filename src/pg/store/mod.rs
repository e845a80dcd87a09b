//! Every statement that is sent to Postgres, a file a subject, with its plan kept. All names are qualified: no search_path
//! matters here.

use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::{Spi, pg_sys};

use super::subtransaction;
use super::vector::VectorType;
use super::version;
use crate::error::Result;

pub mod chunk;
#[allow(unsafe_code)]
pub mod host;
#[allow(unsafe_code)]
pub mod host_row;
pub mod hosted;
pub mod index;
pub mod job;
pub mod leaving;
pub mod log;
pub mod model;
#[allow(unsafe_code)]
pub mod plan;
pub mod reading;
pub mod reembed;
pub mod row_error;
#[allow(unsafe_code)]
pub mod search;
pub mod session;
pub mod source;
#[allow(unsafe_code)]
mod spi;
#[allow(unsafe_code)]
pub mod statistics;
#[allow(unsafe_code)]
pub mod tables;
pub mod verify;

pub use spi::Newest;
use spi::{Cursor, Mode, Rows, overtakes};

type Args<'a> = [DatumWithOid<'a>];

/// Settings that hold as long as this lives.
pub struct Settings(i32);

impl Settings {
    #[allow(unsafe_code)]
    fn new(settings: &[(&CStr, &CStr)]) -> Self {
        // SAFETY: as CREATE INDEX and others set parameters for a while: a level of their own, taken back by the drop, or
        // by Postgres where an error ends the transaction or subtransaction.
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            for (name, value) in settings {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_SUSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
            Self(level)
        }
    }

    /// Other sessions' locks are waited for only for a moment: then it is 55P03.
    pub fn short_lock_timeout() -> Self {
        Self::new(&[(c"lock_timeout", c"100ms")])
    }

    /// Values become the same JSON in every session, as a dump would write them: times in UTC.
    pub fn for_metadata() -> Self {
        Self::new(&[
            (c"TimeZone", c"UTC"),
            (c"DateStyle", c"ISO, YMD"),
            (c"IntervalStyle", c"postgres"),
            (c"extra_float_digits", c"1"),
            (c"bytea_output", c"hex"),
        ])
    }

    /// Foreign keys are not checked.
    pub fn unchecked() -> Self {
        Self::new(&[(c"session_replication_role", c"replica")])
    }
}

impl Drop for Settings {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the level that new() opened; what ran meanwhile closed its own.
            unsafe { pg_sys::AtEOXact_GUC(true, self.0) };
        }
    }
}

/// Runs a statement with its plan kept and reads the answer.
fn run<R>(sql: &str, args: &Args, mode: Mode, read: impl FnOnce(Rows) -> pgrx::spi::Result<R>) -> Result<R> {
    version::check()?;
    if mode == Mode::Write {
        refuse_read_only();
    }
    Ok(spi::execute(sql, args, mode, read)?)
}

/// Locks what others may have locked. Who waits for one that then has written would meet a conflict at a higher level: it begins
/// again where statements may overtake.
fn outlast<R>(mut lock: impl FnMut() -> Result<R>) -> Result<R> {
    if !overtakes() {
        return lock();
    }
    loop {
        match subtransaction::within(&mut lock) {
            Ok(locked) => return locked,
            Err(caught) if subtransaction::is_a_conflict(&caught) => {}
            Err(caught) => caught.rethrow(),
        }
    }
}

/// On a standby and in a READ ONLY transaction: the error that every statement gets which writes.
#[allow(unsafe_code)]
fn refuse_read_only() {
    // SAFETY: raises an error or does nothing.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"a write of chatbot_sync".as_ptr()) };
}

/// Runs a statement and answers how many rows it wrote.
fn write(sql: &str, args: &Args) -> Result<i64> {
    run(sql, args, Mode::Write, |rows| Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX)))
}

fn one<T>(column: pgrx::spi::Result<Option<T>>) -> pgrx::spi::Result<T> {
    column?.ok_or(pgrx::spi::Error::InvalidPosition)
}

/// Where pgvector's type is in the catalog.
pub fn look_up_vector_type() -> Result<Option<VectorType>> {
    let sql = "SELECT t.oid, pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND d.refobjid = e.oid AND d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.deptype = 'e'
        JOIN pg_catalog.pg_type t ON t.oid = d.objid
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
        WHERE e.extname = 'vector' AND t.typname = 'vector'";
    run(sql, &[], Mode::Read, |mut rows| match rows.next() {
        Some(row) => Ok(Some(VectorType { oid: one(row.get(1))?, schema: one(row.get(2))? })),
        None => Ok(None),
    })
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
    run(sql, &[], Mode::Read, |mut rows| rows.next().map(|row| one(row.get(1))).transpose())
}
