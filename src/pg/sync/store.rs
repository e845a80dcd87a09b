//! Stores sources: their rows, their chunks, and what the log says of them. Many are stored together, and the last one of a
//! statement while its last vectors are still missing.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::pg::model;
use crate::pg::runtime::log_line;
use crate::pg::runtime::scoped_settings::ScopedSettings;
use crate::pg::runtime::subtransaction::try_row;
use crate::pg::store::log::{self, LogEntry};
use crate::pg::store::source::{self, SourceUpdate};
use crate::pg::store::{chunk, source_error};
use crate::pg::sync::SyncRun;
use crate::pg::sync::input::{OnFailure, RowHandling, chunking_numbers};
use crate::pg::sync::pending_source::{PendingSource, sql_int};
use crate::source::{SourceInput, SyncOutcome};
use crate::text::title::with_title;

/// Chunks of a source that are stored before it has all its vectors: about what one statement takes.
const CHUNKS_BEFORE_THE_LAST: usize = 100;

impl SyncRun<'_> {
    /// Stores sources that have all their vectors. Those that another transaction has inserted meanwhile are prepared again.
    pub fn store(&mut self, ready: Vec<PendingSource>) -> Result<()> {
        let began = Instant::now();
        let (failed, ready): (Vec<PendingSource>, Vec<PendingSource>) =
            ready.into_iter().partition(|open| open.failed.is_some());
        for open in failed {
            if let Some(error) = open.failed {
                self.fail(open.input, error)?;
            }
        }
        if self.handling == RowHandling::Together {
            return self.store_together(ready, began);
        }
        for open in ready {
            let kept = open.input.clone();
            if let Err(raised) = try_row(|| self.store_together(vec![open], began))? {
                self.fail(kept, raised.into_store_error())?;
            }
        }
        Ok(())
    }

    /// Stores the first chunks of the only source that is left, while the provider makes the vectors of the others. Where a
    /// fault ends the statement, it takes them back.
    pub fn store_begun(&mut self) -> Result<()> {
        if self.on_failure != OnFailure::Raise || self.handling != RowHandling::Together || self.open.len() != 1 {
            return Ok(());
        }
        let is_worth_it = |open: &PendingSource| open.failed.is_none() && open.storable() >= CHUNKS_BEFORE_THE_LAST;
        if !self.open.front().is_some_and(is_worth_it) {
            return Ok(());
        }
        let begun = self.open.drain(..).collect();
        let mut written = self.write_sources(begun)?;
        self.insert_chunks(&mut written)?;
        self.open.extend(written);
        Ok(())
    }

    fn store_together(&mut self, ready: Vec<PendingSource>, began: Instant) -> Result<()> {
        if ready.is_empty() {
            return Ok(());
        }
        let mut ready = self.write_sources(ready)?;
        self.insert_chunks(&mut ready)?;
        for open in &ready {
            if open.stored < open.new.len() {
                return Err(Error::Internal("a chunk has no vector".to_owned()));
            }
            // What is kept has the vectors that it had.
            let note = match &open.row {
                Some(row) if open.new.is_empty() => row.note.clone(),
                _ if open.in_parts.is_empty() => None,
                _ => Some(model::chunks_in_parts(&open.in_parts, &self.model.model.name)),
            };
            if let Some(note) = note {
                source_error::write_note(&open.input.key, &note)?;
            }
        }
        self.log_stored(&ready, began)
    }

    /// Writes the rows of sources that have none from this sync yet, and takes the chunks that they no longer have out of
    /// those that are stored. Returns the sources without those that another transaction has inserted meanwhile.
    fn write_sources(&mut self, ready: Vec<PendingSource>) -> Result<Vec<PendingSource>> {
        let (mut written, ready): (Vec<PendingSource>, Vec<PendingSource>) =
            ready.into_iter().partition(|open| open.is_written);
        let updates = ready.iter().map(|open| {
            let (chunk_count, truncated) = (sql_int(open.cut.len())?, open.cut.truncated.is_some());
            let (configurations, lang) = (open.reading.names(), open.reading.lang.clone());
            let chunking = chunking_numbers(&self.params, open.input.content.reading());
            Ok(SourceUpdate { input: &open.input, chunking, chunk_count, truncated, configurations, lang })
        });
        let updates = updates.collect::<Result<Vec<SourceUpdate>>>()?;
        let new: Vec<&SourceUpdate> =
            updates.iter().zip(&ready).filter(|(_, open)| open.row.is_none()).map(|(update, _)| update).collect();
        let is_unchecked = source::has_concurrent_delete(&new)?;
        let unchecked = is_unchecked.then(ScopedSettings::without_foreign_key_checks);
        let made = source::insert_sources(self.model.id, &new)?;
        let changed = updates.iter().zip(&ready).filter(|(_, open)| open.row.is_some()).map(|(update, _)| update);
        source::update_sources(self.model.id, &changed.collect::<Vec<_>>())?;
        drop((updates, unchecked));
        for mut open in ready {
            if open.row.is_some() || made.contains(&open.input.key) {
                open.update_stored_chunks(self.model.id)?;
                (open.is_written, open.is_unchecked) = (true, is_unchecked);
                written.push(open);
            } else {
                self.again.push(SourceInput { is_new: false, ..open.input });
            }
        }
        Ok(written)
    }

    /// Inserts the new chunks that have their vectors and are not stored yet.
    fn insert_chunks(&mut self, ready: &mut [PendingSource]) -> Result<()> {
        let mut words: Vec<_> = ready.iter_mut().map(|open| open.words.take()).collect();
        let (mut chunks, mut counts) = (Vec::new(), Vec::new());
        for (at, open) in ready.iter().enumerate() {
            let new = open.new_chunks(at)?;
            counts.push(new.len());
            chunks.extend(new);
        }
        let is_unchecked = ready.iter().any(|open| open.is_unchecked);
        let unchecked = is_unchecked.then(ScopedSettings::without_foreign_key_checks);
        let sources: Vec<&SourceInput> = ready.iter().map(|open| &open.input).collect();
        let missing = || Error::Internal("a chunk has no words".to_owned());
        chunk::insert_chunks(self.model, &sources, chunks, |chunk| {
            let text = with_title(chunk.title, chunk.content);
            let words = words[chunk.source].as_mut().ok_or_else(missing)?.next()?;
            Ok(chunk.configuration.words_of_text(&text, words))
        })?;
        drop(unchecked);
        for ((open, words), stored) in ready.iter_mut().zip(words).zip(counts) {
            open.words = words;
            open.stored += stored;
        }
        Ok(())
    }

    fn log_stored(&mut self, ready: &[PendingSource], began: Instant) -> Result<()> {
        self.spent.syncs(ready.len());
        let mut entries = Vec::new();
        for open in ready {
            let (chunks, embedded) = (sql_int(open.cut.len())?, sql_int(open.asked)?);
            entries.push(LogEntry {
                key: open.input.key,
                model_id: self.model.id,
                error_code: None,
                chunks,
                embedded,
                usage: open.usage,
                chunking: open.prepared - open.began,
                embedding: open.embedding,
                storing: began.elapsed(),
                total: self.elapsed + open.began.elapsed(),
            });
            log_line::debug_line("stored", || {
                let (source, tokens, ms) =
                    (log_line::source_fields(&open.input.key), open.usage.tokens, open.began.elapsed().as_millis());
                format!("{source} chunks={chunks} embedded={embedded} tokens={tokens} ms={ms}")
            });
        }
        log::insert(&entries)?;
        for (open, LogEntry { chunks, embedded, .. }) in ready.iter().zip(entries) {
            let truncated = open.cut.truncated.is_some();
            self.tell(open.input.key, Ok(Some(SyncOutcome { chunks, reused: chunks - embedded, truncated })));
        }
        Ok(())
    }
}
