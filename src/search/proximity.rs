//! Term proximity: neighbouring words of a query that stand together in a chunk, too. *sender of a message* is in many chunks
//! as three words, and in few as a phrase. An index would have to know where each word stands, so the texts of the best
//! candidates are read instead. Pairs are scored as words are (Büttcher, Clarke and Lushman 2006).

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::bm25::Bm25;
use super::term::{Word, WordSet};
use crate::text::analyzer::{Casing, Kind, analyze};

/// The number of best candidates whose texts are read: see bench/README.md.
pub const CANDIDATES: usize = 20;
/// Words stand together where the second follows the first after one word at most.
const WINDOW: usize = 2;
/// What a pair counts for beside a word.
const WEIGHT: f64 = 0.3;

/// Two neighbouring words of a query, each with both of its forms.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pair {
    first: WordSet,
    second: WordSet,
    /// That of the word that is more common.
    idf: f64,
}

/// The words of a query by their lexemes.
pub struct QueryLexemes<'a> {
    whole: HashMap<&'a str, WordSet, RandomState>,
    prefixes: Vec<(&'a str, usize)>,
}

impl<'a> QueryLexemes<'a> {
    /// Keeps which words have which lexemes.
    pub fn new(words: &'a [Word]) -> Self {
        let mut lexemes = Self { whole: HashMap::default(), prefixes: Vec::new() };
        for (number, word) in words.iter().enumerate() {
            for term in &word.terms {
                if term.is_prefix {
                    lexemes.prefixes.push((&term.text, number));
                } else {
                    lexemes.whole.entry(&term.text).or_default().insert(number);
                }
            }
        }
        lexemes
    }

    /// Returns the words that a lexeme stands for.
    pub fn words_of(&self, lexeme: &str) -> WordSet {
        let whole = self.whole.get(lexeme).copied().unwrap_or_default();
        let begun = self.prefixes.iter().filter(|(prefix, _)| lexeme.starts_with(prefix)).map(|(_, number)| *number);
        whole.union(begun.collect())
    }
}

/// Finds pairs of a query's words in texts.
pub struct PairFinder<'a> {
    lexemes: &'a QueryLexemes<'a>,
    pairs: Vec<Pair>,
    casing: Casing,
    /// Which words of the query a word of a text is.
    known: HashMap<String, WordSet, RandomState>,
}

impl<'a> PairFinder<'a> {
    /// Finds the pairs of these words in texts that are read with this casing.
    pub fn new(words: &[Word], bm25: &Bm25, lexemes: &'a QueryLexemes<'a>, casing: Casing) -> Self {
        let mut at = 0;
        let both_forms = |word: &[Word]| {
            let numbers = at..at + word.len();
            at = numbers.end;
            let idf: f64 = bm25.idf().get(numbers.clone()).unwrap_or_default().iter().sum();
            (numbers.collect(), idf)
        };
        let words: Vec<(WordSet, f64)> =
            words.chunk_by(|word, next| word.form.is_followed_by(next.form)).map(both_forms).collect();
        let pair = |pair: &[(WordSet, f64)]| {
            let ((first, idf), (second, other)) = (pair[0], pair[1]);
            Pair { first, second, idf: WEIGHT * idf.min(other) }
        };
        Self { lexemes, pairs: words.windows(2).map(pair).collect(), casing, known: HashMap::default() }
    }

    /// Returns whether a text with these words may have a pair, and so whether it is worth reading.
    pub fn may_have_pairs(&self, words: WordSet) -> bool {
        self.pairs.iter().any(|pair| words.overlaps(pair.first) && words.overlaps(pair.second))
    }

    /// Returns how often each pair stands together in a text. `words_of` says which words of the query one of the text is, and
    /// is asked once for each.
    pub fn count(&mut self, text: &str, mut words_of: impl FnMut(&str) -> WordSet) -> Vec<u32> {
        let tokens = analyze(text, self.casing);
        let mut counts = vec![0; self.pairs.len()];
        let mut recent: Vec<(usize, WordSet)> = Vec::new();
        for token in tokens.iter() {
            let words = match token.kind {
                Kind::Word => self.known.get(token.text).copied().unwrap_or_else(|| {
                    let words = words_of(token.text);
                    self.known.insert(token.text.to_owned(), words);
                    words
                }),
                Kind::Verbatim | Kind::Pair | Kind::Last | Kind::Single => self.lexemes.words_of(&token.lexeme()),
            };
            if words.is_empty() {
                continue;
            }
            // The tokens of a code share places: those of its parts.
            recent.retain(|(position, _)| position + WINDOW >= token.position);
            let before: WordSet =
                recent.iter().filter(|(position, _)| *position < token.position).map(|(_, words)| *words).collect();
            for (pair, count) in self.pairs.iter().zip(&mut counts) {
                if before.overlaps(pair.first) && words.overlaps(pair.second) {
                    *count += 1;
                }
            }
            recent.push((token.position, words));
        }
        counts
    }

    /// What pairs add to the score of a chunk with so many terms.
    pub fn score(&self, bm25: &Bm25, counts: &[u32], length: u32) -> f64 {
        self.pairs.iter().zip(counts).map(|(pair, count)| bm25.score_of(pair.idf, *count, length)).sum()
    }

    /// What they add to that of a chunk of mean length that has each pair once.
    pub fn of_all_pairs(&self) -> f64 {
        self.pairs.iter().map(|pair| pair.idf).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::bm25::TermCounts;
    use super::super::term::{Form, Term};
    use super::super::words::{alternatives, by_form, own_form};
    use super::*;
    use crate::text::analyzer::forms;

    fn words_of(query: &str) -> Vec<Word> {
        by_form(alternatives(&[own_form(query)]))
    }

    /// How often a text has each pair of a query, where no dictionary is asked for words.
    fn count(query: &str, text: &str) -> Vec<u32> {
        let words = words_of(query);
        let lexemes = QueryLexemes::new(&words);
        let mut finder = PairFinder::new(&words, &Bm25::default(), &lexemes, Casing::Root);
        finder.count(text, |word| forms(word).map(|form| lexemes.words_of(&form)).collect())
    }

    #[test]
    fn neighbouring_words_are_counted_where_they_stand_together() {
        assert_eq!(count("delivery address", "The delivery address of a delivery address"), [2]);
        assert_eq!(count("delivery address", "delivery and address"), [1]);
        assert_eq!(count("delivery address", "delivery to the address"), [0]);
        assert_eq!(count("delivery address", "the address that a delivery has"), [0]);
        assert_eq!(count("delivery address", "delivery, delivery"), [0]);
        assert_eq!(count("change delivery address", "change of address"), [0, 0]);
        assert_eq!(count("change delivery address", "To change a delivery address"), [1, 1]);
        assert_eq!(count("delivery", "delivery"), [0u32; 0]);
    }

    #[test]
    fn pairs_of_characters_and_parts_of_codes_are_words_too() {
        // 東京 京都 都庁 are three words of the query, and two pairs of neighbours.
        assert_eq!(count("東京都庁", "東京都庁の所在地"), [1, 1]);
        assert_eq!(count("東京都庁", "東京都"), [1, 0]);
        // A single character stands for all pairs that begin with it.
        assert_eq!(count("delivery 水", "delivery 水道"), [1]);
        // error, e, 4711, and e4711, which stands where its first part does.
        assert_eq!(count("error E-4711", "Error E-4711 means that"), [1, 1, 0]);
        assert_eq!(count("error E-4711", "an error: E 4711"), [1, 1, 0]);
    }

    #[test]
    fn a_vietnamese_word_is_one_word_with_both_of_its_forms() {
        assert_eq!(count("hoàn tiền", "chính sách hoàn tiền"), [1]);
        assert_eq!(count("hoàn tiền", "chinh sach hoan tien"), [1]);
        assert_eq!(count("hoàn tiền", "hoàn và không có gì tiền"), [0]);
    }

    #[test]
    fn a_text_is_read_where_it_may_have_a_pair() {
        let words = words_of("change delivery address");
        let lexemes = QueryLexemes::new(&words);
        let finder = PairFinder::new(&words, &Bm25::default(), &lexemes, Casing::Root);
        let may = |numbers: &[usize]| finder.may_have_pairs(numbers.iter().copied().collect());
        assert!(may(&[0, 1]) && may(&[1, 2]) && may(&[0, 1, 2]));
        assert!(!may(&[0, 2]) && !may(&[1]) && !may(&[]));
    }

    #[test]
    fn a_pair_counts_as_its_more_common_word_does() {
        let words = words_of("change delivery address");
        let lexemes = QueryLexemes::new(&words);
        // "delivery" is in all four chunks, the others in one each.
        let chunk = |of_words: [u32; 3]| TermCounts { of_words: of_words.to_vec(), length: 10 };
        let chunks = [chunk([1, 1, 0]), chunk([0, 1, 1]), chunk([0, 2, 0]), chunk([0, 1, 0])];
        let bm25 = Bm25::new(&chunks, &[Form::Only; 3], &[], 100.0);
        let finder = PairFinder::new(&words, &bm25, &lexemes, Casing::Root);
        // Computed by hand: a chunk of mean length with the pair once, and twice.
        let once = WEIGHT * (1.0f64 + 96.5 / 4.5).ln();
        assert!((finder.score(&bm25, &[1, 0], 10) - once).abs() < 1e-12);
        assert!((finder.score(&bm25, &[0, 2], 10) - once * 4.4 / 3.2).abs() < 1e-12);
        assert!((finder.of_all_pairs() - 2.0 * once).abs() < 1e-12);
        assert_eq!(finder.score(&bm25, &[0, 0], 10), 0.0);
    }

    #[test]
    fn any_number_of_words_and_any_text_is_read() {
        let many: Vec<Word> = (0..200).map(|n| Word::from(vec![Term::lexeme(format!("w{n}"))])).collect();
        let lexemes = QueryLexemes::new(&many);
        let text: String = (0..200).map(|n| format!("w{n} ")).collect();
        let mut finder = PairFinder::new(&many, &Bm25::default(), &lexemes, Casing::Root);
        // Words beyond the 128th are in no set.
        let counts = finder.count(&text, |word| lexemes.words_of(word));
        assert!(counts[..127].iter().all(|count| *count == 1) && counts[127..].iter().all(|count| *count == 0));
        let lexemes = QueryLexemes::new(&[]);
        let mut none = PairFinder::new(&[], &Bm25::default(), &lexemes, Casing::Root);
        assert!(none.count(&"a".repeat(100_000), |_| WordSet::default()).is_empty());
        let forms = [Form::WithTones, Form::WithoutTones].map(|form| Word { terms: vec![Term::lexeme("a")], form });
        assert!(PairFinder::new(&forms, &Bm25::default(), &lexemes, Casing::Root).pairs.is_empty());
    }
}
