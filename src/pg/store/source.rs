//! Sources and their chunks.

use std::time::Duration;

use pgrx::datum::DatumWithOid;

use super::{Mode, one, run, write};
use crate::batch::Usage;
use crate::error::Result;
use crate::pg::jsonb::Jsonb;
use crate::pg::vector::Vector;

/// Which source.
#[derive(Debug, Clone, Copy)]
pub struct SourceKey<'a> {
    /// The tenant.
    pub chatbot_id: i64,
    /// `document` or `link`.
    pub source_type: &'a str,
    /// The host row's id.
    pub source_id: i64,
}

impl SourceKey<'_> {
    fn args<'a>(&self) -> Vec<DatumWithOid<'a>> {
        vec![self.chatbot_id.into(), self.source_type.into(), self.source_id.into()]
    }

    fn args_and<'a>(&self, more: impl IntoIterator<Item = DatumWithOid<'a>>) -> Vec<DatumWithOid<'a>> {
        self.args().into_iter().chain(more).collect()
    }
}

/// A source's row, as far as a sync looks at it.
pub struct SourceRow {
    /// SHA-256 of the content that the vectors were made from.
    pub content_hash: Option<Vec<u8>>,
    /// How it was cut.
    pub chunking: Option<Vec<i32>>,
    /// With which model.
    pub model_id: Option<i32>,
    /// Whether the vectors are whole.
    pub synced: bool,
    /// Chunks that it has.
    pub chunk_count: i32,
    /// Whether its end was cut off.
    pub truncated: bool,
    /// Whether its metadata is what was asked about.
    pub same_metadata: bool,
}

/// What a sync writes to a source's row.
pub struct SourceState {
    /// SHA-256 of the content.
    pub content_hash: Vec<u8>,
    /// How it was cut.
    pub chunking: Vec<i32>,
    /// With which model.
    pub model_id: i32,
    /// Chunks that it has.
    pub chunk_count: i32,
    /// Whether its end was cut off.
    pub truncated: bool,
    /// The metadata.
    pub metadata: Jsonb,
}

/// A stored chunk without its vector.
pub struct StoredChunk {
    /// Stays with it.
    pub chunk_id: i32,
    /// Where it stands.
    pub place: Place,
    /// Its text.
    pub content: String,
}

impl AsRef<str> for StoredChunk {
    fn as_ref(&self) -> &str {
        &self.content
    }
}

/// Where a chunk stands in its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub index: i32,
    /// First character.
    pub start: i32,
    /// The character after the last.
    pub end: i32,
}

/// A chunk to be stored.
pub struct NewChunk<'a> {
    /// Free in its source.
    pub chunk_id: i32,
    /// Where it stands.
    pub place: Place,
    /// Its text.
    pub content: &'a str,
    /// Its vector.
    pub vector: Vec<f32>,
}

/// Reads a source; with `lock` it is locked against other syncs until the transaction ends.
pub fn read(key: &SourceKey, metadata: &Jsonb, lock: bool) -> Result<Option<SourceRow>> {
    const READ: &str =
        "SELECT content_hash, chunking, model_id, status = 'synced', chunk_count, truncated, metadata = $4
        FROM chatbot_sync.source WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3";
    let (sql, mode) = if lock { (format!("{READ} FOR UPDATE"), Mode::Write) } else { (READ.to_owned(), Mode::ReadNow) };
    run(&sql, &key.args_and([metadata.clone().into()]), mode, |mut rows| match rows.next() {
        Some(row) => Ok(Some(SourceRow {
            content_hash: row.get(1)?,
            chunking: row.get(2)?,
            model_id: row.get(3)?,
            synced: one(row.get(4))?,
            chunk_count: one(row.get(5))?,
            truncated: one(row.get(6))?,
            same_metadata: one(row.get(7))?,
        })),
        None => Ok(None),
    })
}

impl SourceState {
    fn args<'a>(&self, key: &SourceKey) -> Vec<DatumWithOid<'a>> {
        key.args_and([
            self.content_hash.clone().into(),
            self.chunking.clone().into(),
            self.model_id.into(),
            self.chunk_count.into(),
            self.truncated.into(),
            self.metadata.clone().into(),
        ])
    }
}

/// Makes a source's row. False where another transaction made it meanwhile.
pub fn insert(key: &SourceKey, state: &SourceState) -> Result<bool> {
    let sql = "INSERT INTO chatbot_sync.source (chatbot_id, source_type, source_id, content_hash, chunking, model_id,
            chunk_count, truncated, metadata, status, synced_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'synced', pg_catalog.now()) ON CONFLICT DO NOTHING";
    Ok(write(sql, &state.args(key))? > 0)
}

/// Writes what a sync has made of a source.
pub fn update(key: &SourceKey, state: &SourceState) -> Result<()> {
    let sql = "UPDATE chatbot_sync.source SET content_hash = $4, chunking = $5, model_id = $6, chunk_count = $7,
            truncated = $8, metadata = $9, status = 'synced', synced_at = pg_catalog.now(), error = NULL,
            error_code = NULL, attempts = 0, next_attempt_at = NULL
        WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3";
    write(sql, &state.args(key)).map(drop)
}

/// Writes a source's metadata, to its chunks too.
pub fn update_metadata(key: &SourceKey, metadata: &Jsonb) -> Result<()> {
    let args = || key.args_and([metadata.clone().into()]);
    let sql =
        "UPDATE chatbot_sync.source SET metadata = $4 WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3";
    write(sql, &args())?;
    let sql =
        "UPDATE chatbot_sync.embedding SET metadata = $4 WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3";
    write(sql, &args()).map(drop)
}

/// The chunks of a source, in order.
pub fn chunks(key: &SourceKey, model_id: i32) -> Result<Vec<StoredChunk>> {
    let sql = "SELECT chunk_id, chunk_index, start_offset, end_offset, content FROM chatbot_sync.embedding
        WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3 AND model_id = $4 ORDER BY chunk_index";
    run(sql, &key.args_and([model_id.into()]), Mode::Write, |rows| {
        rows.map(|row| {
            Ok(StoredChunk {
                chunk_id: one(row.get(1))?,
                place: Place { index: one(row.get(2))?, start: one(row.get(3))?, end: one(row.get(4))? },
                content: one(row.get(5))?,
            })
        })
        .collect()
    })
}

/// Deletes the vectors of a source that other models made.
pub fn delete_other_models(key: &SourceKey, model_id: i32) -> Result<i64> {
    let sql = "DELETE FROM chatbot_sync.embedding
        WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3 AND model_id <> $4";
    write(sql, &key.args_and([model_id.into()]))
}

/// Deletes chunks.
pub fn delete_chunks(key: &SourceKey, model_id: i32, chunk_ids: Vec<i32>) -> Result<()> {
    if chunk_ids.is_empty() {
        return Ok(());
    }
    let sql = "DELETE FROM chatbot_sync.embedding WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3
        AND model_id = $4 AND chunk_id = ANY ($5)";
    write(sql, &key.args_and([model_id.into(), chunk_ids.into()])).map(drop)
}

/// Moves chunks to other places; their vectors stay as they are.
// An unnest() of several arrays is grammar, not a name that is looked up: no search_path matters to it.
pub fn move_chunks(key: &SourceKey, model_id: i32, moves: &[(i32, Place)]) -> Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let sql = "UPDATE chatbot_sync.embedding e
        SET chunk_index = m.chunk_index, start_offset = m.start_offset, end_offset = m.end_offset
        FROM unnest($5::int[], $6::int[], $7::int[], $8::int[])
            AS m (chunk_id, chunk_index, start_offset, end_offset)
        WHERE e.chatbot_id = $1 AND e.source_type = $2 AND e.source_id = $3 AND e.model_id = $4
            AND e.chunk_id = m.chunk_id";
    let column = |of: fn(&(i32, Place)) -> i32| moves.iter().map(of).collect::<Vec<i32>>().into();
    let columns = [column(|m| m.0), column(|m| m.1.index), column(|m| m.1.start), column(|m| m.1.end)];
    write(sql, &key.args_and(std::iter::once(model_id.into()).chain(columns))).map(drop)
}

/// Stores chunks with their vectors, in statements of about 200 KB: as fast as COPY, and it keeps to privileges.
pub fn insert_chunks(key: &SourceKey, model_id: i32, metadata: &Jsonb, chunks: Vec<NewChunk>) -> Result<()> {
    const STATEMENT_BYTES: usize = 200 * 1024;
    let sql = "INSERT INTO chatbot_sync.embedding (chatbot_id, source_type, source_id, model_id, metadata,
            chunk_id, chunk_index, start_offset, end_offset, content, embedding)
        SELECT $1, $2, $3, $4, $5, n.* FROM unnest($6, $7, $8, $9, $10, $11) AS n";
    let mut chunks = chunks.into_iter().peekable();
    while chunks.peek().is_some() {
        let (mut ids, mut indexes, mut starts, mut ends) = (vec![], vec![], vec![], vec![]);
        let (mut contents, mut vectors): (Vec<String>, Vec<Vector>) = (vec![], vec![]);
        let mut bytes = 0;
        while let Some(c) = chunks.next_if(|_| bytes < STATEMENT_BYTES) {
            bytes += c.content.len() + c.vector.len() * size_of::<f32>();
            ids.push(c.chunk_id);
            indexes.push(c.place.index);
            starts.push(c.place.start);
            ends.push(c.place.end);
            contents.push(c.content.to_owned());
            vectors.push(Vector(c.vector));
        }
        write(
            sql,
            &key.args_and([
                model_id.into(),
                metadata.clone().into(),
                ids.into(),
                indexes.into(),
                starts.into(),
                ends.into(),
                contents.into(),
                vectors.into(),
            ]),
        )?;
    }
    Ok(())
}

/// Deletes a source and its vectors: how many vectors; none where there is no such source.
pub fn delete(key: &SourceKey) -> Result<Option<i64>> {
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

/// Deletes all of a chatbot: (vectors, sessions).
pub fn cleanup(chatbot_id: i64) -> Result<(i64, i64)> {
    // Sources first, and locked, so that a sync that runs meanwhile is waited for and not half deleted.
    write(
        "SELECT FROM chatbot_sync.source WHERE chatbot_id = $1 ORDER BY source_type, source_id FOR UPDATE",
        &[chatbot_id.into()],
    )?;
    let embeddings = write("DELETE FROM chatbot_sync.embedding WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    write("DELETE FROM chatbot_sync.source WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    write("DELETE FROM chatbot_sync.sync_log WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    let sessions = write("DELETE FROM chatbot_sync.session WHERE chatbot_id = $1", &[chatbot_id.into()])?;
    Ok((embeddings, sessions))
}

/// What a sync that asked a provider took.
pub struct SyncLog {
    /// With which model.
    pub model_id: i32,
    /// Chunks that the source has.
    pub chunks: i32,
    /// Of those, how many were embedded.
    pub embedded: i32,
    /// What the provider was asked for.
    pub usage: Usage,
    /// Time for embedding.
    pub embedding: Duration,
    /// Time in all.
    pub total: Duration,
}

/// Notes what a sync took.
pub fn insert_log(key: &SourceKey, log: &SyncLog) -> Result<()> {
    let sql =
        "INSERT INTO chatbot_sync.sync_log (chatbot_id, source_type, source_id, model_id, chunks, embedded, requests,
            inputs, tokens, embedding_ms, total_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let args = key.args_and([
        log.model_id.into(),
        log.chunks.into(),
        log.embedded.into(),
        count(log.usage.requests).into(),
        count(log.usage.inputs).into(),
        count(log.usage.tokens).into(),
        (log.embedding.as_secs_f64() * 1e3).into(),
        (log.total.as_secs_f64() * 1e3).into(),
    ]);
    write(sql, &args).map(drop)
}
