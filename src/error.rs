//! The one error of the pure layer and the shell. What a DBA sees of each kind (SQLSTATE, detail, hint) is decided in
//! `pg/runtime/sql_error.rs` alone.

/// `std::result::Result` with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, by kind. Postgres' own errors are not among them: they keep their own codes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// An argument that must not be NULL.
    #[error("{name} is NULL")]
    NullArgument {
        /// The parameter's name.
        name: &'static str,
    },
    /// A value that the parameter does not take.
    #[error("{name} is {got}, expected {expected}")]
    InvalidArgument {
        /// The parameter's name.
        name: &'static str,
        /// The value that was passed, quoted where it is text.
        got: String,
        /// The values that are accepted, in words.
        expected: String,
    },
    /// More than can be stored or sent.
    #[error("{what} has {got} {unit}, the limit is {limit}")]
    TooLarge {
        /// What is too large, such as "metadata".
        what: &'static str,
        /// Its size, in the unit.
        got: usize,
        /// The largest size that would do.
        limit: usize,
        /// What is counted, such as "bytes".
        unit: &'static str,
    },
    /// No session has this id.
    #[error("session {id} does not exist")]
    SessionNotFound {
        /// The session's id.
        id: String,
    },
    /// The session takes no more messages.
    #[error("session {id} is closed")]
    SessionClosed {
        /// The session's id.
        id: String,
    },
    /// The database's model is one that this version of the extension does not have.
    #[error("this version has no model {model} of provider {provider}")]
    ModelUnknown {
        /// The provider's name.
        provider: String,
        /// The model's name at the provider.
        model: String,
    },
    /// The database's SQL is of a version that this library does not serve any more.
    #[error("this database has chatbot_sync {sql}, and its library is {library}, which serves it no more")]
    SqlTooOld {
        /// The version of the database's SQL.
        sql: String,
        /// The library's.
        library: String,
    },
    /// The library is older than the database's SQL.
    #[error("this database has chatbot_sync {sql}, and the library that this session has loaded is {library}")]
    LibraryTooOld {
        /// The version of the database's SQL.
        sql: String,
        /// The library's.
        library: String,
    },
    /// A provider did not do its part.
    #[error("{0}")]
    Provider(Box<Fault>),
    /// A provider has no address or no key configured, or the key may not be used.
    #[error("{message}")]
    NotConfigured {
        /// What is missing, for the error's message.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// A model cannot take over, since a provider refuses texts.
    #[error("{sources} sources have no vectors of model {model}: {first}")]
    NotReembedded {
        /// How many.
        sources: i64,
        /// The model that is to follow.
        model: String,
        /// Why the first of them has none.
        first: Box<Fault>,
    },
    /// The database has its texts otherwise than in UTF-8.
    #[error("the encoding of this database is {encoding}, expected UTF8")]
    Encoding {
        /// Its name, as Postgres has it.
        encoding: String,
    },
    /// `chatbot_sync.enabled` is off.
    #[error("chatbot_sync.enabled is off: nothing is embedded, and no provider is asked")]
    Disabled,
    /// Postgres refused what a worker was to store.
    #[error("the vectors could not be stored: {0}")]
    NotStored(String),
    /// An index is to be made, and no process may be started.
    #[error("no background worker could be started")]
    NoWorker,
    /// A worker that was to make an index could not.
    #[error("the index could not be made: {0}")]
    NotBuilt(String),
    /// A relation whose rows cannot be followed.
    #[error("{relation} is {got}, expected a table")]
    NoTable {
        /// The relation's qualified name.
        relation: String,
        /// The kind of relation that it is.
        got: &'static str,
    },
    /// The caller does not own the table.
    #[error("must be owner of table {relation}")]
    NotOwner {
        /// The relation's qualified name.
        relation: String,
    },
    /// A table whose owner does not see every row of it.
    #[error("row-level security of {relation} is forced, and its owner {owner} is subject to it")]
    HiddenRows {
        /// The table, or the partition.
        relation: String,
        /// The role that its rows are read as.
        owner: String,
    },
    /// What Postgres raised where one row was read, stored or written.
    #[error("{step}: {}", raised.message)]
    Row {
        /// What could not be done.
        step: RowStep,
        /// The error.
        raised: Box<Raised>,
    },
    /// A table that is attached already.
    #[error("{relation} is attached already")]
    Attached {
        /// The relation's qualified name.
        relation: String,
    },
    /// A table that is not attached.
    #[error("{relation} is not attached")]
    NotAttached {
        /// The relation's qualified name.
        relation: String,
    },
    /// A table without a column that it should have.
    #[error("{relation} has no column \"{column}\", which {role} names")]
    NoColumn {
        /// The table's qualified name.
        relation: String,
        /// The column's name.
        column: String,
        /// The parameter that names the column.
        role: &'static str,
    },
    /// A column of another kind than it should be.
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
        /// The values that are accepted, in words.
        expected: String,
    },
    /// pgvector's type is not there.
    #[error("the type vector of the extension vector does not exist")]
    VectorMissing,
    /// A defect of this extension or of the tables that it finds.
    #[error("{0}")]
    Internal(String),
}

/// What was done with one row when Postgres raised an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowStep {
    /// Its values were read.
    Read,
    /// What was made of it was stored in our own tables.
    Store,
    /// Its status columns were written.
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

/// An error of Postgres' own, or of a function that it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// Five characters.
    pub sqlstate: String,
    /// What went wrong.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Raised {
    /// The row's values could not be read.
    pub fn while_reading(self) -> Error {
        Error::Row { step: RowStep::Read, raised: Box::new(self) }
    }

    /// Our own tables did not take what was made of the row.
    pub fn while_storing(self) -> Error {
        Error::Row { step: RowStep::Store, raised: Box::new(self) }
    }

    /// The row's status columns do not take the status.
    pub fn while_writing_status(self) -> Error {
        Error::Row { step: RowStep::WriteStatus, raised: Box::new(self) }
    }
}

impl Error {
    /// A value that the parameter does not take.
    pub fn invalid(name: &'static str, got: impl ToString, expected: impl Into<String>) -> Self {
        Self::InvalidArgument { name, got: got.to_string(), expected: expected.into() }
    }

    /// Whether other sources may fare better, or this one later: not so where a table or a type of ours is not right.
    pub fn is_about_one_source(&self) -> bool {
        !matches!(self, Self::VectorMissing | Self::Internal(_))
    }

    /// A text that is none of those that the parameter takes.
    pub fn unknown(name: &'static str, got: &str, known: &[&str]) -> Self {
        const SHOWN: usize = 60;
        let quoted: String = got.chars().take(SHOWN).collect();
        let dots = if quoted.len() < got.len() { "..." } else { "" };
        Self::invalid(name, format!("\"{quoted}{dots}\""), format!("one of {}", known.join(", ")))
    }
}

/// How a provider failed, and what that means for trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// No connection: DNS, TCP, TLS, or it broke.
    Unreachable,
    /// No answer in the time that there was.
    TimedOut,
    /// 5xx, 408: its own failure.
    Server,
    /// 429: too much at once.
    Throttled,
    /// The plan's limit, or the bill: waiting does not help.
    Quota,
    /// 401, 403: the key.
    Unauthorized,
    /// 404: the model or the address.
    NotFound,
    /// 3xx: the address has moved; a key is not sent after it.
    Redirect,
    /// Other 4xx: this input, or this many.
    Refused,
    /// A text, or a request, is longer than the model takes.
    TooLong,
    /// The model does not give vectors of the length that was asked for.
    Dimensions,
    /// The connection broke after the request was sent.
    Disconnected,
    /// An answer of a wrong shape, length or number.
    BadAnswer,
    /// More than may be read.
    AnswerTooLarge,
    /// The text was changed while its vector was made.
    Outdated,
}

/// What to do about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClass {
    /// Try again, a few times.
    Transient,
    /// Wait as long as is asked, then go on: no attempt was made.
    Throttled,
    /// One of several inputs may be to blame.
    Input,
    /// Only a person can help.
    Permanent,
}

impl FaultKind {
    /// What to do about it.
    pub fn retry_class(self) -> RetryClass {
        match self {
            Self::Unreachable | Self::Disconnected | Self::Server | Self::BadAnswer => RetryClass::Transient,
            Self::Throttled => RetryClass::Throttled,
            Self::Refused | Self::TooLong | Self::AnswerTooLarge | Self::TimedOut => RetryClass::Input,
            Self::Quota | Self::Unauthorized | Self::NotFound | Self::Redirect | Self::Dimensions | Self::Outdated => {
                RetryClass::Permanent
            }
        }
    }
}

/// A failed request, as far as a person has to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of fault, which decides whether the request is tried again.
    pub kind: FaultKind,
    /// The provider's name.
    pub provider: String,
    /// The model that was asked for.
    pub model: String,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// In its own words, or the client's: one line, without a key.
    pub message: String,
    /// How long it asks to wait.
    pub retry_after: Option<std::time::Duration>,
    /// The text that is to blame, where one is.
    pub subject: Option<String>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { provider, model, .. } = self;
        let at = self.subject.as_ref().map_or(String::new(), |subject| format!(" at {subject}"));
        match self.kind {
            FaultKind::Unreachable => write!(f, "provider {provider} cannot be reached"),
            FaultKind::TimedOut => write!(f, "provider {provider} did not answer in time{at}"),
            FaultKind::Server => write!(f, "provider {provider} failed{at}"),
            FaultKind::Disconnected => write!(f, "provider {provider} closed the connection{at}"),
            FaultKind::TooLong => {
                let subject = self.subject.as_deref().unwrap_or("a text");
                write!(f, "provider {provider} refuses {subject}, which is longer than model {model} takes")
            }
            FaultKind::Dimensions => {
                write!(f, "model {model} of provider {provider} gives no vectors of the length that was asked for")
            }
            FaultKind::Throttled => write!(f, "provider {provider} is asked too much at once"),
            FaultKind::Quota => write!(f, "the quota at provider {provider} is used up"),
            FaultKind::Unauthorized => write!(f, "provider {provider} refuses the key"),
            FaultKind::NotFound => write!(f, "provider {provider} knows no model {model} at its address"),
            FaultKind::Redirect => write!(f, "provider {provider} is at another address"),
            FaultKind::Refused => {
                write!(f, "provider {provider} refuses {}", self.subject.as_deref().unwrap_or("a text"))
            }
            FaultKind::BadAnswer => write!(f, "provider {provider} gave an answer that cannot be right{at}"),
            FaultKind::Outdated => write!(f, "{} was changed meanwhile", self.subject.as_deref().unwrap_or("a text")),
            FaultKind::AnswerTooLarge => write!(f, "provider {provider} gave an answer that is too large{at}"),
        }
    }
}

impl Fault {
    /// A fault without a status.
    pub fn new(kind: FaultKind, provider: &str, model: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            provider: provider.to_owned(),
            model: model.to_owned(),
            status: None,
            message: message.into(),
            retry_after: None,
            subject: None,
        }
    }

    /// Model, status and the provider's words.
    pub fn detail(&self) -> String {
        let mut detail = format!("Model {}", self.model);
        if let Some(status) = self.status {
            detail += &format!(", HTTP status {status}");
        }
        if !self.message.is_empty() {
            detail += &format!(": {}", self.message);
        }
        detail
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Provider(Box::new(fault))
    }
}
