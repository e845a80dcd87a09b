//! Re-embedding: gives all sources vectors of the next model, while the active one answers searches. Also estimates what
//! that, or a sync, would send.

mod shared;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::embedding::batch::Usage;
use crate::embedding::local::{self, WordCache};
use crate::embedding::provider::{InputType, LOCAL, Model};
use crate::error::{Error, Fault, Result};
use crate::host::RowStatus;
use crate::ids::{HostId, ModelId};
use crate::pg::host::{self, ExpectedStatus};
use crate::pg::maintenance::reembed::shared::SharedChunks;
use crate::pg::model::local_models::limit_batch;
use crate::pg::model::speedometer::Speedometer;
use crate::pg::model::{self, Embedder, speed};
use crate::pg::runtime::memory::Scratch;
use crate::pg::runtime::rollback_usage::UsageCounter;
use crate::pg::runtime::{arguments, catalog_types, enabled, encoding, settings};
use crate::pg::search::visible_chatbots::VisibleChatbots;
use crate::pg::store::LatestSnapshot;
use crate::pg::store::host_row::ReadMode;
use crate::pg::store::log::{self, LogEntry};
use crate::pg::store::reembed::{ChunkWithoutVector, EmbeddedChunk, ModelProgress};
use crate::pg::store::sync_error::SyncError;
use crate::pg::store::{model as models, model_figures, reembed as store, source, source_error};
use crate::pg::sync;
use crate::source::{RowInput, SourceKey};

/// The number of sources that a notice lists.
const SHOWN: usize = 20;

/// The outcome of a step of chatbot_reembed().
pub struct ReembedStep {
    /// The number of sources that were taken; 0: none is left.
    pub taken: i64,
    /// The key of the last source that was taken: the next step begins after it.
    pub last: Option<SourceKey>,
    /// The number of sources that have vectors of the next model.
    pub progress: ModelProgress,
}

/// Sources that a provider refused in this session's call of chatbot_reembed(), each with the reason.
#[derive(Default)]
struct RefusedSources {
    sources: BTreeMap<SourceKey, Fault>,
    /// Whether the next model may become active without their vectors.
    skipped: bool,
}

thread_local! {
    static REFUSED: RefCell<RefusedSources> = RefCell::default();
}

/// Begins a call of chatbot_reembed(): forgets the sources that were refused in an earlier one.
pub fn begin(skip_errors: Option<bool>) -> Result<()> {
    let skipped = arguments::required("skip_errors", skip_errors)?;
    REFUSED.set(RefusedSources { skipped, ..RefusedSources::default() });
    Ok(())
}

/// Embeds one batch of sources with the next model; `None` where there is no next model.
///
/// A source with a text that the provider refuses is marked with the reason and skipped in the rest of the call. Once only
/// such sources are left, that is an error, unless `skip_errors` was given.
pub fn batch(limit: Option<i32>, after: Option<SourceKey>) -> Result<Option<ReembedStep>> {
    let limit = match arguments::required("batch", limit)? {
        n if n > 0 => usize::try_from(n).unwrap_or(1),
        n => return Err(Error::invalid("batch", n, "1 or more")),
    };
    let (Some(active), Some(next)) = (models::active_model()?, models::next_model()?) else { return Ok(None) };
    encoding::require_utf8()?;
    enabled::require_enabled()?;
    let limit = limit_batch(&next.model, limit);
    let keys = store::take_incomplete_sources(next.id, after, i32::try_from(limit).unwrap_or(1), |key| {
        REFUSED.with_borrow(|r| r.sources.contains_key(key))
    })?;
    if keys.is_empty() {
        let progress = count_remaining(next.id, &next.model.name)?;
        return Ok(Some(ReembedStep { taken: 0, last: None, progress }));
    }
    let (mut missing, mut embedded) = (Vec::new(), Vec::new());
    for mut chunk in store::chunks_without_vector(&keys, &active, &next)? {
        match chunk.vector.take() {
            Some(vector) => embedded.push(EmbeddedChunk { chunk, vector }),
            None => missing.push(chunk),
        }
    }
    let (missing, shared) = SharedChunks::split(missing, next.id)?;
    let began = Instant::now();
    let meter = Speedometer::start();
    let mut entries = log_entries(next.id, &missing);
    let mut spent = UsageCounter::new(next.id);
    let EmbeddedChunks { embedded: made, refused, notes, usage } = embed(&next.model, missing)?;
    spent.usage(usage);
    spent.syncs(entries.len());
    let embedding = began.elapsed();
    let mut statuses: BTreeMap<SourceKey, RowStatus> =
        store::marked_refused(&keys, next.id)?.into_iter().map(|key| (key, RowStatus::synced())).collect();
    embedded.extend(shared.join(made));
    store::store_vectors(&keys, active.id, &next, embedded)?;
    divide_usage(&mut entries, usage, embedding, began.elapsed());
    for (key, fault) in &refused {
        let failed = SyncError::new(&fault.clone().into());
        store::mark_refused(key, next.id, &failed)?;
        statuses.insert(*key, RowStatus::failed(format!("{}{}", store::error_prefix(next.id), failed.message)));
        if let Some(entry) = entries.iter_mut().find(|entry| entry.key == *key) {
            entry.error_code = Some(failed.code);
        }
    }
    for (key, note) in notes {
        source_error::write_note(&key, &model::chunks_in_parts(&note, &next.model.name))?;
    }
    write_statuses(statuses)?;
    REFUSED.with_borrow_mut(|all| all.sources.extend(refused));
    log::insert(&entries)?;
    spent.set_sqlstate("00000");
    speed::record_in_step(|| Ok(Some(next.clone())), meter.sample())?;
    let taken = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    Ok(Some(ReembedStep { taken, last: keys.last().copied(), progress: progress(next.id, after, taken)? }))
}

/// The age at which a count of sources is made again: other sessions, which share the work, are not in what is carried on from it.
const COUNT_AGE: Duration = Duration::from_secs(20);

/// Sources that were counted, of which this session has taken some since.
#[derive(Clone, Copy)]
struct CountedSources {
    model_id: ModelId,
    at: Instant,
    progress: ModelProgress,
}

/// Returns how many sources have vectors of the model. They are counted by the first batch, at the end and now and then, and
/// carried on in between: a count reads all sources, which would be too much for each batch of a hundred.
fn progress(model_id: ModelId, after: Option<SourceKey>, taken: i64) -> Result<ModelProgress> {
    thread_local!(static COUNTED: Cell<Option<CountedSources>> = const { Cell::new(None) });
    let is_current = |c: &CountedSources| c.model_id == model_id && c.at.elapsed() < COUNT_AGE;
    let counted = match COUNTED.get().filter(is_current) {
        Some(before) if after.is_some() && taken > 0 => {
            let incomplete = (before.progress.incomplete - taken).max(0);
            CountedSources { progress: ModelProgress { incomplete, ..before.progress }, ..before }
        }
        _ => CountedSources { model_id, at: Instant::now(), progress: store::count_incomplete(model_id)? },
    };
    COUNTED.set(Some(counted));
    Ok(counted.progress)
}

/// Counts the sources, and those without whose vectors the next model cannot become active. Fails where the provider refused
/// all of the latter.
fn count_remaining(model_id: ModelId, model: &str) -> Result<ModelProgress> {
    let progress = store::count_incomplete(model_id)?;
    REFUSED.with_borrow_mut(|refused| {
        let count = i64::try_from(refused.sources.len()).unwrap_or(i64::MAX);
        let Some(first) = refused.sources.values().next().cloned().filter(|_| progress.incomplete <= count) else {
            return Ok(progress);
        };
        if progress.incomplete == 0 || refused.skipped {
            return Ok(ModelProgress { incomplete: 0, ..progress });
        }
        refused.sources.clear();
        let (sources, first) = (progress.incomplete, Box::new(first));
        Err(Error::NotReembedded { sources, model: model.to_owned(), first })
    })
}

/// Makes a log entry for each source that has chunks without a vector.
fn log_entries(model_id: ModelId, missing: &[ChunkWithoutVector]) -> Vec<LogEntry> {
    let of_source = missing.chunk_by(|a, b| a.key == b.key);
    let entry = |chunks: &[ChunkWithoutVector]| {
        let embedded = i32::try_from(chunks.len()).unwrap_or(i32::MAX);
        LogEntry {
            chunks: embedded,
            embedded,
            error_code: None,
            ..LogEntry::failed(chunks[0].key, model_id, String::new())
        }
    };
    of_source.map(entry).collect()
}

/// Divides the usage of a batch among its sources: tokens by their number of texts, and the requests to the first one. Each
/// source gets the times of the whole batch.
fn divide_usage(entries: &mut [LogEntry], usage: Usage, embedding: Duration, total: Duration) {
    let mut shared = Usage::default();
    for entry in entries {
        let inputs = u64::try_from(entry.embedded).unwrap_or(0).min(usage.inputs - shared.inputs);
        let tokens = usage.tokens * (shared.inputs + inputs) / usage.inputs.max(1) - shared.tokens;
        let more = Usage { requests: usage.requests - shared.requests, inputs, tokens };
        shared += more;
        entry.usage = more;
        (entry.embedding, entry.storing, entry.total) = (embedding, total - embedding, total);
    }
}

/// The outcome of embedding chunks.
struct EmbeddedChunks {
    embedded: Vec<EmbeddedChunk>,
    /// Sources with a chunk that got no vector, each with the fault of the first such chunk.
    refused: BTreeMap<SourceKey, Fault>,
    /// Chunks of sources that are longer than the model takes.
    notes: BTreeMap<SourceKey, Vec<usize>>,
    usage: Usage,
}

/// Writes the statuses of sources to their rows in host tables. A row that another session has locked keeps its status.
fn write_statuses(statuses: BTreeMap<SourceKey, RowStatus>) -> Result<()> {
    let mut by_host: BTreeMap<HostId, Vec<SourceKey>> = BTreeMap::new();
    for key in statuses.keys() {
        if let Some(host) = source::host_of(key)? {
            by_host.entry(host).or_default().push(*key);
        }
    }
    for (host, keys) in by_host {
        let rows = host::read_inputs(host, &keys, ReadMode::Latest)?.or_warn_if_locked(host, Vec::new())?;
        let expected = rows.iter().filter_map(|row| {
            let status = statuses.get(&row.key())?;
            Some(ExpectedStatus { input: row, status })
        });
        host::write_statuses(host, &expected.collect::<Vec<_>>())?;
    }
    Ok(())
}

fn embed(model: &Model, missing: Vec<ChunkWithoutVector>) -> Result<EmbeddedChunks> {
    let mut usage = Usage::default();
    let mut embedder = Embedder::new(model, InputType::Document);
    let mut vectors: HashMap<usize, Vec<f32>> = HashMap::new();
    let (mut refused, mut notes) = (BTreeMap::new(), BTreeMap::<SourceKey, Vec<usize>>::new());
    let (mut pushed, mut through) = (0, 0);
    while through < missing.len() {
        while pushed < missing.len() && embedder.wants_more() {
            embedder.push(&missing[pushed].input)?;
            pushed += 1;
        }
        if pushed == missing.len() {
            embedder.flush()?;
        }
        for answered in embedder.wait()? {
            usage += answered.usage;
            let chunk = |number: usize| format!("chunk {} of {}", missing[number].chunk_id, missing[number].key);
            if let Some((number, parts)) = answered.in_parts {
                pgrx::warning!("{}", model::long_text_message(&chunk(number), &model.name, parts));
                let place = usize::try_from(missing[number].chunk_id).unwrap_or_default();
                notes.entry(missing[number].key).or_default().push(place);
            }
            through += answered.texts.len();
            for (number, outcome) in answered.texts {
                match outcome {
                    Ok(vector) => drop(vectors.insert(number, vector)),
                    Err(fault) => {
                        let fault = Fault { subject: Some(chunk(number)), ..fault };
                        refused.entry(missing[number].key).or_insert(fault);
                    }
                }
            }
        }
    }
    embedder.done();
    let embedded = missing
        .into_iter()
        .enumerate()
        .filter_map(|(at, chunk)| Some(EmbeddedChunk { chunk, vector: vectors.remove(&at)? }));
    Ok(EmbeddedChunks { embedded: embedded.collect(), refused, notes, usage })
}

/// Makes the next model the active one, if all sources have its vectors, or only those lack them that are to be skipped;
/// returns whether it did. Sessions that write sources wait until the transaction ends.
pub fn swap() -> Result<bool> {
    store::stop_writers()?;
    // Another session may have written since how fast the next model is: at REPEATABLE READ that is no conflict.
    let _latest = LatestSnapshot::new();
    let Some(next) = models::next_model()? else { return Ok(false) };
    let incomplete = store::count_incomplete(next.id)?.incomplete;
    let refused = REFUSED.take();
    if incomplete > 0 {
        let count = i64::try_from(refused.sources.len()).unwrap_or(i64::MAX);
        if !refused.skipped || incomplete > count {
            REFUSED.set(refused);
            return Ok(false);
        }
        let shown: Vec<String> = refused.sources.keys().take(SHOWN).map(ToString::to_string).collect();
        let more = if refused.sources.len() > SHOWN { ", ..." } else { "" };
        pgrx::notice!(
            "model {} answers without vectors of {incomplete} sources, which are in error until chatbot_retry(): {}{more}",
            next.model.name,
            shown.join(", ")
        );
    }
    models::activate_model(next.id)?;
    Ok(true)
}

/// The amount that a sync would send to the provider.
#[derive(Debug, Default)]
pub struct Estimate {
    /// Sources that were read.
    pub sources: i64,
    /// Chunks that these sources have or would have.
    pub chunks: i64,
    /// Chunks that would be embedded.
    pub to_embed: i64,
    /// Tokens of those, as a built-in model counts its own, or a quarter of their bytes.
    pub tokens: i64,
    /// Bytes of their texts.
    bytes: usize,
    /// Seconds that one session takes for them, by what was measured on this server; `None` where that is not known.
    pub seconds: Option<f64>,
}

/// Estimates what a sync of a host table would send, or of all of them where `relation` is `None`. While there is a next
/// model, `None` estimates chatbot_reembed() instead.
pub fn estimate(relation: Option<catalog_types::Regclass>) -> Result<Estimate> {
    encoding::require_utf8()?;
    let params = settings::chunk_params(None, None, None)?;
    let mut estimate = Estimate::default();
    let visible = VisibleChatbots::of_caller()?;
    if let (None, Some(active), Some(next)) = (relation, models::active_model()?, models::next_model()?) {
        let mut after = None;
        loop {
            pgrx::check_for_interrupts!();
            let _scratch = Scratch::new();
            let mut keys = store::sources_without_vectors(next.id, after, 1000)?;
            let Some(last) = keys.last().copied() else { return estimate.with_seconds(next.id) };
            after = Some(last);
            keys.retain(|key| visible.contains(key.chatbot_id));
            estimate.sources += i64::try_from(keys.len()).unwrap_or(0);
            estimate.chunks += store::count_chunks_of_sources(&keys, active.id)?;
            let missing = store::chunks_without_vector(&keys, &active, &next)?;
            let missing = missing.iter().filter(|chunk| chunk.vector.is_none());
            estimate.add(&next.model, missing.map(|chunk| chunk.input.as_str()));
        }
    }
    let (id, model) = match models::active_model()? {
        Some(active) => (active.id, active.model),
        None => (ModelId(0), model::active_or_built_in()?),
    };
    let mut unreadable = 0;
    host::for_each_input(relation.map(|r| r.0), |input| {
        if !visible.contains(input.key().chatbot_id) {
            return Ok(());
        }
        estimate.sources += 1;
        let RowInput::Readable(input) = input else {
            unreadable += 1;
            return Ok(());
        };
        if !input.enabled {
            return Ok(());
        }
        let _scratch = Scratch::new();
        let counted = sync::texts_to_embed(&input, id, &params)
            .and_then(|needed| Ok::<_, Error>((needed, input.content.chunk(&params)?.len())));
        let (needed, chunks) = match counted {
            Ok(counted) => counted,
            Err(error) if error.is_about_one_source() => {
                unreadable += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        estimate.chunks += i64::try_from(chunks).unwrap_or(0);
        estimate.add(&model, needed.iter().map(String::as_str));
        Ok(())
    })?;
    if unreadable > 0 {
        pgrx::warning!(
            "{unreadable} rows cannot be read, and count as sources without chunks: SELECT * FROM chatbot_verify();"
        );
    }
    estimate.with_seconds(id)
}

impl Estimate {
    fn with_seconds(self, model_id: ModelId) -> Result<Self> {
        let seconds = match model_figures::bytes_per_second(model_id)? {
            _ if self.to_embed == 0 => Some(0.0),
            Some(rate) if rate > 0.0 => Some(self.bytes as f64 / rate),
            _ => None,
        };
        Ok(Self { seconds, ..self })
    }

    fn add<'a>(&mut self, model: &Model, texts: impl Iterator<Item = &'a str>) {
        let built_in = if model.provider == LOCAL { local::find(&model.name) } else { None };
        let mut words = WordCache::default();
        for text in texts {
            let tokens = built_in.map_or(text.len().div_ceil(4), |built_in| built_in.count_tokens(text, &mut words));
            self.to_embed += 1;
            self.bytes += text.len();
            self.tokens += i64::try_from(tokens).unwrap_or(0);
        }
    }
}
