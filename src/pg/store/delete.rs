//! Sources that go, or go elsewhere.

use std::collections::HashSet;

use crate::error::Result;
use crate::pg::runtime::memory::Scratch;
use crate::pg::store::source::{
    BY_KEY, beyond, by_chatbot, has_languages, key, key_columns, of_chatbot, write_by_chatbot,
};
use crate::pg::store::{Mode, job, lock_with_retry, log, run, write};
use crate::source::SourceKey;

/// Deletes a source and its vectors: how many vectors; none where there is no such source.
pub fn delete(key: &SourceKey) -> Result<Option<i64>> {
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

/// Deletes sources and their vectors.
pub fn delete_many(keys: &[SourceKey]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    // Keys are copied for each statement, and many slices come one after the other.
    let _scratch = Scratch::new();
    let these = "unnest($1::bigint[], $2::text[], $3::bigint[]) AS k (chatbot_id, source_type, source_id)
        WHERE (s.chatbot_id, s.source_type, s.source_id) = (k.chatbot_id, k.source_type, k.source_id)
            AND s.chatbot_id = $4";
    let lock = format!("SELECT FROM chatbot_sync.source s, {these} FOR UPDATE OF s");
    lock_with_retry(|| write_by_chatbot(&lock, keys))?;
    write_by_chatbot(&format!("DELETE FROM chatbot_sync.embedding s USING {these}"), keys)?;
    write_by_chatbot(&format!("DELETE FROM chatbot_sync.source s USING {these}"), keys).map(drop)
}

/// Where a source waits until the one that is where it goes has left.
pub fn aside(key: SourceKey) -> SourceKey {
    SourceKey { chatbot_id: -key.chatbot_id, ..key }
}

/// Gives sources other keys, and their vectors with them.
pub fn relocate(moves: &[(SourceKey, SourceKey)]) -> Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let _scratch = Scratch::new();
    let from: HashSet<SourceKey> = moves.iter().map(|(from, _)| *from).collect();
    // What another source is still to leave is left first.
    if moves.iter().any(|(_, to)| from.contains(to)) {
        let there: Vec<_> = moves.iter().map(|&(from, _)| (from, aside(from))).collect();
        relocate(&there)?;
        let back: Vec<_> = moves.iter().map(|&(from, to)| (aside(from), to)).collect();
        return relocate(&back);
    }
    // What is stored under the new keys is left over and belongs to no row.
    delete_many(&moves.iter().map(|(_, to)| *to).collect::<Vec<_>>())?;
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
            let args = of_chatbot(chatbot_id, &from).into_iter().chain(key_columns(&to)).collect::<Vec<_>>();
            write(&sql, &args)?;
        }
    }
    delete_many(&moves.iter().map(|(from, _)| *from).collect::<Vec<_>>())
}

/// Locks the sources of a chatbot, in the order of their keys. Some at a time: the rows that a statement locks are kept
/// until it ends.
fn lock_all(chatbot_id: i64) -> Result<()> {
    const SLICE: i32 = 10_000;
    let mut after: Option<SourceKey> = None;
    loop {
        let (beyond, key_args) = beyond(after, 3);
        let sql = format!(
            "SELECT chatbot_id, source_type, source_id FROM chatbot_sync.source
            WHERE chatbot_id = $1{beyond} {BY_KEY} $2 FOR UPDATE"
        );
        let args: Vec<_> = [chatbot_id.into(), SLICE.into()].into_iter().chain(key_args).collect();
        let last = run(&sql, &args, Mode::Write, |rows| rows.last().map(|row| key(&row)).transpose())?;
        match last {
            Some(last) => after = Some(last),
            None => return Ok(()),
        }
    }
}

/// Deletes all of a chatbot: (vectors, sessions).
pub fn cleanup(chatbot_id: i64) -> Result<(i64, i64)> {
    let _scratch = Scratch::new();
    lock_with_retry(|| {
        // A row that came from another chatbot may still be there as what it was: its job takes that away.
        write(
            "DELETE FROM chatbot_sync.job WHERE chatbot_id = $1 AND (from_chatbot_id IS NULL OR from_chatbot_id = $1)",
            &[chatbot_id.into()],
        )?;
        // Sources first, and locked, so that a sync that runs meanwhile is waited for and not half deleted.
        lock_all(chatbot_id)
    })?;
    let embeddings = write("DELETE FROM chatbot_sync.embedding WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    write("DELETE FROM chatbot_sync.source WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    log::forget(chatbot_id)?;
    let sessions = write("DELETE FROM chatbot_sync.session WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    Ok((embeddings, sessions))
}
