//! Acting as a table's owner.

use std::ffi::CStr;

use pgrx::pg_sys;

/// As long as this lives, what runs has the rights of a role, may not change the role, and finds only Postgres' own
/// functions and what is qualified.
pub struct RunAs {
    before: (pg_sys::Oid, i32),
    level: i32,
}

/// What the role's code may do that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restriction {
    /// What a statement of the session's own may.
    Session,
    /// As in maintenance: nothing that would run later with the session's rights, where those are not the role's.
    Maintenance,
}

impl RunAs {
    /// As the owner whose table is read. A policy does not hide rows from it: where one would, Postgres raises 42501.
    pub fn reading(owner: pg_sys::Oid) -> Self {
        let acting = Self::new(owner, Restriction::Maintenance);
        set_locally(c"row_security", c"off");
        acting
    }

    /// Until this is dropped, statements run as this role, under the restriction.
    pub fn new(role: pg_sys::Oid, restriction: Restriction) -> Self {
        // SAFETY: as VACUUM and others act as a table's owner. An error that ends the transaction or subtransaction puts
        // both the role and the settings back.
        unsafe {
            let (mut user, mut context) = (pg_sys::InvalidOid, 0);
            pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
            let more = match restriction {
                Restriction::Session => pg_sys::SECURITY_LOCAL_USERID_CHANGE,
                // What runs later runs with its own rights.
                Restriction::Maintenance if role == pg_sys::GetOuterUserId() => pg_sys::SECURITY_LOCAL_USERID_CHANGE,
                Restriction::Maintenance => {
                    pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION
                }
            };
            pg_sys::SetUserIdAndSecContext(role, context | more.cast_signed());
            let level = pg_sys::NewGUCNestLevel();
            set_locally(c"search_path", c"pg_catalog, pg_temp");
            Self { before: (user, context), level }
        }
    }
}

/// Sets a parameter for the GUC nest level that is open.
fn set_locally(name: &CStr, value: &CStr) {
    // SAFETY: both are C strings, and a level is open.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

impl Drop for RunAs {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the level that new() opened, and the role that was before.
            unsafe {
                pg_sys::AtEOXact_GUC(false, self.level);
                pg_sys::SetUserIdAndSecContext(self.before.0, self.before.1);
            }
        }
    }
}
