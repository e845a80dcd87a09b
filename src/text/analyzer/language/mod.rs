//! Which language a text is in, and which of Postgres' text search configurations reads it.
//!
//! - `script`: the script of a text
//! - `short_words`: whether a chunk is in the language of those before it

mod script;
mod short_words;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use whatlang::{Detector, Lang};

use self::script::{SAMPLE_CHARS, Script};
use self::short_words::{ShortWords, short_words};

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
    detect_by_script(script, letters).unwrap_or_else(|| detect_by_letters(text, script, letters))
}

/// What a script and the number of its letters say about the language; `None` where the letters themselves decide.
fn detect_by_script(script: Script, letters: usize) -> Option<Option<Detected>> {
    match script.language() {
        Some(lang) => Some((letters >= 4).then_some(Detected { lang, is_certain: true })),
        None if letters < FEWEST_LETTERS => Some(None),
        None => None,
    }
}

/// The language of a text by the letters that follow each other in it, among those that are written in this script.
fn detect_by_letters(text: &str, script: Script, letters: usize) -> Option<Detected> {
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

/// The language of a chunk of a text; `known` has the short words of the chunks before it.
fn detect_chunk<'a>(chunk: &'a str, known: &mut ShortWords<'a>) -> Option<Detected> {
    let (script, letters) = Script::of_text(chunk)?;
    if let Some(decided) = detect_by_script(script, letters) {
        return decided;
    }
    let words = short_words(chunk);
    if let Some(lang) = known.language_of(&words) {
        return Some(Detected { lang, is_certain: true });
    }
    let detected = detect_by_letters(chunk, script, letters);
    if let Some(Detected { lang, is_certain: true }) = detected {
        known.add(lang, words);
    }
    detected
}

/// The languages that a text in Cyrillic may be in. Most have letters of their own, which say more than those that follow
/// each other: a text with ы is not Bulgarian.
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

/// The languages of a text, by their ISO 639-1 codes; `None` where nothing is known of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Languages {
    /// That of most of the text.
    pub most: Option<&'static str>,
    /// That of each of its chunks.
    pub of_chunks: Vec<Option<&'static str>>,
}

/// The languages of the chunks of a text, and that of most of them: a chunk that says too little about its own has that
/// of the others.
#[must_use]
pub fn detect_chunks(chunks: &[&str]) -> Languages {
    let mut known = ShortWords::default();
    let detected: Vec<Option<Detected>> = chunks.iter().map(|chunk| detect_chunk(chunk, &mut known)).collect();
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for (found, chunk) in detected.iter().zip(chunks) {
        if let Some(found) = found {
            // One that is certain outweighs two that are not.
            *votes.entry(found.lang).or_default() += chunk.len() * if found.is_certain { 3 } else { 1 };
        }
    }
    let most = votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(lang, _)| lang);
    let of_chunk = |found: Option<Detected>| found.filter(|found| found.is_certain).map(|found| found.lang).or(most);
    Languages { most, of_chunks: detected.into_iter().map(of_chunk).collect() }
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
        let languages = |most, of_chunks: &[Option<&'static str>]| Languages { most, of_chunks: of_chunks.to_vec() };
        assert_eq!(
            detect_chunks(&[german, "E-4711", english, german]),
            languages(Some("de"), &[Some("de"), Some("de"), Some("en"), Some("de")])
        );
        assert_eq!(detect_chunks(&["E-4711", ""]), languages(None, &[None, None]));
        assert_eq!(detect_chunks(&[]), languages(None, &[]));
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
