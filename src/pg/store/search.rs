//! Chunks near to a vector, chunks with words, and both by their keys.

use pgrx::datum::DatumWithOid;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pg::runtime::scoped_settings::ScopedSettings;
use crate::pg::runtime::vector::{Vector, vector_type};
use crate::pg::store::tables::Tables;
use crate::pg::store::{Mode, index, one, run, statistics};
use crate::search::bm25::{Counts, counts};
use crate::source::Jsonb;

/// Words are separated by white space and by these: what is written E-4711 is found as 4711 too.
const SEPARATORS: &str = "'-_/\\.:@#', '        '";
/// A text with these taken out, as [`words_of`] does it.
pub fn spaced(text: &str) -> String {
    text.replace(['-', '_', '/', '\\', '.', ':', '@', '#'], " ")
}

/// Words of a query that count.
const MOST_WORDS: i64 = 64;

/// Which chunk: source type, source, chunk.
pub type ChunkKey = (String, i64, i32);

/// One answer of a search.
pub struct FoundChunk {
    /// The chunk's key.
    pub key: ChunkKey,
    /// The chunk's place among the chunks of its source, from 0.
    pub chunk_index: i32,
    /// The chunk's text.
    pub content: String,
    /// Cosine similarity; none where no vector was compared.
    pub similarity: Option<f32>,
    /// The source's metadata.
    pub metadata: Jsonb,
}

/// What a search is restricted to.
#[derive(Serialize, Deserialize)]
pub struct Filter {
    /// The chatbot whose chunks are searched.
    pub chatbot_id: i64,
    /// None: all.
    pub source_types: Option<Vec<String>>,
    /// What a source's metadata has to contain. Its numbers are Postgres', and more than JSON's here.
    #[serde(skip)]
    pub metadata: Option<Jsonb>,
}

impl Filter {
    /// What is not asked for is not in the statement: it would be looked at for every chunk.
    fn condition(&self) -> &'static str {
        match (&self.source_types, &self.metadata) {
            (None, None) => "true",
            (Some(_), None) => "source_type = ANY ($3)",
            (None, Some(_)) => "metadata @> $4",
            (Some(_), Some(_)) => "source_type = ANY ($3) AND metadata @> $4",
        }
    }
}

/// What is looked through: one model's chunks in these tables, as far as the filter lets them.
pub struct Scope<'a> {
    /// The tables that are searched: whole ones, or the shards of a node.
    pub tables: &'a Tables,
    /// Whose, and which of them.
    pub filter: &'a Filter,
    /// The model of their vectors.
    pub model_id: i32,
    /// The length of its vectors.
    pub dimensions: usize,
}

impl Scope<'_> {
    /// The chatbot's chunks. `$2` is the model.
    fn of_chatbot(&self) -> String {
        format!("FROM {} WHERE chatbot_id = $1 AND model_id = $2 AND enabled", self.tables.embedding)
    }

    /// The same, so that a plan that is kept can use the indexes of the model alone.
    fn of_chatbot_by_index(&self) -> String {
        self.of_chatbot().replace("$2", &self.model_id.to_string())
    }

    fn by_key(&self) -> String {
        format!(
            "FROM {} e, unnest($3::text[], $4::bigint[], $5::int[]) AS k (source_type, source_id, chunk_id)
            WHERE e.chatbot_id = $1 AND e.model_id = $2
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
            keys.iter().map(|k| k.0.clone()).collect::<Vec<_>>().into(),
            keys.iter().map(|k| k.1).collect::<Vec<_>>().into(),
            keys.iter().map(|k| k.2).collect::<Vec<_>>().into(),
        ]
    }
}

/// The expression for the words of a text.
pub fn words_of(configuration: &str, text: &str) -> String {
    format!("pg_catalog.to_tsvector({configuration}, pg_catalog.translate({text}, {SEPARATORS}))")
}

fn found(row: &pgrx::spi::SpiHeapTupleData) -> pgrx::spi::Result<FoundChunk> {
    Ok(FoundChunk {
        key: (one(row.get(1))?, one(row.get(2))?, one(row.get(3))?),
        chunk_index: one(row.get(4))?,
        content: one(row.get(5))?,
        similarity: row.get(6)?,
        metadata: one(row.get(7))?,
    })
}

/// The chunks nearest to a vector, best first, by an exact scan of the chatbot's.
pub fn nearest(scope: &Scope, query: &[f32], limit: i64) -> Result<Vec<FoundChunk>> {
    let distance = format!("embedding OPERATOR({}.<=>) $5", vector_type()?.schema);
    Ok(ordered(scope, query, (limit, limit), &scope.of_chatbot(), &distance)?.0)
}

/// As [`nearest`], of so many candidates that the model's index finds; none where it finds fewer, since a filter may leave
/// fewer than there are.
pub fn nearest_by_index(
    scope: &Scope,
    query: &[f32],
    limit: i64,
    candidates: i64,
    ef_search: i32,
) -> Result<Option<Vec<FoundChunk>>> {
    let _settings = index::hnsw_settings(ef_search)?;
    let (schema, dimensions) = (vector_type()?.schema, scope.dimensions);
    let distance = format!(
        "{} OPERATOR({schema}.<=>) {}",
        index::indexed("embedding", dimensions)?,
        index::indexed("$5", dimensions)?
    );
    let (found, near) = ordered(scope, query, (limit, candidates), &scope.of_chatbot_by_index(), &distance)?;
    Ok((near >= candidates).then_some(found))
}

/// So many of the candidates that are nearest, and how many candidates there were.
fn ordered(
    scope: &Scope,
    query: &[f32],
    (limit, candidates): (i64, i64),
    of: &str,
    distance: &str,
) -> Result<(Vec<FoundChunk>, i64)> {
    // Texts are fetched last: a sort copies what it is given, and of most chunks it needs the distance alone.
    // A text without a known word has the zero vector, which is near to nothing: its distance is NaN, sorted last.
    let sql = format!(
        "SELECT e.source_type, e.source_id, e.chunk_id, e.chunk_index, e.content, (1 - n.distance)::real, e.metadata, n.near
        FROM (
            SELECT place, distance, pg_catalog.count(*) OVER () AS near
            FROM (
                SELECT ctid AS place, embedding OPERATOR({}.<=>) $5 AS distance
                {of} AND {} ORDER BY {distance} LIMIT $6
            ) AS c
            ORDER BY distance LIMIT $7
        ) AS n
        JOIN {} e ON e.ctid = n.place AND e.chatbot_id = $1
        WHERE n.distance <> 'NaN' ORDER BY n.distance, e.source_type, e.source_id, e.chunk_id",
        vector_type()?.schema,
        scope.filter.condition(),
        scope.tables.embedding,
    );
    let mut args = scope.args();
    args.extend([Vector(query.to_vec()).into(), candidates.into(), limit.into()]);
    run(&sql, &args, Mode::Scan, |rows| {
        let mut near = 0;
        let all = rows.map(|row| {
            near = one(row.get(8))?;
            found(&row)
        });
        let all = all.collect::<pgrx::spi::Result<_>>()?;
        Ok((all, near))
    })
}

/// Chunks by their keys, with their similarity to a vector where there is one.
pub fn by_key(scope: &Scope, keys: &[ChunkKey], query: Option<&[f32]>) -> Result<Vec<FoundChunk>> {
    let similarity = match query {
        Some(_) => format!("NULLIF(1 - (embedding OPERATOR({}.<=>) $6), 'NaN')::real", vector_type()?.schema),
        None => "NULL::real".to_owned(),
    };
    let sql = format!(
        "SELECT e.source_type, e.source_id, e.chunk_id, e.chunk_index, e.content, {similarity}, e.metadata {}",
        scope.by_key()
    );
    let mut args = scope.key_args(keys);
    args.extend(query.map(|query| Vector(query.to_vec()).into()));
    run(&sql, &args, Mode::Read, |rows| rows.map(|row| found(&row)).collect())
}

/// The words of a query, sorted by their bytes, as the configurations see it that the chatbot's sources were read with; of
/// a large one, the configurations that Postgres' statistics name.
pub fn query_words(scope: &Scope, query: &str, large: bool) -> Result<Vec<String>> {
    let configurations = if large {
        statistics::elements(&scope.tables.source, c"text_search_configs")
    } else {
        let sql = format!(
            "SELECT DISTINCT pg_catalog.unnest(text_search_configs) FROM {} WHERE chatbot_id = $1 AND enabled",
            scope.tables.source
        );
        let chatbot_id = [scope.filter.chatbot_id.into()];
        run(&sql, &chatbot_id, Mode::Scan, |rows| rows.map(|row| one(row.get(1))).collect::<Result<Vec<String>, _>>())?
    };
    let sql = format!(
        "SELECT DISTINCT u.lexeme FROM pg_catalog.pg_ts_config c CROSS JOIN LATERAL pg_catalog.unnest({}) AS u
        WHERE c.cfgnamespace::pg_catalog.regnamespace || '.' || pg_catalog.quote_ident(c.cfgname) = ANY ($1) LIMIT $3",
        words_of("c.oid", "$2")
    );
    let args = [configurations.into(), query.into(), MOST_WORDS.into()];
    let mut words: Vec<String> = run(&sql, &args, Mode::Read, |rows| rows.map(|row| one(row.get(1))).collect())?;
    words.sort_unstable();
    Ok(words)
}

/// A chunk with some of the words: its counts, and whether the filter lets it through. The others count for how frequent a
/// word is.
pub struct Matching {
    /// The chunk's key.
    pub key: ChunkKey,
    /// How often the chunk has each term.
    pub counts: Counts,
    /// Whether it may be an answer.
    pub passes: bool,
}

/// The chatbot's chunks with at least one of the words that are looked up.
pub fn matching(scope: &Scope, words: &[String], index_terms: &[bool]) -> Result<Vec<Matching>> {
    // Which index is best depends on the words.
    let _settings = ScopedSettings::new(&[(c"plan_cache_mode", c"force_custom_plan")]);
    let sql = format!(
        "SELECT source_type, source_id, chunk_id, words, COALESCE({}, false) {} AND words @@ $5::tsquery",
        scope.filter.condition(),
        scope.of_chatbot_by_index()
    );
    let escaped = |word: &String| format!("'{}'", word.replace('\\', "\\\\").replace('\'', "''"));
    let any: Vec<String> =
        words.iter().zip(index_terms).filter(|(_, up)| **up).map(|(word, _)| escaped(word)).collect();
    if any.is_empty() {
        return Ok(Vec::new());
    }
    let mut args = scope.args();
    args.push(any.join(" | ").into());
    counted(&sql, &args, words, Mode::Scan)
}

/// Chunks by their keys, which all pass the filter.
pub fn matching_of(scope: &Scope, words: &[String], keys: &[ChunkKey]) -> Result<Vec<Matching>> {
    let sql = format!("SELECT e.source_type, e.source_id, e.chunk_id, e.words, true {}", scope.by_key());
    counted(&sql, &scope.key_args(keys), words, Mode::Read)
}

fn counted(sql: &str, args: &[DatumWithOid], words: &[String], mode: Mode) -> Result<Vec<Matching>> {
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    run(sql, args, mode, |rows| {
        let rows = rows.map(|row| {
            let key = (one(row.get(1))?, one(row.get(2))?, one(row.get(3))?);
            let TsVector(vector) = one(row.get(4))?;
            Ok(counts(&vector, &words).map(|counts| (key, counts, row.get::<bool>(5))))
        });
        rows.filter_map(Result::transpose)
            .map(|row| row.and_then(|(key, counts, passes)| Ok(Matching { key, counts, passes: one(passes)? })))
            .collect()
    })
}

/// The answers of the node that has the chatbot's shards, best first, each with its score: one statement, which Citus sends
/// there. The key of a chunk is not among what it says.
pub fn on_node(filter: &Filter, question: Jsonb, vector: Option<Vec<f32>>) -> Result<Vec<(FoundChunk, f32)>> {
    let sql =
        "SELECT a.source_type, a.source_id, a.chunk_index, a.chunk_index, a.content, a.similarity, a.metadata, a.score
        FROM (SELECT tableoid AS shard FROM chatbot_sync.embedding WHERE chatbot_id = $1 LIMIT 1) AS e,
            (SELECT tableoid AS shard FROM chatbot_sync.source WHERE chatbot_id = $1 LIMIT 1) AS s,
            LATERAL chatbot_sync.search_in(e.shard, s.shard, $2, $3, $4) AS a";
    let args = [filter.chatbot_id.into(), question.into(), filter.metadata.clone().into(), vector.into()];
    run(sql, &args, Mode::Scan, |rows| rows.map(|row| Ok((found(&row)?, one(row.get(8))?))).collect())
}

/// How many chunks a chatbot has.
pub fn count(scope: &Scope) -> Result<f64> {
    let sql = format!(
        "SELECT pg_catalog.sum(chunk_count)::double precision FROM {} WHERE chatbot_id = $1 AND enabled",
        scope.tables.source
    );
    let count: Option<f64> = run(&sql, &[scope.filter.chatbot_id.into()], Mode::Scan, |rows| rows.first().get_one())?;
    Ok(count.unwrap_or(0.0))
}

/// The qualified name of a text search configuration; none where there is none of this name.
pub fn configuration(name: &str) -> Result<Option<String>> {
    let sql = "SELECT c.cfgnamespace::pg_catalog.regnamespace || '.' || pg_catalog.quote_ident(c.cfgname)
        FROM pg_catalog.pg_ts_config c WHERE c.cfgname = $1
        ORDER BY c.cfgnamespace = 'pg_catalog'::pg_catalog.regnamespace DESC LIMIT 1";
    run(sql, &[name.into()], Mode::Read, |mut rows| rows.next().map(|row| one(row.get(1))).transpose())
}

/// A `tsvector`'s bytes after its length word.
struct TsVector(Vec<u8>);

impl FromDatum for TsVector {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the datum is a tsvector, as its caller says: a varlena, read with its long header.
        unsafe {
            let vector = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
            let bytes = std::slice::from_raw_parts(pgrx::vardata_any(vector).cast(), pgrx::varsize_any_exhdr(vector));
            Some(Self(bytes.to_vec()))
        }
    }
}

impl IntoDatum for TsVector {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // Only ever read.
        None
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TSVECTOROID
    }
}
