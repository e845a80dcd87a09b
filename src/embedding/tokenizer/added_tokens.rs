//! Added tokens, special ones among them: a text that spells one out is split there, and the model does not see it.

use serde::Deserialize;

use super::characters::is_word;
use super::double_array::DoubleArray;

/// More bytes would make the search for them slow.
const LONGEST: usize = 1024;
/// Bytes in the frozen table: the id, the flags.
const ENTRY: usize = 8;
const LSTRIP: u32 = 1;
const RSTRIP: u32 = 2;
const SINGLE_WORD: u32 = 4;

/// An added token of a `tokenizer.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedToken {
    pub id: u32,
    pub content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    /// Whether it is looked for in the normalised text, in its own normalised form.
    pub normalized: bool,
    /// Whether a decoder leaves it out, which does not matter here.
    #[allow(dead_code)]
    special: bool,
}

impl AddedToken {
    /// Returns the text that is looked for: the content, or what the normalizer makes of it.
    pub fn pattern(&self, normalize: impl Fn(&str) -> String) -> Result<String, String> {
        let pattern = if self.normalized { normalize(&self.content) } else { self.content.clone() };
        match pattern.len() {
            0 => Err(format!(
                "the added token {:?}, of which the normalizer leaves nothing, is not supported",
                self.content
            )),
            1..=LONGEST => Ok(pattern),
            length => Err(format!("an added token of {length} bytes is not supported")),
        }
    }

    /// Appends its entry of the frozen table.
    pub fn freeze(&self, out: &mut Vec<u8>) {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.lstrip, LSTRIP) | flag(self.rstrip, RSTRIP) | flag(self.single_word, SINGLE_WORD);
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
    }
}

/// Added tokens that are looked for together.
pub struct AddedTokens<'a> {
    trie: DoubleArray<'a>,
    table: &'a [[u8; ENTRY]],
    is_first_byte: [bool; 256],
}

/// A part of a text.
#[derive(Debug, PartialEq)]
pub enum Part<'t> {
    /// The id of an added token.
    Token(u32),
    /// Text without one, and where it begins; never empty.
    Text(usize, &'t str),
}

impl<'a> AddedTokens<'a> {
    /// Reads a double array whose numbers are places in a table.
    pub fn new(trie: DoubleArray<'a>, table: &'a [u8]) -> AddedTokens<'a> {
        let mut is_first_byte = [false; 256];
        for byte in 0..=u8::MAX {
            is_first_byte[usize::from(byte)] = trie.step(trie.root(), byte).is_some();
        }
        AddedTokens { trie, table: table.as_chunks().0, is_first_byte }
    }

    /// Calls `take` with each part of a text, in order, until it answers false. Answers whether it never did.
    pub fn split<'t>(&self, text: &'t str, mut take: impl FnMut(Part<'t>) -> bool) -> bool {
        // Where the text begins that no part has yet, and where white space ends that a token was seen to reach to.
        let (mut rest, mut spaces_end) = (0, 0);
        let mut at = 0;
        while let Some((mut start, mut end, id, flags)) = self.find(text, at) {
            at = end;
            if flags & SINGLE_WORD != 0 && is_within_word(text, start, end) {
                continue;
            }
            if flags & LSTRIP != 0 {
                start = if rest < start { rest + text[rest..start].trim_end().len() } else { rest };
            }
            if flags & RSTRIP != 0 {
                if spaces_end < end || !text[end..].starts_with(char::is_whitespace) {
                    spaces_end = text.len() - text[end..].trim_start().len();
                }
                end = spaces_end;
            }
            if rest < start && !take(Part::Text(rest, &text[rest..start])) || !take(Part::Token(id)) {
                return false;
            }
            rest = end;
        }
        rest >= text.len() || take(Part::Text(rest, &text[rest..]))
    }

    /// The first token from a place on, and the longest of those that begin there: start, end, id, flags.
    fn find(&self, text: &str, from: usize) -> Option<(usize, usize, u32, u32)> {
        let bytes = text.as_bytes();
        let mut start = from;
        loop {
            start += bytes.get(start..)?.iter().position(|&byte| self.is_first_byte[usize::from(byte)])?;
            let mut node = self.trie.root();
            let mut longest = None;
            for (at, &byte) in bytes.iter().enumerate().skip(start).take(LONGEST) {
                let Some(next) = self.trie.step(node, byte) else { break };
                node = next;
                // A damaged table could end a token within a character.
                let entry = node.number().and_then(|number| self.table.get(number as usize));
                if let Some(entry) = entry.filter(|_| text.is_char_boundary(start) && text.is_char_boundary(at + 1)) {
                    let number = u64::from_le_bytes(*entry);
                    #[allow(clippy::cast_possible_truncation)]
                    let (id, flags) = (number as u32, (number >> 32) as u32);
                    longest = Some((start, at + 1, id, flags));
                }
            }
            if longest.is_some() {
                return longest;
            }
            start += 1;
        }
    }
}

/// Whether a letter, a digit or a mark stands right before or right after a range.
fn is_within_word(text: &str, start: usize, end: usize) -> bool {
    text[..start].chars().next_back().is_some_and(is_word) || text[end..].chars().next().is_some_and(is_word)
}
