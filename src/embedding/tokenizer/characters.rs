//! Classes of characters as the reference takes them, from the crates that it takes them from. The tables of categories are
//! those of Unicode 8: a later mark or punctuation has no class here, as it has none there.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};
use regex_syntax::try_is_word_character;
use unicode_categories::UnicodeCategories;

/// Controls, formats and private characters: BERT drops them. White space among the controls is not one.
pub fn is_control(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        _ if is_letter_of_common_script(c) => false,
        _ => c.is_other(),
    }
}

/// A mark without a width of its own: BERT drops it with the accents.
pub fn is_nonspacing_mark(c: char) -> bool {
    c >= '\u{300}' && !is_letter_of_common_script(c) && c.is_mark_nonspacing()
}

/// Punctuation, and every ASCII symbol.
pub fn is_punctuation(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_punctuation();
    }
    !is_letter_of_common_script(c) && c.is_punctuation()
}

/// An ideograph in one of the blocks that BERT puts spaces around.
pub fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
}

/// Whether `\w` matches a character.
pub fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    is_letter_of_common_script(c) || try_is_word_character(c).unwrap_or(false)
}

/// Ranges of characters, in order.
struct Ranges(Vec<(char, char)>);

static LETTERS: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(r"\p{L}"));
static NUMBERS: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(r"\p{N}"));

impl Ranges {
    /// Returns the characters that a class of a regular expression matches.
    fn of(class: &str) -> Ranges {
        match regex_syntax::parse(class).map(|hir| hir.into_kind()) {
            Ok(HirKind::Class(Class::Unicode(class))) => {
                Ranges(class.ranges().iter().map(|range| (range.start(), range.end())).collect())
            }
            _ => Ranges(Vec::new()),
        }
    }

    fn contains(&self, c: char) -> bool {
        let after = self.0.partition_point(|(start, _)| *start <= c);
        after > 0 && self.0[after - 1].1 >= c
    }
}

/// Whether `\p{L}` matches a character.
pub fn is_letter(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    is_letter_of_common_script(c) || LETTERS.contains(c)
}

/// Whether `\p{N}` matches a character.
pub fn is_number(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    !is_letter_of_common_script(c) && NUMBERS.contains(c)
}

/// A character that never shares a grapheme cluster with another one of this kind beside it.
pub fn is_cluster_beside_its_like(c: char) -> bool {
    (c.is_ascii() && c != '\r') || is_letter_of_common_script(c)
}

/// Letters for which no table needs to be looked at: part of words, and neither control, mark nor punctuation.
fn is_letter_of_common_script(c: char) -> bool {
    matches!(c,
        '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{24f}' | '\u{391}'..='\u{3a1}' | '\u{3a3}'..='\u{3f5}'
        | '\u{400}'..='\u{481}' | '\u{48a}'..='\u{52f}' | '\u{5d0}'..='\u{5ea}' | '\u{620}'..='\u{64a}'
        | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7a3}')
}

#[cfg(test)]
mod tests {
    use unicode_segmentation::UnicodeSegmentation;

    use super::*;

    #[test]
    fn letters_of_common_scripts_are_in_no_other_class() {
        for c in ('\0'..=char::MAX).filter(|&c| is_letter_of_common_script(c)) {
            assert!(!c.is_other() && !c.is_mark_nonspacing() && !c.is_punctuation(), "{c:?}");
            assert!(LETTERS.contains(c) && matches!(try_is_word_character(c), Ok(true)), "{c:?}");
        }
        assert!(is_number('½') && !is_number('é') && !is_letter('½'));
        assert!(('\0'..'\u{300}').all(|c| !c.is_mark_nonspacing()));
    }

    #[test]
    fn characters_beside_their_like_are_clusters_of_their_own() {
        let alone: Vec<char> = ('\0'..=char::MAX).filter(|&c| is_cluster_beside_its_like(c)).collect();
        let text: String = alone.iter().chain(alone.iter().rev()).flat_map(|&c| [c, 'a', c, '한', c, c]).collect();
        assert!(text.graphemes(true).all(|cluster| cluster.chars().nth(1).is_none()));
    }
}
