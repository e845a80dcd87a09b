//! Claimed sources, on their way from their texts to stored vectors.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::embedding::batch::Usage;
use crate::embedding::retry::backoff;
use crate::error::{Error, Fault, FaultKind, Result, RetryClass, RowStep};
use crate::host::RowStatus;
use crate::ids::{HostId, ModelId};
use crate::pg::host::{self, Access, ExpectedStatus};
use crate::pg::model::embedding_call;
use crate::pg::model::requests::Requests;
use crate::pg::model::speedometer::{Sample, Speedometer};
use crate::pg::queue::locked_tables::{postpone_jobs, read_unlocked_host_rows};
use crate::pg::runtime::subtransaction::try_row;
use crate::pg::runtime::{log_line, settings};
use crate::pg::store::job::{self, JobKey};
use crate::pg::store::log::{self, LogEntry};
use crate::pg::store::model::ActiveModel;
use crate::pg::store::sync_error::SyncError;
use crate::pg::store::{delete, host_row, source, source_error};
use crate::pg::sync::{self, OnFailure, Prefetched, RowHandling};
use crate::source::{RowInput, SourceKey};
use crate::text::chunk::Params;

/// The wait where a provider asks for one and does not say how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
/// The delay after which a status is written again to a row that another session had locked.
const STATUS_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The delay after which jobs of a table that lacks its triggers are due again.
const MISSING_TRIGGERS_DELAY: Duration = Duration::from_secs(60);

/// Sources that were claimed together.
pub struct Claim {
    /// The number of the lease that its jobs have.
    pub lease: i64,
    /// The model that was active when it was claimed.
    pub model: ActiveModel,
    /// Its sources, with their jobs.
    pub tasks: Vec<Task>,
    /// The requests that are running; `None` before start() and after finish().
    pub requests: Option<Requests>,
    /// Vectors by their text, each with what it used.
    pub vectors: HashMap<String, (Vec<f32>, Usage)>,
    /// Texts that were longer than the model takes, with the number of parts that each was embedded in.
    pub in_parts: HashMap<String, usize>,
    /// The time that the provider took.
    pub elapsed: Duration,
    /// Measures from the first request on.
    pub meter: Speedometer,
    /// The texts that were embedded until the last response.
    pub sample: Sample,
}

/// A task that failed, by its position among the claim's tasks.
struct FailedTask {
    at: usize,
    error: Error,
}

/// A claimed source, with its jobs.
pub struct Task {
    /// The source's key.
    pub key: SourceKey,
    /// Its jobs, oldest first.
    pub jobs: Vec<JobKey>,
    /// The host table that it comes from; `None`: its job has its content.
    pub host: Option<HostId>,
    /// The number of failed attempts so far.
    pub attempts: i32,
    /// The input of its sync; `None` where its row is gone.
    pub input: Option<RowInput>,
    /// The state of its processing.
    pub state: TaskState,
}

/// The state of a claimed source.
#[derive(Clone)]
pub enum TaskState {
    /// Its texts are being embedded: those that have no vector yet, possibly none.
    Embedding(Vec<String>),
    /// It cannot be embedded, or was refused by the provider. That is not recorded yet.
    Failed(Error),
    /// Its vectors are stored. Its host row is to show this status; its jobs end when that is written.
    Stored(RowStatus),
    /// Its failure is recorded, and its jobs are put off. Its host row is to show this status.
    FailureRecorded(RowStatus),
    /// Nothing is left to be written: its jobs have ended, or are due again.
    Done,
}

impl Claim {
    /// The number of sources.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Sends requests for the texts that are to be embedded, and returns without waiting. Needs no transaction.
    pub fn start(&mut self) {
        // In the order of the sources, so that the texts of one source are in the same request where possible.
        let mut seen = HashSet::new();
        let texts = self.tasks.iter().flat_map(Task::texts).filter(|text| seen.insert(*text)).cloned();
        self.meter = Speedometer::start();
        self.requests = Some(Requests::start(&self.model.model, texts));
    }

    /// Waits for the vectors. Needs no transaction.
    pub fn finish(&mut self) {
        let made = self.requests.take().map(Requests::finish).unwrap_or_default();
        for task in &mut self.tasks {
            let error_of = |text: &String| match made.refused.get(text) {
                Some(fault) => Some(Fault { subject: Some(task.name_chunk(text)), ..fault.clone() }.into()),
                None if made.vectors.contains_key(text) => None,
                // The call ended with an error, which all texts without a vector share.
                None => made.error.clone(),
            };
            if let Some(error) = task.texts().iter().find_map(error_of) {
                task.state = TaskState::Failed(error);
            }
        }
        (self.vectors, self.in_parts, self.elapsed) = (made.vectors, made.in_parts, made.elapsed);
        self.sample = self.meter.sample();
    }

    /// Stores the vectors of sources that have not changed since they were claimed, and ends their jobs; those of host
    /// tables end when their rows' statuses are written. Sources of a table that another session has locked are put off.
    pub fn store(&mut self) -> Result<()> {
        self.drop_lost_tasks()?;
        let mut current: HashMap<SourceKey, RowInput> = HashMap::new();
        let mut by_host: BTreeMap<HostId, Vec<SourceKey>> = BTreeMap::new();
        for task in &self.tasks {
            if let Some(host) = task.host {
                by_host.entry(host).or_default().push(task.key);
            }
        }
        for (host, keys) in by_host {
            match read_unlocked_host_rows(host, &keys)? {
                Access::Done(rows) => current.extend(rows.into_iter().map(|row| (row.key(), row))),
                Access::Locked => put_off_tasks(host, &mut self.tasks)?,
                Access::Detached => leave_detached_tasks(host, &mut self.tasks)?,
            }
        }
        let vectors = std::mem::take(&mut self.vectors);
        let states = match try_row(|| self.store_tasks(&current, vectors.clone(), RowHandling::Together))? {
            Ok(states) => states,
            Err(_) => self.store_tasks(&current, vectors, RowHandling::EachAlone)?,
        };
        for (task, state) in self.tasks.iter_mut().zip(states) {
            task.state = state;
        }
        Ok(())
    }

    /// Stores the tasks, whose rows are in `current`, and returns the state of each afterwards.
    fn store_tasks(
        &self,
        current: &HashMap<SourceKey, RowInput>,
        vectors: HashMap<String, (Vec<f32>, Usage)>,
        handling: RowHandling,
    ) -> Result<Vec<TaskState>> {
        let mut states: Vec<TaskState> = vec![TaskState::Done; self.tasks.len()];
        let mut done: Vec<JobKey> = Vec::new();
        let mut without_row = Vec::new();
        let mut outdated: Vec<JobKey> = Vec::new();
        let mut inputs = Vec::new();
        let mut by_key = HashMap::new();
        let mut failed = Vec::new();
        for (at, task) in self.tasks.iter().enumerate() {
            let input = if task.host.is_some() { current.get(&task.key) } else { task.input.as_ref() };
            match (&task.input, input) {
                (None, None) => {
                    without_row.push(task.key);
                    done.extend(&task.jobs);
                }
                (Some(claimed), Some(input)) if claimed.same(input) => match (&task.state, input) {
                    (TaskState::Failed(error), _) => failed.push(FailedTask { at, error: error.clone() }),
                    (_, RowInput::Unreadable(unreadable)) => {
                        failed.push(FailedTask { at, error: unreadable.error.clone() })
                    }
                    (_, readable) => {
                        by_key.insert(task.key, at);
                        inputs.push(readable.clone());
                    }
                },
                _ => outdated.extend(&task.jobs),
            }
        }
        delete::delete_sources(&without_row)?;
        let (model_id, in_parts, elapsed) = (self.model.id, self.in_parts.clone(), self.elapsed);
        let prefetched = Prefetched { model_id, vectors, in_parts, elapsed };
        let mut outcomes = Vec::new();
        sync::sync(inputs.into_iter().map(Ok), OnFailure::Leave, handling, Some(prefetched), |key, outcome| {
            outcomes.push((key, outcome.map_err(Clone::clone)));
        })?;
        for (key, outcome) in outcomes {
            let Some(at) = by_key.remove(&key) else { continue };
            let task = &self.tasks[at];
            match outcome {
                Ok(_) if task.host.is_none() => done.extend(&task.jobs),
                Ok(Some(_)) => states[at] = TaskState::Stored(RowStatus::synced()),
                Ok(None) => states[at] = TaskState::Stored(RowStatus::pending()),
                Err(Error::Provider(fault)) if fault.kind == FaultKind::Outdated => outdated.extend(&task.jobs),
                Err(error) => failed.push(FailedTask { at, error }),
            }
        }
        let positions: Vec<usize> = failed.iter().map(|failed| failed.at).collect();
        for (at, status) in positions.into_iter().zip(self.record_failures(failed, handling)?) {
            states[at] = TaskState::FailureRecorded(status);
        }
        job::delete(&done)?;
        job::release(&outdated, 0, Some(Duration::ZERO))?;
        Ok(states)
    }

    /// Drops the tasks whose jobs another worker has leased meanwhile.
    fn drop_lost_tasks(&mut self) -> Result<()> {
        let all: Vec<JobKey> = self.tasks.iter().flat_map(|task| task.jobs.iter().copied()).collect();
        let ours: HashSet<JobKey> = job::lock_leased_jobs(&all, self.lease)?.into_iter().collect();
        self.tasks.retain(|task| task.jobs.iter().all(|id| ours.contains(id)));
        Ok(())
    }

    /// Ends the leases: all jobs are due at once, for other workers.
    pub fn release(&self) -> Result<()> {
        for task in &self.tasks {
            job::release(&task.jobs, task.attempts, Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// Records a failed attempt for every source, since Postgres itself refused to store the claim. Each source is
    /// then tried alone.
    pub fn give_up(&mut self, message: &str) -> Result<()> {
        self.drop_lost_tasks()?;
        let error = Error::NotStored(message.to_owned());
        let failed = (0..self.tasks.len()).map(|at| FailedTask { at, error: error.clone() }).collect();
        self.record_failures(failed, RowHandling::EachAlone).map(drop)
    }

    /// Records and logs the failures of tasks: each is retried later or, if that is pointless, not by itself. Returns the
    /// statuses for their rows, in the same order.
    fn record_failures(&self, failed: Vec<FailedTask>, handling: RowHandling) -> Result<Vec<RowStatus>> {
        let mut failures = log_line::FailureSummary::default();
        let (mut entries, mut statuses) = (Vec::new(), Vec::new());
        for FailedTask { at, error } in failed {
            let task = &self.tasks[at];
            failures.add(&task.key, &error);
            let (failed, status) = task.record_failure(&error, handling)?;
            entries.push(LogEntry::failed(task.key, self.model.id, failed.code));
            statuses.push(status);
        }
        log::insert(&entries)?;
        failures.write();
        Ok(statuses)
    }

    /// Writes the statuses to the rows of host tables and ends the jobs of stored sources. A row that another session has
    /// locked gets its status a second later.
    pub fn write_statuses(&self) -> Result<()> {
        let mut by_host: BTreeMap<HostId, Vec<ExpectedStatus>> = BTreeMap::new();
        for task in &self.tasks {
            if let (Some(host), Some(input), TaskState::Stored(status) | TaskState::FailureRecorded(status)) =
                (task.host, &task.input, &task.state)
            {
                by_host.entry(host).or_default().push(ExpectedStatus { input, status });
            }
        }
        let mut locked_rows = HashSet::new();
        host_row::check_constraints_at_once()?;
        for (host, expected) in by_host {
            locked_rows.extend(host::write_statuses(host, &expected)?);
        }
        let (locked, written): (Vec<&Task>, Vec<&Task>) = self
            .tasks
            .iter()
            .filter(|task| matches!(task.state, TaskState::Stored(_)))
            .partition(|task| locked_rows.contains(&task.key));
        let leased_jobs = |tasks: Vec<&Task>| {
            let jobs: Vec<JobKey> = tasks.iter().flat_map(|task| task.jobs.iter().copied()).collect();
            job::lock_leased_jobs(&jobs, self.lease)
        };
        job::delete(&leased_jobs(written)?)?;
        job::release(&leased_jobs(locked)?, 0, Some(STATUS_RETRY_DELAY))
    }
}

impl Task {
    /// Returns the texts that are being embedded.
    pub fn texts(&self) -> &[String] {
        match &self.state {
            TaskState::Embedding(texts) => texts,
            _ => &[],
        }
    }

    /// Names the chunk with this text in messages; names the source where the chunk is not found.
    fn name_chunk(&self, text: &str) -> String {
        let cut = match (&self.input, settings::chunk_params(None, None, None)) {
            (Some(RowInput::Readable(input)), Ok(params)) => input.content.chunk(&params).ok(),
            _ => None,
        };
        let at = cut.and_then(|cut| cut.inputs().iter().position(|input| input == text));
        at.map_or_else(|| self.key.to_string(), |at| format!("chunk {at} of {}", self.key))
    }

    /// Finds the texts that are to be embedded, or the error because of which there are none. A source with such texts gets
    /// a pending row if it has none.
    pub fn prepare(&mut self, model_id: ModelId, params: &Params) -> Result<()> {
        self.state = match &self.input {
            Some(RowInput::Readable(input)) => match sync::texts_to_embed(input, model_id, params) {
                Ok(texts) => {
                    if !texts.is_empty() {
                        source::insert_pending(input)?;
                    }
                    TaskState::Embedding(texts)
                }
                Err(error) if error.is_about_one_source() => TaskState::Failed(error),
                Err(error) => return Err(error),
            },
            Some(RowInput::Unreadable(unreadable)) => TaskState::Failed(unreadable.error.clone()),
            None => TaskState::Embedding(Vec::new()),
        };
        Ok(())
    }

    /// Records a failed attempt with the source and its jobs, which are due again later or not by themselves. Returns the
    /// error and the status for the row.
    fn record_failure(&self, error: &Error, handling: RowHandling) -> Result<(SyncError, RowStatus)> {
        let (retry_class, asked) = match error {
            Error::Provider(fault) if fault.kind == FaultKind::TimedOut => (RetryClass::Transient, None),
            Error::Provider(fault) => (fault.kind.retry_class(), fault.retry_after),
            Error::NotStored(_) | Error::Row { step: RowStep::Store, .. } => (RetryClass::Transient, None),
            // Embedding was switched off after the claim, so that no attempt was made.
            Error::Disabled => (RetryClass::Throttled, None),
            _ => (RetryClass::Permanent, None),
        };
        let tried = self.attempts + i32::from(retry_class != RetryClass::Throttled);
        let (attempts, wait) = match retry_class {
            RetryClass::Throttled => (tried, Some(asked.unwrap_or(DEFAULT_WAIT))),
            RetryClass::Transient if tried < i32::try_from(settings::max_attempts()).unwrap_or(i32::MAX) => {
                let failed = u32::try_from(tried).unwrap_or(1);
                (tried, Some(backoff(settings::retry_delay(), failed, embedding_call::jitter())))
            }
            _ => (tried, None),
        };
        let failed = SyncError::new(error);
        let mark = || match &self.input {
            Some(RowInput::Readable(input)) => source_error::mark_attempt(input, &failed, attempts, wait),
            Some(RowInput::Unreadable(row)) => source_error::mark_unreadable(&row.key, row.host, row.enabled, &failed),
            None => Ok(()),
        };
        match handling {
            RowHandling::Together => mark()?,
            RowHandling::EachAlone => {
                if let Err(raised) = try_row(mark)? {
                    pgrx::warning!("{}: chatbot_sync.source does not take its error: {}", self.key, raised.message);
                }
            }
        }
        // The newest job says what is wanted; older ones are superseded.
        if let Some((newest, older)) = self.jobs.split_last() {
            job::delete(older)?;
            job::release(&[*newest], attempts, wait)?;
        }
        let status = match wait {
            Some(_) => RowStatus::pending(),
            None => RowStatus::failed(failed.message.clone()),
        };
        Ok((failed, status))
    }
}

/// Removes the tasks of a locked table from a claim, and puts off their jobs.
pub fn put_off_tasks(host: HostId, tasks: &mut Vec<Task>) -> Result<()> {
    for task in tasks.extract_if(.., |task| task.host == Some(host)) {
        postpone_jobs(host, &task.jobs, task.attempts)?;
    }
    Ok(())
}

/// Removes the tasks of a table without the extension's triggers from a claim: whether their rows are there is unknown. If the table
/// was detached, its sources stay as they are and its jobs are deleted. If its sources still name it, its triggers are
/// missing, as in the middle of a restore, and its jobs wait for them.
pub fn leave_detached_tasks(host: HostId, tasks: &mut Vec<Task>) -> Result<()> {
    for task in tasks.extract_if(.., |task| task.host == Some(host)) {
        if source::host_of(&task.key)? == Some(host) {
            job::release(&task.jobs, task.attempts, Some(MISSING_TRIGGERS_DELAY))?;
        } else {
            job::delete(&task.jobs)?;
        }
    }
    Ok(())
}
