//! The error of a sync, as its source and the log keep it.

use crate::error::Error;
use crate::pg::runtime::sql_error;

/// Why a sync failed, as it is written to the source.
pub struct SyncError {
    /// The error's SQLSTATE.
    pub code: String,
    /// The error's message and detail, in one line.
    pub message: String,
}

impl SyncError {
    /// The SQLSTATE and the message of an error.
    pub fn new(error: &Error) -> Self {
        Self { code: sql_error::sqlstate(error), message: sql_error::one_line_message(error) }
    }
}
