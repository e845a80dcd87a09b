//! Deletes sources, and moves them to other keys.

use std::collections::HashSet;

use crate::error::Result;
use crate::pg::runtime::memory::Scratch;
use crate::pg::store::source::{
    BY_KEY, after_key, by_chatbot, chatbot_key_args, has_languages, key, key_array_args, write_by_chatbot,
};
use crate::pg::store::{StatementMode, job, lock_with_retry, log, run, write};
use crate::source::SourceKey;

/// Deletes a source with its jobs and vectors, and returns the number of vectors; `None` where there is no such source.
pub fn delete_source(key: &SourceKey) -> Result<Option<i64>> {
    job::delete_of_source(key)?;
    let sql = "SELECT FROM chatbot_sync.source
        WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3 FOR UPDATE";
    if write(sql, &key.args())? == 0 {
        return Ok(None);
    }
    let sql = "DELETE FROM chatbot_sync.embedding WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3";
    let deleted = write(sql, &key.args())?;
    let sql = "DELETE FROM chatbot_sync.source WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3";
    write(sql, &key.args())?;
    Ok(Some(deleted))
}

/// Deletes sources with their vectors. The sources are locked first.
pub fn delete_sources(keys: &[SourceKey]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    // Each statement copies the keys, and a caller may delete many slices in a row.
    let _scratch = Scratch::new();
    let these = "unnest($1::bigint[], $2::text[], $3::bigint[]) AS k (chatbot_id, source_type, source_id)
        WHERE (s.chatbot_id, s.source_type, s.source_id) = (k.chatbot_id, k.source_type, k.source_id)
            AND s.chatbot_id = $4";
    let lock = format!("SELECT FROM chatbot_sync.source s, {these} FOR UPDATE OF s");
    lock_with_retry(|| write_by_chatbot(&lock, keys))?;
    write_by_chatbot(&format!("DELETE FROM chatbot_sync.embedding s USING {these}"), keys)?;
    write_by_chatbot(&format!("DELETE FROM chatbot_sync.source s USING {these}"), keys).map(drop)
}

/// The temporary key of a source whose new key is still that of another source.
pub fn temporary_key(key: SourceKey) -> SourceKey {
    SourceKey { chatbot_id: -key.chatbot_id, ..key }
}

/// Moves sources to other keys, with their vectors. Sources that are stored under the new keys are deleted.
pub fn relocate_sources(moves: &[(SourceKey, SourceKey)]) -> Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let _scratch = Scratch::new();
    let from: HashSet<SourceKey> = moves.iter().map(|(from, _)| *from).collect();
    // A new key may still be that of another source: then all sources go to temporary keys first.
    if moves.iter().any(|(_, to)| from.contains(to)) {
        let there: Vec<_> = moves.iter().map(|&(from, _)| (from, temporary_key(from))).collect();
        relocate_sources(&there)?;
        let back: Vec<_> = moves.iter().map(|&(from, to)| (temporary_key(from), to)).collect();
        return relocate_sources(&back);
    }
    // What is stored under the new keys belongs to no row any more.
    delete_sources(&moves.iter().map(|(_, to)| *to).collect::<Vec<_>>())?;
    const SOURCE: &str = "host, status, error, error_code, attempts, next_attempt_at, chunk_count, truncated,
        content_hash, chunking, model_id, enabled, metadata, text_search_configs, next_model_id, synced_at";
    const EMBEDDING: &str =
        "model_id, chunk_id, chunk_index, start_offset, end_offset, enabled, lang, metadata, content, embedding, words";
    let source = if has_languages()? { format!("{SOURCE}, lang") } else { SOURCE.to_owned() };
    for (table, columns) in [("source", source.as_str()), ("embedding", EMBEDDING)] {
        let sql = format!(
            "INSERT INTO chatbot_sync.{table} (chatbot_id, source_type, source_id, {columns})
            SELECT to_chatbot_id, to_source_type, to_source_id, {columns} FROM chatbot_sync.{table} s,
                unnest($1::bigint[], $2::text[], $3::bigint[], $5::bigint[], $6::text[], $7::bigint[])
                AS m (from_chatbot_id, from_source_type, from_source_id, to_chatbot_id, to_source_type, to_source_id)
            WHERE (chatbot_id, source_type, source_id) = (from_chatbot_id, from_source_type, from_source_id)
                AND chatbot_id = $4"
        );
        for (chatbot_id, moves) in by_chatbot(moves, |(from, _)| from.chatbot_id) {
            let (from, to): (Vec<SourceKey>, Vec<SourceKey>) = moves.into_iter().copied().unzip();
            let args = chatbot_key_args(chatbot_id, &from).into_iter().chain(key_array_args(&to)).collect::<Vec<_>>();
            write(&sql, &args)?;
        }
    }
    delete_sources(&moves.iter().map(|(from, _)| *from).collect::<Vec<_>>())
}

/// Locks the sources of a chatbot in the order of their keys, 10,000 at a time, since a statement keeps the rows that it
/// locks in memory until it ends.
fn lock_all(chatbot_id: i64) -> Result<()> {
    const SLICE: i32 = 10_000;
    let mut after: Option<SourceKey> = None;
    loop {
        let (beyond, key_args) = after_key(after, 3);
        let sql = format!(
            "SELECT chatbot_id, source_type, source_id FROM chatbot_sync.source
            WHERE chatbot_id = $1{beyond} {BY_KEY} $2 FOR UPDATE"
        );
        let args: Vec<_> = [chatbot_id.into(), SLICE.into()].into_iter().chain(key_args).collect();
        let last = run(&sql, &args, StatementMode::Write, |rows| rows.last().map(|row| key(&row)).transpose())?;
        match last {
            Some(last) => after = Some(last),
            None => return Ok(()),
        }
    }
}

/// Deletes everything that belongs to a chatbot, and returns the numbers of vectors and sessions.
pub fn delete_chatbot(chatbot_id: i64) -> Result<(i64, i64)> {
    let _scratch = Scratch::new();
    lock_with_retry(|| {
        // A row that came from another chatbot may still be stored under its old key there: its job, which stays, deletes
        // that.
        write(
            "DELETE FROM chatbot_sync.job WHERE chatbot_id = $1 AND (from_chatbot_id IS NULL OR from_chatbot_id = $1)",
            &[chatbot_id.into()],
        )?;
        // Sources are locked first, so that a sync that is running is waited for, and its source is not deleted by half.
        lock_all(chatbot_id)
    })?;
    let embeddings = write("DELETE FROM chatbot_sync.embedding WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    write("DELETE FROM chatbot_sync.source WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    log::delete_of_chatbot(chatbot_id)?;
    let sessions = write("DELETE FROM chatbot_sync.session WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    Ok((embeddings, sessions))
}
