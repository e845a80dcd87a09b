//! The providers of embeddings. A provider is two pure functions, which encode a request and decode a response, and
//! what its documentation says about its models. It does no I/O and uses no Postgres. The built-in model,
//! [`super::local`], needs no request.

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

/// The name of the built-in provider.
pub const LOCAL: &str = "local";

/// Returns the names of all providers, the built-in one first.
pub fn provider_names() -> Vec<&'static str> {
    std::iter::once(LOCAL).chain(PROVIDERS.iter().map(|p| p.name())).collect()
}

/// Returns the providers that are asked over HTTP.
pub fn http_providers() -> impl Iterator<Item = &'static (dyn Provider + Sync)> {
    PROVIDERS.iter().copied()
}

/// Returns the HTTP provider with this name, or an error that lists the names there are.
pub fn find_provider(name: &str) -> Result<&'static (dyn Provider + Sync)> {
    http_providers().find(|p| p.name() == name).ok_or_else(|| Error::unknown("provider", name, &provider_names()))
}

/// The model of a database, and how a provider is asked for its vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The provider's name, as in `chatbot_set_model()`.
    pub provider: String,
    /// The model's name at the provider.
    pub name: String,
    /// The length of its vectors; 0 while it is not known.
    pub dimensions: usize,
    /// Whether the provider is asked for vectors of `dimensions` numbers, because that is not the model's own length.
    pub shortened: bool,
    /// The prefix of a text that is embedded as a document.
    pub document_prefix: String,
    /// The prefix of a text that is embedded as a query.
    pub query_prefix: String,
    /// The provider's own options, as passed to `chatbot_set_model()`.
    pub options: Map<String, Value>,
}

impl Model {
    /// Returns the value of an option that is a text; `None` where it is not set.
    fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name)?.as_str()
    }

    /// Returns the option `max_inputs`, for a server that takes fewer texts in one request than the provider's API
    /// allows; `None` where it is not set.
    pub fn max_inputs(&self) -> Option<usize> {
        usize::try_from(self.options.get("max_inputs")?.as_u64()?).ok()
    }

    /// Returns the vector length to ask the provider for; `None` where the model's own length is wanted.
    pub fn asked(&self) -> Option<usize> {
        self.shortened.then_some(self.dimensions)
    }
}

/// The purpose of a text; some models embed the two differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputType {
    /// The text is stored, to be found by queries.
    Document,
    /// The text is a query.
    Query,
}

/// A text that is never shown when it is formatted for debugging, such as a key.
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

/// The address and the key of a provider.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The base address, without a slash at its end.
    pub url: String,
    /// The key; `None` where none is configured.
    pub key: Option<Secret>,
}

/// One HTTP POST request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The address that the request is sent to.
    pub url: String,
    /// The headers, without the content type.
    pub headers: Vec<(&'static str, Secret)>,
    /// The body of the request, in JSON.
    pub body: Vec<u8>,
}

impl Request {
    fn json(url: String, headers: Vec<(&'static str, Secret)>, body: &Value) -> Self {
        Self { url, headers, body: body.to_string().into_bytes() }
    }
}

/// The limits of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest number of texts in one request.
    pub inputs: usize,
    /// The largest number of bytes of text. For a provider that limits tokens it is that number, since every token has
    /// at least one byte.
    pub bytes: usize,
}

/// The documented properties of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelInfo {
    /// The length of its vectors where no other is asked for.
    pub dimensions: usize,
    /// The other lengths that can be asked for.
    pub shorter: ShorterVectors,
}

/// The vector lengths that a model can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShorterVectors {
    /// The model gives vectors of its own length only.
    No,
    /// The model gives vectors of one of these lengths.
    OneOf(&'static [usize]),
    /// The model gives vectors of any length from this one to its own.
    From(usize),
}

impl ModelInfo {
    /// Returns the lengths that are accepted, in words, where `dimensions` is not one of them; `None` where it is.
    pub fn check_dimensions(&self, dimensions: usize) -> Option<String> {
        let own = self.dimensions;
        let (can, expected) = match self.shorter {
            _ if dimensions == own => return None,
            ShorterVectors::No => (false, own.to_string()),
            ShorterVectors::OneOf(some) => {
                (some.contains(&dimensions), some.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
            }
            ShorterVectors::From(least) => ((least..=own).contains(&dimensions), format!("{least} to {own}")),
        };
        (!can).then_some(expected)
    }
}

/// A provider that is asked over HTTP.
pub trait Provider {
    /// Returns the name, as it is stored in `chatbot_sync.model` and used in the names of settings.
    fn name(&self) -> &'static str;

    /// Returns the base address where no setting names another; `None` where a setting has to.
    fn default_url(&self) -> Option<&'static str>;

    /// Returns the environment variables that the provider's own tools read the key from, in order of precedence.
    fn key_variables(&self) -> &'static [&'static str];

    /// Whether a request needs a key.
    fn needs_key(&self) -> bool {
        true
    }

    /// Returns the limits of one request.
    fn limits(&self, model: &str) -> Limits;

    /// Returns what is documented about a model; `None` where it is not known here.
    fn known(&self, _model: &str) -> Option<ModelInfo> {
        None
    }

    /// Returns the prefixes that the model's documentation asks for: (of documents, of queries).
    fn prefixes(&self, _model: &str) -> (&'static str, &'static str) {
        ("", "")
    }

    /// Returns the provider's own options: (name, kind of value).
    fn options(&self) -> &'static [(&'static str, OptionKind)] {
        &[]
    }

    /// Whether the provider promises vectors of length 1 for this model.
    fn promises_unit(&self, model: &Model) -> bool;

    /// Whether vectors are normalised here, because the provider does not promise length 1 and they are meant
    /// for cosine distance.
    fn normalise(&self, _model: &Model) -> bool {
        false
    }

    /// Encodes the request for the vectors of some texts, which have their prefixes already.
    fn encode(&self, endpoint: &Endpoint, model: &Model, input: InputType, texts: &[&str]) -> Request;

    /// Decodes the vectors of a response with status 200, or says what is wrong with it.
    fn decode(&self, body: &[u8]) -> Result<Answer, String>;
}

/// The kinds of value that an option of `chatbot_set_model()` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// The option takes any text.
    Text,
    /// The option takes one of these words.
    OneOf(&'static [&'static str]),
    /// The option takes a whole number, 1 or more.
    Count,
    /// The option takes true or false.
    Boolean,
}

/// Checks options against those that the provider has; fails with the name or value that it does not take.
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

/// Checks a configured address: http or https, a host, no user or password. Returns it without a slash at its end.
pub fn check_url(name: &'static str, url: &str) -> Result<String> {
    let expected = "http:// or https://, a host and perhaps a path, without user or password";
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let authority = rest.and_then(|r| r.split(['/', '?', '#']).next());
    let plain = url.chars().all(|c| c.is_ascii_graphic()) && !url.contains(['?', '#']);
    match authority {
        Some(host) if plain && !host.contains('@') && !host.is_empty() && !host.starts_with(':') => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        // The address is not in the message, since it may contain a password.
        _ => Err(Error::invalid(name, "no address that can be used", expected)),
    }
}

fn bearer(endpoint: &Endpoint) -> Vec<(&'static str, Secret)> {
    let key = endpoint.key.iter();
    key.map(|k| ("authorization", Secret::new(format!("Bearer {}", k.reveal())))).collect()
}

#[cfg(test)]
mod tests;
