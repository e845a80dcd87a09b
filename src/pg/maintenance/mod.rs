//! Maintenance: finds what is wrong in a database, and changes the model of its vectors.
//!
//! - `reembed`: gives all sources vectors of another model; estimates what that or a sync would send
//! - `local_model_checks`: the doctor's checks of models in folders
//! - `refresh`: sources that were chunked or read with other settings
//! - `verify`: compares what is stored with what should be

pub mod local_model_checks;
pub mod reembed;
pub mod refresh;
pub mod verify;
