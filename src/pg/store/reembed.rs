//! The vectors of the next model, beside those of the active one.

use pgrx::datum::DatumWithOid;

use crate::error::Result;
use crate::ids::{ChatbotId, ModelId};
use crate::pg::runtime::vector::Vector;
use crate::pg::store::source_key::{ORDER_BY_KEY, after_key, by_chatbot, chatbot_key_args, key_array_args, read_key};
use crate::pg::store::sync_error::SyncError;
use crate::pg::store::{StatementMode, host_triggers, not_null, run, write};
use crate::source::SourceKey;
use crate::text::content;
use crate::text::title::with_title;

/// A chunk that has no vector of the next model.
pub struct ChunkWithoutVector {
    /// The source that the chunk belongs to.
    pub key: SourceKey,
    /// The chunk's number in its source.
    pub chunk_id: i32,
    /// The chunk's text.
    pub content: String,
    /// What is embedded: the text, after the title that the other vector was made with.
    pub input: String,
}

const THESE: &str = "unnest($1::bigint[], $2::text[], $3::bigint[]) AS k (chatbot_id, source_type, source_id)";
const OF_THESE: &str = "(e.chatbot_id, e.source_type, e.source_id) = (k.chatbot_id, k.source_type, k.source_id)
    AND e.chatbot_id = $4";
/// The condition that the chunk `o`, which is of the other model, is the same chunk as `e`.
const SAME: &str =
    "(o.chatbot_id, o.source_type, o.source_id, o.chunk_id) = (e.chatbot_id, e.source_type, e.source_id, e.chunk_id)
    AND o.content = e.content";

/// Takes sources that lack vectors of a model, in the order of their keys, with an advisory lock until the transaction ends.
/// Sources that another session has taken, or that were refused, are skipped.
pub fn take_incomplete_sources(
    model_id: ModelId,
    mut after: Option<SourceKey>,
    limit: i32,
    is_refused: impl Fn(&SourceKey) -> bool,
) -> Result<Vec<SourceKey>> {
    // Not one statement with the query for sources: that may run on other nodes, and a lock that is taken there does not
    // hold here.
    let sql = format!(
        "SELECT chatbot_id, source_type, source_id FROM {THESE} WHERE pg_catalog.pg_try_advisory_xact_lock(
            pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', 'chatbot_sync', chatbot_id, source_type, source_id), 0))
        ORDER BY 1, 2, 3"
    );
    loop {
        let found = incomplete_sources(model_id, after, limit)?;
        let last = found.last().copied();
        let wanted: Vec<SourceKey> = found.into_iter().filter(|key| !is_refused(key)).collect();
        let taken: Vec<SourceKey> = run(&sql, &key_array_args(&wanted), StatementMode::ReadLatest, |rows| {
            rows.map(|row| read_key(&row)).collect()
        })?;
        if !taken.is_empty() || last.is_none() {
            return Ok(taken);
        }
        after = last;
    }
}

/// Returns the chunks of sources that the active model has, and the other one has not.
pub fn missing(keys: &[SourceKey], active: ModelId, model_id: ModelId) -> Result<Vec<ChunkWithoutVector>> {
    let sql = format!(
        "SELECT e.chatbot_id, e.source_type, e.source_id, e.chunk_id, e.content, e.metadata ->> 'title', s.content_hash
        FROM {THESE} JOIN chatbot_sync.embedding e ON {OF_THESE} AND e.model_id = $5
        JOIN chatbot_sync.source s ON (s.source_type, s.source_id) = (k.source_type, k.source_id) AND s.chatbot_id = $4
        WHERE NOT EXISTS (SELECT FROM chatbot_sync.embedding o WHERE {SAME} AND o.model_id = $6)
        ORDER BY 1, 2, 3, 4"
    );
    let mut missing = Vec::new();
    for (chatbot_id, keys) in by_chatbot(keys.iter().copied(), |key| key.chatbot_id) {
        run(&sql, &args(chatbot_id, &keys, active, model_id), StatementMode::ReadLatest, |rows| {
            for row in rows {
                let (content, title, hash): (String, Option<String>, Option<Vec<u8>>) =
                    (not_null(row.get(5))?, row.get(6)?, row.get(7)?);
                let title = title.filter(|_| content::had_title(&hash.unwrap_or_default()));
                let input = with_title(title.as_deref(), &content).into_owned();
                missing.push(ChunkWithoutVector {
                    key: read_key(&row)?,
                    chunk_id: not_null(row.get(4))?,
                    content,
                    input,
                });
            }
            Ok(())
        })?;
    }
    Ok(missing)
}

/// The arguments for the keys of a chatbot and the two models.
fn args(chatbot_id: ChatbotId, keys: &[SourceKey], active: ModelId, model_id: ModelId) -> Vec<DatumWithOid<'static>> {
    chatbot_key_args(chatbot_id, keys).into_iter().chain([active.into(), model_id.into()]).collect()
}

/// Stores vectors of the other model for chunks that have not changed since they were read, and deletes its chunks that the
/// active model does not have.
pub fn store(
    keys: &[SourceKey],
    active: ModelId,
    model_id: ModelId,
    made: Vec<(ChunkWithoutVector, Vec<f32>)>,
) -> Result<()> {
    let mut made = by_chatbot(made, |(chunk, _)| chunk.key.chatbot_id);
    for (chatbot_id, keys) in by_chatbot(keys.iter().copied(), |key| key.chatbot_id) {
        store_of_chatbot(chatbot_id, &keys, active, model_id, &made.remove(&chatbot_id).unwrap_or_default())?;
    }
    Ok(())
}

fn store_of_chatbot(
    chatbot_id: ChatbotId,
    keys: &[SourceKey],
    active: ModelId,
    model_id: ModelId,
    made: &[(ChunkWithoutVector, Vec<f32>)],
) -> Result<()> {
    // Locks the sources, so that a session that syncs one now comes before or after.
    let lock = format!("SELECT FROM chatbot_sync.source e, {THESE} WHERE {OF_THESE} FOR NO KEY UPDATE OF e");
    write(&lock, &chatbot_key_args(chatbot_id, keys))?;
    let args = |keys: &[SourceKey]| args(chatbot_id, keys, active, model_id);
    let sql = format!(
        "DELETE FROM chatbot_sync.embedding o USING {THESE}
        WHERE (o.chatbot_id, o.source_type, o.source_id) = (k.chatbot_id, k.source_type, k.source_id)
            AND o.chatbot_id = $4 AND o.model_id = $6
            AND NOT EXISTS (SELECT FROM chatbot_sync.embedding e WHERE {SAME} AND e.model_id = $5)"
    );
    write(&sql, &args(keys))?;
    let copy = "chatbot_id, source_type, source_id, chunk_id, chunk_index, start_offset, end_offset, enabled, lang,
        metadata, content, words";
    let sql = format!(
        "INSERT INTO chatbot_sync.embedding ({copy}, model_id, embedding)
        SELECT {}, $6, n.embedding
        FROM unnest($1::bigint[], $2::text[], $3::bigint[], $7::int[], $8::text[], $9)
            AS n (chatbot_id, source_type, source_id, chunk_id, content, embedding)
        JOIN chatbot_sync.embedding e
            ON (e.chatbot_id, e.source_type, e.source_id, e.chunk_id) = (n.chatbot_id, n.source_type, n.source_id, n.chunk_id)
                AND e.chatbot_id = $4 AND e.model_id = $5 AND e.content = n.content
        ON CONFLICT DO NOTHING",
        copy.split(',').map(|column| format!("e.{}", column.trim())).collect::<Vec<_>>().join(", ")
    );
    for slice in made.chunks(100) {
        let mut args = args(&slice.iter().map(|(chunk, _)| chunk.key).collect::<Vec<_>>());
        args.extend([
            slice.iter().map(|(chunk, _)| chunk.chunk_id).collect::<Vec<_>>().into(),
            slice.iter().map(|(chunk, _)| chunk.content.clone()).collect::<Vec<_>>().into(),
            slice.iter().map(|(_, vector)| Vector(vector.clone())).collect::<Vec<_>>().into(),
        ]);
        write(&sql, &args)?;
    }
    // A chunk may have moved, or got other words or metadata, without being embedded again: the other model's copy follows.
    let sql = format!(
        "UPDATE chatbot_sync.embedding o SET chunk_index = e.chunk_index, start_offset = e.start_offset,
            end_offset = e.end_offset, enabled = e.enabled, metadata = e.metadata, words = e.words
        FROM {THESE}, chatbot_sync.embedding e
        WHERE {OF_THESE} AND {SAME} AND e.model_id = $5 AND o.model_id = $6
            AND (o.chunk_index, o.start_offset, o.end_offset, o.enabled, o.metadata, o.words)
                <> (e.chunk_index, e.start_offset, e.end_offset, e.enabled, e.metadata, e.words)"
    );
    write(&sql, &args(keys))?;
    let of_this = format!("status = 'error' AND pg_catalog.starts_with(error, '{}')", error_prefix(model_id));
    let sql = format!(
        "UPDATE chatbot_sync.source e SET next_model_id = $6,
            status = CASE WHEN {of_this} THEN 'synced' ELSE status END,
            error_code = CASE WHEN {of_this} THEN NULL ELSE error_code END,
            error = CASE WHEN {of_this} THEN NULL ELSE error END
        FROM {THESE} WHERE {OF_THESE} AND NOT EXISTS (
            SELECT FROM chatbot_sync.embedding a WHERE a.model_id = $5
                AND (a.chatbot_id, a.source_type, a.source_id) = (e.chatbot_id, e.source_type, e.source_id)
                AND NOT EXISTS (SELECT FROM chatbot_sync.embedding o WHERE o.model_id = $6
                    AND (o.chatbot_id, o.source_type, o.source_id, o.chunk_id, o.content)
                        = (a.chatbot_id, a.source_type, a.source_id, a.chunk_id, a.content)))"
    );
    write(&sql, &args(keys)).map(drop)
}

/// Marks a source as failed because the provider refused one of its texts for the next model. It is synced again once it has
/// all vectors.
pub fn mark_refused(key: &SourceKey, model_id: ModelId, failed: &SyncError) -> Result<()> {
    let sql = "UPDATE chatbot_sync.source SET status = 'error', error_code = $4, error = $5
        WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3";
    let error = format!("{}{}", error_prefix(model_id), failed.message);
    write(sql, &key.args_and([failed.code.clone().into(), error.into()])).map(drop)
}

/// Those of the sources that [`mark_refused`] has marked.
pub fn refused_before(keys: &[SourceKey], model_id: ModelId) -> Result<Vec<SourceKey>> {
    let sql = format!(
        "SELECT e.chatbot_id, e.source_type, e.source_id FROM {THESE} JOIN chatbot_sync.source e ON {OF_THESE}
        WHERE e.status = 'error' AND pg_catalog.starts_with(e.error, $5)"
    );
    let mut refused = Vec::new();
    for (chatbot_id, keys) in by_chatbot(keys.iter().copied(), |key| key.chatbot_id) {
        let args: Vec<_> =
            chatbot_key_args(chatbot_id, &keys).into_iter().chain([error_prefix(model_id).into()]).collect();
        refused.extend(run(&sql, &args, StatementMode::ReadLatest, |rows| {
            rows.map(|row| read_key(&row)).collect::<pgrx::spi::Result<Vec<_>>>()
        })?);
    }
    Ok(refused)
}

/// The beginning of the errors that [`mark_refused`] writes, by which they are recognized.
pub fn error_prefix(model_id: ModelId) -> String {
    format!("model {model_id}: ")
}

/// Returns the number of all sources, and of those that lack vectors of a model. Reads all sources.
pub fn count_incomplete(model_id: ModelId) -> Result<(i64, i64)> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE next_model_id IS DISTINCT FROM $1) FROM chatbot_sync.source";
    run(sql, &[model_id.into()], StatementMode::ReadLatest, |rows| {
        let rows = rows.first();
        Ok((not_null(rows.get(1))?, not_null(rows.get(2))?))
    })
}

/// Locks out sessions that insert, update or delete sources, until the transaction ends.
pub fn stop_writers() -> Result<()> {
    host_triggers::execute("LOCK TABLE chatbot_sync.source IN SHARE ROW EXCLUSIVE MODE")
}

/// Returns the next sources that lack vectors of a model, in the order of their keys.
pub fn incomplete_sources(model_id: ModelId, after: Option<SourceKey>, limit: i32) -> Result<Vec<SourceKey>> {
    let (beyond, key_args) = after_key(after, 3);
    let sql = format!(
        "SELECT chatbot_id, source_type, source_id FROM chatbot_sync.source
        WHERE next_model_id IS DISTINCT FROM $1 {beyond} 
        {ORDER_BY_KEY}
        LIMIT $2"
    );
    let args: Vec<_> = [model_id.into(), limit.into()].into_iter().chain(key_args).collect();
    run(&sql, &args, StatementMode::ReadLatest, |rows| rows.map(|row| read_key(&row)).collect())
}

/// Returns the number of chunks that sources have with a model.
pub fn chunks_of(keys: &[SourceKey], model_id: ModelId) -> Result<i64> {
    let sql = format!("SELECT count(*) FROM {THESE} JOIN chatbot_sync.embedding e ON {OF_THESE} AND e.model_id = $5");
    by_chatbot(keys.iter().copied(), |key| key.chatbot_id)
        .into_iter()
        .map(|(chatbot_id, keys)| {
            let args: Vec<_> = chatbot_key_args(chatbot_id, &keys).into_iter().chain([model_id.into()]).collect();
            run(&sql, &args, StatementMode::ReadLatest, |rows| not_null::<i64>(rows.first().get_one()))
        })
        .sum()
}
