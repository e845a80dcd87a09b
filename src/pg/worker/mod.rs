//! Background workers, where the library is preloaded: a launcher without a database, which a commit wakes, and a worker
//! for each database that has something to do, which leaves when it is done.

pub mod index;
mod launcher;
mod prepared;
pub mod rolled_back;
mod run;

use std::cell::Cell;
use std::ffi::{CStr, c_void};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::lwlock::PgLwLock;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::PgTryBuilder;
use pgrx::shmem::PGRXSharedMemory;
use pgrx::{pg_guard, pg_sys};

use crate::error::Error;
use crate::pg::enabled;
use crate::pg::owner::{ActingAs, Restriction};

/// Databases that can be told apart; with more of them all are looked at.
const SLOTS: usize = 256;
/// A launcher that failed comes back after it.
const RESTART: Duration = Duration::from_secs(1);

/// A database that has something to do.
#[derive(Clone, Copy)]
struct Slot {
    database: u32,
    /// By now.
    now: bool,
    /// More than one worker can do soon.
    more: bool,
    /// At this time, in milliseconds since 1970; 0 where there is nothing.
    due: i64,
    /// Workers that have said so since the launcher looked: one that ends without a word was ended.
    left: usize,
}

/// What all processes know.
#[derive(Clone, Copy)]
struct Shared {
    /// The launcher's latch, in shared memory itself.
    latch: usize,
    /// There were not enough slots.
    everybody: bool,
    /// The launcher could not start a worker that somebody waits for.
    no_process: bool,
    slots: [Slot; SLOTS],
}

// SAFETY: plain numbers; the address is of shared memory, which is at the same place in every process.
unsafe impl PGRXSharedMemory for Shared {}

impl Default for Shared {
    fn default() -> Self {
        Self {
            latch: 0,
            everybody: false,
            no_process: false,
            slots: [Slot { database: 0, now: false, more: false, due: 0, left: 0 }; SLOTS],
        }
    }
}

impl Shared {
    fn slot(&mut self, database: u32) -> Option<&mut Slot> {
        let at = self.slots.iter().position(|slot| slot.database == database || slot.database == 0)?;
        let slot = &mut self.slots[at];
        slot.database = database;
        Some(slot)
    }

    fn wake(&self) {
        if self.latch != 0 {
            // SAFETY: a latch of a process slot, which is there as long as the server runs.
            unsafe { pg_sys::SetLatch(self.latch as *mut pg_sys::Latch) };
        }
    }
}

// SAFETY: it is given to pg_shmem_init! once, before it is used.
static SHARED: PgLwLock<Shared> = unsafe { PgLwLock::new(c"chatbot_sync") };
static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Called when the library is loaded: only with shared_preload_libraries there are workers.
pub fn init() {
    // SAFETY: a variable that Postgres sets while it loads libraries.
    if !unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    PRELOADED.store(true, Ordering::Relaxed);
    pgrx::pg_shmem_init!(SHARED);
    rolled_back::init();
    prepared::init();
    // Not before recovery has ended: a standby writes nothing.
    BackgroundWorkerBuilder::new("chatbot_sync launcher")
        .set_type("chatbot_sync launcher")
        .set_library("chatbot_sync")
        .set_function("chatbot_sync_launcher")
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(RESTART))
        .enable_spi_access()
        .load();
}

/// Whether there are workers.
pub fn preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// Whether a worker could not be started, since all of max_worker_processes are in use.
pub fn lacks_process() -> bool {
    preloaded() && SHARED.share().no_process
}

fn database() -> u32 {
    // SAFETY: a number that is set when the process connects and does not change.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

fn milliseconds() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Tells the launcher that this database has something to do.
fn tell_now(more: bool) {
    let mut shared = SHARED.exclusive();
    match shared.slot(database()) {
        Some(slot) => {
            slot.now = true;
            slot.more |= more;
        }
        None => shared.everybody = true,
    }
    shared.wake();
}

/// The last word of a worker: tells the launcher when this database will have something to do.
fn tell_due(wait: Option<Duration>) {
    let due = wait.map_or(0, |wait| milliseconds().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)));
    let mut shared = SHARED.exclusive();
    if let Some(slot) = shared.slot(database()) {
        slot.due = due;
        slot.left += 1;
    }
    shared.wake();
}

/// If this transaction commits, a worker looks at the queue.
pub fn wake_at_commit() {
    thread_local! {
        static WATCHING: Cell<bool> = const { Cell::new(false) };
        static WAKE: Cell<bool> = const { Cell::new(false) };
    }
    #[pgrx::pg_guard]
    unsafe extern "C-unwind" fn ended(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
        match event {
            pg_sys::XactEvent::XACT_EVENT_COMMIT if WAKE.take() => tell_now(false),
            pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => WAKE.set(false),
            _ => {}
        }
    }
    if !preloaded() || !enabled::is_enabled_for_workers() {
        return;
    }
    WAKE.set(true);
    if !WATCHING.replace(true) {
        // SAFETY: the callback sets flags and a latch, and raises nothing.
        unsafe { pg_sys::RegisterXactCallback(Some(ended), std::ptr::null_mut()) };
    }
}

/// Terminates as a backend does, at the next check for interrupts.
fn handle_signals() {
    // What the macro of that name has been since.
    #[cfg(not(feature = "pg18"))]
    use pg_sys::pqsignal;
    #[cfg(feature = "pg18")]
    use pg_sys::pqsignal_be as pqsignal;
    // Called by the kernel: not through the guards that pgrx puts around Postgres' functions.
    unsafe extern "C-unwind" {
        fn die(signal: i32);
        #[link_name = "SignalHandlerForConfigReload"]
        fn reload(signal: i32);
    }
    // SAFETY: the handlers are Postgres' own.
    unsafe {
        pqsignal(libc::SIGTERM, Some(die));
        pqsignal(libc::SIGHUP, Some(reload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// What a worker begins with: signals, and the database and role that it was told.
fn connect(argument: pg_sys::Datum) {
    handle_signals();
    let argument = argument.value() as u64;
    let (role, database) = ((argument >> 32) as u32, argument as u32);
    // SAFETY: once in this process.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database.into(), role.into(), 0);
        for (name, value) in [
            // Whatever the role or the database have for their sessions.
            (c"default_transaction_isolation", c"read committed"),
            (c"default_transaction_read_only", c"off"),
            (c"search_path", c"pg_catalog, pg_temp"),
            (c"lock_timeout", c"0"),
            // Statements of milliseconds.
            (c"jit", c"off"),
            (c"idle_in_transaction_session_timeout", c"0"),
        ] {
            let (context, source) = (pg_sys::GucContext::PGC_SUSET, pg_sys::GucSource::PGC_S_OVERRIDE);
            pg_sys::SetConfigOption(name.as_ptr(), value.as_ptr(), context, source);
        }
    }
}

/// Runs something in a transaction of its own, as a role: what it answers, or the error, which is in the log.
fn transaction<T>(role: Option<pg_sys::Oid>, act: impl FnOnce() -> Result<T, Error>) -> Result<T, String> {
    guarded(|| {
        // SAFETY: no transaction is open.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let acting = role.map(|role| ActingAs::new(role, Restriction::Session));
        let outcome = act();
        drop(acting);
        // SAFETY: the transaction that was started above, with its snapshot on top.
        unsafe {
            match &outcome {
                Ok(_) => {
                    pg_sys::PopActiveSnapshot();
                    pg_sys::CommitTransactionCommand();
                    pg_sys::pgstat_report_stat(false);
                }
                Err(error) => {
                    pgrx::warning!("chatbot_sync: {error}");
                    pg_sys::AbortCurrentTransaction();
                }
            }
        }
        outcome.map_err(|error| error.to_string())
    })
}

/// What does something in transactions of its own, or the error that ended them, which is in the log.
fn guarded<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    PgTryBuilder::new(AssertUnwindSafe(act))
        .catch_others(|caught| {
            let message = match &caught {
                CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report.message().to_owned(),
                CaughtError::RustPanic { ereport, .. } => ereport.message().to_owned(),
            };
            pgrx::warning!("chatbot_sync: {message}");
            // SAFETY: the error ended the transaction; what it held is given back.
            unsafe {
                pg_sys::AbortCurrentTransaction();
                pg_sys::FlushErrorState();
            }
            Err(message)
        })
        .execute()
}

/// What the process does, for pg_stat_activity.
fn report(activity: Option<&CStr>) {
    // SAFETY: Postgres copies the text.
    unsafe {
        match activity {
            Some(text) => pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr()),
            None => pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null()),
        }
    }
}
