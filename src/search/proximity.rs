//! Term proximity: neighbouring words of a query that stand together in a chunk, too. *sender of a message* is in many chunks
//! as three words, and in few as a phrase. An index would have to know where each word stands, so the texts of the best
//! candidates are read instead. Pairs are scored as words are (Büttcher, Clarke and Lushman 2006).

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::bm25::Bm25;
use super::term::{Word, WordSet};
use crate::text::analyzer::{Casing, Kind, analyze};

/// The number of best candidates whose texts are read at most: see bench/README.md.
pub const MAX_TEXTS_READ: usize = 20;
/// Words stand together where the second follows the first within so many words, or as many as in the query.
const WINDOW: usize = 2;
/// What a pair counts for beside a word.
const WEIGHT: f64 = 0.3;

/// Two neighbouring words of a query, each with both of its forms.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pair {
    first: WordSet,
    second: WordSet,
    /// How many words after the first the second may be.
    distance: usize,
    /// [`WEIGHT`] times the idf of the word that is more common.
    weight: f64,
}

/// A word of a query with both of its forms.
#[derive(Debug, Clone, Copy)]
struct QueryWord {
    position: usize,
    forms: WordSet,
    idf: f64,
}

impl QueryWord {
    /// Returns the words whose positions are known, in the order of the query.
    fn all(words: &[Word], bm25: &Bm25) -> Vec<Self> {
        let mut at = 0;
        let word = |forms: &[Word]| {
            let numbers = at..at + forms.len();
            at = numbers.end;
            let idf = bm25.idf().get(numbers.clone()).unwrap_or_default().iter().sum();
            Some(Self { position: forms.first()?.position?, forms: numbers.collect(), idf })
        };
        let mut all: Vec<Self> =
            words.chunk_by(|word, next| word.form.is_followed_by(next.form)).filter_map(word).collect();
        all.sort_by_key(|word| word.position);
        all
    }
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
    words_by_token: HashMap<String, WordSet, RandomState>,
}

impl<'a> PairFinder<'a> {
    /// Finds the pairs of these words in texts that are read with this casing.
    pub fn new(words: &[Word], bm25: &Bm25, lexemes: &'a QueryLexemes<'a>, casing: Casing) -> Self {
        let words = QueryWord::all(words, bm25);
        // The words of a code share positions: each of one position is paired with each of the next.
        let places: Vec<&[QueryWord]> = words.chunk_by(|word, next| word.position == next.position).collect();
        let pair = |one: &QueryWord, next: &QueryWord| Pair {
            first: one.forms,
            second: next.forms,
            distance: WINDOW.max(next.position - one.position),
            weight: WEIGHT * one.idf.min(next.idf),
        };
        let pairs = places
            .windows(2)
            .flat_map(|places| places[0].iter().flat_map(move |one| places[1].iter().map(move |next| pair(one, next))));
        Self { lexemes, pairs: pairs.collect(), casing, words_by_token: HashMap::default() }
    }

    /// Returns whether a text with these words may have a pair, and so whether it is worth reading.
    pub fn may_have_pairs(&self, words: WordSet) -> bool {
        self.pairs.iter().any(|pair| words.overlaps(pair.first) && words.overlaps(pair.second))
    }

    /// Returns how often each pair stands together in a text. `words_of` says which words of the query one of the text is, and
    /// is asked once for each.
    pub fn count(&mut self, text: &str, mut words_of: impl FnMut(&str) -> WordSet) -> Vec<u32> {
        let tokens = analyze(text, self.casing);
        let mut found: Vec<(usize, WordSet)> = Vec::new();
        for token in tokens.iter() {
            let words = match token.kind {
                Kind::Word => self.words_by_token.get(token.text).copied().unwrap_or_else(|| {
                    let words = words_of(token.text);
                    self.words_by_token.insert(token.text.to_owned(), words);
                    words
                }),
                Kind::Verbatim | Kind::Pair | Kind::Last | Kind::Single => self.lexemes.words_of(&token.lexeme()),
            };
            if !words.is_empty() {
                found.push((token.position, words));
            }
        }
        // A code as one word comes after its parts, and has the position of the first.
        found.sort_by_key(|(position, _)| *position);
        let count = |pair: &Pair| {
            let mut count = 0;
            let mut first = None;
            for place in found.chunk_by(|one, next| one.0 == next.0) {
                let (position, words) = (place[0].0, place.iter().map(|(_, words)| *words).collect::<WordSet>());
                let is_near = first.is_some_and(|first| position - first <= pair.distance);
                count += u32::from(is_near && words.overlaps(pair.second));
                if words.overlaps(pair.first) {
                    first = Some(position);
                }
            }
            count
        };
        self.pairs.iter().map(count).collect()
    }

    /// Returns the score of the pairs in a chunk of `length` terms.
    pub fn score(&self, bm25: &Bm25, counts: &[u32], length: u32) -> f64 {
        self.pairs.iter().zip(counts).map(|(pair, count)| bm25.score_of(pair.weight, *count, length)).sum()
    }

    /// Returns that of a chunk of mean length that has each pair once.
    pub fn of_all_pairs(&self) -> f64 {
        self.pairs.iter().map(|pair| pair.weight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::bm25::TermCounts;
    use super::super::term::{Form, Term};
    use super::super::words::{Alternatives, alternatives, by_form, own_form, positions};
    use super::*;
    use crate::text::analyzer::forms;

    fn words_of(query: &str) -> Vec<Word> {
        by_form(alternatives(&[own_form(query)]), &positions(query))
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
        // new, york, to, jersey
        assert_eq!(count("New York to New Jersey", "to New Jersey"), [0, 0, 1]);
    }

    #[test]
    fn words_stand_together_as_far_apart_as_in_the_query() {
        // "of the" is in the query, as stop words that are no words of it.
        let words = alternatives(&[own_form("end contract")]);
        let moved = words.into_iter().enumerate().map(|(at, word)| Alternatives { token: Some(3 * at), ..word });
        let words = by_form(moved.collect(), &[0, 1, 2, 3]);
        let lexemes = QueryLexemes::new(&words);
        let mut finder = PairFinder::new(&words, &Bm25::default(), &lexemes, Casing::Root);
        let mut count = |text: &str| finder.count(text, |word| lexemes.words_of(word));
        assert_eq!(count("the end of the contract"), [1]);
        assert_eq!(count("end contract"), [1]);
        assert_eq!(count("the end of any such contract"), [0]);
    }

    #[test]
    fn words_without_a_position_are_in_no_pair() {
        let words: Vec<Word> = ["delivery", "address"].map(|word| Word::from(vec![Term::lexeme(word)])).into();
        let lexemes = QueryLexemes::new(&words);
        assert!(PairFinder::new(&words, &Bm25::default(), &lexemes, Casing::Root).pairs.is_empty());
    }

    #[test]
    fn pairs_of_characters_and_parts_of_codes_are_words_too() {
        // 東京 京都 都庁 are three words of the query, and two pairs of neighbours.
        assert_eq!(count("東京都庁", "東京都庁の所在地"), [1, 1]);
        assert_eq!(count("東京都庁", "東京都"), [1, 0]);
        // A single character stands for all pairs that begin with it.
        assert_eq!(count("delivery 水", "delivery 水道"), [1]);
        // error and e, error and e4711, e and 4711, e4711 and 4711: e4711 stands where its first part does.
        assert_eq!(count("error E-4711", "Error E-4711 means that"), [1, 1, 1, 1]);
        assert_eq!(count("error E-4711", "an error: E 4711"), [1, 0, 1, 0]);
        assert_eq!(count("report 2024-05-17", "of 2024-05-17"), count("report 2024-05-17", "2024-05-17"));
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
        let word = |n| Word { terms: vec![Term::lexeme(format!("w{n}"))], form: Form::Only, position: Some(n) };
        let many: Vec<Word> = (0..200).map(word).collect();
        let lexemes = QueryLexemes::new(&many);
        let text: String = (0..200).map(|n| format!("w{n} ")).collect();
        let mut finder = PairFinder::new(&many, &Bm25::default(), &lexemes, Casing::Root);
        // Words beyond the 128th are in no set.
        let counts = finder.count(&text, |word| lexemes.words_of(word));
        assert!(counts[..127].iter().all(|count| *count == 1) && counts[127..].iter().all(|count| *count == 0));
        let lexemes = QueryLexemes::new(&[]);
        let mut none = PairFinder::new(&[], &Bm25::default(), &lexemes, Casing::Root);
        assert!(none.count(&"a".repeat(100_000), |_| WordSet::default()).is_empty());
        let forms = [Form::WithTones, Form::WithoutTones].map(|form| Word {
            terms: vec![Term::lexeme("a")],
            form,
            position: Some(0),
        });
        assert!(PairFinder::new(&forms, &Bm25::default(), &lexemes, Casing::Root).pairs.is_empty());
    }
}
