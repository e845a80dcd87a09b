//! The size, overlap and number of chunks.

use crate::error::{Error, Result};

/// The largest value of `chunk_size`, in characters.
pub const MAX_CHUNK_SIZE: usize = 100_000;

/// The largest value of `max_chunks`: chunks of one source.
pub const MAX_CHUNKS: usize = 100_000;

/// The parameters by which a text is cut. Lengths are in characters (Unicode scalar values).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// The largest length of a chunk; only a single grapheme cluster may be longer.
    pub size: usize,
    /// The largest number of characters that a chunk repeats from the text before it.
    pub overlap: usize,
    /// The largest number of chunks of a source; the text after them is not embedded.
    pub max_chunks: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { size: 1000, overlap: 200, max_chunks: 100 }
    }
}

impl Params {
    /// Makes parameters from the three settings, or fails with the range that a value has to be in.
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
