//! The queue: jobs are claimed in a short transaction, texts embedded with none open, and vectors stored in another, if the
//! source still is what was embedded. Whoever is killed in between loses nothing: what was claimed comes back.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use super::host::{self, State};
use super::jsonb::Jsonb;
use super::requests::Requests;
use super::store::job::{self, Job};
use super::store::log::{self, Entry};
use super::store::model::ActiveModel;
use super::store::source::{self, Failed, SourceKey};
use super::sync::{self, Failing, Item, Prefetched};
use super::{event, guc, model, worker};
use crate::batch::Usage;
use crate::content::{Content, Format};
use crate::error::{Error, Fault, FaultKind, Nature, Result};
use crate::retry::backoff;

/// Sources that are embedded together.
pub const BATCH: usize = 100;
/// Chatbots that share a batch.
const CHATBOTS: usize = 4;
/// What is claimed and not stored after the time that a provider may take, and this, is somebody else's.
const LEASE: Duration = Duration::from_secs(60);
/// Where a provider asks to wait and does not say how long.
const UNSAID_WAIT: Duration = Duration::from_secs(5);
/// When a row that somebody else had locked is told again what became of it.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Sources that were claimed, on their way.
pub struct Claim {
    lease: i64,
    model: ActiveModel,
    tasks: Vec<Task>,
    requests: Option<Requests>,
    vectors: HashMap<String, (Vec<f32>, Usage)>,
    elapsed: Duration,
}

/// A source that was claimed.
struct Task {
    key: SourceKey,
    jobs: Vec<(i64, i64)>,
    host: Option<i32>,
    attempts: i32,
    /// None where it is no more.
    item: Option<Item>,
    texts: Vec<String>,
    failed: Option<Error>,
    /// What its row is to be told.
    outcome: Option<State>,
    /// Nothing is left to be done but telling its row: its jobs end with that.
    stored: bool,
}

thread_local! {
    /// The chatbot that was served last.
    static LAST: Cell<i64> = const { Cell::new(0) };
    /// What this session has claimed, between the steps of chatbot_process_queue().
    static CLAIMED: RefCell<Option<Claim>> = const { RefCell::new(None) };
}

/// A source that no host table has waits with its content: the job's id.
pub fn enqueue(key: SourceKey, content: &str, metadata: Jsonb, priority: i32) -> Result<i64> {
    let id = job::insert_content(&key, content, &metadata, priority)?;
    worker::wake_at_commit();
    // A row that another transaction makes meanwhile would be a conflict at a higher level: the worker makes it then.
    if !guc::sees_only_its_snapshot() {
        let content = Content::new(String::new(), Format::Text, false);
        source::insert_pending(&Item { key, content, metadata, enabled: true, host: None, fresh: false })?;
    }
    Ok(id)
}

/// Sources that failed for good wait again: how many.
pub fn retry(chatbot_id: Option<i64>, source_type: Option<&str>, source_id: Option<i64>) -> Result<i64> {
    worker::wake_at_commit();
    job::retry(chatbot_id, source_type, source_id)
}

/// Claims sources that are due, at most so many; none where there is none.
pub fn claim(most: usize) -> Result<Option<Claim>> {
    let Some(priority) = job::top_priority()? else { return Ok(None) };
    let most = most.min(BATCH);
    let mut chatbots = Vec::new();
    let mut last = LAST.get();
    let mut wrapped = false;
    while chatbots.len() < CHATBOTS.min(most) {
        match job::next_chatbot(priority, last)? {
            Some(chatbot) if !chatbots.contains(&chatbot) => {
                last = chatbot;
                chatbots.push(chatbot);
            }
            None if !wrapped => (last, wrapped) = (i64::MIN, true),
            _ => break,
        }
    }
    LAST.set(last);
    let mut picked: Vec<Job> = Vec::new();
    for (at, &chatbot) in chatbots.iter().enumerate() {
        let share = (most - picked.len()).div_ceil(chatbots.len() - at);
        picked.extend(job::pick(chatbot, priority, i32::try_from(share).unwrap_or(1))?);
    }
    // What failed is tried again alone: it may be what spoils the others.
    if picked.first().is_some_and(|job| job.attempts > 0) {
        picked.truncate(1);
    } else {
        picked.retain(|job| job.attempts == 0);
    }
    let mut keys: Vec<SourceKey> = picked.iter().map(|job| job.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut by_source: BTreeMap<SourceKey, Vec<Job>> = BTreeMap::new();
    for job in job::of_sources(&keys)? {
        by_source.entry(job.key).or_default().push(job);
    }
    if by_source.is_empty() {
        return Ok(None);
    }
    let model = model::for_writing()?;
    let lease = rand_lease();
    let ids: Vec<(i64, i64)> = by_source.values().flatten().map(|job| (job.key.chatbot_id, job.id)).collect();
    job::lease(&ids, lease, guc::sync_timeout() + LEASE)?;
    let tasks = tasks(by_source)?;
    let (requests, vectors, elapsed) = (None, HashMap::new(), Duration::ZERO);
    let mut claim = Claim { lease, model, tasks, requests, vectors, elapsed };
    let params = guc::chunk_params(None, None, None)?;
    let mut waiting = Vec::new();
    for task in &mut claim.tasks {
        if let Some(item) = &task.item {
            match sync::needed(item, claim.model.id, &params) {
                Ok(texts) => task.texts = texts,
                Err(error) if error.is_about_one_source() => task.failed = Some(error),
                Err(error) => return Err(error),
            }
            if !task.texts.is_empty() {
                source::insert_pending(item)?;
                waiting.push(task.key);
            }
        }
    }
    source::mark_pending(&waiting)?;
    Ok(Some(claim))
}

/// What the sources are by now; those that only changed their key take their vectors along.
fn tasks(by_source: BTreeMap<SourceKey, Vec<Job>>) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    let mut by_host: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    let mut moves = Vec::new();
    for (key, mut jobs) in by_source {
        let ids = jobs.iter().map(|job| (key.chatbot_id, job.id)).collect();
        let attempts = jobs.iter().map(|job| job.attempts).max().unwrap_or(0);
        let moved = |job: &Job| {
            let (chatbot_id, source_id) = job.from?;
            Some((job.host?, SourceKey { chatbot_id, source_id, ..key }, key))
        };
        moves.extend(jobs.iter().filter_map(moved));
        let Some(newest) = jobs.pop() else { continue };
        if let Some(host) = newest.host {
            by_host.entry(host).or_default().push(key.source_id);
        }
        let item = newest.content.map(|content| Item {
            key,
            content: Content::new(content, Format::Text, false),
            metadata: newest.metadata.unwrap_or_else(Jsonb::empty),
            enabled: true,
            host: None,
            fresh: false,
        });
        tasks.push(Task {
            key,
            jobs: ids,
            host: newest.host,
            attempts,
            item,
            texts: Vec::new(),
            failed: None,
            outcome: None,
            stored: false,
        });
    }
    let mut rows = HashMap::new();
    for (host, ids) in by_host {
        rows.extend(host::items(host, ids)?.into_iter().map(|item| (item.key, item)));
    }
    for task in &mut tasks {
        if task.host.is_some() {
            task.item = rows.remove(&task.key);
        }
    }
    relocate(moves, &tasks)?;
    Ok(tasks)
}

/// Sources whose key is another now, unless a row has the old one again.
fn relocate(moves: Vec<(i32, SourceKey, SourceKey)>, tasks: &[Task]) -> Result<()> {
    let there: HashSet<SourceKey> = tasks.iter().filter(|t| t.item.is_some()).map(|t| t.key).collect();
    let (mut moved, mut gone) = (Vec::new(), Vec::new());
    for (host, from, to) in moves {
        let taken = || Ok::<_, Error>(host::items(host, vec![from.source_id])?.iter().any(|item| item.key == from));
        if source::exists(&from)? && !taken()? {
            if there.contains(&to) && !source::exists(&to)? { moved.push((from, to)) } else { gone.push(from) }
        }
    }
    if !moved.is_empty() {
        source::relocate(&moved)?;
    }
    source::delete_many(&gone)
}

/// A number that no other lease has.
fn rand_lease() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let nanos = u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or(0);
    (nanos ^ (u64::from(std::process::id()) << 40)).cast_signed()
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
        source::delete_many(&gone)?;
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
                (tried, Some(backoff(guc::retry_delay(), failed, super::http::jitter())))
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

/// A step of chatbot_process_queue(): claims; how many sources.
pub fn step_claim(most: usize) -> Result<usize> {
    CLAIMED.set(None);
    job::release_dead()?;
    let claimed = claim(most)?;
    let count = claimed.as_ref().map_or(0, Claim::len);
    CLAIMED.set(claimed);
    Ok(count)
}

/// A step of chatbot_process_queue(): asks the provider.
pub fn step_embed() {
    if let Some(mut claim) = CLAIMED.take() {
        claim.start();
        claim.finish();
        CLAIMED.set(Some(claim));
    }
}

/// A step of chatbot_process_queue(): stores.
pub fn step_store() -> Result<()> {
    if let Some(mut claim) = CLAIMED.take() {
        claim.store()?;
        CLAIMED.set(Some(claim));
    }
    Ok(())
}

/// A step of chatbot_process_queue(): tells the rows.
pub fn step_tell() -> Result<()> {
    CLAIMED.take().map_or(Ok(()), |claim| claim.tell())
}
