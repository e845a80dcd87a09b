//! The SQLSTATE, detail and hint of each error: the only place that decides them. docs/reference.md describes them, and a
//! test compares the two.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, function_name};

use crate::error::local_model::Problem;
use crate::error::{Error, Fault, FaultKind};
use crate::pg::runtime::encoding::for_client;
use crate::pg::runtime::subtransaction;

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let (code, detail, hint) = report_parts(&error);
        let mut report = ErrorReport::new(code, for_client(error.to_string()), function_name!());
        if let Some(detail) = detail {
            report = report.set_detail(for_client(detail));
        }
        if let Some(hint) = hint {
            report = report.set_hint(hint);
        }
        report
    }
}

/// The SQLSTATE of an error, five characters.
pub fn sqlstate(error: &Error) -> String {
    match error {
        // A user's function may have raised a SQLSTATE that only it knows.
        Error::Row { raised, .. } => raised.sqlstate.clone(),
        _ => subtransaction::sqlstate(report_parts(error).0 as i32),
    }
}

/// Packs a SQLSTATE as MAKE_SQLSTATE does.
fn pack_sqlstate(sqlstate: &str) -> i32 {
    sqlstate.bytes().enumerate().map(|(at, c)| i32::from(c.wrapping_sub(b'0') & 0x3f) << (6 * at)).sum()
}

/// An error's message and detail in one line, as status columns and logs have it.
pub fn one_line_message(error: &Error) -> String {
    match report_parts(error).1 {
        Some(detail) => format!("{error} ({detail})"),
        None => error.to_string(),
    }
}

/// The hint of an error, which says what to do about it.
pub fn hint(error: &Error) -> Option<String> {
    report_parts(error).2.map(str::to_owned)
}

/// The SQLSTATE, detail and hint of an error.
fn report_parts(error: &Error) -> (PgSqlErrorCode, Option<String>, Option<&str>) {
    match error {
        Error::NullArgument { .. } => (PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, None, Some("Give a value.")),
        Error::InvalidArgument { name, .. } => {
            (PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, None, Some(argument_hint(name)))
        }
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
        Error::Provider(fault) => {
            let (code, hint) = fault_code(fault);
            (code, Some(fault.detail()), Some(hint))
        }
        Error::NotReembedded { first, .. } => (
            fault_code(first).0,
            Some(first.detail()),
            Some(
                "They are in error, each with its reason. CALL chatbot_reembed(skip_errors => true) lets the model answer without them; CALL chatbot_reembed() asks for them again.",
            ),
        ),
        Error::NotConfigured { hint, .. } => (PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR, None, Some(hint.as_str())),
        Error::ModelUnknown { .. } => (
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            None,
            Some("Install the version that made this database's vectors, then ALTER EXTENSION chatbot_sync UPDATE;"),
        ),
        Error::LocalModel { problem, .. } => {
            let (code, hint) = local_model_code(problem);
            (code, None, Some(hint))
        }
        Error::SqlTooOld { .. } => (
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            None,
            Some("A superuser runs: ALTER EXTENSION chatbot_sync UPDATE;"),
        ),
        Error::LibraryTooOld { .. } => (
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            None,
            Some(
                "Connect again; where the library is preloaded, restart the server. If that is how it is installed, install the later version.",
            ),
        ),
        Error::Encoding { .. } => (
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            None,
            Some(
                "Make a database that has it and restore a dump of this one there: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0; clients may go on with client_encoding as it is.",
            ),
        ),
        Error::Disabled => (
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            None,
            Some(
                "Where it is meant to be on: ALTER DATABASE ... RESET chatbot_sync.enabled; and connect again. Until then chatbot_enqueue_source() takes texts, and chatbot_search(mode => 'text') finds what was embedded before.",
            ),
        ),
        Error::NotStored(_) => (
            PgSqlErrorCode::ERRCODE_SYSTEM_ERROR,
            None,
            Some("The server's log has the whole error. When its reason is gone: SELECT chatbot_retry();"),
        ),
        Error::NoWorker => (
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
            None,
            Some(
                "Raise max_worker_processes and restart the server; or CALL chatbot_create_index(concurrent => false); and nobody writes vectors meanwhile.",
            ),
        ),
        Error::NotBuilt(_) => (
            PgSqlErrorCode::ERRCODE_SYSTEM_ERROR,
            None,
            Some("The server's log has the whole error. When its reason is gone: CALL chatbot_create_index();"),
        ),
        Error::NoTable { .. } => (
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            None,
            Some("Attach the table that has the rows: an ordinary or a partitioned one."),
        ),
        Error::NotOwner { .. } => (
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            None,
            Some("Call it as the table's owner, who needs the level app: SELECT chatbot_grant('owner');"),
        ),
        Error::HiddenRows { .. } => (
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            Some(
                "Rows are read as the table's owner: those that a policy hides would look as if they were deleted."
                    .to_owned(),
            ),
            Some(
                "ALTER TABLE ... NO FORCE ROW LEVEL SECURITY; or, as a superuser, ALTER ROLE ... BYPASSRLS; for the owner.",
            ),
        ),
        Error::Row { raised, .. } => {
            (PgSqlErrorCode::from(pack_sqlstate(&raised.sqlstate)), raised.detail.clone(), raised.hint.as_deref())
        }
        Error::Condition { .. } => (
            PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
            None,
            Some(
                "Write what a CHECK constraint could say with columns of the table and immutable functions of Postgres. Anything else can be a boolean column, also a generated one, which enabled_column names.",
            ),
        ),
        Error::SourceTypeInUse { uses, .. } => (
            PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            Some(uses.clone()),
            Some(
                "SELECT chatbot_detach('table', delete_embeddings => true); forgets those of a table, chatbot_delete_source() one source.",
            ),
        ),
        Error::Attached { .. } => (
            PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
            None,
            Some(
                "To attach it otherwise, SELECT chatbot_detach('table') first. What is attached: TABLE chatbot_sync.host_table;",
            ),
        ),
        Error::NotAttached { .. } => {
            (PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, None, Some("What is attached: TABLE chatbot_sync.host_table;"))
        }
        Error::NoColumn { .. } => (
            PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            None,
            Some(
                "Name a column that the table has. If it is attached already: SELECT chatbot_detach('table'), then chatbot_attach() again.",
            ),
        ),
        Error::ColumnType { .. } => (
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            None,
            Some(
                "Name another column, or change it with ALTER TABLE. If it is attached already: SELECT chatbot_detach('table') first.",
            ),
        ),
        Error::NoHalfPrecision => (
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            None,
            Some(
                "Install pgvector 0.7 or later, then ALTER EXTENSION vector UPDATE; and ALTER EXTENSION chatbot_sync UPDATE;",
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
    }
}

fn argument_hint(name: &str) -> &'static str {
    match name {
        "chunk_size" | "chunk_overlap" | "max_chunks" => {
            "What is not given is a setting: SHOW chatbot_sync.chunk_size; SHOW chatbot_sync.chunk_overlap; SHOW chatbot_sync.max_chunks;"
        }
        "chatbot_id" | "source_id" => "Ids are those of the application's own rows.",
        "source_type" | "source_types" => {
            "Write one as it stands in chatbot_sync.source_type. A role of level admin adds one with chatbot_add_source_type()."
        }
        "metadata" | "metadata_filter" => "Write it like jsonb_build_object('title', 'Shipping').",
        "provider" | "model" | "dimensions" | "options" | "document_prefix" | "query_prefix" => {
            "A built-in model is chosen with: SELECT chatbot_set_model('local', 'multilingual-static-256'); or 'minilm-static-256', for English alone."
        }
        name if name.starts_with("chatbot_sync.") => {
            "A superuser sets it with ALTER SYSTEM SET, then SELECT pg_reload_conf();"
        }
        _ => "What a function takes: \\df chatbot_*",
    }
}

fn local_model_code(problem: &Problem) -> (PgSqlErrorCode, &'static str) {
    match problem {
        Problem::Missing(_) => (
            PgSqlErrorCode::ERRCODE_UNDEFINED_FILE,
            "A folder for each model is in the folder that chatbot_sync.local_models names; make model MODEL=all-MiniLM-L6-v2 PG_CONFIG=... installs one. The built-in model is chosen with: SELECT chatbot_set_model('local', 'minilm-static-256');",
        ),
        Problem::Unreadable(_) => (
            PgSqlErrorCode::ERRCODE_IO_ERROR,
            "The server's own user has to be able to read the model's folder, and to write to the data directory.",
        ),
        Problem::Malformed(_) => (
            PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
            "Copy the model's folder again, as it is published, and choose the model again with chatbot_set_model().",
        ),
        Problem::Unsupported(_) => (
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "Choose another model: docs/models.md says which kinds there are; or let a server with an HTTP API run this one, as openai_compatible.",
        ),
        Problem::Damaged(_) => (
            PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
            "Its imported file is damaged: chatbot_set_model() with the same model imports it anew.",
        ),
        Problem::OutOfMemory(_) => {
            (PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, "Lower chatbot_sync.local_threads, or choose a smaller model.")
        }
        Problem::Stopped => (PgSqlErrorCode::ERRCODE_IO_ERROR, "Try again."),
    }
}

fn fault_code(fault: &Fault) -> (PgSqlErrorCode, &'static str) {
    match fault.kind {
        FaultKind::Unreachable => (
            PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION,
            "Is the address right, and may the server's machine connect to it? The settings chatbot_sync.<provider>_url and chatbot_sync.proxy say where to.",
        ),
        FaultKind::TimedOut => (
            PgSqlErrorCode::ERRCODE_IO_ERROR,
            "Try again, or raise chatbot_sync.sync_timeout: the transaction stays open as long.",
        ),
        FaultKind::Server => (PgSqlErrorCode::ERRCODE_FDW_ERROR, "Try again later. Nothing was changed."),
        FaultKind::Throttled => (
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
            "Try again later, with less at once: chatbot_sync.max_parallel_requests, chatbot_sync.batch_size.",
        ),
        FaultKind::Quota => (
            PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            "See the plan and the bill at the provider: waiting does not help.",
        ),
        FaultKind::Unauthorized => (
            PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
            "A superuser checks chatbot_sync.<provider>_api_key_file or chatbot_sync.<provider>_api_key.",
        ),
        FaultKind::NotFound => (
            PgSqlErrorCode::ERRCODE_FDW_OPTION_NAME_NOT_FOUND,
            "Check the model's name, and the setting chatbot_sync.<provider>_url: where does its path end?",
        ),
        FaultKind::Redirect => (
            PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE,
            "Redirects are not followed, since the key would be sent along: set chatbot_sync.<provider>_url to the new address.",
        ),
        FaultKind::Refused => (
            PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_EXECUTION,
            "The provider's words say why. A text that is too long for the model needs a smaller chatbot_sync.chunk_size.",
        ),
        FaultKind::TooLong => (
            PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_EXECUTION,
            "Even parts of the text are too long: choose a model that takes longer texts, or a smaller chatbot_sync.chunk_size.",
        ),
        FaultKind::Dimensions => (
            PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_EXECUTION,
            "Leave dimensions out of chatbot_set_model(): the model's own length is used then.",
        ),
        FaultKind::Disconnected => (
            PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION,
            "Try again later. The provider's log says why it closed the connection.",
        ),
        FaultKind::BadAnswer => (
            PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_REPLY,
            "Does the address belong to an embeddings API of this provider, and does the model give vectors of this length?",
        ),
        FaultKind::Outdated => (PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "Try again."),
        FaultKind::AnswerTooLarge => (
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            "Lower chatbot_sync.batch_size, or let a superuser raise chatbot_sync.max_response_bytes.",
        ),
    }
}

impl From<pgrx::spi::Error> for Error {
    fn from(error: pgrx::spi::Error) -> Self {
        Self::Internal(format!("a query of ours failed: {error}"))
    }
}
