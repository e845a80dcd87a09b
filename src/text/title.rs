//! The title of a source, which goes before the text of each of its chunks when that is embedded and when its words are
//! read, so that a chunk deep in a document says what it is about.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The number of characters of a title that go before a chunk.
pub const MAX_CHARACTERS: usize = 200;
/// The separator between a title and a text: the end of a paragraph.
pub const SEPARATOR: &str = "\n\n";
/// The length of a title's hash, in bytes of its SHA-256.
const HASH_BYTES: usize = 8;
/// The language whose title stands in for one that is missing, as Odoo does it.
const DEFAULT_LANGUAGE: &str = "en_US";

/// A title of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Title {
    /// One title for all languages.
    One(String),
    /// Titles by their languages' codes, at least one.
    Translated(BTreeMap<String, String>),
}

impl Title {
    /// Reads the member `title` of a JSON object: a text, or an object of texts by language; `None` where it is
    /// missing or blank.
    #[must_use]
    pub fn of_metadata(metadata: &str) -> Option<Self> {
        if !metadata.contains("\"title\"") {
            return None;
        }
        match serde_json::from_str::<Value>(metadata).ok()?.get_mut("title")?.take() {
            Value::String(title) if !is_blank(&title) => Some(Self::One(title)),
            Value::Object(titles) => {
                let title = |(lang, title): (String, Value)| Some((lang, title.as_str()?.to_owned()));
                let titles: BTreeMap<_, _> =
                    titles.into_iter().filter_map(title).filter(|(_, title)| !is_blank(title)).collect();
                (!titles.is_empty()).then_some(Self::Translated(titles))
            }
            _ => None,
        }
    }

    /// Returns the title for texts in a language. Where it has none in that language, and for texts without a language, that
    /// is the English title or, without one, the first.
    #[must_use]
    pub fn of(&self, lang: Option<&str>) -> &str {
        match self {
            Self::One(title) => title,
            Self::Translated(titles) => {
                let found = lang.and_then(|lang| titles.get(lang)).or_else(|| titles.get(DEFAULT_LANGUAGE));
                found.or_else(|| titles.values().next()).map_or("", String::as_str)
            }
        }
    }

    /// Returns a JSON object with the title of each language, and the one for all others under the empty name; `None` where
    /// there is one title for all.
    #[must_use]
    pub fn by_language(&self) -> Option<Value> {
        match self {
            Self::One(_) => None,
            Self::Translated(titles) => {
                let default = (String::new(), self.of(None).to_owned());
                let all = titles.clone().into_iter().chain([default]);
                Some(Value::Object(all.map(|(lang, title)| (lang, Value::String(title))).collect()))
            }
        }
    }

    /// Returns bytes that differ from those of another title.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        let text = match self {
            Self::One(title) => Value::String(title.clone()),
            Self::Translated(titles) => serde_json::json!(titles),
        };
        Sha256::digest(text.to_string())[..HASH_BYTES].to_vec()
    }
}

fn is_blank(title: &str) -> bool {
    title.trim().is_empty()
}

/// Returns the text that is embedded for a chunk: its title and its text. A text that begins with its title does not
/// get it again.
#[must_use]
pub fn with_title<'a>(title: Option<&str>, text: &'a str) -> Cow<'a, str> {
    match title {
        Some(title) if !is_blank(title) && !text.starts_with(title) => {
            let end = title.char_indices().nth(MAX_CHARACTERS).map_or(title.len(), |(at, _)| at);
            Cow::Owned(format!("{}{SEPARATOR}{text}", &title[..end]))
        }
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_of_a_language_falls_back_to_english_and_then_to_the_first() {
        let title = Title::of_metadata(r#"{"title": {"fr_FR": "Chaise", "en_US": "Chair", "de_DE": " "}}"#).unwrap();
        assert_eq!([Some("fr_FR"), Some("de_DE"), None].map(|lang| title.of(lang)), ["Chaise", "Chair", "Chair"]);
        let title = Title::of_metadata(r#"{"title": {"fr_FR": "Chaise", "it_IT": "Sedia"}}"#).unwrap();
        assert_eq!(title.of(Some("de_DE")), "Chaise");
        assert_eq!(title.by_language().unwrap()[""], "Chaise");
        assert_eq!(Title::One("Chair".to_owned()).by_language(), None);
    }

    #[test]
    fn metadata_without_a_text_has_no_title() {
        for metadata in
            ["{}", r#"{"title": null}"#, r#"{"title": " "}"#, r#"{"title": 3}"#, r#"{"title": {}}"#, "[", "3"]
        {
            assert_eq!(Title::of_metadata(metadata), None, "{metadata}");
        }
    }

    #[test]
    fn title_goes_before_a_text_that_does_not_begin_with_it() {
        assert_eq!(with_title(Some("Refunds"), "They take a week."), "Refunds\n\nThey take a week.");
        assert_eq!(with_title(Some("Refunds"), "Refunds take a week."), "Refunds take a week.");
        assert_eq!(with_title(Some(" "), "A text."), "A text.");
        assert_eq!(with_title(None, "A text."), "A text.");
        let long = "ä".repeat(MAX_CHARACTERS + 1);
        assert_eq!(with_title(Some(&long), "x"), format!("{}\n\nx", "ä".repeat(MAX_CHARACTERS)));
    }

    #[test]
    fn titles_are_told_apart() {
        let hash = |metadata: &str| Title::of_metadata(metadata).unwrap().hash();
        assert_ne!(hash(r#"{"title": "a"}"#), hash(r#"{"title": "b"}"#));
        assert_ne!(hash(r#"{"title": {"de": "a"}}"#), hash(r#"{"title": {"fr": "a"}}"#));
        assert_eq!(hash(r#"{"title": {"de": "a", "fr": "b"}}"#), hash(r#"{"title": {"fr": "b", "de": "a"}}"#));
    }
}
