//! From what an application stores to what is embedded:
//! - [`content`]: plain text, HTML and translations, and the texts in them
//! - [`chunk`]: a text in, the ranges of its chunks out

pub mod chunk;
pub mod content;
