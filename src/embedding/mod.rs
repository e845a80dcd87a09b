//! From texts to vectors:
//! - [`batch`]: which texts go into which request, retries, and the checks of responses
//! - [`retry`]: the wait before the next attempt
//! - [`provider`]: the API of each provider, without I/O
//! - [`transport`]: one request over HTTP
//! - [`local`]: the models that are built in

pub mod batch;
pub mod local;
pub mod provider;
pub mod retry;
pub mod transport;
