//! A source that is chunked and waits for vectors: compares its chunks with the stored ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::embedding::batch::Usage;
use crate::error::{Error, Result};
use crate::ids::ModelId;
use crate::pg::store::chunk::{self, ChunkMove, ChunkToRead, NewChunk, Place, StoredChunk};
use crate::pg::store::configurations::Reading;
use crate::pg::store::source::SourceRow;
use crate::pg::sync::words_ahead::WordsAhead;
use crate::source::SourceInput;
use crate::sync::diff::ChunkDiff;
use crate::text::content::ChunkedContent;
use crate::text::title::with_title;

/// A source that is chunked and waits for vectors.
pub struct PendingSource {
    /// The input of the sync.
    pub input: SourceInput,
    /// The source's row, locked; `None`: there was none.
    pub row: Option<SourceRow>,
    /// The chunks that it is to have.
    pub cut: Arc<ChunkedContent>,
    /// The chunks that are stored.
    pub old: Vec<StoredChunk>,
    /// Which stored chunks are kept for which new ones, and which are dropped.
    pub diff: ChunkDiff,
    /// How its words are read.
    pub reading: Reading,
    /// The words of the new chunks, in their order; `None` once they are taken to be stored.
    pub words: Option<WordsAhead>,
    /// The positions of the new chunks: those that are embedded, and then those whose vectors were copied.
    pub new: Vec<usize>,
    /// How many of them are embedded.
    pub asked: usize,
    /// The number that the embedder gave to the text of the first of them.
    pub first: usize,
    /// Their vectors, as far as these have arrived.
    pub vectors: Vec<Option<Vec<f32>>>,
    /// How many of the new chunks are stored, from the first on.
    pub stored: usize,
    /// Whether the source's row is that of this sync.
    pub is_written: bool,
    /// Whether its chunks are inserted without a check of the foreign key, as `has_concurrent_delete()` said.
    pub is_unchecked: bool,
    /// The number of texts that are not finished yet.
    pub missing: usize,
    /// Chunks that are longer than the model takes.
    pub in_parts: Vec<usize>,
    /// Why it cannot be stored.
    pub failed: Option<Error>,
    /// When its sync began.
    pub began: Instant,
    /// When it was chunked and compared.
    pub prepared: Instant,
    /// The time until its last vector had arrived.
    pub embedding: Duration,
    /// What its requests have used.
    pub usage: Usage,
}

impl PendingSource {
    fn places(&self) -> impl Iterator<Item = Result<Place>> {
        let place = |(at, (start, end))| Ok(Place { index: sql_int(at)?, start: sql_int(start)?, end: sql_int(end)? });
        self.cut.places().enumerate().map(place)
    }

    /// The number of new chunks that have their vectors and are not stored, up to the first without one.
    pub fn storable(&self) -> usize {
        self.vectors[self.stored..].iter().take_while(|vector| vector.is_some()).count()
    }

    /// Returns the storable chunks with their vectors; `source` is the position of this source in the list that is
    /// stored together.
    pub fn new_chunks(&self, source: usize) -> Result<Vec<NewChunk<'_>>> {
        let places = self.places().collect::<Result<Vec<Place>>>()?;
        let texts = self.cut.texts();
        let free = self.old.iter().map(|c| c.chunk_id).max().map_or(0, |id| id + 1);
        let new = self.new.iter().zip(&self.vectors).zip(free..).skip(self.stored);
        let insert = |((&at, vector), chunk_id): ((&usize, &'_ Option<Vec<f32>>), i32)| {
            let (lang, content) = texts[at];
            let configuration = &self.reading.of_chunks[at];
            let title = self.cut.title_of(lang);
            let vector = vector.clone()?;
            Some(NewChunk { source, chunk_id, place: places[at], lang, configuration, title, content, vector })
        };
        Ok(new.map_while(insert).collect())
    }

    /// Updates the stored chunks: deletes those whose text is gone, moves the others to their places, and updates their
    /// words and metadata.
    pub fn update_stored_chunks(&self, model_id: ModelId) -> Result<()> {
        let Some(row) = &self.row else { return Ok(()) };
        let key = &self.input.key;
        let ChunkDiff { kept, dropped } = &self.diff;
        chunk::delete_chunks(key, model_id, dropped.iter().map(|&at| self.old[at].chunk_id).collect())?;
        let mut moves = Vec::new();
        for (kept, place) in kept.iter().zip(self.places()) {
            if let (Some(at), place) = (kept, place?)
                && self.old[*at].place != place
            {
                moves.push(ChunkMove { chunk_id: self.old[*at].chunk_id, to: place });
            }
        }
        chunk::move_chunks(key, model_id, &moves)?;
        if self.reading.differs(&row.words) {
            let texts = self.cut.texts();
            let kept = kept.iter().zip(&texts).zip(&self.reading.of_chunks);
            let read = kept.filter_map(|((kept, (lang, text)), configuration)| {
                Some(ChunkToRead {
                    chunk_id: self.old[(*kept)?].chunk_id,
                    configuration,
                    text: with_title(self.cut.title_of(*lang), text),
                })
            });
            chunk::write_words(key, model_id, &read.collect::<Vec<_>>())?;
        }
        if !row.same_attributes(&self.input) {
            chunk::update_chunk_attributes(&self.input)?;
        }
        Ok(())
    }
}

/// Converts a count to SQL's `int`; fails where it is too large.
pub fn sql_int(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::TooLarge {
        what: "content",
        got: n,
        limit: i32::MAX as usize,
        unit: "characters",
    })
}
