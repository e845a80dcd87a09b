//! Whether a search reads every chunk of a chatbot or asks an index: exact where that is quick, and where an index, which
//! is that of all chatbots, would have to pass over too many chunks of others.

/// What an index has looked at when it answers at the price that the limit was measured with.
const SCAN_BUDGET: f64 = 500.0;
/// What HNSW keeps in sight at least, and the share of all chunks that it does in a larger index, for a recall of 0.98 and
/// more: see bench/README.md.
const MIN_EF_SEARCH: f64 = 200.0;
const EF_SEARCH_SHARE: f64 = 0.001;
/// pgvector's limit.
const MAX_EF_SEARCH: f64 = 1000.0;
/// Chunks with some words that are looked at in a large chatbot; words that are in more only count where others are, too, or
/// where a chunk is near. Without those more are needed to find as much: see bench/README.md.
const MAX_MATCHES: f64 = 1_000.0;
const MAX_MATCHES_TEXT_ONLY: f64 = 2_500.0;
/// As many with the rarest word are looked at, though it is in more.
const MAX_MATCHES_RAREST: f64 = 5_000.0;

/// How large a chatbot is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// The number of its chunks.
    pub chunks: f64,
    /// Those of all chatbots, which the index has.
    pub of_all: f64,
}

impl Size {
    /// How many chunks HNSW has to keep in sight (`hnsw.ef_search`) to find the nearest; none where reading all chunks is
    /// better. Reading all is, up to `limit` chunks, and up to more of them the further apart they are in the index.
    /// Twice as many as it passes over to find so many candidates: going on when too few were the chatbot's finds so many,
    /// but not the nearest. An index that does not go on has to find all at once.
    pub fn ef_search(self, candidates: i64, limit: i32, has_iterative_scan: bool) -> Option<i32> {
        let of_all = self.of_all.max(self.chunks);
        let passed = candidates as f64 * of_all / self.chunks;
        let pays = self.chunks > f64::from(limit) * (passed / SCAN_BUDGET).max(1.0);
        let needed = if has_iterative_scan { candidates as f64 } else { 2.0 * passed };
        #[allow(clippy::cast_possible_truncation)]
        (pays && needed <= MAX_EF_SEARCH)
            .then(|| (2.0 * passed).max(of_all * EF_SEARCH_SHARE).clamp(MIN_EF_SEARCH, MAX_EF_SEARCH) as i32)
    }
}

/// Of words that are in these shares of all chunks: which are looked up, so that not too many of a chatbot's chunks match.
/// The rarest is, unless it is in very many and there are near chunks; alone: there are none.
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
        let size = |chunks, of_all| Size { chunks, of_all };
        let by_index = |chunks, of_all, candidates| size(chunks, of_all).ef_search(candidates, 5_000, true).is_some();
        assert!(!by_index(5_000.0, 5_000.0, 50) && by_index(5_001.0, 5_001.0, 50));
        // A tenth of all: 50 candidates take 500. A hundredth: 5,000, ten times as many.
        assert!(by_index(10_000.0, 100_000.0, 50) && !by_index(10_000.0, 1_000_000.0, 50));
        assert!(by_index(100_000.0, 1_000_000.0, 50));
        assert!(!by_index(100.0, 1_000_000.0, 50) && !by_index(0.0, 0.0, 50));
        // More candidates than HNSW gives.
        assert!(!by_index(1e6, 1e6, 1001));
        // Statistics may be older than the index.
        assert!(by_index(10_000.0, 0.0, 50));
        assert_eq!(size(1e5, 1e5).ef_search(50, 5_000, true), Some(200));
        assert_eq!(size(3e5, 4e5).ef_search(50, 5_000, true), Some(400));
        assert_eq!(size(1e7, 1e7).ef_search(50, 5_000, true), Some(1000));
        assert_eq!(size(1e5, 1e5).ef_search(400, 5_000, true), Some(800));
        assert_eq!(size(1e5, 1e6).ef_search(50, 5_000, true), Some(1000));
        // It goes on from there, or does not.
        assert_eq!(size(5e4, 1e6).ef_search(50, 5_000, true), Some(1000));
        assert_eq!(size(5e4, 1e6).ef_search(50, 5_000, false), None);
        assert_eq!(size(1e5, 2e5).ef_search(150, 5_000, false), Some(600));
        assert_eq!(size(1e6, 1e7).ef_search(150, 5_000, false), None);
    }

    #[test]
    fn rare_words_are_looked_up_and_frequent_ones_are_not() {
        assert_eq!(index_terms(&[0.9, 0.001, 0.01, 0.03], 100_000.0, true), [false, true, true, false]);
        assert_eq!(index_terms(&[0.9, 0.001, 0.01, 0.03], 100_000.0, false), [false, true, false, false]);
        assert_eq!(index_terms(&[0.9, 0.04], 100_000.0, false), [false, true]);
        assert_eq!(index_terms(&[0.9, 0.06], 100_000.0, false), [false, false]);
        assert_eq!(index_terms(&[0.9, 0.06], 100_000.0, true), [false, true]);
        assert_eq!(index_terms(&[0.9, 0.8], 100.0, false), [true, true]);
        assert_eq!(index_terms(&[], 100.0, true), [false; 0]);
    }
}
