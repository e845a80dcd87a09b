//! Sources that were chunked, or whose words were read, with other settings than the calling session has: finds them, and
//! has them chunked or read again.

use std::collections::HashMap;

use crate::error::Result;
use crate::ids::{ChatbotId, HostId};
use crate::pg::runtime::settings;
use crate::pg::store::configurations::Configurations;
use crate::pg::store::reading::{self, StoredReading};
use crate::pg::store::source;
use crate::pg::store::verify::SourceProblem;
use crate::pg::{host, sync};
use crate::source::SourceKey;
use crate::text::chunk::Params;

/// The number of sources that are compared together.
const PAGE: i64 = 1000;

/// The settings of the calling session, for a comparison with those that stored sources were made with.
pub struct CurrentSettings {
    params: Params,
    words: Configurations,
    /// The way in which the content of each host table is read, by host id, as [`crate::text::content::reading_version`] encodes it.
    readings: HashMap<HostId, i32>,
}

/// The difference between a stored source and what the current settings would make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outdated {
    /// It would be chunked differently; the text says how it was chunked and how it would be.
    Cut(String),
    /// Its words would be read differently; the text names the configurations that they were read with.
    Words(String),
}

impl CurrentSettings {
    /// Reads the settings of the calling session.
    pub fn new() -> Result<Self> {
        Ok(Self {
            params: settings::chunk_params(None, None, None)?,
            words: Configurations::or_silent_fallback()?,
            readings: host::readings()?,
        })
    }

    /// Compares a stored source with the settings; `None` where nothing differs, it was never embedded, or its host table is
    /// not attached any more. For a source without a host table, the way its content was read is not compared, since its
    /// caller chose it.
    pub fn outdated(&self, stored: &StoredReading) -> Result<Option<Outdated>> {
        let Some(chunking) = &stored.chunking else { return Ok(None) };
        let last = chunking.last().copied().unwrap_or_default();
        let reading = match stored.host {
            None => last,
            Some(host) => match self.readings.get(&host) {
                Some(reading) => *reading,
                None => return Ok(None),
            },
        };
        let would = sync::chunking_numbers(&self.params, reading);
        if *chunking != would {
            return Ok(Some(Outdated::Cut(format!(
                "it was cut {}, and would be {}",
                describe_chunking(chunking),
                describe_chunking(&would)
            ))));
        }
        if !self.words.are_current(&stored.words, &stored.languages, &stored.metadata)? {
            let configurations = stored.words.configurations.join(", ");
            return Ok(Some(Outdated::Words(format!("its words were read with {configurations} as it was then"))));
        }
        Ok(None)
    }
}

/// Describes the numbers of `chatbot_sync.source.chunking` in a message.
fn describe_chunking(numbers: &[i32]) -> String {
    match numbers {
        [version, size, overlap, most, reading] => format!(
            "with chunk_size {size}, chunk_overlap {overlap}, max_chunks {most} (chunker {version}, reading {reading})"
        ),
        other => format!("as {other:?}"),
    }
}

/// The outcome of a step, in numbers of sources.
#[derive(Debug, Default)]
pub struct RefreshStep {
    /// Sources that were compared; 0: none is left.
    pub looked_at: i64,
    /// The key of the last source that was compared: the next step begins after it.
    pub last: Option<SourceKey>,
    /// Outdated sources of host tables, which are pending now.
    pub marked: i64,
    /// Sources without a host table whose words were read again.
    pub words_read: i64,
    /// Sources without a host table that would be chunked differently. Only their callers can do that, since their whole
    /// text is stored nowhere.
    pub cut_by_hand: i64,
}

/// Compares up to 1,000 sources after a key. Outdated ones of host tables become pending; of others, the words
/// are read again.
pub fn step(chatbot_id: Option<ChatbotId>, after: Option<SourceKey>) -> Result<RefreshStep> {
    let settings = CurrentSettings::new()?;
    let page = reading::next_searchable_sources(chatbot_id, after, PAGE)?;
    let mut step = RefreshStep {
        looked_at: i64::try_from(page.len()).unwrap_or(i64::MAX),
        last: page.last().map(|stored| stored.key),
        ..RefreshStep::default()
    };
    let mut pending = Vec::new();
    for stored in page {
        pgrx::check_for_interrupts!();
        match settings.outdated(&stored)? {
            None => {}
            Some(_) if stored.host.is_some() => pending.push(stored.key),
            Some(outdated) => {
                step.cut_by_hand += i64::from(matches!(outdated, Outdated::Cut(_)));
                if !settings.words.are_current(&stored.words, &stored.languages, &stored.metadata)? {
                    reading::reread_words(&stored, &settings.words)?;
                    step.words_read += 1;
                }
            }
        }
    }
    step.marked = i64::try_from(pending.len()).unwrap_or(i64::MAX);
    source::mark_pending(&pending)?;
    Ok(step)
}

/// Reads the words of one source again, from its chunks. Does nothing where there is no such source.
pub fn read_words(key: &SourceKey) -> Result<()> {
    match reading::reading_of_source(key)? {
        Some(stored) => reading::reread_words(&stored, &Configurations::or_silent_fallback()?),
        None => Ok(()),
    }
}

/// Counts the outdated sources, in the fields of [`RefreshStep`]; writes nothing.
pub fn count() -> Result<RefreshStep> {
    let mut all = RefreshStep::default();
    each_outdated(&CurrentSettings::new()?, |stored, outdated| match outdated {
        _ if stored.host.is_some() => all.marked += 1,
        Outdated::Cut(_) => all.cut_by_hand += 1,
        Outdated::Words(_) => all.words_read += 1,
    })?;
    Ok(all)
}

/// Returns the sources without a host table whose words are outdated; writes nothing.
pub fn sources_with_outdated_words(settings: &CurrentSettings) -> Result<Vec<SourceProblem>> {
    let mut found = Vec::new();
    each_outdated(settings, |stored, outdated| {
        if let (None, Outdated::Words(detail)) = (stored.host, outdated) {
            found.push(SourceProblem { key: stored.key, detail });
        }
    })?;
    Ok(found)
}

fn each_outdated(settings: &CurrentSettings, mut act: impl FnMut(&StoredReading, Outdated)) -> Result<()> {
    let mut after = None;
    loop {
        let page = reading::next_searchable_sources(None, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key);
        for stored in page {
            pgrx::check_for_interrupts!();
            if let Some(outdated) = settings.outdated(&stored)? {
                act(&stored, outdated);
            }
        }
    }
}
