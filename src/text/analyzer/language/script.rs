//! The script of a text, which says its language or leaves few.

/// Characters at the beginning of a text that are looked through for its script and its language.
pub const SAMPLE_CHARS: usize = 2_000;

/// A script, as far as it says which languages a text may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    Latin,
    Cyrillic,
    Greek,
    Arabic,
    Hebrew,
    Devanagari,
    Bengali,
    Gujarati,
    Tamil,
    Thai,
    Lao,
    Myanmar,
    Khmer,
    Georgian,
    Armenian,
    Hangul,
    Kana,
    Han,
}

impl Script {
    /// All of them, in the order of their numbers.
    const ALL: [Self; 18] = [
        Self::Latin,
        Self::Cyrillic,
        Self::Greek,
        Self::Arabic,
        Self::Hebrew,
        Self::Devanagari,
        Self::Bengali,
        Self::Gujarati,
        Self::Tamil,
        Self::Thai,
        Self::Lao,
        Self::Myanmar,
        Self::Khmer,
        Self::Georgian,
        Self::Armenian,
        Self::Hangul,
        Self::Kana,
        Self::Han,
    ];

    /// The script of a letter; none of what is no letter, and of letters that no language here is written in.
    pub fn of(c: char) -> Option<Self> {
        Some(match c {
            'a'..='z' | 'A'..='Z' => Self::Latin,
            '\0'..='\u{bf}' => return None,
            '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' | '\u{300}'..='\u{36f}' => Self::Latin,
            '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => Self::Greek,
            '\u{400}'..='\u{52f}' => Self::Cyrillic,
            '\u{531}'..='\u{58f}' => Self::Armenian,
            '\u{590}'..='\u{5ff}' => Self::Hebrew,
            '\u{600}'..='\u{6ff}' | '\u{750}'..='\u{77f}' | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}' => {
                Self::Arabic
            }
            '\u{900}'..='\u{97f}' => Self::Devanagari,
            '\u{980}'..='\u{9ff}' => Self::Bengali,
            '\u{a80}'..='\u{aff}' => Self::Gujarati,
            '\u{b80}'..='\u{bff}' => Self::Tamil,
            '\u{e00}'..='\u{e7f}' => Self::Thai,
            '\u{e80}'..='\u{eff}' => Self::Lao,
            '\u{1000}'..='\u{109f}' => Self::Myanmar,
            '\u{10a0}'..='\u{10ff}' => Self::Georgian,
            '\u{1780}'..='\u{17ff}' => Self::Khmer,
            '\u{1100}'..='\u{11ff}' | '\u{ac00}'..='\u{d7af}' => Self::Hangul,
            '\u{3041}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9f}' => Self::Kana,
            '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}' => Self::Han,
            _ => return None,
        })
    }

    /// How many Latin letters a letter counts for. Texts in other scripts are full of Latin commands and names, and a
    /// character of Han is a word.
    const fn weight(self) -> usize {
        match self {
            Self::Latin => 1,
            Self::Hangul | Self::Kana | Self::Han => 4,
            _ => 2,
        }
    }

    /// The script of a text, and how many letters of it there are at its beginning.
    pub fn of_text(text: &str) -> Option<(Self, usize)> {
        let mut letters = [0; Self::ALL.len()];
        for script in text.chars().take(SAMPLE_CHARS).filter_map(Self::of) {
            letters[script as usize] += 1;
        }
        // Japanese is written with both, Chinese with Han alone.
        let (kana, han) = (letters[Self::Kana as usize], letters[Self::Han as usize]);
        let (both, other) = if kana * 20 > han { (Self::Kana, Self::Han) } else { (Self::Han, Self::Kana) };
        (letters[both as usize], letters[other as usize]) = (kana + han, 0);
        let counted = Self::ALL.into_iter().zip(letters).filter(|(_, count)| *count > 0);
        counted.max_by_key(|(script, count)| script.weight() * count)
    }

    /// Returns the language of a script that only one of the known languages is written in.
    pub const fn language(self) -> Option<&'static str> {
        Some(match self {
            Self::Latin | Self::Cyrillic | Self::Arabic | Self::Devanagari => return None,
            Self::Greek => "el",
            Self::Hebrew => "he",
            Self::Bengali => "bn",
            Self::Gujarati => "gu",
            Self::Tamil => "ta",
            Self::Thai => "th",
            Self::Lao => "lo",
            Self::Myanmar => "my",
            Self::Khmer => "km",
            Self::Georgian => "ka",
            Self::Armenian => "hy",
            Self::Hangul => "ko",
            Self::Kana => "ja",
            Self::Han => "zh",
        })
    }
}
