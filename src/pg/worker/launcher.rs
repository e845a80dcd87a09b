//! The launcher: sleeps until a commit, a due time or `chatbot_sync.naptime` wakes it, and starts workers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::pg_sys;

use crate::pg::runtime::settings;
use crate::pg::runtime::wake::{SHARED, now_ms};
use crate::pg::worker::handle_signals;

/// The delay after which a worker is started again, where it could not be started or was killed.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// A database that may get workers.
struct Database {
    /// The role that its workers connect as.
    role: pg_sys::Oid,
    /// Whether an earlier look at all databases has found it.
    seen: bool,
    /// Whether a worker is to be started.
    needs_worker: bool,
    /// Whether a further worker is to be started beside one that runs.
    needs_another: bool,
    /// The workers that run.
    workers: Vec<DynamicBackgroundWorker>,
    /// The number of workers that have ended, and whose announcements are not counted yet.
    uncounted_ends: usize,
    /// The number of workers that have announced their end, and still run.
    announced_ends: usize,
    /// The time at which to start a worker because one was killed, which may have left jobs; `None`: none was.
    restart_at: Option<Instant>,
}

#[doc(hidden)]
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn chatbot_sync_launcher(_arg: pg_sys::Datum) {
    handle_signals();
    // SAFETY: without a database: shared catalogs only, so that none is kept from being dropped or copied.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(pg_sys::InvalidOid, pg_sys::InvalidOid, 0);
        SHARED.exclusive().latch = pg_sys::MyLatch as usize;
    }
    let mut databases: BTreeMap<u32, Database> = BTreeMap::new();
    let mut next_look = Instant::now();
    let mut complained = false;
    loop {
        pgrx::check_for_interrupts!();
        reload();
        let now = Instant::now();
        let look = now >= next_look || std::mem::take(&mut SHARED.exclusive().all_databases);
        if look {
            refresh_databases(&mut databases, true);
            next_look = now + settings::naptime();
        }
        for database in databases.values_mut() {
            let before = database.workers.len();
            database.workers.retain(|worker| !matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped)));
            database.uncounted_ends += before - database.workers.len();
        }
        let due = read_shared_state(&mut databases);
        let started = start_workers(&mut databases);
        SHARED.exclusive().lacks_process = !started;
        let try_again = match started {
            true => {
                complained = false;
                None
            }
            false => {
                if !std::mem::replace(&mut complained, true) {
                    pgrx::warning!(
                        "chatbot_sync could not start a worker: all of max_worker_processes are in use; it is tried again"
                    );
                }
                Some(now + RETRY_DELAY)
            }
        };
        let until = [Some(next_look), due, try_again].into_iter().flatten().min().unwrap_or(next_look);
        wait(until);
    }
}

fn reload() {
    // SAFETY: the flag is this process' own, set by its signal handler.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

fn wait(until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    let millis = i64::try_from(left.as_millis()).unwrap_or(i64::MAX).saturating_add(1);
    // SAFETY: the latch is this process' own.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events.cast_signed(), millis, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}

/// Takes over what sessions and workers have noted in shared memory, and returns when to wake up for the next due time;
/// `None`: there is none.
fn read_shared_state(databases: &mut BTreeMap<u32, Database>) -> Option<Instant> {
    let (now, instant) = (now_ms(), Instant::now());
    let mut next = None;
    let (mut requests, mut ends) = (Vec::new(), Vec::new());
    {
        let mut shared = SHARED.exclusive();
        for slot in shared.slots.iter_mut().take_while(|slot| slot.database != 0) {
            let due = slot.due != 0 && slot.due <= now;
            ends.push((slot.database, std::mem::take(&mut slot.announced_ends)));
            if slot.needs_worker || due {
                requests.push((slot.database, slot.needs_another));
                (slot.needs_worker, slot.needs_another) = (false, false);
            }
            if due {
                slot.due = 0;
            } else if slot.due != 0 {
                let at = instant + Duration::from_millis(u64::try_from(slot.due - now).unwrap_or(0));
                next = Some(next.map_or(at, |other: Instant| other.min(at)));
            }
        }
    }
    // A database that asks may be new, or may have another owner by now.
    if !requests.is_empty() {
        refresh_databases(databases, false);
    }
    for (database, another) in requests {
        if let Some(database) = databases.get_mut(&database) {
            database.needs_worker = true;
            database.needs_another |= another;
        }
    }
    for (database, announced) in ends {
        if let Some(database) = databases.get_mut(&database) {
            let (ended, announced) =
                (std::mem::take(&mut database.uncounted_ends), database.announced_ends + announced);
            // A worker announces its end before it ends. One that ends without that was killed.
            if ended > announced {
                database.restart_at = Some(instant + RETRY_DELAY);
            }
            database.announced_ends = announced.saturating_sub(ended).min(database.workers.len());
        }
    }
    for database in databases.values_mut() {
        match database.restart_at {
            Some(at) if at <= instant => (database.needs_worker, database.restart_at) = (true, None),
            Some(at) => next = Some(next.map_or(at, |other: Instant| other.min(at))),
            None => {}
        }
    }
    next
}

/// Brings the list of databases up to date, as far as `chatbot_sync.databases` names them; with `start_workers`, each gets a
/// worker.
fn refresh_databases(databases: &mut BTreeMap<u32, Database>, start_workers: bool) {
    let only = settings::databases();
    let mut found = BTreeMap::new();
    // SAFETY: within a transaction, as the autovacuum launcher reads the same table.
    unsafe {
        pg_sys::StartTransactionCommand();
        let table = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock.cast_signed());
        let scan = pg_sys::table_beginscan_catalog(table, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let row = &*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_database>(tuple);
            let name = std::ffi::CStr::from_ptr(row.datname.data.as_ptr()).to_string_lossy();
            if row.datallowconn
                && !row.datistemplate
                && only.as_ref().is_none_or(|only| only.iter().any(|n| *n == name))
            {
                found.insert(row.oid.to_u32(), connection_role(row.datdba));
            }
        }
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(table, pg_sys::AccessShareLock.cast_signed());
        pg_sys::CommitTransactionCommand();
    }
    // A database that is new, as a copy is, has until the next look to be switched off: its jobs may be another's.
    let is_first_look = start_workers && !databases.values().any(|database| database.seen);
    databases.retain(|oid, database| found.contains_key(oid) || !database.workers.is_empty());
    for (oid, role) in found {
        let database = databases.entry(oid).or_insert(Database {
            role,
            seen: false,
            needs_worker: false,
            needs_another: false,
            workers: Vec::new(),
            uncounted_ends: 0,
            announced_ends: 0,
            restart_at: None,
        });
        database.role = role;
        database.needs_worker |= start_workers && (is_first_look || database.seen);
        database.seen |= start_workers;
    }
}

/// Returns the role that the workers of a database connect as: its owner, which may then terminate them to drop or copy the
/// database. InvalidOid where the owner may not log in.
unsafe fn connection_role(owner: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a look-up in the catalog's cache, within a transaction.
    unsafe {
        let id = pg_sys::SysCacheIdentifier::AUTHOID as i32;
        let tuple = pg_sys::SearchSysCache1(id, owner.into());
        if tuple.is_null() {
            return pg_sys::InvalidOid;
        }
        let login = (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_authid>(tuple)).rolcanlogin;
        pg_sys::ReleaseSysCache(tuple);
        if login { owner } else { pg_sys::InvalidOid }
    }
}

/// Starts the workers that are wanted and allowed; returns false where one could not be started.
fn start_workers(databases: &mut BTreeMap<u32, Database>) -> bool {
    let mut running: usize = databases.values().map(|database| database.workers.len()).sum();
    let most_each = settings::workers_per_database();
    for (&oid, database) in databases.iter_mut() {
        while running < settings::max_workers() {
            let first = database.needs_worker && database.workers.is_empty();
            let further = database.needs_another && !database.workers.is_empty() && database.workers.len() < most_each;
            if !first && !further {
                break;
            }
            let Some(worker) = start_worker(oid, database.role) else { return false };
            database.workers.push(worker);
            running += 1;
            if first {
                database.needs_worker = false;
            } else {
                database.needs_another = false;
            }
        }
    }
    true
}

fn start_worker(database: u32, role: pg_sys::Oid) -> Option<DynamicBackgroundWorker> {
    let argument = (u64::from(role.to_u32()) << 32) | u64::from(database);
    BackgroundWorkerBuilder::new("chatbot_sync worker")
        .set_type("chatbot_sync worker")
        .set_library("chatbot_sync")
        .set_function("chatbot_sync_worker")
        .set_argument(Some(pg_sys::Datum::from(argument)))
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        // SAFETY: a number of this process.
        .set_notify_pid(unsafe { pg_sys::MyProcPid })
        .enable_spi_access()
        .load_dynamic()
        .ok()
}
