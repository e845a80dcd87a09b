//! The shell: everything that knows Postgres.

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
::pgrx::extension_sql_file!("../../sql/grants.sql", name = "grants");
::pgrx::extension_sql_file!("../../sql/final.sql", name = "final", finalize);

/// Called by Postgres when it loads the library.
#[allow(non_snake_case)]
#[::pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    runtime::settings::define();
    runtime::plan::init();
    runtime::enabled::define();
    worker::init();
}
