//! Whether anything may be embedded: the setting `chatbot_sync.enabled`, for copies of a database that must send nothing.
//!
//! If a server or a database says `off`, no session can say `on`. What ALTER DATABASE says is read from the catalog, so that
//! it takes effect at once in open sessions too. A session may say `off` for itself, and take that back.

use std::cell::Cell;
use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::{PgSqlErrorCode, pg_sys};

use crate::error::{Error, Result};

const NAME: &CStr = c"chatbot_sync.enabled";
/// The oids of the catalog pg_db_role_setting and of its index, which are the same in every version.
const DB_ROLE_SETTING: u32 = 2964;
const DB_ROLE_SETTING_INDEX: u32 = 2965;

static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Whether a session is loading the library right now, while Postgres applies the settings that the session already has.
static LOADED_LATE: AtomicBool = AtomicBool::new(false);

/// A command of this session, by the start of the client's statement, the start of the transaction, and its number in it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Command {
    statement: i64,
    transaction: i64,
    number: pg_sys::CommandId,
}

/// The last reading of the catalog.
#[derive(Clone, Copy)]
struct Reading {
    /// The command in which the catalog was read.
    command: Command,
    /// Whether it said `off` for this database.
    is_off: bool,
}

thread_local! {
    static LAST_READING: Cell<Option<Reading>> = const { Cell::new(None) };
}

/// Defines the setting.
pub fn define() {
    // SAFETY: a variable that Postgres sets while it loads libraries.
    let preloaded = unsafe { pg_sys::process_shared_preload_libraries_in_progress };
    LOADED_LATE.store(!preloaded, Ordering::Relaxed);
    // SAFETY: the hook is a function of this library, which is never unloaded.
    unsafe {
        GucRegistry::define_bool_guc_with_hooks(
            NAME,
            c"Whether sources are embedded and providers are asked.",
            c"Off: what would be embedded stays pending. A session cannot say on where its database or server says off.",
            &ENABLED,
            GucContext::Userset,
            GucFlags::default(),
            Some(check_hook),
            None,
            None,
        );
    }
    LOADED_LATE.store(false, Ordering::Relaxed);
}

/// The setting's check hook: accepts `off` from everywhere, `on` only from a server's or a database's configuration, and
/// from a session for which they say `on`.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn check_hook(
    value: *mut bool,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    use pg_sys::GucSource::{PGC_S_DATABASE, PGC_S_SESSION, PGC_S_TEST};
    // SAFETY: Postgres' own pointer to the new value.
    let value = unsafe { &mut *value };
    if !*value || source <= PGC_S_DATABASE || source == PGC_S_TEST {
        return true;
    }
    if LOADED_LATE.load(Ordering::Relaxed) && source < PGC_S_SESSION {
        // A setting of a role or a client has replaced what the server's files say, which might be `off`.
        *value = false;
        return true;
    }
    // SAFETY: the setting is defined, and its reset value is text that Postgres owns. The hint is a constant.
    unsafe {
        let reset = pg_sys::GetConfigOptionResetString(NAME.as_ptr());
        if source >= PGC_S_SESSION && !reset.is_null() && CStr::from_ptr(reset) == c"on" {
            return true;
        }
        pg_sys::GUC_check_errcode(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE as i32);
        pg_sys::GUC_check_errhint_string =
            pg_sys::pstrdup(c"It is switched on for a database or a server: ALTER DATABASE ... SET, or ALTER SYSTEM SET; a session that said off says RESET.".as_ptr());
    }
    false
}

/// Whether this session may embed.
pub fn is_enabled() -> bool {
    ENABLED.get() && !is_database_off()
}

/// Fails with [`Error::Disabled`] where this session may not embed.
pub fn require_enabled() -> Result<()> {
    if is_enabled() { Ok(()) } else { Err(Error::Disabled) }
}

/// Whether ALTER DATABASE says `off`. The catalog is read once for each command.
fn is_database_off() -> bool {
    // SAFETY: times and a counter of this backend's; the catalog is read within a transaction only.
    unsafe {
        if !pg_sys::IsTransactionState() {
            // A worker that waits for its provider has no transaction open: what the last one read still holds.
            return LAST_READING.get().is_some_and(|read| read.is_off);
        }
        let command = Command {
            statement: pg_sys::GetCurrentStatementStartTimestamp(),
            transaction: pg_sys::GetCurrentTransactionStartTimestamp(),
            number: pg_sys::GetCurrentCommandId(false),
        };
        match LAST_READING.get() {
            Some(read) if read.command == command => read.is_off,
            _ => {
                let is_off = setting_of_database() == Some(false);
                LAST_READING.set(Some(Reading { command, is_off }));
                is_off
            }
        }
    }
}

/// Whether a worker of this database may embed, whatever this session has set for itself.
pub fn is_enabled_for_workers() -> bool {
    // SAFETY: the setting is defined, and its reset value is text that Postgres owns.
    let reset = unsafe { CStr::from_ptr(pg_sys::GetConfigOptionResetString(NAME.as_ptr())) };
    reset == c"on" && !is_database_off()
}

/// Reads the value that ALTER DATABASE has set for this database; `None`: it has set none.
fn setting_of_database() -> Option<bool> {
    let mut setting = None;
    // SAFETY: a scan of a shared catalog within a transaction, as Postgres itself makes one when a session starts.
    unsafe {
        let lock = pg_sys::AccessShareLock.cast_signed();
        let table = pg_sys::table_open(DB_ROLE_SETTING.into(), lock);
        let mut keys = [pg_sys::ScanKeyData::default(); 2];
        let strategy = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
        // Column 1 is the database; column 2 is the role, which is 0 for a setting of all roles.
        for (key, column, value) in [(0, 1, pg_sys::MyDatabaseId), (1, 2, pg_sys::InvalidOid)] {
            pg_sys::ScanKeyInit(&raw mut keys[key], column, strategy, pg_sys::F_OIDEQ.into(), value.into());
        }
        let index = DB_ROLE_SETTING_INDEX.into();
        let scan = pg_sys::systable_beginscan(table, index, true, std::ptr::null_mut(), 2, keys.as_mut_ptr());
        let row = pg_sys::systable_getnext(scan);
        if !row.is_null() {
            let (mut columns, mut nulls) = ([pg_sys::Datum::null(); 3], [true; 3]);
            pg_sys::heap_deform_tuple(row, (*table).rd_att, columns.as_mut_ptr(), nulls.as_mut_ptr());
            setting = (!nulls[2]).then(|| setting_of(columns[2])).flatten();
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, lock);
    }
    setting
}

/// Finds the setting in an array of `name=value`; `None` where it is not in it.
///
/// # Safety
/// The datum is a text array that is not NULL.
unsafe fn setting_of(settings: pg_sys::Datum) -> Option<bool> {
    // SAFETY: as the caller promises; the elements are texts, read as bytes: other settings may be in another encoding.
    unsafe {
        let array = pg_sys::pg_detoast_datum(settings.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let (mut elements, mut count) = (std::ptr::null_mut(), 0);
        let (align, none) = (pg_sys::TYPALIGN_INT as std::ffi::c_char, std::ptr::null_mut());
        pg_sys::deconstruct_array(array, pg_sys::TEXTOID, -1, false, align, &raw mut elements, none, &raw mut count);
        let count = usize::try_from(count).unwrap_or(0);
        std::slice::from_raw_parts(elements, count).iter().rev().find_map(|element| {
            let text = pg_sys::pg_detoast_datum_packed(element.cast_mut_ptr());
            let bytes = std::slice::from_raw_parts(pgrx::vardata_any(text).cast(), pgrx::varsize_any_exhdr(text));
            let (name, value) = std::str::from_utf8(bytes).ok()?.split_once('=')?;
            let value = std::ffi::CString::new(value).ok()?;
            let mut on = true;
            let is_ours = name.as_bytes().eq_ignore_ascii_case(NAME.to_bytes());
            (is_ours && pg_sys::parse_bool(value.as_ptr(), &raw mut on)).then_some(on)
        })
    }
}
