//! The full-text half of a search: BM25 over word counts.

use super::term::{Form, WordSet};

/// How often each term of the query occurs in a chunk, and how many terms the chunk has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermCounts {
    /// Occurrences, in the order of the query's terms.
    pub of_words: Vec<u32>,
    /// The number of terms in the chunk: its document length in BM25.
    pub length: u32,
}

impl TermCounts {
    /// Returns which words of the query the chunk has.
    #[must_use]
    pub fn present(&self) -> WordSet {
        self.of_words.iter().enumerate().filter(|(_, count)| **count > 0).map(|(number, _)| number).collect()
    }
}

/// BM25's parameters: how soon repetitions of a term stop counting (K1), and how much long chunks are discounted (B).
/// These are Robertson's usual values.
const K1: f64 = 1.2;
const B: f64 = 0.75;
/// What the form of a word with its tones counts for, the one without them for the rest: see bench/README.md.
const TONES: f64 = 0.8;

/// What the words of a query are worth in a chatbot (Robertson and Zaragoza 2009, with Lucene's idf, which is never
/// negative).
#[derive(Debug, Default, PartialEq)]
pub struct Bm25 {
    /// The inverse document frequency of each term.
    idf: Vec<f64>,
    /// The number of terms in a chunk, in the mean of those that match.
    mean_length: f64,
}

impl Bm25 {
    /// Weighs the terms of a query by the chunks that match it. `forms` has that of each term, and `all` is the number of
    /// chunks of the chatbot. `shares` has, for each term that the index was not asked for, its share of all chunks; for the
    /// others it is `None`, and the matching chunks are counted.
    pub fn new(matching: &[TermCounts], forms: &[Form], shares: &[Option<f64>], all: f64) -> Self {
        if matching.is_empty() {
            return Self::default();
        }
        let all = all.max(matching.len() as f64);
        let with = |word: usize| match shares.get(word).copied().flatten() {
            Some(share) => share * all,
            None => matching.iter().filter(|counts| counts.of_words[word] > 0).count() as f64,
        };
        let with: Vec<f64> = (0..forms.len()).map(with).collect();
        let idf = |with: &f64| (1.0 + (all - with + 0.5) / (with + 0.5)).ln();
        let idf = with.iter().map(idf).zip(weights(forms, &with)).map(|(idf, weight)| idf * weight).collect();
        let mean_length = matching.iter().map(|counts| f64::from(counts.length)).sum::<f64>() / matching.len() as f64;
        Self { idf, mean_length: mean_length.max(1.0) }
    }

    /// The score of a chunk.
    pub fn score(&self, counts: &TermCounts) -> f64 {
        counts.of_words.iter().zip(&self.idf).map(|(&count, &idf)| self.score_of(idf, count, counts.length)).sum()
    }

    /// What a term with this idf, which is in a chunk so many times, adds to the chunk's score.
    pub fn score_of(&self, idf: f64, count: u32, length: u32) -> f64 {
        let norm = 1.0 - B + B * f64::from(length) / self.mean_length.max(1.0);
        let count = f64::from(count);
        idf * count * (K1 + 1.0) / (count + K1 * norm)
    }

    /// The idf of each term: what a chunk of mean length that has it once gets for it.
    pub fn idf(&self) -> &[f64] {
        &self.idf
    }
}

/// What each term counts for: two forms of a word as one word, and where no chunk has one of them, the other one alone.
fn weights(forms: &[Form], with: &[f64]) -> Vec<f64> {
    let weight = |own: usize, other: usize, share: f64| match (with[own] > 0.0, with[other] > 0.0) {
        (true, false) => 1.0,
        (false, true) => 0.0,
        (true, true) | (false, false) => share,
    };
    let of = |(word, form): (usize, &Form)| match form {
        Form::Only => 1.0,
        Form::WithTones => weight(word, word + 1, TONES),
        Form::WithoutTones => weight(word, word - 1, 1.0 - TONES),
    };
    forms.iter().enumerate().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts_of(of_words: &[u32], length: u32) -> TermCounts {
        TermCounts { of_words: of_words.to_vec(), length }
    }

    fn bm25_scores(matching: &[TermCounts], forms: &[Form], shares: &[Option<f64>], all: f64) -> Vec<f64> {
        let bm25 = Bm25::new(matching, forms, shares, all);
        matching.iter().map(|counts| bm25.score(counts)).collect()
    }

    #[test]
    fn a_rare_word_counts_more_than_a_frequent_one() {
        // "the" is in all chunks, "voucher" in one.
        let scores = bm25_scores(
            &[counts_of(&[3, 0], 100), counts_of(&[1, 1], 100), counts_of(&[5, 0], 100)],
            &[Form::Only; 2],
            &[],
            100.0,
        );
        assert!(scores[1] > scores[0] && scores[1] > scores[2] && scores[2] > scores[0]);
        // Computed by hand: idf = ln(1 + (100 - 1 + 0.5) / 1.5), for one occurrence in a chunk of mean length.
        let idf = (1.0f64 + 99.5 / 1.5).ln();
        assert!((bm25_scores(&[counts_of(&[1], 7)], &[Form::Only], &[], 100.0)[0] - idf).abs() < 1e-12);
        assert_eq!(Bm25::new(&[], &[], &[], 100.0), Bm25::default());
        let (short, long) = (counts_of(&[1], 50), counts_of(&[1], 150));
        let scores = bm25_scores(&[short, long], &[Form::Only], &[], 10.0);
        assert!(scores[0] > scores[1]);
        // A term that the index was not asked for, in 40 of 100 chunks by the statistics.
        let idf = (1.0f64 + 60.5 / 40.5).ln();
        assert!((bm25_scores(&[counts_of(&[1], 7)], &[Form::Only], &[Some(0.4)], 100.0)[0] - idf).abs() < 1e-12);
    }

    #[test]
    fn two_forms_of_a_word_count_as_one_word() {
        let forms = [Form::WithTones, Form::WithoutTones];
        let scores = |matching: &[TermCounts]| bm25_scores(matching, &forms, &[], 100.0);
        // The second chunk has the word without its tones, or with other ones.
        let both = scores(&[counts_of(&[1, 1], 100), counts_of(&[0, 1], 100)]);
        assert!(both[0] > 2.0 * both[1] && both[1] > 0.0);
        // No chunk has the tones, as in texts that are written without; and none has it without, as older words.
        let word = bm25_scores(&[counts_of(&[1], 100)], &[Form::Only], &[], 100.0);
        assert_eq!(scores(&[counts_of(&[0, 1], 100)]), word);
        assert_eq!(scores(&[counts_of(&[1, 0], 100)]), word);
    }
}
