//! Threads that leave every signal to the main thread.

/// Every signal is blocked while this lives: threads that are started meanwhile leave all of them to the main thread.
pub struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    /// Blocks them for this thread.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        // SAFETY: both sets are initialised by the calls before they are read; only this thread's mask changes.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the mask is the one that was in force before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}
