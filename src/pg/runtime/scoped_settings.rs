//! Postgres' own settings, changed for as long as a value lives.

use std::ffi::CStr;

use pgrx::pg_sys;

/// Settings that hold as long as this lives.
pub struct ScopedSettings(i32);

impl ScopedSettings {
    /// Sets them until this is dropped, or until an error ends the transaction or subtransaction.
    pub fn new(settings: &[(&CStr, &CStr)]) -> Self {
        // SAFETY: as CREATE INDEX and others set parameters for a while: a level of their own, taken back by the drop, or
        // by Postgres where an error ends the transaction or subtransaction.
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

    /// Other sessions' locks are waited for only for a moment: then it is 55P03.
    pub fn short_lock_timeout() -> Self {
        Self::new(&[(c"lock_timeout", c"100ms")])
    }

    /// Values become the same JSON in every session, as a dump would write them: times in UTC.
    pub fn for_metadata() -> Self {
        Self::new(&[
            (c"TimeZone", c"UTC"),
            (c"DateStyle", c"ISO, YMD"),
            (c"IntervalStyle", c"postgres"),
            (c"extra_float_digits", c"1"),
            (c"bytea_output", c"hex"),
        ])
    }

    /// Foreign keys are not checked.
    pub fn unchecked() -> Self {
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
