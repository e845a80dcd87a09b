//! chatbot_sync keeps a chatbot's knowledge in step with the rows that own it, inside Postgres: it cuts their text into
//! chunks, gets an embedding for each and stores them in the transaction of the row itself.
//!
//! The pure layer knows no Postgres, builds with `--no-default-features` and is tested with plain `cargo test`:
//! - [`error`]: what can go wrong
//! - [`host`]: what `chatbot_attach()` was told about a table
//! - [`text`]: what an application stores, the texts in it, and their chunks
//! - [`embedding`]: texts to requests to vectors: batches, retries, providers, HTTP, the built-in models
//! - [`search`]: which way a search goes, BM25, and its fusion with similarities
//! - [`sync`]: which stored chunks are kept, and which texts are embedded
//! - [`session_id`]: ids of sessions
//! - [`version`]: which SQL a library serves
//!
//! The shell, feature `pg`, is `pg`: what SQL sees of it stands in `pg/api.rs`, what it sends to Postgres in `pg/store/`.

pub mod embedding;
pub mod error;
pub mod host;
pub mod search;
pub mod session_id;
pub mod source;
pub mod sync;
pub mod text;
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

/// What `cargo pgrx test` asks for; it has to stand at the crate's root.
#[cfg(all(feature = "pg", test))]
pub mod pg_test {
    /// Called once before the server starts.
    pub fn setup(_options: Vec<&str>) {}

    /// Lines for the test server's postgresql.conf.
    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        // A test's data need not survive the machine.
        vec!["fsync = off", "full_page_writes = off", "max_connections = 200"]
    }
}
