//! Writes the status columns of host rows: whether their sources are pending, synced or in error.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use crate::error::{Error, PostgresError, Result};
use crate::host::RowStatus;
use crate::pg::host::read::{self, InvalidRow};
use crate::pg::host::row::Row;
use crate::pg::host::table::HostTable;
use crate::pg::runtime::run_as::{Restriction, RunAs};
use crate::pg::runtime::sql_error;
use crate::pg::runtime::subtransaction::try_row;
use crate::pg::store::host_row::{self, KeySql, RowIds, StatusUpdate};
use crate::pg::store::source_error;
use crate::pg::store::sync_error::SyncError;
use crate::pg::sync::{OnFailure, RowHandling};
use crate::source::{SourceKey, SyncOutcome};

thread_local! {
    /// The number of write-backs that are nested: users' triggers may cause another one.
    static WRITING_BACK: Cell<u32> = const { Cell::new(0) };
}

/// Users' triggers may write to host tables while statuses are written, which writes statuses again, but only up to this
/// depth: otherwise two triggers could call each other for ever.
const MAX_TRIGGER_DEPTH: u32 = 3;

/// The number of rows that are written together, so that a large statement does not keep all statuses in memory.
const BATCH_ROWS: usize = 10_000;

/// Marks, while it lives, that the extension itself is writing status columns.
pub struct WritebackGuard(u32);

impl WritebackGuard {
    /// Starts to mark it; marks may be nested.
    pub fn new() -> Self {
        Self(WRITING_BACK.replace(WRITING_BACK.get() + 1))
    }
}

/// Whether the extension itself is writing status columns.
pub fn is_writing_back() -> bool {
    WRITING_BACK.get() > 0
}

impl Drop for WritebackGuard {
    fn drop(&mut self) {
        WRITING_BACK.set(self.0);
    }
}

/// Collects the status that rows show and the one that they should show, and writes those that differ.
pub struct StatusWriteback<'a> {
    table: &'a HostTable,
    /// The status that each row shows; `None` where it cannot be read.
    current: RefCell<HashMap<SourceKey, Option<RowStatus>>>,
    changed: RefCell<Vec<StatusUpdate>>,
}

impl<'a> StatusWriteback<'a> {
    /// Starts a write-back to the rows of a table, with no row recorded.
    pub fn new(table: &'a HostTable) -> Self {
        Self { table, current: RefCell::default(), changed: RefCell::default() }
    }

    /// Records the status that a row in a slot shows now.
    pub fn record_row(&self, key: SourceKey, row: Row) {
        if self.table.host.columns.has_status_columns() {
            self.record_current(key, Some(self.table.row_status(row, &RowStatus::synced())));
        }
    }

    /// Records the status that a row shows now; `None` where it cannot be read, and then it is always written.
    pub fn record_current(&self, key: SourceKey, current: Option<RowStatus>) {
        if self.table.host.columns.has_status_columns() {
            self.current.borrow_mut().insert(key, current);
        }
    }

    /// Records what a sync made of a row's source: the status that the row is to show.
    pub fn record_outcome(&self, key: SourceKey, outcome: std::result::Result<Option<SyncOutcome>, &Error>) {
        self.record_expected(
            key,
            match outcome {
                Ok(Some(_)) => RowStatus::synced(),
                Ok(None) => RowStatus::pending(),
                Err(error) => RowStatus::failed(sql_error::one_line_message(error)),
            },
        );
    }

    /// Records the status that a row is to show. Ignored where the status that it shows now was not recorded.
    pub fn record_expected(&self, key: SourceKey, expected: RowStatus) {
        let Some(current) = self.current.borrow_mut().remove(&key) else { return };
        let HostTable { status, processed, error, .. } = self.table;
        let differs = current.is_none_or(|current| {
            status.is_some() && current.status != expected.status
                || processed.is_some() && current.processed != expected.processed
                || error.is_some() && current.error != expected.error
        });
        if differs {
            self.changed.borrow_mut().push(StatusUpdate { key, status: expected });
        }
    }

    /// Writes the rows whose status differs, if there are 10,000 or more.
    pub fn write_if_full(&self, restriction: Restriction, on_failure: OnFailure, handling: RowHandling) -> Result<()> {
        if self.changed.borrow().len() < BATCH_ROWS { Ok(()) } else { self.write(restriction, on_failure, handling) }
    }

    /// Writes the rows whose status differs. A row that refuses its status keeps the old one, and a WARNING is raised,
    /// unless `on_failure` is [`OnFailure::Raise`]: then the error fails the statement.
    pub fn write(&self, restriction: Restriction, on_failure: OnFailure, handling: RowHandling) -> Result<()> {
        let changed = self.changed.take();
        if changed.is_empty() || WRITING_BACK.get() >= MAX_TRIGGER_DEPTH {
            return Ok(());
        }
        let _guard = WritebackGuard::new();
        write(self.table, &changed, restriction, on_failure, handling)
    }
}

/// Writes the status `pending` to all rows of a table, and `error` with the reason to rows with ids that no source can have.
pub fn write_pending(table: &HostTable) -> Result<()> {
    let columns = &table.host.columns;
    if !columns.has_status_columns() {
        return Ok(());
    }
    let _guard = WritebackGuard::new();
    let on_failure = OnFailure::from(table.host.on_error);
    let together = || {
        let _owner = RunAs::new(table.relation.owner, Restriction::Session);
        host_row::write_pending(&table.relation.name, &table.host)
    };
    if on_failure == OnFailure::Raise {
        together()?;
    } else if try_row(together)?.is_err() {
        write_pending_row_by_row(table)?;
    }
    let invalid = read::invalid_rows(table)?;
    let update = |InvalidRow { key, error }| {
        let status = RowStatus::failed(sql_error::one_line_message(&error));
        StatusUpdate { key, status }
    };
    let invalid: Vec<StatusUpdate> = invalid.into_iter().map(update).collect();
    if invalid.is_empty() {
        Ok(())
    } else {
        write(table, &invalid, Restriction::Session, on_failure, RowHandling::EachAlone)
    }
}

fn write_pending_row_by_row(table: &HostTable) -> Result<()> {
    const SLICE: i64 = 10_000;
    let as_owner = || RunAs::reading(table.relation.owner);
    let rows = {
        let _owner = as_owner();
        host_row::RowCursor::open_latest(&table.relation.name, &KeySql::of(&table.host))?
    };
    loop {
        let slice = {
            let _owner = as_owner();
            rows.fetch(SLICE)?
        };
        if slice.is_empty() {
            return Ok(());
        }
        let pending = |row: RowIds| {
            let key = table.key_of(row.chatbot_id, row.source_id).ok()?;
            Some(StatusUpdate { key, status: RowStatus::pending() })
        };
        let updates: Vec<StatusUpdate> = slice.into_iter().filter_map(pending).collect();
        write(table, &updates, Restriction::Session, OnFailure::Mark, RowHandling::EachAlone)?;
    }
}

fn write(
    table: &HostTable,
    updates: &[StatusUpdate],
    restriction: Restriction,
    on_failure: OnFailure,
    handling: RowHandling,
) -> Result<()> {
    let write = |updates: &[StatusUpdate]| {
        let _owner = RunAs::new(table.relation.owner, restriction);
        host_row::write_statuses(&table.relation.name, &table.host, updates)
    };
    // If nothing can refuse the status, whatever is raised goes to the caller, which then handles each row alone. A
    // subtransaction here would cost a multixact for each row that was locked outside of it.
    if on_failure == OnFailure::Raise || handling == RowHandling::Together && !table.may_refuse_status()? {
        return write(updates);
    }
    if try_row(|| write(updates))?.is_ok() {
        return Ok(());
    }
    for one in updates.chunks(1) {
        if let Err(raised) = try_row(|| write(one))? {
            record_refused_status(table, &one[0], raised)?;
        }
    }
    Ok(())
}

fn record_refused_status(table: &HostTable, update: &StatusUpdate, raised: PostgresError) -> Result<()> {
    let StatusUpdate { key, status } = update;
    let status = status.status.clone().unwrap_or_default();
    pgrx::warning!("{key}: its row of {} does not take the status {status}: {}", table.relation.name, raised.message);
    source_error::note_refused_status(key, &SyncError::new(&raised.into_status_error()))
}
