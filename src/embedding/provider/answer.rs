//! The formats of responses that several providers share.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::Value;

/// A decoded response: its vectors, unchecked, and what the provider counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// (index of the text in the request, vector). Where an API gives no index it is the position in the response.
    pub vectors: Vec<(usize, Vec<f32>)>,
    /// The tokens that are billed; 0 where the API does not say.
    pub tokens: u64,
    /// The number of requests that it took beyond the first.
    pub more_requests: u64,
    /// The number of parts that a single text was cut into because it was too long for the model; 0 where it
    /// was not cut.
    pub parts: usize,
}

impl Answer {
    /// An answer of one request, each vector with the index of its text.
    pub fn new(vectors: Vec<(usize, Vec<f32>)>, tokens: u64) -> Self {
        Self { vectors, tokens, more_requests: 0, parts: 0 }
    }

    /// An answer of one request, with vectors in the order of the texts.
    pub fn in_order(vectors: impl IntoIterator<Item = Floats>, tokens: u64) -> Self {
        Self::new(vectors.into_iter().map(|v| v.0).enumerate().collect(), tokens)
    }
}

/// Reads a provider's count of tokens. Anything that is not such a number is 0: the vectors are usable all the same.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn token_count(count: &Value) -> u64 {
    // A fraction is cut off, a negative number becomes 0.
    count.as_u64().or_else(|| count.as_f64().map(|count| count as u64)).unwrap_or(0)
}

/// A vector: a JSON list of numbers, or base64 of little-endian float4s. Both are accepted everywhere, since some
/// servers send one where the other was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Floats(pub Vec<f32>);

impl<'de> Deserialize<'de> for Floats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FloatsVisitor)
    }
}

struct FloatsVisitor;

impl<'de> Visitor<'de> for FloatsVisitor {
    type Value = Floats;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a list of numbers, or base64 of float4s")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Floats, E> {
        let bytes = STANDARD.decode(text).map_err(|_| E::custom("a vector that is no base64"))?;
        let (floats, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(E::custom("a vector whose base64 is no float4s"));
        }
        Ok(Floats(floats.iter().map(|f| f32::from_le_bytes(*f)).collect()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Floats, A::Error> {
        let mut floats = Vec::with_capacity(list.size_hint().unwrap_or(1536));
        while let Some(float) = list.next_element()? {
            floats.push(float);
        }
        if floats.is_empty() {
            return Err(A::Error::custom("a vector without numbers"));
        }
        Ok(Floats(floats))
    }
}

/// The format of OpenAI's response, which many other servers use.
#[derive(Deserialize)]
struct OpenAiAnswer {
    data: Vec<OpenAiItem>,
    #[serde(default)]
    usage: Value,
}

#[derive(Deserialize)]
struct OpenAiItem {
    embedding: Floats,
    index: Option<usize>,
}

/// Decodes OpenAI's format: `data[].embedding`, `data[].index`, `usage.total_tokens`.
pub fn openai(body: &[u8]) -> Result<Answer, String> {
    let answer: OpenAiAnswer = parse(body)?;
    let vectors = answer.data.into_iter().enumerate().map(|(at, item)| (item.index.unwrap_or(at), item.embedding.0));
    Ok(Answer::new(vectors.collect(), token_count(&answer.usage["total_tokens"])))
}

/// Parses JSON of a known shape, or says in one line what is wrong with it.
pub fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => "it ends in the middle".to_owned(),
        serde_json::error::Category::Data => format!("its shape is another: {error}"),
        _ if body.trim_ascii_start().starts_with(b"<") => {
            "it is no JSON, but a page of HTML".to_owned() + &html_title(body)
        }
        _ => "it is no JSON".to_owned(),
    })
}

/// Returns the title of an HTML page in parentheses, which often names the proxy that sent it; empty where it has none.
fn html_title(body: &[u8]) -> String {
    let page = String::from_utf8_lossy(body);
    let title = page.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    title.map_or(String::new(), |(title, _)| format!(" ({})", title.trim()))
}
