//! Everything that knows Postgres. From the ground up:
//!
//! - `runtime`: settings, errors, memory, subtransactions, plans, shared memory, types of values
//! - `store`: every statement that is sent to Postgres
//! - `model`: the model of the database, and requests to its provider
//! - `sync`: chunks, embeds and stores many sources in one run
//! - `host`: host tables: attaching, triggers, DDL, reading rows, writing statuses
//! - `queue`: jobs: claimed, embedded, stored
//! - `search`: finds the chunks that match a query
//! - `session`: conversations with a chatbot
//! - `maintenance`: verifying, refreshing, re-embedding
//! - `worker`: the launcher and its workers
//! - `api`: the public SQL functions
//! - `internal_api`: SQL functions that only the extension's own SQL calls

mod api;
#[allow(unsafe_code)]
mod host;
mod internal_api;
mod maintenance;
mod model;
mod queue;
mod runtime;
mod search;
mod session;
#[allow(unsafe_code)]
mod source_types;
mod store;
mod sync;
#[allow(unsafe_code)]
mod worker;

::pgrx::extension_sql_file!("../../sql/schema.sql", name = "schema", bootstrap);
::pgrx::extension_sql_file!("../../sql/host.sql", name = "host");
::pgrx::extension_sql_file!("../../sql/queue.sql", name = "queue");
::pgrx::extension_sql_file!("../../sql/model.sql", name = "model");
::pgrx::extension_sql_file!("../../sql/index.sql", name = "index");
::pgrx::extension_sql_file!("../../sql/views.sql", name = "views");
::pgrx::extension_sql_file!("../../sql/metrics.sql", name = "metrics");
::pgrx::extension_sql_file!("../../sql/checks.sql", name = "checks");
::pgrx::extension_sql_file!("../../sql/checks_setup.sql", name = "checks_setup");
::pgrx::extension_sql_file!("../../sql/dba.sql", name = "dba");
::pgrx::extension_sql_file!("../../sql/citus.sql", name = "citus");
::pgrx::extension_sql_file!("../../sql/quantization.sql", name = "quantization");
::pgrx::extension_sql_file!("../../sql/layout.sql", name = "layout", requires = ["index"]);
::pgrx::extension_sql_file!("../../sql/grants.sql", name = "grants");
::pgrx::extension_sql_file!("../../sql/final.sql", name = "final", finalize);

/// Called by Postgres when it loads the library.
#[allow(non_snake_case)]
#[::pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    runtime::settings::define();
    runtime::provider_settings::define();
    runtime::plan::init();
    runtime::enabled::define();
    worker::init();
}
