//! `chatbot_attach()` and `chatbot_detach()`: make a table a host table, and undo it.

use crate::error::{Error, Result};
use crate::host::{Column, HostColumns, HostOptions, Mode, OnError};
use crate::pg::host::pending::register_existing_rows;
use crate::pg::host::relation::{ExtensionDdlGuard, open_owned_table};
use crate::pg::host::table::HostTable;
use crate::pg::host::triggers::{make_triggers, number};
use crate::pg::host::{row_security, status_writeback};
use crate::pg::model;
use crate::pg::runtime::arguments;
use crate::pg::runtime::catalog_types::{Name, Regclass};
use crate::pg::store::{host_sources, host_triggers as store};
use crate::text::content::Format;

/// The arguments of `chatbot_attach()`, not checked yet; `None` is SQL's NULL.
pub struct Attach<'a> {
    /// The table that is attached.
    pub relation: Option<Regclass>,
    /// `document` or `link`.
    pub source_type: Option<&'a str>,
    /// The column with the row's id, which is the source's id. Required.
    pub id: Option<Name>,
    /// The column with the id of the chatbot that the row belongs to. Required.
    pub chatbot: Option<Name>,
    /// The column with the content. Required.
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
    /// What a failure does: `mark` the row, or `raise` an error.
    pub on_error: Option<&'a str>,
    /// `text` or `html`.
    pub content_format: Option<&'a str>,
}

/// Attaches a table: its rows become sources. Rows that it has already stay pending until `chatbot_sync_all()`.
/// The table is locked against writers until the transaction ends.
pub fn attach(told: Attach) -> Result<()> {
    let source_type = arguments::source_type(told.source_type)?;
    let on_error = match arguments::one_of("on_error", told.on_error, &OnError::NAMES)? {
        "raise" => OnError::Raise,
        _ => OnError::Mark,
    };
    let mode = match arguments::one_of("mode", told.mode, &Mode::NAMES)? {
        "async" => Mode::Async,
        _ => Mode::Sync,
    };
    let content_format = match arguments::one_of("content_format", told.content_format, &Format::NAMES)? {
        "html" => Format::Html,
        _ => Format::Text,
    };
    let column = |Name(name)| Column(name, 0);
    let named = |role, name| arguments::required(role, name).map(column);
    let mut columns = HostColumns {
        id: named("id_column", told.id)?,
        chatbot: named("chatbot_column", told.chatbot)?,
        content: named("content_column", told.content)?,
        metadata: arguments::required("metadata_columns", told.metadata)?
            .into_iter()
            .map(|name| arguments::required("metadata_columns", name).map(column))
            .collect::<Result<_>>()?,
        enabled: told.enabled.map(column),
        status: told.status.map(column),
        processed: told.processed.map(column),
        error: told.error.map(column),
    };
    check_distinct_columns(&columns)?;
    let (opened, relation) = open_owned_table(told.relation)?;
    if let Some(name) = store::attached_relative(relation.oid)? {
        return Err(Error::Attached { relation: name });
    }
    row_security::refuse_hidden_rows(relation.oid)?;
    number(&mut columns, &relation.name, opened.0)?;
    let mut host = HostOptions {
        host: 0,
        source_type: source_type.to_owned(),
        on_error,
        mode,
        content_format,
        translated: false,
        partition: false,
        columns,
    };
    // SAFETY: `opened` keeps the relation open.
    let table = unsafe { HostTable::bind(host.clone(), opened.0)? };
    if let Some(other) = store::other_table(source_type)? {
        pgrx::warning!(
            "{other} is attached as {source_type} too: an id that both tables use is one source, and the last one written wins"
        );
    }
    // Makes the model's row now: two first syncs would both insert it, and one would wait for the other's commit.
    model::active_or_insert_built_in()?;
    host.translated = table.is_translated();
    host.host = store::next_host()?;
    let _own = ExtensionDdlGuard::new();
    make_triggers(&host, &relation)?;
    // SAFETY: `opened` keeps the relation open.
    let table = unsafe { HostTable::bind(host, opened.0)? };
    let waiting = register_existing_rows(&table)?;
    status_writeback::write_pending(&table)?;
    if waiting > 0 {
        pgrx::notice!("{waiting} rows of {} are pending: CALL chatbot_sync_all();", relation.name);
    }
    Ok(())
}

/// Fails where a status column has a second role, or a column is named twice for the same role.
fn check_distinct_columns(columns: &HostColumns) -> Result<()> {
    let all = columns.all();
    for (at, (role, Column(name, _))) in all.iter().enumerate() {
        let twice = all[..at].iter().any(|(other, Column(n, _))| {
            let written = |r: &str| matches!(r, "status_column" | "processed_column" | "error_column");
            n == name && (written(role) || written(other) || role == other)
        });
        if twice {
            return Err(Error::invalid(role, format!("\"{name}\""), "a column that is named once"));
        }
    }
    Ok(())
}

/// Detaches a host table or a table of chatbots by dropping its triggers. Its sources are deleted with `delete_embeddings`;
/// otherwise they stay, as sources without a host table.
pub fn detach(relation: Option<Regclass>, delete_embeddings: Option<bool>) -> Result<()> {
    let delete = arguments::required("delete_embeddings", delete_embeddings)?;
    let (opened, relation) = open_owned_table(relation)?;
    drop(opened);
    let _own = ExtensionDdlGuard::new();
    let hosts = store::hosts_of(relation.oid)?;
    let chatbots = store::drop_chatbots_triggers(relation.oid, &relation.name)?;
    if hosts.is_empty() && !chatbots {
        return Err(Error::NotAttached { relation: relation.name });
    }
    for host in hosts {
        store::drop_triggers(host)?;
        if delete {
            host_sources::delete_host(host)?;
            continue;
        }
        let waited = host_sources::release_host(host)?;
        if waited > 0 {
            pgrx::notice!(
                "{waited} sources of {} were pending: they keep the vectors of their last embedded text; those without any are deleted",
                relation.name
            );
        }
    }
    Ok(())
}
