//! What becomes of a source's stored chunks when its text is another:
//! - [`diff`]: old chunks and new chunks in, keep or embed or drop out

pub mod diff;
