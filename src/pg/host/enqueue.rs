//! Mode async: jobs for the rows that a statement changed.

use crate::error::{Error, Result};
use crate::host::{OnError, RowStatus};
use crate::pg::host::row::{Row, TransitionTableScan};
use crate::pg::host::status_writeback::StatusWriteback;
use crate::pg::host::table::HostTable;
use crate::pg::runtime::run_as::Restriction;
use crate::pg::runtime::{sql_error, wake};
use crate::pg::store::host_row::RowToRegister;
use crate::pg::store::host_sources;
use crate::pg::store::job::{self, ChangedSource};
use crate::pg::sync::{RowHandling, pending_at_commit};

/// The number of keys that are deleted or queued together.
const SLICE: usize = 10_000;

/// Returns the priority of a statement's jobs: 1 for up to 20 rows and 0 for more, so that an interactive edit overtakes an
/// import.
pub fn priority(rows: usize) -> i32 {
    const FEW: usize = 20;
    i32::from(rows <= FEW)
}

/// Inserts jobs for changed sources, and wakes a worker if the transaction commits.
pub fn insert_jobs(table: &HostTable, changed: &[ChangedSource]) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    wake::wake_at_commit();
    job::insert_changed(table.host.host, priority(changed.len()), changed)
}

/// The operation of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// INSERT, or COPY.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

/// Inserts jobs for the rows that are `wanted` by their position; `old` has the same rows before the statement. It updates
/// no row that a worker may have locked, so that the statement never waits for a worker.
pub fn enqueue(
    table: &HostTable,
    mut old: Option<TransitionTableScan>,
    mut rows: TransitionTableScan,
    wanted: impl Fn(usize) -> bool,
    operation: Operation,
) -> Result<()> {
    let mut changed: Vec<ChangedSource> = Vec::new();
    let mut pending = Vec::new();
    let writeback = StatusWriteback::new(table);
    let (is_insert, is_delete) = (operation == Operation::Insert, operation == Operation::Delete);
    let (on_failure, handling) = (table.host.on_error.into(), RowHandling::EachAlone);
    let mut at = 0;
    loop {
        let (before, row) = (old.as_mut().and_then(TransitionTableScan::next), rows.next());
        if let Some(row) = row.filter(|_| wanted(at)) {
            match table.checked_key(row) {
                Some(Ok(key)) => {
                    let before = before.and_then(|before| table.key(before));
                    changed.push(ChangedSource { key, before: before.filter(|before| *before != key) });
                    if is_insert {
                        // What cannot be read now says so when it is synced.
                        let enabled = table.is_enabled_if_readable(row)?.unwrap_or(true);
                        pending.push(RowToRegister { source_id: key.source_id, chatbot_id: key.chatbot_id, enabled });
                    }
                }
                Some(Err(error)) if !is_delete && table.host.on_error == OnError::Raise => return Err(error),
                Some(Err(error)) if !is_delete => record_invalid_id(table, &writeback, row, &error),
                _ => {}
            }
        }
        at += 1;
        if changed.len() >= SLICE || row.is_none() {
            if is_insert {
                host_sources::insert_new_pending(table.source_type, table.host.host, &std::mem::take(&mut pending))?;
            }
            let changed = std::mem::take(&mut changed);
            insert_jobs(table, &changed)?;
            if !is_insert {
                pending_at_commit::mark_pending_at_commit(changed.iter().map(|source| source.key));
            }
        }
        writeback.write_if_full(Restriction::Session, on_failure, handling)?;
        if row.is_none() {
            return writeback.write(Restriction::Session, on_failure, handling);
        }
    }
}

/// Records the status `error`, with the reason, for a row with ids that no source can have.
pub fn record_invalid_id(table: &HostTable, writeback: &StatusWriteback, row: Row, error: &Error) {
    let key = table.unchecked_key(row);
    writeback.record_row(key, row);
    writeback.record_expected(key, RowStatus::failed(sql_error::one_line_message(error)));
}
