//! BERT's uncased WordPiece, as the `tokenizer.json` of the English model describes it, over a vocabulary frozen
//! at build time.
//!
//! Source: Devlin et al. 2018 and Hugging Face `tokenizers`, whose BertNormalizer, BertPreTokenizer and WordPiece this
//! equals id by id (`tests/data/local_tokens.json` holds what that library answered).

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use super::hash;

static FROZEN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/wordpiece.bin"));
include!(concat!(env!("OUT_DIR"), "/wordpiece.rs"));
const OFFSETS: usize = hash::SLOTS * 4;
const CONTINUES: &[u8] = b"##";
/// A longer word has no pieces: it is unknown as a whole.
const LONGEST_WORD: usize = 100;

/// Calls `take` with the id of each piece of `text`, in order, until it answers false. Unknown words are left out.
pub fn pieces(text: &str, mut take: impl FnMut(u16) -> bool) {
    let mut word = Word { text: String::with_capacity(64), chars: 0, ids: Vec::with_capacity(32) };
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        if first.is_ascii() {
            rest = &rest[1..];
            if !word.ascii(first, &mut take) {
                return;
            }
        } else {
            let run = rest.bytes().position(|b| b.is_ascii()).unwrap_or(rest.len());
            let clean = rest[..run].chars().filter(|&c| c != char::REPLACEMENT_CHARACTER && !is_control(c));
            rest = &rest[run..];
            // A combining mark never changes the ASCII letter before it, it is only dropped: runs are independent.
            for c in clean.nfd().filter(|c| c.general_category() != GeneralCategory::NonspacingMark) {
                for c in c.to_lowercase() {
                    if !word.other(c, &mut take) {
                        return;
                    }
                }
            }
        }
    }
    word.end(&mut take);
}

/// The word that is being read.
struct Word {
    text: String,
    chars: usize,
    ids: Vec<u16>,
}

impl Word {
    fn ascii(&mut self, byte: u8, take: &mut impl FnMut(u16) -> bool) -> bool {
        match byte {
            b'\t' | b'\n' | b'\r' | b' ' => self.end(take),
            _ if byte.is_ascii_control() => true,
            _ if byte.is_ascii_punctuation() => self.alone(char::from(byte), take),
            _ => {
                self.push(char::from(byte.to_ascii_lowercase()));
                true
            }
        }
    }

    fn other(&mut self, c: char, take: &mut impl FnMut(u16) -> bool) -> bool {
        if c.is_whitespace() {
            self.end(take)
        } else if is_chinese(c) || is_punctuation(c) {
            self.alone(c, take)
        } else {
            self.push(c);
            true
        }
    }

    fn push(&mut self, c: char) {
        self.chars += 1;
        if self.chars <= LONGEST_WORD {
            self.text.push(c);
        }
    }

    fn alone(&mut self, c: char, take: &mut impl FnMut(u16) -> bool) -> bool {
        if !self.end(take) {
            return false;
        }
        self.push(c);
        self.end(take)
    }

    fn end(&mut self, take: &mut impl FnMut(u16) -> bool) -> bool {
        self.ids.clear();
        let known = self.chars <= LONGEST_WORD && split(&self.text, &mut self.ids);
        self.text.clear();
        self.chars = 0;
        !known || self.ids.iter().all(|&id| take(id))
    }
}

/// Longest match first. False where a stretch of the word is in no piece: then the word has none at all.
fn split(word: &str, ids: &mut Vec<u16>) -> bool {
    let bytes = word.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let prefix: &[u8] = if start == 0 { b"" } else { CONTINUES };
        let longest = (hash::LONGEST_PIECE - prefix.len()).min(bytes.len() - start);
        let mut hashes = [0u32; hash::LONGEST_PIECE];
        let mut state = hash::extend(hash::START, prefix);
        for (at, hashed) in hashes[..longest].iter_mut().enumerate() {
            state = hash::extend(state, &bytes[start + at..=start + at]);
            *hashed = state;
        }
        let found = (1..=longest)
            .rev()
            .filter(|&n| word.is_char_boundary(start + n))
            .find_map(|n| Some((n, look_up(prefix, &bytes[start..start + n], hashes[n - 1])?)));
        match found {
            Some((n, id)) => {
                ids.push(id);
                start += n;
            }
            None => return false,
        }
    }
    true
}

fn look_up(prefix: &[u8], piece: &[u8], hash: u32) -> Option<u16> {
    let mut slot = hash::slot(hash);
    loop {
        let at = slot * 4;
        let id = u16::from_le_bytes([FROZEN[at], FROZEN[at + 1]]);
        if id == hash::EMPTY {
            return None;
        }
        if u16::from_le_bytes([FROZEN[at + 2], FROZEN[at + 3]]) == hash::fingerprint(hash) {
            let stored = &FROZEN[offset(usize::from(id))..offset(usize::from(id) + 1)];
            if stored.len() == prefix.len() + piece.len() && stored.ends_with(piece) && stored.starts_with(prefix) {
                return Some(id);
            }
        }
        slot = (slot + 1) % hash::SLOTS;
    }
}

/// The offset of a piece's bytes in the frozen table.
fn offset(id: usize) -> usize {
    let at = OFFSETS + id * 4;
    let pieces = OFFSETS + (WORDPIECES + 1) * 4;
    pieces + u32::from_le_bytes([FROZEN[at], FROZEN[at + 1], FROZEN[at + 2], FROZEN[at + 3]]) as usize
}

fn is_control(c: char) -> bool {
    // Unassigned ones count as letters here, as they do in the reference.
    matches!(
        c.general_category(),
        GeneralCategory::Control | GeneralCategory::Format | GeneralCategory::PrivateUse | GeneralCategory::Surrogate
    )
}

fn is_punctuation(c: char) -> bool {
    c.general_category_group() == GeneralCategoryGroup::Punctuation
}

fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
}
