//! How a text is to be cut.

use crate::error::{Error, Result};

/// The largest chunk that can be asked for, in characters.
pub const MAX_CHUNK_SIZE: usize = 100_000;

/// The largest number of chunks a source that can be asked for.
pub const MAX_CHUNKS: usize = 100_000;

/// How to cut. Lengths are in characters (Unicode scalar values).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// No chunk is longer, unless a single grapheme cluster is.
    pub size: usize,
    /// At most so much of the text before a chunk is repeated at its start.
    pub overlap: usize,
    /// A source is cut off after so many chunks.
    pub max_chunks: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { size: 1000, overlap: 200, max_chunks: 100 }
    }
}

impl Params {
    /// Checks the three numbers against each other; the error says what was expected.
    pub fn checked(size: i64, overlap: i64, max_chunks: i64) -> Result<Self> {
        let within = |name: &'static str, got: i64, least: usize, most: usize| match usize::try_from(got) {
            Ok(n) if (least..=most).contains(&n) => Ok(n),
            _ => Err(Error::invalid(name, got, format!("{least} to {most}"))),
        };
        let size = within("chunk_size", size, 1, MAX_CHUNK_SIZE)?;
        let overlap = within("chunk_overlap", overlap, 0, size - 1)?;
        let max_chunks = within("max_chunks", max_chunks, 1, MAX_CHUNKS)?;
        Ok(Self { size, overlap, max_chunks })
    }
}
