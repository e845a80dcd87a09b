//! The usage of syncs whose transaction rolled back. Their rows of sync_log are rolled back too, but the requests were made.
//! They are counted in shared memory, from the server's start on, where the library is preloaded.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;

use pgrx::lwlock::PgLwLock;
use pgrx::shmem::PGRXSharedMemory;
use pgrx::{pg_guard, pg_sys};

use crate::embedding::batch::Usage;
use crate::ids::ModelId;
use crate::pg::runtime;

/// The number of combinations of database, model and SQLSTATE that are counted; further ones are not.
const MAX_SUMS: usize = 1024;
/// The code for an error that Postgres itself raised, a cancel among them.
const OTHER: [u8; 5] = *b"other";

/// The usage of rolled back syncs with one model, for one SQLSTATE.
#[derive(Debug, Clone, Copy)]
pub struct UsageSum {
    database: u32,
    /// The model that the requests were for.
    pub model_id: ModelId,
    code: [u8; 5],
    /// The number of syncs.
    pub syncs: u64,
    /// The requests, inputs and tokens that were used.
    pub usage: Usage,
}

impl UsageSum {
    /// The SQLSTATE that the sync failed with; 00000 where the sync succeeded but its transaction rolled back; `other` for
    /// an error that Postgres itself raised.
    pub fn sqlstate(&self) -> String {
        String::from_utf8_lossy(&self.code).into_owned()
    }

    fn add(&mut self, more: &Self) {
        self.syncs += more.syncs;
        self.usage += more.usage;
    }

    fn is_same_group(&self, other: &Self) -> bool {
        (self.database, self.model_id, self.code) == (other.database, other.model_id, other.code)
    }
}

#[derive(Clone, Copy)]
struct Tally {
    used: usize,
    sums: [UsageSum; MAX_SUMS],
}

// SAFETY: plain numbers.
unsafe impl PGRXSharedMemory for Tally {}

impl Default for Tally {
    fn default() -> Self {
        let none = Usage { requests: 0, inputs: 0, tokens: 0 };
        Self {
            used: 0,
            sums: [UsageSum { database: 0, model_id: ModelId(0), code: OTHER, syncs: 0, usage: none }; MAX_SUMS],
        }
    }
}

// SAFETY: it is given to pg_shmem_init! once, before it is used.
static TALLY: PgLwLock<Tally> = unsafe { PgLwLock::new(c"chatbot_sync_rolled_back") };

/// The usage of a transaction that has not ended yet.
struct UncommittedUsage {
    /// The nest level of the subtransaction that the requests were made in.
    depth: i32,
    sum: UsageSum,
}

thread_local! {
    /// The usage of this transaction so far.
    static UNCOMMITTED: RefCell<Vec<UncommittedUsage>> = const { RefCell::new(Vec::new()) };
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Reserves the shared memory, while the library is preloaded.
pub fn init() {
    pgrx::pg_shmem_init!(TALLY);
}

/// Counts the usage of a call, and records it when dropped, so that it counts however the call ends.
pub struct UsageCounter {
    depth: i32,
    sum: UsageSum,
}

impl UsageCounter {
    /// Starts to count for a model.
    pub fn new(model_id: ModelId) -> Self {
        if runtime::wake::is_preloaded() && !WATCHING.replace(true) {
            // SAFETY: the callbacks add numbers, and raise nothing.
            unsafe {
                pg_sys::RegisterXactCallback(Some(on_transaction_end), std::ptr::null_mut());
                pg_sys::RegisterSubXactCallback(Some(on_subtransaction_end), std::ptr::null_mut());
            }
        }
        let usage = Usage::default();
        Self { depth: depth(), sum: UsageSum { database: runtime::database(), model_id, code: OTHER, syncs: 0, usage } }
    }

    /// Counts more syncs.
    pub fn syncs(&mut self, more: usize) {
        self.sum.syncs += more as u64;
    }

    /// Adds the usage of more requests.
    pub fn usage(&mut self, more: Usage) {
        self.sum.usage += more;
    }

    /// Records the SQLSTATE that the call ended with; 00000 where it succeeded.
    pub fn set_sqlstate(&mut self, sqlstate: &str) {
        if let Ok(code) = sqlstate.as_bytes().try_into() {
            self.sum.code = code;
        }
    }
}

impl Drop for UsageCounter {
    fn drop(&mut self) {
        if !runtime::wake::is_preloaded() {
            return;
        }
        if self.sum.code == OTHER {
            // Postgres raised an error before the call could count its syncs, of which there was at least one.
            self.sum.syncs = self.sum.syncs.max(1);
        }
        UNCOMMITTED.with_borrow_mut(|uncommitted| match uncommitted.last_mut() {
            Some(last) if last.depth == self.depth && last.sum.is_same_group(&self.sum) => last.sum.add(&self.sum),
            _ => uncommitted.push(UncommittedUsage { depth: self.depth, sum: self.sum }),
        });
    }
}

/// Returns the usage of rolled back syncs in this database.
pub fn sums() -> Vec<UsageSum> {
    if !runtime::wake::is_preloaded() {
        return Vec::new();
    }
    let tally = TALLY.share();
    tally.sums[..tally.used].iter().filter(|sum| sum.database == runtime::database()).copied().collect()
}

fn depth() -> i32 {
    // SAFETY: a number of this backend's transaction.
    unsafe { pg_sys::GetCurrentTransactionNestLevel() }
}

/// Adds usage that was rolled back to the sums in shared memory.
fn count(lost: Vec<UncommittedUsage>) {
    let mut tally = TALLY.exclusive();
    for UncommittedUsage { sum, .. } in lost {
        let used = tally.used;
        match tally.sums[..used].iter_mut().find(|place| place.is_same_group(&sum)) {
            Some(place) => place.add(&sum),
            None if used < MAX_SUMS => {
                tally.sums[used] = sum;
                tally.used += 1;
            }
            None => {}
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction_end(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_ABORT => {
            let lost = UNCOMMITTED.take();
            if !lost.is_empty() {
                count(lost);
            }
        }
        pg_sys::XactEvent::XACT_EVENT_COMMIT | pg_sys::XactEvent::XACT_EVENT_PREPARE => drop(UNCOMMITTED.take()),
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_subtransaction_end(
    event: pg_sys::SubXactEvent::Type,
    _part: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    if UNCOMMITTED.with_borrow(Vec::is_empty) {
        return;
    }
    let now = depth();
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => UNCOMMITTED.with_borrow_mut(|uncommitted| {
            // The usage of a subtransaction belongs to its parent once it commits.
            uncommitted.iter_mut().filter(|usage| usage.depth >= now).for_each(|usage| usage.depth = now - 1);
        }),
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => UNCOMMITTED.with_borrow_mut(|uncommitted| {
            let (lost, kept): (Vec<_>, Vec<_>) = uncommitted.drain(..).partition(|usage| usage.depth >= now);
            *uncommitted = kept;
            if !lost.is_empty() {
                count(lost);
            }
        }),
        _ => {}
    }
}
