//! Jobs: sources that wait for a worker. A leased job is due when its lease ends; a job that failed for good is never due.

use std::time::Duration;

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiHeapTupleData;

use crate::error::Result;
use crate::ids::{ChatbotId, HostId, JobId};
use crate::pg::runtime::memory::Scratch;
use crate::pg::runtime::wake;
use crate::pg::store::source_key::{IS_SOURCE, KEYS, key_array_args, read_key, same_source};
use crate::pg::store::{StatementMode, not_null, run, write};
use crate::source::{Jsonb, SourceKey};

/// The primary key of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobKey {
    /// The chatbot of the job's source.
    pub chatbot_id: ChatbotId,
    /// The job's number, which no other job of its chatbot has.
    pub id: JobId,
}

/// A job as a worker claims it.
#[derive(Debug, Clone)]
pub struct Job {
    /// The job's number, which no other job of its chatbot has.
    pub id: JobId,
    /// The source that waits.
    pub source: SourceKey,
    /// The host table that has the content; `None`: the job has it.
    pub host: Option<HostId>,
    /// The number of failed attempts.
    pub attempts: i32,
    /// The key that the source had before; `None`: the same.
    pub moved_from: Option<SourceKey>,
    /// The content of a source without a host table.
    pub content: Option<String>,
    /// The metadata of a source without a host table.
    pub metadata: Option<Jsonb>,
}

impl Job {
    /// The job's primary key.
    pub fn key(&self) -> JobKey {
        JobKey { chatbot_id: self.source.chatbot_id, id: self.id }
    }

    fn read(row: &SpiHeapTupleData) -> pgrx::spi::Result<Self> {
        let source = read_key(row)?;
        let (from_chatbot, from_source): (Option<ChatbotId>, Option<i64>) = (row.get(7)?, row.get(8)?);
        let moved_from = |(chatbot_id, source_id)| SourceKey { chatbot_id, source_id, ..source };
        Ok(Self {
            source,
            id: not_null(row.get(4))?,
            host: row.get(5)?,
            attempts: not_null(row.get(6))?,
            moved_from: from_chatbot.zip(from_source).map(moved_from),
            content: row.get(9)?,
            metadata: row.get(10)?,
        })
    }
}

/// A source for which a job is inserted, since its host row changed.
#[derive(Debug, Clone, Copy)]
pub struct ChangedSource {
    /// The source's key.
    pub key: SourceKey,
    /// The key that it had before; `None`: the same.
    pub before: Option<SourceKey>,
}

impl From<SourceKey> for ChangedSource {
    fn from(key: SourceKey) -> Self {
        Self { key, before: None }
    }
}

/// Inserts jobs for changed rows of a host table.
pub fn insert_changed(host: HostId, priority: i32, changed: &[ChangedSource]) -> Result<()> {
    let _scratch = Scratch::new();
    let sql = "INSERT INTO chatbot_sync.job (
            host, priority, chatbot_id, source_type, source_id, from_chatbot_id, from_source_id
        )
        SELECT $1, $2, n.*
        FROM unnest($3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
            AS n (chatbot_id, source_type, source_id, from_chatbot_id, from_source_id)";
    let keys: Vec<SourceKey> = changed.iter().map(|source| source.key).collect();
    let [chatbots, types, sources] = key_array_args(&keys);
    let args = [
        host.into(),
        priority.into(),
        chatbots,
        types,
        sources,
        changed.iter().map(|source| source.before.map(|key| key.chatbot_id)).collect::<Vec<_>>().into(),
        changed.iter().map(|source| source.before.map(|key| key.source_id)).collect::<Vec<_>>().into(),
    ];
    write(sql, &args).map(drop)
}

/// Inserts a job with the content of a source without a host table, and returns its id.
pub fn insert_content(key: &SourceKey, content: &str, metadata: &Jsonb, priority: i32) -> Result<JobId> {
    let sql = "INSERT INTO chatbot_sync.job (chatbot_id, source_type, source_id, content, metadata, priority)
        VALUES ($1, $2, $3, $4, $5, $6)
        RETURNING id";
    let args = key.args_and([content.into(), metadata.clone().into(), priority.into()]);
    run(sql, &args, StatementMode::Write, |rows| not_null(rows.first().get_one()))
}

/// Returns and locks all jobs of these sources that are due or failed, oldest first. Jobs that another session has
/// locked are skipped.
pub fn lock_jobs_of_sources(keys: &[SourceKey]) -> Result<Vec<Job>> {
    let sql = format!(
        "SELECT
            j.chatbot_id, j.source_type, j.source_id, j.id, j.host, j.attempts, j.from_chatbot_id, j.from_source_id,
            j.content, j.metadata
        FROM chatbot_sync.job j, {KEYS}
        WHERE {}
            AND (j.due_at <= pg_catalog.clock_timestamp() OR j.due_at = 'infinity')
        ORDER BY j.id
        FOR UPDATE OF j SKIP LOCKED",
        same_source("j", "k")
    );
    run(&sql, &key_array_args(keys), StatementMode::Write, |rows| rows.map(|row| Job::read(&row)).collect())
}

/// The jobs in the first two arguments, as the table `k`, and the condition that a job `j` is one of them.
const JOB_KEYS: &str = "unnest($1::bigint[], $2::bigint[]) AS k (chatbot_id, id)";
const IS_JOB: &str = "(j.chatbot_id, j.id) = (k.chatbot_id, k.id)";

fn job_args(jobs: &[JobKey]) -> [DatumWithOid<'static>; 2] {
    [
        jobs.iter().map(|job| job.chatbot_id).collect::<Vec<_>>().into(),
        jobs.iter().map(|job| job.id).collect::<Vec<_>>().into(),
    ]
}

/// Leases jobs for a time in which no other worker takes them.
pub fn lease(jobs: &[JobKey], lease: i64, time: Duration) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.job j
        SET lease = $3,
            leased_by = pg_catalog.pg_backend_pid(),
            due_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $4)
        FROM {JOB_KEYS}
        WHERE {IS_JOB}"
    );
    let [chatbots, ids] = job_args(jobs);
    write(&sql, &[chatbots, ids, lease.into(), time.as_secs_f64().into()]).map(drop)
}

/// Returns and locks those of the jobs that this lease still has.
pub fn lock_leased_jobs(jobs: &[JobKey], lease: i64) -> Result<Vec<JobKey>> {
    let sql = format!(
        "SELECT j.chatbot_id, j.id
        FROM chatbot_sync.job j, {JOB_KEYS}
        WHERE {IS_JOB}
            AND j.lease = $3
        FOR UPDATE OF j"
    );
    let [chatbots, ids] = job_args(jobs);
    run(&sql, &[chatbots, ids, lease.into()], StatementMode::Write, |rows| {
        rows.map(|row| Ok(JobKey { chatbot_id: not_null(row.get(1))?, id: not_null(row.get(2))? })).collect()
    })
}

/// Deletes jobs that are done.
pub fn delete(jobs: &[JobKey]) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "DELETE FROM chatbot_sync.job j
        USING {JOB_KEYS}
        WHERE {IS_JOB}"
    );
    write(&sql, &job_args(jobs)).map(drop)
}

/// Ends the lease of jobs, which are due again after `wait`; `None`: never, until they are retried.
pub fn release(jobs: &[JobKey], attempts: i32, wait: Option<Duration>) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.job j
        SET lease = NULL,
            leased_by = NULL,
            attempts = $3,
            due_at = COALESCE(pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $4), 'infinity')
        FROM {JOB_KEYS}
        WHERE {IS_JOB}"
    );
    let [chatbots, ids] = job_args(jobs);
    write(&sql, &[chatbots, ids, attempts.into(), wait.map(|w| w.as_secs_f64()).into()]).map(drop)
}

/// Makes those jobs due again that were leased by a backend that has ended, or by this session.
pub fn release_orphaned_leases() -> Result<()> {
    let sql = "UPDATE chatbot_sync.job
        SET lease = NULL,
            leased_by = NULL,
            due_at = pg_catalog.clock_timestamp()
        WHERE leased_by > 0
            AND (
                leased_by = pg_catalog.pg_backend_pid()
                OR NOT EXISTS (
                    SELECT FROM pg_catalog.pg_stat_get_activity(leased_by) AS a
                    WHERE a.datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                )
            )";
    write(sql, &[]).map(drop)
}

/// Marks synced sources pending that have a job and are not locked by another session. Does nothing with Citus, which would
/// commit on other nodes before this transaction is through.
pub fn mark_pending_if_queued(keys: &[SourceKey]) -> Result<()> {
    let _scratch = Scratch::new();
    let sql = "SELECT pg_catalog.to_regclass('pg_catalog.pg_dist_partition') IS NULL";
    if !run(sql, &[], StatementMode::ReadLatest, |rows| not_null::<bool>(rows.first().get_one()))? {
        return Ok(());
    }
    let sql = format!(
        "UPDATE chatbot_sync.source s
        SET status = 'pending'
        FROM (
            SELECT o.chatbot_id, o.source_type, o.source_id
            FROM chatbot_sync.source o, {KEYS}
            WHERE {is_key}
                AND o.status = 'synced'
                AND EXISTS (
                    SELECT FROM chatbot_sync.job j
                    WHERE j.due_at < 'infinity'
                        AND {has_job}
                )
            FOR NO KEY UPDATE OF o SKIP LOCKED
        ) AS w
        WHERE {is_locked}",
        is_key = same_source("o", "k"),
        has_job = same_source("j", "o"),
        is_locked = same_source("s", "w")
    );
    write(&sql, &key_array_args(keys)).map(drop)
}

/// Deletes the jobs of a source that is deleted. If one of them was to delete what is stored under an earlier key of the
/// source, that key gets a job of its own.
pub fn delete_of_source(key: &SourceKey) -> Result<()> {
    let sql = format!(
        "DELETE FROM chatbot_sync.job
        WHERE {IS_SOURCE}
        RETURNING host, from_chatbot_id, from_source_id"
    );
    let earlier_keys = run(&sql, &key.args(), StatementMode::Write, |rows| {
        let mut earlier_keys = Vec::new();
        for row in rows {
            let (host, chatbot, source): (Option<HostId>, Option<ChatbotId>, Option<i64>) =
                (row.get(1)?, row.get(2)?, row.get(3)?);
            if let (Some(host), Some(chatbot_id), Some(source_id)) = (host, chatbot, source) {
                earlier_keys.push((host, SourceKey { chatbot_id, source_id, ..*key }));
            }
        }
        Ok(earlier_keys)
    })?;
    for (host, earlier) in earlier_keys {
        wake::wake_at_commit();
        insert_changed(host, 1, &[earlier.into()])?;
    }
    Ok(())
}

/// Deletes the jobs with the content of a source, which newer content supersedes.
pub fn delete_content(key: &SourceKey) -> Result<()> {
    let sql = format!(
        "DELETE FROM chatbot_sync.job
        WHERE {IS_SOURCE}
            AND host IS NULL"
    );
    write(&sql, &key.args()).map(drop)
}
