//! Acting as another role, such as the owner of a table.

use std::ffi::CStr;

use pgrx::pg_sys;

/// While this lives, statements have the rights of a role, cannot change the role, and find only what is in
/// pg_catalog or qualified.
pub struct RunAs {
    /// The role that statements ran as before.
    previous_role: pg_sys::Oid,
    /// The security context that they had before.
    previous_context: i32,
    /// The nest level of the settings that this has changed.
    guc_level: i32,
}

/// The restriction of code that runs as another role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restriction {
    /// Like a statement of the session itself.
    Session,
    /// As Postgres restricts maintenance commands: the code can leave nothing behind that would run later with the session's
    /// rights. It does not apply where the session has the role itself.
    Maintenance,
}

impl RunAs {
    /// Acts as a table's owner to read its rows. Where a policy would hide rows from the owner, Postgres
    /// raises 42501 instead.
    pub fn reading(owner: pg_sys::Oid) -> Self {
        let acting = Self::new(owner, Restriction::Maintenance);
        set_locally(c"row_security", c"off");
        acting
    }

    /// Until this is dropped, statements run as this role, under the restriction, with the
    /// search_path `pg_catalog, pg_temp`.
    pub fn new(role: pg_sys::Oid, restriction: Restriction) -> Self {
        // SAFETY: VACUUM acts as a table's owner in the same way. An error that ends the transaction or subtransaction
        // restores both the role and the settings.
        unsafe {
            let (mut user, mut context) = (pg_sys::InvalidOid, 0);
            pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
            let more = match restriction {
                Restriction::Session => pg_sys::SECURITY_LOCAL_USERID_CHANGE,
                // The session has this role itself: what runs later has the same rights.
                Restriction::Maintenance if role == pg_sys::GetOuterUserId() => pg_sys::SECURITY_LOCAL_USERID_CHANGE,
                Restriction::Maintenance => {
                    pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION
                }
            };
            pg_sys::SetUserIdAndSecContext(role, context | more.cast_signed());
            let guc_level = pg_sys::NewGUCNestLevel();
            set_locally(c"search_path", c"pg_catalog, pg_temp");
            Self { previous_role: user, previous_context: context, guc_level }
        }
    }
}

/// Sets a parameter until the GUC nest level that is open ends.
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
                pg_sys::AtEOXact_GUC(false, self.guc_level);
                pg_sys::SetUserIdAndSecContext(self.previous_role, self.previous_context);
            }
        }
    }
}
