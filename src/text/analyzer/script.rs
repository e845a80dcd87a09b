//! Which characters make words, and how.

use unicode_normalization::char::is_combining_mark;

/// A script without spaces between its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unspaced {
    /// Han, Hiragana and Katakana, which stand in one word.
    Cjk,
    /// Hangul has spaces, but particles are written to the words that they follow.
    Hangul,
    /// Thai and Lao.
    Thai,
    /// Khmer.
    Khmer,
    /// Burmese and its relatives.
    Myanmar,
}

/// What a character of a normalized text is to a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Part of a word.
    Letter,
    /// Part of a word and of a number.
    Digit,
    /// Belongs to the character before it.
    Mark,
    /// Read in pairs.
    Unspaced(Unspaced),
    /// Stands in codes, addresses and numbers, whose parts are words, and so is all of it.
    Joiner,
    /// The middle dot of Catalan, inside a word.
    MiddleDot,
    /// Ends a word.
    Other,
}

impl Class {
    /// Returns the class of a character.
    pub fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' => Self::Letter,
            '0'..='9' => Self::Digit,
            '-' | '_' | '/' | '\\' | '.' | ':' | '@' | '#' | '\'' | ',' => Self::Joiner,
            '\0'..='\x7f' => Self::Other,
            '·' => Self::MiddleDot,
            // The rest says the same of these, and takes longer.
            '\u{4e00}'..='\u{9fff}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' => {
                Self::Unspaced(Unspaced::Cjk)
            }
            '\u{ac00}'..='\u{d7a3}' => Self::Unspaced(Unspaced::Hangul),
            '\u{430}'..='\u{45f}' | '\u{f8}'..='\u{17f}' | '\u{df}'..='\u{f6}' => Self::Letter,
            '\u{2010}'..='\u{203e}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}' => Self::Other,
            _ => match unspaced(c) {
                _ if is_combining_mark(c) => Self::Mark,
                Some(script) if c.is_alphanumeric() => Self::Unspaced(script),
                None if c.is_alphanumeric() => Self::Letter,
                _ => Self::Other,
            },
        }
    }
}

fn unspaced(c: char) -> Option<Unspaced> {
    Some(match c {
        '\u{e00}'..='\u{eff}' => Unspaced::Thai,
        '\u{1000}'..='\u{109f}' | '\u{a9e0}'..='\u{a9ff}' | '\u{aa60}'..='\u{aa7f}' => Unspaced::Myanmar,
        '\u{1780}'..='\u{17ff}' => Unspaced::Khmer,
        '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7ff}' => {
            Unspaced::Hangul
        }
        '\u{2e80}'..='\u{2fdf}' | '\u{3005}'..='\u{312f}' | '\u{31a0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' => {
            Unspaced::Cjk
        }
        '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{1b000}'..='\u{1b16f}' | '\u{20000}'..='\u{3ffff}' => {
            Unspaced::Cjk
        }
        _ => return None,
    })
}

/// Whether a character is its own normal form whatever stands before it, has no other case, and no accent that is left out.
/// True of most characters of most texts, and quickly known.
pub fn is_plain(c: char) -> bool {
    matches!(c, '\0'..='@' | '['..='\x7f' | '\u{430}'..='\u{44f}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}'
        | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{30fc}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

/// Whether a character is a letter or mark of Cyrillic.
pub fn is_cyrillic(c: char) -> bool {
    matches!(c, '\u{400}'..='\u{52f}')
}

/// Whether a character is a letter of Hebrew.
pub fn is_hebrew_letter(c: char) -> bool {
    matches!(c, '\u{5d0}'..='\u{5ea}')
}

/// Whether a character is a letter whose marks are accents: Latin or Greek.
pub fn has_accents(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{2af}' | '\u{370}'..='\u{3ff}' | '\u{1d00}'..='\u{1dbf}'
        | '\u{1e00}'..='\u{1fff}' | '\u{2c60}'..='\u{2c7f}' | '\u{a720}'..='\u{a7ff}')
}

#[cfg(test)]
mod tests {
    use unicode_normalization::UnicodeNormalization;

    use super::super::fold;
    use super::*;

    fn by_properties(c: char) -> Class {
        match unspaced(c) {
            _ if is_combining_mark(c) => Class::Mark,
            Some(script) if c.is_alphanumeric() => Class::Unspaced(script),
            None if c.is_alphanumeric() => Class::Letter,
            _ => Class::Other,
        }
    }

    #[test]
    fn every_character_has_the_class_of_its_properties() {
        for c in '\u{80}'..=char::MAX {
            assert!(c == '·' || Class::of(c) == by_properties(c), "{c:?}");
        }
    }

    #[test]
    fn a_plain_character_stands_for_itself() {
        for c in ('\0'..=char::MAX).filter(|c| is_plain(*c)) {
            let text = format!("か{c}");
            assert!(text.nfkc().eq(text.chars()) && c.to_lowercase().eq([c]) && fold(&text) == text, "{c:?}");
        }
    }
}
