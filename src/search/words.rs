//! The words of a query, read in every language that the chatbot has: what each may be in the index.

use std::collections::BTreeSet;

use super::tsvector::Term;
use crate::text::analyzer::{Casing, Kind, analyze, fold};

/// The terms of a query as it is written, in no language.
#[must_use]
pub fn own_form(query: &str) -> Vec<Vec<Term>> {
    let tokens = analyze(query, Casing::Root);
    let term = |kind, text: &str| match kind {
        Kind::Single => Term::prefix(fold(text)),
        Kind::Word | Kind::Verbatim | Kind::Last => Term::lexeme(fold(text)),
    };
    let asked = tokens.iter().filter(|token| token.kind != Kind::Last);
    asked.map(|token| vec![term(token.kind, token.text)]).collect()
}

/// The words of a query, each once, from what each language makes of each token: none of a stop word. Terms of several
/// languages are alternatives of one word.
///
/// What is a stop word in the query's language is no term in another one, as *die* of a German question is not in English
/// chunks. The query's language is the one in which it has the most stop words; where several have as many, what is one in
/// all of them. A query of nothing but stop words is read in the other languages.
#[must_use]
pub fn alternatives(by_language: &[Vec<Vec<Term>>]) -> Vec<Vec<Term>> {
    let tokens = by_language.iter().map(Vec::len).max().unwrap_or(0);
    let is_stop = |language: &[Vec<Term>], at: usize| language.get(at).is_none_or(Vec::is_empty);
    let stops = |language: &&Vec<Vec<Term>>| (0..tokens).filter(|at| is_stop(language, *at)).count();
    let most = by_language.iter().map(|language| stops(&language)).max().unwrap_or(0);
    let spoken: Vec<&Vec<Vec<Term>>> = by_language.iter().filter(|language| stops(language) == most).collect();
    let said = |at: &usize| !spoken.iter().all(|language| is_stop(language, *at));
    let word = |at: usize| {
        let terms: BTreeSet<&Term> = by_language.iter().filter_map(|language| language.get(at)).flatten().collect();
        terms.into_iter().cloned().collect::<Vec<Term>>()
    };
    let mut words: Vec<Vec<Term>> = (0..tokens).filter(said).map(word).collect();
    if words.is_empty() {
        words = (0..tokens).map(word).collect();
    }
    let mut seen = BTreeSet::new();
    words.retain(|word| !word.is_empty() && seen.insert(word.clone()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Vec<Vec<Term>> {
        words.iter().map(|word| word.split_whitespace().map(Term::lexeme).collect()).collect()
    }

    #[test]
    fn a_word_is_any_of_its_terms_and_counts_once() {
        let (english, french) = (read(&["voucher", "cancel", "voucher"]), read(&["vouch", "cancel", "vouch"]));
        assert_eq!(alternatives(&[english.clone(), french]), read(&["vouch voucher", "cancel"]));
        assert_eq!(alternatives(&[english]), read(&["voucher", "cancel"]));
        assert_eq!(alternatives(&[]), read(&[]));
    }

    #[test]
    fn a_stop_word_of_the_querys_language_is_no_term_in_another() {
        // Wie bezahle ich die Rechnung
        let (german, english) =
            (read(&["", "bezahl", "", "", "rechnung"]), read(&["wie", "bezahl", "ich", "die", "rechnung"]));
        assert_eq!(alternatives(&[english.clone(), german.clone()]), read(&["bezahl", "rechnung"]));
        // did the dog die
        let (german, english) = (read(&["did", "the", "dog", ""]), read(&["", "", "dog", "die"]));
        assert_eq!(alternatives(&[german, english]), read(&["dog", "die"]));
        // die
        assert_eq!(alternatives(&[read(&[""]), read(&["die"])]), read(&["die"]));
        assert_eq!(alternatives(&[read(&["", ""])]), read(&[]));
    }
}
