//! The full-text half of a search: BM25 over word counts.

use super::term::Form;

/// How often each term of the query occurs in a chunk, and how many terms the chunk has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermCounts {
    /// Occurrences, in the order of the query's terms.
    pub of_words: Vec<u32>,
    /// The number of terms in the chunk: its document length in BM25.
    pub length: u32,
}

/// BM25's parameters: how soon repetitions of a term stop counting (K1), and how much long chunks are discounted (B).
/// These are Robertson's usual values.
const K1: f64 = 1.2;
const B: f64 = 0.75;
/// What the form of a word with its tones counts for, the one without them for the rest: see bench/README.md.
const TONES: f64 = 0.8;

/// Returns the BM25 score of each matching chunk (Robertson and Zaragoza 2009, with Lucene's idf, which is never
/// negative). `forms` has that of each term, and `all` is the number of chunks of the chatbot. `shares` has, for each term
/// that the index was not asked for, its share of all chunks; for the others it is `None`, and the matching chunks are
/// counted.
pub fn bm25_scores(matching: &[TermCounts], forms: &[Form], shares: &[Option<f64>], all: f64) -> Scores {
    if matching.is_empty() {
        return Scores::default();
    }
    let all = all.max(matching.len() as f64);
    let with = |word: usize| match shares.get(word).copied().flatten() {
        Some(share) => share * all,
        None => matching.iter().filter(|counts| counts.of_words[word] > 0).count() as f64,
    };
    let with: Vec<f64> = (0..forms.len()).map(with).collect();
    let idf = |with: &f64| (1.0 + (all - with + 0.5) / (with + 0.5)).ln();
    let idf: Vec<f64> = with.iter().map(idf).zip(weights(forms, &with)).map(|(idf, weight)| idf * weight).collect();
    let mean = matching.iter().map(|counts| f64::from(counts.length)).sum::<f64>() / matching.len() as f64;
    let score = |counts: &TermCounts| {
        let length = 1.0 - B + B * f64::from(counts.length) / mean.max(1.0);
        let of = |(&count, idf): (&u32, &f64)| {
            let count = f64::from(count);
            idf * count * (K1 + 1.0) / (count + K1 * length)
        };
        counts.of_words.iter().zip(&idf).map(of).sum()
    };
    Scores { of_chunks: matching.iter().map(score).collect(), of_all_words: idf.iter().sum() }
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

/// BM25 scores of chunks.
#[derive(Debug, Default, PartialEq)]
pub struct Scores {
    /// The score of each chunk, in the order of the chunks.
    pub of_chunks: Vec<f64>,
    /// The score of a chunk of mean length that has every word of the query once.
    pub of_all_words: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts_of(of_words: &[u32], length: u32) -> TermCounts {
        TermCounts { of_words: of_words.to_vec(), length }
    }

    #[test]
    fn a_rare_word_counts_more_than_a_frequent_one() {
        // "the" is in all chunks, "voucher" in one.
        let scores = bm25_scores(
            &[counts_of(&[3, 0], 100), counts_of(&[1, 1], 100), counts_of(&[5, 0], 100)],
            &[Form::Only; 2],
            &[],
            100.0,
        )
        .of_chunks;
        assert!(scores[1] > scores[0] && scores[1] > scores[2] && scores[2] > scores[0]);
        // Computed by hand: idf = ln(1 + (100 - 1 + 0.5) / 1.5), for one occurrence in a chunk of mean length.
        let idf = (1.0f64 + 99.5 / 1.5).ln();
        assert!((bm25_scores(&[counts_of(&[1], 7)], &[Form::Only], &[], 100.0).of_chunks[0] - idf).abs() < 1e-12);
        assert_eq!(bm25_scores(&[], &[], &[], 100.0), Scores::default());
        let (short, long) = (counts_of(&[1], 50), counts_of(&[1], 150));
        let scores = bm25_scores(&[short, long], &[Form::Only], &[], 10.0).of_chunks;
        assert!(scores[0] > scores[1]);
        // A term that the index was not asked for, in 40 of 100 chunks by the statistics.
        let idf = (1.0f64 + 60.5 / 40.5).ln();
        assert!(
            (bm25_scores(&[counts_of(&[1], 7)], &[Form::Only], &[Some(0.4)], 100.0).of_chunks[0] - idf).abs() < 1e-12
        );
    }

    #[test]
    fn two_forms_of_a_word_count_as_one_word() {
        let forms = [Form::WithTones, Form::WithoutTones];
        let scores = |matching: &[TermCounts]| bm25_scores(matching, &forms, &[], 100.0);
        // The second chunk has the word without its tones, or with other ones.
        let both = scores(&[counts_of(&[1, 1], 100), counts_of(&[0, 1], 100)]).of_chunks;
        assert!(both[0] > 2.0 * both[1] && both[1] > 0.0);
        // No chunk has the tones, as in texts that are written without; and none has it without, as older words.
        let word = bm25_scores(&[counts_of(&[1], 100)], &[Form::Only], &[], 100.0);
        assert_eq!(scores(&[counts_of(&[0, 1], 100)]), word);
        assert_eq!(scores(&[counts_of(&[1, 0], 100)]), word);
    }
}
