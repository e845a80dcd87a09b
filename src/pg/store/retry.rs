//! Makes sources in error pending again.

use pgrx::datum::DatumWithOid;

use crate::error::Result;
use crate::ids::{ChatbotId, HostId};
use crate::pg::runtime::memory::Scratch;
use crate::pg::store::source::mark_retried;
use crate::pg::store::source_key::{KEYS, ORDER_BY_KEY, after_key, key_array_args, read_key, same_source};
use crate::pg::store::{StatementMode, run, write};
use crate::source::{SourceKey, SourceType};

/// The number of sources that are retried together.
const SLICE: i32 = 1_000;

/// A source in error, with the host table that it comes from; `None`: it comes from no table.
struct FailedSource {
    key: SourceKey,
    host: Option<HostId>,
}

/// Makes sources in error pending again, and returns how many; a `None` matches every source. Sources whose content is
/// stored nowhere stay in error: their callers have to embed them again.
pub fn retry_failed_sources(
    chatbot_id: Option<ChatbotId>,
    source_type: Option<SourceType>,
    source_id: Option<i64>,
) -> Result<i64> {
    let mut retried = 0;
    let mut after = None;
    loop {
        let mut conditions = String::new();
        let mut args: Vec<DatumWithOid> = vec![SLICE.into()];
        let wanted: [(&str, Option<DatumWithOid>); 3] = [
            ("chatbot_id", chatbot_id.map(Into::into)),
            ("source_type", source_type.map(Into::into)),
            ("source_id", source_id.map(Into::into)),
        ];
        for (column, value) in wanted {
            if let Some(value) = value {
                args.push(value);
                conditions += &format!("AND {column} = ${} ", args.len());
            }
        }
        let (beyond, key_args) = after_key(after, args.len() + 1);
        args.extend(key_args);
        let sql = format!(
            "SELECT chatbot_id, source_type, source_id, host
            FROM chatbot_sync.source
            WHERE status = 'error' {conditions}{beyond}
            {ORDER_BY_KEY}
            LIMIT $1"
        );
        let failed: Vec<FailedSource> = run(&sql, &args, StatementMode::ReadLatest, |rows| {
            rows.map(|row| Ok(FailedSource { key: read_key(&row)?, host: row.get(4)? })).collect()
        })?;
        let Some(last) = failed.last() else { return Ok(retried) };
        after = Some(last.key);
        retried += retry_sources(&failed)?;
    }
}

fn retry_sources(failed: &[FailedSource]) -> Result<i64> {
    let _scratch = Scratch::new();
    let keys: Vec<SourceKey> = failed.iter().map(|source| source.key).collect();
    let hosts: Vec<Option<HostId>> = failed.iter().map(|source| source.host).collect();
    let is_job_of_key = same_source("j", "k");
    let sql = format!(
        "UPDATE chatbot_sync.job j
        SET due_at = pg_catalog.clock_timestamp(),
            attempts = 0
        FROM {KEYS}
        WHERE {is_job_of_key}
            AND j.due_at = 'infinity'"
    );
    write(&sql, &key_array_args(&keys))?;
    let sql = format!(
        "INSERT INTO chatbot_sync.job (chatbot_id, source_type, source_id, host)
        SELECT k.chatbot_id, k.source_type, k.source_id, k.host
        FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::int[]) AS k (chatbot_id, source_type, source_id, host)
        WHERE k.host IS NOT NULL
            AND NOT EXISTS (SELECT FROM chatbot_sync.job j WHERE {is_job_of_key})"
    );
    let args: Vec<DatumWithOid> = key_array_args(&keys).into_iter().chain([hosts.into()]).collect();
    write(&sql, &args)?;
    let sql = format!(
        "SELECT DISTINCT k.chatbot_id, k.source_type, k.source_id
        FROM chatbot_sync.job j, {KEYS}
        WHERE {is_job_of_key}"
    );
    let queued: Vec<SourceKey> =
        run(&sql, &key_array_args(&keys), StatementMode::Write, |rows| rows.map(|row| read_key(&row)).collect())?;
    mark_retried(&queued)
}
