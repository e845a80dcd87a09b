//! Settings of Postgres, changed for as long as a value lives.

use std::ffi::CStr;

use pgrx::pg_sys;

/// Settings that are in force while this lives.
pub struct ScopedSettings(i32);

impl ScopedSettings {
    /// Sets parameters until this is dropped, or until an error ends the transaction or subtransaction.
    pub fn new(settings: &[(&CStr, &CStr)]) -> Self {
        // SAFETY: CREATE INDEX sets parameters for a while in the same way: in a nest level of their own, which ends on
        // drop, or with a transaction or subtransaction that an error ends.
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            for (name, value) in settings {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_SUSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
            Self(level)
        }
    }

    /// Waits at most 100 ms for a lock that another session has; then Postgres raises 55P03.
    pub fn short_lock_timeout() -> Self {
        Self::new(&[(c"lock_timeout", c"100ms")])
    }

    /// Makes values become the same JSON in every session, in the form of a dump: times in UTC, for example.
    pub fn for_metadata() -> Self {
        Self::new(&[
            (c"TimeZone", c"UTC"),
            (c"DateStyle", c"ISO, YMD"),
            (c"IntervalStyle", c"postgres"),
            (c"extra_float_digits", c"1"),
            (c"bytea_output", c"hex"),
        ])
    }

    /// Switches off the checks of foreign keys.
    pub fn without_foreign_key_checks() -> Self {
        Self::new(&[(c"session_replication_role", c"replica")])
    }
}

impl Drop for ScopedSettings {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the level that new() opened; what ran meanwhile closed its own.
            unsafe { pg_sys::AtEOXact_GUC(true, self.0) };
        }
    }
}
