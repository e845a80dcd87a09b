//! Every statement that is sent to Postgres, a file a subject, with its plan kept. All names are qualified: no search_path
//! matters here.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use crate::error::Result;
use crate::pg::runtime::mode::Mode;
use crate::pg::runtime::spi::{self, Cursor, Rows, one, reads_latest};
use crate::pg::runtime::{subtransaction, version};

pub mod chunk;
pub mod configurations;
pub mod delete;
#[allow(unsafe_code)]
pub mod host_row;
pub mod host_sources;
#[allow(unsafe_code)]
pub mod host_triggers;
pub mod index;
pub mod job;
pub mod log;
pub mod model;
pub mod reading;
pub mod reembed;
pub mod row_error;
pub mod search;
pub mod session;
#[allow(unsafe_code)]
pub mod source;
#[allow(unsafe_code)]
pub mod statistics;
#[allow(unsafe_code)]
pub mod tables;
pub mod text_search;
pub mod verify;

pub use crate::pg::runtime::spi::LatestSnapshot;

type Args<'a> = [DatumWithOid<'a>];

/// Runs a statement with its plan kept and reads the answer.
fn run<R>(sql: &str, args: &Args, mode: Mode, read: impl FnOnce(Rows) -> pgrx::spi::Result<R>) -> Result<R> {
    version::check()?;
    if mode == Mode::Write {
        refuse_read_only();
    }
    Ok(spi::execute(sql, args, mode, read)?)
}

/// Locks what others may have locked. Who waits for one that then has written would meet a conflict at a higher level: it
/// begins again where statements may overtake.
fn lock_with_retry<R>(mut lock: impl FnMut() -> Result<R>) -> Result<R> {
    if !reads_latest() {
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
