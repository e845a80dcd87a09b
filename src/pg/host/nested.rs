//! Statements within statements: a trigger of the user's that changes rows which a statement has just written. Its own
//! statement's triggers come first, and know better than those of the statement around it, whose rows are older by then.

use std::cell::RefCell;
use std::collections::HashSet;
use std::mem;

use pgrx::pg_sys;

use crate::error::Result;
use crate::host::OnError;
use crate::pg::host::key_set::KeySet;
use crate::pg::host::read;
use crate::pg::host::status_writeback::StatusWriteback;
use crate::pg::host::table::Table;
use crate::pg::runtime::run_as::Restriction;
use crate::pg::runtime::subtransaction::attempt;
use crate::pg::store::delete;
use crate::pg::store::host_row::ReadMode;
use crate::pg::sync::{self, Care};
use crate::source::SourceKey;

thread_local! {
    /// What inner statements have changed since the outermost one began, or since an earlier one: of those the rows
    /// themselves are asked.
    static CHANGED: RefCell<KeySet> = RefCell::default();
}

/// A trigger at its depth.
pub struct Depth(i32);

impl Depth {
    /// Of the trigger that runs.
    pub fn now() -> Self {
        // SAFETY: reads a counter; the function takes no argument.
        let depth = unsafe { pgrx::direct_function_call::<i32>(pg_sys::pg_trigger_depth, &[]) };
        Self(depth.unwrap_or(1))
    }

    /// Whether an inner statement has changed it.
    pub fn is_changed(&self, key: &SourceKey) -> bool {
        CHANGED.with_borrow(|changed| changed.knows(key))
    }

    /// This one has changed them, for those around it to know.
    pub fn record_changed(&self, keys: impl IntoIterator<Item = SourceKey>) {
        if self.is_inner() {
            CHANGED.with_borrow_mut(|changed| {
                for key in keys {
                    changed.add(key);
                }
            });
        }
    }

    /// Whether there are statements around this one, which look at what it has changed.
    pub fn is_inner(&self) -> bool {
        self.0 > 1
    }
}

impl Drop for Depth {
    fn drop(&mut self) {
        if self.0 <= 1 {
            drop(CHANGED.with_borrow_mut(mem::take));
        }
    }
}

/// Sources that are looked at together.
const SLICE: usize = 1_000;

/// Sources that are to be made what their rows are by now, a slice at a time.
pub struct Again<'a> {
    table: &'a Table,
    keys: RefCell<Vec<SourceKey>>,
}

impl<'a> Again<'a> {
    /// None yet.
    pub fn new(table: &'a Table) -> Self {
        Self { table, keys: RefCell::default() }
    }

    /// One more.
    pub fn push(&self, key: SourceKey) {
        self.keys.borrow_mut().push(key);
    }

    /// Looks at them, if they are many.
    pub fn reread_many(&self) -> Result<()> {
        if self.keys.borrow().len() < SLICE { Ok(()) } else { self.sync_current_rows() }
    }

    /// Looks at them.
    pub fn sync_current_rows(&self) -> Result<()> {
        let keys = self.keys.take();
        keys.chunks(SLICE).try_for_each(|keys| sync_current_rows(self.table, keys))
    }
}

/// Makes sources what their rows are by now.
fn sync_current_rows(table: &Table, keys: &[SourceKey]) -> Result<()> {
    carefully(table, |care| reread_rows(table, keys, care))
}

fn reread_rows(table: &Table, keys: &[SourceKey], care: Care) -> Result<()> {
    let rows = read::read(table, keys, ReadMode::Latest, care)?;
    let there: HashSet<SourceKey> = rows.iter().map(|row| row.input.key()).collect();
    delete::delete_many(&keys.iter().filter(|key| !there.contains(key)).copied().collect::<Vec<_>>())?;
    let writeback = StatusWriteback::new(table);
    let mut seen = HashSet::new();
    let inputs = rows.into_iter().filter(|row| seen.insert(row.input.key())).map(|row| {
        writeback.record_current(row.input.key(), row.state);
        Ok(row.input)
    });
    let failing = table.host.on_error.into();
    sync::sync(inputs, failing, care, None, |key, outcome| writeback.record_outcome(key, outcome))?;
    writeback.write(Restriction::Session, failing, care)
}

/// Does for a statement what its rows ask for: all of them together, and where that raises, and must not make the
/// statement fail, again with each row alone.
pub fn carefully(table: &Table, mut act: impl FnMut(Care) -> Result<()>) -> Result<()> {
    if table.host.on_error == OnError::Raise {
        return act(Care::Together);
    }
    match attempt(|| act(Care::Together))? {
        Ok(()) => Ok(()),
        Err(_) => act(Care::EachAlone),
    }
}
