//! From what an application stores to what is embedded and found:
//! - [`content`]: plain text, HTML and translations → the texts in them
//! - [`chunk`]: a text → the ranges of its chunks
//! - [`analyzer`]: a text in, the tokens of a full-text index out, and its language

//! - [`title`]: what goes before the text of each chunk

pub mod analyzer;
pub mod chunk;
pub mod content;
pub mod title;
