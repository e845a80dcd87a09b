//! What happens to a source's stored chunks when its text changes:
//! - [`diff`]: compares old and new chunks: which are kept, embedded or dropped

pub mod diff;
