//! The options of a host table, as `chatbot_attach()` writes them into its triggers: one trigger argument,
//! a JSON object.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ids::{ChatbotId, HostId};
use crate::source::{SourceStatus, SourceType};
use crate::text::content::Format;

/// The options of one attachment of a host table. A table may have several, each with another constant chatbot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostOptions {
    /// The host table's id. It is part of the names of its triggers, and is stored in `chatbot_sync.source.host`. It
    /// does not change when the table is renamed or restored from a dump.
    pub host: HostId,
    /// The kind of source that its rows are.
    pub source_type: SourceType,
    /// The effect of a provider's failure on the statement that changed the row.
    pub on_error: OnError,
    /// Whether vectors are made in the statement that changes a row, or later through the queue.
    pub mode: SyncMode,
    /// The format of the content columns, plain text or HTML: one for all, or one for each.
    #[serde(with = "one_or_many")]
    pub content_format: Vec<Format>,
    /// Whether the content columns held JSON objects of texts by language when the options were last written: one for all,
    /// or one for each.
    #[serde(with = "one_or_many")]
    pub translated: Vec<bool>,
    /// Whether this is a partition of the table that was attached.
    pub partition: bool,
    /// The chatbot that all rows belong to; `None`: a column has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chatbot_id: Option<ChatbotId>,
    /// The condition that rows have to fulfil to be found; `None`: searches find every row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// The columns that `chatbot_attach()` named.
    pub columns: HostColumns,
}

/// The columns of a host table, by their use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostColumns {
    /// The column with the source's id.
    pub id: Column,
    /// The column with the chatbot's id; `None`: all rows belong to one chatbot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chatbot: Option<Column>,
    /// The columns with the content, each a paragraph of its own.
    #[serde(with = "one_or_many")]
    pub content: Vec<Column>,
    /// The column with the title, which goes before the text of every chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Column>,
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

/// A column of a host table. It is written as the array `["name", number]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(String, i16)", into = "(String, i16)")]
pub struct Column {
    /// The column's name.
    pub name: String,
    /// The column's attribute number (`attnum`), by which a renamed column is distinguished from a dropped one; 0 where it
    /// is not looked up yet.
    pub number: i16,
}

impl From<(String, i16)> for Column {
    fn from((name, number): (String, i16)) -> Self {
        Self { name, number }
    }
}

impl From<Column> for (String, i16) {
    fn from(column: Column) -> Self {
        (column.name, column.number)
    }
}

/// An SQL expression over columns of the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The expression as Postgres writes it.
    pub sql: String,
    /// The columns that it reads.
    pub columns: Vec<Column>,
}

/// The effect of a provider's failure on the statement that changed the row.
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
pub enum SyncMode {
    /// They are made in the statement that changes the row.
    Sync,
    /// They are made afterwards, through the queue.
    Async,
}

impl OnError {
    /// The names of the values in SQL.
    pub const NAMES: [&str; 2] = ["mark", "raise"];
}

impl SyncMode {
    /// The names of the values in SQL.
    pub const NAMES: [&str; 2] = ["sync", "async"];
}

/// A list that is written as its only element where it has no other, as it was before there could be several.
mod one_or_many {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany<T> {
        One(T),
        Many(Vec<T>),
    }

    pub fn serialize<T: Serialize, S: Serializer>(list: &Vec<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match list.as_slice() {
            [one] => one.serialize(serializer),
            _ => list.serialize(serializer),
        }
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
        Ok(match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(list) => list,
        })
    }
}

/// Returns the shortest list that stands for the same elements: one element where all are the same.
pub fn shortest<T: Copy + PartialEq>(list: &[T]) -> Vec<T> {
    match list {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => vec![*first],
        _ => list.to_vec(),
    }
}

impl HostOptions {
    /// Reads the options from a trigger's argument.
    pub fn parse(argument: &str) -> Result<Self> {
        let invalid = |got: String| Error::invalid("a trigger's argument", got, "what chatbot_attach() makes");
        let host: Self = serde_json::from_str(argument).map_err(|error| invalid(error.to_string()))?;
        let fits = |length: usize| length == 1 || length == host.columns.content.len();
        let whole = !host.columns.content.is_empty()
            && fits(host.content_format.len())
            && fits(host.translated.len())
            && host.columns.chatbot.is_some() != host.chatbot_id.is_some();
        if whole { Ok(host) } else { Err(invalid(argument.to_owned())) }
    }

    /// Writes the options as a trigger's argument.
    pub fn to_trigger_argument(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Internal(error.to_string()))
    }

    /// Returns the format of the content column at this place.
    pub fn format(&self, at: usize) -> Format {
        self.content_format.get(at).or(self.content_format.first()).copied().unwrap_or_default()
    }

    /// Removes one of several content columns.
    pub fn remove_content_column(&mut self, name: &str) {
        let kept = |at: &usize| self.columns.content[*at].name != name;
        let kept: Vec<usize> = (0..self.columns.content.len()).filter(kept).collect();
        let translated = |at: usize| self.translated.get(at).or(self.translated.first()).copied().unwrap_or_default();
        let formats: Vec<Format> = kept.iter().map(|&at| self.format(at)).collect();
        let translated: Vec<bool> = kept.iter().map(|&at| translated(at)).collect();
        self.content_format = shortest(&formats);
        self.translated = shortest(&translated);
        self.columns.content.retain(|column| column.name != name);
    }

    /// Returns every column that is named, and those of the condition, each with the parameter that names it.
    pub fn all_columns(&self) -> Vec<(&'static str, &Column)> {
        let of_condition = self.condition.iter().flat_map(|condition| &condition.columns);
        self.columns.all().into_iter().chain(of_condition.map(|column| ("condition", column))).collect()
    }

    /// Returns the same columns as [`Self::all_columns`], to be changed.
    pub fn all_columns_mut(&mut self) -> Vec<(&'static str, &mut Column)> {
        let of_condition = self.condition.iter_mut().flat_map(|condition| &mut condition.columns);
        let mut all = self.columns.all_mut();
        all.extend(of_condition.map(|column| ("condition", column)));
        all
    }
}

impl HostColumns {
    /// Returns every column that is named, each with the parameter of `chatbot_attach()` that names it.
    pub fn all(&self) -> Vec<(&'static str, &Column)> {
        let mut all = vec![("id_column", &self.id)];
        all.extend(self.chatbot.iter().map(|c| ("chatbot_column", c)));
        all.extend(self.content.iter().map(|c| (Self::content_role(self.content.len()), c)));
        all.extend(self.title.iter().map(|c| ("title_column", c)));
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
        let content = Self::content_role(self.content.len());
        let mut all = vec![("id_column", &mut self.id)];
        all.extend(self.chatbot.iter_mut().map(|c| ("chatbot_column", c)));
        all.extend(self.content.iter_mut().map(|c| (content, c)));
        all.extend(self.title.iter_mut().map(|c| ("title_column", c)));
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

    /// Returns the parameter of `chatbot_attach()` that names the content, by the number of its columns.
    pub fn content_role(columns: usize) -> &'static str {
        if columns == 1 { "content_column" } else { "content_columns" }
    }

    /// Whether the extension writes to the column that a parameter names.
    pub fn is_written(role: &str) -> bool {
        matches!(role, "status_column" | "processed_column" | "error_column")
    }

    /// Whether the table has a status column of any kind.
    pub fn has_status_columns(&self) -> bool {
        self.status.is_some() || self.processed.is_some() || self.error.is_some()
    }
}

/// The values of a row's status columns. A value counts only where the table has the column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowStatus {
    /// The value of `status_column`; `None` is NULL. A user may have written any text, the extension writes the name
    /// of a [`SourceStatus`].
    pub status: Option<String>,
    /// The value of `processed_column`: whether the source is synced; `None` is NULL.
    pub processed: Option<bool>,
    /// The value of `error_column`: why the source is not synced; `None` is NULL.
    pub error: Option<String>,
}

impl RowStatus {
    /// The status of a row whose vectors are all stored.
    pub fn synced() -> Self {
        Self::new(SourceStatus::Synced, None)
    }

    /// The status of a row whose vectors are still to be made.
    pub fn pending() -> Self {
        Self::new(SourceStatus::Pending, None)
    }

    /// The status of a row whose vectors could not be made.
    pub fn failed(error: String) -> Self {
        Self::new(SourceStatus::Error, Some(error))
    }

    /// The status of a row whose chatbot column is NULL, so that it has no source: NULL, or `pending` where the status
    /// column is NOT NULL.
    pub fn without_chatbot(status_nullable: bool) -> Self {
        let pending = Self::pending();
        if status_nullable { Self { status: None, ..pending } } else { pending }
    }

    fn new(status: SourceStatus, error: Option<String>) -> Self {
        let processed = Some(status == SourceStatus::Synced);
        Self { status: Some(status.as_str().to_owned()), processed, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, number: i16) -> Column {
        Column { name: name.to_owned(), number }
    }

    fn host() -> HostOptions {
        HostOptions {
            host: HostId(7),
            source_type: SourceType::named("document"),
            on_error: OnError::Mark,
            mode: SyncMode::Sync,
            content_format: vec![Format::Html],
            translated: vec![true],
            partition: false,
            chatbot_id: None,
            condition: None,
            columns: HostColumns {
                id: column("id", 1),
                chatbot: Some(column("chat \"bot\"'s", 2)),
                content: vec![column("content", 3)],
                title: None,
                metadata: vec![column("ä", 9)],
                enabled: None,
                status: Some(column("status", 4)),
                processed: None,
                error: None,
            },
        }
    }

    #[test]
    fn trigger_argument_round_trips() {
        let host = host();
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

    #[test]
    fn argument_with_one_content_column_is_as_version_0_2_wrote_it() {
        let before = r#"{"host":7,"source_type":"document","on_error":"mark","mode":"sync","content_format":"html","translated":true,"partition":false,"columns":{"id":["id",1],"chatbot":["chat \"bot\"'s",2],"content":["content",3],"metadata":[["ä",9]],"enabled":null,"status":["status",4],"processed":null,"error":null}}"#;
        assert_eq!(HostOptions::parse(before), Ok(host()));
        assert_eq!(host().to_trigger_argument().unwrap(), before);
    }

    #[test]
    fn several_columns_a_constant_chatbot_and_a_condition_round_trip() {
        let mut host = HostOptions {
            content_format: vec![Format::Text, Format::Html],
            translated: vec![false, true],
            chatbot_id: Some(ChatbotId(3)),
            condition: Some(Condition { sql: "(price > 0)".to_owned(), columns: vec![column("price", 8)] }),
            ..host()
        };
        host.columns.chatbot = None;
        host.columns.content = vec![column("name", 5), column("description", 6)];
        host.columns.title = Some(column("name", 5));
        assert_eq!(HostOptions::parse(&host.to_trigger_argument().unwrap()), Ok(host.clone()));
        assert_eq!((host.format(0), host.format(1)), (Format::Text, Format::Html));
        assert_eq!(host.all_columns_mut().len(), 7);
        // Neither a column nor a constant, and as many formats as there are no columns for.
        assert!(
            HostOptions::parse(&HostOptions { chatbot_id: None, ..host.clone() }.to_trigger_argument().unwrap())
                .is_err()
        );
        host.columns.content.push(column("more", 7));
        assert!(HostOptions::parse(&host.to_trigger_argument().unwrap()).is_err());
    }

    #[test]
    fn equal_elements_become_one() {
        assert_eq!((shortest(&[true, true]), shortest(&[true, false])), (vec![true], vec![true, false]));
    }
}
