//! The words of a query, read in every language that the chatbot has: what each may be in the index.

use std::collections::BTreeSet;

use super::term::{Form, Term, Word};
use crate::text::analyzer::{Casing, Kind, Token, analyze, forms, is_vietnamese};

/// The terms of a query as it is written, in no language.
#[must_use]
pub fn own_form(query: &str) -> Vec<Vec<Term>> {
    let tokens = analyze(query, Casing::Root);
    let terms = |token: Token| match token.kind {
        Kind::Word => forms(token.text).map(Term::lexeme).collect(),
        Kind::Single => vec![Term::prefix(token.lexeme())],
        Kind::Verbatim | Kind::Pair | Kind::Last => vec![Term::lexeme(token.lexeme())],
    };
    tokens.iter().filter(|token| token.kind != Kind::Last).map(terms).collect()
}

/// The positions of the tokens of [`own_form`].
#[must_use]
pub fn positions(query: &str) -> Vec<usize> {
    let tokens = analyze(query, Casing::Root);
    tokens.iter().filter(|token| token.kind != Kind::Last).map(|token| token.position).collect()
}

/// A word of a query, before its forms are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternatives {
    /// What the word may be in the index.
    pub terms: Vec<Term>,
    /// The number of the word's first token; `None`: Postgres' parser read it.
    pub token: Option<usize>,
}

/// The words of a query, each once, from what each language makes of each token: none of a stop word. Terms of several
/// languages are alternatives of one word.
///
/// What is a stop word in the query's language is no term in another one, as *die* of a German question is not in English
/// chunks. The query's language is the one in which it has the most stop words; where several have as many, what is one in
/// all of them. A query of nothing but stop words is read in the other languages.
#[must_use]
pub fn alternatives(by_language: &[Vec<Vec<Term>>]) -> Vec<Alternatives> {
    let tokens = by_language.iter().map(Vec::len).max().unwrap_or(0);
    let is_stop = |language: &[Vec<Term>], at: usize| language.get(at).is_none_or(Vec::is_empty);
    let stops = |language: &&Vec<Vec<Term>>| (0..tokens).filter(|at| is_stop(language, *at)).count();
    let most = by_language.iter().map(|language| stops(&language)).max().unwrap_or(0);
    let spoken: Vec<&Vec<Vec<Term>>> = by_language.iter().filter(|language| stops(language) == most).collect();
    let said = |at: &usize| !spoken.iter().all(|language| is_stop(language, *at));
    let word = |at: usize| {
        let terms: BTreeSet<&Term> = by_language.iter().filter_map(|language| language.get(at)).flatten().collect();
        Alternatives { terms: terms.into_iter().cloned().collect(), token: Some(at) }
    };
    let mut words: Vec<Alternatives> = (0..tokens).filter(said).map(word).collect();
    if words.is_empty() {
        words = (0..tokens).map(word).collect();
    }
    let mut seen = BTreeSet::new();
    words.retain(|word| !word.terms.is_empty() && seen.insert(word.terms.clone()));
    words
}

/// The words of a query as they are scored: a Vietnamese one by its form with tones and by the one without. `positions` has
/// that of each token.
#[must_use]
pub fn by_form(words: Vec<Alternatives>, positions: &[usize]) -> Vec<Word> {
    let mut by_form = Vec::with_capacity(words.len());
    for Alternatives { terms, token } in words {
        let position = token.and_then(|token| positions.get(token).copied());
        let (exact, folded): (Vec<Term>, Vec<Term>) = terms.into_iter().partition(|term| is_vietnamese(&term.text));
        if exact.is_empty() || folded.is_empty() {
            by_form.push(Word { terms: [exact, folded].concat(), form: Form::Only, position });
        } else {
            by_form.push(Word { terms: exact, form: Form::WithTones, position });
            by_form.push(Word { terms: folded, form: Form::WithoutTones, position });
        }
    }
    by_form
}

#[cfg(test)]
mod tests {
    use super::super::bm25::Bm25;
    use super::super::tsvector::{counts, encode};
    use super::*;

    /// The BM25 scores of texts that no dictionary is asked for.
    fn scores(query: &str, texts: &[&str]) -> Vec<f64> {
        let words = by_form(alternatives(&[own_form(query)]), &positions(query));
        let stored = |text: &&str| {
            let tokens = analyze(text, Casing::Root);
            let lexemes: Vec<_> = tokens.iter().flat_map(|token| forms(token.text)).collect();
            encode(lexemes.iter().map(|lexeme| (lexeme.as_bytes(), 0)).collect())
        };
        let counted: Vec<_> = texts.iter().map(|text| counts(&stored(text), &words).unwrap()).collect();
        let forms: Vec<_> = words.iter().map(|word| word.form).collect();
        let bm25 = Bm25::new(&counted, &forms, &[], texts.len() as f64);
        counted.iter().map(|counts| bm25.score(counts)).collect()
    }

    #[test]
    fn a_text_with_the_tones_of_a_vietnamese_query_goes_before_one_with_others() {
        let texts = ["cước vận chuyển", "cuộc vấn chuyện", "cuoc van chuyen"];
        let toned = scores("Cước vận chuyển", &texts);
        assert!(toned[0] > 2.0 * toned[1] && toned[1] > 0.0 && toned[2] > toned[1], "{toned:?}");
        let plain = scores("cuoc van chuyen", &texts);
        assert!(plain.iter().all(|score| *score > 0.0), "{plain:?}");
    }

    #[test]
    fn words_of_other_languages_have_one_form() {
        for word in
            ["été", "São", "niño", "Łódź", "žluťoučký", "ığdır", "Straße", "đak", "œuvre", "țară", "ΟΔΟΣ", "水道"]
        {
            assert!(own_form(word).iter().all(|terms| terms.len() == 1), "{word}");
            assert!(by_form(alternatives(&[own_form(word)]), &[]).iter().all(|word| word.form == Form::Only), "{word}");
        }
    }

    fn read(words: &[&str]) -> Vec<Vec<Term>> {
        words.iter().map(|word| word.split_whitespace().map(Term::lexeme).collect()).collect()
    }

    fn terms_of(by_language: &[Vec<Vec<Term>>]) -> Vec<Vec<Term>> {
        alternatives(by_language).into_iter().map(|word| word.terms).collect()
    }

    #[test]
    fn a_word_is_any_of_its_terms_and_counts_once() {
        let (english, french) = (read(&["voucher", "cancel", "voucher"]), read(&["vouch", "cancel", "vouch"]));
        assert_eq!(terms_of(&[english.clone(), french]), read(&["vouch voucher", "cancel"]));
        assert_eq!(terms_of(&[english]), read(&["voucher", "cancel"]));
        assert_eq!(terms_of(&[]), read(&[]));
        let tokens: Vec<_> =
            alternatives(&[read(&["", "voucher", "voucher", "cancel"])]).iter().map(|w| w.token).collect();
        assert_eq!(tokens, [Some(1), Some(3)]);
    }

    #[test]
    fn a_stop_word_of_the_querys_language_is_no_term_in_another() {
        // Wie bezahle ich die Rechnung
        let (german, english) =
            (read(&["", "bezahl", "", "", "rechnung"]), read(&["wie", "bezahl", "ich", "die", "rechnung"]));
        assert_eq!(terms_of(&[english.clone(), german.clone()]), read(&["bezahl", "rechnung"]));
        // did the dog die
        let (german, english) = (read(&["did", "the", "dog", ""]), read(&["", "", "dog", "die"]));
        assert_eq!(terms_of(&[german, english]), read(&["dog", "die"]));
        // die
        assert_eq!(terms_of(&[read(&[""]), read(&["die"])]), read(&["die"]));
        assert_eq!(terms_of(&[read(&["", ""])]), read(&[]));
    }
}
