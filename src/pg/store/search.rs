//! Statements of a search: chunks near a vector, chunks with words, and both by their keys.

use pgrx::datum::DatumWithOid;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pg::runtime::lexemes::Configuration;
use crate::pg::runtime::scoped_settings::ScopedSettings;
use crate::pg::runtime::tsvector::TsVector;
use crate::pg::runtime::vector::{Vector, vector_type};
use crate::pg::store::tables::Tables;
use crate::pg::store::text_search::{PARSER_VERSION, UNKNOWN_VERSION, WORDS_VERSION};
use crate::pg::store::{StatementMode, index, not_null, run, statistics};
use crate::search::bm25::TermCounts;
use crate::search::tsvector::{Term, counts};
use crate::search::words::{alternatives, own_form};
use crate::source::Jsonb;

/// What separated words before they were split by our own analyzer.
const SEPARATORS: &str = "'-_/\\.:@#', '        '";

/// The number of a query's words that are searched for; further ones are ignored.
const MAX_QUERY_WORDS: usize = 64;
/// Sources of a large chatbot whose languages a query is read in, besides those that are common in all chatbots.
const SAMPLED_SOURCES: i64 = 1_000;

/// The key of a chunk in its chatbot: source type, source id, chunk id.
pub type ChunkKey = (String, i64, i32);

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

/// What a search is restricted to.
#[derive(Serialize, Deserialize)]
pub struct Filter {
    /// The chatbot whose chunks are searched.
    pub chatbot_id: i64,
    /// `None`: sources of all types.
    pub source_types: Option<Vec<String>>,
    /// What the metadata has to contain. It is not serialized with the rest: numbers of `jsonb` can be larger than JSON's
    /// here.
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

/// What is searched: the chunks of one model in these tables, as far as the filter lets them through.
pub struct Scope<'a> {
    /// The tables that are searched: whole ones, or the shards of a node.
    pub tables: &'a Tables,
    /// The chatbot, and which of its chunks.
    pub filter: &'a Filter,
    /// The model whose chunks are searched.
    pub model_id: i32,
    /// The number of dimensions of its vectors.
    pub dimensions: usize,
}

impl Scope<'_> {
    /// FROM and WHERE for the chatbot's chunks, with the model as `$2`.
    fn of_chatbot(&self) -> String {
        format!("FROM {} WHERE chatbot_id = $1 AND model_id = $2 AND enabled", self.tables.embedding)
    }

    /// FROM and WHERE with the model as a literal, so that a plan that is kept can use the partial indexes of the model.
    fn of_chatbot_by_index(&self) -> String {
        self.of_chatbot().replace("$2", &self.model_id.to_string())
    }

    fn chunks_by_key(&self) -> String {
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

fn found(row: &pgrx::spi::SpiHeapTupleData) -> pgrx::spi::Result<FoundChunk> {
    Ok(FoundChunk {
        key: (not_null(row.get(1))?, not_null(row.get(2))?, not_null(row.get(3))?),
        chunk_index: not_null(row.get(4))?,
        content: not_null(row.get(5))?,
        similarity: row.get(6)?,
        metadata: not_null(row.get(7))?,
    })
}

/// Returns the chunks nearest to a vector, best first, by reading all chunks of the chatbot.
pub fn nearest(scope: &Scope, query: &[f32], limit: i64) -> Result<Vec<FoundChunk>> {
    let distance = format!("embedding OPERATOR({}.<=>) $5", vector_type()?.schema);
    Ok(nearest_candidates(scope, query, (limit, limit), &scope.of_chatbot(), &distance)?.0)
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
    let (schema, dimensions) = (vector_type()?.schema, scope.dimensions);
    let distance = format!(
        "{} OPERATOR({schema}.<=>) {}",
        index::indexed_expression("embedding", dimensions)?,
        index::indexed_expression("$5", dimensions)?
    );
    let (found, near) = nearest_candidates(scope, query, (limit, candidates), &scope.of_chatbot_by_index(), &distance)?;
    Ok((near >= candidates).then_some(found))
}

/// Returns the `limit` nearest of the candidates, and the number of candidates that were found.
fn nearest_candidates(
    scope: &Scope,
    query: &[f32],
    (limit, candidates): (i64, i64),
    of: &str,
    distance: &str,
) -> Result<(Vec<FoundChunk>, i64)> {
    // Texts are fetched last: a sort copies its rows, and of most chunks only the distance is needed.
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
    run(&sql, &args, StatementMode::Scan, |rows| {
        let mut near = 0;
        let all = rows.map(|row| {
            near = not_null(row.get(8))?;
            found(&row)
        });
        let all = all.collect::<pgrx::spi::Result<_>>()?;
        Ok((all, near))
    })
}

/// Returns chunks by their keys, with their similarity to a vector if one is given.
pub fn by_key(scope: &Scope, keys: &[ChunkKey], query: Option<&[f32]>) -> Result<Vec<FoundChunk>> {
    let similarity = match query {
        Some(_) => format!("NULLIF(1 - (embedding OPERATOR({}.<=>) $6), 'NaN')::real", vector_type()?.schema),
        None => "NULL::real".to_owned(),
    };
    let sql = format!(
        "SELECT e.source_type, e.source_id, e.chunk_id, e.chunk_index, e.content, {similarity}, e.metadata {}",
        scope.chunks_by_key()
    );
    let mut args = scope.key_args(keys);
    args.extend(query.map(|query| Vector(query.to_vec()).into()));
    run(&sql, &args, StatementMode::Read, |rows| rows.map(|row| found(&row)).collect())
}

/// How the words of a chatbot's sources were read.
pub struct ReadWords {
    /// By our own analyzer and these text search configurations.
    pub configurations: Vec<Configuration>,
    /// By Postgres' parser and these, as long as they are not read anew.
    pub by_parser: Vec<Configuration>,
}

/// How the words of the chatbot's sources were read; of a large one, as Postgres' statistics say of all chatbots, and as
/// those of its first sources were.
pub fn read_words(scope: &Scope, large: bool) -> Result<ReadWords> {
    let table = &scope.tables.source;
    let limit = if large { format!("LIMIT {SAMPLED_SOURCES}") } else { String::new() };
    let sql = format!(
        "SELECT DISTINCT c.name, s.version
        FROM (
            SELECT text_search_configs, COALESCE(chunking[6], {PARSER_VERSION}) AS version FROM {table}
            WHERE chatbot_id = $1 AND enabled AND chunk_count > 0 {limit}
        ) AS s, LATERAL pg_catalog.unnest(s.text_search_configs) AS c (name)"
    );
    let mut names: Vec<(String, i32)> = run(&sql, &[scope.filter.chatbot_id.into()], StatementMode::Scan, |rows| {
        rows.map(|row| Ok((not_null(row.get(1))?, not_null(row.get(2))?))).collect()
    })?;
    if large {
        let common = statistics::common_elements(table, c"text_search_configs");
        let are_current = statistics::arrays(table, c"chunking").is_some_and(|cut| {
            let is_current = |numbers: &[i32]| numbers.get(5) == Some(&WORDS_VERSION);
            cut.iter().all(|numbers| is_current(numbers))
        });
        names.extend(common.into_iter().map(|name| (name, if are_current { WORDS_VERSION } else { UNKNOWN_VERSION })));
    }
    let sql = "SELECT c.cfgnamespace::pg_catalog.regnamespace || '.' || pg_catalog.quote_ident(c.cfgname), c.oid
        FROM pg_catalog.pg_ts_config c
        WHERE c.cfgnamespace::pg_catalog.regnamespace || '.' || pg_catalog.quote_ident(c.cfgname) = ANY ($1)
        ORDER BY 1";
    let all: Vec<String> = names.iter().map(|(name, _)| name.clone()).collect();
    let found: Vec<Configuration> = run(sql, &[all.into()], StatementMode::Read, |rows| {
        rows.map(|row| Ok(Configuration { name: not_null(row.get(1))?, id: not_null(row.get(2))? })).collect()
    })?;
    let of = |version: i32| {
        let is = |of: i32| of == version || of == UNKNOWN_VERSION;
        let is_named = |c: &&Configuration| names.iter().any(|(name, of)| is(*of) && *name == c.name);
        found.iter().filter(is_named).cloned().collect()
    };
    Ok(ReadWords { configurations: of(WORDS_VERSION), by_parser: of(PARSER_VERSION) })
}

/// The words of a query, each as the terms that it may be in the index: in all languages that the chatbot has, and in none.
pub fn query_words(scope: &Scope, query: &str, large: bool) -> Result<Vec<Vec<Term>>> {
    let ReadWords { configurations, by_parser } = read_words(scope, large)?;
    if configurations.is_empty() && by_parser.is_empty() {
        return Ok(Vec::new());
    }
    let mut read: Vec<_> = configurations.iter().map(|c| c.terms(query)).collect();
    read.push(own_form(query));
    let mut words = alternatives(&read);
    let sql = format!(
        "SELECT DISTINCT u.lexeme FROM pg_catalog.unnest($1::oid[]) AS c (id) CROSS JOIN LATERAL pg_catalog.unnest(
            pg_catalog.to_tsvector(c.id::pg_catalog.regconfig, pg_catalog.translate($2, {SEPARATORS}))) AS u
        ORDER BY 1"
    );
    if !by_parser.is_empty() {
        let ids: Vec<pgrx::pg_sys::Oid> = by_parser.iter().map(|c| c.id).collect();
        let lexemes: Vec<String> = run(&sql, &[ids.into(), query.into()], StatementMode::Read, |rows| {
            rows.map(|row| not_null(row.get(1))).collect()
        })?;
        let known: Vec<Term> = words.iter().flatten().cloned().collect();
        words.extend(lexemes.into_iter().map(Term::lexeme).filter(|term| !known.contains(term)).map(|term| vec![term]));
    }
    words.truncate(MAX_QUERY_WORDS);
    Ok(words)
}

/// A chunk with at least one of the words. Those that the filter does not let through count for how frequent a word is.
pub struct MatchingChunk {
    /// The chunk's key.
    pub key: ChunkKey,
    /// How often the chunk has each term.
    pub counts: TermCounts,
    /// Whether the filter lets the chunk through.
    pub passes: bool,
}

/// Returns the chatbot's chunks with at least one of the words for which `index_terms` is true.
pub fn chunks_with_words(scope: &Scope, words: &[Vec<Term>], index_terms: &[bool]) -> Result<Vec<MatchingChunk>> {
    // Which index is best depends on the words, so the statement is planned each time.
    let _settings = ScopedSettings::new(&[(c"plan_cache_mode", c"force_custom_plan")]);
    let sql = format!(
        "SELECT source_type, source_id, chunk_id, words, COALESCE({}, false) {} AND words @@ $5::tsquery",
        scope.filter.condition(),
        scope.of_chatbot_by_index()
    );
    let any: Vec<String> = words
        .iter()
        .zip(index_terms)
        .filter(|(_, up)| **up)
        .flat_map(|(word, _)| word.iter().map(Term::to_query))
        .collect();
    if any.is_empty() {
        return Ok(Vec::new());
    }
    let mut args = scope.args();
    args.push(any.join(" | ").into());
    count_words(&sql, &args, words, StatementMode::Scan)
}

/// Returns chunks by their keys, with their counts of the words. All of them are known to pass the filter.
pub fn words_of_chunks(scope: &Scope, words: &[Vec<Term>], keys: &[ChunkKey]) -> Result<Vec<MatchingChunk>> {
    let sql = format!("SELECT e.source_type, e.source_id, e.chunk_id, e.words, true {}", scope.chunks_by_key());
    count_words(&sql, &scope.key_args(keys), words, StatementMode::Read)
}

fn count_words(
    sql: &str,
    args: &[DatumWithOid],
    words: &[Vec<Term>],
    mode: StatementMode,
) -> Result<Vec<MatchingChunk>> {
    run(sql, args, mode, |rows| {
        let rows = rows.map(|row| {
            let key = (not_null(row.get(1))?, not_null(row.get(2))?, not_null(row.get(3))?);
            let TsVector(vector) = not_null(row.get(4))?;
            Ok(counts(&vector, words).map(|counts| (key, counts, row.get::<bool>(5))))
        });
        rows.filter_map(Result::transpose)
            .map(|row| {
                row.and_then(|(key, counts, passes)| Ok(MatchingChunk { key, counts, passes: not_null(passes)? }))
            })
            .collect()
    })
}

/// Runs a search on the node with the chatbot's shards, by one statement that Citus sends there, and returns the chunks with
/// their scores, best first. The node does not return chunk ids: the keys have the positions in their place.
pub fn search_on_node(filter: &Filter, question: Jsonb, vector: Option<Vec<f32>>) -> Result<Vec<(FoundChunk, f32)>> {
    let sql =
        "SELECT a.source_type, a.source_id, a.chunk_index, a.chunk_index, a.content, a.similarity, a.metadata, a.score
        FROM (SELECT tableoid AS shard FROM chatbot_sync.embedding WHERE chatbot_id = $1 LIMIT 1) AS e,
            (SELECT tableoid AS shard FROM chatbot_sync.source WHERE chatbot_id = $1 LIMIT 1) AS s,
            LATERAL chatbot_sync.search_in(e.shard, s.shard, $2, $3, $4) AS a";
    let args = [filter.chatbot_id.into(), question.into(), filter.metadata.clone().into(), vector.into()];
    run(sql, &args, StatementMode::Scan, |rows| rows.map(|row| Ok((found(&row)?, not_null(row.get(8))?))).collect())
}

/// Returns the number of chunks of a chatbot.
pub fn count_chunks(scope: &Scope) -> Result<f64> {
    let sql = format!(
        "SELECT pg_catalog.sum(chunk_count)::double precision FROM {} WHERE chatbot_id = $1 AND enabled",
        scope.tables.source
    );
    let count: Option<f64> =
        run(&sql, &[scope.filter.chatbot_id.into()], StatementMode::Scan, |rows| rows.first().get_one())?;
    Ok(count.unwrap_or(0.0))
}
