//! `chatbot_attach()`: makes a table a host table.

use crate::error::{Error, Result};
use crate::host::{Column, HostColumns, HostOptions, OnError, SyncMode, shortest};
use crate::ids::{ChatbotId, HostId};
use crate::pg::host::condition::CheckedCondition;
use crate::pg::host::pending::register_existing_rows;
use crate::pg::host::relation::{ExtensionDdlGuard, Relation, open_owned_table};
use crate::pg::host::table::HostTable;
use crate::pg::host::triggers::{make_triggers, set_column_numbers};
use crate::pg::host::{row_security, status_writeback};
use crate::pg::runtime::arguments;
use crate::pg::runtime::catalog_types::{Name, Regclass};
use crate::pg::store::host_triggers as store;
use crate::pg::store::relation::relation_name;
use crate::pg::{model, source_types};
use crate::text::content::Format;

/// The arguments of `chatbot_attach()`, not checked yet; `None` is SQL's NULL.
#[derive(Default)]
pub struct AttachArguments<'a> {
    /// The table that is attached.
    pub relation: Option<Regclass>,
    /// The kind of source that its rows are.
    pub source_type: Option<&'a str>,
    /// The column with the row's id, which is the source's id. Required.
    pub id: Option<Name>,
    /// The column with the id of the chatbot that the row belongs to. Required without `chatbot_id`.
    pub chatbot: Option<Name>,
    /// The column with the content. Required without `contents`.
    pub content: Option<Name>,
    /// The columns that go into the metadata. Required, but may be empty.
    pub metadata: Option<Vec<Option<Name>>>,
    /// The boolean column that says whether searches find the row; `None`: they find every row.
    pub enabled: Option<Name>,
    /// The column that `pending`, `synced` or `error` is written to; `None`: it is written nowhere.
    pub status: Option<Name>,
    /// The boolean column that is set to whether the row is synced; `None`: it is written nowhere.
    pub processed: Option<Name>,
    /// The column that the reason of a failure is written to; `None`: it is written nowhere.
    pub error: Option<Name>,
    /// `sync`: vectors are made in the statement that changes a row; `async`: by workers.
    pub mode: Option<&'a str>,
    /// The effect of a failure: `mark` the row, or `raise` an error.
    pub on_error: Option<&'a str>,
    /// `text` or `html`.
    pub content_format: Option<&'a str>,
    /// The column with the title, which goes before the text of every chunk.
    pub title: Option<Name>,
    /// The columns with the content, instead of one.
    pub contents: Option<Vec<Option<Name>>>,
    /// The condition that rows have to fulfil to be found, in SQL.
    pub condition: Option<&'a str>,
    /// The chatbot that all rows belong to, instead of a column.
    pub chatbot_id: Option<i64>,
    /// The format of each content column, instead of one for all.
    pub content_formats: Option<Vec<Option<&'a str>>>,
}

/// Defaults of arguments that another argument may take the place of.
const CHATBOT_COLUMN: &str = "chatbot_id";
const CONTENT_COLUMN: &str = "content";

fn to_column(Name(name): Name) -> Column {
    Column { name, number: 0 }
}

fn required_column(role: &'static str, name: Option<Name>) -> Result<Column> {
    arguments::required(role, name).map(to_column)
}

fn required_columns(role: &'static str, names: Vec<Option<Name>>) -> Result<Vec<Column>> {
    names.into_iter().map(|name| required_column(role, name)).collect()
}

fn check_format(parameter: &'static str, name: Option<&str>) -> Result<Format> {
    Ok(match arguments::one_of(parameter, name, &Format::NAMES)? {
        "html" => Format::Html,
        _ => Format::Text,
    })
}

/// Fails where a column is named although another argument takes its place.
fn refuse_both(role: &'static str, name: Option<&Name>, default: &str, instead: &str) -> Result<()> {
    match name {
        Some(Name(name)) if name != default => {
            Err(Error::invalid(role, format!("\"{name}\""), format!("nothing, since {instead} is given")))
        }
        _ => Ok(()),
    }
}

impl AttachArguments<'_> {
    /// Checks the arguments, and returns the options without what depends on the table.
    fn take_options(&mut self) -> Result<HostOptions> {
        let source_type = source_types::check_source_type("source_type", self.source_type)?;
        let on_error = match arguments::one_of("on_error", self.on_error, &OnError::NAMES)? {
            "raise" => OnError::Raise,
            _ => OnError::Mark,
        };
        let mode = match arguments::one_of("mode", self.mode, &SyncMode::NAMES)? {
            "async" => SyncMode::Async,
            _ => SyncMode::Sync,
        };
        let format_of_all = check_format("content_format", self.content_format)?;
        let id = required_column("id_column", self.id.take())?;
        let (chatbot, chatbot_id) = self.take_chatbot()?;
        let content = self.take_content()?;
        let content_format = match self.content_formats.take() {
            None => vec![format_of_all],
            Some(formats) => {
                let formats: Vec<Format> =
                    formats.into_iter().map(|name| check_format("content_formats", name)).collect::<Result<_>>()?;
                if formats.len() != content.len() {
                    let expected = format!("as many as there are content columns, {}", content.len());
                    return Err(Error::invalid("content_formats", formats.len(), expected));
                }
                shortest(&formats)
            }
        };
        let columns = HostColumns {
            id,
            chatbot,
            content,
            title: self.title.take().map(to_column),
            metadata: required_columns(
                "metadata_columns",
                arguments::required("metadata_columns", self.metadata.take())?,
            )?,
            enabled: self.enabled.take().map(to_column),
            status: self.status.take().map(to_column),
            processed: self.processed.take().map(to_column),
            error: self.error.take().map(to_column),
        };
        Ok(HostOptions {
            host: HostId(0),
            source_type,
            on_error,
            mode,
            content_format,
            translated: vec![false],
            partition: false,
            chatbot_id,
            condition: None,
            columns,
        })
    }

    /// Returns the column with the chatbot, or the chatbot of all rows.
    fn take_chatbot(&mut self) -> Result<(Option<Column>, Option<ChatbotId>)> {
        match self.chatbot_id {
            None => Ok((Some(required_column("chatbot_column", self.chatbot.take())?), None)),
            Some(id) => {
                refuse_both("chatbot_column", self.chatbot.as_ref(), CHATBOT_COLUMN, "chatbot_id")?;
                Ok((None, Some(arguments::check_chatbot_id(Some(id))?)))
            }
        }
    }

    /// Returns the columns with the content.
    fn take_content(&mut self) -> Result<Vec<Column>> {
        match self.contents.take() {
            None => Ok(vec![required_column("content_column", self.content.take())?]),
            Some(columns) if columns.is_empty() => {
                Err(Error::invalid("content_columns", "empty", "one column or more"))
            }
            Some(columns) => {
                refuse_both("content_column", self.content.as_ref(), CONTENT_COLUMN, "content_columns")?;
                required_columns("content_columns", columns)
            }
        }
    }
}

/// Attaches a table: its rows become sources. Rows that it has already stay pending until `chatbot_sync_all()`.
/// The table is locked against writers until the transaction ends.
pub fn attach(mut request: AttachArguments) -> Result<()> {
    let mut host = request.take_options()?;
    check_distinct_columns(&host)?;
    let (opened, relation) = open_owned_table(request.relation)?;
    if let Some(condition) = request.condition {
        // SAFETY: it is open.
        host.condition = Some(unsafe { CheckedCondition::check_new(condition, opened.0)? });
        check_distinct_columns(&host)?;
    }
    refuse_attached(&host, &relation)?;
    row_security::refuse_hidden_rows(relation.oid)?;
    set_column_numbers(&mut host, &relation.name, opened.0)?;
    // SAFETY: `opened` keeps the relation open.
    let table = unsafe { HostTable::bind(host.clone(), opened.0)? };
    warn_of_shared_sources(&host, &relation)?;
    // Makes the model's row now: two first syncs would both insert it, and one would wait for the other's commit.
    model::active_or_insert_built_in()?;
    host.translated = table.is_translated();
    host.host = store::next_host()?;
    let _own = ExtensionDdlGuard::new();
    make_triggers(&host, &relation)?;
    // SAFETY: it is open.
    let table = unsafe { HostTable::bind(host, opened.0)? };
    let registered = register_existing_rows(&table)?;
    status_writeback::write_pending(&table)?;
    if registered > 0 {
        pgrx::notice!("{registered} rows of {} are pending: CALL chatbot_sync_all();", relation.name);
    }
    Ok(())
}

/// Fails where a status column has a second role, or a column is named twice for the same role.
fn check_distinct_columns(host: &HostOptions) -> Result<()> {
    let all = host.all_columns();
    for (at, (role, Column { name, .. })) in all.iter().enumerate() {
        let twice = all[..at].iter().any(|(other, column)| {
            let written = HostColumns::is_written;
            column.name == *name && (written(role) || written(other) || role == other)
        });
        if twice {
            return Err(Error::invalid(role, format!("\"{name}\""), "a column that is named once"));
        }
    }
    Ok(())
}

/// Fails where the table is attached already. Several attachments are fine where each has a constant chatbot of its own and
/// status columns that the others do not name.
fn refuse_attached(host: &HostOptions, relation: &Relation) -> Result<()> {
    if let Some(name) = store::attached_relative(relation.oid)? {
        return Err(Error::Attached { relation: name });
    }
    for argument in store::trigger_arguments(relation.oid)? {
        let other = HostOptions::parse(&argument)?;
        let apart = host.chatbot_id.is_some() && other.chatbot_id.is_some() && host.chatbot_id != other.chatbot_id;
        if other.partition || !apart {
            return Err(Error::Attached { relation: relation.name.clone() });
        }
        for (role, Column { name, .. }) in host.all_columns() {
            let shared = other.all_columns().into_iter().any(|(other_role, column)| {
                *name == column.name && (HostColumns::is_written(role) || HostColumns::is_written(other_role))
            });
            if shared {
                let expected = format!(
                    "a column that the attachment to chatbot {} does not name",
                    other.chatbot_id.unwrap_or_default()
                );
                return Err(Error::invalid(role, format!("\"{name}\""), expected));
            }
        }
    }
    Ok(())
}

/// Warns where another table has sources of the same kind, for a chatbot that this one has sources for.
fn warn_of_shared_sources(host: &HostOptions, relation: &Relation) -> Result<()> {
    for other in store::all_attached_tables()? {
        let HostOptions { source_type, chatbot_id, .. } = other.options()?;
        let apart = host.chatbot_id.is_some() && chatbot_id.is_some() && host.chatbot_id != chatbot_id;
        if other.oid != relation.oid && source_type == host.source_type && !apart {
            pgrx::warning!(
                "{} is attached as {source_type} too: an id that both tables use is one source, and the last one written wins",
                relation_name(other.oid)?
            );
            return Ok(());
        }
    }
    Ok(())
}
