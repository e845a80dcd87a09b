//! Host tables that another session has locked: nothing waits for them, and their jobs are looked at again later.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::pg::host::{self, Access};
use crate::pg::store::host_row::ReadMode;
use crate::pg::store::job;
use crate::source::{RowInput, SourceKey};

/// Jobs of a table that another session has locked are looked at again after it.
const LOCKED_TABLE: Duration = Duration::from_secs(1);

thread_local! {
    /// Host tables that were locked when this session looked, and until when it does not look again.
    static LOCKED: RefCell<HashMap<i32, Instant>> = RefCell::default();
}

/// The host tables that were locked a moment ago.
pub fn locked_hosts() -> Vec<i32> {
    LOCKED.with_borrow_mut(|locked| {
        locked.retain(|_, until| *until > Instant::now());
        locked.keys().copied().collect()
    })
}

/// Puts off jobs whose host table is locked: nothing has been tried.
pub fn put_off(host: i32, jobs: &[(i64, i64)], attempts: i32) -> Result<()> {
    LOCKED.with_borrow_mut(|locked| locked.insert(host, Instant::now() + LOCKED_TABLE));
    job::release(jobs, attempts, Some(LOCKED_TABLE))
}

/// Rows of a host table as they are by now; none where another session has the table locked.
pub fn host_rows(host: i32, keys: &[SourceKey]) -> Result<Option<Vec<RowInput>>> {
    let read = host::without_waiting(|| host::rows(host, keys, ReadMode::Latest))?;
    Ok(match read {
        Some(Access::Done(rows)) => Some(rows),
        Some(Access::Detached) => Some(Vec::new()),
        Some(Access::Locked) | None => None,
    })
}
