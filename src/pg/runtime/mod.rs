//! What the shell needs of Postgres, and all that is above it uses: settings, errors, memory, subtransactions, running as
//! another role, types of values.

use pgrx::pg_sys;

pub mod arguments;
pub mod catalog;
#[allow(unsafe_code)]
pub mod catalog_types;
#[allow(unsafe_code)]
pub mod enabled;
#[allow(unsafe_code)]
pub mod encoding;
#[allow(unsafe_code)]
pub mod jsonb;
#[allow(unsafe_code)]
pub mod lexemes;
pub mod log_line;
#[allow(unsafe_code)]
pub mod memory;
pub mod mode;
#[allow(unsafe_code)]
pub mod plan;
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
#[allow(unsafe_code)]
pub mod subtransaction;
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
