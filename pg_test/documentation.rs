//! What the documents say.
