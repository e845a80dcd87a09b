//! The words of a text: its tokens, and the lexemes that dictionaries have made of them. Dictionaries are asked elsewhere,
//! once for each word; what they answered is kept here, and any thread reads it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::fast::RandomState;

use crate::search::tsvector::encode;
use crate::text::analyzer::{Casing, Kind, analyze};

/// What dictionaries say of a word, and of it without accents: the lexemes, in the forms that are stored. None is a stop word.
pub type Lexemes = Arc<[Box<str>]>;

/// The words that the dictionaries of a text search configuration were asked for, with their lexemes.
#[derive(Debug, Default)]
pub struct Lexicon(RwLock<HashMap<String, Lexemes, RandomState>>);

impl Lexicon {
    /// Returns the lexemes of a word, if its dictionaries were asked.
    pub fn get(&self, word: &str) -> Option<Lexemes> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(word).cloned()
    }

    /// Keeps what the dictionaries answered.
    pub fn insert(&self, word: String, lexemes: Lexemes) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(word, lexemes);
    }
}

/// Reads the words of texts as a text search configuration does.
#[derive(Debug, Clone)]
pub struct WordReader {
    /// Which letters are the same in upper and lower case.
    pub casing: Casing,
    /// What the configuration's dictionaries have answered.
    pub lexicon: Arc<Lexicon>,
}

/// The words of a text: lexemes with their positions, and words that dictionaries have to be asked for.
#[derive(Debug, Default)]
pub struct Words {
    /// The texts of tokens, and what was looked up.
    tokens: String,
    looked_up: String,
    lexemes: Vec<(Lexeme, usize)>,
    unknown: Vec<(String, usize)>,
}

/// Where a lexeme is.
#[derive(Debug)]
enum Lexeme {
    /// It is a token's text.
    Token(Range<usize>),
    /// It was looked up.
    LookedUp(Range<usize>),
}

impl WordReader {
    /// Reads a text.
    #[must_use]
    pub fn read(&self, text: &str) -> Words {
        let tokens = analyze(text, self.casing);
        let mut words = Words { lexemes: Vec::with_capacity(tokens.iter().len()), ..Words::default() };
        let known = self.lexicon.0.read().unwrap_or_else(PoisonError::into_inner);
        for token in tokens.iter() {
            match token.kind {
                Kind::Word => match known.get(token.text) {
                    Some(lexemes) => words.add(lexemes, token.position),
                    None => words.unknown.push((token.text.to_owned(), token.position)),
                },
                Kind::Verbatim | Kind::Pair | Kind::Last | Kind::Single => match token.lexeme() {
                    Cow::Borrowed(text) => {
                        let range = token.start..token.start + text.len();
                        words.lexemes.push((Lexeme::Token(range), token.position));
                    }
                    Cow::Owned(text) => words.add(&[text], token.position),
                },
            }
        }
        drop(known);
        words.tokens = tokens.into_text();
        words
    }
}

impl Words {
    fn add<Text: AsRef<str>>(&mut self, lexemes: &[Text], position: usize) {
        for lexeme in lexemes {
            let start = self.looked_up.len();
            self.looked_up.push_str(lexeme.as_ref());
            self.lexemes.push((Lexeme::LookedUp(start..self.looked_up.len()), position));
        }
    }

    /// Asks for the lexemes of the words that were not known.
    pub fn look_up(&mut self, mut lexemes_of: impl FnMut(&str) -> Lexemes) {
        for (word, position) in std::mem::take(&mut self.unknown) {
            self.add(&lexemes_of(&word), position);
        }
    }

    /// Returns the words as a `tsvector`, without those that were not looked up.
    #[must_use]
    pub fn to_tsvector(&self) -> Vec<u8> {
        let text = |lexeme: &Lexeme| match lexeme {
            Lexeme::Token(range) => &self.tokens.as_bytes()[range.clone()],
            Lexeme::LookedUp(range) => &self.looked_up.as_bytes()[range.clone()],
        };
        encode(self.lexemes.iter().map(|(lexeme, at)| (text(lexeme), *at)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::term::{Term, Word};
    use crate::search::tsvector::counts;

    #[test]
    fn a_word_is_looked_up_once_and_known_from_then_on() {
        let reader = WordReader { casing: Casing::Root, lexicon: Arc::default() };
        let stem = |word: &str| -> Lexemes { [Box::from(word.trim_end_matches('s'))].into() };
        let mut asked = Vec::new();
        let mut words = reader.read("Refunds, refunds and C++");
        words.look_up(|word| {
            asked.push(word.to_owned());
            let lexemes = reader.lexicon.get(word).unwrap_or_else(|| stem(word));
            reader.lexicon.insert(word.to_owned(), lexemes.clone());
            lexemes
        });
        assert_eq!(asked, ["refunds", "refunds", "and", "c"]);
        let mut again = reader.read("Refunds, refunds and C++");
        again.look_up(|word| panic!("{word} is known"));
        assert_eq!(again.to_tsvector(), words.to_tsvector());
        let query = ["refund", "c++"].map(|text| Word::from(vec![Term::lexeme(text)]));
        assert_eq!(counts(&words.to_tsvector(), &query).unwrap().of_words, [2, 1]);
    }
}
