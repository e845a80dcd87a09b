//! Background workers, where the library is preloaded: a launcher, which is connected to no database and is woken by
//! commits, and workers for databases that have something to do, which end when it is done.
//!
//! - `index`: the worker that builds indexes
//! - `launcher`: the launcher
//! - `prepared`: wakes a worker at COMMIT PREPARED
//! - `run`: a worker that works off the queue

pub mod index;
mod launcher;
mod prepared;
mod run;

use std::ffi::CStr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::PgTryBuilder;

use crate::error::Error;
use crate::pg::runtime::run_as::{Restriction, RunAs};
use crate::pg::runtime::{rollback_usage, wake};

/// The delay after which Postgres restarts a launcher that failed.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Registers the launcher; called when the library is loaded. Does nothing unless that is by shared_preload_libraries.
pub fn init() {
    // SAFETY: a variable that Postgres sets while it loads libraries.
    if !unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    wake::init();
    rollback_usage::init();
    prepared::init();
    // Not started before recovery has ended, since a standby cannot write.
    BackgroundWorkerBuilder::new("chatbot_sync launcher")
        .set_type("chatbot_sync launcher")
        .set_library("chatbot_sync")
        .set_function("chatbot_sync_launcher")
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(RESTART_DELAY))
        .enable_spi_access()
        .load();
}

/// Installs signal handlers: SIGTERM ends the process at the next check for interrupts, as it ends a backend, and SIGHUP
/// reloads the configuration.
fn handle_signals() {
    // In Postgres 18, pqsignal() is a macro for the second name.
    #[cfg(not(feature = "pg18"))]
    use pg_sys::pqsignal;
    #[cfg(feature = "pg18")]
    use pg_sys::pqsignal_be as pqsignal;
    // The kernel calls these functions, so they must not go through the guards that pgrx puts around Postgres' functions.
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

/// Connects a worker to the database, as the role, that its argument says, and installs its signal handlers.
fn connect(argument: pg_sys::Datum) {
    handle_signals();
    let argument = argument.value() as u64;
    let (role, database) = ((argument >> 32) as u32, argument as u32);
    // SAFETY: called once in this process.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database.into(), role.into(), 0);
        for (name, value) in [
            // The role or the database may have other values for their sessions.
            (c"default_transaction_isolation", c"read committed"),
            (c"default_transaction_read_only", c"off"),
            (c"search_path", c"pg_catalog, pg_temp"),
            (c"lock_timeout", c"0"),
            // The statements take milliseconds, so that compiling them would only cost time.
            (c"jit", c"off"),
            (c"idle_in_transaction_session_timeout", c"0"),
        ] {
            let (context, source) = (pg_sys::GucContext::PGC_SUSET, pg_sys::GucSource::PGC_S_OVERRIDE);
            pg_sys::SetConfigOption(name.as_ptr(), value.as_ptr(), context, source);
        }
    }
}

/// Calls `act` in a transaction of its own, as a role (`None`: as the one that is connected); an error rolls back, is logged
/// as a WARNING, and its message is returned.
fn in_transaction<T>(role: Option<pg_sys::Oid>, act: impl FnOnce() -> Result<T, Error>) -> Result<T, String> {
    catch_errors(|| {
        // SAFETY: no transaction is open.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let acting = role.map(|role| RunAs::new(role, Restriction::Session));
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

/// Calls `act`, which runs transactions of its own. What Postgres raises rolls back, is logged as a WARNING, and its
/// message is returned.
fn catch_errors<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    PgTryBuilder::new(AssertUnwindSafe(act))
        .catch_others(|caught| {
            let message = match &caught {
                CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report.message().to_owned(),
                CaughtError::RustPanic { ereport, .. } => ereport.message().to_owned(),
            };
            pgrx::warning!("chatbot_sync: {message}");
            // SAFETY: the error ended the transaction, whose resources are released here.
            unsafe {
                pg_sys::AbortCurrentTransaction();
                pg_sys::FlushErrorState();
            }
            Err(message)
        })
        .execute()
}

/// Reports to pg_stat_activity what the process does; `None`: it is idle.
fn report(activity: Option<&CStr>) {
    // SAFETY: Postgres copies the text.
    unsafe {
        match activity {
            Some(text) => pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr()),
            None => pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null()),
        }
    }
}
