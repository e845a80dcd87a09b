//! Searches: from a query to the chunks that match it, by meaning, by words, or both.
//!
//! - `find`: finds and scores the chunks, in tables of this node
//! - `visible_chatbots`: which chatbots row security leaves to the caller

use std::collections::HashMap;

use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

use crate::embedding::provider::InputType;
use crate::error::{Error, Result};
use crate::ids::ModelId;
use crate::pg::runtime::{arguments, settings};
use crate::pg::store::index_form::IndexForm;
use crate::pg::store::model::active_model_in_snapshot;
use crate::pg::store::search as store;
use crate::pg::store::search::{Filter, FoundChunk};
use crate::pg::store::tables::{self, Tables};
use crate::pg::{model, source_types};
use crate::search::fusion::DEFAULT_TEXT_WEIGHT;
use crate::source::{Jsonb, SourceType};

mod find;
#[allow(unsafe_code)]
pub mod visible_chatbots;

/// The values of `mode`.
const MODES: [&str; 3] = ["hybrid", "vector", "text"];
const MAX_RESULTS: i32 = 1000;

/// A row of `chatbot_search()`: source_type, source_id, chunk_index, content, similarity, score, metadata.
pub type ResultRow = (String, i64, i32, String, Option<f32>, f32, Jsonb);

/// A chunk that was found, with its score.
pub struct SearchResult {
    /// The chunk that was found.
    pub found: FoundChunk,
    /// The score by which results are sorted, highest first.
    pub score: f32,
}

impl SearchResult {
    /// Converts the result into a row of `chatbot_search()`.
    pub fn into_row(self) -> ResultRow {
        let Self { found: f, score } = self;
        (f.key.source_type.to_string(), f.key.source_id, f.chunk_index, f.content, f.similarity, score, f.metadata)
    }
}

/// The arguments of `chatbot_search()`.
pub struct SearchArguments<'a> {
    /// The chatbot whose chunks are searched.
    pub chatbot_id: Option<i64>,
    /// The query's text.
    pub query: Option<&'a str>,
    /// The largest number of results, 1 to 1000.
    pub max_results: Option<i32>,
    /// `None`: sources of all types are searched.
    pub source_types: Option<Vec<Option<String>>>,
    /// A JSON object that a chunk's metadata has to contain; `None`: metadata does not matter.
    pub metadata_filter: Option<Jsonb>,
    /// The least cosine similarity of a result, -1 to 1; `None`: it does not matter.
    pub min_similarity: Option<f32>,
    /// One of [`MODES`].
    pub mode: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum SearchMode {
    Hybrid,
    Vector,
    Text,
}

/// A checked request, with everything that its result depends on. Where Citus distributes the tables, it is sent to the node
/// that has the chatbot, which knows neither the model nor this session's settings.
#[derive(Serialize, Deserialize)]
struct SearchRequest {
    filter: Filter,
    model_id: ModelId,
    #[serde(flatten)]
    form: IndexForm,
    query: String,
    limit: usize,
    min_similarity: Option<f32>,
    mode: SearchMode,
    exact_limit: i32,
    most_per_source: Option<usize>,
    /// The share of the query that the model knows.
    #[serde(default = "whole_share")]
    known: f32,
    /// The weight of words beside similarity.
    #[serde(default = "default_text_weight")]
    text_weight: f32,
    /// The query's vector; `None` in a search by words alone.
    #[serde(skip)]
    vector: Option<Vec<f32>>,
}

/// The share of the query that the model is taken to know where a coordinator of an older version does not send one.
fn whole_share() -> f32 {
    1.0
}

/// The weight of words where a coordinator of an older version does not send one.
fn default_text_weight() -> f32 {
    DEFAULT_TEXT_WEIGHT
}

/// Returns the chunks that match best, best first. Writes nothing.
pub fn search(args: SearchArguments) -> Result<Vec<SearchResult>> {
    let chatbot_id = arguments::check_chatbot_id(args.chatbot_id)?;
    let query = arguments::required("query", args.query)?;
    let limit = match arguments::required("max_results", args.max_results)? {
        n @ 1..=MAX_RESULTS => usize::try_from(n).unwrap_or(0),
        n => return Err(Error::invalid("max_results", n, format!("1 to {MAX_RESULTS}"))),
    };
    let source_types = args.source_types.map(check_source_types).transpose()?;
    if let Some(filter) = args.metadata_filter.as_ref().filter(|f| !f.is_object()) {
        return Err(Error::invalid("metadata_filter", filter.kind(), "an object"));
    }
    if let Some(least) = args.min_similarity.filter(|s| !(-1.0..=1.0).contains(s)) {
        return Err(Error::invalid("min_similarity", least, "-1 to 1"));
    }
    let mode = match arguments::one_of("mode", args.mode, &MODES)? {
        "text" => SearchMode::Text,
        "vector" => SearchMode::Vector,
        _ => SearchMode::Hybrid,
    };
    let Some(active) = active_model_in_snapshot()? else {
        return Ok(Vec::new());
    };
    let vector = match mode {
        SearchMode::Text => None,
        SearchMode::Vector | SearchMode::Hybrid => Some(model::embed_one(&active.model, InputType::Query, query)?),
    };
    let request = SearchRequest {
        filter: Filter { chatbot_id, source_types, metadata: args.metadata_filter },
        model_id: active.id,
        form: active.index_form(),
        query: query.to_owned(),
        limit,
        min_similarity: args.min_similarity,
        mode,
        exact_limit: settings::exact_search_limit(),
        most_per_source: settings::max_results_per_source(),
        known: model::known_share(&active.model, query),
        text_weight: active.text_weight,
        vector,
    };
    if tables::is_distributed()? {
        let args = serde_json::to_value(&request).map_err(|error| Error::Internal(error.to_string()))?;
        let rows = store::search_on_node(&request.filter, Jsonb::from(args), request.vector)?;
        return Ok(rows.into_iter().map(|row| SearchResult { found: row.found, score: row.score }).collect());
    }
    search_tables(&request, &Tables::extension_tables()?)
}

/// The shards that have a chatbot.
pub struct Shards {
    /// The oid of the shard of `chatbot_sync.embedding`.
    pub embedding: pg_sys::Oid,
    /// The oid of the shard of `chatbot_sync.source`.
    pub source: pg_sys::Oid,
}

/// Answers a search on the node that has the chatbot's shards.
pub fn search_shards(
    shards: Shards,
    args: &Jsonb,
    metadata: Option<Jsonb>,
    vector: Option<Vec<f32>>,
) -> Result<Vec<SearchResult>> {
    let mut request: SearchRequest =
        serde_json::from_str(args.as_str()).map_err(|error| Error::Internal(error.to_string()))?;
    request.filter.metadata = metadata;
    request.vector = vector;
    search_tables(&request, &Tables::shard_tables(shards.embedding, shards.source)?)
}

/// Returns the best chunks in these tables, best first.
fn search_tables(request: &SearchRequest, tables: &Tables) -> Result<Vec<SearchResult>> {
    let most = match request.most_per_source {
        // Results beyond the limit for their source are dropped below, so more are fetched than were asked for.
        Some(_) => i64::from(MAX_RESULTS),
        None => i64::try_from(request.limit).unwrap_or(i64::MAX),
    };
    let mut results = find::find(request, tables, most)?;
    if let Some(least) = request.min_similarity {
        results.retain(|result| result.found.similarity.is_some_and(|similarity| similarity >= least));
    }
    sort(&mut results);
    if let Some(most) = request.most_per_source {
        let mut of_source: HashMap<(SourceType, i64), usize> = HashMap::new();
        results.retain(|SearchResult { found, .. }| {
            let count = of_source.entry((found.key.source_type, found.key.source_id)).or_default();
            *count += 1;
            *count <= most
        });
    }
    results.truncate(request.limit);
    Ok(results)
}

/// Sorts results by score, best first, and equal ones by source and position.
fn sort(results: &mut [SearchResult]) {
    results.sort_by(|a, b| {
        let place = |f: &FoundChunk| (f.key.source_type, f.key.source_id, f.chunk_index);
        b.score.total_cmp(&a.score).then_with(|| place(&a.found).cmp(&place(&b.found)))
    });
}

fn check_source_types(types: Vec<Option<String>>) -> Result<Vec<SourceType>> {
    types.into_iter().map(|name| source_types::check_source_type("source_types", name.as_deref())).collect()
}
