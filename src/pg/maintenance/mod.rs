//! What keeps a database right: finding and mending what is wrong, and changing the model under its vectors.

pub mod reembed;
pub mod refresh;
pub mod verify;
