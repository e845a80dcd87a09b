//! Chunks that several chatbots have of one row: the vector of one is that of the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::error::Result;
use crate::pg::host;
use crate::pg::store::chunk;
use crate::pg::store::reembed::ChunkWithoutVector;
use crate::source::SourceKey;

/// A chunk of a row, whichever chatbot it is of: the first attachment of its table, the row, and what is embedded.
type ChunkOfRow = ((i64, &'static str), i64, String);

/// Chunks that are not embedded themselves.
#[derive(Default)]
pub struct SharedChunks {
    /// Another chatbot has the vector.
    copied: Vec<(ChunkWithoutVector, Vec<f32>)>,
    /// The same chunk of another chatbot is embedded now.
    waiting: HashMap<(SourceKey, i32), Vec<ChunkWithoutVector>>,
}

impl SharedChunks {
    /// Takes out of the missing chunks those that need not be embedded.
    pub fn split(missing: Vec<ChunkWithoutVector>, model_id: i32) -> Result<(Vec<ChunkWithoutVector>, Self)> {
        let siblings = host::all_siblings()?;
        let mut shared = Self::default();
        if siblings.is_empty() {
            return Ok((missing, shared));
        }
        let mut made: HashMap<SourceKey, HashMap<String, Vec<f32>>> = HashMap::new();
        let mut first: HashMap<ChunkOfRow, (SourceKey, i32)> = HashMap::new();
        let mut asked = Vec::new();
        for chunk in missing {
            let key = chunk.key;
            let Some(all) = siblings.get(&(key.chatbot_id, key.source_type)) else {
                asked.push(chunk);
                continue;
            };
            let mut copy = None;
            for sibling in all.iter().filter(|sibling| sibling.chatbot_id != key.chatbot_id) {
                let other = SourceKey { chatbot_id: sibling.chatbot_id, source_type: sibling.source_type, ..key };
                let of_other = match made.entry(other) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => {
                        unknown.insert(chunk::vectors(&other, model_id)?.unwrap_or_default().into_iter().collect())
                    }
                };
                copy = copy.or_else(|| of_other.get(&chunk.input).cloned());
            }
            if let Some(vector) = copy {
                shared.copied.push((chunk, vector));
                continue;
            }
            let of_row = ((all[0].chatbot_id, all[0].source_type), key.source_id, chunk.input.clone());
            let place = *first.entry(of_row).or_insert((key, chunk.chunk_id));
            if place == (key, chunk.chunk_id) {
                asked.push(chunk)
            } else {
                shared.waiting.entry(place).or_default().push(chunk)
            }
        }
        Ok((asked, shared))
    }

    /// All chunks that have a vector now.
    pub fn join(mut self, made: Vec<(ChunkWithoutVector, Vec<f32>)>) -> Vec<(ChunkWithoutVector, Vec<f32>)> {
        let mut all = self.copied;
        for (chunk, vector) in made {
            let same = self.waiting.remove(&(chunk.key, chunk.chunk_id)).unwrap_or_default();
            all.extend(same.into_iter().map(|other| (other, vector.clone())));
            all.push((chunk, vector));
        }
        all
    }
}
