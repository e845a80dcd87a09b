//! Rows of ours that cannot be right.

use std::collections::HashSet;

use super::source::{BY_KEY, SourceKey, beyond, key, key_columns};
use super::{Mode, one, run};
use crate::error::Result;
use crate::pg::vector::vector_type;

/// Synced sources that have not every chunk with the model that answers, with what is wrong, and whether they have chunks
/// of another model.
pub fn incomplete(active: i32) -> Result<Vec<(SourceKey, String, bool)>> {
    let sql = "SELECT s.chatbot_id, s.source_type, s.source_id, s.chunk_count, e.chunks, e.after_last,
            e.chunks = 0 AND EXISTS (SELECT FROM chatbot_sync.embedding o
                WHERE (o.chatbot_id, o.source_type, o.source_id) = (s.chatbot_id, s.source_type, s.source_id))
        FROM chatbot_sync.source s
        CROSS JOIN LATERAL (SELECT count(*)::int AS chunks, COALESCE(max(chunk_index) + 1, 0) AS after_last,
                count(DISTINCT chunk_index)::int AS places
            FROM chatbot_sync.embedding e WHERE e.model_id = $1
                AND (e.chatbot_id, e.source_type, e.source_id) = (s.chatbot_id, s.source_type, s.source_id)) AS e
        WHERE s.status = 'synced' AND (e.chunks, e.after_last, e.places) <> (s.chunk_count, s.chunk_count, s.chunk_count)";
    run(sql, &[active.into()], Mode::Read, |rows| {
        rows.map(|row| {
            let (expected, found, after): (i32, i32, i32) = (one(row.get(4))?, one(row.get(5))?, one(row.get(6))?);
            let detail = format!("{found} chunks up to place {after}, expected {expected}");
            Ok((key(&row)?, detail, one(row.get(7))?))
        })
        .collect()
    })
}

/// Sources with vectors of another length than their model's.
pub fn wrong_dimensions() -> Result<Vec<(SourceKey, String)>> {
    let sql = format!(
        "SELECT e.chatbot_id, e.source_type, e.source_id, min(m.dimensions), min({schema}.vector_dims(e.embedding))
        FROM chatbot_sync.embedding e JOIN chatbot_sync.model m ON m.id = e.model_id
        WHERE {schema}.vector_dims(e.embedding) <> m.dimensions GROUP BY 1, 2, 3",
        schema = vector_type()?.schema
    );
    run(&sql, &[], Mode::Scan, |rows| {
        rows.map(|row| {
            let (expected, found): (i32, i32) = (one(row.get(4))?, one(row.get(5))?);
            Ok((key(&row)?, format!("{found} dimensions, expected {expected}")))
        })
        .collect()
    })
}

/// Sources of host tables that are none of these.
pub fn of_unknown_hosts(hosts: &[i32]) -> Result<Vec<(SourceKey, i32)>> {
    let sql = "SELECT chatbot_id, source_type, source_id, host FROM chatbot_sync.source
        WHERE host IS NOT NULL AND host <> ALL ($1)";
    run(sql, &[hosts.to_vec().into()], Mode::Read, |rows| rows.map(|row| Ok((key(&row)?, one(row.get(4))?))).collect())
}

/// Sources of a host table, in the order of their keys, each with the hash of what was embedded: none where it says that
/// it waits or failed, or has a job.
pub fn of_host(host: i32, after: Option<SourceKey>, limit: i64) -> Result<Vec<(SourceKey, Option<Vec<u8>>)>> {
    let (beyond, key_args) = beyond(after, 3);
    let sql = format!(
        "SELECT chatbot_id, source_type, source_id, CASE WHEN status = 'synced' THEN content_hash END
        FROM chatbot_sync.source WHERE host = $1{beyond} {BY_KEY} $2"
    );
    let args: Vec<_> = [host.into(), limit.into()].into_iter().chain(key_args).collect();
    let mut sources: Vec<(SourceKey, Option<Vec<u8>>)> =
        run(&sql, &args, Mode::Read, |rows| rows.map(|row| Ok((key(&row)?, row.get(4)?))).collect())?;
    // A statement of its own: sources may be on other nodes, jobs are here.
    let keys: Vec<SourceKey> = sources.iter().map(|(key, _)| *key).collect();
    let jobs = there("job", None, &keys)?;
    for (_, hash) in sources.iter_mut().filter(|(key, _)| jobs.contains(key)) {
        *hash = None;
    }
    Ok(sources)
}

/// Those of the keys that a table has, with a host table or with any.
fn there(table: &str, host: Option<i32>, keys: &[SourceKey]) -> Result<HashSet<SourceKey>> {
    let sql = format!(
        "SELECT t.chatbot_id, t.source_type, t.source_id FROM chatbot_sync.{table} t,
            unnest($1::bigint[], $2::text[], $3::bigint[]) AS k (chatbot_id, source_type, source_id)
        WHERE (t.chatbot_id, t.source_type, t.source_id) = (k.chatbot_id, k.source_type, k.source_id)
            AND ($4 IS NULL OR t.host = $4)"
    );
    let [chatbots, types, sources] = key_columns(keys);
    run(&sql, &[chatbots, types, sources, host.into()], Mode::Read, |rows| rows.map(|row| key(&row)).collect())
}

/// Those of the keys that no source of a host table has, and that no job will make one.
pub fn unknown(host: i32, keys: &[SourceKey]) -> Result<Vec<SourceKey>> {
    let sources = there("source", Some(host), keys)?;
    let jobs = there("job", Some(host), keys)?;
    Ok(keys.iter().copied().filter(|key| !sources.contains(key) && !jobs.contains(key)).collect())
}

/// Sources with several jobs that only chatbot_retry() helps, of which the newest is right: how many.
pub fn double_jobs() -> Result<Vec<(SourceKey, i64)>> {
    let sql = "SELECT chatbot_id, source_type, source_id, count(*) FROM chatbot_sync.job WHERE due_at = 'infinity'
        GROUP BY chatbot_id, source_type, source_id HAVING count(*) > 1";
    run(sql, &[], Mode::Read, |rows| rows.map(|row| Ok((key(&row)?, one(row.get(4))?))).collect())
}
