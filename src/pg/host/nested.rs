//! Statements within statements: a trigger of the user's that changes rows which a statement has just written. Its own
//! statement's triggers come first, and know better than those of the statement around it, whose rows are older by then.

use std::cell::RefCell;
use std::collections::HashSet;

use pgrx::pg_sys;

use super::pending;
use super::table::Table;
use super::told::Told;
use crate::error::Result;
use crate::pg::owner::Restriction;
use crate::pg::store::host_row::Look;
use crate::pg::store::leaving;
use crate::pg::store::source::SourceKey;
use crate::pg::sync;

thread_local! {
    /// What inner statements have changed since the outermost one began, or since an earlier one: of those the rows
    /// themselves are asked.
    static CHANGED: RefCell<HashSet<SourceKey>> = RefCell::default();
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
        CHANGED.with_borrow(|changed| changed.contains(key))
    }

    /// This one has changed them, for those around it to know.
    pub fn changes(&self, keys: impl IntoIterator<Item = SourceKey>) {
        if self.0 > 1 {
            CHANGED.with_borrow_mut(|changed| changed.extend(keys));
        }
    }
}

impl Drop for Depth {
    fn drop(&mut self) {
        if self.0 <= 1 {
            CHANGED.with_borrow_mut(HashSet::clear);
        }
    }
}

/// Makes sources what their rows are by now.
pub fn reread(table: &Table, keys: &[SourceKey]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut ids: Vec<i64> = keys.iter().map(|key| key.source_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = pending::read(table, ids, Look::Now)?;
    let there: HashSet<SourceKey> = rows.iter().flatten().map(|(item, _)| item.key).collect();
    leaving::delete_many(&keys.iter().filter(|key| !there.contains(key)).copied().collect::<Vec<_>>())?;
    let told = Told::new(table);
    let items = rows.into_iter().map(|row| {
        let (item, state) = row?;
        told.says(item.key, state);
        Ok(item)
    });
    sync::sync(items, table.host.on_error.into(), None, |key, outcome| told.is(key, outcome))?;
    told.write_back(Restriction::Session)
}
