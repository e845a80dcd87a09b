//! The queue: jobs are claimed in a short transaction, texts embedded with none open, and vectors stored in another, if the
//! source still is what was embedded. Whoever is killed in between loses nothing: what was claimed comes back.

mod claimed;
#[allow(unsafe_code)]
mod waiting;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use super::host;
use super::jsonb::Jsonb;
use super::store::job::{self, Job};
use super::store::leaving;
use super::store::source::{self, SourceKey};
use super::sync::{self, Item};
use super::{guc, model, worker};
use crate::error::{Error, Result};
use crate::text::content::{Content, Format};

pub use claimed::Claim;
use claimed::Task;
pub use waiting::say_at_commit;

/// Sources that are embedded together.
pub const BATCH: usize = 100;
/// Chatbots that share a batch.
const CHATBOTS: usize = 4;
/// What is claimed and not stored after the time that a provider may take, and this, is somebody else's.
const LEASE: Duration = Duration::from_secs(60);

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
    say_at_commit([key]);
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
        leaving::relocate(&moved)?;
    }
    leaving::delete_many(&gone)
}

/// A number that no other lease has.
fn rand_lease() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let nanos = u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or(0);
    (nanos ^ (u64::from(std::process::id()) << 40)).cast_signed()
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
