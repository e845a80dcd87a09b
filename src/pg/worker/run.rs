//! A worker: works off the queue of its database, and ends.

use std::ffi::CString;
use std::time::Duration;

use pgrx::pg_sys;

use crate::pg::model::{embedding_call, local_models, speed};
use crate::pg::queue::{self, Claim};
use crate::pg::runtime::wake::{request_worker, schedule_worker};
use crate::pg::runtime::{self, enabled};
use crate::pg::store;
use crate::pg::worker::{connect, in_transaction, report};

/// The time in which no worker is started for a database that another session copies or drops.
const YIELD_TIME: Duration = Duration::from_secs(5);
/// The size of a claim. A worker has two at a time, which make a batch: one is stored while the other is embedded.
const CLAIM_SIZE: usize = queue::BATCH_SIZE / 2;
/// The delay after which jobs are looked for again that are due but locked by another session.
const LOCKED_JOBS_DELAY: Duration = Duration::from_secs(1);
/// The number of log rows that are deleted by one transaction.
const PURGE_BATCH: i32 = 10_000;

#[doc(hidden)]
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn chatbot_sync_worker(argument: pg_sys::Datum) {
    connect(argument);
    let Ok(Some(owner)) = in_transaction(None, runtime::catalog::extension_owner) else {
        return schedule_worker(None);
    };
    embedding_call::set_yield_check(Some(must_yield_to_ddl));
    drain(owner);
    // SAFETY: statistics are reported as any backend reports them.
    unsafe { pg_sys::pgstat_report_stat(true) };
}

/// Claims, embeds and stores sources until none is due, and then deletes old rows of the log.
fn drain(owner: pg_sys::Oid) {
    if in_transaction(Some(owner), store::job::release_orphaned_leases).is_err() {
        return;
    }
    // One claim is chunked while the one before is embedded, and is embedded while that one is stored.
    let mut embedding: Option<Claim> = None;
    loop {
        pgrx::check_for_interrupts!();
        if must_yield_to_ddl() {
            return yield_to_ddl(owner, embedding);
        }
        report(Some(c"looking for sources that are due"));
        let next = match in_transaction(Some(owner), || queue::claim(CLAIM_SIZE)) {
            Ok(next) => next,
            // The error is in the log. The worker ends without announcing it, so that the launcher soon starts another.
            Err(_) if embedding.is_none() => return,
            Err(_) => None,
        };
        if next.as_ref().is_some_and(Claim::is_full) {
            request_worker(true);
        }
        let finished = embedding.take().map(|mut claim| {
            let activity = CString::new(format!("embedding {} sources", claim.len())).unwrap_or_default();
            report(Some(&activity));
            claim.finish();
            claim
        });
        if embedding_call::has_yielded_to_ddl() {
            return yield_to_ddl(owner, finished.into_iter().chain(next));
        }
        embedding = next;
        if let Some(claim) = &mut embedding {
            claim.start();
        }
        if let Some(mut claim) = finished {
            report(Some(c"storing vectors"));
            match in_transaction(Some(owner), || claim.store()) {
                Ok(()) => {
                    // The statuses are committed whatever becomes of the figure.
                    drop(in_transaction(Some(owner), || claim.write_statuses()));
                    drop(in_transaction(Some(owner), || speed::record(&claim.model, claim.sample)));
                }
                // Recorded as a failed attempt: otherwise the same claim would come first for ever.
                Err(message) => drop(in_transaction(Some(owner), || claim.give_up(&message))),
            }
        } else if embedding.is_none() {
            break;
        }
        report(None);
    }
    report(Some(c"purging the log"));
    while !must_yield_to_ddl()
        && matches!(in_transaction(Some(owner), || store::log::purge(PURGE_BATCH)), Ok(PURGE_BATCH))
    {}
    // Where embedding is off, the launcher is not to start a worker again.
    let next_due = || if enabled::is_enabled() { store::due_job::next_due() } else { Ok(None) };
    if let Ok(due) = in_transaction(Some(owner), next_due) {
        schedule_worker(due.map(|due| if due.is_zero() { LOCKED_JOBS_DELAY } else { due }));
    }
}

/// Ends the leases of the claims, for a later worker, since another session copies or drops the database.
fn yield_to_ddl(owner: pg_sys::Oid, claims: impl IntoIterator<Item = Claim>) {
    for claim in claims {
        let _ = in_transaction(Some(owner), || claim.release());
    }
    schedule_worker(Some(YIELD_TIME));
}

/// Whether another session waits to copy or drop the database, for which all sessions have to leave it.
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
    // SAFETY: a lock of this session's, taken if it is free and released at once.
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
    /// Whether the claim has its full size, so that more jobs may be due for another worker.
    fn is_full(&self) -> bool {
        self.len() >= local_models::limit_batch(&self.model.model, CLAIM_SIZE)
    }
}
