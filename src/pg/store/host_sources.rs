//! Statements on all sources of a host table.

use std::collections::{HashMap, HashSet};

use pgrx::datum::DatumWithOid;

use crate::error::Result;
use crate::ids::{ChatbotId, HostId};
use crate::pg::runtime::memory::Scratch;
use crate::pg::store::host_row::RowToRegister;
use crate::pg::store::source_key::{
    KEYS, ORDER_BY_KEY, after_key, by_chatbot, key_array_args, read_key, same_source, write_by_chatbot,
};
use crate::pg::store::{StatementMode, not_null, run, write};
use crate::source::{SourceKey, SourceType};

/// The rows of [`row_args`], as the table `n`.
const ROWS: &str = "unnest($3::bigint[], $4::bigint[], $5::boolean[]) AS n (source_id, chatbot_id, enabled)";

/// The arguments for rows of a host table that are registered: kind of source, host table, and an array for each column.
fn row_args(source_type: SourceType, host: HostId, rows: &[RowToRegister]) -> [DatumWithOid<'static>; 5] {
    [
        source_type.into(),
        host.into(),
        rows.iter().map(|row| row.source_id).collect::<Vec<_>>().into(),
        rows.iter().map(|row| row.chatbot_id).collect::<Vec<_>>().into(),
        rows.iter().map(|row| row.enabled).collect::<Vec<_>>().into(),
    ]
}

/// Registers rows of a host table as pending sources. Returns how many are new, or were not this table's. Sources that are
/// this table's already are not even locked.
pub fn register_pending(source_type: SourceType, host: HostId, mut rows: Vec<RowToRegister>) -> Result<i64> {
    let _scratch = Scratch::new();
    let key = |row: &RowToRegister| SourceKey { chatbot_id: row.chatbot_id, source_type, source_id: row.source_id };
    let known = hosts_of(&rows.iter().map(key).collect::<Vec<_>>())?;
    rows.retain(|row| known.get(&key(row)).is_none_or(|of| *of != Some(host)));
    if rows.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "INSERT INTO chatbot_sync.source AS s (chatbot_id, source_type, source_id, host, enabled, status)
        SELECT n.chatbot_id, $1, n.source_id, $2, n.enabled, 'pending'
        FROM {ROWS}
        ON CONFLICT (chatbot_id, source_type, source_id) DO UPDATE
        SET host = EXCLUDED.host,
            status = 'pending',
            enabled = EXCLUDED.enabled
        WHERE s.host IS DISTINCT FROM EXCLUDED.host"
    );
    let enable_chunks = format!(
        "UPDATE chatbot_sync.embedding e
        SET enabled = s.enabled
        FROM chatbot_sync.source s, {KEYS}
        WHERE {is_key}
            AND {is_chunk}
            AND s.chatbot_id = $4
            AND e.enabled <> s.enabled",
        is_key = same_source("s", "k"),
        is_chunk = same_source("e", "s")
    );
    let new = write(&sql, &row_args(source_type, host, &rows))?;
    write_by_chatbot(&enable_chunks, &rows.iter().map(key).filter(|key| known.contains_key(key)).collect::<Vec<_>>())?;
    Ok(new)
}

/// Returns those of the sources that exist, each with its host table; `None`: it has none.
fn hosts_of(keys: &[SourceKey]) -> Result<HashMap<SourceKey, Option<HostId>>> {
    let sql = format!(
        "SELECT s.chatbot_id, s.source_type, s.source_id, s.host
        FROM chatbot_sync.source s, {KEYS}
        WHERE {}",
        same_source("s", "k")
    );
    run(&sql, &key_array_args(keys), StatementMode::ReadLatest, |rows| {
        rows.map(|row| Ok((read_key(&row)?, row.get(4)?))).collect()
    })
}

/// Inserts pending sources for new rows of a host table. Existing sources are not touched: a worker may have locked one, to
/// delete what an earlier row with the same key left.
pub fn insert_new_pending(source_type: SourceType, host: HostId, rows: &[RowToRegister]) -> Result<()> {
    let _scratch = Scratch::new();
    let known = "SELECT source_id
        FROM chatbot_sync.source
        WHERE chatbot_id = $1
            AND source_type = $2
            AND source_id = ANY ($3)";
    let insert = format!(
        "INSERT INTO chatbot_sync.source (chatbot_id, source_type, source_id, host, enabled, status)
        SELECT n.chatbot_id, $1, n.source_id, $2, n.enabled, 'pending'
        FROM {ROWS}
        ON CONFLICT DO NOTHING"
    );
    for (chatbot_id, mut rows) in by_chatbot(rows.iter().copied(), |row| row.chatbot_id) {
        let ids: Vec<i64> = rows.iter().map(|row| row.source_id).collect();
        let args = [chatbot_id.into(), source_type.into(), ids.into()];
        let known: HashSet<i64> =
            run(known, &args, StatementMode::ReadLatest, |rows| rows.map(|row| not_null(row.get(1))).collect())?;
        rows.retain(|row| !known.contains(&row.source_id));
        if !rows.is_empty() {
            write(&insert, &row_args(source_type, host, &rows))?;
        }
    }
    Ok(())
}

/// A source of a host table that is pending or in error.
pub struct UnsyncedSource {
    /// The source's key.
    pub key: SourceKey,
    /// The host table that has its content.
    pub host: HostId,
}

/// Returns sources of host tables that are pending or in error and that searches are to find, in the order of their keys.
pub fn unsynced_sources(
    chatbot_id: Option<ChatbotId>,
    after: Option<SourceKey>,
    limit: i32,
) -> Result<Vec<UnsyncedSource>> {
    let mut args = vec![limit.into()];
    let of_chatbot = if chatbot_id.is_some() { "AND chatbot_id = $2" } else { "" };
    args.extend(chatbot_id.map(DatumWithOid::from));
    let (beyond, key_args) = after_key(after, args.len() + 1);
    args.extend(key_args);
    let sql = format!(
        "SELECT chatbot_id, source_type, source_id, host
        FROM chatbot_sync.source
        WHERE status <> 'synced'
            AND enabled
            AND host IS NOT NULL {of_chatbot} {beyond}
        {ORDER_BY_KEY}
        LIMIT $1"
    );
    run(&sql, &args, StatementMode::ReadLatest, |rows| {
        rows.map(|row| Ok(UnsyncedSource { key: read_key(&row)?, host: not_null(row.get(4))? })).collect()
    })
}

/// Deletes all sources of a host table, with their vectors.
pub fn delete_host(host: HostId) -> Result<()> {
    let sql = format!(
        "DELETE FROM chatbot_sync.embedding e
        USING chatbot_sync.source s
        WHERE s.host = $1
            AND {}",
        same_source("e", "s")
    );
    write(&sql, &[host.into()])?;
    write("DELETE FROM chatbot_sync.source WHERE host = $1", &[host.into()]).map(drop)
}

/// Keeps the sources of a host table, which belong to no table afterwards, and returns how many of them were pending.
/// Nothing will embed those any more: one with vectors is synced, with the text that they were made from; one that never
/// had any is deleted; one whose vectors are known to be outdated is in error.
pub fn release_host(host: HostId) -> Result<i64> {
    let never_embedded = "DELETE FROM chatbot_sync.source
        WHERE host = $1
            AND status = 'pending'
            AND content_hash IS NULL
            AND chunk_count = 0";
    let pending = "UPDATE chatbot_sync.source
        SET host = NULL,
            attempts = 0,
            next_attempt_at = NULL,
            status = CASE WHEN content_hash IS NULL THEN 'error' ELSE 'synced' END,
            error_code = CASE
                WHEN content_hash IS NULL THEN '55000'
                WHEN error_code = '01000' THEN error_code
            END,
            error = CASE
                WHEN content_hash IS NULL THEN 'its table was detached before it was embedded. Embed it again.'
                WHEN error_code = '01000' THEN error
            END
        WHERE host = $1
            AND status = 'pending'";
    let released = write(never_embedded, &[host.into()])? + write(pending, &[host.into()])?;
    write("UPDATE chatbot_sync.source SET host = NULL WHERE host = $1", &[host.into()])?;
    Ok(released)
}

/// Returns the next keys of a host table's sources, in order.
pub fn keys_after(host: HostId, after: Option<SourceKey>, limit: i64) -> Result<Vec<SourceKey>> {
    let (beyond, key_args) = after_key(after, 3);
    let sql = format!(
        "SELECT chatbot_id, source_type, source_id
        FROM chatbot_sync.source
        WHERE host = $1 {beyond}
        {ORDER_BY_KEY}
        LIMIT $2"
    );
    let args: Vec<_> = [host.into(), limit.into()].into_iter().chain(key_args).collect();
    run(&sql, &args, StatementMode::ReadLatest, |rows| rows.map(|row| read_key(&row)).collect())
}

/// Makes searches find all sources of a host table.
pub fn enable_host(host: HostId) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.embedding e
        SET enabled = true
        FROM chatbot_sync.source s
        WHERE s.host = $1
            AND NOT s.enabled
            AND {}",
        same_source("e", "s")
    );
    write(&sql, &[host.into()])?;
    write("UPDATE chatbot_sync.source SET enabled = true WHERE host = $1 AND NOT enabled", &[host.into()]).map(drop)
}

/// Removes a name from the metadata of a host table's sources.
pub fn drop_metadata(host: HostId, name: &str) -> Result<()> {
    change_metadata("metadata - $2", &[host.into(), name.into()])
}

/// Renames a name in the metadata of a host table's sources.
pub fn rename_metadata(host: HostId, old: &str, new: &str) -> Result<()> {
    let renamed = "pg_catalog.jsonb_set(metadata - $2, ARRAY[$3], metadata -> $2)";
    change_metadata(renamed, &[host.into(), old.into(), new.into()])
}

fn change_metadata(changed: &str, args: &[DatumWithOid]) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.embedding e
        SET metadata = {}
        FROM chatbot_sync.source s
        WHERE s.host = $1
            AND e.metadata ? $2
            AND {}",
        changed.replace("metadata", "e.metadata"),
        same_source("e", "s")
    );
    write(&sql, args)?;
    let sql = format!(
        "UPDATE chatbot_sync.source
        SET metadata = {changed}
        WHERE host = $1
            AND metadata ? $2"
    );
    write(&sql, args).map(drop)
}
