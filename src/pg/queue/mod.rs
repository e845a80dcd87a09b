//! The queue: jobs are claimed in a short transaction, texts are embedded with none open, and vectors are stored in
//! another one, if the source has not changed meanwhile. If a worker is killed in between, its lease ends and its jobs
//! are due again.
//!
//! - `claim`: claimed sources, from their texts to stored vectors
//! - `locked_tables`: host tables that another session has locked

mod claim;
mod locked_tables;
mod pass;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::ids::{ChatbotId, HostId, JobId};
use crate::pg::host::Access;
use crate::pg::model::speedometer::{Sample, Speedometer};
use crate::pg::model::{self, local_models, speed};
use crate::pg::queue::claim::{Task, TaskState, leave_detached_tasks, put_off_tasks};
use crate::pg::queue::locked_tables::{locked_hosts, read_unlocked_host_rows};
use crate::pg::runtime::subtransaction::try_row;
use crate::pg::runtime::{enabled, encoding, settings, wake};
use crate::pg::store::delete::{self, Relocation};
use crate::pg::store::job::{self, Job, JobKey};
use crate::pg::store::{self, source};
use crate::pg::sync::pending_at_commit::mark_pending_at_commit;
use crate::source::{Jsonb, RowInput, SourceInput, SourceKey, SourceType};
use crate::text::content::{Content, Format};

pub use crate::pg::queue::claim::Claim;

/// The largest number of sources that are claimed together.
pub const BATCH_SIZE: usize = 100;
/// The time that a lease lasts beyond chatbot_sync.sync_timeout; after it, other workers may take the jobs.
const LEASE_MARGIN: Duration = Duration::from_secs(60);

/// The time that the slowest machine takes for a chunk with such a model. A lease lasts longer by it for each text; the lease
/// of a session that has ended is released earlier.
const SLOWEST_CHUNK: Duration = Duration::from_secs(2);

thread_local! {
    /// The start of the statement in which this session claimed last.
    static CLAIMED_IN: Cell<i64> = const { Cell::new(0) };
    /// The claim of this session, between the steps of chatbot_process_queue().
    static CLAIMED: RefCell<Option<Claim>> = const { RefCell::new(None) };
}

/// Queues the content of a source without a host table, and returns the job's id.
pub fn enqueue(key: SourceKey, content: &str, metadata: Jsonb, priority: i32) -> Result<JobId> {
    let id = job::insert_content(&key, content, &metadata, priority)?;
    wake::wake_at_commit();
    mark_pending_at_commit([key]);
    // At REPEATABLE READ, a row that another transaction inserts meanwhile would raise a serialization failure: there, the
    // worker inserts it.
    if !settings::sees_only_its_snapshot() {
        let content = Content::new(String::new(), Format::Text, false);
        source::insert_pending(&SourceInput::by_hand(key, content, metadata))?;
    }
    Ok(id)
}

/// Makes sources in error pending again and returns how many; a `None` matches every source.
pub fn retry(chatbot_id: Option<ChatbotId>, source_type: Option<SourceType>, source_id: Option<i64>) -> Result<i64> {
    wake::wake_at_commit();
    store::retry::retry_failed_sources(chatbot_id, source_type, source_id)
}

/// Claims up to `most` sources that are due; `None` where none is due or embedding is off. Sources of a table that another
/// session has locked are put off.
pub fn claim(most: usize) -> Result<Option<Claim>> {
    encoding::require_utf8()?;
    if !enabled::is_enabled() {
        return Ok(None);
    }
    let most = local_models::limit_batch(&model::active_or_built_in()?, most);
    loop {
        let Some(by_source) = pick_due_jobs(most, &locked_hosts())? else { return Ok(None) };
        let claim = lease_jobs(by_source)?;
        if claim.len() > 0 {
            return Ok(Some(claim));
        }
    }
}

/// Picks and locks due jobs of up to four chatbots, and returns them by source; `None` where there are none.
fn pick_due_jobs(most: usize, excluded: &[HostId]) -> Result<Option<BTreeMap<SourceKey, Vec<Job>>>> {
    loop {
        let due = pass::next_jobs(most.min(BATCH_SIZE), excluded)?;
        if due.is_empty() {
            return Ok(None);
        }
        let mut keys: Vec<SourceKey> = due.iter().map(|job| job.source).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut by_source: BTreeMap<SourceKey, Vec<Job>> = BTreeMap::new();
        for job in job::lock_jobs_of_sources(&keys)? {
            by_source.entry(job.source).or_default().push(job);
        }
        if !by_source.is_empty() {
            return Ok(Some(by_source));
        }
    }
}

/// Leases jobs, and reads what their sources are to become.
fn lease_jobs(by_source: BTreeMap<SourceKey, Vec<Job>>) -> Result<Claim> {
    let model = model::active_or_insert_built_in()?;
    let lease = new_lease();
    let jobs: Vec<JobKey> = by_source.values().flatten().map(Job::key).collect();
    job::lease(&jobs, lease, settings::sync_timeout() + LEASE_MARGIN)?;
    let mut tasks = read_tasks(by_source)?;
    let params = settings::chunk_params(None, None, None)?;
    if try_row(|| tasks.iter_mut().try_for_each(|task| task.prepare(model.id, &params)))?.is_err() {
        for task in &mut tasks {
            if let Err(raised) = try_row(|| task.prepare(model.id, &params))? {
                task.state = TaskState::Failed(raised.into_store_error());
            }
        }
    }
    if local_models::is_local_model(&model.model) {
        let texts: u64 = tasks.iter().map(|task| task.texts().len() as u64).sum();
        job::lease(
            &jobs,
            lease,
            settings::sync_timeout() + LEASE_MARGIN + SLOWEST_CHUNK * u32::try_from(texts).unwrap_or(u32::MAX),
        )?;
    }
    let waiting = tasks.iter().filter(|task| !task.texts().is_empty()).map(|task| task.key);
    source::mark_pending(&waiting.collect::<Vec<_>>())?;
    let (requests, vectors, in_parts, elapsed) = (None, HashMap::new(), HashMap::new(), Duration::ZERO);
    let (meter, sample) = (Speedometer::start(), Sample::default());
    Ok(Claim { lease, model, tasks, requests, vectors, in_parts, elapsed, meter, sample })
}

/// Reads what the sources are to become. Sources that only changed their key are moved, with their vectors.
fn read_tasks(by_source: BTreeMap<SourceKey, Vec<Job>>) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    let mut by_host: BTreeMap<HostId, Vec<SourceKey>> = BTreeMap::new();
    let mut moves = Vec::new();
    for (key, mut jobs) in by_source {
        let job_keys = jobs.iter().map(Job::key).collect();
        let attempts = jobs.iter().map(|job| job.attempts).max().unwrap_or(0);
        let moved =
            |job: &Job| Some(MovedRow { host: job.host?, relocation: Relocation { from: job.moved_from?, to: key } });
        moves.extend(jobs.iter().filter_map(moved));
        let Some(newest) = jobs.pop() else { continue };
        if let Some(host) = newest.host {
            by_host.entry(host).or_default().push(key);
        }
        let input = newest.content.map(|content| {
            let metadata = newest.metadata.unwrap_or_else(Jsonb::empty);
            SourceInput::by_hand(key, Content::new(content, Format::Text, false), metadata)
        });
        tasks.push(Task {
            key,
            jobs: job_keys,
            host: newest.host,
            attempts,
            input: input.map(RowInput::Readable),
            state: TaskState::Embedding(Vec::new()),
        });
    }
    let mut rows = HashMap::new();
    for (host, keys) in by_host {
        match read_unlocked_host_rows(host, &keys)? {
            Access::Done(read) => rows.extend(read.into_iter().map(|row| (row.key(), row))),
            Access::Locked => put_off_tasks(host, &mut tasks)?,
            Access::Detached => leave_detached_tasks(host, &mut tasks)?,
        }
    }
    for task in &mut tasks {
        if task.host.is_some() {
            task.input = rows.remove(&task.key);
        }
    }
    moves.retain(|moved| tasks.iter().any(|task| task.key == moved.relocation.to));
    relocate(moves, &tasks)?;
    Ok(tasks)
}

/// A host row whose key changed.
struct MovedRow {
    host: HostId,
    relocation: Relocation,
}

/// Moves sources to the keys that their rows have now, unless a row has the old key again. A source is deleted if there is
/// no row with its new key, or already a source.
fn relocate(moves: Vec<MovedRow>, tasks: &[Task]) -> Result<()> {
    let with_row: HashSet<SourceKey> = tasks.iter().filter(|t| t.input.is_some()).map(|t| t.key).collect();
    let (mut to_move, mut to_delete) = (Vec::new(), Vec::new());
    for MovedRow { host, relocation } in moves {
        let Relocation { from, to } = relocation;
        let is_used = || match read_unlocked_host_rows(host, &[from])? {
            Access::Done(rows) => Ok::<_, Error>(rows.iter().any(|row| row.key() == from)),
            // A row that cannot be read, or whose table is locked, may well be there.
            Access::Locked | Access::Detached => Ok(true),
        };
        if source::exists(&from)? && !is_used()? {
            if with_row.contains(&to) && !source::exists(&to)? {
                to_move.push(relocation)
            } else {
                to_delete.push(from)
            }
        }
    }
    if !to_move.is_empty() {
        delete::relocate_sources(&to_move)?;
    }
    delete::delete_sources(&to_delete)
}

/// Makes a number that no other lease has.
fn new_lease() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let nanos = u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or(0);
    (nanos ^ (u64::from(std::process::id()) << 40)).cast_signed()
}

/// Returns the start of the session's running statement: the same in all steps of a CALL, whatever it commits.
#[allow(unsafe_code)]
fn statement_start() -> i64 {
    // SAFETY: reads a variable of this backend.
    unsafe { pgrx::pg_sys::GetCurrentStatementStartTimestamp() }
}

/// A step of chatbot_process_queue(): claims up to `most` sources and returns how many.
pub fn step_claim(most: usize) -> Result<usize> {
    CLAIMED.set(None);
    if let Err(disabled) = enabled::require_enabled() {
        pgrx::notice!("{disabled}");
        return Ok(0);
    }
    let statement = statement_start();
    if CLAIMED_IN.replace(statement) != statement {
        pass::restart();
        job::release_orphaned_leases()?;
    }
    let claimed = claim(most)?;
    let count = claimed.as_ref().map_or(0, Claim::len);
    CLAIMED.set(claimed);
    Ok(count)
}

/// A step of chatbot_process_queue(): requests the vectors from the provider, and waits for them.
pub fn step_embed() {
    if let Some(mut claim) = CLAIMED.take() {
        claim.start();
        claim.finish();
        CLAIMED.set(Some(claim));
    }
}

/// A step of chatbot_process_queue(): stores the vectors.
pub fn step_store() -> Result<()> {
    if let Some(mut claim) = CLAIMED.take() {
        claim.store()?;
        let model = claim.model.clone();
        speed::record_in_step(|| Ok(Some(model)), claim.meter.sample())?;
        CLAIMED.set(Some(claim));
    }
    Ok(())
}

/// A step of chatbot_process_queue(): writes the statuses to host rows.
pub fn step_write_status() -> Result<()> {
    CLAIMED.take().map_or(Ok(()), |claim| claim.write_statuses())
}
