//! The vectors of the next model, beside those of the active one.

use pgrx::datum::DatumWithOid;

use crate::error::Result;
use crate::ids::{ChatbotId, ModelId};
use crate::pg::runtime::vector::{Vector, vector_type};
use crate::pg::store::model::ActiveModel;
use crate::pg::store::source_key::{
    IS_SOURCE, KEYS, ORDER_BY_KEY, after_key, by_chatbot, chatbot_key_args, key_array_args, read_key, same_source,
};
use crate::pg::store::sync_error::SyncError;
use crate::pg::store::{StatementMode, execute_once, not_null, run, vectors, write};
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
    /// The text that is embedded: the chunk's, after the title that the other vector was made with.
    pub input: String,
    /// The vector that the active model has, where it is the next model's but for its precision.
    pub vector: Option<Vec<f32>>,
}

/// A chunk with the vector that the next model has made of it.
pub struct EmbeddedChunk {
    /// The chunk as it was read, without a vector of the next model.
    pub chunk: ChunkWithoutVector,
    /// The vector that the next model has made of its text.
    pub vector: Vec<f32>,
}

/// The condition that a row `e` is of a source in the first three arguments, of the chatbot `$4`: [`chatbot_key_args`].
const IS_KEY_OF_CHATBOT: &str =
    "(e.chatbot_id, e.source_type, e.source_id) = (k.chatbot_id, k.source_type, k.source_id)
            AND e.chatbot_id = $4";
/// The condition that the chunk `o`, which is of the other model, is the same chunk as `e`.
const IS_SAME_CHUNK: &str = "(o.chatbot_id, o.source_type, o.source_id, o.chunk_id)
                = (e.chatbot_id, e.source_type, e.source_id, e.chunk_id)
            AND o.content = e.content";
/// The columns of a chunk that do not depend on the model.
const CHUNK_COLUMNS: [&str; 12] = [
    "chatbot_id",
    "source_type",
    "source_id",
    "chunk_id",
    "chunk_index",
    "start_offset",
    "end_offset",
    "enabled",
    "lang",
    "metadata",
    "content",
    "words",
];

/// The arguments for the keys of a chatbot (`$1` to `$4`), the active model (`$5`) and the other one (`$6`).
fn model_key_args(
    chatbot_id: ChatbotId,
    keys: &[SourceKey],
    active: ModelId,
    model_id: ModelId,
) -> Vec<DatumWithOid<'static>> {
    chatbot_key_args(chatbot_id, keys).into_iter().chain([active.into(), model_id.into()]).collect()
}

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
        "SELECT chatbot_id, source_type, source_id
        FROM {KEYS}
        WHERE pg_catalog.pg_try_advisory_xact_lock(
            pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', 'chatbot_sync', chatbot_id, source_type, source_id), 0)
        )
        {ORDER_BY_KEY}"
    );
    loop {
        let found = sources_without_vectors(model_id, after, limit)?;
        let last = found.last().copied();
        let candidates: Vec<SourceKey> = found.into_iter().filter(|key| !is_refused(key)).collect();
        let taken: Vec<SourceKey> = run(&sql, &key_array_args(&candidates), StatementMode::ReadLatest, |rows| {
            rows.map(|row| read_key(&row)).collect()
        })?;
        if !taken.is_empty() || last.is_none() {
            return Ok(taken);
        }
        after = last;
    }
}

/// Returns the chunks of sources that the active model has, and the next one has not.
pub fn chunks_without_vector(
    keys: &[SourceKey],
    active: &ActiveModel,
    next: &ActiveModel,
) -> Result<Vec<ChunkWithoutVector>> {
    let vector = if next.model.has_vectors_of(&active.model) {
        vectors::in_full_precision()?
    } else {
        format!("NULL::{}.vector", vector_type()?.schema)
    };
    let sql = format!(
        "SELECT e.chatbot_id, e.source_type, e.source_id, e.chunk_id, e.content, e.metadata ->> 'title', s.content_hash,
            {vector}
        FROM {KEYS}
        JOIN chatbot_sync.embedding e
            ON {IS_KEY_OF_CHATBOT}
            AND e.model_id = $5
        JOIN chatbot_sync.source s
            ON (s.source_type, s.source_id) = (k.source_type, k.source_id)
            AND s.chatbot_id = $4
        WHERE NOT EXISTS (
            SELECT FROM chatbot_sync.embedding o
            WHERE {IS_SAME_CHUNK}
            AND o.model_id = $6
        )
        ORDER BY 1, 2, 3, 4"
    );
    let mut missing = Vec::new();
    for (chatbot_id, keys) in by_chatbot(keys.iter().copied(), |key| key.chatbot_id) {
        run(&sql, &model_key_args(chatbot_id, &keys, active.id, next.id), StatementMode::ReadLatest, |rows| {
            for row in rows {
                let (content, title, hash): (String, Option<String>, Option<Vec<u8>>) =
                    (not_null(row.get(5))?, row.get(6)?, row.get(7)?);
                let title = title.filter(|_| content::had_title(&hash.unwrap_or_default()));
                let input = with_title(title.as_deref(), &content).into_owned();
                let vector = row.get::<Vector>(8)?.map(|Vector(vector)| vector);
                missing.push(ChunkWithoutVector {
                    key: read_key(&row)?,
                    chunk_id: not_null(row.get(4))?,
                    content,
                    input,
                    vector,
                });
            }
            Ok(())
        })?;
    }
    Ok(missing)
}

/// Stores vectors of the other model for chunks that have not changed since they were read, and deletes its chunks that the
/// active model does not have.
pub fn store_vectors(
    keys: &[SourceKey],
    active: ModelId,
    next: &ActiveModel,
    embedded: Vec<EmbeddedChunk>,
) -> Result<()> {
    let mut embedded = by_chatbot(embedded, |embedded| embedded.chunk.key.chatbot_id);
    for (chatbot_id, keys) in by_chatbot(keys.iter().copied(), |key| key.chatbot_id) {
        store_of_chatbot(chatbot_id, &keys, active, next, &embedded.remove(&chatbot_id).unwrap_or_default())?;
    }
    Ok(())
}

fn store_of_chatbot(
    chatbot_id: ChatbotId,
    keys: &[SourceKey],
    active: ModelId,
    next: &ActiveModel,
    embedded: &[EmbeddedChunk],
) -> Result<()> {
    let (model_id, storage) = (next.id, next.model.storage());
    // Locks the sources, so that a session that syncs one now comes before or after.
    let lock = format!(
        "SELECT FROM chatbot_sync.source e, {KEYS}
        WHERE {IS_KEY_OF_CHATBOT}
        FOR NO KEY UPDATE OF e"
    );
    write(&lock, &chatbot_key_args(chatbot_id, keys))?;
    let args = |keys: &[SourceKey]| model_key_args(chatbot_id, keys, active, model_id);
    let delete_superfluous = format!(
        "DELETE FROM chatbot_sync.embedding o
        USING {KEYS}
        WHERE {}
            AND o.chatbot_id = $4
            AND o.model_id = $6
            AND NOT EXISTS (
                SELECT FROM chatbot_sync.embedding e
                WHERE {IS_SAME_CHUNK}
                    AND e.model_id = $5
            )",
        same_source("o", "k")
    );
    write(&delete_superfluous, &args(keys))?;
    let insert = format!(
        "INSERT INTO chatbot_sync.embedding ({columns}, model_id, {column})
        SELECT {e_columns}, $6, {vector}
        FROM unnest($1::bigint[], $2::text[], $3::bigint[], $7::int[], $8::text[], $9)
            AS n (chatbot_id, source_type, source_id, chunk_id, content, embedding)
        JOIN chatbot_sync.embedding e
            ON (e.chatbot_id, e.source_type, e.source_id, e.chunk_id)
                = (n.chatbot_id, n.source_type, n.source_id, n.chunk_id)
            AND e.chatbot_id = $4
            AND e.model_id = $5
            AND e.content = n.content
        ON CONFLICT DO NOTHING",
        columns = CHUNK_COLUMNS.join(", "),
        e_columns = CHUNK_COLUMNS.map(|column| format!("e.{column}")).join(", "),
        column = vectors::column(storage),
        vector = vectors::as_stored("n.embedding", storage)?,
    );
    for slice in embedded.chunks(100) {
        let mut args = args(&slice.iter().map(|embedded| embedded.chunk.key).collect::<Vec<_>>());
        args.extend([
            slice.iter().map(|embedded| embedded.chunk.chunk_id).collect::<Vec<_>>().into(),
            slice.iter().map(|embedded| embedded.chunk.content.clone()).collect::<Vec<_>>().into(),
            slice.iter().map(|embedded| Vector(embedded.vector.clone())).collect::<Vec<_>>().into(),
        ]);
        write(&insert, &args)?;
    }
    // A chunk may have moved, or got other words or metadata, without being embedded again: the other model's copy follows.
    let update_copies = format!(
        "UPDATE chatbot_sync.embedding o
        SET chunk_index = e.chunk_index,
            start_offset = e.start_offset,
            end_offset = e.end_offset,
            enabled = e.enabled,
            metadata = e.metadata,
            words = e.words
        FROM {KEYS}, chatbot_sync.embedding e
        WHERE {IS_KEY_OF_CHATBOT}
            AND {IS_SAME_CHUNK}
            AND e.model_id = $5
            AND o.model_id = $6
            AND (o.chunk_index, o.start_offset, o.end_offset, o.enabled, o.metadata, o.words)
                <> (e.chunk_index, e.start_offset, e.end_offset, e.enabled, e.metadata, e.words)"
    );
    write(&update_copies, &args(keys))?;
    let is_refused = format!("status = 'error' AND pg_catalog.starts_with(error, '{}')", error_prefix(model_id));
    let mark_complete = format!(
        "UPDATE chatbot_sync.source e
        SET next_model_id = $6,
            status = CASE WHEN {is_refused} THEN 'synced' ELSE status END,
            error_code = CASE WHEN {is_refused} THEN NULL ELSE error_code END,
            error = CASE WHEN {is_refused} THEN NULL ELSE error END
        FROM {KEYS}
        WHERE {IS_KEY_OF_CHATBOT}
            AND NOT EXISTS (
                SELECT FROM chatbot_sync.embedding a
                WHERE a.model_id = $5
                    AND {is_chunk}
                    AND NOT EXISTS (
                        SELECT FROM chatbot_sync.embedding o
                        WHERE o.model_id = $6
                            AND (o.chatbot_id, o.source_type, o.source_id, o.chunk_id, o.content)
                                = (a.chatbot_id, a.source_type, a.source_id, a.chunk_id, a.content)
                    )
            )",
        is_chunk = same_source("a", "e")
    );
    write(&mark_complete, &args(keys)).map(drop)
}

/// Marks a source as failed because the provider refused one of its texts for the next model. It is synced again once it
/// has all vectors.
pub fn mark_refused(key: &SourceKey, model_id: ModelId, failed: &SyncError) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.source
        SET status = 'error',
            error_code = $4,
            error = $5
        WHERE {IS_SOURCE}"
    );
    let error = format!("{}{}", error_prefix(model_id), failed.message);
    write(&sql, &key.args_and([failed.code.clone().into(), error.into()])).map(drop)
}

/// Returns those of the sources that [`mark_refused`] has marked.
pub fn marked_refused(keys: &[SourceKey], model_id: ModelId) -> Result<Vec<SourceKey>> {
    let sql = format!(
        "SELECT e.chatbot_id, e.source_type, e.source_id
        FROM {KEYS}
        JOIN chatbot_sync.source e ON {IS_KEY_OF_CHATBOT}
        WHERE e.status = 'error'
            AND pg_catalog.starts_with(e.error, $5)"
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

/// The number of sources that have vectors of a model.
#[derive(Debug, Clone, Copy)]
pub struct ModelProgress {
    /// The number of all sources.
    pub sources: i64,
    /// The number of sources that lack vectors of the model.
    pub incomplete: i64,
}

/// Counts the sources, and those that lack vectors of a model. Reads all sources.
pub fn count_incomplete(model_id: ModelId) -> Result<ModelProgress> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE next_model_id IS DISTINCT FROM $1)
        FROM chatbot_sync.source";
    run(sql, &[model_id.into()], StatementMode::ReadLatest, |rows| {
        let rows = rows.first();
        Ok(ModelProgress { sources: not_null(rows.get(1))?, incomplete: not_null(rows.get(2))? })
    })
}

/// Locks out sessions that insert, update or delete sources, until the transaction ends.
pub fn stop_writers() -> Result<()> {
    execute_once("LOCK TABLE chatbot_sync.source IN SHARE ROW EXCLUSIVE MODE")
}

/// Returns the next sources that lack vectors of a model, in the order of their keys.
pub fn sources_without_vectors(model_id: ModelId, after: Option<SourceKey>, limit: i32) -> Result<Vec<SourceKey>> {
    let (beyond, key_args) = after_key(after, 3);
    let sql = format!(
        "SELECT chatbot_id, source_type, source_id
        FROM chatbot_sync.source
        WHERE next_model_id IS DISTINCT FROM $1 {beyond}
        {ORDER_BY_KEY}
        LIMIT $2"
    );
    let args: Vec<_> = [model_id.into(), limit.into()].into_iter().chain(key_args).collect();
    run(&sql, &args, StatementMode::ReadLatest, |rows| rows.map(|row| read_key(&row)).collect())
}

/// Returns the number of chunks that sources have with a model.
pub fn count_chunks_of_sources(keys: &[SourceKey], model_id: ModelId) -> Result<i64> {
    let sql = format!(
        "SELECT count(*)
        FROM {KEYS}
        JOIN chatbot_sync.embedding e
            ON {IS_KEY_OF_CHATBOT}
            AND e.model_id = $5"
    );
    by_chatbot(keys.iter().copied(), |key| key.chatbot_id)
        .into_iter()
        .map(|(chatbot_id, keys)| {
            let args: Vec<_> = chatbot_key_args(chatbot_id, &keys).into_iter().chain([model_id.into()]).collect();
            run(&sql, &args, StatementMode::ReadLatest, |rows| not_null::<i64>(rows.first().get_one()))
        })
        .sum()
}
