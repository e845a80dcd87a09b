//! Rows that wait: those that a table had before it was attached, and those whose provider failed.

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys;

use super::Opened;
use super::table::{State, Table};
use super::told::Told;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::pg::memory::Scratch;
use crate::pg::owner::{ActingAs, Restriction};
use crate::pg::store::host_row::{self, HostRow, Look};
use crate::pg::store::source::SourceKey;
use crate::pg::store::{host as store, hosted};
use crate::pg::sync::{self, Failing, Item};
use crate::pg::{args, report};
use crate::text::content::Content;

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
    const SLICE: i64 = 10_000;
    let columns = &table.host.columns;
    let as_owner = || ActingAs::new(table.relation.owner, Restriction::Maintenance);
    let ids = {
        let _owner = as_owner();
        let enabled = columns.enabled.as_ref().map(|c| c.0.as_str());
        host_row::Ids::now_with(&table.relation.name, &columns.id.0, &columns.chatbot.0, enabled)?
    };
    let mut adopted = 0;
    loop {
        pgrx::check_for_interrupts!();
        let rows = {
            let _owner = as_owner();
            ids.next_with(SLICE)?
        };
        if rows.is_empty() {
            return Ok(adopted);
        }
        for row in &rows {
            args::source(Some(row.1), Some(table.source_type), Some(row.0))?;
        }
        adopted += hosted::insert_all_pending(table.source_type, table.host.host, rows)?;
    }
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
    let waiting = hosted::waiting(chatbot_id, after, limit)?;
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
        with_table(host, pg_sys::RowExclusiveLock, |table| sync_rows(table, ids, &mut done))?;
        if done.stopped.is_some() {
            break;
        }
    }
    Ok(done)
}

fn sync_rows(table: &Table, ids: Vec<i64>, done: &mut Batch) -> Result<()> {
    let told = Told::new(table);
    let items = read(table, ids, Look::Lock)?.into_iter().map(|row| {
        let (item, state) = row?;
        told.says(item.key, state);
        Ok(item)
    });
    let broken = sync::sync(items, Failing::Mark, None, |key, outcome| {
        match outcome {
            Ok(_) => done.synced += 1,
            Err(_) => done.failed += 1,
        }
        told.is(key, outcome);
    })?;
    done.stopped = broken.map(|error| report::in_a_line(&error));
    told.write_back(Restriction::Maintenance)
}

/// Rows by their ids, each with what it says of itself. They are read as the table's owner.
pub fn read(table: &Table, ids: Vec<i64>, look: Look) -> Result<Vec<Result<(Item, State)>>> {
    let rows = {
        let _owner = ActingAs::new(table.relation.owner, Restriction::Maintenance);
        host_row::rows_by_id(&table.relation.name, &table.host.columns, ids, look)?
    };
    let item = |row| {
        let HostRow { source_id, chatbot_id, content, metadata, enabled, state } = row;
        let key = args::source(Some(chatbot_id), Some(table.source_type), Some(source_id))?;
        let translated = table.translated();
        let content = content.unwrap_or_else(|| if translated { "null" } else { "" }.to_owned());
        let content = Content::new(content, table.host.content_format, translated);
        Ok((Item { key, content, metadata, enabled, host: Some(table.host.host), fresh: false }, state))
    };
    Ok(rows.into_iter().map(item).collect())
}

/// The table of a host, open; none where it is detached.
fn with_table<R>(host: i32, lock: u32, act: impl FnOnce(&Table) -> Result<R>) -> Result<Option<R>> {
    let Some((relation, argument)) = store::root(host)? else { return Ok(None) };
    let opened = Opened::new(relation, lock);
    // SAFETY: it is open.
    let table = unsafe { Table::bind(Host::parse(&argument)?, opened.0)? };
    act(&table).map(Some)
}

/// What sources of a host table are by now.
pub fn items(host: i32, ids: Vec<i64>) -> Result<Vec<Item>> {
    let items = with_table(host, pg_sys::AccessShareLock, |table| {
        read(table, ids, Look::Now)?.into_iter().map(|row| row.map(|(item, _)| item)).collect()
    })?;
    Ok(items.unwrap_or_default())
}

/// What sources of a host table are, as the calling statement sees it.
pub fn items_as_seen(host: i32, ids: Vec<i64>) -> Result<Vec<Item>> {
    let items = with_table(host, pg_sys::AccessShareLock, |table| {
        read(table, ids, Look::AsCaller)?.into_iter().map(|row| row.map(|(item, _)| item)).collect()
    })?;
    Ok(items.unwrap_or_default())
}

/// The sources that a host table's rows are, as the calling statement sees them, some thousands at a time.
pub fn each_key_as_seen(host: i32, mut act: impl FnMut(Vec<SourceKey>) -> Result<()>) -> Result<()> {
    const SLICE: i64 = 10_000;
    with_table(host, pg_sys::AccessShareLock, |table| {
        let columns = &table.host.columns;
        let as_owner = || ActingAs::new(table.relation.owner, Restriction::Maintenance);
        let rows = {
            let _owner = as_owner();
            host_row::Ids::new(&table.relation.name, &columns.id.0, &columns.chatbot.0)?
        };
        loop {
            pgrx::check_for_interrupts!();
            let ids = {
                let _owner = as_owner();
                rows.next(SLICE)?
            };
            if ids.is_empty() {
                return Ok(());
            }
            let key = |(source_id, chatbot_id)| SourceKey { chatbot_id, source_type: table.source_type, source_id };
            act(ids.into_iter().map(key).collect())?;
        }
    })?;
    Ok(())
}

/// Tells rows what became of them, unless they were changed meanwhile: those that somebody else has locked.
pub fn tell(host: i32, outcomes: &[(&Item, &State)]) -> Result<Vec<SourceKey>> {
    let locked = with_table(host, pg_sys::RowExclusiveLock, |table| {
        if !table.host.columns.written() {
            return Ok(Vec::new());
        }
        let told = Told::new(table);
        let ids = || outcomes.iter().map(|(item, _)| item.key.source_id).collect();
        let mut rows: HashMap<SourceKey, (Item, State)> = read(table, ids(), Look::Lock)?
            .into_iter()
            .map(|row| row.map(|(i, s)| (i.key, (i, s))))
            .collect::<Result<_>>()?;
        let there: HashSet<SourceKey> = read(table, ids(), Look::Now)?
            .into_iter()
            .map(|row| row.map(|(item, _)| item.key))
            .collect::<Result<_>>()?;
        let mut locked = Vec::new();
        for (item, should) in outcomes {
            match rows.remove(&item.key) {
                Some((now, state)) if now.same(item) => {
                    told.says(item.key, state);
                    told.should_say(item.key, (*should).clone());
                }
                Some(_) => {}
                None if there.contains(&item.key) => locked.push(item.key),
                None => {}
            }
        }
        told.write_back(Restriction::Maintenance)?;
        Ok(locked)
    })?;
    Ok(locked.unwrap_or_default())
}

/// Everything that a host table has, or that all have, as it would be embedded.
pub fn each_item(relation: Option<pg_sys::Oid>, mut act: impl FnMut(Item) -> Result<()>) -> Result<()> {
    const SLICE: usize = 100;
    let roots = match relation {
        None => store::roots()?,
        Some(oid) => {
            let roots: Vec<_> = store::roots()?.into_iter().filter(|(root, _)| *root == oid).collect();
            if roots.is_empty() {
                return Err(Error::NotAttached { relation: store::relation_name(oid)? });
            }
            roots
        }
    };
    for (_, argument) in roots {
        let host = Host::parse(&argument)?.host;
        each_key_as_seen(host, |keys| {
            keys.chunks(SLICE).try_for_each(|slice| {
                pgrx::check_for_interrupts!();
                let _scratch = Scratch::new();
                let ids = slice.iter().map(|key| key.source_id).collect();
                items_as_seen(host, ids)?.into_iter().try_for_each(&mut act)
            })
        })?;
    }
    Ok(())
}

/// All host tables.
pub fn hosts() -> Result<Vec<i32>> {
    store::roots()?.into_iter().map(|(_, argument)| Ok(Host::parse(&argument)?.host)).collect()
}
