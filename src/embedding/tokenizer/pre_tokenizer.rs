//! Pre-tokenizers: where a normalised text is split before the model sees it.

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::byte_level;
use super::characters::{is_punctuation, is_word};

/// A pre-tokenizer of a `tokenizer.json`.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum PreTokenizer {
    #[serde(rename = "BertPreTokenizer")]
    Bert,
    Whitespace,
    WhitespaceSplit,
    Punctuation {
        #[serde(default)]
        behavior: Behavior,
    },
    Digits {
        individual_digits: bool,
    },
    Metaspace {
        replacement: char,
        #[serde(default)]
        prepend_scheme: PrependScheme,
        /// The name of `prepend_scheme` in older files.
        #[serde(default)]
        add_prefix_space: Option<bool>,
        #[serde(default)]
        split: Option<bool>,
        /// The replacement once more, in older files.
        #[serde(default, skip_serializing)]
        #[allow(dead_code)]
        str_rep: Option<String>,
    },
    ByteLevel {
        add_prefix_space: bool,
        /// An option about offsets, which are not computed here.
        #[allow(dead_code)]
        #[serde(skip_serializing, default)]
        trim_offsets: bool,
        #[serde(default = "yes")]
        use_regex: bool,
    },
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
}

fn yes() -> bool {
    true
}

/// The treatment of the characters that a text is split at.
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub enum Behavior {
    Removed,
    #[default]
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

/// Which pieces get the replacement in front.
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrependScheme {
    /// The one that the text begins with.
    First,
    Never,
    #[default]
    Always,
}

/// A text and the ranges of it that the model sees, none of them empty.
#[derive(Default)]
pub struct Pieces {
    pub text: String,
    pub ranges: Vec<Range<usize>>,
    /// Whether the first range begins with the first character of the whole text.
    starts_text: bool,
}

impl Pieces {
    /// One piece, which is all of the text.
    pub fn new(text: &str, starts_text: bool) -> Pieces {
        let ranges = if text.is_empty() { vec![] } else { vec![Range { start: 0, end: text.len() }] };
        Pieces { text: text.to_owned(), ranges, starts_text }
    }

    /// Splits each piece at the characters of which `is_delimiter` is true.
    fn split(&mut self, behavior: Behavior, is_delimiter: impl Fn(char) -> bool) {
        let mut ranges = Vec::with_capacity(self.ranges.len() + self.text.len() / 4);
        for range in &self.ranges {
            let mut start = range.start;
            let mut after_delimiter = false;
            let mut push = |start: usize, end: usize| {
                if start < end {
                    ranges.push(start..end);
                }
            };
            for (at, c) in self.text[range.clone()].char_indices() {
                let (at, end) = (range.start + at, range.start + at + c.len_utf8());
                let delimits = is_delimiter(c);
                match behavior {
                    Behavior::Removed | Behavior::Isolated if delimits => {
                        push(start, at);
                        if behavior == Behavior::Isolated {
                            push(at, end);
                        }
                        start = end;
                    }
                    // The second delimiter of two is a piece of its own.
                    Behavior::MergedWithPrevious if delimits => {
                        push(start, end);
                        start = end;
                    }
                    Behavior::MergedWithNext if delimits => {
                        push(start, at);
                        start = at;
                    }
                    Behavior::Contiguous if delimits != after_delimiter => {
                        push(start, at);
                        start = at;
                    }
                    _ => {}
                }
                after_delimiter = delimits;
            }
            push(start, range.end);
        }
        self.replace_ranges(ranges);
    }

    /// Splits each piece into runs of characters of one class, and drops those of class 0.
    fn split_by_class(&mut self, class: impl Fn(char) -> u8) {
        let mut ranges = Vec::with_capacity(self.ranges.len() + self.text.len() / 4);
        for range in &self.ranges {
            let mut chars =
                self.text[range.clone()].char_indices().map(|(at, c)| (range.start + at, class(c))).peekable();
            while let Some((start, class)) = chars.next() {
                while chars.next_if(|(_, next)| *next == class).is_some() {}
                if class != 0 {
                    ranges.push(start..chars.peek().map_or(range.end, |(end, _)| *end));
                }
            }
        }
        self.replace_ranges(ranges);
    }

    fn replace_ranges(&mut self, ranges: Vec<Range<usize>>) {
        let start = |ranges: &[Range<usize>]| ranges.first().map(|range| range.start);
        self.starts_text &= start(&ranges) == start(&self.ranges);
        self.ranges = ranges;
    }

    /// Writes a replacement for each space, and in front of pieces without one.
    fn replace_spaces(&mut self, replacement: char, prepend_scheme: PrependScheme) {
        let mut text = String::with_capacity(self.text.len() * 2);
        for (number, range) in self.ranges.iter_mut().enumerate() {
            let start = text.len();
            let piece = &self.text[range.clone()];
            let prepends = match prepend_scheme {
                PrependScheme::Always => true,
                PrependScheme::First => number == 0 && self.starts_text,
                PrependScheme::Never => false,
            };
            if prepends && !piece.starts_with([' ', replacement]) {
                text.push(replacement);
            }
            text.extend(piece.chars().map(|c| if c == ' ' { replacement } else { c }));
            *range = start..text.len();
        }
        self.text = text;
    }
}

impl Pieces {
    /// Splits each piece into words as GPT-2 does, and writes a character for each byte.
    fn write_bytes(&mut self, prepends_space: bool, splits: bool) {
        let mut text = String::with_capacity(self.text.len() * 2);
        let mut ranges = Vec::with_capacity(self.ranges.len() + self.text.len() / 4);
        for range in &self.ranges {
            let piece = &self.text[range.clone()];
            let piece = match prepends_space && !piece.starts_with(' ') {
                true => Cow::Owned(format!(" {piece}")),
                false => Cow::Borrowed(piece),
            };
            let mut push = |word: Range<usize>| {
                let start = text.len();
                text.extend(piece[word].bytes().map(byte_level::character));
                ranges.push(start..text.len());
            };
            if splits { byte_level::split(&piece, push) } else { push(0..piece.len()) }
        }
        self.text = text;
        self.ranges = ranges;
    }
}

impl PreTokenizer {
    /// Names what is not supported.
    pub fn check(&self) -> Result<(), String> {
        match self {
            PreTokenizer::Metaspace { prepend_scheme, add_prefix_space: Some(false), .. }
                if *prepend_scheme != PrependScheme::Never =>
            {
                Err("Metaspace whose add_prefix_space contradicts its prepend_scheme is not supported".into())
            }
            PreTokenizer::Sequence { pretokenizers } => {
                let all_but_last = pretokenizers.split_last().map_or(&[][..], |(_, others)| others);
                if all_but_last.iter().any(PreTokenizer::ends_byte_level) {
                    return Err("ByteLevel before another pre-tokenizer is not supported".into());
                }
                pretokenizers.iter().try_for_each(PreTokenizer::check)
            }
            _ => Ok(()),
        }
    }

    /// Whether the model sees only characters that stand for bytes.
    pub fn ends_byte_level(&self) -> bool {
        match self {
            PreTokenizer::ByteLevel { .. } => true,
            PreTokenizer::Sequence { pretokenizers } => pretokenizers.last().is_some_and(PreTokenizer::ends_byte_level),
            _ => false,
        }
    }

    /// Splits each piece further.
    pub fn split(&self, pieces: &mut Pieces) {
        match self {
            PreTokenizer::Bert => {
                pieces.split(Behavior::Removed, char::is_whitespace);
                pieces.split(Behavior::Isolated, is_punctuation);
            }
            PreTokenizer::Whitespace => pieces.split_by_class(|c| match c {
                _ if is_word(c) => 1,
                _ if c.is_whitespace() => 0,
                _ => 2,
            }),
            PreTokenizer::WhitespaceSplit => pieces.split(Behavior::Removed, char::is_whitespace),
            PreTokenizer::Punctuation { behavior } => pieces.split(*behavior, is_punctuation),
            PreTokenizer::Digits { individual_digits } => {
                pieces.split(
                    if *individual_digits { Behavior::Isolated } else { Behavior::Contiguous },
                    char::is_numeric,
                );
            }
            PreTokenizer::Metaspace { replacement, prepend_scheme, split, .. } => {
                pieces.replace_spaces(*replacement, *prepend_scheme);
                if split.unwrap_or(true) {
                    pieces.split(Behavior::MergedWithNext, |c| c == *replacement);
                }
            }
            PreTokenizer::ByteLevel { add_prefix_space, use_regex, .. } => {
                pieces.write_bytes(*add_prefix_space, *use_regex);
            }
            PreTokenizer::Sequence { pretokenizers } => pretokenizers.iter().for_each(|p| p.split(pieces)),
        }
    }
}
