//! Chunks that several chatbots have of one row: the vector of one is that of the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::error::Result;
use crate::ids::ModelId;
use crate::pg::host;
use crate::pg::store::chunk;
use crate::pg::store::reembed::{ChunkWithoutVector, EmbeddedChunk};
use crate::source::{Sibling, SourceKey};

/// A chunk of a row, whichever chatbot it is of: the row, and what is embedded.
#[derive(PartialEq, Eq, Hash)]
struct ChunkOfRow {
    /// The first attachment of the row's table.
    table: Sibling,
    source_id: i64,
    input: String,
}

/// A chunk by its key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ChunkPlace {
    source: SourceKey,
    chunk_id: i32,
}

/// Chunks that are not embedded themselves.
#[derive(Default)]
pub struct SharedChunks {
    /// Another chatbot has the vector.
    copied: Vec<EmbeddedChunk>,
    /// The same chunk of another chatbot is embedded now.
    waiting: HashMap<ChunkPlace, Vec<ChunkWithoutVector>>,
}

impl SharedChunks {
    /// Takes out of the missing chunks those that need not be embedded.
    pub fn split(missing: Vec<ChunkWithoutVector>, model_id: ModelId) -> Result<(Vec<ChunkWithoutVector>, Self)> {
        let siblings = host::all_siblings()?;
        let mut shared = Self::default();
        if siblings.is_empty() {
            return Ok((missing, shared));
        }
        let mut made: HashMap<SourceKey, HashMap<String, Vec<f32>>> = HashMap::new();
        let mut first: HashMap<ChunkOfRow, ChunkPlace> = HashMap::new();
        let mut asked = Vec::new();
        for chunk in missing {
            let key = chunk.key;
            let Some(all) = siblings.get(&Sibling { chatbot_id: key.chatbot_id, source_type: key.source_type }) else {
                asked.push(chunk);
                continue;
            };
            let mut copy = None;
            for sibling in all.iter().filter(|sibling| sibling.chatbot_id != key.chatbot_id) {
                let other = SourceKey { chatbot_id: sibling.chatbot_id, source_type: sibling.source_type, ..key };
                let of_other = match made.entry(other) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => unknown
                        .insert(chunk::embedded_texts(&other, model_id)?.unwrap_or_default().into_iter().collect()),
                };
                copy = copy.or_else(|| of_other.get(&chunk.input).cloned());
            }
            if let Some(vector) = copy {
                shared.copied.push(EmbeddedChunk { chunk, vector });
                continue;
            }
            let of_row = ChunkOfRow { table: all[0], source_id: key.source_id, input: chunk.input.clone() };
            let own = ChunkPlace { source: key, chunk_id: chunk.chunk_id };
            let place = *first.entry(of_row).or_insert(own);
            if place == own { asked.push(chunk) } else { shared.waiting.entry(place).or_default().push(chunk) }
        }
        Ok((asked, shared))
    }

    /// Returns all chunks that have a vector now: those that were embedded, and those that share a vector.
    pub fn join(mut self, embedded: Vec<EmbeddedChunk>) -> Vec<EmbeddedChunk> {
        let mut all = self.copied;
        for EmbeddedChunk { chunk, vector } in embedded {
            let same =
                self.waiting.remove(&ChunkPlace { source: chunk.key, chunk_id: chunk.chunk_id }).unwrap_or_default();
            all.extend(same.into_iter().map(|other| EmbeddedChunk { chunk: other, vector: vector.clone() }));
            all.push(EmbeddedChunk { chunk, vector });
        }
        all
    }
}
