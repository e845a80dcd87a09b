//! Marks sources pending when the transaction that changed them commits. That is the last step before the commit, and
//! leaves out sources that another session has locked: it waits for no session, and hardly makes one wait. A worker
//! marks what was left out when it claims it. A transaction that changes more than [`MAX_REMEMBERED`] sources marks them
//! earlier, to keep its memory small.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::c_void;

use pgrx::pg_sys;

use crate::error::Result;
use crate::pg::runtime::catalog::extension_owner;
use crate::pg::runtime::run_as::{Restriction, RunAs};
use crate::pg::runtime::subtransaction;
use crate::pg::store::{LatestSnapshot, job};
use crate::source::SourceKey;

/// The number of sources that are marked by one statement.
const SLICE: usize = 10_000;
/// The number of sources that are kept in memory until the commit: about 10 MB.
const MAX_REMEMBERED: usize = 200_000;

thread_local! {
    static CHANGED_KEYS: RefCell<BTreeSet<SourceKey>> = const { RefCell::new(BTreeSet::new()) };
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Marks those of the sources pending, when this transaction commits, that have a job then. Their jobs must have been
/// inserted before this call.
pub fn mark_pending_at_commit(keys: impl IntoIterator<Item = SourceKey>) {
    let many = CHANGED_KEYS.with_borrow_mut(|waiting| {
        waiting.extend(keys);
        waiting.len() > MAX_REMEMBERED
    });
    if many {
        mark_in_subtransaction(&CHANGED_KEYS.take().into_iter().collect::<Vec<_>>());
    }
    if !WATCHING.replace(true) {
        // SAFETY: a function of this library, which is never unloaded.
        unsafe { pg_sys::RegisterXactCallback(Some(mark_before_commit), std::ptr::null_mut()) };
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn mark_before_commit(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    let keys = CHANGED_KEYS.take();
    let last = matches!(event, pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT | pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE);
    if last && !keys.is_empty() {
        mark_in_subtransaction(&keys.into_iter().collect::<Vec<_>>());
    }
}

/// Marks the sources in a subtransaction: an error here is no reason to undo what the user did.
fn mark_in_subtransaction(keys: &[SourceKey]) {
    // SAFETY: a snapshot of this transaction, which has none active at its end; removed below, unless an error has done so.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    match subtransaction::in_subtransaction(|| mark(keys)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => pgrx::debug1!("sources could not be marked pending: {error}"),
        Err(caught) => pgrx::debug1!("sources could not be marked pending: {caught:?}"),
    }
    // SAFETY: the snapshot that was pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
}

fn mark(keys: &[SourceKey]) -> Result<()> {
    let Some(owner) = extension_owner()? else { return Ok(()) };
    let (_newest, _owner) = (LatestSnapshot::new(), RunAs::new(owner, Restriction::Session));
    keys.chunks(SLICE).try_for_each(job::mark_pending_if_queued)
}
