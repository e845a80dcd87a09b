//! The parts of a source's text, and the changes of its stored chunks when the text changes:
//! - [`diff`]: compares old and new chunks: which are kept, embedded or dropped
//! - [`reading`]: a content's chunks, their languages and words

pub mod diff;
pub mod reading;
