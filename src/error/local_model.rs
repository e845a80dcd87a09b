//! Problems of a model in a folder, and of the file that was made of it.

use std::io::{Error, ErrorKind};

/// Why there is no vector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A folder or a file is not there.
    #[error("{0} does not exist")]
    Missing(String),
    /// The operating system refuses to read or write a file; in its words.
    #[error("{0}")]
    Unreadable(String),
    /// A file of the folder contradicts itself or another one.
    #[error("{0}")]
    Malformed(String),
    /// The model needs something that is not implemented here.
    #[error("{0}")]
    Unsupported(String),
    /// The imported file is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// There is no memory to work in.
    #[error("there is not enough memory: {0}")]
    OutOfMemory(String),
    /// The caller asked to stop.
    #[error("it was stopped")]
    Stopped,
}

/// A value, or why there is none.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    /// Returns the problem for an error of the operating system about a file.
    pub fn of_file(name: impl std::fmt::Display, error: &Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing(name.to_string()),
            ErrorKind::UnexpectedEof => Self::Malformed(format!("{name} became shorter while it was read")),
            _ => Self::Unreadable(format!("{name}: {error}")),
        }
    }

    /// Returns the problem for memory that could not be had.
    pub fn of_memory(error: &Error) -> Self {
        Self::OutOfMemory(error.to_string())
    }
}

/// Refuses a file that contradicts itself.
pub fn malformed<T>(message: impl Into<String>) -> Result<T> {
    Err(Problem::Malformed(message.into()))
}

/// Refuses what is not implemented.
pub fn unsupported<T>(message: impl Into<String>) -> Result<T> {
    Err(Problem::Unsupported(message.into()))
}
