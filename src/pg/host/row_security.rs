//! Row-level security that hides rows of a host table from its owner, as whom the extension reads them.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::pg::host::relation::{OpenRelation, Relation};
use crate::pg::store::host_triggers as store;
use crate::pg::store::relation::relation_with_descendants;

/// Fails where a policy hides rows of a table, or of one of its partitions, from its owner.
pub fn refuse_hidden_rows(table: pg_sys::Oid) -> Result<()> {
    relation_with_descendants(table)?.into_iter().try_for_each(|oid| hidden_rows(oid).map_or(Ok(()), Err))
}

/// Follows DDL on a table: warns where it belongs to an attached table and policies hide rows from its owner now.
pub fn warn_of_hidden_rows(changed: pg_sys::Oid) -> Result<()> {
    if store::attached_ancestors(changed)?.is_empty() {
        return Ok(());
    }
    for error in relation_with_descendants(changed)?.into_iter().filter_map(hidden_rows) {
        pgrx::ereport!(
            pgrx::PgLogLevel::WARNING,
            pgrx::PgSqlErrorCode::ERRCODE_WARNING,
            format!("{error}: rows that chatbot_sync cannot read get the status error"),
            "ALTER TABLE ... NO FORCE ROW LEVEL SECURITY; or, as a superuser, ALTER ROLE ... BYPASSRLS; for the owner."
        );
    }
    Ok(())
}

fn hidden_rows(oid: pg_sys::Oid) -> Option<Error> {
    let opened = OpenRelation::new(oid, pg_sys::AccessShareLock);
    // SAFETY: `opened` keeps the relation open; the rest are look-ups in the catalog's cache, and the name is palloc'ed.
    unsafe {
        let class = &*(*opened.0).rd_rel;
        if !class.relrowsecurity || !class.relforcerowsecurity || pg_sys::has_bypassrls_privilege(class.relowner) {
            return None;
        }
        let owner = CStr::from_ptr(pg_sys::GetUserNameFromId(class.relowner, false)).to_string_lossy().into_owned();
        Some(Error::HiddenRows { relation: Relation::of(opened.0).name, owner })
    }
}
