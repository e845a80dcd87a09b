//! From texts to vectors:
//! - [`batch`]: texts to requests to vectors, in order, checked
//! - [`retry`]: how long to wait before the next attempt
//! - [`provider`]: what each provider's API looks like, without sockets
//! - [`transport`]: one request over HTTP
//! - [`local`]: the models that are built in

pub mod batch;
pub mod local;
pub mod provider;
pub mod retry;
pub mod transport;
