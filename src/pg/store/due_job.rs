//! Jobs that are due: which of them come next.

use std::iter;
use std::time::Duration;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::SpiHeapTupleData;

use crate::error::Result;
use crate::ids::{ChatbotId, HostId, JobId};
use crate::pg::store::source_key::read_key;
use crate::pg::store::{StatementMode, not_null, run};
use crate::source::SourceKey;

/// The condition that a job is due. Both parts can use the index, so that neither later jobs nor failed ones are read.
const IS_DUE: &str = "due_at <= (SELECT pg_catalog.clock_timestamp())
            AND due_at < 'infinity'";

/// The condition that a job is not of one of the host tables in an argument.
fn is_not_excluded(argument: usize) -> String {
    format!("(host IS NULL OR host <> ALL (${argument}))")
}

/// A place in a chatbot's jobs of one priority.
#[derive(Debug, Clone, Copy)]
pub struct QueuePosition {
    due_at: TimestampWithTimeZone,
    id: JobId,
}

/// A job that is due, as far as it is read before it is claimed.
pub struct DueJob {
    /// The source that waits.
    pub source: SourceKey,
    /// The number of failed attempts.
    pub attempts: i32,
    /// Its place in its chatbot's jobs.
    pub position: QueuePosition,
}

/// Returns the highest priority of the jobs that are due, or the highest one below another, without the jobs of the
/// `excluded` host tables; `None` where no job is due.
pub fn top_priority(below: Option<i32>, excluded: &[HostId]) -> Result<Option<i32>> {
    let limit = if below.is_some() { "AND priority < $2" } else { "" };
    let sql = format!(
        "SELECT priority
        FROM chatbot_sync.job
        WHERE {IS_DUE}
            AND {} {limit}
        ORDER BY priority DESC
        LIMIT 1",
        is_not_excluded(1)
    );
    let args: Vec<DatumWithOid> = iter::once(excluded.to_vec().into()).chain(below.map(Into::into)).collect();
    run(&sql, &args, StatementMode::ReadLatest, |mut rows| rows.next().map(|row| not_null(row.get(1))).transpose())
}

/// Whether a job of a higher priority is due, without the jobs of the `excluded` host tables.
pub fn is_higher_due(priority: i32, excluded: &[HostId]) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (
            SELECT FROM chatbot_sync.job
            WHERE priority > $1
            AND {IS_DUE}
            AND {}
        )",
        is_not_excluded(2)
    );
    let args = [priority.into(), excluded.to_vec().into()];
    run(&sql, &args, StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}

/// Returns the next chatbot with a job of this priority that is due, up to the `last` one, without the jobs of the
/// `excluded` host tables.
pub fn next_chatbot(
    priority: i32,
    after: ChatbotId,
    last: Option<ChatbotId>,
    excluded: &[HostId],
) -> Result<Option<ChatbotId>> {
    let sql = format!(
        "SELECT chatbot_id
        FROM chatbot_sync.job
        WHERE priority = $1
            AND chatbot_id > $2
            AND chatbot_id <= $4
            AND {IS_DUE}
            AND {}
        ORDER BY chatbot_id
        LIMIT 1",
        is_not_excluded(3)
    );
    let last = last.unwrap_or(ChatbotId(i64::MAX));
    let args = [priority.into(), after.into(), excluded.to_vec().into(), last.into()];
    run(&sql, &args, StatementMode::ReadLatest, |mut rows| rows.next().map(|row| not_null(row.get(1))).transpose())
}

/// Returns and locks jobs of a chatbot that are due, oldest first, those beyond a position. Jobs that other sessions have
/// locked and those of the `excluded` host tables are skipped.
pub fn lock_due_jobs(
    chatbot_id: ChatbotId,
    priority: i32,
    beyond: Option<QueuePosition>,
    limit: i32,
    excluded: &[HostId],
) -> Result<Vec<DueJob>> {
    let position = if beyond.is_some() { "AND (due_at, id) > ($5, $6)" } else { "" };
    let sql = format!(
        "SELECT chatbot_id, source_type, source_id, attempts, due_at, id
        FROM chatbot_sync.job
        WHERE chatbot_id = $1
            AND priority = $2
            AND {IS_DUE}
            AND {} {position}
        ORDER BY due_at, id
        LIMIT $3
        FOR UPDATE SKIP LOCKED",
        is_not_excluded(4)
    );
    let mut args = vec![chatbot_id.into(), priority.into(), limit.into(), excluded.to_vec().into()];
    args.extend(beyond.into_iter().flat_map(|position| [position.due_at.into(), position.id.into()]));
    let due_job = |row: SpiHeapTupleData| {
        let position = QueuePosition { due_at: not_null(row.get(5))?, id: not_null(row.get(6))? };
        Ok(DueJob { source: read_key(&row)?, attempts: not_null(row.get(4))?, position })
    };
    run(&sql, &args, StatementMode::Write, |rows| rows.map(due_job).collect())
}

/// Returns the time until the next job is due, zero where one is; `None` where there is no job.
pub fn next_due() -> Result<Option<Duration>> {
    // NULL where there is no job, which GREATEST() would turn into 0.
    let sql = "SELECT pg_catalog.date_part('epoch', pg_catalog.min(due_at) - pg_catalog.clock_timestamp())
        FROM chatbot_sync.job
        WHERE due_at < 'infinity'";
    let seconds: Option<f64> = run(sql, &[], StatementMode::ReadLatest, |rows| rows.first().get_one())?;
    Ok(seconds.and_then(|s| Duration::try_from_secs_f64(s.max(0.0)).ok()))
}
