//! Where embeddings come from.

pub mod local;
