//! Whether the library and the SQL of this database fit together. It is checked before a session's first statement, and
//! again after a function has changed, since every update of the extension changes some.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::pg::runtime::doctor::DoctorRow;
use crate::pg::runtime::{catalog, encoding, sql_error};
use crate::version::{self, OWN, VersionMatch};

thread_local! {
    static IS_CHECKED: Cell<bool> = const { Cell::new(false) };
}

/// Fails where the library and the SQL of this database do not fit together.
pub fn check() -> Result<()> {
    // SAFETY: a plain variable of this thread's. While an extension is made or updated its version says little.
    if IS_CHECKED.get() || unsafe { pg_sys::creating_extension } {
        return Ok(());
    }
    register_cache_callback();
    if let Some(sql) = catalog::extension_version()? {
        version::check(&sql)?;
        IS_CHECKED.set(true);
    }
    Ok(())
}

/// Returns the row of chatbot_doctor() about the versions. It uses nothing of the extension's SQL, so that it works where
/// nothing else does.
pub fn doctor_row() -> Result<DoctorRow> {
    let Some(sql) = catalog::extension_version()? else {
        return Err(Error::Internal("the extension is not in this database".to_owned()));
    };
    if let Err(error) = version::check(&sql).and_then(|()| encoding::require_utf8()) {
        return Ok(DoctorRow { status: "error", detail: error.to_string(), hint: sql_error::hint(&error) });
    }
    Ok(match version::compare_with_installed(&sql, catalog::installed_version()?.as_deref()) {
        VersionMatch::Same => {
            DoctorRow { status: "ok", detail: format!("{OWN}, the library and the SQL of this database"), hint: None }
        }
        VersionMatch::SqlOlder => DoctorRow {
            status: "warning",
            detail: format!(
                "the SQL of this database is of version {sql}, and the library of {OWN}: it lacks what is new"
            ),
            hint: sql_error::hint(&Error::SqlTooOld { sql, library: OWN.to_owned() }),
        },
        VersionMatch::LibraryOlder(installed) => DoctorRow {
            status: "warning",
            detail: format!("version {installed} is installed, and this session still has the library of {OWN}"),
            hint: Some(
                "Connect again; where the library is preloaded, restart the server. Then ALTER EXTENSION chatbot_sync UPDATE;"
                    .to_owned(),
            ),
        },
    })
}

fn register_cache_callback() {
    #[pgrx::pg_guard]
    unsafe extern "C-unwind" fn forget(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
        IS_CHECKED.set(false);
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
