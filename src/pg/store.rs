//! Every statement that is sent to Postgres, with its plan kept. All names are qualified: no search_path matters here.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::{OwnedPreparedStatement, SpiTupleTable};
use pgrx::{PgOid, Spi, Uuid, pg_sys};
use serde_json::Map;

use super::jsonb::Jsonb;
use super::vector::{Vector, VectorType, vector_type};
use crate::batch::Usage;
use crate::error::{Error, Result};
use crate::provider::Model;

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

/// The model that new vectors are made with.
#[derive(Debug, Clone)]
pub struct ActiveModel {
    /// Its row's id.
    pub id: i32,
    /// What it is.
    pub model: Model,
}

/// One answer of a search.
pub struct Found {
    /// `document` or `link`.
    pub source_type: String,
    /// The host row's id.
    pub source_id: i64,
    /// Place in the source.
    pub chunk_index: i32,
    /// The chunk's text.
    pub content: String,
    /// Cosine similarity.
    pub similarity: f32,
    /// The source's metadata.
    pub metadata: Jsonb,
}

type Args<'a> = [DatumWithOid<'a>];
type Plan = &'static OwnedPreparedStatement;
/// A statement and the types of its arguments.
type PlanKey = (String, Vec<pg_sys::Oid>);

thread_local! {
    // Plans live as long as the backend. Dropping one at exit would call into a Postgres that is already gone.
    static PLANS: RefCell<HashMap<PlanKey, Plan>> = RefCell::new(HashMap::new());
}

/// What a statement sees and may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// What the calling statement sees: for functions that are STABLE.
    Read,
    /// At READ COMMITTED what is committed by now. Makes no transaction id, so that a transaction in which nothing
    /// changes has nothing to flush.
    ReadNow,
    /// As [`Self::ReadNow`], and may write and lock.
    Write,
}

/// A snapshot on top of the calling statement's, for as long as this lives.
struct FreshSnapshot;

impl FreshSnapshot {
    #[allow(unsafe_code)]
    fn new() -> Self {
        // SAFETY: within a transaction, as every function of ours is; an error before the drop ends the transaction or
        // subtransaction, which takes the snapshot off the stack.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
        Self
    }
}

impl Drop for FreshSnapshot {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the snapshot that new() pushed is on top: what ran meanwhile took its own off.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}

/// Runs a statement with its plan kept and reads the answer.
fn run<R>(sql: &str, args: &Args, mode: Mode, read: impl FnOnce(SpiTupleTable) -> pgrx::spi::Result<R>) -> Result<R> {
    let key = (sql.to_owned(), args.iter().map(DatumWithOid::oid).collect::<Vec<_>>());
    let kept = PLANS.with_borrow(|plans| plans.get(&key).copied());
    let oids: Vec<PgOid> = key.1.iter().map(|&oid| PgOid::from(oid)).collect();
    if mode == Mode::Write {
        return Ok(Spi::connect_mut(|client| {
            let plan = match kept {
                Some(plan) => plan,
                None => keep(key, client.prepare_mut(sql, &oids)?.keep()),
            };
            read(client.update(plan, None, args)?)
        })?);
    }
    let _fresh = (mode == Mode::ReadNow).then(FreshSnapshot::new);
    Ok(Spi::connect(|client| {
        let plan = match kept {
            Some(plan) => plan,
            None => keep(key, client.prepare(sql, &oids)?.keep()),
        };
        read(client.select(plan, None, args)?)
    })?)
}

fn keep(key: PlanKey, plan: OwnedPreparedStatement) -> Plan {
    let plan: Plan = Box::leak(Box::new(plan));
    PLANS.with_borrow_mut(|plans| plans.insert(key, plan));
    plan
}

/// Runs a statement and answers how many rows it wrote.
fn write(sql: &str, args: &Args) -> Result<i64> {
    run(sql, args, Mode::Write, |rows| Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX)))
}

fn one<T>(column: pgrx::spi::Result<Option<T>>) -> pgrx::spi::Result<T> {
    column?.ok_or(pgrx::spi::Error::InvalidPosition)
}

impl SourceKey<'_> {
    fn args<'a>(&self) -> Vec<DatumWithOid<'a>> {
        vec![self.chatbot_id.into(), self.source_type.into(), self.source_id.into()]
    }

    fn args_and<'a>(&self, more: impl IntoIterator<Item = DatumWithOid<'a>>) -> Vec<DatumWithOid<'a>> {
        self.args().into_iter().chain(more).collect()
    }
}

/// Where pgvector's type is in the catalog.
pub fn look_up_vector_type() -> Result<Option<VectorType>> {
    let sql = "SELECT t.oid, pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND d.refobjid = e.oid AND d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.deptype = 'e'
        JOIN pg_catalog.pg_type t ON t.oid = d.objid
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
        WHERE e.extname = 'vector' AND t.typname = 'vector'";
    run(sql, &[], Mode::Read, |mut rows| match rows.next() {
        Some(row) => Ok(Some(VectorType { oid: one(row.get(1))?, schema: one(row.get(2))? })),
        None => Ok(None),
    })
}

/// The model that new vectors are made with; none as long as nothing was embedded and no model was set.
pub fn active_model() -> Result<Option<ActiveModel>> {
    let sql = "SELECT id, provider, model, dimensions, shortened, document_prefix, query_prefix, options::text
        FROM chatbot_sync.model WHERE active";
    let found = run(sql, &[], Mode::Read, |mut rows| match rows.next() {
        Some(row) => {
            let model = Model {
                provider: one(row.get(2))?,
                name: one(row.get(3))?,
                dimensions: usize::try_from(one::<i32>(row.get(4))?).unwrap_or(0),
                shortened: one(row.get(5))?,
                document_prefix: one(row.get(6))?,
                query_prefix: one(row.get(7))?,
                options: Map::new(),
            };
            Ok(Some((one::<i32>(row.get(1))?, model, one::<String>(row.get(8))?)))
        }
        None => Ok(None),
    })?;
    found
        .map(|(id, model, options)| match serde_json::from_str(&options) {
            Ok(options) => Ok(ActiveModel { id, model: Model { options, ..model } }),
            Err(error) => Err(Error::Internal(format!("the options of model {id} are no object: {error}"))),
        })
        .transpose()
}

fn model_args<'a>(model: &Model) -> Vec<DatumWithOid<'a>> {
    vec![
        model.provider.clone().into(),
        model.name.clone().into(),
        i32::try_from(model.dimensions).unwrap_or(i32::MAX).into(),
        model.shortened.into(),
        model.document_prefix.clone().into(),
        model.query_prefix.clone().into(),
        Jsonb::from(&model.options).into(),
    ]
}

/// Makes a model's row. Does nothing where there is one, or where another became the active one meanwhile.
pub fn insert_model(model: &Model, active: bool) -> Result<()> {
    let sql = "INSERT INTO chatbot_sync.model
            (provider, model, dimensions, shortened, document_prefix, query_prefix, options, active)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    let args: Vec<_> = model_args(model).into_iter().chain([active.into()]).collect();
    write(sql, &args).map(drop)
}

/// Makes a model the active one: its id.
pub fn activate_model(model: &Model) -> Result<i32> {
    insert_model(model, false)?;
    let same = "(provider, model, dimensions, shortened, document_prefix, query_prefix, options)
        = ($1, $2, $3, $4, $5, $6, $7)";
    let args = model_args(model);
    write(&format!("UPDATE chatbot_sync.model SET active = false WHERE active AND NOT {same}"), &args)?;
    let sql = format!("UPDATE chatbot_sync.model SET active = true WHERE {same} RETURNING id");
    run(&sql, &args, Mode::Write, |rows| one(rows.first().get_one()))
}

/// Another model that vectors were made with, as (provider, model); none where there are no other vectors.
pub fn model_in_use(model: &Model) -> Result<Option<(String, String)>> {
    let sql = "SELECT m.provider, m.model FROM chatbot_sync.model m
        WHERE (provider, model, dimensions, shortened, document_prefix, query_prefix, options)
                <> ($1, $2, $3, $4, $5, $6, $7)
            AND EXISTS (SELECT FROM chatbot_sync.source s WHERE s.model_id = m.id AND s.chunk_count > 0)";
    run(sql, &model_args(model), Mode::Write, |mut rows| match rows.next() {
        Some(row) => Ok(Some((one(row.get(1))?, one(row.get(2))?))),
        None => Ok(None),
    })
}

/// Vectors in the row itself, or beside it where they would not fit into a page. Takes a lock only where that changes.
pub fn set_vector_storage(in_line: bool) -> Result<()> {
    let sql = "SELECT attstorage = 'p' FROM pg_catalog.pg_attribute
        WHERE attrelid = 'chatbot_sync.embedding'::pg_catalog.regclass AND attname = 'embedding'";
    if run(sql, &[], Mode::Write, |rows| one::<bool>(rows.first().get_one()))? == in_line {
        return Ok(());
    }
    let storage = if in_line { "PLAIN" } else { "EXTERNAL" };
    write(&format!("ALTER TABLE chatbot_sync.embedding ALTER COLUMN embedding SET STORAGE {storage}"), &[]).map(drop)
}

/// What a sync took.
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

/// Reads a source; with `lock` it is locked against other syncs until the transaction ends.
pub fn source(key: &SourceKey, metadata: &Jsonb, lock: bool) -> Result<Option<SourceRow>> {
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
pub fn insert_source(key: &SourceKey, state: &SourceState) -> Result<bool> {
    let sql = "INSERT INTO chatbot_sync.source (chatbot_id, source_type, source_id, content_hash, chunking, model_id,
            chunk_count, truncated, metadata, status, synced_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'synced', pg_catalog.now()) ON CONFLICT DO NOTHING";
    Ok(write(sql, &state.args(key))? > 0)
}

/// Writes what a sync has made of a source.
pub fn update_source(key: &SourceKey, state: &SourceState) -> Result<()> {
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

// An unnest() of several arrays is grammar, not a name that is looked up: no search_path matters to it.

/// Moves chunks to other places; their vectors stay as they are.
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
pub fn delete_source(key: &SourceKey) -> Result<Option<i64>> {
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

/// What a search is restricted to.
pub struct Filter {
    /// The tenant.
    pub chatbot_id: i64,
    /// None: all.
    pub source_types: Option<Vec<String>>,
    /// What a source's metadata has to contain.
    pub metadata: Option<Jsonb>,
    /// The least cosine similarity.
    pub min_similarity: Option<f32>,
}

/// The chunks nearest to a vector, best first, by an exact scan of the chatbot's.
pub fn nearest(filter: Filter, model_id: i32, query: Vec<f32>, limit: i64) -> Result<Vec<Found>> {
    // A text without a known word has the zero vector, which is near to nothing: its distance is NaN, sorted last.
    let sql = format!(
        "SELECT source_type, source_id, chunk_index, content, (1 - distance)::real, metadata
        FROM (
            SELECT source_type, source_id, chunk_index, content, metadata, embedding OPERATOR({}.<=>) $3 AS distance
            FROM chatbot_sync.embedding
            WHERE chatbot_id = $1 AND model_id = $2
                AND ($5 IS NULL OR source_type = ANY ($5)) AND ($6 IS NULL OR metadata @> $6)
            ORDER BY distance LIMIT $4
        ) AS n
        WHERE distance <> 'NaN' AND ($7 IS NULL OR 1 - distance >= $7)
        ORDER BY distance, source_type, source_id, chunk_index",
        vector_type()?.schema
    );
    let args = [
        filter.chatbot_id.into(),
        model_id.into(),
        Vector(query).into(),
        limit.into(),
        filter.source_types.into(),
        filter.metadata.into(),
        filter.min_similarity.into(),
    ];
    run(&sql, &args, Mode::Read, |rows| {
        rows.map(|row| {
            Ok(Found {
                source_type: one(row.get(1))?,
                source_id: one(row.get(2))?,
                chunk_index: one(row.get(3))?,
                content: one(row.get(4))?,
                similarity: one(row.get(5))?,
                metadata: one(row.get(6))?,
            })
        })
        .collect()
    })
}

/// Opens a session.
pub fn insert_session(chatbot_id: i64, id: Uuid, metadata: Jsonb) -> Result<()> {
    let sql = "INSERT INTO chatbot_sync.session (chatbot_id, id, metadata) VALUES ($1, $2, $3)";
    write(sql, &[chatbot_id.into(), id.into(), metadata.into()]).map(drop)
}

/// Whether a session is open, and keeps it from being closed or deleted meanwhile; none where there is no such session.
pub fn lock_session(chatbot_id: i64, id: Uuid) -> Result<Option<bool>> {
    let sql = "SELECT closed_at IS NULL FROM chatbot_sync.session WHERE chatbot_id = $1 AND id = $2 FOR SHARE";
    run(sql, &[chatbot_id.into(), id.into()], Mode::Write, |mut rows| {
        rows.next().map(|row| one(row.get(1))).transpose()
    })
}

/// Whether there is such a session.
pub fn has_session(chatbot_id: i64, id: Uuid) -> Result<bool> {
    let sql = "SELECT FROM chatbot_sync.session WHERE chatbot_id = $1 AND id = $2";
    run(sql, &[chatbot_id.into(), id.into()], Mode::Read, |rows| Ok(!rows.is_empty()))
}

/// Closes a session. False where it is not open.
pub fn close_session(chatbot_id: i64, id: Uuid) -> Result<bool> {
    let sql = "UPDATE chatbot_sync.session SET closed_at = pg_catalog.now()
        WHERE chatbot_id = $1 AND id = $2 AND closed_at IS NULL";
    Ok(write(sql, &[chatbot_id.into(), id.into()])? > 0)
}

/// Adds a message: its id.
pub fn insert_message(chatbot_id: i64, session: Uuid, role: &str, content: &str, metadata: Jsonb) -> Result<i64> {
    let sql = "INSERT INTO chatbot_sync.message (chatbot_id, session_id, role, content, metadata)
        VALUES ($1, $2, $3, $4, $5) RETURNING id";
    let args = [chatbot_id.into(), session.into(), role.into(), content.into(), metadata.into()];
    run(sql, &args, Mode::Write, |rows| one(rows.first().get_one()))
}

/// A message's columns.
pub type Message = (i64, String, String, Jsonb, TimestampWithTimeZone);

/// The messages of a session, oldest first; of more than `limit` the latest.
pub fn messages(chatbot_id: i64, session: Uuid, limit: Option<i64>) -> Result<Vec<Message>> {
    let sql = "SELECT id, role, content, metadata, created_at FROM (
            SELECT * FROM chatbot_sync.message WHERE chatbot_id = $1 AND session_id = $2 ORDER BY id DESC LIMIT $3
        ) AS latest ORDER BY id";
    run(sql, &[chatbot_id.into(), session.into(), limit.into()], Mode::Read, |rows| {
        rows.map(|row| Ok((one(row.get(1))?, one(row.get(2))?, one(row.get(3))?, one(row.get(4))?, one(row.get(5))?)))
            .collect()
    })
}
