//! Syncs sources in the caller's transaction: chunks texts, embeds new chunks and stores them. Many sources share requests,
//! and finished ones are stored while other requests are running.
//!
//! - `cutting_source`: a source whose content is cut into chunks
//! - `failures`: sources that stay pending, or fail
//! - `input`: what a sync is given beside its sources
//! - `pending_at_commit`: marks sources pending when the transaction commits
//! - `pending_source`: a source that is chunked and waits for vectors
//! - `prepare`: what is stored and wanted of a source
//! - `store`: writes rows of sources and chunks
//! - `words_ahead`: the words of its new chunks, read ahead

mod cutting_source;
mod failures;
mod input;
#[allow(unsafe_code)]
pub mod pending_at_commit;
mod pending_source;
mod prepare;
mod store;
mod words_ahead;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::embedding::batch::Usage;
use crate::embedding::provider::InputType;
use crate::error::{Error, Fault, Result};
use crate::ids::HostId;
use crate::pg::model::{self, Embedder, embedding_call};
use crate::pg::runtime::memory::Scratch;
use crate::pg::runtime::rollback_usage::UsageCounter;
use crate::pg::runtime::{enabled, log_line, settings, sql_error, wake};
use crate::pg::store::configurations::Configurations;
use crate::pg::store::job::{self, ChangedSource};
use crate::pg::store::log::{self, LogEntry};
use crate::pg::store::model::ActiveModel;
use crate::pg::sync::cutting_source::CuttingSource;
use crate::pg::sync::pending_source::PendingSource;
use crate::source::{Jsonb, RowInput, SourceInput, SourceKey, SyncOutcome};
use crate::text::chunk::Params;
use crate::text::content::{Content, Format};
use crate::threads::pool::Pool;

pub use crate::pg::sync::input::{OnFailure, Prefetched, RowHandling, chunking_numbers, texts_to_embed};
pub use crate::pg::sync::pending_source::sql_int;

/// Makes the stored chunks of one source those of `content`, embedding only texts that are new.
pub fn embed_source(key: SourceKey, content: &str, metadata: Jsonb) -> Result<SyncOutcome> {
    let content = Content::new(content.to_owned(), Format::Text, false);
    let input = SourceInput::by_hand(key, content, metadata);
    // The content of waiting jobs is older than this one. Jobs are locked before sources, in the same order as where they
    // are stored, so that two sessions cannot deadlock.
    job::delete_content(&key)?;
    let mut outcome = None;
    sync([Ok(input.into())], OnFailure::Raise, RowHandling::Together, None, |_, synced| {
        outcome = synced.ok().flatten()
    })?;
    outcome.ok_or_else(|| Error::Internal("a source was not embedded".to_owned()))
}

/// Makes the stored chunks of sources those of their content, and calls `done` with the outcome of each. The outcome is
/// `None` for a source that stays pending: searches do not find it, or embedding is off. No source may come twice. Returns
/// the error after which no more requests were sent, if there was one.
///
/// A source's row is locked first, so that two syncs of one source come one after the other. A new source has no row to
/// lock: its row is inserted right before its chunks, and the session that comes second starts over with that row.
pub fn sync(
    items: impl IntoIterator<Item = Result<RowInput>>,
    on_failure: OnFailure,
    handling: RowHandling,
    prefetched: Option<Prefetched>,
    mut done: impl FnMut(SourceKey, std::result::Result<Option<SyncOutcome>, &Error>),
) -> Result<Option<Error>> {
    let model = model::active_or_insert_built_in()?;
    let params = settings::chunk_params(None, None, None)?;
    // Vectors of another model are of no use.
    let prefetched = prefetched.map(|p| if p.model_id == model.id { p } else { Prefetched::default() });
    let elapsed = prefetched.as_ref().map_or(Duration::ZERO, |p| p.elapsed);
    // Vectors that were made before are stored, even if embedding was switched off meanwhile.
    let embeds = prefetched.is_some() || enabled::is_enabled();
    let embedder = match prefetched {
        Some(prefetched) => Embedder::prefetched(&model.model, prefetched.vectors, prefetched.in_parts),
        None => Embedder::new(&model.model, InputType::Document),
    };
    let mut run = SyncRun {
        pool: embedder.pool(),
        embedder,
        embeds,
        postponed: Vec::new(),
        elapsed,
        model: &model,
        params,
        words: if on_failure == OnFailure::Raise { Configurations::new()? } else { Configurations::or_fallback()? },
        on_failure,
        handling,
        cutting: VecDeque::new(),
        open: VecDeque::new(),
        again: Vec::new(),
        broken: None,
        failures: Vec::new(),
        failed: log_line::FailureSummary::default(),
        spent: UsageCounter::new(model.id),
        done: &mut done,
    };
    let outcome = run.sync_all(items.into_iter());
    run.spent.set_sqlstate(outcome.as_ref().err().map_or_else(|| "00000".to_owned(), sql_error::sqlstate).as_str());
    outcome?;
    queue_postponed(&run.postponed)?;
    log::insert(&run.failures)?;
    run.failed.write();
    if run.broken.is_none() {
        run.embedder.done();
    }
    Ok(run.broken)
}

/// The number of sources that are cut before they are wanted: enough for each thread.
const SOURCES_CUT_AHEAD: usize = 64;
/// The bytes of their content: no more than those of a large document.
const BYTES_CUT_AHEAD: usize = 256 * 1024;

/// Inserts jobs for sources that stay pending because embedding is off.
fn queue_postponed(postponed: &[(SourceKey, HostId)]) -> Result<()> {
    const IN_BULK: i32 = 0;
    let mut by_host: BTreeMap<HostId, Vec<ChangedSource>> = BTreeMap::new();
    for (key, host) in postponed {
        by_host.entry(*host).or_default().push((*key).into());
    }
    for (host, changed) in by_host {
        // Where embedding is off for this session only, a worker takes the jobs at once.
        wake::wake_at_commit();
        job::insert_changed(host, IN_BULK, &changed)?;
    }
    Ok(())
}

/// One sync of many sources.
struct SyncRun<'a> {
    model: &'a ActiveModel,
    params: Params,
    words: Configurations,
    on_failure: OnFailure,
    handling: RowHandling,
    embedder: Embedder,
    /// Whether sources with new texts are embedded; otherwise they stay pending, with a job.
    embeds: bool,
    /// Sources that stay pending because embedding is off, each with its host table.
    postponed: Vec<(SourceKey, HostId)>,
    /// The time that the vectors took which were made before.
    elapsed: Duration,
    /// Threads that cut and read texts, and the built-in models embed on.
    pool: Rc<Pool>,
    /// Sources whose content is cut, in the order of the items.
    cutting: VecDeque<CuttingSource>,
    /// Sources that wait for vectors, in the order of the numbers of their texts.
    open: VecDeque<PendingSource>,
    /// Sources that another transaction has inserted meanwhile, and that are prepared again.
    again: Vec<SourceInput>,
    /// The error after which no more requests are sent.
    broken: Option<Error>,
    /// Entries for sync_log of sources that failed.
    failures: Vec<LogEntry>,
    /// The same failures, for the server's log.
    failed: log_line::FailureSummary,
    spent: UsageCounter,
    done: &'a mut dyn FnMut(SourceKey, std::result::Result<Option<SyncOutcome>, &Error>),
}

impl SyncRun<'_> {
    /// Takes each source through all steps, until it is stored, postponed or failed.
    fn sync_all(&mut self, mut items: impl Iterator<Item = Result<RowInput>>) -> Result<()> {
        let mut scratch = Scratch::new();
        loop {
            let mut ready = Vec::new();
            let mut more = true;
            while self.broken.is_some() || self.embedder.wants_more() {
                while more && self.wants_to_cut() {
                    pgrx::check_for_interrupts!();
                    // Before each source, since any number of sources that need no vector come one after the other here.
                    scratch.reset();
                    match self.again.pop().map(|input| Ok(input.into())).or_else(|| items.next()).transpose()? {
                        Some(RowInput::Readable(input)) => {
                            let cutting = self.start(input)?;
                            self.cutting.extend(cutting);
                        }
                        Some(RowInput::Unreadable(unreadable)) => self.fail_unreadable(unreadable)?,
                        None => more = false,
                    }
                }
                let Some(cutting) = self.cutting.pop_front() else { break };
                scratch.reset();
                if let Some(open) = self.prepare(cutting)? {
                    if open.missing == 0 { ready.push(open) } else { self.open.push_back(open) }
                }
            }
            self.store(ready)?;
            scratch.reset();
            if !more && self.again.is_empty() && self.cutting.is_empty() {
                if self.open.is_empty() {
                    break;
                }
                self.flush();
            }
            let ready = self.wait()?;
            self.store(ready)?;
            if !more && self.again.is_empty() && self.cutting.is_empty() {
                self.store_begun()?;
            }
        }
        Ok(())
    }

    /// Whether another source is to be cut now: the next one, or those after it too where there are threads for them.
    fn wants_to_cut(&self) -> bool {
        if self.cutting.is_empty() {
            return true;
        }
        if !self.pool.has_threads() || self.cutting.len() >= SOURCES_CUT_AHEAD {
            return false;
        }
        let bytes: usize = self.cutting.iter().map(|cutting| cutting.input.content.bytes()).sum();
        // Texts of a source that has handed some over follow these without others in between.
        bytes < BYTES_CUT_AHEAD && !self.cutting.iter().any(CuttingSource::is_next)
    }

    /// Waits until requests have ended or more texts are wanted, and returns the sources that have all their vectors.
    fn wait(&mut self) -> Result<Vec<PendingSource>> {
        if self.broken.is_none() {
            match self.embedder.wait() {
                Ok(answered) => answered.into_iter().for_each(|answer| self.take(answer)),
                Err(error) => self.give_up(error),
            }
        }
        let mut ready = Vec::new();
        for _ in 0..self.open.len() {
            if let Some(open) = self.open.pop_front() {
                if open.missing == 0 { ready.push(open) } else { self.open.push_back(open) }
            }
        }
        Ok(ready)
    }

    fn flush(&mut self) {
        if self.broken.is_none()
            && let Err(error) = self.embedder.flush()
        {
            self.give_up(error);
        }
    }

    /// Ends the requests with an error, which is that of all sources that wait.
    fn give_up(&mut self, error: Error) {
        for open in &mut self.open {
            open.failed.get_or_insert_with(|| error.clone());
            open.missing = 0;
        }
        self.broken = Some(error);
    }

    fn take(&mut self, answer: embedding_call::BatchResult) {
        let embedding_call::BatchResult { range, texts, usage, in_parts } = answer;
        self.spent.usage(usage);
        let mut counted = Usage::default();
        for open in &mut self.open {
            let (from, to) = (open.first.max(range.start), (open.first + open.asked).min(range.end));
            if from < to {
                // Each source gets its share of the tokens; the request itself counts for the first one.
                let inputs = (to - from) as u64;
                let share = usage.tokens * (counted.inputs + inputs) / usage.inputs.max(1) - counted.tokens;
                let more = Usage { requests: usage.requests - counted.requests, inputs, tokens: share };
                counted += more;
                open.usage += more;
                open.embedding = self.elapsed + open.prepared.elapsed();
            }
        }
        let long = in_parts.and_then(|(number, parts)| {
            let open = self.open.iter_mut().find(|open| (open.first..open.first + open.asked).contains(&number))?;
            let chunk = open.new[number - open.first];
            open.in_parts.push(chunk);
            Some((format!("chunk {chunk} of {}", open.input.key), parts))
        });
        if let Some((chunk, parts)) = long {
            pgrx::warning!("{}", model::long_text_message(&chunk, &self.model.model.name, parts));
        }
        for (number, outcome) in texts {
            let at = self.open.partition_point(|open| open.first + open.asked <= number);
            let Some(open) = self.open.get_mut(at).filter(|open| number >= open.first) else { continue };
            open.missing = open.missing.saturating_sub(1);
            match outcome {
                Ok(vector) => open.vectors[number - open.first] = Some(vector),
                Err(fault) => {
                    let chunk = open.new[number - open.first];
                    let subject = Some(format!("chunk {chunk} of {}", open.input.key));
                    open.failed.get_or_insert(Fault { subject, ..fault }.into());
                }
            }
        }
    }

    fn tell(&mut self, key: SourceKey, outcome: std::result::Result<Option<SyncOutcome>, &Error>) {
        (self.done)(key, outcome);
    }
}
