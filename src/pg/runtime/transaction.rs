//! Whether a step may commit what it does.

use pgrx::pg_sys;

/// Whether the calling procedure cannot commit: it was called after BEGIN, or by a function.
pub fn is_in_block() -> bool {
    // SAFETY: reads the state of this backend's transaction, and of the procedure that asks.
    unsafe { pg_sys::IsTransactionBlock() || !pg_sys::SPI_inside_nonatomic_context() }
}
