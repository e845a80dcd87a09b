//! Host tables: the application's own tables, whose rows are sources.
//!
//! - `attach`: `chatbot_attach()` and `chatbot_detach()`; `chatbots`: the table whose rows are the chatbots
//! - `triggers`: making and remaking the triggers; `trigger`: what they do; `nested`: statements within statements
//! - `ddl`: what follows ALTER TABLE, DROP TABLE, partitions and restores
//! - `pending`: rows that wait, read by their ids; `status_writeback`: the columns that rows show their status in
//! - `table`, `relation`, `row`: a host table, a relation that is open, a row in a slot

mod attach;
mod changes;
mod chatbots;
mod ddl;
mod key_set;
mod nested;
mod pending;
mod read;
mod reconcile;
mod refusal;
mod relation;
mod row;
mod row_security;
mod status_writeback;
mod table;
mod trigger;
mod triggers;

pub use crate::pg::host::attach::{Attach, attach, detach};
pub use crate::pg::host::chatbots::attach_chatbots;
pub use crate::pg::host::ddl::{on_altered, on_dropped, on_restored};
pub use crate::pg::host::pending::{
    BatchOutcome, each_input, each_key_in_snapshot, hosts, invalid_rows, readings, register_all_existing_rows,
    sync_batch, tell,
};
pub use crate::pg::host::read::{Access, rows, without_waiting};
pub use crate::pg::host::reconcile::{follow_rewrites, note_rewrite};
pub use crate::pg::host::row_security::warn_of_hidden_rows;
