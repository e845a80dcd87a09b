//! The content of a source as an application stores it, and the texts in it: plain text or HTML, in one language or
//! several.

mod html;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::text::chunk::{Chunk, Params, chunk};

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

/// The content of a source: the stored value and how to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    value: String,
    format: Format,
    translated: bool,
    hash: Vec<u8>,
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
}

/// Returns a number for each way of reading content. It changes when HTML is read differently, so that stored chunks of
/// the older reading are recognized.
pub fn reading_version(format: Format, translated: bool) -> i32 {
    let html = if format == Format::Html { 1 + 4 * html::VERSION } else { 0 };
    html + 2 * i32::from(translated)
}

impl Content {
    /// Makes content of a stored value. With `translated`, the value is a JSON object of texts by language, as Odoo
    /// stores translated fields.
    pub fn new(value: String, format: Format, translated: bool) -> Self {
        let hash = Sha256::digest(&value).to_vec();
        Self { value, format, translated, hash }
    }

    /// Returns the SHA-256 of the stored value.
    pub fn hash(&self) -> &[u8] {
        &self.hash
    }

    /// Whether the value is a JSON object of texts by language.
    pub fn is_translated(&self) -> bool {
        self.translated
    }

    /// Returns the number of this content's way of reading: see [`reading`].
    pub fn reading(&self) -> i32 {
        reading_version(self.format, self.translated)
    }

    /// Cuts the texts into chunks. The limit of chunks is for all languages together. Fails where a translated value is
    /// not a JSON object of texts.
    pub fn chunk(&self, params: &Params) -> Result<ChunkedContent> {
        let parts = self.parts()?;
        let mut cut = ChunkedContent { parts, chunks: Vec::new(), truncated: None };
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
