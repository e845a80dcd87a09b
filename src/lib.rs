//! chatbot_sync keeps the chunks and vectors of a chatbot in step with the host rows that they come from, inside
//! Postgres. It cuts the text of a row into chunks, has each chunk embedded and stores the vectors: in the transaction
//! of the row (mode sync), or shortly after it through a queue (mode async).
//!
//! The pure layer uses no Postgres, builds with `--no-default-features` and is tested with plain `cargo test`. The shell is
//! `pg`, the feature of the same name.
#![doc = include_str!("../docs/ARCHITECTURE.md")]

pub mod embedding;
pub mod error;
pub mod host;
pub mod ids;
pub mod search;
pub mod session_id;
pub mod source;
pub mod sync;
pub mod text;
pub mod threads;
pub mod version;

#[cfg(test)]
mod fuzz;

#[cfg(feature = "pg")]
pub mod pg;

#[cfg(feature = "pg")]
::pgrx::pg_module_magic!(name, version);

#[cfg(all(feature = "pg", any(test, feature = "pg_test")))]
#[path = "../pg_test/mod.rs"]
mod tests;

/// The hooks that `cargo pgrx test` calls; it looks for them at the crate's root.
#[cfg(all(feature = "pg", test))]
pub mod pg_test {
    /// Does nothing; `cargo pgrx test` calls it once before the server starts.
    pub fn setup(_options: Vec<&str>) {}

    /// Returns lines for the test server's postgresql.conf.
    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        // Nothing in a test needs to survive a crash, and without fsync the tests run much faster. Threads take part in every
        // test, however few cores the machine has.
        vec!["fsync = off", "full_page_writes = off", "max_connections = 200", "chatbot_sync.local_threads = 2"]
    }
}
