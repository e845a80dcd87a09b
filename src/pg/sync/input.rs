//! What a sync is given beside its sources, and whether a source has changed.

use crate::embedding::batch::Usage;
use crate::error::Result;
use crate::host::OnError;
use crate::pg::store::chunk::{self, StoredChunk};
use crate::pg::store::source::{self, SourceRow};
use crate::source::SourceInput;
use crate::sync::diff::{ChunkDiff, diff_chunks};
use crate::text::chunk::Params;
use std::collections::HashMap;
use std::time::Duration;

/// The version of the chunker. Raise it when it cuts differently, so that sources are chunked again when they are synced
/// next.
const CHUNKER_VERSION: i32 = 1;

/// Whether rows are handled together or each alone, since one of them may make a statement fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowHandling {
    /// All at once, which is fast: what Postgres raises goes up to the caller.
    Together,
    /// Each in a subtransaction of its own: what Postgres raises becomes that row's error.
    EachAlone,
}

/// What to do with a source that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The sync ends with the error.
    Raise,
    /// The error is written to the source, which keeps its vectors.
    Mark,
    /// Only the caller gets the error; nothing is written.
    Leave,
}

impl From<OnError> for OnFailure {
    fn from(on_error: OnError) -> Self {
        match on_error {
            OnError::Raise => Self::Raise,
            OnError::Mark => Self::Mark,
        }
    }
}

/// Vectors that were made before the sync, which then sends no requests.
#[derive(Default)]
pub struct Prefetched {
    /// The model that the vectors were made with.
    pub model_id: i32,
    /// Vectors by their text, each with what it used.
    pub vectors: HashMap<String, (Vec<f32>, Usage)>,
    /// Texts that were longer than the model takes, with the number of parts that each was embedded in.
    pub in_parts: HashMap<String, usize>,
    /// The time that the provider took.
    pub elapsed: Duration,
}

/// Whether the stored vectors were made from the same content, with the same model and the same chunking.
pub fn unchanged(row: &SourceRow, item: &SourceInput, model_id: i32, params: &Params) -> bool {
    row.content_hash.as_deref() == Some(item.content.hash())
        && row.model_id == Some(model_id)
        && row.chunking.as_ref() == Some(&chunking_numbers(params, item.content.reading()))
}

/// Returns how a source is chunked, as the numbers of `chatbot_sync.source.chunking`.
pub fn chunking_numbers(params: &Params, reading: i32) -> Vec<i32> {
    let Params { size, overlap, max_chunks } = *params;
    let int = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    vec![CHUNKER_VERSION, int(size), int(overlap), int(max_chunks), reading]
}

/// Returns the texts that a sync of a source would embed now.
pub fn texts_to_embed(item: &SourceInput, model_id: i32, params: &Params) -> Result<Vec<String>> {
    let row = source::read(&item.key, &item.metadata, false)?;
    if !item.enabled || row.as_ref().is_some_and(|row| unchanged(row, item, model_id, params)) {
        return Ok(Vec::new());
    }
    let cut = item.content.chunk(params)?;
    let old = if row.is_some() { chunk::chunks(&item.key, model_id)? } else { Vec::new() };
    let texts = cut.texts();
    let ChunkDiff { kept, .. } = diff_chunks(&old.iter().map(StoredChunk::text).collect::<Vec<_>>(), &texts);
    let new = texts.iter().zip(kept).filter(|(_, kept)| kept.is_none());
    Ok(new.map(|((_, text), _)| (*text).to_owned()).collect())
}
