//! The options of a host table, as `chatbot_attach()` writes them into its triggers: one trigger argument, a JSON
//! object.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::text::content::Format;

/// How a host table is kept in step with its sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostOptions {
    /// The host table's id. It is part of the names of its triggers, and is stored in `chatbot_sync.source.host`. It
    /// does not change when the table is renamed or restored from a dump.
    pub host: i32,
    /// `document` or `link`.
    pub source_type: String,
    /// What a failure of a provider does to the statement.
    pub on_error: OnError,
    /// Whether vectors are made in the statement that changes a row, or later through the queue.
    pub mode: Mode,
    /// The format of the content column: plain text or HTML.
    pub content_format: Format,
    /// Whether the content column held JSON objects of texts by language when the options were last written.
    pub translated: bool,
    /// Whether this is a partition of the table that was attached.
    pub partition: bool,
    /// The columns that `chatbot_attach()` named.
    pub columns: HostColumns,
}

/// The columns of a host table, by their use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostColumns {
    /// The column with the source's id.
    pub id: Column,
    /// The column with the chatbot's id.
    pub chatbot: Column,
    /// The column with the content.
    pub content: Column,
    /// The columns that go into the metadata, each under its own name.
    pub metadata: Vec<Column>,
    /// The column that says whether searches find the row; `None`: they find every row.
    pub enabled: Option<Column>,
    /// The column that the extension writes `pending`, `synced` or `error` to.
    pub status: Option<Column>,
    /// The column that the extension writes to whether the row is synced: true or false.
    pub processed: Option<Column>,
    /// The column that the extension writes the reason to when a sync failed, and NULL otherwise.
    pub error: Option<Column>,
}

/// A column's name and its attribute number (`attnum`): by the number a renamed column is distinguished from a dropped
/// one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column(pub String, pub i16);

/// What a failure of a provider does to the statement that changed the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The statement succeeds; the source keeps its vectors, and its status becomes `error` with the reason.
    Mark,
    /// The statement fails.
    Raise,
}

/// Whether vectors are made in the statement that changes a row, or later through the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// In the statement that changes the row.
    Sync,
    /// Afterwards, through the queue.
    Async,
}

impl OnError {
    /// The names of the values in SQL.
    pub const NAMES: [&str; 2] = ["mark", "raise"];
}

impl Mode {
    /// The names of the values in SQL.
    pub const NAMES: [&str; 2] = ["sync", "async"];
}

impl HostOptions {
    /// Reads the options from a trigger's argument.
    pub fn parse(argument: &str) -> Result<Self> {
        serde_json::from_str(argument)
            .map_err(|error| Error::invalid("a trigger's argument", error, "what chatbot_attach() makes"))
    }

    /// Writes the options as a trigger's argument.
    pub fn to_trigger_argument(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Internal(error.to_string()))
    }
}

impl HostColumns {
    /// Returns every column that is named, each with the parameter of `chatbot_attach()` that names it.
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

    /// Returns the same columns as [`Self::all`], to be changed.
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

    /// Whether the table has a status column of any kind.
    pub fn has_status_columns(&self) -> bool {
        self.status.is_some() || self.processed.is_some() || self.error.is_some()
    }
}

/// The values of a row's status columns. A value counts only where the table has the column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowStatus {
    /// The value of `status_column`: `pending`, `synced` or `error`; `None` is NULL.
    pub status: Option<String>,
    /// The value of `processed_column`: whether the source is synced; `None` is NULL.
    pub processed: Option<bool>,
    /// The value of `error_column`: why the source is not synced; `None` is NULL.
    pub error: Option<String>,
}

impl RowStatus {
    /// The status of a row whose vectors are all stored.
    pub fn synced() -> Self {
        Self { status: Some("synced".to_owned()), processed: Some(true), error: None }
    }

    /// The status of a row whose vectors are still to be made.
    pub fn pending() -> Self {
        Self { status: Some("pending".to_owned()), processed: Some(false), error: None }
    }

    /// The status of a row whose chatbot column is NULL, so that it has no source: NULL, or `pending` where the status
    /// column is NOT NULL.
    pub fn without_chatbot(status_nullable: bool) -> Self {
        Self { status: (!status_nullable).then(|| "pending".to_owned()), processed: Some(false), error: None }
    }

    /// The status of a row whose vectors could not be made.
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
        let host = HostOptions {
            host: 7,
            source_type: "document".to_owned(),
            on_error: OnError::Mark,
            mode: Mode::Sync,
            content_format: Format::Html,
            translated: true,
            partition: false,
            columns: HostColumns {
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
        let argument = host.to_trigger_argument().unwrap();
        assert!(
            argument.contains(r#""content_format":"html""#) && argument.contains(r#""on_error":"mark""#),
            "{argument}"
        );
        assert_eq!(HostOptions::parse(&argument), Ok(host.clone()));
        assert!(host.columns.has_status_columns());
        assert_eq!(host.columns.all().len(), 5);
        assert!(HostOptions::parse("{}").is_err() && HostOptions::parse("").is_err());
    }
}
