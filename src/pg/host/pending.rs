//! Rows that are synced outside the statement that wrote them: those from before the table was attached, those whose sync
//! failed, and those of the queue.

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys;

use crate::error::{Error, PostgresError, Result};
use crate::host::RowStatus;
use crate::ids::{ChatbotId, HostId};
use crate::pg::host::read::{self, Access, InvalidRow, ReadRow};
use crate::pg::host::status_writeback::StatusWriteback;
use crate::pg::host::table::HostTable;
use crate::pg::model::active_or_built_in;
use crate::pg::model::local_models::limit_batch;
use crate::pg::model::speed;
use crate::pg::model::speedometer::Speedometer;
use crate::pg::runtime::memory::Scratch;
use crate::pg::runtime::run_as::{Restriction, RunAs};
use crate::pg::runtime::subtransaction::try_row;
use crate::pg::runtime::{arguments, enabled, encoding, sql_error};
use crate::pg::store::host_row::{self, KeySql, ReadMode, RowIds};
use crate::pg::store::host_sources::{self, UnsyncedSource};
use crate::pg::store::host_triggers::{self as store, AttachedTable};
use crate::pg::store::model::active_model;
use crate::pg::store::relation::relation_name;
use crate::pg::sync::{self, OnFailure, RowHandling};
use crate::source::{RowInput, SourceKey, UnreadableRow};
use crate::text::content;

/// The outcome of one batch of `chatbot_sync_all()`.
#[derive(Debug, Default)]
pub struct BatchOutcome {
    /// The number of sources that were taken; 0: none is left.
    pub taken: i64,
    /// The number of sources that did not fail.
    pub synced: i64,
    /// The number of sources that failed, and are in error now.
    pub failed: i64,
    /// The key of the last source that was taken: the next batch begins after it.
    pub last: Option<SourceKey>,
    /// The error because of which further batches would fail too; `None`: the caller may go on.
    pub stopped: Option<String>,
}

/// Registers the rows of a table that are no sources yet as pending ones, and returns how many.
pub fn register_existing_rows(table: &HostTable) -> Result<i64> {
    const SLICE: i64 = 10_000;
    let as_owner = || RunAs::reading(table.relation.owner);
    let cursor = {
        let _owner = as_owner();
        // A condition that one row raises an error in is that row's own: it is found out when the row is synced.
        let may_raise = table.condition.as_ref().is_some_and(|condition| condition.may_raise);
        let enabled = host_row::enabled_sql(&table.host, !may_raise);
        host_row::RowCursor::open_latest_with_enabled(&table.relation.name, &KeySql::of(&table.host), &enabled)?
    };
    let mut registered = 0;
    loop {
        pgrx::check_for_interrupts!();
        let mut rows = {
            let _owner = as_owner();
            cursor.fetch_to_register(SLICE)?
        };
        if rows.is_empty() {
            return Ok(registered);
        }
        // Rows with ids that no source can have are left out.
        rows.retain(|row| table.key_of(row.chatbot_id, row.source_id).is_ok());
        registered += host_sources::register_pending(table.source_type, table.host.host, rows)?;
    }
}

/// Registers the existing rows of every host table. A table that is locked or cannot be read is skipped with a WARNING.
pub fn register_all_existing_rows() -> Result<()> {
    for table in store::all_attached_tables()? {
        let name = relation_name(table.oid)?;
        let Some(opened) = read::try_open(table.oid, pg_sys::AccessShareLock)? else {
            read::warn_locked(&name);
            continue;
        };
        // SAFETY: `opened` keeps the relation open.
        let registered = try_row(|| register_existing_rows(&unsafe { HostTable::bind(table.options()?, opened.0)? }));
        if let Err(message) = table_error_message(registered)? {
            pgrx::warning!("rows of {name} that are no sources yet cannot be found: {message}");
        }
    }
    Ok(())
}

/// Turns errors that concern one table into a message for a WARNING; other errors go up.
fn table_error_message<T>(
    done: Result<std::result::Result<T, PostgresError>>,
) -> Result<std::result::Result<T, String>> {
    match done {
        Ok(Ok(done)) => Ok(Ok(done)),
        Ok(Err(raised)) => Ok(Err(raised.message)),
        Err(error @ (Error::NoColumn { .. } | Error::ColumnType { .. })) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Embeds up to `batch` sources that are pending or in error, in the order of their keys. Rows that another session has
/// locked are skipped, since that session's own trigger syncs them; so are tables that another session has locked.
pub fn sync_batch(chatbot_id: Option<ChatbotId>, batch: Option<i32>, after: Option<SourceKey>) -> Result<BatchOutcome> {
    let limit = match arguments::required("batch", batch)? {
        n if n > 0 => usize::try_from(n).unwrap_or(1),
        n => return Err(Error::invalid("batch", n, "1 or more")),
    };
    encoding::require_utf8()?;
    if let Err(disabled) = enabled::require_enabled() {
        pgrx::notice!("{disabled}");
        return Ok(BatchOutcome::default());
    }
    let limit = limit_batch(&active_or_built_in()?, limit);
    host_row::check_constraints_at_once()?;
    let unsynced = host_sources::unsynced_sources(chatbot_id, after, i32::try_from(limit).unwrap_or(1))?;
    let mut done = BatchOutcome {
        taken: i64::try_from(unsynced.len()).unwrap_or(i64::MAX),
        last: unsynced.last().map(|source| source.key),
        ..BatchOutcome::default()
    };
    let mut by_host: HashMap<HostId, Vec<SourceKey>> = HashMap::new();
    for UnsyncedSource { key, host } in unsynced {
        by_host.entry(host).or_default().push(key);
    }
    let meter = Speedometer::start();
    for (host, keys) in by_host {
        let synced = read::with_table(host, pg_sys::RowExclusiveLock, |table| {
            match try_row(|| sync_rows(table, &keys, RowHandling::Together))? {
                Ok(synced) => Ok(synced),
                Err(_) => sync_rows(table, &keys, RowHandling::EachAlone),
            }
        });
        let synced = match synced {
            Err(error @ (Error::NoColumn { .. } | Error::ColumnType { .. })) => sync_unreadable(host, &keys, &error)?,
            synced => synced?.or_warn_if_locked(host, BatchOutcome::default())?,
        };
        done.synced += synced.synced;
        done.failed += synced.failed;
        done.stopped = synced.stopped;
        if done.stopped.is_some() {
            break;
        }
    }
    speed::record_in_step(active_model, meter.sample())?;
    Ok(done)
}

fn sync_rows(table: &HostTable, keys: &[SourceKey], handling: RowHandling) -> Result<BatchOutcome> {
    let mut done = BatchOutcome::default();
    let writeback = StatusWriteback::new(table);
    let inputs = read::read(table, keys, ReadMode::ForUpdate, handling)?.into_iter().map(|row| {
        writeback.record_current(row.input.key(), row.status);
        Ok(row.input)
    });
    let broken = sync::sync(inputs, OnFailure::Mark, handling, None, |key, outcome| {
        match outcome {
            Ok(_) => done.synced += 1,
            Err(_) => done.failed += 1,
        }
        writeback.record_outcome(key, outcome);
    })?;
    done.stopped = broken.map(|error| encoding::for_client(sql_error::one_line_message(&error)));
    writeback.write(Restriction::Maintenance, OnFailure::Mark, handling)?;
    Ok(done)
}

/// Marks sources as failed whose table lacks a column, or has it with another type, since it was attached.
fn sync_unreadable(host: HostId, keys: &[SourceKey], error: &Error) -> Result<BatchOutcome> {
    let mut done = BatchOutcome::default();
    let unreadable = |&key| UnreadableRow { key, host: Some(host), enabled: None, error: error.clone() };
    let inputs = keys.iter().map(|key| Ok(RowInput::Unreadable(unreadable(key))));
    sync::sync(inputs, OnFailure::Mark, RowHandling::Together, None, |_, _| done.failed += 1)?;
    Ok(done)
}

/// Calls `act` with the keys of a host table's rows, as the calling statement sees them, 10,000 at a time. A table that is
/// locked or cannot be read is skipped with a WARNING.
pub fn for_each_key_in_snapshot(host: HostId, mut act: impl FnMut(Vec<SourceKey>) -> Result<()>) -> Result<()> {
    const SLICE: i64 = 10_000;
    let seen = read::with_table(host, pg_sys::AccessShareLock, |table| {
        let as_owner = || RunAs::reading(table.relation.owner);
        let rows = try_row(|| {
            let _owner = as_owner();
            host_row::RowCursor::open_in_snapshot(&table.relation.name, &KeySql::of(&table.host))
        })?;
        loop {
            pgrx::check_for_interrupts!();
            let next = match &rows {
                Ok(rows) => try_row(|| {
                    let _owner = as_owner();
                    rows.fetch(SLICE)
                })?,
                Err(raised) => Err(raised.clone()),
            };
            match next {
                Ok(slice) if slice.is_empty() => return Ok(()),
                Ok(slice) => {
                    let key = |row: RowIds| table.key_of(row.chatbot_id, row.source_id).ok();
                    act(slice.into_iter().filter_map(key).collect())?;
                }
                Err(raised) => {
                    warn_unreadable(table, &raised.message);
                    return Ok(());
                }
            }
        }
    });
    match seen {
        Err(error @ (Error::NoColumn { .. } | Error::ColumnType { .. })) => {
            pgrx::warning!("rows of host table {host} cannot be read: {error}");
            Ok(())
        }
        seen => seen?.or_warn_if_locked(host, ()),
    }
}

/// Returns the rows of a host table with ids that no source can have.
pub fn invalid_rows(host: HostId) -> Result<Vec<InvalidRow>> {
    read::with_table(host, pg_sys::AccessShareLock, |table| {
        match table_error_message(try_row(|| read::invalid_rows(table)))? {
            Ok(invalid) => Ok(invalid),
            Err(message) => {
                warn_unreadable(table, &message);
                Ok(Vec::new())
            }
        }
    })?
    .or_warn_if_locked(host, Vec::new())
}

fn warn_unreadable(table: &HostTable, message: &str) {
    pgrx::warning!("rows of {} cannot be read: {message}", table.relation.name);
}

/// The status that a host row is to show, unless it was changed since it was read.
pub struct ExpectedStatus<'a> {
    /// The row as it was read.
    pub input: &'a RowInput,
    /// The status that it is to show.
    pub status: &'a RowStatus,
}

/// Writes the status of sources to their rows, unless a row was changed meanwhile. Returns the keys of rows that another
/// session has locked; all keys where it has locked the table.
pub fn write_statuses(host: HostId, expected: &[ExpectedStatus]) -> Result<Vec<SourceKey>> {
    let all = || expected.iter().map(|row| row.input.key()).collect::<Vec<_>>();
    let written = read::without_waiting(|| {
        let result = read::with_table(host, pg_sys::RowExclusiveLock, |table| {
            match try_row(|| write_row_statuses(table, expected, RowHandling::Together))? {
                Ok(locked) => Ok(locked),
                Err(_) => write_row_statuses(table, expected, RowHandling::EachAlone),
            }
        });
        match result {
            // The table lacks a column, or has it with another type: there is nothing to write to.
            Err(Error::NoColumn { .. } | Error::ColumnType { .. }) => Ok(Access::Detached),
            result => result,
        }
    })?;
    Ok(match written {
        Some(Access::Done(locked)) => locked,
        Some(Access::Detached) => Vec::new(),
        Some(Access::Locked) | None => all(),
    })
}

fn write_row_statuses(table: &HostTable, expected: &[ExpectedStatus], handling: RowHandling) -> Result<Vec<SourceKey>> {
    if !table.host.columns.has_status_columns() {
        return Ok(Vec::new());
    }
    let writeback = StatusWriteback::new(table);
    let keys: Vec<SourceKey> = expected.iter().map(|row| row.input.key()).collect();
    let by_key = |row: ReadRow| (row.input.key(), row);
    let mut rows: HashMap<SourceKey, ReadRow> =
        read::read(table, &keys, ReadMode::ForUpdate, handling)?.into_iter().map(by_key).collect();
    let existing: HashSet<SourceKey> =
        read::read(table, &keys, ReadMode::Latest, handling)?.into_iter().map(|row| row.input.key()).collect();
    let mut locked = Vec::new();
    for ExpectedStatus { input, status } in expected {
        let key = input.key();
        match rows.remove(&key) {
            Some(row) if row.input.same(input) => {
                writeback.record_current(key, row.status);
                writeback.record_expected(key, (*status).clone());
            }
            Some(_) => {}
            None if existing.contains(&key) => locked.push(key),
            None => {}
        }
    }
    writeback.write(Restriction::Maintenance, OnFailure::Mark, handling)?;
    Ok(locked)
}

/// Calls `act` with each row of a host table, as its sync would read it; of all host tables where `relation` is `None`.
pub fn for_each_input(relation: Option<pg_sys::Oid>, mut act: impl FnMut(RowInput) -> Result<()>) -> Result<()> {
    const SLICE: usize = 100;
    let mut tables = store::all_attached_tables()?;
    if let Some(oid) = relation {
        tables.retain(|table| table.oid == oid);
        if tables.is_empty() {
            return Err(Error::NotAttached { relation: relation_name(oid)? });
        }
    }
    for table in tables {
        let host = table.options()?.host;
        for_each_key_in_snapshot(host, |keys| {
            keys.chunks(SLICE).try_for_each(|slice| {
                pgrx::check_for_interrupts!();
                let _scratch = Scratch::new();
                let rows = read::read_inputs(host, slice, ReadMode::Snapshot)?.or_warn_if_locked(host, Vec::new())?;
                rows.into_iter().try_for_each(&mut act)
            })
        })?;
    }
    Ok(())
}

/// Returns how the content of each host table is read, by host id, as [`content::reading_version`] encodes it.
pub fn readings() -> Result<HashMap<HostId, i32>> {
    let reading = |table: AttachedTable| {
        let host = table.options()?;
        Ok((host.host, content::reading_version(&host.content_format, &host.translated)))
    };
    store::all_attached_tables()?.into_iter().map(reading).collect()
}

/// Returns the ids of all host tables.
pub fn hosts() -> Result<Vec<HostId>> {
    store::all_attached_tables()?.into_iter().map(|table| Ok(table.options()?.host)).collect()
}
