//! Sources: their rows in `chatbot_sync.source`.

use std::collections::HashSet;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use crate::error::Result;
use crate::ids::{HostId, ModelId};
use crate::pg::runtime::{schema, settings};
use crate::pg::store::source_key::{
    IS_SOURCE, KEYS, by_chatbot, chatbot_key_args, read_keys, same_source, write_by_chatbot,
};
use crate::pg::store::text_search::{WORDS_VERSION, WordsRead};
use crate::pg::store::{Rows, StatementMode, chunk, lock_with_retry, not_null, reads_latest, run, write};
use crate::source::{Jsonb, SourceInput, SourceKey, SourceStatus, SyncOutcome};

/// A source's row, as far as a sync reads it.
pub struct SourceRow {
    /// The SHA-256 of the content that the vectors were made from; `None`: it was never embedded.
    pub content_hash: Option<Vec<u8>>,
    /// The way in which the source was chunked: the chunker's version, its parameters, and how the content was read; `None`:
    /// it never was.
    pub chunking: Option<Vec<i32>>,
    /// The model that its vectors were made with; `None`: it has none.
    pub model_id: Option<ModelId>,
    /// Whether its vectors are complete, and its host row took that status.
    pub synced: bool,
    /// The number of its chunks.
    pub chunk_count: i32,
    /// Whether it has more chunks than chatbot_sync.max_chunks, so that its end is not embedded.
    pub truncated: bool,
    /// Whether its metadata equals the metadata that was passed.
    pub same_metadata: bool,
    /// Whether searches find the source.
    pub enabled: bool,
    /// The host table that it comes from; `None`: it has none.
    pub host: Option<HostId>,
    /// The way in which its words were read.
    pub words: WordsRead,
    /// The note that [`write_note`](super::source_error::write_note) has written.
    pub note: Option<String>,
}

impl SourceRow {
    /// Whether metadata, `enabled` and host table are those of the input, so that only the content can differ.
    pub fn same_attributes(&self, input: &SourceInput) -> bool {
        self.same_metadata && self.enabled == input.enabled && (input.host.is_none() || self.host == input.host)
    }

    /// The outcome of a sync that keeps every chunk.
    pub fn unchanged_outcome(&self) -> SyncOutcome {
        SyncOutcome { chunks: self.chunk_count, reused: self.chunk_count, truncated: self.truncated }
    }
}

/// A source's row, as a sync writes it.
pub struct SourceUpdate<'a> {
    /// The input of the sync.
    pub input: &'a SourceInput,
    /// The way in which the source is chunked: the chunker's version, its parameters, and how the content is read.
    pub chunking: Vec<i32>,
    /// The number of its chunks.
    pub chunk_count: i32,
    /// Whether it has more chunks than chatbot_sync.max_chunks, so that its end is not embedded.
    pub truncated: bool,
    /// The text search configurations that its words are read with.
    pub configurations: Vec<String>,
    /// The language of most of its text, as its metadata says or as it was detected; `None` where a setting names the
    /// text search configuration.
    pub lang: Option<String>,
}

/// The language that a source's metadata says, as an expression in SQL.
pub const SAID_LANG: &str =
    "CASE pg_catalog.jsonb_typeof(metadata -> 'lang') WHEN 'string' THEN metadata ->> 'lang' END";

/// Whether a source's row is locked when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowLock {
    /// It is not.
    None,
    /// It is locked against other syncs until the transaction ends.
    ForSync,
}

/// Reads a source's row, and compares its metadata with `metadata`; `None` where there is no such source.
pub fn read_row(key: &SourceKey, metadata: &Jsonb, lock: RowLock) -> Result<Option<SourceRow>> {
    let lang = if has_languages()? { "lang" } else { "NULL::text" };
    let select = format!(
        "SELECT
            content_hash,
            chunking,
            model_id,
            status = 'synced' AND (error IS NULL OR error_code = '01000'),
            chunk_count,
            truncated,
            metadata = $4,
            enabled,
            host,
            text_search_configs,
            {lang},
            {SAID_LANG},
            CASE WHEN error_code = '01000' THEN error END
        FROM chatbot_sync.source
        WHERE {IS_SOURCE}"
    );
    let read = |sql: &str, mode| run(sql, &key.args_and([metadata.clone().into()]), mode, source_row);
    if lock == RowLock::None {
        return read(&select, StatementMode::ReadLatest);
    }
    let select_locked = format!(
        "{select}
        FOR NO KEY UPDATE"
    );
    if reads_latest() {
        // Nearly always no other session has locked the row, and then the subtransaction of lock_with_retry() is not needed.
        if let Some(row) = read(&format!("{select_locked} SKIP LOCKED"), StatementMode::Write)? {
            return Ok(Some(row));
        }
    }
    lock_with_retry(|| read(&select_locked, StatementMode::Write))
}

fn source_row(mut rows: Rows) -> pgrx::spi::Result<Option<SourceRow>> {
    let Some(row) = rows.next() else { return Ok(None) };
    let mut chunking: Option<Vec<i32>> = row.get(2)?;
    Ok(Some(SourceRow {
        words: WordsRead::new(&mut chunking, not_null(row.get(10))?, row.get(11)?, row.get(12)?),
        content_hash: row.get(1)?,
        chunking,
        model_id: row.get(3)?,
        synced: not_null(row.get(4))?,
        chunk_count: not_null(row.get(5))?,
        truncated: not_null(row.get(6))?,
        same_metadata: not_null(row.get(7))?,
        enabled: not_null(row.get(8))?,
        host: row.get(9)?,
        note: row.get(13)?,
    }))
}

/// Whether there is a source with this key.
pub fn exists(key: &SourceKey) -> Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT FROM chatbot_sync.source WHERE {IS_SOURCE})");
    run(&sql, &key.args(), StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}

/// Returns the host table that a source comes from; `None` where there is no such source, or it comes from no table.
pub fn host_of(key: &SourceKey) -> Result<Option<HostId>> {
    let sql = format!("SELECT host FROM chatbot_sync.source WHERE {IS_SOURCE}");
    run(&sql, &key.args(), StatementMode::ReadLatest, |mut rows| rows.next().map_or(Ok(None), |row| row.get(1)))
}

/// The rows of [`source_args`], as a table with [`UPDATE_COLUMNS`].
const UPDATES: &str = "unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
const UPDATE_COLUMNS: &str = "chatbot_id, source_type, source_id, content_hash, chunking, chunk_count, truncated,
            metadata, enabled, host, configurations, lang";

/// The arguments for rows of sources: the model, and an array for each of [`UPDATE_COLUMNS`].
fn source_args<'a>(model_id: ModelId, sources: &[&SourceUpdate]) -> Vec<DatumWithOid<'a>> {
    fn all<T>(sources: &[&SourceUpdate], of: impl Fn(&SourceUpdate) -> T) -> Vec<T> {
        sources.iter().map(|s| of(s)).collect()
    }
    // Of arrays of different lengths Postgres makes no array of arrays, so each is passed as one text.
    let chunking =
        |s: &SourceUpdate| s.chunking.iter().chain([&WORDS_VERSION]).map(i32::to_string).collect::<Vec<_>>().join(",");
    vec![
        model_id.into(),
        all(sources, |s| s.input.key.chatbot_id).into(),
        all(sources, |s| s.input.key.source_type).into(),
        all(sources, |s| s.input.key.source_id).into(),
        all(sources, |s| s.input.content.hash().to_vec()).into(),
        all(sources, chunking).into(),
        all(sources, |s| s.chunk_count).into(),
        all(sources, |s| s.truncated).into(),
        all(sources, |s| s.input.metadata.clone()).into(),
        all(sources, |s| s.input.enabled).into(),
        all(sources, |s| s.input.host).into(),
        all(sources, |s| s.configurations.join(",")).into(),
        all(sources, |s| s.lang.clone()).into(),
    ]
}

/// Whether the rows of sources say their languages: those of an older version of the SQL do not.
pub fn has_languages() -> Result<bool> {
    // SAFETY: look-ups in the catalog's cache.
    unsafe {
        let table = pg_sys::get_relname_relid(c"source".as_ptr(), schema::schema()?);
        Ok(pg_sys::get_attnum(table, c"lang".as_ptr()) > 0)
    }
}

/// Inserts the rows of sources, and returns the keys of those that no other transaction has inserted meanwhile.
pub fn insert_sources(model_id: ModelId, sources: &[&SourceUpdate]) -> Result<HashSet<SourceKey>> {
    if sources.is_empty() {
        return Ok(HashSet::new());
    }
    let lang = if has_languages()? { ", lang" } else { "" };
    let sql = format!(
        "INSERT INTO chatbot_sync.source (
            chatbot_id, source_type, source_id, content_hash, chunk_count, truncated, metadata, enabled, host,
            chunking, text_search_configs, model_id, status, synced_at{lang}
        )
        SELECT
            chatbot_id, source_type, source_id, content_hash, chunk_count, truncated, metadata, enabled, host,
            pg_catalog.string_to_array(chunking, ',')::int[],
            pg_catalog.string_to_array(configurations, ','),
            $1,
            'synced',
            pg_catalog.now(){lang}
        FROM {UPDATES} AS n (
            {UPDATE_COLUMNS}
        )
        ON CONFLICT DO NOTHING
        RETURNING chatbot_id, source_type, source_id"
    );
    run(&sql, &source_args(model_id, sources), StatementMode::Write, read_keys)
}

/// Whether the snapshot of a REPEATABLE READ or SERIALIZABLE transaction still shows one of these sources, which another
/// transaction has deleted since. If it is inserted again, the check of a foreign key finds the deleted row too, and raises
/// a serialization failure. The caller can do without that check: it has inserted the row that counts, and so locked it.
pub fn has_concurrent_delete(sources: &[&SourceUpdate]) -> Result<bool> {
    if !settings::sees_only_its_snapshot() {
        return Ok(false);
    }
    let sql = format!(
        "SELECT FROM chatbot_sync.source s, {KEYS}
        WHERE {}
            AND s.chatbot_id = $4
        LIMIT 1",
        same_source("s", "k")
    );
    for (chatbot_id, keys) in by_chatbot(sources.iter().map(|s| s.input.key), |key| key.chatbot_id) {
        if run(&sql, &chatbot_key_args(chatbot_id, &keys), StatementMode::Read, |rows| Ok(rows.len()))? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the result of a sync to the rows of sources. If a caller has embedded the source of a host row, it becomes
/// pending, so that the row's own content comes back.
pub fn update_sources(model_id: ModelId, sources: &[&SourceUpdate]) -> Result<()> {
    let lang = if has_languages()? { ",\n            lang = n.lang" } else { "" };
    let sql = format!(
        "UPDATE chatbot_sync.source s
        SET content_hash = n.content_hash,
            chunking = pg_catalog.string_to_array(n.chunking, ',')::int[],
            model_id = $1,
            chunk_count = n.chunk_count,
            truncated = n.truncated,
            metadata = n.metadata,
            enabled = n.enabled,
            host = COALESCE(n.host, s.host),
            text_search_configs = pg_catalog.string_to_array(n.configurations, ','),
            status = CASE WHEN n.host IS NULL AND s.host IS NOT NULL THEN 'pending' ELSE 'synced' END,
            synced_at = pg_catalog.now(),
            error = NULL,
            error_code = NULL,
            attempts = 0,
            next_attempt_at = NULL,
            next_model_id = NULL{lang}
        FROM {UPDATES} AS n (
            {UPDATE_COLUMNS}
        )
        WHERE {}
            AND s.chatbot_id = $14",
        same_source("s", "n")
    );
    by_chatbot(sources.iter().copied(), |s| s.input.key.chatbot_id).into_iter().try_for_each(|(chatbot_id, sources)| {
        let mut args = source_args(model_id, &sources);
        args.push(chatbot_id.into());
        write(&sql, &args).map(drop)
    })
}

/// Writes everything but the content to a source and its chunks. What a caller writes to the source of a host row holds only
/// until the row is synced again.
pub fn update_attributes(input: &SourceInput, status: SourceStatus, row: &SourceRow) -> Result<()> {
    // The metadata of a pending source may say another language than the one that its words were read in: version 0 of its
    // words makes the next sync read them again.
    let sql = format!(
        "UPDATE chatbot_sync.source
        SET metadata = $4,
            enabled = $5,
            host = COALESCE($6, host),
            chunking = CASE WHEN $7 = 'pending' AND chunk_count > 0 THEN chunking[1:5] || 0 ELSE chunking END,
            status = CASE WHEN $6 IS NULL AND host IS NOT NULL THEN 'pending' ELSE $7 END,
            error = CASE WHEN error_code = '01000' THEN error END,
            error_code = CASE WHEN error_code = '01000' THEN error_code END,
            attempts = 0,
            next_attempt_at = NULL
        WHERE {IS_SOURCE}"
    );
    write(&sql, &input.key.args_and(attribute_args(input).into_iter().chain([status.into()])))?;
    if row.same_attributes(input) { Ok(()) } else { chunk::update_chunk_attributes(input) }
}

/// Metadata, `enabled` and host table, as the arguments after a key.
pub fn attribute_args<'a>(input: &SourceInput) -> [DatumWithOid<'a>; 3] {
    [input.metadata.clone().into(), input.enabled.into(), input.host.into()]
}

/// Inserts the row of a pending source. Does nothing where the source exists.
pub fn insert_pending(input: &SourceInput) -> Result<()> {
    let sql = "INSERT INTO chatbot_sync.source (chatbot_id, source_type, source_id, metadata, enabled, host, status)
        VALUES ($1, $2, $3, $4, $5, $6, 'pending')
        ON CONFLICT DO NOTHING";
    write(sql, &input.key.args_and(attribute_args(input))).map(drop)
}

/// Marks synced sources pending.
pub fn mark_pending(keys: &[SourceKey]) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.source s
        SET status = 'pending'
        FROM {KEYS}
        WHERE {}
            AND s.chatbot_id = $4
            AND s.status = 'synced'",
        same_source("s", "k")
    );
    write_by_chatbot(&sql, keys).map(drop)
}

/// Makes sources in error pending again, and returns how many.
pub fn mark_retried(keys: &[SourceKey]) -> Result<i64> {
    let sql = format!(
        "UPDATE chatbot_sync.source s
        SET status = 'pending',
            attempts = 0,
            next_attempt_at = NULL,
            error = NULL,
            error_code = NULL
        FROM {KEYS}
        WHERE {}
            AND s.chatbot_id = $4
            AND s.status = 'error'",
        same_source("s", "k")
    );
    write_by_chatbot(&sql, keys)
}
