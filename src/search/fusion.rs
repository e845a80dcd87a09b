//! One score of a similarity and a text score: BM25 with what term proximity adds. Weighted scores find more than ranks that
//! are fused: a rank forgets how much better the first is. The weights follow how much each half knows of the query, so that
//! both together find, as a rule, no less than the better one alone: see bench/README.md.

/// The weight of words where both halves know all of the query, with a model that none was measured for. It is that of the
/// built-in models, measured on manuals.
pub const DEFAULT_TEXT_WEIGHT: f32 = 0.4;
/// Words count fully where the best chunk has this share of what the query's words are worth. Below it their weight falls
/// with its square: a question in another language shares no more than some little words with a chunk, by chance.
const FULL_COVERAGE: f64 = 0.6;
/// Between these shares of what the query's pairs of words are worth, the weight of words rises to [`PHRASE_WEIGHT`] times as
/// much: a chunk that has the query again and again, word for word, is about it. So a title or a name that is asked for as it
/// is written is found.
const PHRASE_COVERAGE: (f64, f64) = (1.0, 1.6);
const PHRASE_WEIGHT: f64 = 1.75;
/// Similarities count for nothing where the model knows no more than this share of the query, and fully from the second on.
const UNKNOWN: f64 = 0.25;
const KNOWN: f64 = 0.6;

/// How much of a query the best chunk has, as shares of what a chunk of mean length gets that has all of it once.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Coverage {
    /// Of its words.
    pub words: f64,
    /// Of its pairs of neighbouring words; 0 where there is none.
    pub pairs: f64,
}

/// What a similarity and a text score count for in a hybrid search; 1 in all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fusion {
    similarity: f64,
    text: f64,
}

impl Fusion {
    /// Weighs the two scores of a query. `text_weight` is what words count for with the model, and `known` the share of the
    /// query that it knows, both from 0 to 1.
    pub fn new(text_weight: f32, known: f32, coverage: Coverage) -> Self {
        let (from, to) = PHRASE_COVERAGE;
        let rise = ((coverage.pairs - from) / (to - from)).clamp(0.0, 1.0);
        let text_weight = (f64::from(text_weight) * (1.0 + (PHRASE_WEIGHT - 1.0) * rise)).min(1.0);
        let coverage = (coverage.words / FULL_COVERAGE).min(1.0);
        let similarity = (1.0 - text_weight) * ((f64::from(known) - UNKNOWN) / (KNOWN - UNKNOWN)).clamp(0.0, 1.0);
        let text = text_weight * coverage * coverage;
        match similarity + text {
            sum if sum > 0.0 => Self { similarity: similarity / sum, text: text / sum },
            // Neither knows anything of it.
            _ => Self { similarity: 1.0, text: 0.0 },
        }
    }

    /// The score of a chunk: its text score counts as a share of the `best` one.
    pub fn score(&self, similarity: f64, text: f64, best: f64) -> f64 {
        let text = if best > 0.0 { text / best } else { 0.0 };
        self.similarity * similarity + self.text * text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fusion(known: f32, words: f64) -> Fusion {
        Fusion::new(DEFAULT_TEXT_WEIGHT, known, Coverage { words, pairs: 0.0 })
    }

    #[test]
    fn weights_are_the_measured_ones_where_both_halves_know_the_query() {
        let both = fusion(1.0, 1.0);
        assert!((both.score(0.5, 10.0, 10.0) - (0.6 * 0.5 + 0.4)).abs() < 1e-6);
        assert!((both.score(0.5, 5.0, 10.0) - (0.6 * 0.5 + 0.4 * 0.5)).abs() < 1e-6);
        assert_eq!(both, fusion(0.6, 0.6001));
    }

    #[test]
    fn words_that_match_by_chance_do_not_outweigh_similarity() {
        let score =
            |best| fusion(1.0, best / 10.0).score(0.5, best, best) - fusion(1.0, best / 10.0).score(0.5, 0.0, best);
        assert!(score(1.0) < 0.02 && score(1.0) < score(3.0) && score(3.0) < score(6.0));
    }

    #[test]
    fn words_count_more_where_a_chunk_has_the_query_word_for_word() {
        let weight =
            |text_weight, pairs| Fusion::new(text_weight, 1.0, Coverage { words: 1.0, pairs }).score(0.0, 5.0, 5.0);
        assert!((weight(DEFAULT_TEXT_WEIGHT, 1.0) - 0.4).abs() < 1e-6);
        assert!((weight(DEFAULT_TEXT_WEIGHT, 1.3) - 0.55).abs() < 1e-6);
        assert!((weight(DEFAULT_TEXT_WEIGHT, 2.0) - 0.7).abs() < 1e-6);
        assert!((weight(0.05, 2.0) - 0.0875).abs() < 1e-6);
        assert_eq!(weight(0.9, 2.0), 1.0);
    }

    #[test]
    fn a_model_that_does_not_know_the_query_is_not_asked() {
        assert_eq!(fusion(0.2, 0.8).score(0.9, 8.0, 8.0), 1.0);
        assert_eq!(fusion(0.2, 0.8).score(0.9, 0.0, 8.0), 0.0);
    }

    #[test]
    fn a_half_that_has_nothing_leaves_the_other_alone() {
        assert_eq!(fusion(1.0, 0.0).score(0.7, 0.0, 0.0), 0.7);
        assert_eq!(fusion(0.0, 0.0).score(0.7, 0.0, 0.0), 0.7);
    }
}
