//! The full-text half of a search: BM25 over word counts.

/// Of a chunk: how often each word of the query is in it, and how many words it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// In the order of the query's words.
    pub of_words: Vec<u32>,
    /// The number of terms in the chunk.
    pub length: u32,
}

/// How fast a word's repetition stops counting, and how much a long chunk is discounted: Robertson's usual values.
const K1: f64 = 1.2;
const B: f64 = 0.75;

/// BM25 (Robertson and Zaragoza 2009, with Lucene's idf, which is never negative) of chunks that match, of `all` that there
/// are. A word that was not looked up is in this share of all.
pub fn bm25(matching: &[Counts], shares: &[Option<f64>], all: f64) -> Scores {
    let Some(first) = matching.first() else { return Scores::default() };
    let all = all.max(matching.len() as f64);
    let idf: Vec<f64> = (0..first.of_words.len())
        .map(|word| {
            let with = match shares.get(word).copied().flatten() {
                Some(share) => share * all,
                None => matching.iter().filter(|counts| counts.of_words[word] > 0).count() as f64,
            };
            (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
        })
        .collect();
    let mean = matching.iter().map(|counts| f64::from(counts.length)).sum::<f64>() / matching.len() as f64;
    let score = |counts: &Counts| {
        let length = 1.0 - B + B * f64::from(counts.length) / mean.max(1.0);
        let of = |(&count, idf): (&u32, &f64)| {
            let count = f64::from(count);
            idf * count * (K1 + 1.0) / (count + K1 * length)
        };
        counts.of_words.iter().zip(&idf).map(of).sum()
    };
    Scores { of_chunks: matching.iter().map(score).collect(), of_all_words: idf.iter().sum() }
}

/// BM25 scores of chunks.
#[derive(Debug, Default, PartialEq)]
pub struct Scores {
    /// In the order of the chunks.
    pub of_chunks: Vec<f64>,
    /// That of a chunk of mean length that has every word of the query once.
    pub of_all_words: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts_of(of_words: &[u32], length: u32) -> Counts {
        Counts { of_words: of_words.to_vec(), length }
    }

    #[test]
    fn a_rare_word_counts_more_than_a_frequent_one() {
        // "the" in all, "voucher" in one.
        let scores =
            bm25(&[counts_of(&[3, 0], 100), counts_of(&[1, 1], 100), counts_of(&[5, 0], 100)], &[], 100.0).of_chunks;
        assert!(scores[1] > scores[0] && scores[1] > scores[2] && scores[2] > scores[0]);
        // By hand: idf = ln(1 + (100 - 1 + 0.5) / 1.5), of a chunk of mean length and one occurrence.
        let idf = (1.0f64 + 99.5 / 1.5).ln();
        assert!((bm25(&[counts_of(&[1], 7)], &[], 100.0).of_chunks[0] - idf).abs() < 1e-12);
        assert_eq!(bm25(&[], &[], 100.0), Scores::default());
        let (short, long) = (counts_of(&[1], 50), counts_of(&[1], 150));
        let scores = bm25(&[short, long], &[], 10.0).of_chunks;
        assert!(scores[0] > scores[1]);
        // As if it had been looked up, and found in 40 of 100.
        let idf = (1.0f64 + 60.5 / 40.5).ln();
        assert!((bm25(&[counts_of(&[1], 7)], &[Some(0.4)], 100.0).of_chunks[0] - idf).abs() < 1e-12);
    }
}
