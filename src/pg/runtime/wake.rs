//! Wakes the launcher when a transaction commits: notes in shared memory that the database has something to do. There is shared memory
//! only where the library is preloaded.

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use pgrx::lwlock::PgLwLock;
use pgrx::shmem::PGRXSharedMemory;
use pgrx::{pg_guard, pg_sys};

use crate::pg::runtime::{self, enabled};

/// The number of databases that get a slot. If there are more, the launcher looks at every database.
pub const SLOTS: usize = 256;

/// The state of one database, as sessions and workers report it to the launcher.
#[derive(Clone, Copy)]
pub struct Slot {
    /// The database's oid; 0: the slot is free.
    pub database: u32,
    /// Whether a worker is wanted at once.
    pub needs_worker: bool,
    /// Whether there is more to do than one worker does soon, so that another one is wanted.
    pub needs_another: bool,
    /// The time at which a worker is wanted, in milliseconds since 1970; 0: never.
    pub due: i64,
    /// The number of workers that have announced their end since the launcher last looked. A worker that ends without
    /// that was killed.
    pub announced_ends: usize,
}

/// The state that sessions, workers and the launcher share.
#[derive(Clone, Copy)]
pub struct Shared {
    /// The address of the launcher's latch, which is in shared memory too; 0: there is no launcher yet.
    pub latch: usize,
    /// Whether the slots did not suffice, so that the launcher has to look at every database.
    pub all_databases: bool,
    /// Whether the launcher could not start a worker for a database that needs one.
    pub lacks_process: bool,
    /// The databases that have asked for a worker; free slots come last.
    pub slots: [Slot; SLOTS],
}

// SAFETY: plain numbers; the address is of shared memory, which is at the same place in every process.
unsafe impl PGRXSharedMemory for Shared {}

impl Default for Shared {
    fn default() -> Self {
        Self {
            latch: 0,
            all_databases: false,
            lacks_process: false,
            slots: [Slot { database: 0, needs_worker: false, needs_another: false, due: 0, announced_ends: 0 }; SLOTS],
        }
    }
}

impl Shared {
    /// Returns the slot of a database, giving it a free one if it has none; `None` where all are taken.
    pub fn slot_of(&mut self, database: u32) -> Option<&mut Slot> {
        let at = self.slots.iter().position(|slot| slot.database == database || slot.database == 0)?;
        let slot = &mut self.slots[at];
        slot.database = database;
        Some(slot)
    }

    /// Sets the launcher's latch.
    pub fn wake(&self) {
        if self.latch != 0 {
            // SAFETY: a latch of a process slot, which is there as long as the server runs.
            unsafe { pg_sys::SetLatch(self.latch as *mut pg_sys::Latch) };
        }
    }
}

// SAFETY: it is given to pg_shmem_init! once, before it is used.
pub static SHARED: PgLwLock<Shared> = unsafe { PgLwLock::new(c"chatbot_sync") };

static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Whether the library is preloaded, so that there are workers.
pub fn is_preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// Whether the launcher could not start a worker, since all of max_worker_processes are in use.
pub fn lacks_process() -> bool {
    is_preloaded() && SHARED.share().lacks_process
}

/// The current time, in milliseconds since 1970.
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Asks the launcher for a worker of this database; with `another`, for a further one beside those that run.
pub fn request_worker(another: bool) {
    let mut shared = SHARED.exclusive();
    match shared.slot_of(runtime::database()) {
        Some(slot) => {
            slot.needs_worker = true;
            slot.needs_another |= another;
        }
        None => shared.all_databases = true,
    }
    shared.wake();
}

/// Announces the end of a worker, and when its database will have something to do; `None`: never.
pub fn schedule_worker(wait: Option<Duration>) {
    let due = wait.map_or(0, |wait| now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)));
    let mut shared = SHARED.exclusive();
    if let Some(slot) = shared.slot_of(runtime::database()) {
        slot.due = due;
        slot.announced_ends += 1;
    }
    shared.wake();
}

/// Asks the launcher for a worker if this transaction commits.
pub fn wake_at_commit() {
    thread_local! {
        static WATCHING: Cell<bool> = const { Cell::new(false) };
        static WAKE: Cell<bool> = const { Cell::new(false) };
    }
    #[pg_guard]
    unsafe extern "C-unwind" fn on_transaction_end(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
        match event {
            pg_sys::XactEvent::XACT_EVENT_COMMIT if WAKE.take() => request_worker(false),
            pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => WAKE.set(false),
            _ => {}
        }
    }
    if !is_preloaded() || !enabled::is_enabled_for_workers() {
        return;
    }
    WAKE.set(true);
    if !WATCHING.replace(true) {
        // SAFETY: the callback sets flags and a latch, and raises nothing.
        unsafe { pg_sys::RegisterXactCallback(Some(on_transaction_end), std::ptr::null_mut()) };
    }
}

/// Reserves the shared memory, while Postgres loads libraries at its start.
pub fn init() {
    PRELOADED.store(true, Ordering::Relaxed);
    pgrx::pg_shmem_init!(SHARED);
}
