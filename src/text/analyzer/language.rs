//! Which language a text is in, and which of Postgres' text search configurations reads it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use whatlang::{Detector, Lang};

/// The language of a text that says too little about it, by ISO 639.
pub const UNDETERMINED: &str = "und";

/// Languages that are told apart, by their ISO 639-1 codes: those that have a text search configuration, and those of most
/// readers besides. The fewer there are, the fewer texts are taken for one that hardly anybody writes.
const LANGUAGES: [(Lang, &str); 47] = [
    (Lang::Ara, "ar"),
    (Lang::Bel, "be"),
    (Lang::Ben, "bn"),
    (Lang::Bul, "bg"),
    (Lang::Cat, "ca"),
    (Lang::Ces, "cs"),
    (Lang::Cmn, "zh"),
    (Lang::Dan, "da"),
    (Lang::Deu, "de"),
    (Lang::Ell, "el"),
    (Lang::Eng, "en"),
    (Lang::Est, "et"),
    (Lang::Fin, "fi"),
    (Lang::Fra, "fr"),
    (Lang::Guj, "gu"),
    (Lang::Heb, "he"),
    (Lang::Hin, "hi"),
    (Lang::Hrv, "hr"),
    (Lang::Hun, "hu"),
    (Lang::Hye, "hy"),
    (Lang::Ind, "id"),
    (Lang::Ita, "it"),
    (Lang::Jpn, "ja"),
    (Lang::Kat, "ka"),
    (Lang::Khm, "km"),
    (Lang::Kor, "ko"),
    (Lang::Lav, "lv"),
    (Lang::Lit, "lt"),
    (Lang::Mkd, "mk"),
    (Lang::Mya, "my"),
    (Lang::Nld, "nl"),
    (Lang::Nob, "no"),
    (Lang::Pes, "fa"),
    (Lang::Pol, "pl"),
    (Lang::Por, "pt"),
    (Lang::Ron, "ro"),
    (Lang::Rus, "ru"),
    (Lang::Slk, "sk"),
    (Lang::Slv, "sl"),
    (Lang::Spa, "es"),
    (Lang::Srp, "sr"),
    (Lang::Swe, "sv"),
    (Lang::Tam, "ta"),
    (Lang::Tha, "th"),
    (Lang::Tur, "tr"),
    (Lang::Ukr, "uk"),
    (Lang::Vie, "vi"),
];

/// Letters that a text has to have; of fewer nothing is said.
const FEWEST_LETTERS: usize = 20;
/// Letters that are looked at. More are right a little more often, and cost as much more.
const SAMPLE_LETTERS: usize = 240;
/// Characters that are looked through for them.
const SAMPLE_CHARS: usize = 2_000;

static DETECTOR: LazyLock<Detector> =
    LazyLock::new(|| Detector::with_allowlist(LANGUAGES.iter().map(|(lang, _)| *lang).collect()));

/// A language that was detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detected {
    /// Its ISO 639-1 code.
    pub lang: &'static str,
    /// Whether a text may be taken for an exception among others by this.
    pub is_certain: bool,
}

/// The language of a text, by its script and then by the letters that follow each other in it.
#[must_use]
pub fn detect(text: &str) -> Option<Detected> {
    let (script, letters) = Script::of_text(text)?;
    if let Some(lang) = script.language() {
        return (letters >= 4).then_some(Detected { lang, is_certain: true });
    }
    if letters < FEWEST_LETTERS {
        return None;
    }
    // Commands and names in another script say nothing about the language around them.
    let mut sample = String::with_capacity(2 * SAMPLE_LETTERS);
    let mut left = SAMPLE_LETTERS;
    for c in text.chars().take(SAMPLE_CHARS) {
        if Script::of(c) == Some(script) {
            sample.push(c);
            left -= 1;
            if left == 0 {
                break;
            }
        } else if !sample.ends_with(' ') {
            sample.push(' ');
        }
    }
    let (found, is_certain) = match (script, cyrillic_languages(&sample)) {
        (Script::Cyrillic, [only]) => (*only, true),
        (Script::Cyrillic, several) => {
            let info = Detector::with_allowlist(several.to_vec()).detect(&sample)?;
            (info.lang(), info.is_reliable())
        }
        _ => {
            let info = DETECTOR.detect(&sample)?;
            (info.lang(), info.is_reliable())
        }
    };
    let (_, lang) = LANGUAGES.iter().find(|(lang, _)| *lang == found)?;
    Some(Detected { lang, is_certain: is_certain && letters >= 2 * FEWEST_LETTERS })
}

/// The languages that a text in Cyrillic may be in. Most have letters of their own, which say more than those that follow
/// each other: whoever writes ы writes no Bulgarian.
fn cyrillic_languages(sample: &str) -> &'static [Lang] {
    // The first that a text has.
    const LETTERS: [(&str, &[Lang]); 6] = [
        ("ў", &[Lang::Bel]),
        ("іїєґ", &[Lang::Ukr]),
        ("ыэё", &[Lang::Rus]),
        ("ѓќѕ", &[Lang::Mkd]),
        ("ђћ", &[Lang::Srp]),
        ("јљњџ", &[Lang::Srp, Lang::Mkd]),
    ];
    let has = |letters: &str| {
        let count = sample.chars().flat_map(char::to_lowercase).filter(|c| letters.contains(*c)).count();
        // Not by a name or a word that is quoted.
        count * 250 >= sample.chars().count().max(1) && count > 0
    };
    LETTERS.iter().find(|(letters, _)| has(letters)).map_or(&[Lang::Rus, Lang::Bul], |(_, languages)| *languages)
}

/// The languages of the chunks of a text, and that of most of them: a chunk that says too little about its own has that of
/// the others.
#[must_use]
pub fn detect_chunks(chunks: &[&str]) -> (Option<&'static str>, Vec<Option<&'static str>>) {
    let detected: Vec<Option<Detected>> = chunks.iter().map(|chunk| detect(chunk)).collect();
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for (found, chunk) in detected.iter().zip(chunks) {
        if let Some(found) = found {
            // One that is certain outweighs two that are not.
            *votes.entry(found.lang).or_default() += chunk.len() * if found.is_certain { 3 } else { 1 };
        }
    }
    let most = votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(lang, _)| lang);
    let of_chunk = |found: Option<Detected>| found.filter(|found| found.is_certain).map(|found| found.lang).or(most);
    (most, detected.into_iter().map(of_chunk).collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Script {
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
    fn of(c: char) -> Option<Self> {
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
    fn of_text(text: &str) -> Option<(Self, usize)> {
        let mut letters: BTreeMap<Self, usize> = BTreeMap::new();
        for script in text.chars().take(SAMPLE_CHARS).filter_map(Self::of) {
            *letters.entry(script).or_default() += 1;
        }
        let kana = letters.remove(&Self::Kana).unwrap_or(0);
        let han = letters.remove(&Self::Han).unwrap_or(0);
        // Japanese is written with both, Chinese with Han alone.
        if kana + han > 0 {
            letters.insert(if kana * 20 > han { Self::Kana } else { Self::Han }, kana + han);
        }
        letters.into_iter().max_by_key(|(script, count)| script.weight() * count)
    }

    /// Of a script that one of our languages is written in.
    const fn language(self) -> Option<&'static str> {
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

/// The text search configuration that Postgres has for a language, by its ISO 639-1 code, with or without a country, as in
/// `fr`, `fr_FR` and `fr-CA`.
pub fn configuration(language: &str) -> Option<&'static str> {
    let code = language.split(['_', '-', '@', '.']).next().unwrap_or_default();
    Some(match code.to_ascii_lowercase().as_str() {
        "ar" => "arabic",
        "ca" => "catalan",
        "da" => "danish",
        "de" => "german",
        "el" => "greek",
        "en" => "english",
        "es" => "spanish",
        "eu" => "basque",
        "fi" => "finnish",
        "fr" => "french",
        "ga" => "irish",
        "hi" => "hindi",
        "hu" => "hungarian",
        "hy" => "armenian",
        "id" => "indonesian",
        "it" => "italian",
        "lt" => "lithuanian",
        "nb" | "nn" | "no" => "norwegian",
        "ne" => "nepali",
        "nl" => "dutch",
        "pt" => "portuguese",
        "ro" => "romanian",
        "ru" => "russian",
        "sr" => "serbian",
        "sv" => "swedish",
        "ta" => "tamil",
        "tr" => "turkish",
        "yi" => "yiddish",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lang(text: &str) -> Option<&'static str> {
        detect(text).map(|found| found.lang)
    }

    #[test]
    fn a_language_is_detected_by_its_script_and_words() {
        for (text, expected) in [
            ("Refunds are paid within ten days of the parcel's return.", "en"),
            ("Die Rückzahlung erfolgt innerhalb von zehn Tagen nach der Rücksendung des Pakets.", "de"),
            ("Le remboursement est effectué sous dix jours après le retour du colis.", "fr"),
            ("El reembolso se paga en un plazo de diez días tras la devolución del paquete.", "es"),
            ("Возврат денег производится в течение десяти дней после возврата посылки.", "ru"),
            ("Повернення коштів здійснюється протягом десяти днів після повернення посилки.", "uk"),
            ("返金は商品の返品から十日以内に行われます。", "ja"),
            ("退款将在包裹退回后十天内支付。", "zh"),
            ("환불은 반품 후 열흘 이내에 지급됩니다.", "ko"),
            ("การคืนเงินจะดำเนินการภายในสิบวัน", "th"),
            ("Η επιστροφή χρημάτων γίνεται εντός δέκα ημερών.", "el"),
            ("يتم رد الأموال خلال عشرة أيام من إرجاع الطرد.", "ar"),
            ("Команда systemctl restart postgresql.service перезапускает службу базы данных", "ru"),
            ("使用 systemctl restart postgresql.service 命令重新启动数据库", "zh"),
        ] {
            assert_eq!(lang(text), Some(expected), "{text}");
        }
        for text in ["", "E-4711", "2024/0815 12:30", "ok", "\u{1f389}"] {
            assert_eq!(lang(text), None, "{text}");
        }
    }

    #[test]
    fn a_chunk_that_says_too_little_has_the_language_of_the_others() {
        let german = "Die Rückzahlung erfolgt innerhalb von zehn Tagen nach der Rücksendung des Pakets an uns.";
        let english = "Refunds are paid within ten days of the parcel's return, if nothing of it is missing.";
        let (most, of_chunks) = detect_chunks(&[german, "E-4711", english, german]);
        assert_eq!((most, of_chunks), (Some("de"), vec![Some("de"), Some("de"), Some("en"), Some("de")]));
        assert_eq!(detect_chunks(&["E-4711", ""]), (None, vec![None, None]));
        assert_eq!(detect_chunks(&[]), (None, vec![]));
    }

    #[test]
    fn a_language_has_its_configuration() {
        for (language, name) in [
            ("fr_FR", Some("french")),
            ("EN", Some("english")),
            ("pt-BR", Some("portuguese")),
            ("sr@latin", Some("serbian")),
            ("zh_CN", None),
            ("", None),
        ] {
            assert_eq!(configuration(language), name);
        }
    }
}
