//! Rows of ours that cannot be right.

use std::collections::HashMap;

use super::source::{SourceKey, key};
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
    run(&sql, &[], Mode::Read, |rows| {
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

/// The sources of a host table, with the hash of what was embedded; none of those that say that they wait or failed, or
/// that have a job.
pub fn of_host(host: i32) -> Result<HashMap<SourceKey, Option<Vec<u8>>>> {
    let sql = "SELECT s.chatbot_id, s.source_type, s.source_id,
            CASE WHEN s.status = 'synced' AND j.chatbot_id IS NULL THEN s.content_hash END
        FROM chatbot_sync.source s
        LEFT JOIN (SELECT DISTINCT chatbot_id, source_type, source_id FROM chatbot_sync.job) AS j
            ON (j.chatbot_id, j.source_type, j.source_id) = (s.chatbot_id, s.source_type, s.source_id)
        WHERE s.host = $1";
    run(sql, &[host.into()], Mode::Read, |rows| rows.map(|row| Ok((key(&row)?, row.get(4)?))).collect())
}
