//! Threads that a statement computes on, beside the backend's own.

use std::time::{Duration, Instant};

use pgrx::pg_sys;

use crate::error::Result;
use crate::pg::runtime::{latch, settings};
use crate::threads::pool::{Pool, Task};

/// Threads that this process may compute on, its own among them. The workers of a database share them, so that together
/// they take no more than one session does.
pub fn count() -> usize {
    // SAFETY: set when this process started.
    let is_worker = unsafe { !pg_sys::MyBgworkerEntry.is_null() };
    let sharing = if is_worker { settings::workers_per_database() } else { 1 };
    (settings::local_threads() / sharing).max(1)
}

/// A pool of those that are not the backend's own.
pub fn pool() -> Pool {
    Pool::new(count() - 1)
}

/// Returns the result of a task. While a thread does it, this one does others, or waits and answers interrupts.
pub fn finish<T: Send>(pool: &Pool, task: Task<T>) -> Result<T> {
    const LOOK_AGAIN: Duration = Duration::from_secs(1);
    pool.finish(task, |pipe| latch::wait(pipe, Instant::now() + LOOK_AGAIN))
}
