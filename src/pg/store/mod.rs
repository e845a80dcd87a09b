//! Every statement that is sent to Postgres, with its plan kept. All names are qualified, so that the search_path
//! does not matter.
//!
//! - `chatbot_triggers`: the triggers of a table of chatbots
//! - `chunk`: chunks, with their vectors and words
//! - `configurations`: which text search configuration reads a text
//! - `delete`: deletes sources, and moves them to other keys
//! - `due_job`: the jobs that come next
//! - `host_row`: rows of host tables
//! - `host_sources`: all sources of a host table
//! - `host_triggers`: the triggers of host tables
//! - `index`: the indexes of a model's chunks
//! - `index_form`: the form of a model's index of vectors
//! - `job`: jobs of the queue
//! - `log`: the log of syncs
//! - `model`: models
//! - `model_figures`: the speed at which texts become vectors with a model
//! - `query_words`: the words of a query
//! - `quoting`: quotes names and literals
//! - `reading`: the way in which sources were chunked and their words were read
//! - `reembed`: the vectors of the next model
//! - `refusal`: whether something may refuse a value of a column
//! - `relation`: relations and types in the catalog
//! - `retry`: makes sources in error pending again
//! - `row_metadata`: the metadata of host rows
//! - `search`: chunks near a vector, and chunks with words
//! - `session`: sessions and their messages
//! - `source`: sources
//! - `source_error`: errors and notes in the rows of sources
//! - `source_key`: the key of a source in statements
//! - `source_type`: kinds of source
//! - `statistics`: Postgres' statistics of the tables that a search reads
//! - `sync_error`: the error of a sync, as its source keeps it
//! - `tables`: the tables that a search reads
//! - `text_search`: text search configurations by language
//! - `vectors`: the columns of chunks' vectors
//! - `verify`: rows that cannot be right

use pgrx::datum::DatumWithOid;
use pgrx::{Spi, pg_sys};

use crate::error::Result;
use crate::pg::runtime::spi::{self, Cursor, Rows, not_null, reads_latest};
use crate::pg::runtime::statement_mode::StatementMode;
use crate::pg::runtime::{subtransaction, version};

pub mod chatbot_triggers;
pub mod chunk;
pub mod configurations;
pub mod delete;
pub mod due_job;
#[allow(unsafe_code)]
pub mod host_row;
pub mod host_sources;
pub mod host_triggers;
pub mod index;
pub mod index_form;
pub mod job;
pub mod log;
pub mod model;
#[allow(unsafe_code)]
pub mod model_figures;
pub mod query_words;
#[allow(unsafe_code)]
pub mod quoting;
pub mod reading;
pub mod reembed;
pub mod refusal;
pub mod relation;
pub mod retry;
#[allow(unsafe_code)]
pub mod row_metadata;
pub mod search;
pub mod session;
#[allow(unsafe_code)]
pub mod source;
pub mod source_error;
pub mod source_key;
#[allow(unsafe_code)]
pub mod source_type;
#[allow(unsafe_code)]
pub mod statistics;
pub mod sync_error;
#[allow(unsafe_code)]
pub mod tables;
pub mod text_search;
#[allow(unsafe_code)]
pub mod vectors;
pub mod verify;

pub use crate::pg::runtime::spi::LatestSnapshot;

type Args<'a> = [DatumWithOid<'a>];

/// Runs a statement, whose plan is kept, and passes its rows to `read`.
fn run<R>(sql: &str, args: &Args, mode: StatementMode, read: impl FnOnce(Rows) -> pgrx::spi::Result<R>) -> Result<R> {
    version::check()?;
    if mode == StatementMode::Write {
        refuse_read_only();
    }
    Ok(spi::execute(sql, args, mode, read)?)
}

/// Locks rows that other sessions may have locked. A session that waited for a row which was then written gets a
/// serialization failure at REPEATABLE READ and above; where statements read the latest rows, the lock is then tried again.
fn lock_with_retry<R>(mut lock: impl FnMut() -> Result<R>) -> Result<R> {
    if !reads_latest() {
        return lock();
    }
    loop {
        match subtransaction::in_subtransaction(&mut lock) {
            Ok(locked) => return locked,
            Err(caught) if subtransaction::is_serialization_failure(&caught) => {}
            Err(caught) => caught.rethrow(),
        }
    }
}

/// Runs a statement without keeping its plan.
fn execute_once(sql: &str) -> Result<()> {
    refuse_read_only();
    Ok(Spi::connect_mut(|client| client.update(sql, None, &[]).map(drop))?)
}

/// Fails on a standby and in a READ ONLY transaction, with the error that Postgres raises for every write.
#[allow(unsafe_code)]
fn refuse_read_only() {
    // SAFETY: raises an error or does nothing.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"a write of chatbot_sync".as_ptr()) };
}

/// Runs a statement that writes, and returns the number of rows that it wrote.
fn write(sql: &str, args: &Args) -> Result<i64> {
    run(sql, args, StatementMode::Write, |rows| Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX)))
}
