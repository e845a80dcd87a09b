//! Rows that wait: those that a table had before it was attached, and those whose provider failed.

use std::collections::HashMap;

use pgrx::pg_sys;

use super::Opened;
use super::table::Table;
use super::trigger::Told;
use crate::content::Content;
use crate::error::{Error, Result};
use crate::host::{Host, OnError};
use crate::pg::owner::{ActingAs, Restriction};
use crate::pg::store::source::{self, SourceKey};
use crate::pg::store::{host as store, host::HostRow};
use crate::pg::sync::{self, Item};
use crate::pg::{args, report};

/// What became of some sources.
#[derive(Debug, Default)]
pub struct Batch {
    /// How many were looked at; 0 where none is left.
    pub taken: i64,
    /// Their vectors are whole now.
    pub synced: i64,
    /// They have an error now.
    pub failed: i64,
    /// The last one that was looked at.
    pub last: Option<SourceKey>,
    /// Why there is no point in going on.
    pub stopped: Option<String>,
}

/// Rows that nobody knows become sources that wait: how many.
pub fn adopt(table: &Table) -> Result<i64> {
    const SLICE: usize = 10_000;
    let columns = &table.host.columns;
    let rows = {
        let _owner = ActingAs::new(table.relation.owner, Restriction::Maintenance);
        let enabled = columns.enabled.as_ref().map(|c| c.0.as_str());
        store::rows(&table.relation.name, &columns.id.0, &columns.chatbot.0, enabled)?
    };
    for row in &rows {
        args::source(Some(row.1), Some(table.source_type), Some(row.0))?;
    }
    rows.chunks(SLICE).map(|rows| source::insert_all_pending(table.source_type, table.host.host, rows)).sum()
}

/// The same for every host table.
pub fn adopt_all() -> Result<()> {
    for (relation, argument) in store::roots()? {
        let opened = Opened::new(relation, pg_sys::AccessShareLock);
        // SAFETY: it is open.
        adopt(&unsafe { Table::bind(Host::parse(&argument)?, opened.0)? })?;
    }
    Ok(())
}

/// Embeds some of the sources that wait or failed, in the order of their keys. Rows that somebody else has locked are
/// passed over: who changes them embeds them.
pub fn sync_batch(chatbot_id: Option<i64>, batch: Option<i32>, after: Option<SourceKey>) -> Result<Batch> {
    let limit = match args::given("batch", batch)? {
        n if n > 0 => n,
        n => return Err(Error::invalid("batch", n, "1 or more")),
    };
    let waiting = source::waiting(chatbot_id, after, limit)?;
    let mut done = Batch {
        taken: i64::try_from(waiting.len()).unwrap_or(i64::MAX),
        last: waiting.last().map(|(key, _)| *key),
        ..Batch::default()
    };
    let mut by_host: HashMap<i32, Vec<i64>> = HashMap::new();
    for (key, host) in waiting {
        by_host.entry(host).or_default().push(key.source_id);
    }
    for (host, ids) in by_host {
        let Some((relation, argument)) = store::root(host)? else { continue };
        let opened = Opened::new(relation, pg_sys::RowExclusiveLock);
        // SAFETY: it is open.
        let table = unsafe { Table::bind(Host::parse(&argument)?, opened.0)? };
        sync_rows(&table, ids, &mut done)?;
        if done.stopped.is_some() {
            break;
        }
    }
    Ok(done)
}

fn sync_rows(table: &Table, ids: Vec<i64>, done: &mut Batch) -> Result<()> {
    let rows = {
        let _owner = ActingAs::new(table.relation.owner, Restriction::Maintenance);
        store::locked_rows(&table.relation.name, &table.host.columns, ids)?
    };
    let told = Told::new(table);
    let items = rows.into_iter().map(|row| {
        let HostRow { source_id, chatbot_id, content, metadata, enabled, state } = row;
        let key = args::source(Some(chatbot_id), Some(table.source_type), Some(source_id))?;
        told.says(key, state);
        let translated = table.translated();
        let content = content.unwrap_or_else(|| if translated { "null" } else { "" }.to_owned());
        Ok(Item {
            key,
            content: Content::new(content, table.host.content_format, translated),
            metadata: args::metadata(Some(metadata))?,
            enabled,
            host: Some(table.host.host),
            fresh: false,
        })
    });
    let broken = sync::sync(items, OnError::Mark, |key, outcome| {
        match outcome {
            Ok(_) => done.synced += 1,
            Err(_) => done.failed += 1,
        }
        told.is(key, outcome);
    })?;
    done.stopped = broken.map(|error| report::in_a_line(&error));
    told.write_back(Restriction::Maintenance)
}
