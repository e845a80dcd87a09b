//! Deletes sources, and moves them to other keys.

use std::collections::HashSet;

use crate::error::Result;
use crate::ids::ChatbotId;
use crate::pg::runtime::memory::Scratch;
use crate::pg::store::source::has_languages;
use crate::pg::store::source_key::{
    IS_SOURCE, KEYS, ORDER_BY_KEY, after_key, by_chatbot, chatbot_key_args, key_array_args, read_key, same_source,
    write_by_chatbot,
};
use crate::pg::store::{StatementMode, job, lock_with_retry, log, run, write};
use crate::source::SourceKey;

/// Deletes a source with its jobs and vectors, and returns the number of vectors; `None` where there is no such source.
pub fn delete_source(key: &SourceKey) -> Result<Option<i64>> {
    job::delete_of_source(key)?;
    let lock = format!(
        "SELECT FROM chatbot_sync.source
        WHERE {IS_SOURCE}
        FOR UPDATE"
    );
    if write(&lock, &key.args())? == 0 {
        return Ok(None);
    }
    let deleted = write(&format!("DELETE FROM chatbot_sync.embedding WHERE {IS_SOURCE}"), &key.args())?;
    write(&format!("DELETE FROM chatbot_sync.source WHERE {IS_SOURCE}"), &key.args())?;
    Ok(Some(deleted))
}

/// Deletes sources with their vectors. The sources are locked first.
pub fn delete_sources(keys: &[SourceKey]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    // Each statement copies the keys, and a caller may delete many slices in a row.
    let _scratch = Scratch::new();
    let is_key = same_source("s", "k");
    let lock = format!(
        "SELECT FROM chatbot_sync.source s, {KEYS}
        WHERE {is_key}
            AND s.chatbot_id = $4
        FOR UPDATE OF s"
    );
    lock_with_retry(|| write_by_chatbot(&lock, keys))?;
    for table in ["embedding", "source"] {
        let sql = format!(
            "DELETE FROM chatbot_sync.{table} s
            USING {KEYS}
            WHERE {is_key}
                AND s.chatbot_id = $4"
        );
        write_by_chatbot(&sql, keys)?;
    }
    Ok(())
}

/// A source that gets another key.
#[derive(Debug, Clone, Copy)]
pub struct Relocation {
    /// The key that it has.
    pub from: SourceKey,
    /// The key that it gets.
    pub to: SourceKey,
}

/// The temporary key of a source whose new key is still that of another source.
pub fn temporary_key(key: SourceKey) -> SourceKey {
    SourceKey { chatbot_id: ChatbotId(-key.chatbot_id.0), ..key }
}

/// The columns of a source that it keeps when its key changes, without its language.
const SOURCE_COLUMNS: &str = "host, status, error, error_code, attempts, next_attempt_at, chunk_count, truncated,
            content_hash, chunking, model_id, enabled, metadata, text_search_configs, next_model_id, synced_at";
/// The columns of a chunk that it keeps when its source's key changes.
const CHUNK_COLUMNS: &str =
    "model_id, chunk_id, chunk_index, start_offset, end_offset, enabled, lang, metadata, content, embedding, words";

/// Moves sources to other keys, with their vectors. Sources that are stored under the new keys are deleted.
pub fn relocate_sources(moves: &[Relocation]) -> Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let _scratch = Scratch::new();
    let from: HashSet<SourceKey> = moves.iter().map(|source| source.from).collect();
    // A new key may still be that of another source: then all sources go to temporary keys first.
    if moves.iter().any(|source| from.contains(&source.to)) {
        let to_temporary: Vec<_> =
            moves.iter().map(|&source| Relocation { to: temporary_key(source.from), ..source }).collect();
        relocate_sources(&to_temporary)?;
        let from_temporary: Vec<_> =
            moves.iter().map(|&source| Relocation { from: temporary_key(source.from), ..source }).collect();
        return relocate_sources(&from_temporary);
    }
    // What is stored under the new keys belongs to no row any more.
    delete_sources(&moves.iter().map(|source| source.to).collect::<Vec<_>>())?;
    let source_columns = if has_languages()? { format!("{SOURCE_COLUMNS}, lang") } else { SOURCE_COLUMNS.to_owned() };
    for (table, columns) in [("source", source_columns.as_str()), ("embedding", CHUNK_COLUMNS)] {
        let sql = format!(
            "INSERT INTO chatbot_sync.{table} (
                chatbot_id, source_type, source_id,
                {columns}
            )
            SELECT
                to_chatbot_id, to_source_type, to_source_id,
                {columns}
            FROM chatbot_sync.{table},
                unnest($1::bigint[], $2::text[], $3::bigint[], $5::bigint[], $6::text[], $7::bigint[])
                    AS m (from_chatbot_id, from_source_type, from_source_id, to_chatbot_id, to_source_type, to_source_id)
            WHERE (chatbot_id, source_type, source_id) = (from_chatbot_id, from_source_type, from_source_id)
                AND chatbot_id = $4"
        );
        for (chatbot_id, moves) in by_chatbot(moves, |source| source.from.chatbot_id) {
            let from: Vec<SourceKey> = moves.iter().map(|source| source.from).collect();
            let to: Vec<SourceKey> = moves.iter().map(|source| source.to).collect();
            let args = chatbot_key_args(chatbot_id, &from).into_iter().chain(key_array_args(&to)).collect::<Vec<_>>();
            write(&sql, &args)?;
        }
    }
    delete_sources(&moves.iter().map(|source| source.from).collect::<Vec<_>>())
}

/// Locks the sources of a chatbot in the order of their keys, 10,000 at a time, since a statement keeps the rows that it
/// locks in memory until it ends.
fn lock_sources_of_chatbot(chatbot_id: ChatbotId) -> Result<()> {
    const SLICE: i32 = 10_000;
    let mut after: Option<SourceKey> = None;
    loop {
        let (beyond, key_args) = after_key(after, 3);
        let sql = format!(
            "SELECT chatbot_id, source_type, source_id
            FROM chatbot_sync.source
            WHERE chatbot_id = $1 {beyond}
            {ORDER_BY_KEY}
            LIMIT $2
            FOR UPDATE"
        );
        let args: Vec<_> = [chatbot_id.into(), SLICE.into()].into_iter().chain(key_args).collect();
        let last = run(&sql, &args, StatementMode::Write, |rows| rows.last().map(|row| read_key(&row)).transpose())?;
        match last {
            Some(last) => after = Some(last),
            None => return Ok(()),
        }
    }
}

/// The numbers of a chatbot's rows that were deleted.
pub struct DeletedRows {
    /// The number of vectors.
    pub embeddings: i64,
    /// The number of sessions.
    pub sessions: i64,
}

/// Deletes everything that belongs to a chatbot.
pub fn delete_chatbot(chatbot_id: ChatbotId) -> Result<DeletedRows> {
    let _scratch = Scratch::new();
    lock_with_retry(|| {
        // A row that came from another chatbot may still be stored under its old key there: its job, which stays, deletes
        // that.
        let sql = "DELETE FROM chatbot_sync.job
            WHERE chatbot_id = $1
                AND (from_chatbot_id IS NULL OR from_chatbot_id = $1)";
        write(sql, &[chatbot_id.into()])?;
        // Sources are locked first, so that a sync that is running is waited for, and its source is not deleted by half.
        lock_sources_of_chatbot(chatbot_id)
    })?;
    let embeddings = write("DELETE FROM chatbot_sync.embedding WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    write("DELETE FROM chatbot_sync.source WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    log::delete_of_chatbot(chatbot_id)?;
    let sessions = write("DELETE FROM chatbot_sync.session WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    Ok(DeletedRows { embeddings, sessions })
}
