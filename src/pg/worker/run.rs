//! A worker: drains the queue of its database and leaves.

use std::ffi::CString;
use std::time::Duration;

use pgrx::pg_sys;

use crate::pg::model::embedding_call;
use crate::pg::queue::{self, Claim};
use crate::pg::runtime::wake::{request_worker, schedule_worker};
use crate::pg::runtime::{self, enabled};
use crate::pg::store;
use crate::pg::worker::{connect, report, transaction};

/// How long a database is left alone for a session that copies or drops it.
const YIELD_TIME: Duration = Duration::from_secs(5);
/// A worker has two halves of a batch at a time: one is stored, the other on its way.
const HALF: usize = queue::BATCH / 2;
/// Jobs that are due and locked by another session are looked at again after this time.
const LOCKED: Duration = Duration::from_secs(1);
/// Rows of the log that are taken away together.
const PURGED: i32 = 10_000;

#[doc(hidden)]
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn chatbot_sync_worker(argument: pg_sys::Datum) {
    connect(argument);
    let Ok(Some(owner)) = transaction(None, runtime::catalog::extension_owner) else {
        return schedule_worker(None);
    };
    embedding_call::set_yield_check(Some(must_yield_to_ddl));
    drain(owner);
    // SAFETY: statistics are reported as any backend reports them.
    unsafe { pg_sys::pgstat_report_stat(true) };
}

fn drain(owner: pg_sys::Oid) {
    if transaction(Some(owner), store::job::release_orphaned_leases).is_err() {
        return;
    }
    // A batch is cut while the one before is asked for, and asked for while that one is stored.
    let mut asked: Option<Claim> = None;
    loop {
        pgrx::check_for_interrupts!();
        if must_yield_to_ddl() {
            return yield_to_ddl(owner, asked);
        }
        report(Some(c"looking for sources that are due"));
        let next = match transaction(Some(owner), || queue::claim(HALF)) {
            Ok(next) => next,
            // It is in the log, and the launcher starts a worker again soon.
            Err(_) if asked.is_none() => return,
            Err(_) => None,
        };
        if next.as_ref().is_some_and(Claim::is_full) {
            request_worker(true);
        }
        let finished = asked.take().map(|mut claim| {
            let activity = CString::new(format!("embedding {} sources", claim.len())).unwrap_or_default();
            report(Some(&activity));
            claim.finish();
            claim
        });
        if embedding_call::has_yielded_to_ddl() {
            return yield_to_ddl(owner, finished.into_iter().chain(next));
        }
        asked = next;
        if let Some(claim) = &mut asked {
            claim.start();
        }
        if let Some(mut claim) = finished {
            report(Some(c"storing vectors"));
            match transaction(Some(owner), || claim.store()) {
                Ok(()) => drop(transaction(Some(owner), || claim.tell())),
                // What cannot be stored must not come first for ever.
                Err(message) => drop(transaction(Some(owner), || claim.give_up(&message))),
            }
        } else if asked.is_none() {
            break;
        }
        report(None);
    }
    report(Some(c"purging the log"));
    while !must_yield_to_ddl() && matches!(transaction(Some(owner), || store::log::purge(PURGED)), Ok(PURGED)) {}
    // Where it is switched off it is not to be started again.
    let next_due = || if enabled::is_enabled() { store::job::next_due() } else { Ok(None) };
    if let Ok(due) = transaction(Some(owner), next_due) {
        schedule_worker(due.map(|due| if due.is_zero() { LOCKED } else { due }));
    }
}

/// Another session copies or drops the database: releases what was claimed, for a later worker.
fn yield_to_ddl(owner: pg_sys::Oid, claims: impl IntoIterator<Item = Claim>) {
    for claim in claims {
        let _ = transaction(Some(owner), || claim.release());
    }
    schedule_worker(Some(YIELD_TIME));
}

/// Whether a session waits to copy or drop the database, for which every other session has to leave.
fn must_yield_to_ddl() -> bool {
    const DATABASE: u32 = 1262;
    let tag = pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: DATABASE,
        locktag_field3: runtime::database(),
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
        self.len() >= HALF
    }
}
