//! Waits for the extension's own threads, while the backend's thread answers interrupts.

use std::io::{PipeReader, Read};
use std::os::fd::AsRawFd;
use std::time::Instant;

use pgrx::pg_sys;

/// Waits until a thread has written to the pipe, or until an instant; a cancel, a timeout or a shutdown ends it with its
/// own error. What is in the pipe is taken out.
pub fn wait(mut pipe: &PipeReader, until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up: waking a little late is better than asking again and again within the same millisecond.
    let millis = i64::try_from(left.as_millis()).unwrap_or(i64::MAX).saturating_add(1);
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_SOCKET_READABLE | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: the latch is this backend's own and the descriptor is open as long as the pipe is borrowed.
    let woken = unsafe {
        let woken = pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events.cast_signed(),
            pipe.as_raw_fd(),
            millis,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        woken
    };
    pgrx::check_for_interrupts!();
    if woken & pg_sys::WL_SOCKET_READABLE.cast_signed() != 0 {
        // There is at least a byte, so this does not block.
        let _ = pipe.read(&mut [0; 256]);
    }
}
