//! The parts of Postgres that all layers above use.
//!
//! - `arguments`: checks of SQL arguments
//! - `catalog`: look-ups that use nothing of the extension's own
//! - `catalog_types`: `name` and `regclass` as arguments
//! - `doctor`: rows of `chatbot_doctor()`
//! - `domain_types`: the domain's ids, kinds and statuses as Datums
//! - `enabled`: the setting `chatbot_sync.enabled`
//! - `encoding`: the database's encoding, and `text` as an argument
//! - `jsonb`: `jsonb` as arguments and results
//! - `latch`: waits for a file descriptor, and answers interrupts meanwhile
//! - `lexemes`: the lexemes that dictionaries make of tokens
//! - `log_line`: lines in the server's log
//! - `memory`: memory contexts
//! - `plan`: how the extension's statements are planned
//! - `provider_settings`: the settings of providers
//! - `rollback_usage`: the usage of syncs whose transaction rolled back
//! - `run_as`: acting as another role
//! - `schema`: the extension's schema, and whether there is Citus
//! - `scoped_settings`: settings of Postgres, changed for a while
//! - `settings`: the extension's other settings
//! - `spi`: runs statements, whose plans are kept
//! - `sql_error`: SQLSTATE, detail and hint of each error
//! - `statement_mode`: which rows a statement sees, and whether it writes
//! - `subtransaction`: undoes what fails, and no more
//! - `threads`: threads that a statement computes on
//! - `transaction`: whether a step may commit what it does
//! - `tsvector`: `tsvector` as a Datum
//! - `vector`: pgvector's `vector` as a Datum
//! - `version`: whether the library and the database's SQL fit together
//! - `wake`: wakes the launcher through shared memory

use pgrx::pg_sys;

pub mod arguments;
pub mod catalog;
#[allow(unsafe_code)]
pub mod catalog_types;
pub mod doctor;
#[allow(unsafe_code)]
pub mod domain_types;
#[allow(unsafe_code)]
pub mod enabled;
#[allow(unsafe_code)]
pub mod encoding;
#[allow(unsafe_code)]
pub mod jsonb;
#[allow(unsafe_code)]
pub mod latch;
#[allow(unsafe_code)]
pub mod lexemes;
pub mod log_line;
#[allow(unsafe_code)]
pub mod memory;
#[allow(unsafe_code)]
pub mod plan;
pub mod provider_settings;
#[allow(unsafe_code)]
pub mod rollback_usage;
#[allow(unsafe_code)]
pub mod run_as;
#[allow(unsafe_code)]
pub mod schema;
#[allow(unsafe_code)]
pub mod scoped_settings;
pub mod settings;
#[allow(unsafe_code)]
pub mod spi;
pub mod sql_error;
pub mod statement_mode;
#[allow(unsafe_code)]
pub mod subtransaction;
#[allow(unsafe_code)]
pub mod threads;
#[allow(unsafe_code)]
pub mod transaction;
#[allow(unsafe_code)]
pub mod tsvector;
#[allow(unsafe_code)]
pub mod vector;
#[allow(unsafe_code)]
pub mod version;
#[allow(unsafe_code)]
pub mod wake;

/// The oid of the database that the session is connected to.
#[allow(unsafe_code)]
pub fn database() -> u32 {
    // SAFETY: a number that is set when the process connects and does not change.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}
