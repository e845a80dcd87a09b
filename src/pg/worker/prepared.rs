//! COMMIT PREPARED wakes a worker for the jobs of the prepared transaction. Postgres calls no callback of the transaction
//! there, and the session may be another one, so the statement itself is watched.

use std::ffi::c_char;

use pgrx::pg_sys;

use crate::error::Result;
use crate::pg::runtime::catalog::extension_owner;
use crate::pg::runtime::run_as::{Restriction, RunAs};
use crate::pg::runtime::subtransaction;
use crate::pg::runtime::wake::request_worker;
use crate::pg::store::due_job;

static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;

/// Installs the hook, while the library is preloaded.
pub fn init() {
    // SAFETY: the postmaster has one thread while it loads libraries.
    unsafe {
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility_hook);
    }
}

/// The hook for utility statements, all of which come through here. It has no guard of pgrx, so that errors pass unchanged.
unsafe extern "C-unwind" fn process_utility_hook(
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    unsafe extern "C-unwind" {
        fn standard_ProcessUtility(
            statement: *mut pg_sys::PlannedStmt,
            query: *const c_char,
            read_only_tree: bool,
            context: pg_sys::ProcessUtilityContext::Type,
            params: pg_sys::ParamListInfo,
            environment: *mut pg_sys::QueryEnvironment,
            dest: *mut pg_sys::DestReceiver,
            completion: *mut pg_sys::QueryCompletion,
        );
    }
    // SAFETY: Postgres' own arguments, handed on; nothing here has a destructor that an error could skip.
    unsafe {
        let commits = is_commit_prepared((*statement).utilityStmt);
        match PREVIOUS {
            Some(previous) => {
                previous(statement, query, read_only_tree, context, params, environment, dest, completion);
            }
            None => standard_ProcessUtility(
                statement,
                query,
                read_only_tree,
                context,
                params,
                environment,
                dest,
                completion,
            ),
        }
        if commits {
            wake_after_commit_prepared();
        }
    }
}

unsafe fn is_commit_prepared(statement: *const pg_sys::Node) -> bool {
    // SAFETY: a node of the parse tree, of the type that its tag says.
    unsafe {
        (*statement).type_ == pg_sys::NodeTag::T_TransactionStmt
            && (*statement.cast::<pg_sys::TransactionStmt>()).kind
                == pg_sys::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED
    }
}

/// Wakes a worker if jobs are due. It runs in a subtransaction, since the prepared transaction is committed
/// whatever happens here.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn wake_after_commit_prepared() {
    // SAFETY: a snapshot of the statement's own transaction, removed below.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    if let Ok(Ok(true)) = subtransaction::in_subtransaction(has_due_jobs) {
        request_worker(false);
    }
    // SAFETY: the snapshot that was pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
}

fn has_due_jobs() -> Result<bool> {
    let Some(owner) = extension_owner()? else { return Ok(false) };
    let _owner = RunAs::new(owner, Restriction::Session);
    Ok(due_job::top_priority(None, &[])?.is_some())
}
