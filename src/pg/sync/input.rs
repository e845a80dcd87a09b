//! What a sync is given beside its sources, and whether a source has changed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use crate::embedding::batch::Usage;
use crate::error::Result;
use crate::host::OnError;
use crate::ids::ModelId;
use crate::pg::store::chunk::{self, StoredChunk};
use crate::pg::store::source::{self, RowLock, SourceRow};
use crate::source::{SourceInput, SourceKey};
use crate::sync::diff::{ChunkDiff, diff_chunks};
use crate::text::chunk::Params;
use crate::text::content::ChunkedContent;

/// The version of the chunker. Raise it when it cuts differently, so that sources are chunked again when they
/// are synced next.
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
    pub model_id: ModelId,
    /// Vectors by their text, each with what it used.
    pub vectors: HashMap<String, (Vec<f32>, Usage)>,
    /// Texts that were longer than the model takes, with the number of parts that each was embedded in.
    pub in_parts: HashMap<String, usize>,
    /// The time that the provider took.
    pub elapsed: Duration,
}

/// Whether the stored vectors were made from the same content, with the same model and the same chunking.
pub fn is_unchanged(row: &SourceRow, input: &SourceInput, model_id: ModelId, params: &Params) -> bool {
    row.content_hash.as_deref().is_some_and(|hash| input.has_hash(hash))
        && row.model_id == Some(model_id)
        && row.chunking.as_ref() == Some(&chunking_numbers(params, input.content.reading()))
}

/// Returns how a source is chunked, as the numbers of `chatbot_sync.source.chunking`.
pub fn chunking_numbers(params: &Params, reading: i32) -> Vec<i32> {
    let Params { size, overlap, max_chunks } = *params;
    let int = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    vec![CHUNKER_VERSION, int(size), int(overlap), int(max_chunks), reading]
}

/// What is to be done with the chunks that a source has. Vectors that were made with another title are of no use.
pub fn changes(row: Option<&SourceRow>, input: &SourceInput, old: &[StoredChunk], cut: &ChunkedContent) -> ChunkDiff {
    let texts = cut.texts();
    let hash = row.and_then(|row| row.content_hash.as_deref()).unwrap_or_default();
    if input.content.has_same_title(hash) {
        diff_chunks(&old.iter().map(StoredChunk::text).collect::<Vec<_>>(), &texts)
    } else {
        ChunkDiff { kept: vec![None; texts.len()], dropped: (0..old.len()).collect() }
    }
}

/// The chunks that a source has no vectors of.
pub struct NewChunks {
    /// Their places: those that are embedded, and then those whose vectors are copied.
    pub chunks: Vec<usize>,
    /// How many are embedded.
    pub asked: usize,
    /// The vectors of the others.
    pub copied: Vec<Vec<f32>>,
}

/// Which chunks are to be embedded, and which vectors the same row has as a source of another chatbot.
pub fn new_chunks(input: &SourceInput, model_id: ModelId, diff: &ChunkDiff, inputs: &[Cow<str>]) -> Result<NewChunks> {
    let mut chunks: Vec<usize> = (0..inputs.len()).filter(|&at| diff.kept[at].is_none()).collect();
    let mut copies = Vec::new();
    if !chunks.is_empty() {
        for sibling in input.siblings.iter() {
            let key = SourceKey { chatbot_id: sibling.chatbot_id, source_type: sibling.source_type, ..input.key };
            let Some(stored) = chunk::embedded_texts(&key, model_id)? else { continue };
            let made: HashMap<String, Vec<f32>> = stored.into_iter().collect();
            chunks.retain(|&at| match made.get(inputs[at].as_ref()) {
                Some(vector) => {
                    copies.push((at, vector.clone()));
                    false
                }
                None => true,
            });
        }
    }
    let asked = chunks.len();
    let (copied_chunks, copied): (Vec<usize>, Vec<Vec<f32>>) = copies.into_iter().unzip();
    chunks.extend(copied_chunks);
    Ok(NewChunks { chunks, asked, copied })
}

/// Returns the texts that a sync of a source would embed now.
pub fn texts_to_embed(input: &SourceInput, model_id: ModelId, params: &Params) -> Result<Vec<String>> {
    let row = source::read_row(&input.key, &input.metadata, RowLock::None)?;
    if !input.enabled || row.as_ref().is_some_and(|row| is_unchanged(row, input, model_id, params)) {
        return Ok(Vec::new());
    }
    let cut = input.content.chunk(params)?;
    let old = if row.is_some() { chunk::chunks(&input.key, model_id)? } else { Vec::new() };
    let inputs = cut.inputs();
    let diff = changes(row.as_ref(), input, &old, &cut);
    let NewChunks { chunks, asked, .. } = new_chunks(input, model_id, &diff, &inputs)?;
    Ok(chunks[..asked].iter().map(|&at| inputs[at].clone().into_owned()).collect())
}
