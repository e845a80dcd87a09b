//! A source as it is to become, and what becomes of it.

use std::collections::HashMap;
use std::time::Duration;

use crate::embedding::batch::Usage;
use crate::error::{Error, Result};
use crate::host::OnError;
use crate::pg::jsonb::Jsonb;
use crate::pg::store::chunk::{self, StoredChunk};
use crate::pg::store::source::{self, SourceKey, SourceRow};
use crate::sync::diff::{Diff, diff};
use crate::text::chunk::Params;
use crate::text::content::Content;

/// Changes when the chunker cuts differently, so that sources are cut anew when they are next embedded.
const CHUNKER_VERSION: i32 = 1;

/// A source as it is to become.
#[derive(Clone)]
pub struct Item {
    /// Which.
    pub key: SourceKey,
    /// What is to be found.
    pub content: Content,
    /// For its chunks too.
    pub metadata: Jsonb,
    /// Whether searches find it. Nothing is embedded as long as they do not.
    pub enabled: bool,
    /// The host table that it comes from.
    pub host: Option<i32>,
    /// Nobody can have made this source before, so that it need not be looked for first.
    pub fresh: bool,
}

impl Item {
    /// Whether nothing was changed meanwhile.
    pub fn same(&self, other: &Self) -> bool {
        self.key == other.key
            && self.content.hash() == other.content.hash()
            && self.metadata == other.metadata
            && self.enabled == other.enabled
    }
}

/// What a source is to become, or why its row does not say it.
#[derive(Clone)]
pub enum RowInput {
    /// The row was read.
    Readable(Item),
    /// Postgres raised an error while the row was read.
    Unreadable(Unreadable),
}

/// A row that cannot be read.
#[derive(Clone)]
pub struct Unreadable {
    /// Its source.
    pub key: SourceKey,
    /// Its host table.
    pub host: Option<i32>,
    /// Whether searches are to find it; none where that cannot be read either.
    pub enabled: Option<bool>,
    /// Why.
    pub error: Error,
}

impl RowInput {
    /// Its source.
    pub fn key(&self) -> SourceKey {
        match self {
            Self::Readable(item) => item.key,
            Self::Unreadable(unreadable) => unreadable.key,
        }
    }

    /// Whether nothing was changed meanwhile, as far as can be read.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Readable(one), Self::Readable(other)) => one.same(other),
            // A reason may say something else each time.
            (Self::Unreadable(one), Self::Unreadable(other)) => one.key == other.key,
            _ => false,
        }
    }
}

impl From<Item> for RowInput {
    fn from(item: Item) -> Self {
        Self::Readable(item)
    }
}

/// How rows are handled of which one may make a statement fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// All at once, which is fast: what Postgres raises goes up to the caller.
    Together,
    /// Each in a subtransaction of its own: what Postgres raises becomes that row's error.
    EachAlone,
}

/// What became of a source.
#[derive(Debug, Clone, Copy)]
pub struct Synced {
    /// Chunks that it has.
    pub chunks: i32,
    /// Of those, how many kept their vectors.
    pub reused: i32,
    /// Whether its end was cut off.
    pub truncated: bool,
}

/// What to do with a source that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// Give up altogether.
    Raise,
    /// It says so, and keeps the vectors that it has.
    Mark,
    /// Who asked is told, and nothing is written.
    Leave,
}

impl From<OnError> for Failing {
    fn from(on_error: OnError) -> Self {
        match on_error {
            OnError::Raise => Self::Raise,
            OnError::Mark => Self::Mark,
        }
    }
}

/// Vectors that were made before.
#[derive(Default)]
pub struct Prefetched {
    /// With which model.
    pub model_id: i32,
    /// By text, with what each took.
    pub vectors: HashMap<String, (Vec<f32>, Usage)>,
    /// How long that took.
    pub elapsed: Duration,
}

/// Whether the stored vectors are what they would become.
pub fn unchanged(row: &SourceRow, item: &Item, model_id: i32, params: &Params) -> bool {
    row.content_hash.as_deref() == Some(item.content.hash())
        && row.model_id == Some(model_id)
        && row.chunking.as_ref() == Some(&chunking(params, item.content.reading()))
}

/// How a source is cut, as it is stored.
pub fn chunking(params: &Params, reading: i32) -> Vec<i32> {
    let Params { size, overlap, max_chunks } = *params;
    let int = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    vec![CHUNKER_VERSION, int(size), int(overlap), int(max_chunks), reading]
}

/// The texts that would have to be embedded for a source as it is now.
pub fn needed(item: &Item, model_id: i32, params: &Params) -> Result<Vec<String>> {
    let row = source::read(&item.key, &item.metadata, false)?;
    if !item.enabled || row.as_ref().is_some_and(|row| unchanged(row, item, model_id, params)) {
        return Ok(Vec::new());
    }
    let cut = item.content.cut(params)?;
    let old = if row.is_some() { chunk::chunks(&item.key, model_id)? } else { Vec::new() };
    let texts = cut.texts();
    let Diff { kept, .. } = diff(&old.iter().map(StoredChunk::text).collect::<Vec<_>>(), &texts);
    let new = texts.iter().zip(kept).filter(|(_, kept)| kept.is_none());
    Ok(new.map(|((_, text), _)| (*text).to_owned()).collect())
}
