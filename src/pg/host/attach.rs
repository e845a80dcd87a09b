//! `chatbot_attach()` and `chatbot_detach()`.

use crate::error::{Error, Result};
use crate::host::{Column, Columns, Host, Mode, OnError};
use crate::pg::host::pending::register_existing_rows;
use crate::pg::host::relation::{OwnDdl, open_own};
use crate::pg::host::table::Table;
use crate::pg::host::triggers::{make_triggers, number};
use crate::pg::host::{row_security, status_writeback};
use crate::pg::model;
use crate::pg::runtime::arguments;
use crate::pg::runtime::catalog_types::{Name, Regclass};
use crate::pg::store::{host_sources, host_triggers as store};
use crate::text::content::Format;

/// What `chatbot_attach()` is told, as SQL gives it.
pub struct Attach<'a> {
    /// The table that is attached.
    pub relation: Option<Regclass>,
    /// `document` or `link`.
    pub source_type: Option<&'a str>,
    /// Columns that have to be named.
    pub id: Option<Name>,
    /// The tenant's.
    pub chatbot: Option<Name>,
    /// The column with the content.
    pub content: Option<Name>,
    /// The columns that go into the metadata.
    pub metadata: Option<Vec<Option<Name>>>,
    /// Columns that may be named.
    pub enabled: Option<Name>,
    /// The column that pending, synced or error is written to.
    pub status: Option<Name>,
    /// The column that says whether the row is synced.
    pub processed: Option<Name>,
    /// The column that the reason of a failure is written to.
    pub error: Option<Name>,
    /// sync, async.
    pub mode: Option<&'a str>,
    /// mark, raise.
    pub on_error: Option<&'a str>,
    /// text, html.
    pub content_format: Option<&'a str>,
}

/// Rows of a table become sources from now on; those that it has wait for `chatbot_sync_all()`.
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
    let mut columns = Columns {
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
    distinct(&columns)?;
    let (opened, relation) = open_own(told.relation)?;
    if let Some(name) = store::attached(relation.oid)? {
        return Err(Error::Attached { relation: name });
    }
    row_security::refuse_hidden_rows(relation.oid)?;
    number(&mut columns, &relation.name, opened.0)?;
    let mut host = Host {
        host: 0,
        source_type: source_type.to_owned(),
        on_error,
        mode,
        content_format,
        translated: false,
        partition: false,
        columns,
    };
    // SAFETY: it is open.
    let table = unsafe { Table::bind(host.clone(), opened.0)? };
    if let Some(other) = store::other_table(source_type)? {
        pgrx::warning!(
            "{other} is attached as {source_type} too: an id that both tables use is one source, and the last one written wins"
        );
    }
    // Now, so that no two first syncs make it at the same time.
    model::for_writing()?;
    host.translated = table.translated();
    host.host = store::next_host()?;
    let _own = OwnDdl::new();
    make_triggers(&host, &relation)?;
    // SAFETY: it is open.
    let table = unsafe { Table::bind(host, opened.0)? };
    let waiting = register_existing_rows(&table)?;
    status_writeback::write_pending(&table)?;
    if waiting > 0 {
        pgrx::notice!("{waiting} rows of {} are pending: CALL chatbot_sync_all();", relation.name);
    }
    Ok(())
}

/// A column that is written must be for nothing else.
fn distinct(columns: &Columns) -> Result<()> {
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

/// Rows of a table are no sources any more.
pub fn detach(relation: Option<Regclass>, delete_embeddings: Option<bool>) -> Result<()> {
    let delete = arguments::required("delete_embeddings", delete_embeddings)?;
    let (opened, relation) = open_own(relation)?;
    drop(opened);
    let _own = OwnDdl::new();
    let hosts = store::hosts_of(relation.oid)?;
    let chatbots = store::drop_chatbots_triggers(relation.oid, &relation.name)?;
    if hosts.is_empty() && !chatbots {
        return Err(Error::NotAttached { relation: relation.name });
    }
    for host in hosts {
        store::drop_triggers(host)?;
        if delete { host_sources::delete_host(host)? } else { host_sources::release_host(host)? }
    }
    Ok(())
}
