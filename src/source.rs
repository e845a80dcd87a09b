//! The words of the domain, without Postgres: a source, its key, what is to be stored for it, and the outcome of a
//! sync.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::{self, Display};
use std::rc::Rc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;
use crate::ids::{ChatbotId, HostId};
use crate::text::content::{Content, had_title};
use crate::text::title::Title;

thread_local! {
    static INTERNED: RefCell<HashSet<&'static str>> = RefCell::new(HashSet::from(SourceType::BUILT_IN.map(|kind| kind.0)));
}

/// A kind of source, by its name: `document`, `link`, or one that chatbot_add_source_type() has added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceType(&'static str);

impl SourceType {
    /// The kinds that the extension has itself. They come first in every list, and cannot be dropped.
    pub const BUILT_IN: [Self; 2] = [Self("document"), Self("link")];

    /// Returns the kind with this name; whether it was added is not checked. A session keeps each name once, as long as it
    /// lives, so that a key can be copied.
    pub fn named(name: &str) -> Self {
        INTERNED.with_borrow_mut(|interned| match interned.get(name) {
            Some(known) => Self(known),
            None => {
                let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
                interned.insert(kept);
                Self(kept)
            }
        })
    }

    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// Whether the extension has the kind itself.
    pub fn is_built_in(self) -> bool {
        Self::BUILT_IN.contains(&self)
    }
}

impl Display for SourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for SourceType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for SourceType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::named(&String::deserialize(deserializer)?))
    }
}

/// The status of a source, as `chatbot_sync.source.status` and the status columns of host tables have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// Its vectors are to be made or made again.
    Pending,
    /// Its vectors are those of its content.
    Synced,
    /// Its last sync failed, and it is not tried again by itself.
    Error,
}

impl SourceStatus {
    /// The length of the longest name, which a status column has to have room for.
    pub const MAX_LENGTH: i32 = 7;

    /// The status as SQL has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Synced => "synced",
            Self::Error => "error",
        }
    }

    /// Returns the status that a text names; `None` where it is another word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Synced, Self::Error].into_iter().find(|status| status.as_str() == text)
    }
}

/// The primary key of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceKey {
    /// The chatbot that the source belongs to.
    pub chatbot_id: ChatbotId,
    /// The kind of source.
    pub source_type: SourceType,
    /// The host row's id.
    pub source_id: i64,
}

impl Display for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chatbot_id, source_type, source_id } = self;
        write!(f, "{source_type} {source_id} of chatbot {chatbot_id}")
    }
}

/// A `jsonb` value in its text form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jsonb(pub(crate) String);

impl Jsonb {
    /// Returns a JSON object without fields.
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

    /// Returns the string value of a field; `None` where the field is missing or is not a string.
    pub fn text(&self, name: &str) -> Option<String> {
        if !self.0.contains(name) {
            return None;
        }
        serde_json::from_str::<serde_json::Value>(&self.0).ok()?.get(name)?.as_str().map(str::to_owned)
    }

    /// Returns the kind of JSON value in words, for a message.
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

/// Another attachment of the same host table: its rows are sources of another chatbot too, which may have their vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sibling {
    /// The id of the other chatbot.
    pub chatbot_id: ChatbotId,
    /// The kind of source that the rows are there.
    pub source_type: SourceType,
}

/// The content, metadata and state that a source is to have.
#[derive(Clone)]
pub struct SourceInput {
    /// The source's key.
    pub key: SourceKey,
    /// The content, which is cut into chunks and embedded.
    pub content: Content,
    /// The metadata of the source and of its chunks.
    pub metadata: Jsonb,
    /// Whether searches find it. While it is false, nothing is embedded.
    pub enabled: bool,
    /// The id of the host table that it comes from; `None` for a source that was stored by a function call.
    pub host: Option<HostId>,
    /// The same row as a source of other chatbots, which may have its vectors already.
    pub siblings: Rc<[Sibling]>,
    /// Whether the row was inserted by this very statement: then no source can exist yet, and the lookup is skipped.
    pub is_new: bool,
}

impl SourceInput {
    /// Returns a source that a caller of a function gives, with the title that its metadata has.
    pub fn by_hand(key: SourceKey, content: Content, metadata: Jsonb) -> Self {
        let content = content.with_title(Title::of_metadata(metadata.as_str()));
        Self { key, content, metadata, enabled: true, host: None, siblings: Rc::new([]), is_new: false }
    }

    /// Whether vectors with this hash were made from its content. Without a title of its own it also accepts vectors that
    /// were made with the title in its metadata: a table may be attached whose rows were embedded by hand before.
    pub fn has_hash(&self, hash: &[u8]) -> bool {
        self.content.hash() == hash
            || self.content.title().is_none()
                && had_title(hash)
                && self.content.has_hash_with_title(hash, Title::of_metadata(self.metadata.as_str()).as_ref())
    }

    /// Whether both have the same key, content, metadata and `enabled`. `host` and `is_new` are not compared.
    pub fn same(&self, other: &Self) -> bool {
        self.key == other.key
            && self.content.hash() == other.content.hash()
            && self.metadata == other.metadata
            && self.enabled == other.enabled
    }
}

/// The outcome of the sync of one source.
#[derive(Debug, Clone, Copy)]
pub struct SyncOutcome {
    /// The number of its chunks.
    pub chunks: i32,
    /// The number of these chunks that kept the vectors that were stored before.
    pub reused: i32,
    /// Whether the content had more chunks than `max_chunks` allows, so that its end is not embedded.
    pub truncated: bool,
}

/// The result of reading a host row: the source that it describes, or the error that reading it raised.
#[derive(Clone)]
pub enum RowInput {
    /// The row was read.
    Readable(SourceInput),
    /// Postgres raised an error while the row was read.
    Unreadable(UnreadableRow),
}

/// A host row that raised an error when it was read.
#[derive(Clone)]
pub struct UnreadableRow {
    /// The key of the row's source.
    pub key: SourceKey,
    /// The id of the row's host table.
    pub host: Option<HostId>,
    /// Whether searches are to find the source; `None` where that column cannot be read either.
    pub enabled: Option<bool>,
    /// The error that reading the row raised.
    pub error: Error,
}

impl RowInput {
    /// Returns the key of the row's source.
    pub fn key(&self) -> SourceKey {
        match self {
            Self::Readable(input) => input.key,
            Self::Unreadable(unreadable) => unreadable.key,
        }
    }

    /// Whether both describe the same source in the same way; of two unreadable rows only the keys are compared.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Readable(one), Self::Readable(other)) => one.same(other),
            // The message of an error may differ each time, for example where it contains a timestamp.
            (Self::Unreadable(one), Self::Unreadable(other)) => one.key == other.key,
            _ => false,
        }
    }
}

impl From<SourceInput> for RowInput {
    fn from(input: SourceInput) -> Self {
        Self::Readable(input)
    }
}
