//! The extension's schema, and whether Citus is in the database.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::error::{Error, Result};

const SCHEMA: &CStr = c"chatbot_sync";

/// The oid of the schema `chatbot_sync`.
pub fn schema() -> Result<pg_sys::Oid> {
    // SAFETY: a look-up in the catalog's cache.
    match unsafe { pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true) } {
        pg_sys::InvalidOid => Err(Error::Internal("the schema chatbot_sync is gone".to_owned())),
        id => Ok(id),
    }
}

/// Whether Citus is in this database.
pub fn has_citus() -> bool {
    // SAFETY: a look-up in the catalog's cache.
    let citus = unsafe {
        pg_sys::get_relname_relid(c"pg_dist_partition".as_ptr(), pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE))
    };
    citus != pg_sys::InvalidOid
}
