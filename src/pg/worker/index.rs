//! The worker that builds a model's indexes, since a function cannot run CREATE INDEX CONCURRENTLY, and the session that
//! waits for it. It needs no preloading.

use std::cell::RefCell;
use std::ffi::CString;
use std::time::Duration;

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime, DynamicBackgroundWorker,
};
use pgrx::{PgMemoryContexts, pg_sys};

use crate::error::{Error, Result};
use crate::ids::ModelId;
use crate::pg::runtime;
use crate::pg::store::index as store;
use crate::pg::worker::{catch_errors, connect, in_transaction, report};

/// The longest wait of a step: CREATE INDEX CONCURRENTLY waits for the transaction in which the step runs.
const MAX_STEP_WAIT: Duration = Duration::from_millis(100);

/// A model whose indexes are being built, and the worker that builds them; `None` once the worker has ended.
struct IndexBuild {
    model_id: ModelId,
    worker: Option<DynamicBackgroundWorker>,
}

impl Drop for IndexBuild {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            // The session that waited was cancelled, or asks for other indexes.
            worker.terminate();
        }
    }
}

thread_local! {
    // If a call is cancelled between two steps, its worker goes on and ends by itself.
    static INDEX_BUILD: RefCell<Option<IndexBuild>> = const { RefCell::new(None) };
}

/// Starts the worker, with this session's memory and parallel workers for maintenance.
pub fn start(model_id: ModelId) -> Result<()> {
    let argument = (u64::from(store::table_owner()?.to_u32()) << 32) | u64::from(runtime::database());
    // SAFETY: numbers of this process.
    let (pid, memory, helpers) =
        unsafe { (pg_sys::MyProcPid, pg_sys::maintenance_work_mem, pg_sys::max_parallel_maintenance_workers) };
    let builder = BackgroundWorkerBuilder::new("chatbot_sync index")
        .set_type("chatbot_sync index")
        .set_library("chatbot_sync")
        .set_function("chatbot_sync_index_worker")
        .set_argument(Some(pg_sys::Datum::from(argument)))
        .set_extra(&format!("{model_id} {memory} {helpers}"))
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .set_notify_pid(pid)
        .enable_spi_access();
    // The handle outlives the transaction, so it is allocated in a context that lives as long as the process.
    // SAFETY: nothing else is allocated there meanwhile.
    let worker = unsafe { PgMemoryContexts::TopMemoryContext.switch_to(|_| builder.load_dynamic()) };
    let worker = worker.map_err(|_| Error::NoWorker)?;
    INDEX_BUILD.set(Some(IndexBuild { model_id, worker: Some(worker) }));
    Ok(())
}

/// Waits up to 100 ms and returns what the worker does; `None` once the model has its indexes. Fails where the worker has
/// ended without having built them. A cancel ends the worker.
pub fn step() -> Result<Option<String>> {
    let Some(mut build) = INDEX_BUILD.take() else { return Err(Error::Internal("no index is made".to_owned())) };
    let Some(worker) = &build.worker else {
        return store::missing_index_reason(build.model_id)?.map_or(Ok(None), |reason| Err(Error::NotBuilt(reason)));
    };
    let ended = matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied));
    if ended {
        // What the worker did is visible only to later transactions, so the next step checks it.
        build.worker = None;
    } else {
        wait(MAX_STEP_WAIT);
    }
    let doing = store::build_phase()?;
    INDEX_BUILD.set(Some(build));
    Ok(Some(doing))
}

fn wait(time: Duration) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    let milliseconds = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    // SAFETY: this process' own latch.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events.cast_signed(), milliseconds, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}

#[doc(hidden)]
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn chatbot_sync_index_worker(argument: pg_sys::Datum) {
    connect(argument);
    let mut arguments = BackgroundWorker::get_extra().split(' ');
    let model_id = arguments.next().and_then(|id| id.parse().ok()).map_or(ModelId(0), ModelId);
    for (name, value) in [c"maintenance_work_mem", c"max_parallel_maintenance_workers"].into_iter().zip(arguments) {
        let value = CString::new(value).unwrap_or_default();
        let (context, source) = (pg_sys::GucContext::PGC_USERSET, pg_sys::GucSource::PGC_S_SESSION);
        // SAFETY: values that the same settings have in another session.
        unsafe { pg_sys::SetConfigOption(name.as_ptr(), value.as_ptr(), context, source) };
    }
    // Another worker may be building indexes, perhaps the same ones.
    loop {
        match in_transaction(None, store::try_build_lock) {
            Ok(true) => break,
            Ok(false) => wait(MAX_STEP_WAIT),
            Err(_) => return,
        }
    }
    let outcome = in_transaction(None, || store::build_statements(model_id, true))
        .and_then(|statements| statements.iter().try_for_each(|sql| run_utility_statement(sql)));
    if let Err(message) = outcome {
        drop(in_transaction(None, || store::record_build_error(model_id, &message)));
    }
}

/// Runs a utility statement as if a client had sent it, since it commits in between.
fn run_utility_statement(sql: &str) -> Result<(), String> {
    let text = CString::new(sql).unwrap_or_default();
    report(Some(&text));
    catch_errors(|| {
        // SAFETY: as Postgres runs a client's statement: in a transaction, by a portal, which has the snapshot. What is made
        // of the statement outlives the transactions that it runs in; the process ends soon after.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            PgMemoryContexts::TopMemoryContext.switch_to(|_| {
                let parsed = pg_sys::pg_parse_query(text.as_ptr());
                let raw = (*(*parsed).elements).ptr_value.cast::<pg_sys::RawStmt>();
                let mut planned = pgrx::PgBox::<pg_sys::PlannedStmt>::alloc_node(pg_sys::NodeTag::T_PlannedStmt);
                planned.commandType = pg_sys::CmdType::CMD_UTILITY;
                planned.canSetTag = true;
                planned.utilityStmt = (*raw).stmt;
                let tag = pg_sys::CreateCommandTag((*raw).stmt);
                let statements = pg_sys::lappend(std::ptr::null_mut(), planned.into_pg().cast());
                let portal = pg_sys::CreateNewPortal();
                let none = std::ptr::null_mut();
                pg_sys::PortalDefineQuery(portal, std::ptr::null(), text.as_ptr(), tag, statements, none);
                pg_sys::PortalStart(portal, std::ptr::null_mut(), 0, std::ptr::null_mut());
                let no_receiver = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone);
                let (all, tag) = (std::ffi::c_long::MAX, std::ptr::null_mut());
                #[cfg(not(feature = "pg18"))]
                pg_sys::PortalRun(portal, all, true, true, no_receiver, no_receiver, tag);
                #[cfg(feature = "pg18")]
                pg_sys::PortalRun(portal, all, true, no_receiver, no_receiver, tag);
                pg_sys::PortalDrop(portal, false);
            });
            pg_sys::CommitTransactionCommand();
        }
        Ok(())
    })
}
