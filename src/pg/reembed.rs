//! Changing the model under its vectors, and what that or a sync would send.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::memory::Scratch;
use super::model::{self, Embedder};
use super::store::log::{self, Entry};
use super::store::model as models;
use super::store::reembed::{self as store, Missing};
use super::store::source::SourceKey;
use super::sync::RowInput;
use super::worker::rolled_back::Spent;
use super::{args, guc, host, sync};
use crate::embedding::batch::Usage;
use crate::embedding::local;
use crate::embedding::provider::{InputType, LOCAL};
use crate::error::{Error, Result};

/// What became of some sources.
pub struct Step {
    /// How many were looked at; 0 where none is left.
    pub taken: i64,
    /// The last of them.
    pub last: Option<SourceKey>,
    /// Sources in all, and those that are not whole yet.
    pub progress: (i64, i64),
}

/// Gives some sources the vectors of the model that is to follow. None where no model is to follow.
pub fn batch(limit: Option<i32>, after: Option<SourceKey>) -> Result<Option<Step>> {
    let limit = match args::given("batch", limit)? {
        n if n > 0 => n,
        n => return Err(Error::invalid("batch", n, "1 or more")),
    };
    let (Some(active), Some(next)) = (models::active_model()?, models::next_model()?) else { return Ok(None) };
    let keys = store::take(next.id, after, limit)?;
    let missing = store::missing(&keys, active.id, next.id)?;
    let began = Instant::now();
    let mut entries = entries(next.id, &missing);
    let mut spent = Spent::new(next.id);
    let (made, usage) = embed(&next.model, missing)?;
    spent.usage(usage);
    spent.syncs(entries.len());
    let embedding = began.elapsed();
    store::store(&keys, active.id, next.id, made)?;
    share(&mut entries, usage, embedding, began.elapsed());
    log::insert(&entries)?;
    spent.ended("00000");
    let taken = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    Ok(Some(Step { taken, last: keys.last().copied(), progress: progress(next.id, after, taken)? }))
}

/// Sources in all, and those that are not whole yet. They are counted at the beginning and at the end, and not for each batch,
/// which would read all sources once for every hundred.
fn progress(model_id: i32, after: Option<SourceKey>, taken: i64) -> Result<(i64, i64)> {
    thread_local!(static COUNTED: Cell<Option<(i32, i64, i64)>> = const { Cell::new(None) });
    let (sources, not_whole) = match COUNTED.get() {
        Some((counted, sources, not_whole)) if counted == model_id && after.is_some() && taken > 0 => {
            (sources, (not_whole - taken).max(0))
        }
        _ => store::progress(model_id)?,
    };
    COUNTED.set(Some((model_id, sources, not_whole)));
    Ok((sources, not_whole))
}

/// What is to be logged of sources that have chunks without a vector.
fn entries(model_id: i32, missing: &[Missing]) -> Vec<Entry> {
    let of_source = missing.chunk_by(|a, b| a.key == b.key);
    let entry = |chunks: &[Missing]| {
        let embedded = i32::try_from(chunks.len()).unwrap_or(i32::MAX);
        Entry { chunks: embedded, embedded, error_code: None, ..Entry::failed(chunks[0].key, model_id, String::new()) }
    };
    of_source.map(entry).collect()
}

/// Each source its share of what they took together; requests are the first one's.
fn share(entries: &mut [Entry], usage: Usage, embedding: Duration, total: Duration) {
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

fn embed(
    model: &crate::embedding::provider::Model,
    missing: Vec<Missing>,
) -> Result<(Vec<(Missing, Vec<f32>)>, Usage)> {
    let mut usage = Usage::default();
    let mut embedder = Embedder::new(model, InputType::Document);
    let mut vectors: HashMap<usize, Vec<f32>> = HashMap::new();
    let mut pushed = 0;
    while vectors.len() < missing.len() {
        while pushed < missing.len() && embedder.wants_more() {
            embedder.push(&missing[pushed].content)?;
            pushed += 1;
        }
        if pushed == missing.len() {
            embedder.flush()?;
        }
        let answered = embedder.wait()?;
        answered.iter().for_each(|answered| usage += answered.usage);
        for (number, outcome) in answered.into_iter().flat_map(|answered| answered.texts) {
            let vector = outcome.map_err(|fault| crate::error::Fault {
                subject: Some(format!("chunk {} of {}", missing[number].chunk_id, missing[number].key)),
                ..fault
            })?;
            vectors.insert(number, vector);
        }
    }
    embedder.done();
    let made = missing.into_iter().enumerate().filter_map(|(at, chunk)| Some((chunk, vectors.remove(&at)?)));
    Ok((made.collect(), usage))
}

/// Lets the model that is to follow answer, if it is whole: nobody writes meanwhile. Whether it does.
pub fn swap() -> Result<bool> {
    store::stop_writers()?;
    let Some(next) = models::next_model()? else { return Ok(false) };
    if store::progress(next.id)?.1 > 0 {
        return Ok(false);
    }
    models::activate(next.id)?;
    Ok(true)
}

/// What would be sent.
#[derive(Debug, Default)]
pub struct Estimate {
    /// Sources that were looked at.
    pub sources: i64,
    /// Chunks that they have or would have.
    pub chunks: i64,
    /// Chunks that would be embedded.
    pub to_embed: i64,
    /// Tokens of those, by the built-in model's own counting, or a quarter of their bytes.
    pub tokens: i64,
}

/// What a sync of a host table, or of all of them, would send; with a model that is to follow, what its vectors would
/// take.
pub fn estimate(relation: Option<super::catalog_types::Regclass>) -> Result<Estimate> {
    let params = guc::chunk_params(None, None, None)?;
    let mut estimate = Estimate::default();
    if let (None, Some(active), Some(next)) = (relation, models::active_model()?, models::next_model()?) {
        let mut after = None;
        loop {
            pgrx::check_for_interrupts!();
            let _scratch = Scratch::new();
            let keys = store::not_whole(next.id, after, 1000)?;
            let Some(last) = keys.last().copied() else { return Ok(estimate) };
            after = Some(last);
            estimate.sources += i64::try_from(keys.len()).unwrap_or(0);
            estimate.chunks += store::chunks_of(&keys, active.id)?;
            let missing = store::missing(&keys, active.id, next.id)?;
            estimate.add(&next.model.provider, missing.iter().map(|chunk| chunk.content.as_str()));
        }
    }
    let (id, model) = match models::active_model()? {
        Some(active) => (active.id, active.model),
        None => (0, model::for_reading()?),
    };
    let mut unreadable = 0;
    host::each_input(relation.map(|r| r.0), |input| {
        estimate.sources += 1;
        let RowInput::Readable(item) = input else {
            unreadable += 1;
            return Ok(());
        };
        if !item.enabled {
            return Ok(());
        }
        let _scratch = Scratch::new();
        let needed = sync::needed(&item, id, &params)?;
        estimate.chunks += i64::try_from(item.content.cut(&params)?.len()).unwrap_or(0);
        estimate.add(&model.provider, needed.iter().map(String::as_str));
        Ok(())
    })?;
    if unreadable > 0 {
        pgrx::warning!(
            "{unreadable} rows cannot be read, and count as sources without chunks: SELECT * FROM chatbot_verify();"
        );
    }
    Ok(estimate)
}

impl Estimate {
    fn add<'a>(&mut self, provider: &str, texts: impl Iterator<Item = &'a str>) {
        for text in texts {
            let tokens = if provider == LOCAL { local::tokens(text) } else { text.len().div_ceil(4) };
            self.to_embed += 1;
            self.tokens += i64::try_from(tokens).unwrap_or(0);
        }
    }
}
