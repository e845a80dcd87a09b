//! Text in which characters that readers take for the same are the same: NFKC, in lower case, without what is invisible.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

use super::script::{is_cyrillic, is_hebrew_letter, is_plain};

/// A space that breaks no line, as it stands between the thousands of a number. NFKC makes an ordinary one of it.
pub const NUMBER_SPACE: char = '\u{1f}';

/// How letters get their small forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Casing {
    /// The rules of Unicode for all languages but those of [`Casing::Turkic`].
    #[default]
    Root,
    /// Turkish and Azerbaijani: I becomes ı, and İ becomes i.
    Turkic,
}

impl Casing {
    fn lower(self, c: char) -> impl Iterator<Item = char> {
        let special = match (self, c) {
            _ if is_plain(c) => Some(c),
            (Self::Turkic, 'I') => Some('ı'),
            // Elsewhere İ becomes an i with a dot above, which is an i.
            (_, 'İ') => Some('i'),
            _ => None,
        };
        special.into_iter().chain(special.is_none().then(|| c.to_lowercase()).into_iter().flatten())
    }
}

/// The text in its normal form. Applied again it changes nothing. Linear: longer rows of combining marks than any language
/// has are broken up, as UAX #15 has it for streams.
pub fn normalize(text: &str, casing: Casing) -> String {
    if text.is_ascii() {
        return match casing {
            Casing::Root => text.to_ascii_lowercase(),
            Casing::Turkic => text.chars().flat_map(|c| casing.lower(c)).collect(),
        };
    }
    let mut composing = Composing { out: String::with_capacity(text.len()), ..Composing::new(casing) };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let copied = rest.find(|c| !is_copied(c)).unwrap_or(rest.len());
        if copied > 0 {
            composing.copy(&rest[..copied]);
            rest = &rest[copied..];
        } else if is_plain(c) {
            composing.add(large_kana(c));
            rest = &rest[c.len_utf8()..];
        } else {
            // In lower case before it is composed, since some letters are composed in lower case only, and again after it,
            // for letters that were written as symbols.
            if !is_ignorable(c) {
                Spelling::of(c).flat_map(|c| casing.lower(c)).for_each(|c| composing.add(c));
            }
            rest = &rest[c.len_utf8()..];
        }
    }
    composing.finish()
}

/// A normal form in the making.
struct Composing {
    casing: Casing,
    out: String,
    /// A stable character and what stands behind it, which it may be composed with.
    run: String,
    /// Whether the run is no more than its stable character.
    is_normal: bool,
    /// Whether nothing was left out between a letter and its accent.
    is_composed: bool,
}

impl Composing {
    fn new(casing: Casing) -> Self {
        Self { casing, out: String::new(), run: String::new(), is_normal: true, is_composed: true }
    }

    /// Adds characters that stay as they are, but that the last one may be composed with the next.
    fn copy(&mut self, text: &str) {
        self.end_run();
        let last = text.char_indices().next_back().map_or(0, |(at, _)| at);
        self.out.push_str(&text[..last]);
        self.run.push_str(&text[last..]);
    }

    fn add(&mut self, c: char) {
        if is_stable(c) {
            self.end_run();
        } else {
            self.is_normal = false;
        }
        self.run.push(c);
    }

    fn end_run(&mut self) {
        let Self { casing, out, run, is_composed, .. } = self;
        if self.is_normal || is_nfkc_quick(run.chars()) == IsNormalized::Yes {
            run.chars().for_each(|c| *is_composed &= push(out, c));
        } else {
            let composed = run.chars().stream_safe().nfkc();
            let composed = composed.filter(|c| !is_ignorable(*c)).flat_map(|c| casing.lower(c));
            composed.for_each(|c| *is_composed &= push(out, c));
        }
        run.clear();
        self.is_normal = true;
    }

    fn finish(mut self) -> String {
        self.end_run();
        if self.is_composed {
            return self.out;
        }
        // Between a letter and its accent stood what is gone.
        self.out.chars().stream_safe().nfc().filter(|c| !is_ignorable(*c)).collect()
    }
}

/// A character in front of NFKC, which has no place for these: it makes `31/2` of 3½, and glues No to the number after №.
enum Spelling {
    One(Option<char>),
    Apart(std::array::IntoIter<char, 2>),
    Several(std::str::Chars<'static>),
}

impl Spelling {
    fn of(c: char) -> Self {
        match c {
            '\0'..='\u{9f}' => Self::One(Some(c)),
            '\u{a0}' | '\u{2009}' | '\u{202f}' => Self::One(Some(NUMBER_SPACE)),
            '¼'..='¾' | '⅐'..='⅞' | '↉' => Self::Apart([' ', c].into_iter()),
            '№' => Self::Several(" no ".chars()),
            '™' | '®' | '℠' => Self::One(Some(' ')),
            // Marks that stand beside the Kana that they voice.
            '\u{309b}' => Self::One(Some('\u{3099}')),
            '\u{309c}' => Self::One(Some('\u{309a}')),
            // Before a mark that voices them, which is composed with large ones only.
            c => Self::One(Some(large_kana(c))),
        }
    }
}

impl Iterator for Spelling {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self {
            Self::One(c) => c.take(),
            Self::Apart(chars) => chars.next(),
            Self::Several(chars) => chars.next(),
        }
    }
}

/// Whether a character in lower case is its own form in NFKC, whatever stands before it.
fn is_stable(c: char) -> bool {
    is_plain(c)
        || matches!(c, '\u{df}'..='\u{131}' | '\u{134}'..='\u{137}' | '\u{142}'..='\u{148}' | '\u{14a}'..='\u{17e}' | '\u{2018}'..='\u{201e}')
}

/// Whether a character is its own normal form, and one that nothing before it is left out or changed for.
fn is_copied(c: char) -> bool {
    match c {
        '\0'..='\x7f' => !c.is_ascii_uppercase(),
        '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' => large_kana(c) == c,
        '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => true,
        '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}' | '\u{30fc}' => true,
        _ => false,
    }
}

/// Adds a character in its normal form; false where it is left out.
fn push(out: &mut String, c: char) -> bool {
    if is_copied(c) {
        out.push(c);
        return true;
    }
    let before = out.chars().next_back();
    let c = match c {
        '\u{430}'..='\u{44f}' => c,
        '’' | '‘' | '‛' | 'ʼ' | 'ʻ' | '׳' | '´' => '\'',
        '“' | '”' | '„' | '״' => '"',
        '‐'..='–' | '−' | '־' => '-',
        '⁄' | '∕' => '/',
        // A dot above an i is there anyway.
        '\u{307}' if before == Some('i') => return false,
        // Stress in Cyrillic, and letters that have it built in; ё is е in most texts.
        '\u{300}' | '\u{301}' if before.is_some_and(is_cyrillic) => return false,
        'ѐ' | 'ё' => 'е',
        'ѝ' => 'и',
        // Hebrew points and cantillation; Arabic vowels, and the letter that only fills a line.
        '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}' | '\u{5c2}' | '\u{5c4}' | '\u{5c5}' | '\u{5c7}' => return false,
        '\u{610}'..='\u{61a}' | '\u{640}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{6d6}'..='\u{6dc}' => return false,
        '\u{6df}'..='\u{6e4}' | '\u{6e7}' | '\u{6e8}' | '\u{6ea}'..='\u{6ed}' => return false,
        _ => digit(c).unwrap_or_else(|| large_kana(c)),
    };
    // In the midst of a word of these scripts they are letters or mark an abbreviation, and many leave them out.
    if let Some(quote @ ('\'' | '"')) = before {
        let letter = out[..out.len() - 1].chars().next_back();
        if letter.is_some_and(|l| is_hebrew_letter(l) && is_hebrew_letter(c))
            || quote == '\'' && letter.is_some_and(|l| is_cyrillic(l) && is_cyrillic(c))
        {
            out.pop();
        }
    }
    out.push(c);
    true
}

/// A digit of another script as 0 to 9.
fn digit(c: char) -> Option<char> {
    const ZEROS: [u32; 24] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
        0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
    ];
    let code = u32::from(c);
    let zero = ZEROS[..ZEROS.partition_point(|zero| *zero <= code)].last()?;
    char::from_digit(code - zero, 10)
}

/// Small Kana as large ones: キャノン is written キヤノン, too.
fn large_kana(c: char) -> char {
    match c {
        'ぁ' | 'ぃ' | 'ぅ' | 'ぇ' | 'ぉ' | 'っ' | 'ゃ' | 'ゅ' | 'ょ' | 'ゎ' | 'ァ' | 'ィ' | 'ゥ' | 'ェ' | 'ォ'
        | 'ッ' | 'ャ' | 'ュ' | 'ョ' | 'ヮ' => char::from_u32(u32::from(c) + 1).unwrap_or(c),
        'ゕ' => 'か',
        'ゖ' => 'け',
        'ヵ' => 'カ',
        'ヶ' => 'ケ',
        'ｧ'..='ｯ' => ['ア', 'イ', 'ウ', 'エ', 'オ', 'ヤ', 'ユ', 'ヨ', 'ツ'][u32::from(c) as usize - 0xff67],
        _ => c,
    }
}

/// Characters that are not seen, by Unicode's property `Default_Ignorable_Code_Point`, and format characters.
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{115f}' | '\u{1160}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stable_character_is_its_own_normal_form() {
        for c in ('\0'..=char::MAX).filter(|c| is_stable(*c)) {
            let text = format!("e{c}");
            assert!(text.nfkc().eq(text.chars()), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn runs_are_composed_as_the_whole_text_is(text in "[a-zéが김가各ﾞ゙ﬁ́̈ᅡᆨΣя、（１]{0,12}") {
            let composed = text.chars().flat_map(char::to_lowercase).stream_safe().nfkc().collect::<String>();
            let runs = normalize(&composed, Casing::Root);
            prop_assert_eq!(normalize(&text, Casing::Root), runs);
        }
    }
}
