//! Jobs: sources that wait for a worker. A leased job is due when its lease ends; a job that failed for good is never due.

use std::iter;
use std::time::Duration;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::SpiHeapTupleData;

use crate::error::Result;
use crate::pg::runtime::memory::Scratch;
use crate::pg::runtime::wake;
use crate::pg::store::source::{BY_KEY, after_key, key, key_array_args, mark_retried};
use crate::pg::store::{StatementMode, not_null, run, write};
use crate::source::{Jsonb, SourceKey};

/// The number of sources that are retried together.
const SLICE: i32 = 1_000;

/// A job as a worker claims it.
#[derive(Debug, Clone)]
pub struct Job {
    /// The job's number, which no other job of its chatbot has.
    pub id: i64,
    /// The source that waits.
    pub key: SourceKey,
    /// The host table that has the content; `None`: the job has it.
    pub host: Option<i32>,
    /// The number of failed attempts.
    pub attempts: i32,
    /// The (chatbot id, source id) that the source had before; `None`: the same.
    pub from: Option<(i64, i64)>,
    /// The content of a source without a host table.
    pub content: Option<String>,
    /// The metadata of a source without a host table.
    pub metadata: Option<Jsonb>,
}

const COLUMNS: &str =
    "chatbot_id, source_type, source_id, id, host, attempts, from_chatbot_id, from_source_id, content, metadata";

fn job(row: &pgrx::spi::SpiHeapTupleData) -> pgrx::spi::Result<Job> {
    let from: (Option<i64>, Option<i64>) = (row.get(7)?, row.get(8)?);
    Ok(Job {
        key: key(row)?,
        id: not_null(row.get(4))?,
        host: row.get(5)?,
        attempts: not_null(row.get(6))?,
        from: from.0.zip(from.1),
        content: row.get(9)?,
        metadata: row.get(10)?,
    })
}

/// Inserts jobs for changed rows of a host table, each given as (source, the source that it was before).
pub fn insert_changed(host: i32, priority: i32, changed: &[(SourceKey, Option<SourceKey>)]) -> Result<()> {
    let _scratch = Scratch::new();
    let sql = "INSERT INTO chatbot_sync.job
            (host, priority, chatbot_id, source_type, source_id, from_chatbot_id, from_source_id)
        SELECT $1, $2, n.* FROM unnest($3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[]) AS n";
    let keys: Vec<SourceKey> = changed.iter().map(|(key, _)| *key).collect();
    let [chatbots, types, sources] = key_array_args(&keys);
    let args = [
        host.into(),
        priority.into(),
        chatbots,
        types,
        sources,
        changed.iter().map(|(_, from)| from.map(|k| k.chatbot_id)).collect::<Vec<_>>().into(),
        changed.iter().map(|(_, from)| from.map(|k| k.source_id)).collect::<Vec<_>>().into(),
    ];
    write(sql, &args).map(drop)
}

/// Inserts a job with the content of a source without a host table, and returns its id.
pub fn insert_content(key: &SourceKey, content: &str, metadata: &Jsonb, priority: i32) -> Result<i64> {
    let sql = "INSERT INTO chatbot_sync.job (chatbot_id, source_type, source_id, content, metadata, priority)
        VALUES ($1, $2, $3, $4, $5, $6) RETURNING id";
    let args: Vec<DatumWithOid> =
        key_args(key).into_iter().chain([content.into(), metadata.clone().into(), priority.into()]).collect();
    run(sql, &args, StatementMode::Write, |rows| not_null(rows.first().get_one()))
}

fn key_args(key: &SourceKey) -> Vec<DatumWithOid<'static>> {
    vec![key.chatbot_id.into(), key.source_type.into(), key.source_id.into()]
}

/// The condition that a job is due. Both parts can use the index, so that neither later jobs nor failed ones are read.
const DUE: &str = "due_at <= (SELECT pg_catalog.clock_timestamp()) AND due_at < 'infinity'";

/// A place in a chatbot's jobs of one priority: when a job is due, and its id.
#[derive(Debug, Clone, Copy)]
pub struct Position(TimestampWithTimeZone, i64);

/// A job that is due, as far as it is looked at before it is claimed.
pub struct DueJob {
    /// The source that waits.
    pub key: SourceKey,
    /// The number of failed attempts.
    pub attempts: i32,
    /// Its place in its chatbot's jobs.
    pub position: Position,
}

/// The highest priority of the jobs that are due, or the highest one below another, without the jobs of the `excluded` host
/// tables.
pub fn top_priority(below: Option<i32>, excluded: &[i32]) -> Result<Option<i32>> {
    let limit = if below.is_some() { "AND priority < $2" } else { "" };
    let sql = format!(
        "SELECT priority FROM chatbot_sync.job WHERE {DUE} AND (host IS NULL OR host <> ALL ($1)) {limit}
        ORDER BY priority DESC LIMIT 1"
    );
    let args: Vec<DatumWithOid> = iter::once(excluded.to_vec().into()).chain(below.map(Into::into)).collect();
    run(&sql, &args, StatementMode::ReadLatest, |mut rows| rows.next().map(|row| not_null(row.get(1))).transpose())
}

/// Whether a job of a higher priority is due, without the jobs of the `excluded` host tables.
pub fn is_higher_due(priority: i32, excluded: &[i32]) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM chatbot_sync.job
            WHERE priority > $1 AND {DUE} AND (host IS NULL OR host <> ALL ($2)))"
    );
    run(&sql, &[priority.into(), excluded.to_vec().into()], StatementMode::ReadLatest, |rows| {
        not_null(rows.first().get_one())
    })
}

/// The next chatbot with a job of this priority that is due, up to the `last` one, without the jobs of the `excluded` host
/// tables.
pub fn next_chatbot(priority: i32, after: i64, last: Option<i64>, excluded: &[i32]) -> Result<Option<i64>> {
    let sql = format!(
        "SELECT chatbot_id FROM chatbot_sync.job
        WHERE priority = $1 AND chatbot_id > $2 AND chatbot_id <= $4 AND {DUE} AND (host IS NULL OR host <> ALL ($3))
        ORDER BY chatbot_id LIMIT 1"
    );
    let args = [priority.into(), after.into(), excluded.to_vec().into(), last.unwrap_or(i64::MAX).into()];
    run(&sql, &args, StatementMode::ReadLatest, |mut rows| rows.next().map(|row| not_null(row.get(1))).transpose())
}

/// Jobs of a chatbot that are due, oldest first, those beyond a position, locked; those that other sessions have locked and
/// those of the `excluded` host tables are left out.
pub fn lock_due_jobs(
    chatbot_id: i64,
    priority: i32,
    beyond: Option<Position>,
    limit: i32,
    excluded: &[i32],
) -> Result<Vec<DueJob>> {
    let position = if beyond.is_some() { "AND (due_at, id) > ($5, $6)" } else { "" };
    let sql = format!(
        "SELECT chatbot_id, source_type, source_id, attempts, due_at, id FROM chatbot_sync.job
        WHERE chatbot_id = $1 AND priority = $2 {position} AND {DUE} AND (host IS NULL OR host <> ALL ($4))
        ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED"
    );
    let mut args = vec![chatbot_id.into(), priority.into(), limit.into(), excluded.to_vec().into()];
    if let Some(Position(due_at, id)) = beyond {
        args.extend([due_at.into(), id.into()]);
    }
    let due = |row: SpiHeapTupleData| {
        let position = Position(not_null(row.get(5))?, not_null(row.get(6))?);
        Ok(DueJob { key: key(&row)?, attempts: not_null(row.get(4))?, position })
    };
    run(&sql, &args, StatementMode::Write, |rows| rows.map(due).collect())
}

/// Returns and locks all jobs of these sources that are due or failed, oldest first. Jobs that another session has locked
/// are skipped.
pub fn lock_jobs_of_sources(keys: &[SourceKey]) -> Result<Vec<Job>> {
    let columns: Vec<String> = COLUMNS.split(", ").map(|c| format!("j.{}", c.trim())).collect();
    let sql = format!(
        "SELECT {} FROM chatbot_sync.job j,
            {THESE_SOURCES}
            AND (j.due_at <= pg_catalog.clock_timestamp() OR j.due_at = 'infinity')
        ORDER BY j.id FOR UPDATE OF j SKIP LOCKED",
        columns.join(", ")
    );
    run(&sql, &key_array_args(keys), StatementMode::Write, |rows| rows.map(|row| job(&row)).collect())
}

type JobIds<'a> = &'a [(i64, i64)];

fn id_args(ids: JobIds) -> [DatumWithOid<'static>; 2] {
    [ids.iter().map(|id| id.0).collect::<Vec<_>>().into(), ids.iter().map(|id| id.1).collect::<Vec<_>>().into()]
}

const THESE: &str = "unnest($1::bigint[], $2::bigint[]) AS k (chatbot_id, id)
    WHERE (j.chatbot_id, j.id) = (k.chatbot_id, k.id)";

/// Leases jobs, given as (chatbot id, job id), for a time in which no other worker takes them.
pub fn lease(ids: JobIds, lease: i64, time: Duration) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.job j SET lease = $3, leased_by = pg_catalog.pg_backend_pid(),
            due_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $4) FROM {THESE}"
    );
    let [chatbots, ids] = id_args(ids);
    write(&sql, &[chatbots, ids, lease.into(), time.as_secs_f64().into()]).map(drop)
}

/// Returns and locks those of the jobs that this lease still has.
pub fn still_leased(ids: JobIds, lease: i64) -> Result<Vec<(i64, i64)>> {
    let sql = format!("SELECT j.chatbot_id, j.id FROM chatbot_sync.job j, {THESE} AND j.lease = $3 FOR UPDATE OF j");
    let [chatbots, ids] = id_args(ids);
    run(&sql, &[chatbots, ids, lease.into()], StatementMode::Write, |rows| {
        rows.map(|row| Ok((not_null(row.get(1))?, not_null(row.get(2))?))).collect()
    })
}

/// Deletes jobs that are done.
pub fn delete(ids: JobIds) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    write(&format!("DELETE FROM chatbot_sync.job j USING {THESE}"), &id_args(ids)).map(drop)
}

/// Ends the lease of jobs, which are due again after `wait`; `None`: never, until they are retried.
pub fn release(ids: JobIds, attempts: i32, wait: Option<Duration>) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.job j SET lease = NULL, leased_by = NULL, attempts = $3,
            due_at = COALESCE(pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $4), 'infinity') FROM {THESE}"
    );
    let [chatbots, ids] = id_args(ids);
    write(&sql, &[chatbots, ids, attempts.into(), wait.map(|w| w.as_secs_f64()).into()]).map(drop)
}

/// Makes those jobs due again that were leased by a backend that has ended, or by this session.
pub fn release_orphaned_leases() -> Result<()> {
    let sql = "UPDATE chatbot_sync.job SET lease = NULL, leased_by = NULL, due_at = pg_catalog.clock_timestamp()
        WHERE leased_by > 0 AND (leased_by = pg_catalog.pg_backend_pid() OR NOT EXISTS (
            SELECT FROM pg_catalog.pg_stat_get_activity(leased_by) AS a
            WHERE a.datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())))";
    write(sql, &[]).map(drop)
}

const THESE_SOURCES: &str = "unnest($1::bigint[], $2::text[], $3::bigint[]) AS k (chatbot_id, source_type, source_id)
    WHERE (j.chatbot_id, j.source_type, j.source_id) = (k.chatbot_id, k.source_type, k.source_id)";

/// Marks synced sources pending that have a job and are not locked by another session. Does nothing with Citus, which would
/// commit on other nodes before this transaction is through.
pub fn mark_pending_if_queued(keys: &[SourceKey]) -> Result<()> {
    let _scratch = Scratch::new();
    let sql = "SELECT pg_catalog.to_regclass('pg_catalog.pg_dist_partition') IS NULL";
    if !run(sql, &[], StatementMode::ReadLatest, |rows| not_null::<bool>(rows.first().get_one()))? {
        return Ok(());
    }
    let sql = format!(
        "UPDATE chatbot_sync.source s SET status = 'pending' FROM (
            SELECT j.chatbot_id, j.source_type, j.source_id FROM chatbot_sync.source j, {THESE_SOURCES}
                AND j.status = 'synced' AND EXISTS (SELECT FROM chatbot_sync.job q WHERE q.due_at < 'infinity'
                    AND (q.chatbot_id, q.source_type, q.source_id) = (j.chatbot_id, j.source_type, j.source_id))
                FOR NO KEY UPDATE OF j SKIP LOCKED) AS w
        WHERE (s.chatbot_id, s.source_type, s.source_id) = (w.chatbot_id, w.source_type, w.source_id)"
    );
    write(&sql, &key_array_args(keys)).map(drop)
}

/// Deletes the jobs of a source that is deleted. If one of them was to delete what is stored under an earlier key of the
/// source, that key gets a job of its own.
pub fn delete_of_source(key: &SourceKey) -> Result<()> {
    let sql = "DELETE FROM chatbot_sync.job WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3
        RETURNING host, from_chatbot_id, from_source_id";
    let before = run(sql, &key_args(key), StatementMode::Write, |rows| {
        let mut before = Vec::new();
        for row in rows {
            let (host, chatbot, source): (Option<i32>, Option<i64>, Option<i64>) =
                (row.get(1)?, row.get(2)?, row.get(3)?);
            if let (Some(host), Some(chatbot_id), Some(source_id)) = (host, chatbot, source) {
                before.push((host, SourceKey { chatbot_id, source_id, ..*key }));
            }
        }
        Ok(before)
    })?;
    for (host, from) in before {
        wake::wake_at_commit();
        insert_changed(host, 1, &[(from, None)])?;
    }
    Ok(())
}

/// Deletes the jobs with the content of a source, which newer content supersedes.
pub fn delete_content(key: &SourceKey) -> Result<()> {
    let sql = "DELETE FROM chatbot_sync.job
        WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3 AND host IS NULL";
    write(sql, &key_args(key)).map(drop)
}

/// Returns the time until the next job is due, zero where one is; `None` where there is no job.
pub fn next_due() -> Result<Option<Duration>> {
    // NULL where there is no job, which GREATEST() would turn into 0.
    let sql = "SELECT pg_catalog.date_part('epoch', pg_catalog.min(due_at) - pg_catalog.clock_timestamp())
        FROM chatbot_sync.job WHERE due_at < 'infinity'";
    let seconds: Option<f64> = run(sql, &[], StatementMode::ReadLatest, |rows| rows.first().get_one())?;
    Ok(seconds.and_then(|s| Duration::try_from_secs_f64(s.max(0.0)).ok()))
}

/// Makes sources in error pending again, and returns how many. Left out are those whose content is stored nowhere: their
/// callers have to embed them again.
pub fn retry(chatbot_id: Option<i64>, source_type: Option<&str>, source_id: Option<i64>) -> Result<i64> {
    let mut retried = 0;
    let mut after = None;
    loop {
        let mut conditions = String::new();
        let mut args: Vec<DatumWithOid> = vec![SLICE.into()];
        let wanted: [(&str, Option<DatumWithOid>); 3] = [
            ("chatbot_id", chatbot_id.map(Into::into)),
            ("source_type", source_type.map(|word| word.to_owned().into())),
            ("source_id", source_id.map(Into::into)),
        ];
        for (column, value) in wanted {
            if let Some(value) = value {
                args.push(value);
                conditions += &format!(" AND {column} = ${}", args.len());
            }
        }
        let (beyond, key_args) = after_key(after, args.len() + 1);
        args.extend(key_args);
        let sql = format!(
            "SELECT chatbot_id, source_type, source_id, host FROM chatbot_sync.source
            WHERE status = 'error'{conditions}{beyond} {BY_KEY} $1"
        );
        let failed: Vec<(SourceKey, Option<i32>)> = run(&sql, &args, StatementMode::ReadLatest, |rows| {
            rows.map(|row| Ok((key(&row)?, row.get(4)?))).collect()
        })?;
        let Some((last, _)) = failed.last() else { return Ok(retried) };
        after = Some(*last);
        retried += retry_sources(failed)?;
    }
}

fn retry_sources(failed: Vec<(SourceKey, Option<i32>)>) -> Result<i64> {
    let _scratch = Scratch::new();
    let (keys, hosts): (Vec<SourceKey>, Vec<Option<i32>>) = failed.into_iter().unzip();
    let sql = format!(
        "UPDATE chatbot_sync.job j SET due_at = pg_catalog.clock_timestamp(), attempts = 0 FROM {THESE_SOURCES}
            AND j.due_at = 'infinity'"
    );
    write(&sql, &key_array_args(&keys))?;
    let sql = "INSERT INTO chatbot_sync.job (chatbot_id, source_type, source_id, host)
        SELECT chatbot_id, source_type, source_id, host FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::int[])
            AS k (chatbot_id, source_type, source_id, host)
        WHERE host IS NOT NULL AND NOT EXISTS (SELECT FROM chatbot_sync.job j
            WHERE (j.chatbot_id, j.source_type, j.source_id) = (k.chatbot_id, k.source_type, k.source_id))";
    let args: Vec<DatumWithOid> = key_array_args(&keys).into_iter().chain([hosts.into()]).collect();
    write(sql, &args)?;
    let sql = format!("SELECT DISTINCT k.* FROM chatbot_sync.job j, {THESE_SOURCES}");
    let waiting: Vec<SourceKey> =
        run(&sql, &key_array_args(&keys), StatementMode::Write, |rows| rows.map(|row| key(&row)).collect())?;
    mark_retried(&waiting)
}
