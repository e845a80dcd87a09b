//! A worker: drains the queue of its database and leaves.

use std::ffi::CString;
use std::time::Duration;

use pgrx::pg_sys;

use super::{connect, report, tell_due, tell_now, transaction};
use crate::pg::queue::{self, Claim};
use crate::pg::{http, store};

/// Somebody who copies or drops the database has so long before it is looked at again.
const STEP_ASIDE: Duration = Duration::from_secs(5);
/// What is due and was not to be had, since somebody has it locked, is looked at again after it.
const LOCKED: Duration = Duration::from_secs(1);

#[doc(hidden)]
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn chatbot_sync_worker(argument: pg_sys::Datum) {
    connect(argument);
    let Ok(Some(owner)) = transaction(None, store::extension_owner) else { return tell_due(None) };
    http::set_aside(Some(must_step_aside));
    drain(owner);
    // SAFETY: what was counted is everybody's to see.
    unsafe { pg_sys::pgstat_report_stat(true) };
}

fn drain(owner: pg_sys::Oid) {
    if transaction(Some(owner), store::job::release_dead).is_err() {
        return;
    }
    loop {
        pgrx::check_for_interrupts!();
        if must_step_aside() {
            return tell_due(Some(STEP_ASIDE));
        }
        report(Some(c"looking for sources that are due"));
        let mut claim = match transaction(Some(owner), || queue::claim(usize::MAX)) {
            Ok(Some(claim)) => claim,
            Ok(None) => break,
            // Said in the log; the next nap is the next try.
            Err(_) => return,
        };
        if claim.is_full() {
            tell_now(true);
        }
        let activity = CString::new(format!("embedding {} sources", claim.len())).unwrap_or_default();
        report(Some(&activity));
        claim.embed();
        if http::stepped_aside() {
            let _ = transaction(Some(owner), || claim.release());
            return tell_due(Some(STEP_ASIDE));
        }
        report(Some(c"storing vectors"));
        match transaction(Some(owner), || claim.store()) {
            Ok(()) => drop(transaction(Some(owner), || claim.tell())),
            // What cannot be stored must not come first for ever.
            Err(message) => drop(transaction(Some(owner), || claim.give_up(&message))),
        }
        report(None);
    }
    if let Ok(due) = transaction(Some(owner), store::job::next_due) {
        tell_due(due.map(|due| if due.is_zero() { LOCKED } else { due }));
    }
}

/// Whether somebody wants to copy or drop the database, who waits for all its sessions to leave.
fn must_step_aside() -> bool {
    const DATABASE: u32 = 1262;
    let tag = pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: DATABASE,
        locktag_field3: super::database(),
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: 1,
    };
    let mode = pg_sys::RowExclusiveLock.cast_signed();
    // SAFETY: a lock of the session's, taken if it is free and given back at once.
    unsafe {
        let taken = pg_sys::LockAcquire(&raw const tag, mode, true, true);
        if taken == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return true;
        }
        pg_sys::LockRelease(&raw const tag, mode, true);
        false
    }
}

impl Claim {
    /// Whether there may be more for others.
    fn is_full(&self) -> bool {
        self.len() >= queue::BATCH
    }
}
