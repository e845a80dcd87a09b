//! Finds rows of the extension's tables that cannot be right.

use std::collections::HashSet;

use crate::error::Result;
use crate::ids::{ChatbotId, HostId, ModelId};
use crate::pg::runtime::vector::vector_type;
use crate::pg::store::reading::{self, StoredReading};
use crate::pg::store::source_key::{IS_SOURCE, KEYS, key_array_args, read_key, same_source};
use crate::pg::store::{StatementMode, not_null, run, vectors};
use crate::source::{Jsonb, SourceKey};

/// A source that is not stored as it should be.
pub struct SourceProblem {
    /// The source's key.
    pub key: SourceKey,
    /// The problem in words, such as the values that were found and expected.
    pub detail: String,
}

/// A synced source that lacks chunks of the active model.
pub struct IncompleteSource {
    /// The source's key.
    pub key: SourceKey,
    /// Which chunks were found, and how many were expected.
    pub detail: String,
    /// Whether it has chunks of another model instead.
    pub has_other_model: bool,
}

/// Returns synced sources that lack chunks of the active model.
pub fn incomplete_sources(active: ModelId) -> Result<Vec<IncompleteSource>> {
    let sql = format!(
        "SELECT
            s.chatbot_id, s.source_type, s.source_id, s.chunk_count, e.chunks, e.after_last,
            e.chunks = 0 AND EXISTS (SELECT FROM chatbot_sync.embedding o WHERE {has_other_chunk})
        FROM chatbot_sync.source s
        CROSS JOIN LATERAL (
            SELECT
                count(*)::int AS chunks,
                COALESCE(max(chunk_index) + 1, 0) AS after_last,
                count(DISTINCT chunk_index)::int AS places
            FROM chatbot_sync.embedding e
            WHERE e.model_id = $1
                AND {is_chunk}
        ) AS e
        WHERE s.status = 'synced'
            AND (e.chunks, e.after_last, e.places) <> (s.chunk_count, s.chunk_count, s.chunk_count)",
        has_other_chunk = same_source("o", "s"),
        is_chunk = same_source("e", "s")
    );
    run(&sql, &[active.into()], StatementMode::Read, |rows| {
        rows.map(|row| {
            let (expected, found, after): (i32, i32, i32) =
                (not_null(row.get(4))?, not_null(row.get(5))?, not_null(row.get(6))?);
            let detail = format!("{found} chunks up to place {after}, expected {expected}");
            Ok(IncompleteSource { key: read_key(&row)?, detail, has_other_model: not_null(row.get(7))? })
        })
        .collect()
    })
}

/// Returns the chatbots that have a source, as the current role sees them.
pub fn chatbots() -> Result<HashSet<ChatbotId>> {
    let sql = "SELECT DISTINCT chatbot_id FROM chatbot_sync.source";
    run(sql, &[], StatementMode::Read, |rows| rows.map(|row| not_null(row.get(1))).collect())
}

/// Returns sources with vectors whose length is not that of their model.
pub fn wrong_dimensions() -> Result<Vec<SourceProblem>> {
    let schema = vector_type()?.schema;
    // A chunk without a vector has 0 dimensions.
    let found = if vectors::has_half_column()? {
        format!("COALESCE({schema}.vector_dims(e.embedding), {schema}.vector_dims(e.embedding_half), 0)")
    } else {
        format!("{schema}.vector_dims(e.embedding)")
    };
    let sql = format!(
        "SELECT e.chatbot_id, e.source_type, e.source_id, min(m.dimensions), min({found})
        FROM chatbot_sync.embedding e
        JOIN chatbot_sync.model m ON m.id = e.model_id
        WHERE {found} <> m.dimensions
        GROUP BY 1, 2, 3"
    );
    run(&sql, &[], StatementMode::Scan, |rows| {
        rows.map(|row| {
            let (expected, found): (i32, i32) = (not_null(row.get(4))?, not_null(row.get(5))?);
            Ok(SourceProblem { key: read_key(&row)?, detail: format!("{found} dimensions, expected {expected}") })
        })
        .collect()
    })
}

/// Returns sources whose host table is not among `hosts`.
pub fn sources_of_unknown_hosts(hosts: &[HostId]) -> Result<Vec<SourceProblem>> {
    let sql = "SELECT chatbot_id, source_type, source_id, host
        FROM chatbot_sync.source
        WHERE host IS NOT NULL
            AND host <> ALL ($1)";
    run(sql, &[hosts.to_vec().into()], StatementMode::Read, |rows| {
        rows.map(|row| {
            let host: HostId = not_null(row.get(4))?;
            let detail = format!("its table, host {host}, is not attached any more");
            Ok(SourceProblem { key: read_key(&row)?, detail })
        })
        .collect()
    })
}

/// Returns sources that are pending although no table has them and no job embeds them.
pub fn pending_sources_without_job() -> Result<Vec<SourceKey>> {
    let sql = "SELECT chatbot_id, source_type, source_id
        FROM chatbot_sync.source
        WHERE host IS NULL
            AND status = 'pending'";
    let mut pending: Vec<SourceKey> =
        run(sql, &[], StatementMode::Read, |rows| rows.map(|row| read_key(&row)).collect())?;
    // A statement of its own: sources may be on other nodes, jobs are here.
    let with_job = existing_keys("job", None, &pending)?;
    pending.retain(|key| !with_job.contains(key));
    Ok(pending)
}

/// A source of a host table as it is stored, for a comparison with its row.
pub struct StoredSource {
    /// The way in which it was chunked and its words were read.
    pub reading: StoredReading,
    /// The SHA-256 of the content that was embedded; `None`: it was never embedded.
    pub content_hash: Option<Vec<u8>>,
    /// Its metadata.
    pub metadata: Jsonb,
    /// Whether searches find it.
    pub enabled: bool,
    /// Whether it is synced, so that its vectors should be those of the row's content.
    pub synced: bool,
    /// Whether it has a job, so that the queue will read the row.
    pub has_job: bool,
}

/// Returns the next sources of a host table, in the order of their keys.
pub fn sources_of_host(host: HostId, after: Option<SourceKey>, limit: i64) -> Result<Vec<StoredSource>> {
    let readings = reading::readings_of_host(host, after, limit)?;
    let keys: Vec<SourceKey> = readings.iter().map(|reading| reading.key).collect();
    // A statement of its own: sources may be on other nodes, jobs are here.
    let jobs = existing_keys("job", None, &keys)?;
    let sql = format!(
        "SELECT content_hash, metadata, enabled, status = 'synced'
        FROM chatbot_sync.source
        WHERE {IS_SOURCE}"
    );
    let with_attributes = |reading: StoredReading| {
        run(&sql, &reading.key.args(), StatementMode::Read, |rows| {
            let rows = rows.first();
            let has_job = jobs.contains(&reading.key);
            let (content_hash, metadata) = (rows.get(1)?, not_null(rows.get(2))?);
            let (enabled, synced) = (not_null(rows.get(3))?, not_null(rows.get(4))?);
            Ok(StoredSource { reading, content_hash, metadata, enabled, synced, has_job })
        })
    };
    readings.into_iter().map(with_attributes).collect()
}

/// Whether two texts are equal as `jsonb`, as 1.0 and 1.00 are.
pub fn is_same_json(one: &Jsonb, other: &Jsonb) -> Result<bool> {
    if one == other {
        return Ok(true);
    }
    let args = [one.clone().into(), other.clone().into()];
    run("SELECT $1::jsonb OPERATOR(pg_catalog.=) $2::jsonb", &args, StatementMode::Read, |rows| {
        not_null(rows.first().get_one())
    })
}

/// Returns sources with a chunk whose metadata or `enabled` is not that of the source.
/// The chunks are looked up source by source: a join of both tables would be a hash join of thousands of batches, since the
/// planner takes each table for huge.
pub fn sources_with_mismatched_chunks() -> Result<Vec<SourceKey>> {
    let sql = format!(
        "SELECT s.chatbot_id, s.source_type, s.source_id
        FROM chatbot_sync.source s
        CROSS JOIN LATERAL (
            SELECT bool_or(
                e.enabled <> s.enabled
                OR CASE
                    -- A chunk has the title of its language.
                    WHEN pg_catalog.length(s.content_hash) > 32
                        AND pg_catalog.jsonb_typeof(s.metadata -> 'title') = 'object'
                        THEN e.metadata - 'title' - 'lang' <> s.metadata - 'title' - 'lang'
                    WHEN e.lang IS NULL
                        THEN e.metadata <> s.metadata
                    ELSE e.metadata <> s.metadata || pg_catalog.jsonb_build_object('lang', e.lang)
                END
            ) AS differs
            FROM chatbot_sync.embedding e
            WHERE {}
        ) AS e
        WHERE e.differs",
        same_source("e", "s")
    );
    run(&sql, &[], StatementMode::Read, |rows| rows.map(|row| read_key(&row)).collect())
}

/// Returns those of the keys that are in a table, with this host table or, where it is `None`, with any.
fn existing_keys(table: &str, host: Option<HostId>, keys: &[SourceKey]) -> Result<HashSet<SourceKey>> {
    let sql = format!(
        "SELECT t.chatbot_id, t.source_type, t.source_id
        FROM chatbot_sync.{table} t, {KEYS}
        WHERE {}
            AND ($4 IS NULL OR t.host = $4)",
        same_source("t", "k")
    );
    let [chatbots, types, sources] = key_array_args(keys);
    run(&sql, &[chatbots, types, sources, host.into()], StatementMode::Read, |rows| {
        rows.map(|row| read_key(&row)).collect()
    })
}

/// Returns those of the keys for which the host table has neither a source nor a job that will make one.
pub fn keys_without_source(host: HostId, keys: &[SourceKey]) -> Result<Vec<SourceKey>> {
    let sources = existing_keys("source", Some(host), keys)?;
    let jobs = existing_keys("job", Some(host), keys)?;
    Ok(keys.iter().copied().filter(|key| !sources.contains(key) && !jobs.contains(key)).collect())
}

/// Returns sources with several jobs that failed for good. There should be one, the newest.
pub fn duplicate_failed_jobs() -> Result<Vec<SourceProblem>> {
    let sql = "SELECT chatbot_id, source_type, source_id, count(*)
        FROM chatbot_sync.job
        WHERE due_at = 'infinity'
        GROUP BY chatbot_id, source_type, source_id
        HAVING count(*) > 1";
    run(sql, &[], StatementMode::Read, |rows| {
        rows.map(|row| {
            let jobs: i64 = not_null(row.get(4))?;
            let detail = format!("{jobs} jobs of it have failed, expected one");
            Ok(SourceProblem { key: read_key(&row)?, detail })
        })
        .collect()
    })
}
