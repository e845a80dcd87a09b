//! From texts to vectors:
//! - [`batch`]: which texts go into which request, retries, and the checks of responses
//! - [`retry`]: the wait before the next attempt
//! - [`provider`]: the API of each provider, without I/O
//! - [`storage`]: the precision in which vectors are stored
//! - [`transport`]: one request over HTTP
//! - [`local`]: the models that are built in
//! - [`tokenizer`]: texts to the tokens of a model in a folder
//! - [`transformer`]: models in folders

pub mod batch;
pub mod local;
pub mod provider;
pub mod retry;
pub mod storage;
pub mod tokenizer;
pub mod transformer;
pub mod transport;
