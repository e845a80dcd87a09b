//! Subtransactions: an error in one undoes what was done in it, and no more.

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::{PgSqlErrorCode, PgTryBuilder};

use crate::error::{PostgresError, Result};

/// Calls `act` in a subtransaction, and returns its result or the error of Postgres that undid it. An error that `act`
/// returns undoes it too. A cancel and a shutdown are raised again.
pub fn in_subtransaction<T>(act: impl FnOnce() -> Result<T>) -> std::result::Result<Result<T>, CaughtError> {
    // SAFETY: as PL/pgSQL runs a block with EXCEPTION; the memory context and resource owner are those from before again.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::CurrentMemoryContext = context;
        let done = PgTryBuilder::new(AssertUnwindSafe(|| Ok(act()))).catch_others(Err).execute();
        pg_sys::CurrentMemoryContext = context;
        match &done {
            Ok(Ok(_)) => pg_sys::ReleaseCurrentSubTransaction(),
            Ok(Err(_)) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
            Err(_) => {
                pg_sys::FlushErrorState();
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
            }
        }
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
        match done {
            Err(caught) if is_interrupt(&caught) => caught.rethrow(),
            done => done,
        }
    }
}

/// Calls `act` in a subtransaction, and returns its result or what Postgres raised, so that it becomes the error of the row
/// at hand. Errors that have nothing to do with the row are raised again: interrupts, conflicts with other transactions,
/// locks that were not to be had, and a server that is out of memory or disk space.
pub fn try_row<T>(act: impl FnOnce() -> Result<T>) -> Result<std::result::Result<T, PostgresError>> {
    let code = Cell::new(0);
    let caught = {
        let _recorded = SqlstateRecorder::new(&code);
        match in_subtransaction(act) {
            Ok(done) => return done.map(Ok),
            Err(caught) => caught,
        }
    };
    let (report, recorded) = match &caught {
        CaughtError::PostgresError(report) => (report, code.get()),
        CaughtError::ErrorReport(report) | CaughtError::RustPanic { ereport: report, .. } => (report, 0),
    };
    let sqlstate = sqlstate(if recorded == 0 { report.sql_error_code() as i32 } else { recorded });
    if is_not_row_specific(&sqlstate) {
        caught.rethrow();
    }
    Ok(Err(PostgresError {
        sqlstate: sqlstate.clone(),
        message: report.message().to_owned(),
        detail: report.detail().filter(|_| !quotes_the_row(&sqlstate)).map(str::to_owned),
        hint: report.hint().map(str::to_owned),
    }))
}

/// The five characters of a SQLSTATE, which MAKE_SQLSTATE packs: six bits each, the first character lowest.
pub fn sqlstate(packed: i32) -> String {
    (0..5).map(|at| char::from((packed >> (6 * at) & 0x3f) as u8 + b'0')).collect()
}

/// Whether an error has nothing to do with the row at hand.
fn is_not_row_specific(sqlstate: &str) -> bool {
    matches!(&sqlstate[..2], "40" | "53" | "57") || sqlstate == "55P03"
}

/// Whether the detail of an error quotes the whole row, whose text must not get into a status or a log: it does for NOT
/// NULL, CHECK and a view's WITH CHECK OPTION.
fn quotes_the_row(sqlstate: &str) -> bool {
    matches!(sqlstate, "23502" | "23514" | "44000")
}

/// Records the SQLSTATE of each error that Postgres raises while this lives. pgrx keeps only those that Postgres defines,
/// but a user's function may raise any.
struct SqlstateRecorder {
    frame: Box<pg_sys::ErrorContextCallback>,
}

impl SqlstateRecorder {
    fn new(code: &Cell<i32>) -> Self {
        // Called while an error is being raised, so it must not go through the guards that pgrx puts around Postgres'
        // functions.
        unsafe extern "C-unwind" {
            fn geterrcode() -> i32;
        }
        unsafe extern "C-unwind" fn record(code: *mut c_void) {
            // SAFETY: Postgres calls this while it reports an error; the address is that of new()'s caller's variable.
            unsafe { (*code.cast::<Cell<i32>>()).set(geterrcode()) };
        }
        // SAFETY: a frame like those of Postgres' own functions, removed on drop; code that catches an error restores the
        // stack that it found.
        unsafe {
            let mut frame = Box::new(pg_sys::ErrorContextCallback {
                previous: pg_sys::error_context_stack,
                callback: Some(record),
                arg: std::ptr::from_ref(code).cast_mut().cast(),
            });
            pg_sys::error_context_stack = &raw mut *frame;
            Self { frame }
        }
    }
}

impl Drop for SqlstateRecorder {
    fn drop(&mut self) {
        // SAFETY: the stack as it was before new().
        unsafe { pg_sys::error_context_stack = self.frame.previous };
    }
}

fn is_interrupt(caught: &CaughtError) -> bool {
    matches!(code(caught), PgSqlErrorCode::ERRCODE_QUERY_CANCELED | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN)
}

/// Whether an error says that two transactions wrote the same row (40001).
pub fn is_serialization_failure(caught: &CaughtError) -> bool {
    code(caught) == PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE
}

/// Whether an error says that a lock was not to be had in time (55P03).
pub fn is_lock_timeout(caught: &CaughtError) -> bool {
    code(caught) == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
}

fn code(caught: &CaughtError) -> PgSqlErrorCode {
    match caught {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report.sql_error_code(),
        CaughtError::RustPanic { ereport, .. } => ereport.sql_error_code(),
    }
}
