//! The content of a source as an application stores it, and the texts in it: plain text or HTML, in one
//! language or several.

mod html;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::text::chunk::{Chunk, Params, chunk};
use crate::text::title::{Title, with_title};

/// Bytes of a hash that tell what the texts are; what follows tells the title.
const HASH_OF_TEXTS: usize = 32;
/// What stands between the texts of two columns: the end of a paragraph.
const BETWEEN_COLUMNS: &str = "\n\n";

/// The format of a source's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Plain text, which is embedded as it is.
    #[default]
    Text,
    /// HTML, of which the text that a reader sees is embedded.
    Html,
}

impl Format {
    /// The names of the formats in SQL.
    pub const NAMES: [&str; 2] = ["text", "html"];
}

/// The content of a source: one column of a table or several, each a paragraph of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Shared, so that a thread can read them.
    columns: Arc<[ColumnContent]>,
    title: Option<Title>,
    hash: Vec<u8>,
}

/// The value of one content column, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnContent {
    /// The text, or a JSON object of texts by language, as Odoo stores translated fields.
    pub value: String,
    /// The format of its texts.
    pub format: Format,
    /// Whether it is a JSON object.
    pub translated: bool,
}

/// One text of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The language's code, such as `fr_FR`; `None` where the content is not translated.
    pub lang: Option<String>,
    /// The text that is cut into chunks.
    pub text: String,
}

/// The texts of a source and the ranges of their chunks.
#[derive(Debug)]
pub struct ChunkedContent {
    parts: Vec<Part>,
    /// Each chunk: the index of its part, and its range there.
    chunks: Vec<(usize, Chunk)>,
    /// The language of the part, and the character, where the limit of chunks was reached; `None` where all of the
    /// content is in chunks.
    pub truncated: Option<(Option<String>, usize)>,
    title: Option<Title>,
}

/// Returns a number for each way of reading content, which changes when HTML is read differently. The arguments are
/// those of all columns.
pub fn reading_version(formats: &[Format], translated: &[bool]) -> i32 {
    let html = if formats.contains(&Format::Html) { 1 + 4 * html::VERSION } else { 0 };
    html + 2 * i32::from(translated.contains(&true))
}

impl Content {
    /// Makes the content of one column. With `translated`, the value is a JSON object of texts by language, as Odoo
    /// stores translated fields.
    pub fn new(value: String, format: Format, translated: bool) -> Self {
        Self::of_columns(vec![ColumnContent { value, format, translated }])
    }

    /// Makes the content of several columns, in their order.
    pub fn of_columns(columns: Vec<ColumnContent>) -> Self {
        let hash = match columns.as_slice() {
            [one] => Sha256::digest(&one.value).to_vec(),
            several => {
                let mut hash = Sha256::new();
                for ColumnContent { value, format, translated } in several {
                    hash.update([*format as u8, u8::from(*translated)]);
                    hash.update(value.len().to_le_bytes());
                    hash.update(value);
                }
                hash.finalize().to_vec()
            }
        };
        Self { columns: columns.into(), title: None, hash }
    }

    /// Puts a title before each text.
    #[must_use]
    pub fn with_title(mut self, title: Option<Title>) -> Self {
        self.hash.truncate(HASH_OF_TEXTS);
        self.hash.extend(title.iter().flat_map(Title::hash));
        self.title = title;
        self
    }

    /// Whether vectors that were made from a content with this hash had the same texts, and this title before them.
    pub fn has_hash_with_title(&self, hash: &[u8], title: Option<&Title>) -> bool {
        let (texts, of_title) = hash.split_at(hash.len().min(HASH_OF_TEXTS));
        texts == &self.hash[..HASH_OF_TEXTS] && of_title == title.map(Title::hash).unwrap_or_default()
    }

    /// SHA-256 of what is stored, followed by that of the title, where there is one.
    pub fn hash(&self) -> &[u8] {
        &self.hash
    }

    /// Whether vectors that were made from a content with this hash had the same title before their texts.
    pub fn has_same_title(&self, hash: &[u8]) -> bool {
        self.hash.get(HASH_OF_TEXTS..) == Some(hash.get(HASH_OF_TEXTS..).unwrap_or_default())
    }

    /// The title that goes before the text of every chunk, if the content has one.
    pub fn title(&self) -> Option<&Title> {
        self.title.as_ref()
    }

    /// Whether the value is a JSON object of texts by language.
    pub fn is_translated(&self) -> bool {
        self.columns.iter().any(|column| column.translated)
    }

    /// Returns the number of this content's way of reading: see [`reading`].
    pub fn reading(&self) -> i32 {
        let formats: Vec<Format> = self.columns.iter().map(|column| column.format).collect();
        let translated: Vec<bool> = self.columns.iter().map(|column| column.translated).collect();
        reading_version(&formats, &translated)
    }

    /// The bytes of what is stored.
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.value.len()).sum()
    }

    /// Cuts the texts into chunks. The limit of chunks is for all languages together. Fails where a translated value is
    /// not a JSON object of texts.
    pub fn chunk(&self, params: &Params) -> Result<ChunkedContent> {
        let parts = self.parts()?;
        let mut cut = ChunkedContent { parts, chunks: Vec::new(), truncated: None, title: self.title.clone() };
        for (at, part) in cut.parts.iter().enumerate() {
            let left = params.max_chunks - cut.chunks.len();
            let found = chunk(&part.text, &Params { max_chunks: left.max(1), ..*params });
            if left == 0 && found.chunks.is_empty() {
                continue;
            }
            let found_end = if left == 0 { 0 } else { found.chunks.last().map_or(0, |c| c.end_char) };
            if found.truncated || left == 0 {
                cut.truncated.get_or_insert((part.lang.clone(), found_end));
            }
            cut.chunks.extend(found.chunks.into_iter().take(left).map(|c| (at, c)));
        }
        Ok(cut)
    }

    fn parts(&self) -> Result<Vec<Part>> {
        match &*self.columns {
            [one] => one.parts(),
            several => Ok(joined(several.iter().map(ColumnContent::parts).collect::<Result<_>>()?)),
        }
    }
}

/// The texts of columns, a paragraph each, by language. A text without a language is in each of them.
fn joined(columns: Vec<Vec<Part>>) -> Vec<Part> {
    let is_text = |part: &&Part| !part.text.trim().is_empty();
    let languages: BTreeSet<&String> =
        columns.iter().flatten().filter(is_text).filter_map(|part| part.lang.as_ref()).collect();
    let join = |lang: Option<&String>| {
        let texts = columns.iter().filter_map(|parts| {
            parts.iter().filter(is_text).find(|part| part.lang.is_none() || part.lang.as_ref() == lang)
        });
        let texts: Vec<&str> = texts.map(|part| part.text.as_str()).collect();
        Part { lang: lang.cloned(), text: texts.join(BETWEEN_COLUMNS) }
    };
    if languages.is_empty() { vec![join(None)] } else { languages.into_iter().map(|lang| join(Some(lang))).collect() }
}

/// Whether vectors that were made from a content with this hash had a title before their texts.
pub fn had_title(hash: &[u8]) -> bool {
    hash.len() > HASH_OF_TEXTS
}

impl ColumnContent {
    fn parts(&self) -> Result<Vec<Part>> {
        if !self.translated {
            return Ok(vec![Part { lang: None, text: self.text(self.value.clone()) }]);
        }
        let wrong = |got: String| Error::invalid("content", got, "a JSON object of texts by language");
        match serde_json::from_str(&self.value).map_err(|error| wrong(format!("no JSON ({error})")))? {
            Value::Null => Ok(Vec::new()),
            Value::Object(texts) => {
                let part = |(lang, text)| match text {
                    Value::String(text) => Some(Ok(Part { lang: Some(lang), text: self.text(text) })),
                    // Odoo stores a missing value as null or false.
                    Value::Null | Value::Bool(false) => None,
                    other => Some(Err(wrong(format!("an object with {} for {lang}", json_kind(&other))))),
                };
                texts.into_iter().filter_map(part).collect()
            }
            other => Err(wrong(json_kind(&other).to_owned())),
        }
    }

    fn text(&self, value: String) -> String {
        match self.format {
            Format::Text => value,
            Format::Html => html::text(&value),
        }
    }
}

impl ChunkedContent {
    /// Returns the number of chunks.
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether the content has no chunk.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns the language and the text of each chunk.
    pub fn texts(&self) -> Vec<(Option<&str>, &str)> {
        self.chunks.iter().map(|(part, c)| (self.parts[*part].lang.as_deref(), self.text_of(*part, c))).collect()
    }

    /// The text of one chunk, by its place.
    pub fn text(&self, at: usize) -> &str {
        self.chunks.get(at).map_or("", |(part, chunk)| self.text_of(*part, chunk))
    }

    /// What is embedded of each chunk: its text, after the title.
    pub fn inputs(&self) -> Vec<Cow<'_, str>> {
        self.texts().into_iter().map(|(lang, text)| with_title(self.title_of(lang), text)).collect()
    }

    /// The title of texts in a language.
    pub fn title_of(&self, lang: Option<&str>) -> Option<&str> {
        self.title.as_ref().map(|title| title.of(lang))
    }

    /// Returns the range of each chunk in its text, in characters: the first one, and the one after the last.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        self.chunks.iter().map(|(_, c)| (c.start_char, c.end_char))
    }

    fn text_of(&self, part: usize, c: &Chunk) -> &str {
        &self.parts[part].text[c.start..c.end]
    }
}

fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(value: &str, format: Format, translated: bool) -> Vec<(Option<String>, String)> {
        let cut = Content::new(value.to_owned(), format, translated).chunk(&Params::default()).unwrap();
        cut.texts().into_iter().map(|(lang, text)| (lang.map(str::to_owned), text.to_owned())).collect()
    }

    #[test]
    fn each_language_is_kept() {
        let value = r#"{"en_US": "Hello", "fr_FR": "Bonjour", "de_DE": null, "xx": false}"#;
        let lang = |l: &str, t: &str| (Some(l.to_owned()), t.to_owned());
        assert_eq!(texts(value, Format::Text, true), [lang("en_US", "Hello"), lang("fr_FR", "Bonjour")]);
        assert_eq!(texts(r#"{"en_US": "<b>Hello</b>"}"#, Format::Html, true), [lang("en_US", "Hello")]);
        assert_eq!(texts("null", Format::Text, true), []);
        for wrong in ["[]", "3", r#"{"en_US": 3}"#, "{"] {
            assert!(Content::new(wrong.to_owned(), Format::Text, true).chunk(&Params::default()).is_err(), "{wrong}");
        }
    }

    fn column(value: &str, format: Format, translated: bool) -> ColumnContent {
        ColumnContent { value: value.to_owned(), format, translated }
    }

    fn joined_texts(columns: Vec<ColumnContent>) -> Vec<(Option<String>, String)> {
        let cut = Content::of_columns(columns).chunk(&Params::default()).unwrap();
        cut.texts().into_iter().map(|(lang, text)| (lang.map(str::to_owned), text.to_owned())).collect()
    }

    #[test]
    fn columns_are_paragraphs_in_their_order() {
        let columns = vec![
            column("A chair", Format::Text, false),
            column(" ", Format::Text, false),
            column("<p>Of <b>oak</b></p>", Format::Html, false),
        ];
        assert_eq!(joined_texts(columns), [(None, "A chair\n\nOf oak".to_owned())]);
    }

    #[test]
    fn columns_are_joined_by_language() {
        let name = column(r#"{"en_US": "Chair", "fr_FR": "Chaise"}"#, Format::Text, true);
        let code = column("C-1", Format::Text, false);
        let sale = column(r#"{"en_US": "<p>Oak</p>", "fr_FR": ""}"#, Format::Html, true);
        let lang = |l: &str, t: &str| (Some(l.to_owned()), t.to_owned());
        let all = vec![name, code.clone(), sale];
        assert_eq!(joined_texts(all), [lang("en_US", "Chair\n\nC-1\n\nOak"), lang("fr_FR", "Chaise\n\nC-1")]);
        // Nothing is translated: what is not is there all the same.
        assert_eq!(joined_texts(vec![column("null", Format::Text, true), code]), [(None, "C-1".to_owned())]);
    }

    #[test]
    fn hash_tells_columns_formats_and_titles_apart() {
        let hash = |columns: Vec<ColumnContent>| Content::of_columns(columns).hash().to_vec();
        let plain = |value| column(value, Format::Text, false);
        assert_ne!(hash(vec![plain("ab"), plain("c")]), hash(vec![plain("a"), plain("bc")]));
        assert_ne!(hash(vec![plain("a"), plain("b")]), hash(vec![plain("a"), column("b", Format::Html, false)]));
        let content = || Content::new("a".to_owned(), Format::Text, false);
        let titled = |title: &str| content().with_title(Some(Title::One(title.to_owned())));
        assert_eq!(content().with_title(None), content());
        assert!(had_title(titled("x").hash()) && !had_title(content().hash()));
        assert!(titled("x").has_same_title(titled("x").hash()) && content().has_same_title(content().hash()));
        assert!(!titled("x").has_same_title(titled("y").hash()) && !titled("x").has_same_title(content().hash()));
    }

    #[test]
    fn title_is_in_what_is_embedded_and_not_in_the_text() {
        let params = Params { size: 20, overlap: 0, max_chunks: 9 };
        let content = Content::new("One two three four. Five six seven.".to_owned(), Format::Text, false);
        let cut = content.with_title(Some(Title::One("Numbers".to_owned()))).chunk(&params).unwrap();
        assert!(cut.len() > 1);
        for ((_, text), input) in cut.texts().iter().zip(cut.inputs()) {
            assert_eq!(input, format!("Numbers\n\n{text}"));
        }
    }

    #[test]
    fn the_chunk_limit_spans_all_languages() {
        let params = Params { size: 10, overlap: 0, max_chunks: 3 };
        let value = |a: &str, b: &str| serde_json::json!({"a": a, "b": b}).to_string();
        let cut = |v| Content::new(v, Format::Text, true).chunk(&params).unwrap();
        let three = "1234567 1234567 1234567";
        let of = cut(value("1234567 1234567", three));
        assert_eq!((of.len(), of.truncated), (3, Some((Some("b".to_owned()), 7))));
        let of = cut(value(three, three));
        assert_eq!((of.len(), of.truncated), (3, Some((Some("b".to_owned()), 0))));
        assert_eq!(cut(value(three, " ")).truncated, None);
        assert!(cut(value("", "")).is_empty());
    }
}
