//! The public SQL functions: each turns its arguments into Rust types and calls the module that does the work.
//! No function is STRICT, so that a NULL argument raises an error that names it.
//!
//! The rows of a function stand as a tuple in its signature, since pgrx takes the names of the columns from there.
//!
//! - `host_table`: attaches, detaches, estimates and verifies host tables
//! - `search`: models, vectors and searches
//! - `session`: conversations
//! - `source`: sources of function calls, chunks, and kinds of source

mod host_table;
mod search;
mod session;
mod source;
