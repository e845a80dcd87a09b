//! chatbot_sync keeps a chatbot's knowledge in step with the rows that own it, inside Postgres: it cuts their text into
//! chunks, gets an embedding for each and stores them in the transaction of the row itself.
//!
//! The pure layer knows no Postgres, builds with `--no-default-features` and is tested with plain `cargo test`:
//! - [`batch`]: texts to requests to vectors, in order, checked
//! - [`chunk`]: text in, ranges out
//! - [`content`]: what an application stores, and the texts in it
//! - [`diff`]: old chunks and new chunks in, keep or embed or drop out
//! - [`error`]: what can go wrong
//! - [`fulltext`]: BM25, and its fusion with similarities
//! - [`host`]: what a table of the application's is to us
//! - [`provider`]: where embeddings come from
//! - [`retry`]: how long to wait
//! - [`scan`]: reading all chunks, or asking an index
//! - [`session_id`]: ids of sessions
//! - [`transport`]: one request over HTTP
//! - [`version`]: which SQL a library serves
//!
//! The shell, feature `pg`, is `pg`: what SQL sees of it stands in `pg/api.rs`, what it sends to Postgres in `pg/store/`.

pub mod batch;
pub mod chunk;
pub mod content;
pub mod diff;
pub mod error;
pub mod fulltext;
pub mod host;
pub mod provider;
pub mod retry;
pub mod scan;
pub mod session_id;
pub mod transport;
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
