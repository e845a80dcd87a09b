//! A source whose chunks are known: what of it is stored, and what is to be.

use std::time::{Duration, Instant};

use crate::embedding::batch::Usage;
use crate::error::{Error, Result};
use crate::pg::store::chunk::{self, NewChunk, Place, StoredChunk};
use crate::pg::store::configurations::Reading;
use crate::pg::store::source::SourceRow;
use crate::source::SourceInput;
use crate::sync::diff::Diff;
use crate::text::content::Cut;

/// A source whose chunks are known.
pub struct PendingSource {
    pub item: SourceInput,
    pub row: Option<SourceRow>,
    pub cut: Cut,
    pub old: Vec<StoredChunk>,
    pub diff: Diff,
    /// How its words are read.
    pub reading: Reading,
    /// Which chunks are to be embedded.
    pub new: Vec<usize>,
    /// The number of the first of their texts.
    pub first: usize,
    pub vectors: Vec<Option<Vec<f32>>>,
    pub missing: usize,
    pub failed: Option<Error>,
    pub began: Instant,
    pub prepared: Instant,
    pub embedding: Duration,
    pub usage: Usage,
}

impl PendingSource {
    fn places(&self) -> impl Iterator<Item = Result<Place>> {
        let place = |(at, (start, end))| Ok(Place { index: int(at)?, start: int(start)?, end: int(end)? });
        self.cut.places().enumerate().map(place)
    }

    /// The chunks that are new, of the source with this number.
    pub fn inserts(&self, source: usize) -> Result<Vec<NewChunk<'_>>> {
        let places = self.places().collect::<Result<Vec<Place>>>()?;
        let texts = self.cut.texts();
        let free = self.old.iter().map(|c| c.chunk_id).max().map_or(0, |id| id + 1);
        let new = self.new.iter().zip(&self.vectors).zip(free..);
        let insert = |((&at, vector), chunk_id): ((&usize, &'_ Option<Vec<f32>>), i32)| {
            let vector = vector.clone().ok_or_else(|| Error::Internal("a chunk has no vector".to_owned()))?;
            let (lang, content) = texts[at];
            let configuration = &self.reading.of_chunks[at];
            Ok(NewChunk { source, chunk_id, place: places[at], lang, configuration, content, vector })
        };
        new.map(insert).collect()
    }

    /// The chunks that a source has already: those that no text has go, others move to where their texts are.
    pub fn settle(&self, model_id: i32) -> Result<()> {
        let Some(row) = &self.row else { return Ok(()) };
        let key = &self.item.key;
        let Diff { kept, dropped } = &self.diff;
        chunk::delete_chunks(key, model_id, dropped.iter().map(|&at| self.old[at].chunk_id).collect())?;
        let mut moves = Vec::new();
        for (kept, place) in kept.iter().zip(self.places()) {
            if let (Some(at), place) = (kept, place?)
                && self.old[*at].place != place
            {
                moves.push((self.old[*at].chunk_id, place));
            }
        }
        chunk::move_chunks(key, model_id, &moves)?;
        if self.reading.differs(&row.words) {
            let texts = self.cut.texts();
            let kept = kept.iter().zip(&texts).zip(&self.reading.of_chunks);
            let read = kept.filter_map(|((kept, (_, text)), how)| Some((self.old[(*kept)?].chunk_id, how, *text)));
            chunk::read_words(key, model_id, &read.collect::<Vec<_>>())?;
        }
        if !row.same_attributes(&self.item) {
            chunk::update_chunk_attributes(&self.item)?;
        }
        Ok(())
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
