//! Subtransactions: what fails in one is undone, and no more.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::{PgSqlErrorCode, PgTryBuilder};

use crate::error::Result;

/// Does something in a subtransaction: what it answers, or the error of Postgres that undid it. A cancel, and a shutdown, are
/// no such error, and go on. An error of ours undoes it too.
pub fn within<T>(act: impl FnOnce() -> Result<T>) -> std::result::Result<Result<T>, CaughtError> {
    // SAFETY: as a block with an EXCEPTION; what was current before is again.
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
            Err(caught) if is_an_interrupt(&caught) => caught.rethrow(),
            done => done,
        }
    }
}

fn is_an_interrupt(caught: &CaughtError) -> bool {
    matches!(code(caught), PgSqlErrorCode::ERRCODE_QUERY_CANCELED | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN)
}

/// Whether two transactions met.
pub fn is_a_conflict(caught: &CaughtError) -> bool {
    code(caught) == PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE
}

fn code(caught: &CaughtError) -> PgSqlErrorCode {
    match caught {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report.sql_error_code(),
        CaughtError::RustPanic { ereport, .. } => ereport.sql_error_code(),
    }
}
