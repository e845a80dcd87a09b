//! BERT's normalizer: controls go, white space is a space, ideographs stand alone, accents go, letters are small.

use serde::{Deserialize, Serialize};
use unicode_normalization_alignments::UnicodeNormalization;

use super::characters::{is_chinese, is_control, is_nonspacing_mark};

/// The options of a BERT normalizer in `tokenizer.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BertNormalizer {
    clean_text: bool,
    handle_chinese_chars: bool,
    /// If it is not said: as `lowercase`.
    strip_accents: Option<bool>,
    lowercase: bool,
}

impl BertNormalizer {
    /// Clears `keeps_start` where the first character goes.
    pub fn normalize(&self, text: &str, keeps_start: &mut bool) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 8);
        let mut run = Vec::new();
        let mut rest = text;
        let goes = |first| self.drops(first) || (self.strips_accents() && is_nonspacing_mark(first));
        *keeps_start &= !text.starts_with(goes);
        while !rest.is_empty() {
            let ascii = rest.bytes().position(|byte| !byte.is_ascii()).unwrap_or(rest.len());
            rest[..ascii].bytes().for_each(|byte| self.push_ascii(byte, &mut out));
            rest = &rest[ascii..];
            // Nothing moves across an ASCII character that is kept.
            let end = rest.bytes().position(|byte| byte.is_ascii() && !self.drops(char::from(byte)));
            let (others, after) = rest.split_at(end.unwrap_or(rest.len()));
            self.push_others(others, &mut run, &mut out);
            rest = after;
        }
        out
    }

    fn push_ascii(&self, byte: u8, out: &mut String) {
        let c = char::from(byte);
        if self.lowercase && byte.is_ascii_uppercase() {
            out.push(c.to_ascii_lowercase());
        } else if byte > b' ' && byte < 0x7f {
            out.push(c);
        } else if !self.drops(c) {
            out.push(self.clean(c));
        }
    }

    /// `run` is a buffer.
    fn push_others(&self, text: &str, run: &mut Vec<char>, out: &mut String) {
        run.clear();
        for c in text.chars().filter(|&c| !self.drops(c)).map(|c| self.clean(c)) {
            if self.handle_chinese_chars && is_chinese(c) {
                run.extend([' ', c, ' ']);
            } else {
                run.push(c);
            }
        }
        if self.strips_accents() {
            let decomposed = run.iter().copied().nfd().map(|(c, _)| c);
            decomposed.filter(|&c| !is_nonspacing_mark(c)).for_each(|c| self.push_cased(c, out));
        } else {
            run.iter().for_each(|&c| self.push_cased(c, out));
        }
    }

    fn push_cased(&self, c: char, out: &mut String) {
        if self.lowercase {
            out.extend(c.to_lowercase());
        } else {
            out.push(c);
        }
    }

    fn strips_accents(&self) -> bool {
        self.strip_accents.unwrap_or(self.lowercase)
    }

    fn drops(&self, c: char) -> bool {
        self.clean_text && (c == '\0' || c == char::REPLACEMENT_CHARACTER || is_control(c))
    }

    fn clean(&self, c: char) -> char {
        if self.clean_text && c.is_whitespace() { ' ' } else { c }
    }
}
