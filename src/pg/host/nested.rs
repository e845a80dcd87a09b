//! Statements within statements: a user's trigger changes rows that a statement has just written. The triggers of the inner
//! statement run first and see newer rows than those of the outer one, which therefore reads such rows again instead of
//! using its transition tables.

use std::cell::RefCell;
use std::collections::HashSet;
use std::mem;

use pgrx::pg_sys;

use crate::error::Result;
use crate::host::OnError;
use crate::pg::host::key_set::KeySet;
use crate::pg::host::read;
use crate::pg::host::status_writeback::StatusWriteback;
use crate::pg::host::table::HostTable;
use crate::pg::runtime::run_as::Restriction;
use crate::pg::runtime::subtransaction::try_row;
use crate::pg::store::delete;
use crate::pg::store::host_row::ReadMode;
use crate::pg::sync::{self, RowHandling};
use crate::source::SourceKey;

thread_local! {
    /// Keys that inner statements have changed, cleared when a trigger of an outermost statement ends. A trigger of an outer
    /// statement reads the rows of these keys again.
    static CHANGED: RefCell<KeySet> = RefCell::default();
}

/// The nest level of a running trigger: 1 in a statement of the client, more within other triggers.
pub struct TriggerDepth(i32);

impl TriggerDepth {
    /// The depth of the trigger that is running.
    pub fn now() -> Self {
        // SAFETY: reads a counter; the function takes no argument.
        let depth = unsafe { pgrx::direct_function_call::<i32>(pg_sys::pg_trigger_depth, &[]) };
        Self(depth.unwrap_or(1))
    }

    /// Whether an inner statement has changed the source with this key.
    pub fn is_changed(&self, key: &SourceKey) -> bool {
        CHANGED.with_borrow(|changed| changed.contains(key))
    }

    /// Records that this statement changed these sources, for the triggers of the statements around it.
    pub fn record_changed(&self, keys: impl IntoIterator<Item = SourceKey>) {
        if self.is_inner() {
            CHANGED.with_borrow_mut(|changed| {
                for key in keys {
                    changed.add(key);
                }
            });
        }
    }

    /// Whether there is a statement around this one, whose triggers ask what this one has changed.
    pub fn is_inner(&self) -> bool {
        self.0 > 1
    }
}

impl Drop for TriggerDepth {
    fn drop(&mut self) {
        if self.0 <= 1 {
            drop(CHANGED.with_borrow_mut(mem::take));
        }
    }
}

/// The number of sources that are read and synced together.
const SLICE: usize = 1_000;

/// Collects keys of sources that are to be synced from their rows as these are by now.
pub struct RowsToReread<'a> {
    table: &'a HostTable,
    keys: RefCell<Vec<SourceKey>>,
}

impl<'a> RowsToReread<'a> {
    /// Starts with no key.
    pub fn new(table: &'a HostTable) -> Self {
        Self { table, keys: RefCell::default() }
    }

    /// Adds a key.
    pub fn push(&self, key: SourceKey) {
        self.keys.borrow_mut().push(key);
    }

    /// Syncs the collected sources, if there are 1,000 or more.
    pub fn sync_if_full(&self) -> Result<()> {
        if self.keys.borrow().len() < SLICE { Ok(()) } else { self.sync_current_rows() }
    }

    /// Syncs the collected sources.
    pub fn sync_current_rows(&self) -> Result<()> {
        let keys = self.keys.take();
        keys.chunks(SLICE).try_for_each(|keys| sync_current_rows(self.table, keys))
    }
}

/// Syncs sources from their rows as these are by now, and deletes those whose row is gone.
fn sync_current_rows(table: &HostTable, keys: &[SourceKey]) -> Result<()> {
    with_row_fallback(table, |handling| reread_rows(table, keys, handling))
}

fn reread_rows(table: &HostTable, keys: &[SourceKey], handling: RowHandling) -> Result<()> {
    let rows = read::read(table, keys, ReadMode::Latest, handling)?;
    let existing: HashSet<SourceKey> = rows.iter().map(|row| row.input.key()).collect();
    delete::delete_sources(&keys.iter().filter(|key| !existing.contains(key)).copied().collect::<Vec<_>>())?;
    let writeback = StatusWriteback::new(table);
    let mut seen = HashSet::new();
    let inputs = rows.into_iter().filter(|row| seen.insert(row.input.key())).map(|row| {
        writeback.record_current(row.input.key(), row.status);
        Ok(row.input)
    });
    let on_failure = table.host.on_error.into();
    sync::sync(inputs, on_failure, handling, None, |key, outcome| writeback.record_outcome(key, outcome))?;
    writeback.write(Restriction::Session, on_failure, handling)
}

/// Calls `act` for all rows of a statement together. If that raises and the table marks errors instead of raising them,
/// calls it again with each row alone.
pub fn with_row_fallback(table: &HostTable, mut act: impl FnMut(RowHandling) -> Result<()>) -> Result<()> {
    if table.host.on_error == OnError::Raise {
        return act(RowHandling::Together);
    }
    match try_row(|| act(RowHandling::Together))? {
        Ok(()) => Ok(()),
        Err(_) => act(RowHandling::EachAlone),
    }
}
