//! Preparing a source: what is stored of it, what is wanted, and which texts need vectors. Its content is cut on a thread,
//! where there is one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::embedding::batch::Usage;
use crate::error::Result;
use crate::pg::runtime::subtransaction::try_row;
use crate::pg::runtime::{arguments, encoding, log_line, threads};
use crate::pg::store::chunk;
use crate::pg::store::source::{self, RowLock, SourceRow};
use crate::pg::sync::SyncRun;
use crate::pg::sync::cutting_source::{CuttingSource, Pushed};
use crate::pg::sync::input::{NewChunks, RowHandling, changes, is_unchanged, new_chunks};
use crate::pg::sync::pending_source::PendingSource;
use crate::pg::sync::words_ahead::WordsAhead;
use crate::source::{Jsonb, SourceInput, SourceStatus};
use crate::sync::reading::{CutContent, cut};
use crate::text::chunk::Params;

impl SyncRun<'_> {
    /// Compares a source with its row, and starts to cut its content; `None` where the source is finished.
    pub fn start(&mut self, input: SourceInput) -> Result<Option<CuttingSource>> {
        if self.handling == RowHandling::Together {
            return self.start_together(input);
        }
        let kept = input.clone();
        match try_row(|| self.start_together(input))? {
            Ok(cutting) => Ok(cutting),
            Err(raised) => self.fail(kept, raised.into_store_error()).map(|()| None),
        }
    }

    fn start_together(&mut self, input: SourceInput) -> Result<Option<CuttingSource>> {
        let began = Instant::now();
        let key = input.key;
        if let Err(error) = encoding::require_utf8().and_then(|()| arguments::check_metadata_size(&input.metadata)) {
            return self.fail(SourceInput { metadata: Jsonb::empty(), ..input }, error).map(|()| None);
        }
        // Read without a lock first: most syncs of an application change nothing, and then nothing is locked or written.
        let seen =
            if input.is_new && input.enabled { None } else { source::read_row(&key, &input.metadata, RowLock::None)? };
        if let Some(row) = seen.as_ref().filter(|row| row.synced && row.same_attributes(&input))
            && self.has_current_chunks(row, &input)?
        {
            self.tell(key, Ok(Some(row.unchanged_outcome())));
            return Ok(None);
        }
        let row = if seen.is_some() { source::read_row(&key, &input.metadata, RowLock::ForSync)? } else { None };
        if input.host.is_none() && row.as_ref().is_some_and(|row| row.host.is_some()) {
            pgrx::warning!(
                "{key} is a row of an attached table: what is embedded by hand holds until the row is synced again"
            );
        }
        if let Some(row) = &row
            && self.has_current_chunks(row, &input)?
        {
            source::update_attributes(&input, SourceStatus::Synced, row)?;
            self.tell(key, Ok(Some(row.unchanged_outcome())));
            return Ok(None);
        }
        if !input.enabled {
            match &row {
                Some(row) => source::update_attributes(&input, SourceStatus::Pending, row)?,
                None => source::insert_pending(&input)?,
            }
            self.tell(key, Ok(None));
            return Ok(None);
        }
        log_line::debug_line("started", || format!("{} model_id={}", log_line::source_fields(&key), self.model.id));
        let (content, params, detects) = (input.content.clone(), self.params, self.words.detects(&input.metadata));
        let cut = self.pool.start(content.bytes(), move || cut(&content, &params, detects));
        let pushed = if row.is_none() { self.push_first_texts(&input)? } else { Pushed::default() };
        Ok(Some(CuttingSource { input, row, began, cut, pushed }))
    }

    /// Hands the texts of a long new source's first request to the embedder, so that the request is on its way while the rest
    /// is cut. Cuts depend on the text nearby only.
    fn push_first_texts(&mut self, input: &SourceInput) -> Result<Pushed> {
        /// How many times as long as these texts a text is that is worth cutting its beginning twice.
        const TIMES: usize = 4;
        let mut pushed = Pushed::default();
        let Some(texts) = self.embedder.texts_a_request() else { return Ok(pushed) };
        let is_long = self.params.max_chunks / TIMES > texts
            && input.content.bytes() / TIMES > self.params.size.saturating_mul(texts);
        let is_plain = input.content.reading() == 0 && input.siblings.is_empty();
        if !is_long || !is_plain || !self.embeds || self.broken.is_some() || !self.cutting.is_empty() {
            return Ok(pushed);
        }
        let first = input.content.chunk(&Params { max_chunks: texts, ..self.params })?;
        for text in first.inputs() {
            let number = match self.embedder.push(&text) {
                Ok(number) => number,
                // What the source meets again when it is prepared.
                Err(_) => return Ok(Pushed::default()),
            };
            if pushed.texts.is_empty() {
                pushed.first = number;
            }
            pushed.texts.push(text.into_owned());
        }
        Ok(pushed)
    }

    /// Compares the chunks of a source with the stored ones, and hands its new texts to the embedder; `None` where the source
    /// is finished.
    pub fn prepare(&mut self, cutting: CuttingSource) -> Result<Option<PendingSource>> {
        if self.handling == RowHandling::Together {
            return self.prepare_together(cutting);
        }
        let kept = cutting.input.clone();
        match try_row(|| self.prepare_together(cutting))? {
            Ok(open) => Ok(open),
            Err(raised) => self.fail(kept, raised.into_store_error()).map(|()| None),
        }
    }

    fn prepare_together(&mut self, cutting: CuttingSource) -> Result<Option<PendingSource>> {
        let CuttingSource { input, row, began, cut, pushed } = cutting;
        let key = input.key;
        let (cut, languages) = match threads::finish(&self.pool, cut)? {
            Ok(CutContent { chunked, languages }) => (Arc::new(chunked), languages),
            Err(error) => return self.fail(input, error).map(|()| None),
        };
        let old = if row.is_some() { chunk::chunks(&key, self.model.id)? } else { Vec::new() };
        let inputs = cut.inputs();
        let diff = changes(row.as_ref(), &input, &old, &cut);
        let NewChunks { chunks: new, asked, copied } = new_chunks(&input, self.model.id, &diff, &inputs)?;
        if asked > 0 && !self.embeds {
            return self.postpone(&input, row.as_ref()).map(|()| None);
        }
        if asked > 0
            && let Some(error) = self.broken.clone()
        {
            return self.fail(input, error).map(|()| None);
        }
        // Should they differ, nobody waits for the vectors of what was handed over.
        let has_first = pushed.texts.len() <= asked
            && new.iter().zip(&pushed.texts).all(|(&chunk, text)| inputs[chunk].as_ref() == text);
        let Pushed { mut first, texts } = if has_first { pushed } else { Pushed::default() };
        for (at, &chunk) in new[..asked].iter().enumerate().skip(texts.len()) {
            match self.embedder.push(&inputs[chunk]) {
                Ok(number) if at == 0 => first = number,
                Ok(_) => {}
                Err(error) => {
                    self.give_up(error.clone());
                    return self.fail(input, error).map(|()| None);
                }
            }
        }
        if let Some((lang, end)) = &cut.truncated {
            let of = lang.as_ref().map_or(String::new(), |lang| format!(" of {lang}"));
            pgrx::warning!(
                "{key} is longer than {} chunks: what comes after character {end}{of} is not embedded (chatbot_sync.max_chunks)",
                self.params.max_chunks
            );
        }
        let reading = self.words.read(&input.metadata, &cut.texts(), languages)?;
        let read = new.iter().map(|&at| (at, reading.of_chunks[at].reader())).collect();
        let words = Some(WordsAhead::start(self.pool.clone(), cut.clone(), read));
        let vectors = std::iter::repeat_n(None, asked).chain(copied.into_iter().map(Some)).collect();
        let (prepared, embedding) = (Instant::now(), Duration::ZERO);
        log_line::debug_line("chunked", || {
            let (chunks, to_embed, ms) = (cut.len(), asked, (prepared - began).as_millis());
            format!("{} chunks={chunks} to_embed={to_embed} ms={ms}", log_line::source_fields(&key))
        });
        let usage = Usage::default();
        let (in_parts, failed) = (Vec::new(), None);
        drop(inputs);
        Ok(Some(PendingSource {
            input,
            row,
            cut,
            old,
            diff,
            reading,
            words,
            new,
            asked,
            first,
            vectors,
            stored: 0,
            is_written: false,
            is_unchecked: false,
            missing: asked,
            in_parts,
            failed,
            began,
            prepared,
            embedding,
            usage,
        }))
    }

    /// Whether the source has the chunks, vectors and words that a sync would give it.
    pub fn has_current_chunks(&self, row: &SourceRow, input: &SourceInput) -> Result<bool> {
        if !is_unchanged(row, input, self.model.id, &self.params) {
            return Ok(false);
        }
        let languages =
            if input.content.is_translated() { chunk::languages(&input.key, self.model.id)? } else { vec![None] };
        self.words.are_current(&row.words, &languages, &input.metadata)
    }
}
