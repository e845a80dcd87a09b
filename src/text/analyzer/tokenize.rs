//! Normalized text to tokens: words as UAX #29 has them, but for codes, addresses and numbers, which are found by their
//! parts and as a whole, and for scripts without spaces, which are read in overlapping pairs of characters.

use std::borrow::Cow;
use std::ops::Range;

use super::fold::fold;
use super::normalize::NUMBER_SPACE;
use super::script::{Class, Unspaced};

/// A longer word is cut into pieces of this many characters.
pub const MAX_TOKEN_CHARS: usize = 255;
/// The characters of a pair, with their marks.
const MAX_PAIR_CHARS: usize = 16;
/// Parts of a code that are also found written as one word; a longer row of parts is a path or an accident.
const MAX_JOINED_PARTS: usize = 6;
/// Characters of a code as one word.
const MAX_JOINED_BYTES: usize = 100;

/// How a token is looked up and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A word, a number, or a code as one word: dictionaries say its lexemes.
    Word,
    /// A name such as c++, which no dictionary is asked for.
    Verbatim,
    /// Two characters of a script without spaces, stored as they are.
    Pair,
    /// The last character of a run without spaces. Every character begins a stored token then, and so a query for one finds
    /// it by its beginning; longer queries do not ask for it.
    Last,
    /// A run without spaces of a single character. A query asks for all tokens that begin with it.
    Single,
}

/// A token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// The token's text, normalized, with its accents.
    pub text: &'a str,
    /// Where that begins in [`Tokens::into_text`].
    pub start: usize,
    /// Which word of the text it is, from 0. The tokens of a code share the places of its parts.
    pub position: usize,
    /// How it is looked up.
    pub kind: Kind,
}

impl<'a> Token<'a> {
    /// How the token is stored where no dictionary is asked for it.
    pub fn lexeme(&self) -> Cow<'a, str> {
        match self.kind {
            Kind::Word | Kind::Verbatim => fold(self.text),
            Kind::Pair | Kind::Last | Kind::Single => Cow::Borrowed(self.text),
        }
    }
}

/// The tokens of a text.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    /// The normalized text, and after it what is not written in it.
    text: String,
    tokens: Vec<(Range<usize>, usize, Kind)>,
}

impl Tokens {
    /// Returns the tokens in the order of the text.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Token<'_>> + Clone {
        let token = |(range, position, kind): &(Range<usize>, usize, Kind)| {
            let text = &self.text[range.clone()];
            Token { text, start: range.start, position: *position, kind: *kind }
        };
        self.tokens.iter().map(token)
    }

    /// Returns the texts of all tokens.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

/// The tokens of a normalized text.
pub fn tokenize(text: String) -> Tokens {
    let mut scan = Scan { tokens: Vec::with_capacity(text.len() / 3), joined: String::new(), position: 0, text: &text };
    scan.scan_text();
    let Scan { mut tokens, joined, .. } = scan;
    let written = text.len();
    // What was put together is counted from the end of the text.
    for (range, _, _) in &mut tokens {
        if range.start >= JOINED {
            *range = range.start - JOINED + written..range.end - JOINED + written;
        }
    }
    let mut text = text;
    text.push_str(&joined);
    Tokens { text, tokens }
}

/// Where places in what was put together begin, until they are moved behind the text.
const JOINED: usize = usize::MAX / 2;

struct Scan<'a> {
    text: &'a str,
    tokens: Vec<(Range<usize>, usize, Kind)>,
    joined: String,
    position: usize,
}

/// The parts of a code that have been read, with what stands between them.
#[derive(Default)]
struct Code {
    parts: Vec<Range<usize>>,
    joiners: Vec<char>,
    /// The position of the first part.
    position: usize,
}

impl Scan<'_> {
    fn scan_text(&mut self) {
        let mut code = Code::default();
        let mut at = 0;
        while let Some(c) = self.text[at..].chars().next() {
            match Class::of(c) {
                Class::Letter | Class::Digit => {
                    let end = self.end_of(at, |class| matches!(class, Class::Letter | Class::Digit));
                    if code.parts.is_empty() {
                        code.position = self.position;
                    }
                    self.word(at..end);
                    code.parts.push(at..end);
                    at = end;
                    // A joiner that the next part follows goes on with the code.
                    match self.joiner(end) {
                        Some((joiner, next)) => {
                            code.joiners.push(joiner);
                            at = next;
                        }
                        None => self.finish(&mut code),
                    }
                }
                Class::Unspaced(script) => {
                    self.finish(&mut code);
                    at = self.pairs(at, script);
                }
                _ => at += c.len_utf8(),
            }
        }
    }

    /// The end of a run of characters of some classes, with their marks.
    fn end_of(&self, start: usize, of: impl Fn(Class) -> bool) -> usize {
        let mut dot = None;
        for (at, c) in self.text[start..].char_indices() {
            match Class::of(c) {
                Class::Mark => {}
                // Within a word only.
                Class::MiddleDot if at > 0 && dot.is_none() => dot = Some(start + at),
                class if of(class) => dot = None,
                _ => return dot.unwrap_or(start + at),
            }
        }
        dot.unwrap_or(self.text.len())
    }

    /// The joiner at the end of a word, and where the word after it begins.
    fn joiner(&self, end: usize) -> Option<(char, usize)> {
        let mut chars = self.text[end..].chars();
        let c = chars.next()?;
        let next = chars.next()?;
        let digits = self.text[..end].ends_with(|c: char| c.is_ascii_digit()) && next.is_ascii_digit();
        let joins = match c {
            // Elsewhere a comma ends a clause, and an apostrophe stands between words of their own.
            ',' | '\'' | NUMBER_SPACE => digits,
            _ => Class::of(c) == Class::Joiner,
        };
        (joins && matches!(Class::of(next), Class::Letter | Class::Digit)).then(|| (c, end + c.len_utf8()))
    }

    /// Ends a code: all of it as one word, and a number without what groups its digits.
    fn finish(&mut self, code: &mut Code) {
        let Code { parts, joiners, position } = std::mem::take(code);
        if parts.len() < 2 || parts.len() > MAX_JOINED_PARTS {
            return;
        }
        let bytes: usize = parts.iter().map(ExactSizeIterator::len).sum();
        if bytes <= MAX_JOINED_BYTES {
            self.join(&parts, position);
        }
        // 1,234.50 is found as 1234, too.
        let is_group = |part: &Range<usize>| part.len() == 3 && self.is_number(part);
        let grouped =
            joiners.iter().zip(&parts[1..]).take_while(|(j, part)| **j == joiners[0] && is_group(part)).count();
        if matches!(joiners[0], ',' | '.' | '\'' | '_' | NUMBER_SPACE)
            && self.is_number(&parts[0])
            && (1..=3).contains(&parts[0].len())
            && (1..parts.len() - 1).contains(&grouped)
        {
            self.join(&parts[..=grouped], position);
        }
    }

    fn is_number(&self, part: &Range<usize>) -> bool {
        self.text[part.clone()].bytes().all(|c| c.is_ascii_digit())
    }

    fn join(&mut self, parts: &[Range<usize>], position: usize) {
        let start = self.joined.len();
        for part in parts {
            self.joined.push_str(&self.text[part.clone()]);
        }
        self.tokens.push((JOINED + start..JOINED + self.joined.len(), position, Kind::Word));
    }

    /// A word, and its letters and digits by themselves: 30kg is found as 30 kg.
    fn word(&mut self, range: Range<usize>) {
        let word = &self.text[range.clone()];
        let mut start = 0;
        if word.len() > MAX_TOKEN_CHARS {
            for (count, (at, _)) in word.char_indices().enumerate() {
                if count > 0 && count % MAX_TOKEN_CHARS == 0 {
                    self.push(range.start + start..range.start + at, Kind::Word);
                    start = at;
                }
            }
        }
        self.push(range.start + start..range.end, Kind::Word);
        let position = self.position - 1;
        if start == 0 && word.bytes().any(|c| c.is_ascii_digit()) && !word.bytes().all(|c| c.is_ascii_digit()) {
            self.letters_and_digits(&range, position);
        }
        let rest = &self.text[range.end..];
        let symbol = if rest.starts_with("++") { 2 } else { usize::from(rest.starts_with('#')) };
        let followed = rest[symbol..].chars().next().is_some_and(|c| Class::of(c) == Class::Letter);
        if symbol > 0 && !followed && start == 0 {
            self.tokens.push((range.start..range.end + symbol, position, Kind::Verbatim));
        }
    }

    fn letters_and_digits(&mut self, range: &Range<usize>, position: usize) {
        let word = &self.text[range.clone()];
        let mut start = 0;
        let mut before: Option<bool> = None;
        for (at, c) in word.char_indices().map(|(at, c)| (at, Some(c))).chain([(word.len(), None)]) {
            let digit = c.map(|c| c.is_ascii_digit());
            if let Some(was) = before
                && before != digit
            {
                // A single letter says nothing.
                if was || word[start..at].chars().nth(1).is_some() {
                    self.tokens.push((range.start + start..range.start + at, position, Kind::Word));
                }
                start = at;
            }
            before = digit;
        }
    }

    fn push(&mut self, range: Range<usize>, kind: Kind) {
        self.tokens.push((range, self.position, kind));
        self.position += 1;
    }

    /// The pairs of a run of a script, each character with its marks; returns the run's end.
    fn pairs(&mut self, start: usize, script: Unspaced) -> usize {
        let (mut first, mut second) = (None, start);
        let mut end = self.text.len();
        for (at, c) in self.text[start..].char_indices().skip(1) {
            match Class::of(c) {
                Class::Mark => {}
                Class::Unspaced(of) if of == script => {
                    let at = start + at;
                    if let Some(first) = first {
                        self.character(first..at, Kind::Pair);
                    }
                    (first, second) = (Some(second), at);
                }
                _ => {
                    end = start + at;
                    break;
                }
            }
        }
        match first {
            Some(first) => {
                self.character(first..end, Kind::Pair);
                self.character(second..end, Kind::Last);
            }
            None => self.character(second..end, Kind::Single),
        }
        end
    }

    /// One or two characters; marks without end are no part of them.
    fn character(&mut self, range: Range<usize>, kind: Kind) {
        let mut end = range.end;
        if range.len() > MAX_PAIR_CHARS {
            end = self.text[range.clone()].char_indices().nth(MAX_PAIR_CHARS).map_or(end, |(at, _)| range.start + at);
        }
        self.push(range.start..end, kind);
    }
}
