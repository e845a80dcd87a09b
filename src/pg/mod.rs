//! The shell: everything that knows Postgres.

mod api;
mod args;
#[allow(unsafe_code)]
mod catalog_types;
#[allow(unsafe_code)]
mod enabled;
#[allow(unsafe_code)]
mod encoding;
mod event;
mod guc;
#[allow(unsafe_code)]
mod host;
mod http;
#[allow(unsafe_code)]
mod jsonb;
#[allow(unsafe_code)]
mod memory;
mod model;
#[allow(unsafe_code)]
mod owner;
mod queue;
mod reembed;
mod refresh;
mod report;
mod requests;
mod search;
mod session;
mod steps;
mod store;
#[allow(unsafe_code)]
mod subtransaction;
mod sync;
mod throttle;
#[allow(unsafe_code)]
mod vector;
mod verify;
#[allow(unsafe_code)]
mod version;
#[allow(unsafe_code)]
mod visible_chatbots;
mod words;
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
::pgrx::extension_sql_file!("../../sql/grants.sql", name = "grants");
::pgrx::extension_sql_file!("../../sql/final.sql", name = "final", finalize);

/// Called by Postgres when it loads the library.
#[allow(non_snake_case)]
#[::pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    guc::define();
    store::plan::init();
    enabled::define();
    worker::init();
}
