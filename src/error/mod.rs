//! The one error type of the pure layer and the shell. `pg/runtime/sql_error.rs` alone decides which SQLSTATE, detail
//! and hint a client gets for each kind.

mod fault;
pub mod local_model;

use crate::error::local_model::Problem;

pub use fault::{Fault, FaultKind, RetryClass};

/// `std::result::Result` with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in this crate, by kind. Errors that Postgres raises keep their own SQLSTATE and are not
/// among them, except while one row is handled ([`Error::Row`]).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// An argument is NULL where a value is required.
    #[error("{name} is NULL")]
    NullArgument {
        /// The parameter's name.
        name: &'static str,
    },
    /// An argument has a value that the parameter does not take.
    #[error("{name} is {got}, expected {expected}")]
    InvalidArgument {
        /// The parameter's name.
        name: &'static str,
        /// The value that was passed, quoted where it is text.
        got: String,
        /// The values that are accepted, in words.
        expected: String,
    },
    /// Something is larger than can be stored or sent.
    #[error("{what} has {got} {unit}, the limit is {limit}")]
    TooLarge {
        /// The value that is too large, such as "metadata".
        what: &'static str,
        /// Its size, in the unit.
        got: usize,
        /// The largest size that is allowed, in the unit.
        limit: usize,
        /// The unit of both sizes, such as "bytes".
        unit: &'static str,
    },
    /// No session has the id that was passed.
    #[error("session {id} does not exist")]
    SessionNotFound {
        /// The session's id.
        id: String,
    },
    /// The session is closed and takes no more messages.
    #[error("session {id} is closed")]
    SessionClosed {
        /// The session's id.
        id: String,
    },
    /// The database's vectors are of a model that this version of the extension does not have.
    #[error("this version has no model {model} of provider {provider}")]
    ModelUnknown {
        /// The provider's name.
        provider: String,
        /// The model's name at the provider.
        model: String,
    },
    /// A model from a folder cannot be imported or used.
    #[error("model {name} cannot be used: {problem}")]
    LocalModel {
        /// The folder's name.
        name: String,
        /// Why the model cannot be used.
        problem: Problem,
    },
    /// The database's SQL is older than the oldest version that this library serves.
    #[error("this database has chatbot_sync {sql}, and its library is {library}, which serves it no more")]
    SqlTooOld {
        /// The version of the database's SQL.
        sql: String,
        /// The version of the library.
        library: String,
    },
    /// The library is older than the database's SQL.
    #[error("this database has chatbot_sync {sql}, and the library that this session has loaded is {library}")]
    LibraryTooOld {
        /// The version of the database's SQL.
        sql: String,
        /// The version of the library.
        library: String,
    },
    /// A request to a provider failed.
    #[error("{0}")]
    Provider(Box<Fault>),
    /// A provider has no address or no key configured, or the caller may not use the key.
    #[error("{message}")]
    NotConfigured {
        /// The message of the error: what is missing.
        message: String,
        /// The hint of the error: what to do about it.
        hint: String,
    },
    /// A new model cannot take over, because a provider refused every source that is still without its vectors.
    #[error("{sources} sources have no vectors of model {model}: {first}")]
    NotReembedded {
        /// The number of sources without vectors of the new model.
        sources: i64,
        /// The new model's name.
        model: String,
        /// Why the first of these sources was refused.
        first: Box<Fault>,
    },
    /// The database's encoding is not UTF-8.
    #[error("the encoding of this database is {encoding}, expected UTF8")]
    Encoding {
        /// The encoding's name, as Postgres writes it.
        encoding: String,
    },
    /// The setting `chatbot_sync.enabled` is off.
    #[error("chatbot_sync.enabled is off: nothing is embedded, and no provider is asked")]
    Disabled,
    /// Postgres raised an error when a worker stored the vectors of a job; the text is Postgres' message.
    #[error("the vectors could not be stored: {0}")]
    NotStored(String),
    /// No background worker could be started to build an index: `max_worker_processes` is used up.
    #[error("no background worker could be started")]
    NoWorker,
    /// The background worker that was to build an index failed; the text is its reason.
    #[error("the index could not be made: {0}")]
    NotBuilt(String),
    /// A relation cannot be attached because of its kind: it is, for example, a view.
    #[error("{relation} is {got}, expected a table")]
    NoTable {
        /// The relation's name.
        relation: String,
        /// The kind of relation that it is.
        got: &'static str,
    },
    /// A condition that triggers cannot evaluate for each row.
    #[error("condition {condition} cannot be used: {reason}")]
    Condition {
        /// The condition in SQL.
        condition: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// A kind of source that is to be dropped, and something is of it.
    #[error("source type \"{name}\" is in use")]
    SourceTypeInUse {
        /// The kind's name.
        name: String,
        /// The uses of the kind, in words.
        uses: String,
    },
    /// The caller does not own the table.
    #[error("must be owner of table {relation}")]
    NotOwner {
        /// The relation's qualified name.
        relation: String,
    },
    /// The table's owner does not see every row, because its row-level security is forced. Rows that a policy hides
    /// would look as if they had been deleted.
    #[error("row-level security of {relation} is forced, and its owner {owner} is subject to it")]
    HiddenRows {
        /// The table or partition.
        relation: String,
        /// The role that its rows are read as.
        owner: String,
    },
    /// Postgres raised an error while one host row was read, its source was stored, or its status was written.
    #[error("{step}: {}", raised.message)]
    Row {
        /// The step in which it was raised.
        step: RowStep,
        /// The error that Postgres raised.
        raised: Box<PostgresError>,
    },
    /// `chatbot_attach()` is called for a table that is attached already.
    #[error("{relation} is attached already")]
    Attached {
        /// The relation's qualified name.
        relation: String,
    },
    /// The call needs an attached table, and this one is not.
    #[error("{relation} is not attached")]
    NotAttached {
        /// The relation's qualified name.
        relation: String,
    },
    /// A column that an argument of `chatbot_attach()` names does not exist.
    #[error("{relation} has no column \"{column}\", which {role} names")]
    NoColumn {
        /// The table's qualified name.
        relation: String,
        /// The column's name.
        column: String,
        /// The parameter that names the column.
        role: &'static str,
    },
    /// A column that an argument of `chatbot_attach()` names has an unsuitable type.
    #[error("column \"{column}\" of {relation}, which {role} names, is {got}, expected {expected}")]
    ColumnType {
        /// The table's qualified name.
        relation: String,
        /// The column's name.
        column: String,
        /// The parameter that names the column.
        role: &'static str,
        /// The column's type.
        got: String,
        /// The types that are accepted, in words.
        expected: String,
    },
    /// Half precision was asked for, and pgvector has no type for it.
    #[error("this pgvector cannot store vectors in half precision")]
    NoHalfPrecision,
    /// The type `vector` does not exist: pgvector is not installed in this database.
    #[error("the type vector of the extension vector does not exist")]
    VectorMissing,
    /// A defect of this extension, or one of its tables that is not as it should be.
    #[error("{0}")]
    Internal(String),
}

/// The step of a row's sync in which Postgres raised an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowStep {
    /// The row's values were read.
    Read,
    /// The source that was read from the row was stored in our own tables.
    Store,
    /// The row's status columns were written.
    WriteStatus,
}

impl std::fmt::Display for RowStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "the row cannot be read",
            Self::Store => "the source cannot be stored",
            Self::WriteStatus => "the row does not take its status",
        })
    }
}

/// An error that Postgres raised, as a client would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresError {
    /// The SQLSTATE: five characters.
    pub sqlstate: String,
    /// The message.
    pub message: String,
    /// The detail, where there is one.
    pub detail: Option<String>,
    /// The hint, where there is one.
    pub hint: Option<String>,
}

impl PostgresError {
    /// The error of a row whose values could not be read.
    pub fn into_read_error(self) -> Error {
        Error::Row { step: RowStep::Read, raised: Box::new(self) }
    }

    /// The error of a row whose source could not be stored in our own tables.
    pub fn into_store_error(self) -> Error {
        Error::Row { step: RowStep::Store, raised: Box::new(self) }
    }

    /// The error of a row whose status columns could not be written.
    pub fn into_status_error(self) -> Error {
        Error::Row { step: RowStep::WriteStatus, raised: Box::new(self) }
    }
}

impl Error {
    /// The error of an argument with a value that the parameter does not take.
    pub fn invalid(name: &'static str, got: impl ToString, expected: impl Into<String>) -> Self {
        Self::InvalidArgument { name, got: got.to_string(), expected: expected.into() }
    }

    /// Whether only this source is affected, so that the run goes on with the others. False where a table or a type of
    /// ours is not as it should be: then every other source would fail too.
    pub fn is_about_one_source(&self) -> bool {
        !matches!(self, Self::VectorMissing | Self::Internal(_))
    }

    /// The error of an argument that has to be one of some words; the message lists them, and shows at most 60
    /// characters of `got`.
    pub fn unknown(name: &'static str, got: &str, known: &[&str]) -> Self {
        const SHOWN: usize = 60;
        let quoted: String = got.chars().take(SHOWN).collect();
        let dots = if quoted.len() < got.len() { "..." } else { "" };
        Self::invalid(name, format!("\"{quoted}{dots}\""), format!("one of {}", known.join(", ")))
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Provider(Box::new(fault))
    }
}
