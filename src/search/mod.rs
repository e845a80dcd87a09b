//! What a search decides and computes without Postgres:
//! - [`plan`]: reading all chunks, or asking an index
//! - [`bm25`]: scores of words
//! - [`fusion`]: one score of words and similarity
//! - [`tsvector`]: Postgres' type for the words of a chunk, written and read
//! - [`words`]: the words of a query, in several languages at once

pub mod bm25;
pub mod fusion;
pub mod plan;
pub mod tsvector;
pub mod words;
