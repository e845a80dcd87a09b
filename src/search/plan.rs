//! Decides whether a search reads every chunk of a chatbot or asks an index. Reading every chunk is exact, and better
//! where it is quick or where the index, which covers all chatbots, would pass over too many chunks of other chatbots.

/// The number of chunks that HNSW looks at for the price at which `chatbot_sync.exact_search_limit` was measured.
const SCAN_BUDGET: f64 = 500.0;
/// The least `hnsw.ef_search`, and its share of all chunks in a larger index, for a recall of at least 0.98: see
/// bench/README.md.
const MIN_EF_SEARCH: f64 = 200.0;
const EF_SEARCH_SHARE: f64 = 0.001;
/// pgvector's limit of `hnsw.ef_search`.
const MAX_EF_SEARCH: f64 = 1000.0;
/// How many matching chunks of a large chatbot are read at most, as estimated from statistics. Terms that would match
/// more only add to the scores of chunks that another term or the vector has found. Without vectors more chunks are
/// needed for the same quality: see bench/README.md.
const MAX_MATCHES: f64 = 1_000.0;
const MAX_MATCHES_TEXT_ONLY: f64 = 2_500.0;
/// How many chunks with the rarest term may be read, though that exceeds the limit above.
const MAX_MATCHES_RAREST: f64 = 5_000.0;

/// The number of chunks that a search is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChatbotSize {
    /// The number of chunks of the chatbot.
    pub chunks: f64,
    /// The number of chunks of all chatbots, which the index covers.
    pub of_all: f64,
}

impl ChatbotSize {
    /// Returns the `hnsw.ef_search` to use for so many results, which are chosen among `candidates` of the index; `None`
    /// where every chunk is to be read. That is up to `limit` chunks, and more the smaller the chatbot's share of the index
    /// is.
    ///
    /// The value is twice the number of chunks that the index passes over for so many results of this chatbot: an
    /// iterative scan that starts with less does find as many candidates, but not the nearest ones. Without iterative
    /// scan (before pgvector 0.8) the index has to find all of them at once. Where that exceeds pgvector's limit of
    /// `hnsw.ef_search`, every chunk is read.
    pub fn ef_search(self, results: i64, candidates: i64, limit: i32, has_iterative_scan: bool) -> Option<i32> {
        let of_all = self.of_all.max(self.chunks);
        let passed = candidates as f64 * of_all / self.chunks;
        let passed_for_results = results as f64 * of_all / self.chunks;
        let pays = self.chunks > f64::from(limit) * (passed / SCAN_BUDGET).max(1.0);
        let needed = if has_iterative_scan { candidates as f64 } else { 2.0 * passed };
        #[allow(clippy::cast_possible_truncation)]
        (pays && needed <= MAX_EF_SEARCH).then(|| {
            (2.0 * passed_for_results).max(passed).max(of_all * EF_SEARCH_SHARE).clamp(MIN_EF_SEARCH, MAX_EF_SEARCH)
                as i32
        })
    }
}

/// Decides for each term, given its share of all chunks, whether the index is asked for it, so that not too many of the
/// chatbot's chunks match. The rarest term always is, unless it matches more than `MAX_MATCHES_RAREST` chunks and the
/// search has vectors. `alone`: the search has no vectors.
pub fn index_terms(shares: &[f64], chunks: f64, alone: bool) -> Vec<bool> {
    let mut rarest_first: Vec<usize> = (0..shares.len()).collect();
    rarest_first.sort_by(|&a, &b| shares[a].total_cmp(&shares[b]));
    let most = if alone { MAX_MATCHES_TEXT_ONLY } else { MAX_MATCHES };
    let mut matching = 0.0;
    let mut chosen = vec![false; shares.len()];
    for (rank, word) in rarest_first.into_iter().enumerate() {
        matching += shares[word] * chunks;
        chosen[word] = matching <= most || rank == 0 && (alone || matching <= MAX_MATCHES_RAREST);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_chosen_for_large_unscattered_chatbots() {
        let size = |chunks, of_all| ChatbotSize { chunks, of_all };
        let by_index =
            |chunks, of_all, candidates| size(chunks, of_all).ef_search(candidates, candidates, 5_000, true).is_some();
        assert!(!by_index(5_000.0, 5_000.0, 50) && by_index(5_001.0, 5_001.0, 50));
        // With a tenth of all chunks, 50 candidates take 500; with a hundredth 5,000, ten times as many.
        assert!(by_index(10_000.0, 100_000.0, 50) && !by_index(10_000.0, 1_000_000.0, 50));
        assert!(by_index(100_000.0, 1_000_000.0, 50));
        assert!(!by_index(100.0, 1_000_000.0, 50) && !by_index(0.0, 0.0, 50));
        // More candidates than HNSW can return.
        assert!(!by_index(1e6, 1e6, 1001));
        // Statistics may be older than the index, and say that it is empty.
        assert!(by_index(10_000.0, 0.0, 50));
        assert_eq!(size(1e5, 1e5).ef_search(50, 50, 5_000, true), Some(200));
        assert_eq!(size(3e5, 4e5).ef_search(50, 50, 5_000, true), Some(400));
        assert_eq!(size(1e7, 1e7).ef_search(50, 50, 5_000, true), Some(1000));
        assert_eq!(size(1e5, 1e5).ef_search(400, 400, 5_000, true), Some(800));
        assert_eq!(size(1e5, 1e6).ef_search(50, 50, 5_000, true), Some(1000));
        // Four candidates for each result, of which as many as there are candidates are kept in sight.
        assert_eq!(size(1e5, 1e5).ef_search(50, 200, 5_000, true), Some(200));
        assert_eq!(size(1e5, 1e5).ef_search(50, 600, 5_000, true), Some(600));
        // With and without iterative scan.
        assert_eq!(size(5e4, 1e6).ef_search(50, 50, 5_000, true), Some(1000));
        assert_eq!(size(5e4, 1e6).ef_search(50, 50, 5_000, false), None);
        assert_eq!(size(1e5, 2e5).ef_search(150, 150, 5_000, false), Some(600));
        assert_eq!(size(1e6, 1e7).ef_search(150, 150, 5_000, false), None);
    }

    #[test]
    fn index_is_asked_for_rare_terms_only() {
        assert_eq!(index_terms(&[0.9, 0.001, 0.01, 0.03], 100_000.0, true), [false, true, true, false]);
        assert_eq!(index_terms(&[0.9, 0.001, 0.01, 0.03], 100_000.0, false), [false, true, false, false]);
        assert_eq!(index_terms(&[0.9, 0.04], 100_000.0, false), [false, true]);
        assert_eq!(index_terms(&[0.9, 0.06], 100_000.0, false), [false, false]);
        assert_eq!(index_terms(&[0.9, 0.06], 100_000.0, true), [false, true]);
        assert_eq!(index_terms(&[0.9, 0.8], 100.0, false), [true, true]);
        assert_eq!(index_terms(&[], 100.0, true), [false; 0]);
    }
}
