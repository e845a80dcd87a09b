//! Threads of the extension. They know nothing of Postgres, and leave every signal to the backend's own thread.
//! - [`pool`]: pure work beside the thread that wants its results
//! - [`signals`]: threads that leave every signal to the main thread

pub mod pool;
#[allow(unsafe_code)]
pub mod signals;
