//! Lexemes without accents, and Vietnamese ones with them.

use std::borrow::Cow;

use unicode_normalization::char::{decompose_canonical, is_combining_mark};

use super::script::{has_accents, is_plain};

/// A normalized text without what may be left out of it: accents of Latin and Greek letters, the strokes of ø and ł,
/// the forms of alef. A letter of its own stays: й is no и, and a vowel of an Indic script no accent. Applied again
/// it changes nothing.
#[must_use]
pub fn fold(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c.is_ascii() || is_plain(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_combining_mark(c) {
            let accent = out.chars().next_back().is_some_and(has_accents);
            match c {
                _ if accent => {}
                // Devanagari: a dot below that marks sounds of other languages, and two signs for one sound.
                '\u{93c}' => {}
                '\u{901}' => out.push('\u{902}'),
                _ => out.push(c),
            }
        } else if has_accents(c) {
            let mut base = None;
            decompose_canonical(c, |part| {
                base.get_or_insert(part);
            });
            push_letter(&mut out, base.unwrap_or(c));
        } else {
            push_letter(&mut out, c);
        }
    }
    if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// Whether a word has letters that of the languages with accents in their words only Vietnamese has. What an accent is to
/// others are tones there, which tell one word from another.
#[must_use]
pub fn is_vietnamese(word: &str) -> bool {
    !word.is_ascii() && word.chars().any(|c| matches!(c, 'ĩ' | 'ũ' | 'ơ' | 'ư' | '\u{1ea0}'..='\u{1ef9}'))
}

/// The forms that a lexeme is stored in: without accents, and a Vietnamese one with them, too.
pub fn forms(lexeme: &str) -> impl Iterator<Item = Cow<'_, str>> {
    std::iter::once(fold(lexeme)).chain(is_vietnamese(lexeme).then_some(Cow::Borrowed(lexeme)))
}

fn push_letter(out: &mut String, c: char) {
    out.push(match c {
        'ß' => return out.push_str("ss"),
        'æ' => return out.push_str("ae"),
        'œ' => return out.push_str("oe"),
        'þ' => return out.push_str("th"),
        'ĳ' => return out.push_str("ij"),
        // Of Catalan's l·l.
        '·' => return,
        'ø' => 'o',
        'ł' | 'ƚ' => 'l',
        'đ' | 'ð' => 'd',
        'ħ' => 'h',
        'ı' | 'ɨ' => 'i',
        'ŧ' => 't',
        'ŋ' => 'n',
        'ə' | 'ǝ' => 'e',
        'ƒ' => 'f',
        'ɓ' => 'b',
        'ɗ' => 'd',
        'ƙ' => 'k',
        'ς' => 'σ',
        'ґ' => 'г',
        'آ' | 'أ' | 'إ' | 'ٱ' => 'ا',
        'ى' | 'ی' | 'ئ' => 'ي',
        'ة' | 'ہ' | 'ھ' | 'ە' => 'ه',
        'ؤ' => 'و',
        'ک' => 'ك',
        c => c,
    });
}
