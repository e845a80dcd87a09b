//! A question in words to the chunks that are nearest to it.

use super::jsonb::Jsonb;
use super::store::model::active_model;
use super::store::search::{Filter, Found, nearest};
use super::{args, model};
use crate::error::{Error, Result};
use crate::provider::InputType;

/// How to search.
pub const MODES: [&str; 1] = ["vector"];
const MAX_RESULTS: i32 = 1000;

/// What is asked for, as SQL gives it.
pub struct Question<'a> {
    /// The tenant.
    pub chatbot_id: Option<i64>,
    /// In words.
    pub query: Option<&'a str>,
    /// 1 to 1000.
    pub max_results: Option<i32>,
    /// None: all.
    pub source_types: Option<Vec<Option<String>>>,
    /// What a source's metadata has to contain.
    pub metadata_filter: Option<Jsonb>,
    /// -1 to 1.
    pub min_similarity: Option<f32>,
    /// One of [`MODES`].
    pub mode: Option<&'a str>,
}

/// The nearest chunks, best first. Writes nothing.
pub fn search(question: Question) -> Result<Vec<Found>> {
    let chatbot_id = args::id("chatbot_id", question.chatbot_id)?;
    let query = args::given("query", question.query)?;
    let limit = match args::given("max_results", question.max_results)? {
        n @ 1..=MAX_RESULTS => i64::from(n),
        n => return Err(Error::invalid("max_results", n, format!("1 to {MAX_RESULTS}"))),
    };
    let source_types = question.source_types.map(checked_types).transpose()?;
    if let Some(filter) = question.metadata_filter.as_ref().filter(|f| !f.is_object()) {
        return Err(Error::invalid("metadata_filter", filter.kind(), "an object"));
    }
    if let Some(least) = question.min_similarity.filter(|s| !(-1.0..=1.0).contains(s)) {
        return Err(Error::invalid("min_similarity", least, "-1 to 1"));
    }
    args::word("mode", question.mode, &MODES)?;

    let Some(active) = active_model()? else {
        return Ok(Vec::new());
    };
    let vector = model::embed_one(&active.model, InputType::Query, query)?;
    let filter = Filter {
        chatbot_id,
        source_types,
        metadata: question.metadata_filter,
        min_similarity: question.min_similarity,
    };
    nearest(filter, active.id, vector, limit)
}

fn checked_types(types: Vec<Option<String>>) -> Result<Vec<String>> {
    types
        .into_iter()
        .map(|t| args::word("source_types", t.as_deref(), &args::SOURCE_TYPES).map(str::to_owned))
        .collect()
}
