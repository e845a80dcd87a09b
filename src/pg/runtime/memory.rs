//! Memory contexts that are freed during a statement, and not only at its end.

use pgrx::pg_sys;

/// A memory context that is the current one while this lives, and is deleted when it is dropped.
pub struct Scratch {
    own: pg_sys::MemoryContext,
    before: pg_sys::MemoryContext,
}

impl Scratch {
    /// Creates a context below the current one and makes it the current one.
    pub fn new() -> Self {
        // SAFETY: an ordinary context below the current one, which outlives it; an error deletes both.
        unsafe {
            let before = pg_sys::CurrentMemoryContext;
            let own = pg_sys::AllocSetContextCreateExtended(
                before,
                c"chatbot_sync".as_ptr(),
                0,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            pg_sys::CurrentMemoryContext = own;
            Self { own, before }
        }
    }

    /// Frees what was allocated in the context since the last time. Nothing of it may be in use.
    pub fn reset(&mut self) {
        // SAFETY: the context is this one's own; its user keeps only Rust's memory across a reset.
        unsafe { pg_sys::MemoryContextReset(self.own) };
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the context before is still there, since it is this one's parent.
            unsafe {
                pg_sys::CurrentMemoryContext = self.before;
                pg_sys::MemoryContextDelete(self.own);
            }
        }
    }
}
