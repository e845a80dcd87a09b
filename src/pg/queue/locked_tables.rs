//! Host tables that another session has locked: no worker waits for them; their jobs are due again a second later.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::ids::HostId;
use crate::pg::host::{self, Access};
use crate::pg::store::host_row::ReadMode;
use crate::pg::store::job::{self, JobKey};
use crate::source::{RowInput, SourceKey};

/// The delay after which jobs of a locked table are due again.
const LOCKED_TABLE_DELAY: Duration = Duration::from_secs(1);

thread_local! {
    /// The ids of host tables that were locked when this session tried, and until when it does not try again.
    static LOCKED: RefCell<HashMap<HostId, Instant>> = RefCell::default();
}

/// Returns the ids of host tables that were locked within the last second.
pub fn locked_hosts() -> Vec<HostId> {
    LOCKED.with_borrow_mut(|locked| {
        locked.retain(|_, until| *until > Instant::now());
        locked.keys().copied().collect()
    })
}

/// Makes the jobs of a locked table due again a second later. That does not count as an attempt.
pub fn postpone_jobs(host: HostId, jobs: &[JobKey], attempts: i32) -> Result<()> {
    LOCKED.with_borrow_mut(|locked| locked.insert(host, Instant::now() + LOCKED_TABLE_DELAY));
    job::release(jobs, attempts, Some(LOCKED_TABLE_DELAY))
}

/// Rows of a host table as they are by now.
pub fn read_unlocked_host_rows(host: HostId, keys: &[SourceKey]) -> Result<Access<Vec<RowInput>>> {
    Ok(host::without_waiting(|| host::read_inputs(host, keys, ReadMode::Latest))?.unwrap_or(Access::Locked))
}
