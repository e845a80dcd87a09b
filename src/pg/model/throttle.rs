//! What a provider asked one session, told to all sessions of the database: not to be asked for a while.
//!
//! It is the time stamp of a file in the server's folder for passing statistics, so that it needs no shared memory
//! (nothing has to be preloaded), outlives the statement's rollback, and is in no backup.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pgrx::pg_sys;

/// The longest wait that one session publishes for others.
const LONGEST: Duration = Duration::from_secs(3600);
/// Where a provider does not say how long.
const UNSAID: Duration = Duration::from_secs(1);

/// How long the provider is not to be asked; none where it may be.
pub fn wait(provider: &str) -> Option<Duration> {
    let until = std::fs::metadata(path(provider)).ok()?.modified().ok()?;
    until.duration_since(SystemTime::now()).ok().filter(|left| !left.is_zero()).map(|left| left.min(LONGEST))
}

/// Tells the others. Where the file cannot be written each session finds out by itself.
pub fn publish(provider: &str, asked: Option<Duration>) {
    let until = SystemTime::now() + asked.unwrap_or(UNSAID).min(LONGEST);
    let _ = File::create(path(provider)).and_then(|file| file.set_modified(until));
}

/// Backends run in the data directory.
#[allow(unsafe_code)]
fn path(provider: &str) -> PathBuf {
    // SAFETY: a number that is set when the backend connects and does not change.
    let database = unsafe { pg_sys::MyDatabaseId };
    PathBuf::from(format!("pg_stat_tmp/chatbot_sync.{}.{provider}", database.to_u32()))
}
