//! Statements on all sources of a host table.

use std::collections::{HashMap, HashSet};

use pgrx::datum::DatumWithOid;

use crate::error::Result;
use crate::pg::runtime::memory::Scratch;
use crate::pg::store::source::{BY_KEY, after_key, by_chatbot, key, key_array_args, write_by_chatbot};
use crate::pg::store::{StatementMode, not_null, run, write};
use crate::source::SourceKey;

/// Registers rows of a host table, given as (id, chatbot id, whether searches find it), as pending sources. Returns how many
/// are new, or were not this table's. Sources that are this table's already are not even locked.
pub fn register_pending(source_type: &'static str, host: i32, mut rows: Vec<(i64, i64, bool)>) -> Result<i64> {
    let _scratch = Scratch::new();
    let key = |row: &(i64, i64, bool)| SourceKey { chatbot_id: row.1, source_type, source_id: row.0 };
    let known = hosts_of(&rows.iter().map(key).collect::<Vec<_>>())?;
    rows.retain(|row| known.get(&key(row)).is_none_or(|of| *of != Some(host)));
    if rows.is_empty() {
        return Ok(0);
    }
    let sql = "INSERT INTO chatbot_sync.source AS s (chatbot_id, source_type, source_id, host, enabled, status)
        SELECT n.chatbot_id, $1, n.source_id, $2, n.enabled, 'pending'
        FROM unnest($3::bigint[], $4::bigint[], $5::boolean[]) AS n (source_id, chatbot_id, enabled)
        ON CONFLICT (chatbot_id, source_type, source_id)
            DO UPDATE SET host = EXCLUDED.host, status = 'pending', enabled = EXCLUDED.enabled
        WHERE s.host IS DISTINCT FROM EXCLUDED.host";
    let standing = "UPDATE chatbot_sync.embedding e SET enabled = s.enabled FROM chatbot_sync.source s,
            unnest($1::bigint[], $2::text[], $3::bigint[]) AS k (chatbot_id, source_type, source_id)
        WHERE (s.chatbot_id, s.source_type, s.source_id) = (k.chatbot_id, k.source_type, k.source_id)
            AND (e.chatbot_id, e.source_type, e.source_id) = (s.chatbot_id, s.source_type, s.source_id)
            AND s.chatbot_id = $4 AND e.enabled <> s.enabled";
    let new = write(sql, &row_args(source_type, host, &rows))?;
    write_by_chatbot(standing, &rows.iter().map(key).filter(|key| known.contains_key(key)).collect::<Vec<_>>())?;
    Ok(new)
}

/// Returns those of the sources that exist, each with its host table; `None`: it has none.
fn hosts_of(keys: &[SourceKey]) -> Result<HashMap<SourceKey, Option<i32>>> {
    let sql = "SELECT s.chatbot_id, s.source_type, s.source_id, s.host FROM chatbot_sync.source s,
            unnest($1::bigint[], $2::text[], $3::bigint[]) AS k (chatbot_id, source_type, source_id)
        WHERE (s.chatbot_id, s.source_type, s.source_id) = (k.chatbot_id, k.source_type, k.source_id)";
    run(sql, &key_array_args(keys), StatementMode::ReadLatest, |rows| {
        rows.map(|row| Ok((key(&row)?, row.get(4)?))).collect()
    })
}

/// Inserts pending sources for new rows of a host table. Existing sources are not touched: a worker may have locked one, to
/// delete what an earlier row with the same key left.
pub fn insert_new_pending(source_type: &str, host: i32, rows: &[(i64, i64, bool)]) -> Result<()> {
    let _scratch = Scratch::new();
    let known =
        "SELECT source_id FROM chatbot_sync.source WHERE chatbot_id = $1 AND source_type = $2 AND source_id = ANY ($3)";
    let insert = "INSERT INTO chatbot_sync.source AS s (chatbot_id, source_type, source_id, host, enabled, status)
        SELECT n.chatbot_id, $1, n.source_id, $2, n.enabled, 'pending'
        FROM unnest($3::bigint[], $4::bigint[], $5::boolean[]) AS n (source_id, chatbot_id, enabled)
        ON CONFLICT DO NOTHING";
    for (chatbot_id, mut rows) in by_chatbot(rows.iter().copied(), |row| row.1) {
        let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let args = [chatbot_id.into(), source_type.to_owned().into(), ids.into()];
        let known: HashSet<i64> =
            run(known, &args, StatementMode::ReadLatest, |rows| rows.map(|row| not_null(row.get(1))).collect())?;
        rows.retain(|row| !known.contains(&row.0));
        if !rows.is_empty() {
            write(insert, &row_args(source_type, host, &rows))?;
        }
    }
    Ok(())
}

fn row_args(source_type: &str, host: i32, rows: &[(i64, i64, bool)]) -> [DatumWithOid<'static>; 5] {
    [
        source_type.to_owned().into(),
        host.into(),
        rows.iter().map(|r| r.0).collect::<Vec<_>>().into(),
        rows.iter().map(|r| r.1).collect::<Vec<_>>().into(),
        rows.iter().map(|r| r.2).collect::<Vec<_>>().into(),
    ]
}

/// Returns sources of host tables that are pending or in error and that searches are to find, with their hosts, in the order
/// of their keys.
pub fn unsynced_sources(
    chatbot_id: Option<i64>,
    after: Option<SourceKey>,
    limit: i32,
) -> Result<Vec<(SourceKey, i32)>> {
    let mut args = vec![limit.into()];
    let of_chatbot = if chatbot_id.is_some() { " AND chatbot_id = $2" } else { "" };
    args.extend(chatbot_id.map(DatumWithOid::from));
    let (beyond, key_args) = after_key(after, args.len() + 1);
    args.extend(key_args);
    let sql = format!(
        "SELECT chatbot_id, source_type, source_id, host FROM chatbot_sync.source
        WHERE status <> 'synced' AND enabled AND host IS NOT NULL{of_chatbot}{beyond} {BY_KEY} $1"
    );
    run(&sql, &args, StatementMode::ReadLatest, |rows| {
        rows.map(|row| Ok((key(&row)?, not_null(row.get(4))?))).collect()
    })
}

/// Deletes all sources of a host table, with their vectors.
pub fn delete_host(host: i32) -> Result<()> {
    let sql = "DELETE FROM chatbot_sync.embedding e USING chatbot_sync.source s WHERE s.host = $1
        AND (e.chatbot_id, e.source_type, e.source_id) = (s.chatbot_id, s.source_type, s.source_id)";
    write(sql, &[host.into()])?;
    write("DELETE FROM chatbot_sync.source WHERE host = $1", &[host.into()]).map(drop)
}

/// Keeps the sources of a host table, which belong to no table afterwards, and returns how many of them were pending.
/// Nothing will embed those any more: one with vectors is synced, with the text that they were made from; one that never
/// had any is deleted; one whose vectors are known to be outdated is in error.
pub fn release_host(host: i32) -> Result<i64> {
    let never_embedded = "DELETE FROM chatbot_sync.source
        WHERE host = $1 AND status = 'pending' AND content_hash IS NULL AND chunk_count = 0";
    let pending = "UPDATE chatbot_sync.source SET host = NULL, attempts = 0, next_attempt_at = NULL,
            status = CASE WHEN content_hash IS NULL THEN 'error' ELSE 'synced' END,
            error_code = CASE WHEN content_hash IS NULL THEN '55000' WHEN error_code = '01000' THEN error_code END,
            error = CASE WHEN content_hash IS NULL THEN 'its table was detached before it was embedded. Embed it again.'
                WHEN error_code = '01000' THEN error END
        WHERE host = $1 AND status = 'pending'";
    let waited = write(never_embedded, &[host.into()])? + write(pending, &[host.into()])?;
    write("UPDATE chatbot_sync.source SET host = NULL WHERE host = $1", &[host.into()])?;
    Ok(waited)
}

/// Returns the next keys of a host table's sources, in order.
pub fn keys_after(host: i32, after: Option<SourceKey>, limit: i64) -> Result<Vec<SourceKey>> {
    let (beyond, key_args) = after_key(after, 3);
    let sql = format!(
        "SELECT chatbot_id, source_type, source_id FROM chatbot_sync.source WHERE host = $1{beyond} {BY_KEY} $2"
    );
    let args: Vec<_> = [host.into(), limit.into()].into_iter().chain(key_args).collect();
    run(&sql, &args, StatementMode::ReadLatest, |rows| rows.map(|row| key(&row)).collect())
}

/// Makes searches find all sources of a host table.
pub fn enable_host(host: i32) -> Result<()> {
    let sql = "UPDATE chatbot_sync.embedding e SET enabled = true FROM chatbot_sync.source s
        WHERE s.host = $1 AND NOT s.enabled
            AND (e.chatbot_id, e.source_type, e.source_id) = (s.chatbot_id, s.source_type, s.source_id)";
    write(sql, &[host.into()])?;
    write("UPDATE chatbot_sync.source SET enabled = true WHERE host = $1 AND NOT enabled", &[host.into()]).map(drop)
}

/// Removes a name from the metadata of a host table's sources.
pub fn drop_metadata(host: i32, name: &str) -> Result<()> {
    change_metadata("metadata - $2", &[host.into(), name.into()])
}

/// Renames a name in the metadata of a host table's sources.
pub fn rename_metadata(host: i32, old: &str, new: &str) -> Result<()> {
    let changed = "pg_catalog.jsonb_set(metadata - $2, ARRAY[$3], metadata -> $2)";
    change_metadata(changed, &[host.into(), old.into(), new.into()])
}

fn change_metadata(changed: &str, args: &[DatumWithOid]) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.embedding e SET metadata = {} FROM chatbot_sync.source s
        WHERE s.host = $1 AND e.metadata ? $2
            AND (e.chatbot_id, e.source_type, e.source_id) = (s.chatbot_id, s.source_type, s.source_id)",
        changed.replace("metadata", "e.metadata")
    );
    write(&sql, args)?;
    write(&format!("UPDATE chatbot_sync.source SET metadata = {changed} WHERE host = $1 AND metadata ? $2"), args)
        .map(drop)
}
