//! The words of the domain, which know no Postgres: a source and its key, what it is to become, what became of it.

use crate::error::Error;
use crate::text::content::Content;

/// The values of `source_type`.
pub const SOURCE_TYPES: [&str; 2] = ["document", "link"];

/// The key of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceKey {
    /// The chatbot that the source belongs to.
    pub chatbot_id: i64,
    /// `document` or `link`.
    pub source_type: &'static str,
    /// The host row's id.
    pub source_id: i64,
}

impl std::fmt::Display for SourceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { chatbot_id, source_type, source_id } = self;
        write!(f, "{source_type} {source_id} of chatbot {chatbot_id}")
    }
}

/// A `jsonb` value in its text form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jsonb(pub(crate) String);

impl Jsonb {
    /// An object with nothing in it.
    pub fn empty() -> Self {
        Self("{}".to_owned())
    }

    /// The text form, as Postgres writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a JSON object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// The text that an object has under a name.
    pub fn text(&self, name: &str) -> Option<String> {
        if !self.0.contains(name) {
            return None;
        }
        serde_json::from_str::<serde_json::Value>(&self.0).ok()?.get(name)?.as_str().map(str::to_owned)
    }

    /// Its kind, for a message.
    pub fn kind(&self) -> &'static str {
        match self.0.bytes().next() {
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        }
    }
}

impl From<serde_json::Value> for Jsonb {
    fn from(value: serde_json::Value) -> Self {
        Self(value.to_string())
    }
}

impl From<&serde_json::Map<String, serde_json::Value>> for Jsonb {
    fn from(object: &serde_json::Map<String, serde_json::Value>) -> Self {
        Self(serde_json::Value::Object(object.clone()).to_string())
    }
}

/// A source as it is to become.
#[derive(Clone)]
pub struct SourceInput {
    /// The source's key.
    pub key: SourceKey,
    /// What is to be found.
    pub content: Content,
    /// The metadata of the source and of its chunks.
    pub metadata: Jsonb,
    /// Whether searches find it. Nothing is embedded as long as they do not.
    pub enabled: bool,
    /// The host table that it comes from.
    pub host: Option<i32>,
    /// The row was inserted by this very statement, so no source can exist yet and the lookup is skipped.
    pub fresh: bool,
}

impl SourceInput {
    /// Whether nothing was changed meanwhile.
    pub fn same(&self, other: &Self) -> bool {
        self.key == other.key
            && self.content.hash() == other.content.hash()
            && self.metadata == other.metadata
            && self.enabled == other.enabled
    }
}

/// What became of a source.
#[derive(Debug, Clone, Copy)]
pub struct SyncOutcome {
    /// The number of its chunks.
    pub chunks: i32,
    /// Of those, how many kept their vectors.
    pub reused: i32,
    /// Whether its end was cut off.
    pub truncated: bool,
}

/// What a source is to become, or why its row does not say it.
#[derive(Clone)]
pub enum RowInput {
    /// The row was read.
    Readable(SourceInput),
    /// Postgres raised an error while the row was read.
    Unreadable(Unreadable),
}

/// A row that cannot be read.
#[derive(Clone)]
pub struct Unreadable {
    /// Its source.
    pub key: SourceKey,
    /// Its host table.
    pub host: Option<i32>,
    /// Whether searches are to find it; none where that cannot be read either.
    pub enabled: Option<bool>,
    /// Why.
    pub error: Error,
}

impl RowInput {
    /// Its source.
    pub fn key(&self) -> SourceKey {
        match self {
            Self::Readable(item) => item.key,
            Self::Unreadable(unreadable) => unreadable.key,
        }
    }

    /// Whether nothing was changed meanwhile, as far as can be read.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Readable(one), Self::Readable(other)) => one.same(other),
            // A reason may say something else each time.
            (Self::Unreadable(one), Self::Unreadable(other)) => one.key == other.key,
            _ => false,
        }
    }
}

impl From<SourceInput> for RowInput {
    fn from(item: SourceInput) -> Self {
        Self::Readable(item)
    }
}
