//! Decisions and scores of a search, without Postgres:
//! - [`plan`]: whether every chunk is read, or an index is asked
//! - [`bm25`]: scores of words
//! - [`fusion`]: one score of words and similarity
//! - [`proximity`]: neighbouring words of the query that a chunk has close together
//! - [`lexicon`]: the words of a text, and the lexemes that dictionaries made of them
//! - [`quantization`]: what an index has of each vector
//! - [`text_weight`]: what words count for, by model
//! - [`term`]: a word of a query, as lexemes of the index
//! - [`tsvector`]: Postgres' type for the words of a chunk, written and read
//! - [`words`]: the words of a query, in several languages at once

pub mod bm25;
pub mod fusion;
pub mod lexicon;
pub mod plan;
pub mod proximity;
pub mod quantization;
pub mod term;
pub mod text_weight;
pub mod tsvector;
pub mod words;
