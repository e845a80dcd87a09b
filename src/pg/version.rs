//! Whether the library and the SQL of this database go together, looked at before the first statement of a session and
//! again when a function has changed, as every update changes some.

use std::cell::Cell;

use pgrx::pg_sys;

use super::store;
use crate::error::Result;
use crate::version;

thread_local! {
    static FITS: Cell<bool> = const { Cell::new(false) };
}

/// Fails where they do not, with what to do about it.
pub fn check() -> Result<()> {
    // SAFETY: a plain variable of this thread's. While an extension is made or updated its version says little.
    if FITS.get() || unsafe { pg_sys::creating_extension } {
        return Ok(());
    }
    watch();
    if let Some(sql) = store::extension_version()? {
        version::check(&sql)?;
        FITS.set(true);
    }
    Ok(())
}

fn watch() {
    #[pgrx::pg_guard]
    unsafe extern "C-unwind" fn forget(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
        FITS.set(false);
    }
    thread_local!(static WATCHING: Cell<bool> = const { Cell::new(false) });
    if !WATCHING.replace(true) {
        // SAFETY: the callback only clears a cell of this thread, and backends have one thread that calls Postgres.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(
                pg_sys::SysCacheIdentifier::PROCOID as i32,
                Some(forget),
                pg_sys::Datum::null(),
            );
        }
    }
}
