//! What a source's text becomes, and what happens to its stored chunks when it changes:
//! - [`diff`]: compares old and new chunks: which are kept, embedded or dropped
//! - [`reading`]: a content's chunks, their languages and words

pub mod diff;
pub mod reading;
