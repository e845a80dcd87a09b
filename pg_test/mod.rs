//! Tests that need a server: one file for each subject, each test named after the promise that it checks.
//!
//! Each test has a database of its own with the extension, and uses it as applications do: with several sessions and
//! roles, and with commits. No test waits for a fixed time; each waits for a condition.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

#[cfg(test)]
mod arguments;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod citus;
#[cfg(test)]
mod citus_cluster;
#[cfg(test)]
mod citus_search;
#[cfg(test)]
mod dba;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod doctor_setup;
#[cfg(test)]
mod documentation;
#[cfg(test)]
mod enabled;
#[cfg(test)]
mod encodings;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod halves;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod host_attach;
#[cfg(test)]
mod host_chatbots;
#[cfg(test)]
mod host_children;
#[cfg(test)]
mod host_columns;
#[cfg(test)]
mod host_condition;
#[cfg(test)]
mod host_isolation;
#[cfg(test)]
mod host_life;
#[cfg(test)]
mod host_nested;
#[cfg(test)]
mod host_partitions;
#[cfg(test)]
mod host_refresh;
#[cfg(test)]
mod host_rewrite;
#[cfg(test)]
mod host_row_security;
#[cfg(test)]
mod host_rows;
#[cfg(test)]
mod host_safety;
#[cfg(test)]
mod host_statements;
#[cfg(test)]
mod host_status;
#[cfg(test)]
mod host_sync_all;
#[cfg(test)]
mod host_title;
#[cfg(test)]
mod host_unreadable;
#[cfg(test)]
mod http;
#[cfg(test)]
mod index;
#[cfg(test)]
mod interrupts;
#[cfg(test)]
mod languages;
#[cfg(test)]
mod local_model_change;
#[cfg(test)]
mod local_model_files;
#[cfg(test)]
mod local_models;
#[cfg(test)]
mod long_documents;
#[cfg(test)]
mod mock;
#[cfg(test)]
mod model_figures;
#[cfg(test)]
mod models;
#[cfg(test)]
mod monitoring;
#[cfg(test)]
mod privileges;
#[cfg(test)]
mod providers;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod quantization;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod queue_attempts;
#[cfg(test)]
mod queue_locks;
#[cfg(test)]
mod queue_order;
#[cfg(test)]
mod replication;
#[cfg(test)]
mod row_security;
#[cfg(test)]
mod search;
#[cfg(test)]
mod server;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod source_types;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod verify;
#[cfg(test)]
mod workers;

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    #[pg_test]
    fn server_starts() {}
}
