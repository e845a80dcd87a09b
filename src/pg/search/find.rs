//! Finds the chunks that match a query, in tables of this node.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use crate::error::Result;
use crate::pg::runtime::lexemes::Configuration;
use crate::pg::search::{MAX_RESULTS, SearchMode, SearchRequest, SearchResult};
use crate::pg::store::query_words::{QueryWords, query_words};
use crate::pg::store::search::{ChunkKey, FoundChunk, Scope};
use crate::pg::store::tables::Tables;
use crate::pg::store::{index, search as store, statistics};
use crate::search::bm25::{Bm25, TermCounts};
use crate::search::fusion::{Coverage, Fusion};
use crate::search::plan::{self, ChatbotSize};
use crate::search::proximity::{MAX_TEXTS_READ, PairFinder, QueryLexemes};
use crate::search::term::{Form, WordSet};
use crate::text::analyzer::{Casing, forms};
use crate::text::title::{Title, with_title};

/// The number of candidates of each half of a hybrid search, for each result that is asked for; at least
/// [`LEAST_CANDIDATES`] are read: a chunk that is second in both halves may be the best.
const CANDIDATES: i64 = 3;
const LEAST_CANDIDATES: i64 = 50;

/// A search request, and the tables that it is answered from.
struct Search<'a> {
    request: &'a SearchRequest,
    scope: Scope<'a>,
    /// The size of the chatbot; `None` where its model has no index, or Postgres' statistics do not name it
    /// among the largest.
    size: Option<ChatbotSize>,
    /// Whether policies of row security hide rows from this role. Then scores do not use statistics, which describe
    /// hidden rows too.
    restricted: bool,
}

/// Text scores by chunk, and what they were computed from.
#[derive(Default)]
struct TextScores {
    of_chunks: HashMap<ChunkKey, TextScore>,
    bm25: Bm25,
    query: QueryWords,
}

/// The text score of a chunk, the number of its terms, and which words of the query it has.
#[derive(Clone, Copy, Default)]
struct TextScore {
    score: f64,
    length: u32,
    words: WordSet,
}

/// A chunk of a hybrid search.
struct Candidate {
    found: FoundChunk,
    similarity: f64,
    text: TextScore,
    score: f64,
}

impl Candidate {
    fn best_first(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then_with(|| self.found.key.cmp(&other.found.key))
    }
}

/// Returns the candidates for the results of a search, in no order: among them are the `limit` best chunks.
pub fn find(request: &SearchRequest, tables: &Tables, limit: i64) -> Result<Vec<SearchResult>> {
    let index = statistics::valid_index(tables, request.form, request.model_id)?;
    let size = index.and_then(|index| statistics::chatbot_size(tables, request.filter.chatbot_id, index.chunks));
    let form = index.map_or(request.form, |index| index.form);
    let scope = Scope { tables, filter: &request.filter, model_id: request.model_id, form };
    let search = Search { request, scope, size, restricted: tables.are_restricted() };
    match (request.mode, &request.vector) {
        (SearchMode::Vector, Some(vector)) => search.by_vector(vector, limit),
        (SearchMode::Hybrid, Some(vector)) => search.by_both(vector, limit),
        (_, _) => search.by_text(limit),
    }
}

impl Search<'_> {
    fn by_vector(&self, vector: &[f32], limit: i64) -> Result<Vec<SearchResult>> {
        let found = self.nearest(vector, limit)?;
        Ok(found.into_iter().map(|found| SearchResult { score: found.similarity.unwrap_or(0.0), found }).collect())
    }

    /// Returns the nearest chunks, best first, by the index where that is faster.
    fn nearest(&self, vector: &[f32], limit: i64) -> Result<Vec<FoundChunk>> {
        let results = limit.max(LEAST_CANDIDATES);
        let candidates = self.scope.form.quantization.candidates(results);
        let ef_search = match self.size {
            Some(size) => size.ef_search(results, candidates, self.request.exact_limit, index::has_iterative_scan()?),
            None => None,
        };
        if let Some(ef_search) = ef_search {
            // `None`: the filter left too few candidates, or the chatbot has become smaller.
            if let Some(found) = store::nearest_by_index(&self.scope, vector, limit, candidates, ef_search)? {
                return Ok(found);
            }
        }
        store::nearest(&self.scope, vector, limit)
    }

    /// Searches by words alone. It needs no vector of the query, so it works while no provider answers.
    fn by_text(&self, limit: i64) -> Result<Vec<SearchResult>> {
        let scores = self.text_scores(limit, None)?.of_chunks;
        let keys: Vec<ChunkKey> = scores.keys().copied().collect();
        let found = store::chunks_by_key(&self.scope, &keys, None)?;
        Ok(found.into_iter().map(|found| SearchResult { score: to_real(scores[&found.key].score), found }).collect())
    }

    fn by_both(&self, vector: &[f32], limit: i64) -> Result<Vec<SearchResult>> {
        let candidates = (limit * CANDIDATES).clamp(LEAST_CANDIDATES, i64::from(MAX_RESULTS));
        let mut found = self.nearest(vector, candidates)?;
        let near: HashSet<ChunkKey> = found.iter().map(|f| f.key).collect();
        let TextScores { of_chunks: scores, bm25, query } = self.text_scores(candidates, Some(&near))?;
        let others: Vec<ChunkKey> = scores.keys().filter(|key| !near.contains(key)).copied().collect();
        if !others.is_empty() {
            found.extend(store::chunks_by_key(&self.scope, &others, Some(vector))?);
        }
        let candidate = |found: FoundChunk| Candidate {
            similarity: f64::from(found.similarity.unwrap_or(0.0)),
            text: scores.get(&found.key).copied().unwrap_or_default(),
            score: 0.0,
            found,
        };
        let mut candidates: Vec<Candidate> = found.into_iter().map(candidate).collect();
        let of_all_words: f64 = bm25.idf().iter().sum();
        let best = scores.values().map(|text| text.score).fold(0.0, f64::max);
        let coverage = Coverage { words: if of_all_words > 0.0 { best / of_all_words } else { 0.0 }, pairs: 0.0 };
        self.fuse(&mut candidates, coverage);
        let read = candidates.len().min(MAX_TEXTS_READ);
        if read < candidates.len() {
            candidates.select_nth_unstable_by(read, Candidate::best_first);
        }
        let pairs = add_proximity_scores(&query, &bm25, &mut candidates[..read]);
        self.fuse(&mut candidates, Coverage { pairs, ..coverage });
        Ok(candidates.into_iter().map(|c| SearchResult { score: to_real(c.score), found: c.found }).collect())
    }

    /// Makes one score of the similarity and the text score of each candidate.
    fn fuse(&self, candidates: &mut [Candidate], coverage: Coverage) {
        let best = candidates.iter().map(|candidate| candidate.text.score).fold(0.0, f64::max);
        let fusion = Fusion::new(self.request.text_weight, self.request.known, coverage);
        for candidate in candidates {
            candidate.score = fusion.score(candidate.similarity, candidate.text.score, best);
        }
    }

    /// Returns the `limit` highest BM25 scores of chunks with words of the query, and those of the chunks that are
    /// `near`. In a large chatbot, only chunks with one of the query's rare words are read. `near` is `None` in a search
    /// by words alone.
    fn text_scores(&self, limit: i64, near: Option<&HashSet<ChunkKey>>) -> Result<TextScores> {
        let large = self.size.filter(|size| !self.restricted && size.chunks > f64::from(self.request.exact_limit));
        let query = query_words(&self.scope, &self.request.query, large.is_some())?;
        let words = &query.words;
        if words.is_empty() {
            return Ok(TextScores::default());
        }
        let (index_terms, shares, all) = match large {
            Some(ChatbotSize { chunks, .. }) => {
                let shares = statistics::word_shares(self.scope.tables, words);
                let index_terms = plan::index_terms(&shares, chunks, near.is_none());
                let shares = shares
                    .iter()
                    .zip(&index_terms)
                    .map(|(share, is_indexed)| (!is_indexed).then_some(*share))
                    .collect();
                (index_terms, shares, chunks)
            }
            None => (vec![true; words.len()], Vec::new(), store::count_chunks(&self.scope)?),
        };
        let mut matching = store::chunks_with_words(&self.scope, words, &index_terms)?;
        if let Some(near) = near.filter(|_| index_terms.contains(&false)) {
            // They may have words that are in too many chunks for the index to be asked for them.
            let matched: HashSet<&ChunkKey> = matching.iter().map(|m| &m.key).collect();
            let others: Vec<ChunkKey> = near.iter().filter(|key| !matched.contains(key)).copied().collect();
            matching.extend(store::words_of_chunks(&self.scope, words, &others)?);
        }
        let (matching, counts): (Vec<_>, Vec<_>) =
            matching.into_iter().map(|matching| ((matching.key, matching.passes), matching.counts)).unzip();
        let forms: Vec<Form> = words.iter().map(|word| word.form).collect();
        let bm25 = Bm25::new(&counts, &forms, &shares, all);
        let text_score = |counts: &TermCounts| TextScore {
            score: bm25.score(counts),
            length: counts.length,
            words: counts.present(),
        };
        let mut scored: Vec<(ChunkKey, TextScore)> = matching
            .into_iter()
            .zip(&counts)
            .filter(|((_, passes), _)| *passes)
            .map(|((key, _), counts)| (key, text_score(counts)))
            .collect();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if limit < scored.len() {
            scored.select_nth_unstable_by(limit, |a, b| b.1.score.total_cmp(&a.1.score).then_with(|| a.0.cmp(&b.0)));
            let others = scored.split_off(limit);
            scored.extend(others.into_iter().filter(|(key, _)| near.is_some_and(|near| near.contains(key))));
        }
        Ok(TextScores { of_chunks: scored.into_iter().collect(), bm25, query })
    }
}

/// Adds to the text score of each candidate what it gets for neighbouring words of the query that stand together in it.
/// Returns the best of these scores, as the share of what a chunk of mean length gets that has each pair once.
fn add_proximity_scores(query: &QueryWords, bm25: &Bm25, candidates: &mut [Candidate]) -> f64 {
    let casing = query.configurations.first().map_or(Casing::Root, Configuration::casing);
    let lexemes = QueryLexemes::new(&query.words);
    let mut finder = PairFinder::new(&query.words, bm25, &lexemes, casing);
    let words_of = |word: &str| {
        let mut words: WordSet = forms(word).map(|form| lexemes.words_of(&form)).collect();
        for configuration in &query.configurations {
            words = words.union(configuration.lexemes(word).iter().map(|lexeme| lexemes.words_of(lexeme)).collect());
        }
        words
    };
    let mut best: f64 = 0.0;
    for Candidate { found, text, .. } in candidates {
        pgrx::check_for_interrupts!();
        if finder.may_have_pairs(text.words) {
            let title = Title::of_metadata(found.metadata.as_str());
            let content = with_title(title.as_ref().map(|title| title.of(None)), &found.content);
            let counts = finder.count(&content, words_of);
            let score = finder.score(bm25, &counts, text.length);
            text.score += score;
            best = best.max(score);
        }
    }
    let of_all = finder.of_all_pairs();
    if of_all > 0.0 { best / of_all } else { 0.0 }
}

// Scores are `to_real` in SQL.
#[allow(clippy::cast_possible_truncation)]
fn to_real(score: f64) -> f32 {
    score as f32
}
