//! The one error of the pure layer and the shell. What a DBA sees of each kind (SQLSTATE, detail, hint) is decided in
//! `pg/report.rs` alone.

/// `std::result::Result` with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, by kind. Postgres' own errors are not among them: they keep their own codes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// An argument that must not be NULL.
    #[error("{name} is NULL")]
    NullArgument {
        /// The parameter.
        name: &'static str,
    },
    /// A value that the parameter does not take.
    #[error("{name} is {got}, expected {expected}")]
    InvalidArgument {
        /// The parameter.
        name: &'static str,
        /// What was given, quoted where it is text.
        got: String,
        /// What would do.
        expected: String,
    },
    /// More than can be stored or sent.
    #[error("{what} has {got} {unit}, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        got: usize,
        /// The largest size that would do.
        limit: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// No session has this id.
    #[error("session {id} does not exist")]
    SessionNotFound {
        /// The session.
        id: String,
    },
    /// The session takes no more messages.
    #[error("session {id} is closed")]
    SessionClosed {
        /// The session.
        id: String,
    },
    /// The database's model is one that this version of the extension does not have.
    #[error("this version has no model \"{model}\" of provider \"{provider}\"")]
    ModelUnknown {
        /// Who makes its vectors.
        provider: String,
        /// Its name there.
        model: String,
    },
    /// pgvector's type is not there.
    #[error("the type vector of the extension vector does not exist")]
    VectorMissing,
    /// A defect of this extension or of the tables that it finds.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// A value that the parameter does not take.
    pub fn invalid(name: &'static str, got: impl ToString, expected: impl Into<String>) -> Self {
        Self::InvalidArgument { name, got: got.to_string(), expected: expected.into() }
    }

    /// A text that is none of those that the parameter takes.
    pub fn unknown(name: &'static str, got: &str, known: &[&str]) -> Self {
        const SHOWN: usize = 60;
        let quoted: String = got.chars().take(SHOWN).collect();
        let dots = if quoted.len() < got.len() { "…" } else { "" };
        Self::invalid(name, format!("\"{quoted}{dots}\""), format!("one of {}", known.join(", ")))
    }
}
