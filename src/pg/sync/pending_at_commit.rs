//! Sources say that they wait as soon as what changed them is committed. That is the last thing before the commit, and done
//! to those that nobody has locked: it waits for nobody, and nobody waits for it. What it passes over says so when a worker
//! takes it. A transaction that changes so many that they are no small thing to remember says it of them before.

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

/// Sources that are told together.
const SLICE: usize = 10_000;
/// Sources that are remembered until the commit: 10 MB of them.
const REMEMBERED: usize = 200_000;

thread_local! {
    static WAITING: RefCell<BTreeSet<SourceKey>> = const { RefCell::new(BTreeSet::new()) };
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Those of the sources that have a job when this transaction commits wait. They have it already.
pub fn mark_pending_at_commit(keys: impl IntoIterator<Item = SourceKey>) {
    let many = WAITING.with_borrow_mut(|waiting| {
        waiting.extend(keys);
        waiting.len() > REMEMBERED
    });
    if many {
        say(&WAITING.take().into_iter().collect::<Vec<_>>());
    }
    if !WATCHING.replace(true) {
        // SAFETY: a function of this library, which is never unloaded.
        unsafe { pg_sys::RegisterXactCallback(Some(ending), std::ptr::null_mut()) };
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn ending(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    let keys = WAITING.take();
    let last = matches!(event, pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT | pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE);
    if last && !keys.is_empty() {
        say(&keys.into_iter().collect::<Vec<_>>());
    }
}

/// In a subtransaction: whatever keeps it from being said is no reason to undo what the user did.
fn say(keys: &[SourceKey]) {
    // SAFETY: a snapshot of this transaction's, which nobody has any more at its end; taken off unless an error has done so.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    match subtransaction::within(|| mark(keys)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => pgrx::debug1!("sources that wait do not say so yet: {error}"),
        Err(caught) => pgrx::debug1!("sources that wait do not say so yet: {caught:?}"),
    }
    // SAFETY: as above.
    unsafe { pg_sys::PopActiveSnapshot() };
}

fn mark(keys: &[SourceKey]) -> Result<()> {
    let Some(owner) = extension_owner()? else { return Ok(()) };
    let (_newest, _owner) = (LatestSnapshot::new(), RunAs::new(owner, Restriction::Session));
    keys.chunks(SLICE).try_for_each(job::mark_waiting)
}
