//! What a search decides and computes without Postgres:
//! - [`plan`]: reading all chunks, or asking an index
//! - [`bm25`]: scores of words, and their fusion with similarities

pub mod bm25;
pub mod plan;
