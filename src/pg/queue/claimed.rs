//! Sources that were claimed, on their way from their texts to their vectors.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::embedding::batch::Usage;
use crate::embedding::retry::backoff;
use crate::error::{Error, Fault, FaultKind, Nature, Result};
use crate::pg::host::{self, State};
use crate::pg::requests::Requests;
use crate::pg::store::log::{self, Entry};
use crate::pg::store::model::ActiveModel;
use crate::pg::store::source::{self, Failed, SourceKey};
use crate::pg::store::{job, leaving};
use crate::pg::sync::{self, Failing, Item, Prefetched};
use crate::pg::{event, guc, http};

/// Where a provider asks to wait and does not say how long.
const UNSAID_WAIT: Duration = Duration::from_secs(5);
/// When a row that somebody else had locked is told again what became of it.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Sources that were claimed, on their way.
pub struct Claim {
    pub lease: i64,
    pub model: ActiveModel,
    pub tasks: Vec<Task>,
    pub requests: Option<Requests>,
    pub vectors: HashMap<String, (Vec<f32>, Usage)>,
    pub elapsed: Duration,
}

/// A source that was claimed.
pub struct Task {
    pub key: SourceKey,
    pub jobs: Vec<(i64, i64)>,
    pub host: Option<i32>,
    pub attempts: i32,
    /// None where it is no more.
    pub item: Option<Item>,
    pub texts: Vec<String>,
    pub failed: Option<Error>,
    /// What its row is to be told.
    pub outcome: Option<State>,
    /// Nothing is left to be done but telling its row: its jobs end with that.
    pub stored: bool,
}

impl Claim {
    /// How many sources there are.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Asks for the vectors that are wanted, and waits for none. Needs no transaction.
    pub fn start(&mut self) {
        // In the order of the sources, so that those of one stand together.
        let mut seen = HashSet::new();
        let texts = self.tasks.iter().flat_map(|task| &task.texts).filter(|text| seen.insert(*text)).cloned();
        self.requests = Some(Requests::start(&self.model.model, texts));
    }

    /// Waits for the vectors. Needs no transaction.
    pub fn finish(&mut self) {
        let made = self.requests.take().map(Requests::finish).unwrap_or_default();
        for task in &mut self.tasks {
            for text in &task.texts {
                let error = match made.refused.get(text) {
                    Some(fault) => Fault { subject: Some(task.key.to_string()), ..fault.clone() }.into(),
                    None if made.vectors.contains_key(text) => continue,
                    // Final for all that have not what they need.
                    None => match &made.error {
                        Some(error) => error.clone(),
                        None => continue,
                    },
                };
                task.failed.get_or_insert(error);
            }
        }
        (self.vectors, self.elapsed) = (made.vectors, made.elapsed);
    }

    /// Stores what was made for sources that still are what they were, and ends their jobs.
    pub fn store(&mut self) -> Result<()> {
        let all: Vec<(i64, i64)> = self.tasks.iter().flat_map(|task| task.jobs.iter().copied()).collect();
        let ours: HashSet<(i64, i64)> = job::still_leased(&all, self.lease)?.into_iter().collect();
        self.tasks.retain(|task| task.jobs.iter().all(|id| ours.contains(id)));
        let mut now: HashMap<SourceKey, Item> = HashMap::new();
        let mut by_host: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for task in &self.tasks {
            if let Some(host) = task.host {
                by_host.entry(host).or_default().push(task.key.source_id);
            }
        }
        for (host, ids) in by_host {
            now.extend(host::items(host, ids)?.into_iter().map(|item| (item.key, item)));
        }
        let mut done: Vec<(i64, i64)> = Vec::new();
        let mut gone = Vec::new();
        let mut outdated: Vec<(i64, i64)> = Vec::new();
        let mut items = Vec::new();
        let mut by_key = HashMap::new();
        for (at, task) in self.tasks.iter_mut().enumerate() {
            let current = if task.host.is_some() { now.remove(&task.key) } else { task.item.clone() };
            match (&task.item, current) {
                (None, None) => {
                    gone.push(task.key);
                    done.extend(&task.jobs);
                }
                (Some(was), Some(is)) if was.same(&is) => {
                    by_key.insert(task.key, at);
                    if task.failed.is_none() {
                        items.push(is);
                    }
                }
                _ => outdated.extend(&task.jobs),
            }
        }
        leaving::delete_many(&gone)?;
        let prefetched =
            Prefetched { model_id: self.model.id, vectors: std::mem::take(&mut self.vectors), elapsed: self.elapsed };
        let mut outcomes = Vec::new();
        sync::sync(items.into_iter().map(Ok), Failing::Leave, Some(prefetched), |key, outcome| {
            outcomes.push((key, outcome.map_err(Clone::clone)));
        })?;
        for (key, outcome) in outcomes {
            let Some(task) = by_key.remove(&key).map(|at| &mut self.tasks[at]) else { continue };
            match outcome {
                Ok(synced) => {
                    task.outcome = Some(if synced.is_some() { State::synced() } else { State::pending() });
                    task.stored = task.host.is_some();
                    if !task.stored {
                        done.extend(&task.jobs);
                    }
                }
                Err(Error::Provider(fault)) if fault.kind == FaultKind::Outdated => outdated.extend(&task.jobs),
                Err(error) => {
                    task.failed = Some(error);
                    by_key.insert(key, usize::MAX);
                }
            }
        }
        fail(self.tasks.iter_mut().filter(|task| by_key.contains_key(&task.key)), self.model.id)?;
        job::delete(&done)?;
        job::release(&outdated, 0, Some(Duration::ZERO))
    }

    /// Leaves all of it to others.
    pub fn release(&self) -> Result<()> {
        for task in &self.tasks {
            job::release(&task.jobs, task.attempts, Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// Nothing of it could be stored, for a reason that is Postgres' own: each source is tried alone.
    pub fn give_up(&mut self, message: &str) -> Result<()> {
        let all: Vec<(i64, i64)> = self.tasks.iter().flat_map(|task| task.jobs.iter().copied()).collect();
        let ours: HashSet<(i64, i64)> = job::still_leased(&all, self.lease)?.into_iter().collect();
        self.tasks.retain(|task| task.jobs.iter().all(|id| ours.contains(id)));
        for task in &mut self.tasks {
            task.failed = Some(Error::NotStored(message.to_owned()));
        }
        fail(self.tasks.iter_mut(), self.model.id)
    }

    /// Tells the rows of host tables what became of them; those that somebody else has locked are told later.
    pub fn tell(&self) -> Result<()> {
        let mut by_host: BTreeMap<i32, Vec<(&Item, &State)>> = BTreeMap::new();
        for task in &self.tasks {
            if let (Some(host), Some(item), Some(state)) = (task.host, &task.item, &task.outcome) {
                by_host.entry(host).or_default().push((item, state));
            }
        }
        let mut later = HashSet::new();
        for (host, told) in by_host {
            later.extend(host::tell(host, &told)?);
        }
        let (locked, told): (Vec<&Task>, Vec<&Task>) =
            self.tasks.iter().filter(|task| task.stored).partition(|task| later.contains(&task.key));
        let ours = |tasks: Vec<&Task>| {
            let ids: Vec<(i64, i64)> = tasks.iter().flat_map(|task| task.jobs.iter().copied()).collect();
            job::still_leased(&ids, self.lease)
        };
        job::delete(&ours(told)?)?;
        job::release(&ours(locked)?, 0, Some(TELL_AGAIN))
    }
}

/// They failed, and it is logged.
fn fail<'a>(tasks: impl Iterator<Item = &'a mut Task>, model_id: i32) -> Result<()> {
    let mut failures = event::Failures::default();
    let mut entries = Vec::new();
    for task in tasks {
        if let Some(code) = task.fail(&mut failures)? {
            entries.push(Entry::failed(task.key, model_id, code));
        }
    }
    log::insert(&entries)?;
    failures.say();
    Ok(())
}

impl Task {
    /// A fault: again later, or never by itself. Its SQLSTATE.
    fn fail(&mut self, failures: &mut event::Failures) -> Result<Option<String>> {
        let (Some(error), Some(item)) = (&self.failed, &self.item) else { return Ok(None) };
        failures.add(&self.key, error);
        let (nature, asked) = match error {
            Error::Provider(fault) if fault.kind == FaultKind::TimedOut => (Nature::Transient, None),
            Error::Provider(fault) => (fault.kind.nature(), fault.retry_after),
            Error::NotStored(_) => (Nature::Transient, None),
            _ => (Nature::Permanent, None),
        };
        let tried = self.attempts + i32::from(nature != Nature::Throttled);
        let (attempts, wait) = match nature {
            Nature::Throttled => (tried, Some(asked.unwrap_or(UNSAID_WAIT))),
            Nature::Transient if tried < i32::try_from(guc::max_attempts()).unwrap_or(i32::MAX) => {
                let failed = u32::try_from(tried).unwrap_or(1);
                (tried, Some(backoff(guc::retry_delay(), failed, http::jitter())))
            }
            _ => (tried, None),
        };
        let failed = Failed::new(error);
        source::mark_attempt(item, &failed, attempts, wait)?;
        // The newest has what is wanted.
        let newest = self.jobs.split_off(self.jobs.len().saturating_sub(1));
        job::delete(&std::mem::replace(&mut self.jobs, newest))?;
        job::release(&self.jobs, attempts, wait)?;
        self.outcome = Some(match wait {
            Some(_) => State::pending(),
            None => State::failed(failed.message),
        });
        Ok(Some(failed.code))
    }
}
