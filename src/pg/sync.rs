//! A source in the caller's transaction: text in, vectors stored.

use std::time::Instant;

use sha2::{Digest, Sha256};

use super::jsonb::Jsonb;
use super::store::model::ActiveModel;
use super::store::source::{self, NewChunk, Place, SourceKey, SourceRow, SourceState, SyncLog};
use super::{guc, model};
use crate::batch::Usage;
use crate::chunk::{Chunks, Params, chunk};
use crate::diff::{Diff, diff};
use crate::error::{Error, Result};
use crate::provider::InputType;

/// Changes when the chunker cuts differently, so that sources are cut anew when they are next embedded.
const CHUNKER_VERSION: i32 = 1;

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

/// Makes the stored chunks those of `content`, embedding only texts that are new.
///
/// The source's row is locked first, so that two syncs of one source come one after the other. Only a source that is new
/// cannot be locked: then the row is made last before its chunks, and whoever comes second starts over with it.
pub fn embed_source(key: &SourceKey, content: &str, metadata: &Jsonb) -> Result<Synced> {
    let params = guc::chunk_params(None, None, None)?;
    let model = model::for_writing()?;
    let target = Target { key, content, metadata, params, model, hash: Sha256::digest(content).to_vec() };
    loop {
        if let Some(synced) = target.attempt()? {
            return Ok(synced);
        }
    }
}

/// What a source is to become.
struct Target<'a> {
    key: &'a SourceKey<'a>,
    content: &'a str,
    metadata: &'a Jsonb,
    params: Params,
    model: ActiveModel,
    hash: Vec<u8>,
}

impl Target<'_> {
    /// None where another transaction made the source meanwhile.
    fn attempt(&self) -> Result<Option<Synced>> {
        let began = Instant::now();
        // Looked at without a lock first: most syncs of an application change nothing, and then nothing is written.
        let seen = source::read(self.key, self.metadata, false)?;
        if let Some(same) = seen.as_ref().filter(|row| row.same_metadata).and_then(|row| self.unchanged(row)) {
            return Ok(Some(same));
        }
        let row = if seen.is_some() { source::read(self.key, self.metadata, true)? } else { None };
        if let Some(same) = row.as_ref().and_then(|row| self.unchanged(row)) {
            source::update_metadata(self.key, self.metadata)?;
            return Ok(Some(same));
        }

        let Chunks { chunks, truncated } = chunk(self.content, &self.params);
        if truncated {
            self.warn_truncated(chunks.last().map_or(0, |c| c.end_char));
        }
        let texts: Vec<&str> = chunks.iter().map(|c| &self.content[c.start..c.end]).collect();
        let old = if row.is_some() { source::chunks(self.key, self.model.id)? } else { Vec::new() };
        let Diff { kept, dropped } = diff(&old, &texts);
        let new: Vec<usize> = (0..texts.len()).filter(|&at| kept[at].is_none()).collect();
        let embedding = Instant::now();
        let (vectors, usage) = self.embed(&texts, &new)?;
        let embedding = embedding.elapsed();

        let state = SourceState {
            content_hash: self.hash.clone(),
            chunking: self.chunking(),
            model_id: self.model.id,
            chunk_count: int(texts.len())?,
            truncated,
            metadata: self.metadata.clone(),
        };
        match &row {
            None if !source::insert(self.key, &state)? => return Ok(None),
            None => {}
            Some(row) => {
                source::update(self.key, &state)?;
                if row.model_id.is_some_and(|id| id != self.model.id) {
                    source::delete_other_models(self.key, self.model.id)?;
                }
            }
        }
        let places = chunks
            .iter()
            .enumerate()
            .map(|(at, c)| Ok(Place { index: int(at)?, start: int(c.start_char)?, end: int(c.end_char)? }))
            .collect::<Result<Vec<Place>>>()?;
        source::delete_chunks(self.key, self.model.id, dropped.iter().map(|&at| old[at].chunk_id).collect())?;
        let moves: Vec<(i32, Place)> = kept
            .iter()
            .zip(&places)
            .filter_map(|(kept, &place)| kept.map(|at| (&old[at], place)))
            .filter(|(old, place)| old.place != *place)
            .map(|(old, place)| (old.chunk_id, place))
            .collect();
        source::move_chunks(self.key, self.model.id, &moves)?;
        if row.is_some_and(|row| !row.same_metadata) {
            source::update_metadata(self.key, self.metadata)?;
        }
        let free = old.iter().map(|c| c.chunk_id).max().map_or(0, |id| id + 1);
        let inserts = new
            .iter()
            .zip(vectors)
            .zip(free..)
            .map(|((&at, vector), chunk_id)| NewChunk { chunk_id, place: places[at], content: texts[at], vector })
            .collect();
        source::insert_chunks(self.key, self.model.id, self.metadata, inserts)?;
        let (chunks, embedded) = (state.chunk_count, int(new.len())?);
        // The built-in model costs nothing that somebody would want to add up.
        if usage.requests > 0 {
            let total = began.elapsed();
            let log = SyncLog { model_id: self.model.id, chunks, embedded, usage, embedding, total };
            source::insert_log(self.key, &log)?;
        }
        Ok(Some(Synced { chunks, reused: chunks - embedded, truncated }))
    }

    /// The vectors of some of the chunks. A fault that is one chunk's names it.
    fn embed(&self, texts: &[&str], which: &[usize]) -> Result<(Vec<Vec<f32>>, Usage)> {
        let inputs: Vec<&str> = which.iter().map(|&at| texts[at]).collect();
        model::embed(&self.model.model, InputType::Document, &inputs).map_err(|error| match error {
            Error::Provider(mut fault) => {
                let SourceKey { chatbot_id, source_type, source_id } = self.key;
                let chunk = fault.input.and_then(|input| which.get(input));
                fault.subject =
                    chunk.map(|at| format!("chunk {at} of {source_type} {source_id} of chatbot {chatbot_id}"));
                Error::Provider(fault)
            }
            other => other,
        })
    }

    /// The answer where the stored vectors are what they would become.
    fn unchanged(&self, row: &SourceRow) -> Option<Synced> {
        let same = row.synced
            && row.content_hash.as_ref() == Some(&self.hash)
            && row.model_id == Some(self.model.id)
            && row.chunking.as_ref() == Some(&self.chunking());
        same.then_some(Synced { chunks: row.chunk_count, reused: row.chunk_count, truncated: row.truncated })
    }

    fn chunking(&self) -> Vec<i32> {
        let Params { size, overlap, max_chunks } = self.params;
        let int = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        vec![CHUNKER_VERSION, int(size), int(overlap), int(max_chunks)]
    }

    fn warn_truncated(&self, end: usize) {
        let SourceKey { chatbot_id, source_type, source_id } = self.key;
        pgrx::warning!(
            "{source_type} {source_id} of chatbot {chatbot_id} is longer than {} chunks: what comes after character {end} \
             is not embedded (chatbot_sync.max_chunks)",
            self.params.max_chunks
        );
    }
}

/// A count as SQL has it.
pub fn int(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::TooLarge {
        what: "content",
        got: n,
        limit: i32::MAX as usize,
        unit: "characters",
    })
}
