//! What `chatbot_attach()` was told about a table, as its triggers carry it: one argument, a JSON object.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::text::content::Format;

/// How a host table is kept in step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Which: in the names of the triggers and in `chatbot_sync.source.host`. It outlives renames and restores.
    pub host: i32,
    /// `document` or `link`.
    pub source_type: String,
    /// What to do where a provider fails.
    pub on_error: OnError,
    /// Whether vectors are made in the statement or through the queue.
    pub mode: Mode,
    /// How the content is written.
    pub content_format: Format,
    /// Whether the content was a JSON object of languages when it was looked at last.
    pub translated: bool,
    /// Whether this is a part of the table that was attached.
    pub partition: bool,
    /// The columns that `chatbot_attach()` named.
    pub columns: Columns,
}

/// Columns by what they are for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// The source's id.
    pub id: Column,
    /// The tenant's.
    pub chatbot: Column,
    /// The column with the content.
    pub content: Column,
    /// The columns that go into the metadata, under their names.
    pub metadata: Vec<Column>,
    /// The column that says whether searches find the row.
    pub enabled: Option<Column>,
    /// Written: pending, synced or error.
    pub status: Option<Column>,
    /// Written: whether it is synced.
    pub processed: Option<Column>,
    /// Written: why it is not.
    pub error: Option<Column>,
}

/// A column's name and its number, which tells a column that was renamed from one that was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column(pub String, pub i16);

/// What to do where a provider fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Keep the row and the vectors that it has, and say why it has no others.
    Mark,
    /// The statement fails.
    Raise,
}

/// Whether vectors are made in the statement or through the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// In the statement that changes the row.
    Sync,
    /// Afterwards, through the queue.
    Async,
}

impl OnError {
    /// The names of all values, as SQL has them.
    pub const NAMES: [&str; 2] = ["mark", "raise"];
}

impl Mode {
    /// The names of all values, as SQL has them.
    pub const NAMES: [&str; 2] = ["sync", "async"];
}

impl Host {
    /// From a trigger's argument.
    pub fn parse(argument: &str) -> Result<Self> {
        serde_json::from_str(argument)
            .map_err(|error| Error::invalid("a trigger's argument", error, "what chatbot_attach() makes"))
    }

    /// As a trigger's argument.
    pub fn argument(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Internal(error.to_string()))
    }
}

impl Columns {
    /// All that are named, with what they are for.
    pub fn all(&self) -> Vec<(&'static str, &Column)> {
        let mut all =
            vec![("id_column", &self.id), ("chatbot_column", &self.chatbot), ("content_column", &self.content)];
        all.extend(self.metadata.iter().map(|c| ("metadata_columns", c)));
        let optional = [
            ("enabled_column", &self.enabled),
            ("status_column", &self.status),
            ("processed_column", &self.processed),
            ("error_column", &self.error),
        ];
        all.extend(optional.into_iter().filter_map(|(role, column)| Some((role, column.as_ref()?))));
        all
    }

    /// As [`Self::all`], to be changed.
    pub fn all_mut(&mut self) -> Vec<(&'static str, &mut Column)> {
        let mut all = vec![
            ("id_column", &mut self.id),
            ("chatbot_column", &mut self.chatbot),
            ("content_column", &mut self.content),
        ];
        all.extend(self.metadata.iter_mut().map(|c| ("metadata_columns", c)));
        let optional = [
            ("enabled_column", &mut self.enabled),
            ("status_column", &mut self.status),
            ("processed_column", &mut self.processed),
            ("error_column", &mut self.error),
        ];
        all.extend(optional.into_iter().filter_map(|(role, column)| Some((role, column.as_mut()?))));
        all
    }

    /// Whether the row itself is told what became of it.
    pub fn written(&self) -> bool {
        self.status.is_some() || self.processed.is_some() || self.error.is_some()
    }
}

/// What a row says, or is to say, of its own state. Only what has a column counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowStatus {
    /// pending, synced, error.
    pub status: Option<String>,
    /// The value of `processed_column`: whether the source is synced.
    pub processed: Option<bool>,
    /// The value of `error_column`: why the source is not synced.
    pub error: Option<String>,
}

impl RowStatus {
    /// The status of a row whose vectors are whole.
    pub fn synced() -> Self {
        Self { status: Some("synced".to_owned()), processed: Some(true), error: None }
    }

    /// Its vectors are to come.
    pub fn pending() -> Self {
        Self { status: Some("pending".to_owned()), processed: Some(false), error: None }
    }

    /// It belongs to no chatbot, and so has none.
    pub fn without_chatbot(status_nullable: bool) -> Self {
        Self { status: (!status_nullable).then(|| "pending".to_owned()), processed: Some(false), error: None }
    }

    /// Its vectors could not be made.
    pub fn failed(error: String) -> Self {
        Self { status: Some("error".to_owned()), processed: Some(false), error: Some(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_triggers_argument_round_trips() {
        let column = |name: &str, number| Column(name.to_owned(), number);
        let host = Host {
            host: 7,
            source_type: "document".to_owned(),
            on_error: OnError::Mark,
            mode: Mode::Sync,
            content_format: Format::Html,
            translated: true,
            partition: false,
            columns: Columns {
                id: column("id", 1),
                chatbot: column("chat \"bot\"'s", 2),
                content: column("content", 3),
                metadata: vec![column("ä", 9)],
                enabled: None,
                status: Some(column("status", 4)),
                processed: None,
                error: None,
            },
        };
        let argument = host.argument().unwrap();
        assert!(
            argument.contains(r#""content_format":"html""#) && argument.contains(r#""on_error":"mark""#),
            "{argument}"
        );
        assert_eq!(Host::parse(&argument), Ok(host.clone()));
        assert!(host.columns.written());
        assert_eq!(host.columns.all().len(), 5);
        assert!(Host::parse("{}").is_err() && Host::parse("").is_err());
    }
}
