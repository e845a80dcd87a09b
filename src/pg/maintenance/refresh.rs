//! Sources that were cut, or whose words were read, with other settings than those of the calling session: finding them, and
//! having them cut and read anew.

use std::collections::HashMap;

use crate::error::Result;
use crate::pg::runtime::settings;
use crate::pg::store::configurations::Configurations;
use crate::pg::store::reading::{self, StoredReading};
use crate::pg::store::source;
use crate::pg::{host, sync};
use crate::source::SourceKey;
use crate::text::chunk::Params;

/// Sources that are looked at together.
const PAGE: i64 = 1000;

/// What a source would become with the settings of the calling session.
pub struct CurrentSettings {
    params: Params,
    words: Configurations,
    /// How the content of each host table is read, as [`crate::text::content::reading`] says it.
    readings: HashMap<i32, i32>,
}

/// In what a source differs from what it would become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outdated {
    /// Its chunks would be others; says how they were made.
    Cut(String),
    /// Its chunks would have other words; says with which configurations they were read.
    Words(String),
}

impl CurrentSettings {
    /// Of the calling session.
    pub fn new() -> Result<Self> {
        Ok(Self {
            params: settings::chunk_params(None, None, None)?,
            words: Configurations::or_silent_fallback()?,
            readings: host::readings()?,
        })
    }

    /// Compares a source with what it would become. Of a source that no attached table has, only sizes are compared: how its
    /// content was read was its caller's choice.
    pub fn outdated(&self, stored: &StoredReading) -> Result<Option<Outdated>> {
        let Some(cut) = &stored.cut else { return Ok(None) };
        let last = cut.last().copied().unwrap_or_default();
        let reading = match stored.host {
            None => last,
            Some(host) => match self.readings.get(&host) {
                Some(reading) => *reading,
                None => return Ok(None),
            },
        };
        let would = sync::chunking(&self.params, reading);
        if *cut != would {
            return Ok(Some(Outdated::Cut(format!("it was cut {}, and would be {}", how_cut(cut), how_cut(&would)))));
        }
        if !self.words.are_current(&stored.words, &stored.languages, &stored.metadata)? {
            let configurations = stored.words.configurations.join(", ");
            return Ok(Some(Outdated::Words(format!("its words were read with {configurations} as it was then"))));
        }
        Ok(None)
    }
}

/// How a source is cut, in words.
fn how_cut(numbers: &[i32]) -> String {
    match numbers {
        [version, size, overlap, most, reading] => format!(
            "with chunk_size {size}, chunk_overlap {overlap}, max_chunks {most} (chunker {version}, reading {reading})"
        ),
        other => format!("as {other:?}"),
    }
}

/// What became of some sources.
#[derive(Debug, Default)]
pub struct Step {
    /// How many were looked at; 0 where none is left.
    pub looked_at: i64,
    /// The last one.
    pub last: Option<SourceKey>,
    /// Of host tables: they are pending now.
    pub marked: i64,
    /// Of no host table: their words were read anew.
    pub words_read: i64,
    /// Of no host table: they would be cut otherwise, and nobody here has their text.
    pub cut_by_hand: i64,
}

/// Looks at the sources after a key, some at a time. Those of host tables become pending where they are outdated; the words
/// of others are read anew.
pub fn step(chatbot_id: Option<i64>, after: Option<SourceKey>) -> Result<Step> {
    let settings = CurrentSettings::new()?;
    let page = reading::page(chatbot_id, after, PAGE)?;
    let mut step = Step {
        looked_at: i64::try_from(page.len()).unwrap_or(i64::MAX),
        last: page.last().map(|stored| stored.key),
        ..Step::default()
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
                    reading::read_words_anew(&stored, &settings.words)?;
                    step.words_read += 1;
                }
            }
        }
    }
    step.marked = i64::try_from(pending.len()).unwrap_or(i64::MAX);
    source::mark_pending(&pending)?;
    Ok(step)
}

/// Reads the words of one source anew, from its chunks.
pub fn read_words(key: &SourceKey) -> Result<()> {
    match reading::of(key)? {
        Some(stored) => reading::read_words_anew(&stored, &Configurations::or_silent_fallback()?),
        None => Ok(()),
    }
}

/// How many sources are outdated, as [`Step`] counts them; writes nothing.
pub fn count() -> Result<Step> {
    let mut all = Step::default();
    each_outdated(&CurrentSettings::new()?, |stored, outdated| match outdated {
        _ if stored.host.is_some() => all.marked += 1,
        Outdated::Cut(_) => all.cut_by_hand += 1,
        Outdated::Words(_) => all.words_read += 1,
    })?;
    Ok(all)
}

/// The sources of no host table whose words were read otherwise, each with how; writes nothing.
pub fn with_outdated_words(settings: &CurrentSettings) -> Result<Vec<(SourceKey, String)>> {
    let mut found = Vec::new();
    each_outdated(settings, |stored, outdated| {
        if let (None, Outdated::Words(detail)) = (stored.host, outdated) {
            found.push((stored.key, detail));
        }
    })?;
    Ok(found)
}

fn each_outdated(settings: &CurrentSettings, mut act: impl FnMut(&StoredReading, Outdated)) -> Result<()> {
    let mut after = None;
    loop {
        let page = reading::page(None, after, PAGE)?;
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
