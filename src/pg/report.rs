//! Error kinds to what a DBA sees. The only such table; README.md has it in words, and a test compares the two.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, function_name};

use crate::error::Error;

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let (code, detail, hint): (_, Option<String>, Option<&str>) = match &error {
            Error::NullArgument { .. } => (PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, None, Some("Give a value.")),
            Error::InvalidArgument { .. } => (PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, None, None),
            Error::TooLarge { .. } => (PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, None, Some("Give less.")),
            Error::SessionNotFound { .. } => (
                PgSqlErrorCode::ERRCODE_NO_DATA_FOUND,
                None,
                Some("Open one with chatbot_session_open(); chatbot_cleanup() deletes those of a chatbot."),
            ),
            Error::SessionClosed { .. } => (
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                None,
                Some("Open another with chatbot_session_open()."),
            ),
            Error::ModelUnknown { .. } => (
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                None,
                Some(
                    "Install the version that made this database's vectors, then ALTER EXTENSION chatbot_sync UPDATE;",
                ),
            ),
            Error::VectorMissing => (
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                None,
                Some("A superuser runs: CREATE EXTENSION vector; and then CREATE EXTENSION chatbot_sync;"),
            ),
            Error::Internal(_) => (
                PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                None,
                Some("This is a defect. Please report it with the statement that met it."),
            ),
        };
        let mut report = ErrorReport::new(code, error.to_string(), function_name!());
        if let Some(detail) = detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = hint {
            report = report.set_hint(hint);
        }
        report
    }
}

impl From<pgrx::spi::Error> for Error {
    fn from(error: pgrx::spi::Error) -> Self {
        Self::Internal(format!("a query of ours failed: {error}"))
    }
}
