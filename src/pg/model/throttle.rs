//! A provider's request to wait, shared with all sessions of the database, so that none of them sends a request meanwhile.
//!
//! It is stored as the modification time of a file in `pg_stat_tmp`. So it needs no shared memory (and no preloading),
//! outlives the statement's rollback, and is in no backup.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pgrx::pg_sys;

/// The longest wait that is shared.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// The wait where the provider asks for one and does not say how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);

/// Returns how long the provider must not be asked; `None` where it may be asked now.
pub fn remaining_wait(provider: &str) -> Option<Duration> {
    let until = std::fs::metadata(path(provider)).ok()?.modified().ok()?;
    until.duration_since(SystemTime::now()).ok().filter(|left| !left.is_zero()).map(|left| left.min(MAX_WAIT))
}

/// Shares with all sessions that a provider asked to wait. If the file cannot be written, each session finds out by itself.
pub fn publish(provider: &str, asked: Option<Duration>) {
    let until = SystemTime::now() + asked.unwrap_or(DEFAULT_WAIT).min(MAX_WAIT);
    let _ = File::create(path(provider)).and_then(|file| file.set_modified(until));
}

/// The file of a provider, relative to the data directory, in which backends run.
#[allow(unsafe_code)]
fn path(provider: &str) -> PathBuf {
    // SAFETY: a number that is set when the backend connects and does not change.
    let database = unsafe { pg_sys::MyDatabaseId };
    PathBuf::from(format!("pg_stat_tmp/chatbot_sync.{}.{provider}", database.to_u32()))
}
