//! The log of syncs: a row for each sync of a source, until it is past its retention.

use std::cell::Cell;
use std::time::Duration;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};

use crate::embedding::batch::Usage;
use crate::error::Result;
use crate::ids::{ChatbotId, ModelId};
use crate::pg::runtime::settings;
use crate::pg::store::{StatementMode, not_null, run, write};
use crate::source::SourceKey;

/// A row of `chatbot_sync.sync_log`: what the sync of one source took.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// The source that was synced.
    pub key: SourceKey,
    /// The model that embedded it.
    pub model_id: ModelId,
    /// The SQLSTATE that the sync failed with; `None`: it succeeded.
    pub error_code: Option<String>,
    /// The number of chunks that the source has.
    pub chunks: i32,
    /// The number of them that were embedded.
    pub embedded: i32,
    /// Requests, inputs and tokens that were used.
    pub usage: Usage,
    /// Time for chunking the text and comparing the chunks with those that are stored.
    pub chunking: Duration,
    /// Time until the source's last vector had arrived.
    pub embedding: Duration,
    /// Time for storing the source, and those that were stored together with it.
    pub storing: Duration,
    /// Time from the beginning to the end of the sync.
    pub total: Duration,
}

impl LogEntry {
    /// The entry of a sync that failed with this SQLSTATE.
    pub fn failed(key: SourceKey, model_id: ModelId, error_code: String) -> Self {
        let (usage, zero) = (Usage::default(), Duration::ZERO);
        let error_code = Some(error_code);
        Self {
            key,
            model_id,
            error_code,
            chunks: 0,
            embedded: 0,
            usage,
            chunking: zero,
            embedding: zero,
            storing: zero,
            total: zero,
        }
    }
}

/// Inserts rows, unless chatbot_sync.log_retention is 0.
pub fn insert(entries: &[LogEntry]) -> Result<()> {
    if entries.is_empty() || settings::log_retention() == Some(Duration::ZERO) {
        return Ok(());
    }
    fn all<T>(entries: &[LogEntry], of: impl Fn(&LogEntry) -> T) -> Vec<T> {
        entries.iter().map(of).collect()
    }
    let sql = "INSERT INTO chatbot_sync.sync_log (
            chatbot_id, source_type, source_id, model_id, error_code, chunks, embedded, requests, inputs, tokens,
            chunking_ms, embedding_ms, storing_ms, total_ms
        )
        SELECT n.*
        FROM unnest(
            $1::bigint[], $2::text[], $3::bigint[], $4::int[], $5::text[], $6::int[], $7::int[], $8::bigint[],
            $9::bigint[], $10::bigint[], $11::float8[], $12::float8[], $13::float8[], $14::float8[]
        ) AS n";
    let bigint = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let args = [
        all(entries, |e| e.key.chatbot_id).into(),
        all(entries, |e| e.key.source_type).into(),
        all(entries, |e| e.key.source_id).into(),
        all(entries, |e| e.model_id).into(),
        all(entries, |e| e.error_code.clone()).into(),
        all(entries, |e| e.chunks).into(),
        all(entries, |e| e.embedded).into(),
        all(entries, |e| bigint(e.usage.requests)).into(),
        all(entries, |e| bigint(e.usage.inputs)).into(),
        all(entries, |e| bigint(e.usage.tokens)).into(),
        all(entries, |e| milliseconds(e.chunking)).into(),
        all(entries, |e| milliseconds(e.embedding)).into(),
        all(entries, |e| milliseconds(e.storing)).into(),
        all(entries, |e| milliseconds(e.total)).into(),
    ];
    write(sql, &args).map(drop)
}

/// The columns of sync_total.
const TOTAL_COLUMNS: &str =
    "model_id, error_code, syncs, chunks, embedded, requests, inputs, tokens, chunking_ms, embedding_ms, storing_ms";

/// The end of a WITH query that adds the deleted rows of sync_log, named `deleted`, to sync_total. `syncs` is the expression
/// for their number.
fn add_to_totals_sql(syncs: &str) -> String {
    format!(
        "INSERT INTO chatbot_sync.sync_total (
            {TOTAL_COLUMNS}
        )
        SELECT
            model_id, error_code, {syncs}, sum(chunks), sum(embedded), sum(requests), sum(inputs), sum(tokens),
            sum(chunking_ms), sum(embedding_ms), sum(storing_ms)
        FROM deleted
        GROUP BY model_id, error_code"
    )
}

/// Deletes the rows of a chatbot, after adding them to sync_total.
pub fn delete_of_chatbot(chatbot_id: ChatbotId) -> Result<()> {
    let sql = format!(
        "WITH deleted AS (
            DELETE FROM chatbot_sync.sync_log
            WHERE chatbot_id = $1
            RETURNING *
        )
        {}",
        add_to_totals_sql("count(*)")
    );
    write(&sql, &[chatbot_id.into()]).map(drop)
}

/// Deletes at most `most` rows that are past their retention, adds them to sync_total, and returns how many they were. Rows
/// that another session has locked are skipped. A slice begins where the one before ended, and the first one at the oldest
/// row: rows that earlier slices deleted stay in the index while a session holds an older snapshot.
pub fn purge(most: i32) -> Result<i32> {
    thread_local!(static PURGED_UNTIL: Cell<Option<TimestampWithTimeZone>> = const { Cell::new(None) });
    let Some(retention) = settings::log_retention() else { return Ok(0) };
    let after = PURGED_UNTIL.take();
    let beyond = if after.is_some() { "AND logged_at >= $3" } else { "" };
    let sql = format!(
        "WITH old AS (
            SELECT chatbot_id, id, logged_at
            FROM chatbot_sync.sync_log
            WHERE logged_at < pg_catalog.now() - pg_catalog.make_interval(secs => $1) {beyond}
            ORDER BY logged_at
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ), deleted AS (
            DELETE FROM chatbot_sync.sync_log l
            USING old
            WHERE (l.chatbot_id, l.id) = (old.chatbot_id, old.id)
            RETURNING l.*
        ), added AS (
            {}
        )
        SELECT count(*)::int, max(logged_at)
        FROM deleted",
        add_to_totals_sql("count(*)")
    );
    let args: Vec<DatumWithOid> =
        [retention.as_secs_f64().into(), most.into()].into_iter().chain(after.map(Into::into)).collect();
    let (deleted, last): (i32, Option<TimestampWithTimeZone>) = run(&sql, &args, StatementMode::Write, |rows| {
        let rows = rows.first();
        Ok((not_null(rows.get(1))?, rows.get(2)?))
    })?;
    PURGED_UNTIL.set(last.filter(|_| deleted == most));
    if deleted > 0 {
        merge_totals()?;
    }
    Ok(deleted)
}

/// Merges the rows of sync_total into one for each model and SQLSTATE, once there are more than 1,000.
fn merge_totals() -> Result<()> {
    let sql = format!(
        "WITH many AS (
            SELECT id
            FROM chatbot_sync.sync_total
            WHERE (SELECT count(*) FROM chatbot_sync.sync_total) > 1000
            FOR UPDATE SKIP LOCKED
        ), deleted AS (
            DELETE FROM chatbot_sync.sync_total t
            USING many
            WHERE t.id = many.id
            RETURNING t.*
        )
        {}",
        add_to_totals_sql("sum(syncs)")
    );
    write(&sql, &[]).map(drop)
}
