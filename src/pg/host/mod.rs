//! Host tables: the application's own tables, whose rows are sources.
//!
//! - `attach`: `chatbot_attach()`
//! - `changes`: the changes that an UPDATE made to sources
//! - `chatbots`: the table whose rows are the chatbots
//! - `condition`: the condition that rows have to fulfil to be found
//! - `ddl`: follows ALTER TABLE, DROP TABLE, partitions and restores
//! - `detach`: `chatbot_detach()`, and what follows a deleted chatbot
//! - `enqueue`: jobs for changed rows
//! - `expression`: parses the expression of a condition
//! - `key_set`: a set of source keys with bounded memory
//! - `nested`: statements of users' triggers, which run within a statement
//! - `pending`: registers and syncs rows by key, for `chatbot_sync_all()` and the queue
//! - `read`: reads rows by key, with an error for each row that cannot be read
//! - `reconcile`: rows whose values changed without an UPDATE
//! - `refusal`: whether a status column may refuse a value
//! - `relation`: an open relation, and the mark of the extension's own DDL
//! - `row`: a row in a tuple slot, by columns
//! - `row_security`: policies that hide rows from the table's owner
//! - `siblings`: the attachments of one table to several chatbots
//! - `source_keys`: the keys of a table's sources
//! - `status_writeback`: writes the status columns of rows
//! - `table`: a host table, with the columns for each role
//! - `trigger`: the trigger functions
//! - `triggers`: makes the triggers

mod attach;
mod changes;
mod chatbots;
mod condition;
mod ddl;
mod detach;
mod enqueue;
mod expression;
mod key_set;
mod nested;
mod pending;
mod read;
mod reconcile;
mod refusal;
mod relation;
mod row;
mod row_security;
mod siblings;
mod source_keys;
mod status_writeback;
mod table;
mod trigger;
mod triggers;

pub use crate::pg::host::attach::{AttachArguments, attach};
pub use crate::pg::host::chatbots::attach_chatbots;
pub use crate::pg::host::ddl::{on_altered, on_dropped, on_restored};
pub use crate::pg::host::detach::detach;
pub use crate::pg::host::pending::{
    BatchOutcome, ExpectedStatus, for_each_input, for_each_key_in_snapshot, hosts, invalid_rows, readings,
    register_all_existing_rows, sync_batch, write_statuses,
};
pub use crate::pg::host::read::{Access, InvalidRow, read_inputs, without_waiting};
pub use crate::pg::host::reconcile::{note_rewrite, on_rewritten};
pub use crate::pg::host::row_security::warn_of_hidden_rows;
pub use crate::pg::host::siblings::find_in_all_tables as all_siblings;
