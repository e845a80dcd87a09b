//! Maintenance: finds what is wrong in a database, and changes the model of its vectors.
//!
//! - `reembed`: gives all sources vectors of another model; estimates what that or a sync would send
//! - `refresh`: sources that were chunked or read with other settings
//! - `verify`: compares what is stored with what should be

pub mod reembed;
pub mod refresh;
pub mod verify;
