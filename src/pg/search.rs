//! A question in words to the chunks that answer it: near in meaning, with the same words, or both.

use std::collections::{HashMap, HashSet};

use super::jsonb::Jsonb;
use super::store::index;
use super::store::model::{ActiveModel, active_model_as_seen};
use super::store::search::{self as store, ChunkKey, Filter, Found};
use super::{args, guc, model};
use crate::error::{Error, Result};
use crate::fulltext::{bm25, fused};
use crate::provider::InputType;
use crate::scan::{self, Size};

/// How to search.
pub const MODES: [&str; 3] = ["hybrid", "vector", "text"];
const MAX_RESULTS: i32 = 1000;
/// Of each half as many are looked at for each answer, and at least so many: what is second in both may be the best.
const CANDIDATES: i64 = 3;
const LEAST_CANDIDATES: i64 = 50;

/// An answer with its score.
pub struct Answer {
    /// The chunk.
    pub found: Found,
    /// What the answers are sorted by.
    pub score: f32,
}

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

/// The best chunks, best first. Writes nothing.
pub fn search(question: Question) -> Result<Vec<Answer>> {
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
    let mode = args::word("mode", question.mode, &MODES)?;
    let Some(active) = active_model_as_seen()? else {
        return Ok(Vec::new());
    };
    let filter = Filter { chatbot_id, source_types, metadata: question.metadata_filter };
    let wanted = match guc::max_results_per_source() {
        // Some will be left out.
        Some(_) => i64::from(MAX_RESULTS),
        None => limit,
    };
    let scope = Scope { filter: &filter, active: &active, size: index::size(chatbot_id, active.id)? };
    let mut answers = match mode {
        "text" => by_text(&scope, query, wanted)?,
        "vector" => by_vector(&scope, query, wanted)?,
        _ => by_both(&scope, query, wanted)?,
    };
    if let Some(least) = question.min_similarity {
        answers.retain(|answer| answer.found.similarity.is_some_and(|similarity| similarity >= least));
    }
    sort(&mut answers);
    if let Some(most) = guc::max_results_per_source() {
        let mut of_source: HashMap<(String, i64), usize> = HashMap::new();
        answers.retain(|Answer { found, .. }| {
            let count = of_source.entry((found.key.0.clone(), found.key.1)).or_default();
            *count += 1;
            *count <= most
        });
    }
    answers.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(answers)
}

/// Best first; what is equal in the order of the sources and their texts.
fn sort(answers: &mut [Answer]) {
    answers.sort_by(|a, b| {
        let place = |f: &Found| (f.key.0.clone(), f.key.1, f.chunk_index);
        b.score.total_cmp(&a.score).then_with(|| place(&a.found).cmp(&place(&b.found)))
    });
}

/// What is looked through.
struct Scope<'a> {
    filter: &'a Filter,
    active: &'a ActiveModel,
    /// How large the chatbot is, where its model has indexes and Postgres' statistics name it among the largest.
    size: Option<Size>,
}

fn by_vector(scope: &Scope, query: &str, limit: i64) -> Result<Vec<Answer>> {
    let vector = model::embed_one(&scope.active.model, InputType::Query, query)?;
    let found = nearest(scope, &vector, limit)?;
    Ok(found.into_iter().map(|found| Answer { score: found.similarity.unwrap_or(0.0), found }).collect())
}

/// The nearest chunks, by the index where that pays.
fn nearest(scope: &Scope, vector: &[f32], limit: i64) -> Result<Vec<Found>> {
    let candidates = limit.max(LEAST_CANDIDATES);
    let in_sight = match scope.size {
        Some(size) => size.in_sight(candidates, guc::exact_search_limit(), index::goes_on()?),
        None => None,
    };
    if let Some(in_sight) = in_sight {
        // None: the filter lets few through, or the chatbot is smaller than it was.
        if let Some(found) = store::nearest_by_index(scope.filter, scope.active, vector, limit, candidates, in_sight)? {
            return Ok(found);
        }
    }
    store::nearest(scope.filter, scope.active.id, vector, limit)
}

/// Needs no vector of the query, and asks no provider: it works where none answers.
fn by_text(scope: &Scope, query: &str, limit: i64) -> Result<Vec<Answer>> {
    let scores = text_scores(scope, query, limit, None)?;
    let keys: Vec<ChunkKey> = scores.keys().cloned().collect();
    let found = store::by_key(scope.filter.chatbot_id, scope.active.id, &keys, None)?;
    Ok(found.into_iter().map(|found| Answer { score: real(scores[&found.key]), found }).collect())
}

fn by_both(scope: &Scope, query: &str, limit: i64) -> Result<Vec<Answer>> {
    let candidates = (limit * CANDIDATES).clamp(LEAST_CANDIDATES, i64::from(MAX_RESULTS));
    let vector = model::embed_one(&scope.active.model, InputType::Query, query)?;
    let mut found = nearest(scope, &vector, candidates)?;
    let near: HashSet<ChunkKey> = found.iter().map(|f| f.key.clone()).collect();
    let scores = text_scores(scope, query, candidates, Some(&near))?;
    let best = scores.values().copied().fold(0.0, f64::max);
    let others: Vec<ChunkKey> = scores.keys().filter(|key| !near.contains(key)).cloned().collect();
    if !others.is_empty() {
        found.extend(store::by_key(scope.filter.chatbot_id, scope.active.id, &others, Some(&vector))?);
    }
    let answer = |found: Found| {
        let text = scores.get(&found.key).copied().unwrap_or(0.0);
        Answer { score: real(fused(f64::from(found.similarity.unwrap_or(0.0)), text, best)), found }
    };
    Ok(found.into_iter().map(answer).collect())
}

// SQL's real is what a score is.
#[allow(clippy::cast_possible_truncation)]
fn real(score: f64) -> f32 {
    score as f32
}

/// The BM25 scores of the chunks with the query's words that have the highest; in a large chatbot, of those with a rare
/// one of them; and those of the chunks that are near. None: there are no other answers.
fn text_scores(
    scope: &Scope,
    query: &str,
    most: i64,
    near: Option<&HashSet<ChunkKey>>,
) -> Result<HashMap<ChunkKey, f64>> {
    let &Scope { filter, active, size } = scope;
    let large = size.filter(|size| size.chunks > f64::from(guc::exact_search_limit()));
    let words = store::query_words(filter.chatbot_id, query, large.is_some())?;
    if words.is_empty() {
        return Ok(HashMap::new());
    }
    let (looked_up, shares, all) = match large {
        Some(Size { chunks, .. }) => {
            let shares = index::shares(&words)?;
            let looked_up = scan::looked_up(&shares, chunks, near.is_none());
            let shares = shares.iter().zip(&looked_up).map(|(share, up)| (!up).then_some(*share)).collect();
            (looked_up, shares, chunks)
        }
        None => (vec![true; words.len()], Vec::new(), store::count(filter.chatbot_id)?),
    };
    let mut matching = store::matching(filter, active.id, &words, &looked_up)?;
    if let Some(near) = near.filter(|_| looked_up.contains(&false)) {
        // They may have the words that are in too many to be looked up.
        let matched: HashSet<&ChunkKey> = matching.iter().map(|m| &m.key).collect();
        let others: Vec<ChunkKey> = near.iter().filter(|key| !matched.contains(key)).cloned().collect();
        matching.extend(store::matching_of(filter.chatbot_id, active.id, &words, &others)?);
    }
    let (matching, counts): (Vec<_>, Vec<_>) =
        matching.into_iter().map(|matching| ((matching.key, matching.passes), matching.counts)).unzip();
    let scores = bm25(&counts, &shares, all);
    let mut scored: Vec<(ChunkKey, f64)> = matching
        .into_iter()
        .zip(scores)
        .filter(|((_, passes), _)| *passes)
        .map(|((key, _), score)| (key, score))
        .collect();
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if most < scored.len() {
        scored.select_nth_unstable_by(most, |a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let others = scored.split_off(most);
        scored.extend(others.into_iter().filter(|(key, _)| near.is_some_and(|near| near.contains(key))));
    }
    Ok(scored.into_iter().collect())
}

fn checked_types(types: Vec<Option<String>>) -> Result<Vec<String>> {
    types
        .into_iter()
        .map(|t| args::word("source_types", t.as_deref(), &args::SOURCE_TYPES).map(str::to_owned))
        .collect()
}
