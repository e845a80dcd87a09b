//! GPT-2's way to split a text and to write it: a word keeps the space before it, and each byte becomes a character that
//! can be seen.

use std::ops::Range;

use super::characters::{is_letter, is_number};

/// The endings that GPT-2 splits off at an apostrophe, in the order in which it looks for them.
const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// The character that stands for a byte: itself where it can be seen, else one from U+0100 on.
pub fn character(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
        0..=b' ' => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x100 + 33 + u32::from(byte - 0x7f),
        0xad => 0x100 + 67,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Calls `take` with the range of each word:
/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub fn split(text: &str, mut take: impl FnMut(Range<usize>)) {
    let mut start = 0;
    while start < text.len() {
        let length = first_word(&text[start..]);
        take(start..start + length);
        start += length;
    }
}

/// The bytes of the word that a text begins with, which is not empty.
fn first_word(text: &str) -> usize {
    if let Some(contraction) = CONTRACTIONS.iter().find(|contraction| text.starts_with(*contraction)) {
        return contraction.len();
    }
    let after_space = text.strip_prefix(' ').unwrap_or(text);
    if let Some(class) = after_space.chars().next().map(class).filter(|class| *class != Class::Space) {
        let run = after_space.find(|c| self::class(c) != class).unwrap_or(after_space.len());
        return text.len() - after_space.len() + run;
    }
    let spaces = text.find(|c: char| !c.is_whitespace()).unwrap_or(text.len());
    let last = text[..spaces].chars().next_back().map_or(0, char::len_utf8);
    // The last space belongs to the word after it, unless it is the only one.
    if spaces < text.len() && spaces > last { spaces - last } else { spaces }
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

fn class(c: char) -> Class {
    if is_letter(c) {
        Class::Letter
    } else if is_number(c) {
        Class::Number
    } else if c.is_whitespace() {
        Class::Space
    } else {
        Class::Other
    }
}
