//! Statements of a search: chunks near a vector, chunks with words, and both by their keys.

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiHeapTupleData;
use serde::{Deserialize, Serialize};

use crate::embedding::storage::Storage;
use crate::error::Result;
use crate::ids::{ChatbotId, ModelId};
use crate::pg::runtime::scoped_settings::ScopedSettings;
use crate::pg::runtime::tsvector::TsVector;
use crate::pg::runtime::vector::{Vector, vector_type};
use crate::pg::store::index_form::IndexForm;
use crate::pg::store::tables::Tables;
use crate::pg::store::{StatementMode, index, not_null, run, vectors};
use crate::search::bm25::TermCounts;
use crate::search::term::{Term, Word};
use crate::search::tsvector::counts;
use crate::source::{Jsonb, SourceType};

/// The key of a chunk in its chatbot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkKey {
    /// The kind of its source.
    pub source_type: SourceType,
    /// The id of its source.
    pub source_id: i64,
    /// The chunk's number in its source.
    pub chunk_id: i32,
}

impl ChunkKey {
    /// Reads the key in the first three columns of a row.
    fn read(row: &SpiHeapTupleData) -> pgrx::spi::Result<Self> {
        Ok(Self {
            source_type: not_null(row.get(1))?,
            source_id: not_null(row.get(2))?,
            chunk_id: not_null(row.get(3))?,
        })
    }
}

/// A chunk that a search found.
pub struct FoundChunk {
    /// The chunk's key.
    pub key: ChunkKey,
    /// The chunk's place among the chunks of its source, from 0.
    pub chunk_index: i32,
    /// The chunk's text.
    pub content: String,
    /// The cosine similarity to the query; `None` where no vector was compared.
    pub similarity: Option<f32>,
    /// The chunk's metadata: that of its source, with its language if it has one.
    pub metadata: Jsonb,
}

/// The restrictions of a search.
#[derive(Serialize, Deserialize)]
pub struct Filter {
    /// The chatbot whose chunks are searched.
    pub chatbot_id: ChatbotId,
    /// `None`: sources of all types.
    pub source_types: Option<Vec<SourceType>>,
    /// A JSON object that the metadata has to contain. It is not serialized with the rest: numbers of `jsonb` can be larger
    /// than JSON's here.
    #[serde(skip)]
    pub metadata: Option<Jsonb>,
}

impl Filter {
    /// The filter as a condition in SQL. What is not asked for is left out, since it would be evaluated for every chunk.
    fn condition(&self) -> &'static str {
        match (&self.source_types, &self.metadata) {
            (None, None) => "true",
            (Some(_), None) => "source_type = ANY ($3)",
            (None, Some(_)) => "metadata @> $4",
            (Some(_), Some(_)) => "source_type = ANY ($3) AND metadata @> $4",
        }
    }
}

/// The chunks that are searched: those of one model in these tables that the filter lets through.
pub struct Scope<'a> {
    /// The tables that are searched: whole ones, or the shards of a node.
    pub tables: &'a Tables,
    /// The chatbot, and which of its chunks.
    pub filter: &'a Filter,
    /// The model whose chunks are searched.
    pub model_id: ModelId,
    /// The form in which its vectors are stored and indexed.
    pub form: IndexForm,
}

impl Scope<'_> {
    /// FROM and WHERE for the chatbot's chunks that the filter lets through, with the model as `$2`.
    fn filtered_chunks_sql(&self) -> String {
        format!(
            "FROM {}
                WHERE chatbot_id = $1
                    AND model_id = $2
                    AND enabled
                    AND {}",
            self.tables.embedding,
            self.filter.condition()
        )
    }

    /// FROM and WHERE for all chunks of the chatbot, with the model as a literal, so that a plan that is kept can use the
    /// partial indexes of the model.
    fn indexed_chunks_sql(&self) -> String {
        format!(
            "FROM {}
                WHERE chatbot_id = $1
                    AND model_id = {}
                    AND enabled",
            self.tables.embedding, self.model_id
        )
    }

    /// The distance of a chunk's stored vector to a query's.
    fn distance_sql(&self, query: &str) -> Result<String> {
        let storage = self.form.storage;
        // A subquery is evaluated once, and not for each chunk.
        let query = match storage {
            Storage::Full => query.to_owned(),
            Storage::Half => format!("(SELECT {})", vectors::as_stored(query, storage)?),
        };
        Ok(format!("{} OPERATOR({}.<=>) {query}", vectors::column(storage), vector_type()?.schema))
    }

    /// FROM and WHERE for the chunks with the keys of [`Self::key_args`].
    fn chunks_by_key_sql(&self) -> String {
        format!(
            "FROM {} e, unnest($3::text[], $4::bigint[], $5::int[]) AS k (source_type, source_id, chunk_id)
            WHERE e.chatbot_id = $1
                AND e.model_id = $2
                AND (e.source_type, e.source_id, e.chunk_id) = (k.source_type, k.source_id, k.chunk_id)",
            self.tables.embedding
        )
    }

    fn args(&self) -> Vec<DatumWithOid<'static>> {
        let Filter { chatbot_id, source_types, metadata } = self.filter;
        vec![(*chatbot_id).into(), self.model_id.into(), source_types.clone().into(), metadata.clone().into()]
    }

    fn key_args(&self, keys: &[ChunkKey]) -> Vec<DatumWithOid<'static>> {
        vec![
            self.filter.chatbot_id.into(),
            self.model_id.into(),
            keys.iter().map(|key| key.source_type).collect::<Vec<_>>().into(),
            keys.iter().map(|key| key.source_id).collect::<Vec<_>>().into(),
            keys.iter().map(|key| key.chunk_id).collect::<Vec<_>>().into(),
        ]
    }
}

/// The columns of a [`FoundChunk`]; `similarity` is an expression.
fn found_columns_sql(similarity: &str) -> String {
    format!("e.source_type, e.source_id, e.chunk_id, e.chunk_index, e.content, {similarity}, e.metadata")
}

impl FoundChunk {
    /// Reads the chunk in the first seven columns of a row.
    fn read(row: &SpiHeapTupleData) -> pgrx::spi::Result<Self> {
        Ok(Self {
            key: ChunkKey::read(row)?,
            chunk_index: not_null(row.get(4))?,
            content: not_null(row.get(5))?,
            similarity: row.get(6)?,
            metadata: not_null(row.get(7))?,
        })
    }
}

/// Returns the chunks nearest to a vector, best first, by reading all chunks of the chatbot.
pub fn nearest(scope: &Scope, query: &[f32], limit: i64) -> Result<Vec<FoundChunk>> {
    let distance = scope.distance_sql("$5")?;
    let candidates = Candidates { limit, count: limit, chunks: scope.filtered_chunks_sql(), distance };
    Ok(nearest_candidates(scope, query, &candidates)?.nearest)
}

/// Returns the nearest of the `candidates` that the model's index finds, best first; `None` where it finds fewer, since a
/// filter may have dropped chunks that an exact search finds.
pub fn nearest_by_index(
    scope: &Scope,
    query: &[f32],
    limit: i64,
    candidates: i64,
    ef_search: i32,
) -> Result<Option<Vec<FoundChunk>>> {
    let _settings = index::hnsw_settings(ef_search)?;
    let distance = scope.form.distance("$5")?;
    let chunks = format!(
        "{}
                    AND {}",
        scope.indexed_chunks_sql(),
        scope.filter.condition()
    );
    let found = nearest_candidates(scope, query, &Candidates { limit, count: candidates, chunks, distance })?;
    Ok((found.candidates >= candidates).then_some(found.nearest))
}

/// Which chunks are candidates of a search by a vector.
struct Candidates {
    /// The number of the nearest candidates that are returned.
    limit: i64,
    /// The number of candidates.
    count: i64,
    /// FROM and WHERE for the chunks.
    chunks: String,
    /// The expression by which they are ordered, with the query's vector as `$5`.
    distance: String,
}

/// The chunks that a search by a vector found.
struct NearestChunks {
    /// The nearest chunks, best first.
    nearest: Vec<FoundChunk>,
    /// The number of candidates that were found.
    candidates: i64,
}

/// Returns the nearest of the candidates.
fn nearest_candidates(scope: &Scope, query: &[f32], candidates: &Candidates) -> Result<NearestChunks> {
    // Texts are fetched last: a sort copies its rows, and of most chunks only the distance is needed.
    // A text without a known word has the zero vector, which is near to nothing: its distance is NaN, sorted last.
    let sql = format!(
        "SELECT {columns}, n.count
        FROM (
            SELECT place, distance, pg_catalog.count(*) OVER () AS count
            FROM (
                SELECT ctid AS place, {stored_distance} AS distance
                {chunks}
                ORDER BY {distance}
                LIMIT $6
            ) AS c
            ORDER BY distance
            LIMIT $7
        ) AS n
        JOIN {table} e ON e.ctid = n.place AND e.chatbot_id = $1
        WHERE n.distance <> 'NaN'
        ORDER BY n.distance, e.source_type, e.source_id, e.chunk_id",
        columns = found_columns_sql("(1 - n.distance)::real"),
        stored_distance = scope.distance_sql("$5")?,
        chunks = candidates.chunks,
        distance = candidates.distance,
        table = scope.tables.embedding,
    );
    let mut args = scope.args();
    args.extend([Vector(query.to_vec()).into(), candidates.count.into(), candidates.limit.into()]);
    run(&sql, &args, StatementMode::Scan, |rows| {
        let mut count = 0;
        let found = rows.map(|row| {
            count = not_null(row.get(8))?;
            FoundChunk::read(&row)
        });
        let found = found.collect::<pgrx::spi::Result<_>>()?;
        Ok(NearestChunks { nearest: found, candidates: count })
    })
}

/// Returns chunks by their keys, with their similarity to a vector if one is given.
pub fn chunks_by_key(scope: &Scope, keys: &[ChunkKey], query: Option<&[f32]>) -> Result<Vec<FoundChunk>> {
    let similarity = match query {
        Some(_) => format!("NULLIF(1 - ({}), 'NaN')::real", scope.distance_sql("$6")?),
        None => "NULL::real".to_owned(),
    };
    let sql = format!(
        "SELECT {}
        {}",
        found_columns_sql(&similarity),
        scope.chunks_by_key_sql()
    );
    let mut args = scope.key_args(keys);
    args.extend(query.map(|query| Vector(query.to_vec()).into()));
    run(&sql, &args, StatementMode::Read, |rows| rows.map(|row| FoundChunk::read(&row)).collect())
}

/// A chunk with at least one of the words. Those that the filter does not let through count for how frequent a word is.
pub struct MatchingChunk {
    /// The chunk's key.
    pub key: ChunkKey,
    /// The number of times that the chunk has each term.
    pub counts: TermCounts,
    /// Whether the filter lets the chunk through.
    pub passes: bool,
}

/// Returns the chatbot's chunks with at least one of the words for which `index_terms` is true.
pub fn chunks_with_words(scope: &Scope, words: &[Word], index_terms: &[bool]) -> Result<Vec<MatchingChunk>> {
    // Which index is best depends on the words, so the statement is planned each time.
    let _settings = ScopedSettings::new(&[(c"plan_cache_mode", c"force_custom_plan")]);
    let sql = format!(
        "SELECT source_type, source_id, chunk_id, words, COALESCE({}, false)
        {}
            AND words @@ $5::tsquery",
        scope.filter.condition(),
        scope.indexed_chunks_sql()
    );
    let any: Vec<String> = words
        .iter()
        .zip(index_terms)
        .filter(|(_, is_indexed)| **is_indexed)
        .flat_map(|(word, _)| word.terms.iter().map(Term::to_query))
        .collect();
    if any.is_empty() {
        return Ok(Vec::new());
    }
    let mut args = scope.args();
    args.push(any.join(" | ").into());
    count_words(&sql, &args, words, StatementMode::Scan)
}

/// Returns chunks by their keys, with their counts of the words. All of them are known to pass the filter.
pub fn words_of_chunks(scope: &Scope, words: &[Word], keys: &[ChunkKey]) -> Result<Vec<MatchingChunk>> {
    let sql = format!(
        "SELECT e.source_type, e.source_id, e.chunk_id, e.words, true
        {}",
        scope.chunks_by_key_sql()
    );
    count_words(&sql, &scope.key_args(keys), words, StatementMode::Read)
}

fn count_words(sql: &str, args: &[DatumWithOid], words: &[Word], mode: StatementMode) -> Result<Vec<MatchingChunk>> {
    run(sql, args, mode, |rows| {
        let matching = rows.map(|row| {
            let TsVector(vector) = not_null(row.get(4))?;
            let Some(counts) = counts(&vector, words) else { return Ok(None) };
            Ok(Some(MatchingChunk { key: ChunkKey::read(&row)?, counts, passes: not_null(row.get(5))? }))
        });
        matching.filter_map(Result::transpose).collect()
    })
}

/// A chunk that a search on another node found, with its score.
pub struct ScoredChunk {
    /// The chunk that was found.
    pub found: FoundChunk,
    /// The score by which results are sorted, highest first.
    pub score: f32,
}

/// Runs a search on the node with the chatbot's shards, by one statement that Citus sends there, and returns the chunks, best
/// first. The node does not return chunk ids: the keys have the positions in their place.
pub fn search_on_node(filter: &Filter, request: Jsonb, vector: Option<Vec<f32>>) -> Result<Vec<ScoredChunk>> {
    let sql = "SELECT
            a.source_type, a.source_id, a.chunk_index, a.chunk_index, a.content, a.similarity, a.metadata, a.score
        FROM
            (SELECT tableoid AS shard FROM chatbot_sync.embedding WHERE chatbot_id = $1 LIMIT 1) AS e,
            (SELECT tableoid AS shard FROM chatbot_sync.source WHERE chatbot_id = $1 LIMIT 1) AS s,
            LATERAL chatbot_sync.search_in(e.shard, s.shard, $2, $3, $4) AS a";
    let args = [filter.chatbot_id.into(), request.into(), filter.metadata.clone().into(), vector.into()];
    run(sql, &args, StatementMode::Scan, |rows| {
        rows.map(|row| Ok(ScoredChunk { found: FoundChunk::read(&row)?, score: not_null(row.get(8))? })).collect()
    })
}

/// Returns the number of chunks of a chatbot.
pub fn count_chunks(scope: &Scope) -> Result<f64> {
    let sql = format!(
        "SELECT pg_catalog.sum(chunk_count)::double precision
        FROM {}
        WHERE chatbot_id = $1
            AND enabled",
        scope.tables.source
    );
    let args = [scope.filter.chatbot_id.into()];
    let count: Option<f64> = run(&sql, &args, StatementMode::Scan, |rows| rows.first().get_one())?;
    Ok(count.unwrap_or(0.0))
}
