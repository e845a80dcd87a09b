//! Where embeddings come from. A provider is two pure functions, encode a request and decode an answer, and what its
//! documentation says about it; it knows neither sockets nor Postgres. [`super::local`] needs no request at all.

mod answer;
mod azure;
mod cohere;
mod gemini;
mod ollama;
mod openai;
mod refusal;
mod voyage;
mod wait;

use serde_json::{Map, Value};

pub use answer::Answer;
pub use refusal::{is_about_dimensions, refused, refused_with_status_200};
pub use wait::WAIT_HEADERS;

use crate::error::{Error, Result};

/// The providers that are asked over HTTP.
static PROVIDERS: [&(dyn Provider + Sync); 7] = [
    &openai::OpenAi,
    &openai::Compatible,
    &azure::Azure,
    &ollama::Ollama,
    &cohere::Cohere,
    &voyage::Voyage,
    &gemini::Gemini,
];

/// The name of the provider that is built in.
pub const LOCAL: &str = "local";

/// The names of all, the built-in one first.
pub fn names() -> Vec<&'static str> {
    std::iter::once(LOCAL).chain(PROVIDERS.iter().map(|p| p.name())).collect()
}

/// Those that are asked over HTTP.
pub fn all() -> impl Iterator<Item = &'static (dyn Provider + Sync)> {
    PROVIDERS.iter().copied()
}

/// The provider of this name.
pub fn find(name: &str) -> Result<&'static (dyn Provider + Sync)> {
    all().find(|p| p.name() == name).ok_or_else(|| Error::unknown("provider", name, &names()))
}

/// What a vector is made with.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The provider's name, as in `chatbot_set_model()`.
    pub provider: String,
    /// The model's name at the provider.
    pub name: String,
    /// Length of its vectors; 0 as long as it is not known.
    pub dimensions: usize,
    /// Whether the provider is asked for this length, which is not the model's own.
    pub shortened: bool,
    /// The prefix of a text that is embedded as a document.
    pub document_prefix: String,
    /// The prefix of a text that is embedded as a query.
    pub query_prefix: String,
    /// The provider's own options.
    pub options: Map<String, Value>,
}

impl Model {
    /// An option that is a text.
    fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name)?.as_str()
    }

    /// Where a server takes fewer inputs than its provider's API has as its limit.
    pub fn max_inputs(&self) -> Option<usize> {
        usize::try_from(self.options.get("max_inputs")?.as_u64()?).ok()
    }

    /// The length to ask for; none where the model's own is wanted.
    pub fn asked(&self) -> Option<usize> {
        self.shortened.then_some(self.dimensions)
    }
}

/// What a text is embedded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputType {
    /// The text is stored, and found by queries.
    Document,
    /// The text is a query.
    Query,
}

/// A text that no formatter shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that must not be shown in messages or logs.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Where a provider is asked, and with which key.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Without a slash at its end.
    pub url: String,
    /// None where none is configured.
    pub key: Option<Secret>,
}

/// One POST.
#[derive(Debug, Clone)]
pub struct Request {
    /// The address that the request is sent to.
    pub url: String,
    /// Headers of the request beside the content type.
    pub headers: Vec<(&'static str, Secret)>,
    /// The body of the request, in JSON.
    pub body: Vec<u8>,
}

impl Request {
    fn json(url: String, headers: Vec<(&'static str, Secret)>, body: &Value) -> Self {
        Self { url, headers, body: body.to_string().into_bytes() }
    }
}

/// What fits into one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest number of texts in one request.
    pub inputs: usize,
    /// Bytes of text. Where a provider counts tokens it is their number, as no token is shorter than a byte.
    pub bytes: usize,
}

/// What is documented about a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Length of its vectors where none is asked for.
    pub dimensions: usize,
    /// Which other lengths can be asked for.
    pub shorter: Shorter,
}

/// Which lengths can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shorter {
    /// The model gives vectors of its own length only.
    No,
    /// The model gives vectors of one of these lengths.
    OneOf(&'static [usize]),
    /// From this one to its own.
    From(usize),
}

impl Known {
    /// What would do, if this length does not.
    pub fn refuses(&self, dimensions: usize) -> Option<String> {
        let own = self.dimensions;
        let (can, expected) = match self.shorter {
            _ if dimensions == own => return None,
            Shorter::No => (false, own.to_string()),
            Shorter::OneOf(some) => {
                (some.contains(&dimensions), some.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
            }
            Shorter::From(least) => ((least..=own).contains(&dimensions), format!("{least} to {own}")),
        };
        (!can).then_some(expected)
    }
}

/// A provider that is asked over HTTP.
pub trait Provider {
    /// As it stands in `chatbot_sync.model` and in the names of its settings.
    fn name(&self) -> &'static str;

    /// Where it is, unless a setting says otherwise.
    fn default_url(&self) -> Option<&'static str>;

    /// The environment variables that its own tools read a key from, in this order.
    fn key_variables(&self) -> &'static [&'static str];

    /// Whether it answers without a key.
    fn needs_key(&self) -> bool {
        true
    }

    /// What fits into a request.
    fn limits(&self, model: &str) -> Limits;

    /// What is documented about a model; none where it is not known here.
    fn known(&self, _model: &str) -> Option<Known> {
        None
    }

    /// What its documentation wants before (documents, queries).
    fn prefixes(&self, _model: &str) -> (&'static str, &'static str) {
        ("", "")
    }

    /// Its own options: (name, what a value must be).
    fn options(&self) -> &'static [(&'static str, OptionKind)] {
        &[]
    }

    /// Whether it promises vectors of length 1 for this model.
    fn promises_unit(&self, model: &Model) -> bool;

    /// Whether its vectors are to be normalised here, since it does not promise it and cosine is what they are for.
    fn normalise(&self, _model: &Model) -> bool {
        false
    }

    /// The request for the vectors of some texts, prefixes put before them already.
    fn encode(&self, endpoint: &Endpoint, model: &Model, input: InputType, texts: &[&str]) -> Request;

    /// The vectors of an answer with status 200, or what is wrong with it.
    fn decode(&self, body: &[u8]) -> Result<Answer, String>;
}

/// The values that an option of `chatbot_set_model()` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// The option takes any text.
    Text,
    /// The option takes one of these words.
    OneOf(&'static [&'static str]),
    /// A whole number, 1 or more.
    Count,
    /// The option takes true or false.
    Boolean,
}

/// Checks options against what the provider knows.
pub fn check_options(known: &[(&str, OptionKind)], options: &Map<String, Value>) -> Result<()> {
    for (name, value) in options {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let Some((_, kind)) = known.iter().find(|(known, _)| known == name) else {
            let none = ["none: this provider has no options"];
            return Err(Error::unknown("options", name, if names.is_empty() { &none } else { &names }));
        };
        let (fits, expected) = match kind {
            OptionKind::Text => (value.as_str().is_some_and(|s| !s.is_empty()), "a text".to_owned()),
            OptionKind::OneOf(some) => {
                (value.as_str().is_some_and(|s| some.contains(&s)), format!("one of {}", some.join(", ")))
            }
            OptionKind::Count => (value.as_u64().is_some_and(|n| n > 0), "a whole number, 1 or more".to_owned()),
            OptionKind::Boolean => (value.is_boolean(), "true or false".to_owned()),
        };
        if !fits {
            return Err(Error::invalid(
                "options",
                format!("{{\"{name}\": {value}}}"),
                format!("\"{name}\" to be {expected}"),
            ));
        }
    }
    Ok(())
}

/// Checks a configured address: http or https, a host, no user or password in it.
pub fn check_url(name: &'static str, url: &str) -> Result<String> {
    let expected = "http:// or https://, a host and perhaps a path, without user or password";
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let authority = rest.and_then(|r| r.split(['/', '?', '#']).next());
    let plain = url.chars().all(|c| c.is_ascii_graphic()) && !url.contains(['?', '#']);
    match authority {
        Some(host) if plain && !host.contains('@') && !host.is_empty() && !host.starts_with(':') => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        // A password in it must not get into a message.
        _ => Err(Error::invalid(name, "no address that can be used", expected)),
    }
}

fn bearer(endpoint: &Endpoint) -> Vec<(&'static str, Secret)> {
    let key = endpoint.key.iter();
    key.map(|k| ("authorization", Secret::new(format!("Bearer {}", k.reveal())))).collect()
}

#[cfg(test)]
mod tests;
