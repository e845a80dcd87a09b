//! Open relations and what is read of them, and the mark that DDL is the extension's own.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::pg::runtime::arguments;
use crate::pg::runtime::catalog::catalog_byte;
use crate::pg::runtime::catalog_types::Regclass;
use crate::pg::store::relation::{relation_exists, relation_with_descendants};

/// A relation, as far as the extension reads it.
#[derive(Debug, Clone)]
pub struct Relation {
    /// The relation's oid.
    pub oid: pg_sys::Oid,
    /// The name with its schema, quoted for SQL.
    pub name: String,
    /// The role that owns the relation.
    pub owner: pg_sys::Oid,
    /// Its `pg_class.relkind`.
    pub kind: u8,
    /// Whether it is a temporary relation.
    pub temporary: bool,
    /// The composite type of its rows.
    pub row_type: pg_sys::Oid,
}

impl Relation {
    /// Reads it from the relation cache.
    ///
    /// # Safety
    /// The relation is open.
    pub unsafe fn of(relation: pg_sys::Relation) -> Self {
        // SAFETY: the relation is open, as the caller promises; names are palloc'ed C strings.
        unsafe {
            let class = &*(*relation).rd_rel;
            let schema = pg_sys::get_namespace_name_or_temp(class.relnamespace);
            let name = pg_sys::quote_qualified_identifier(schema, class.relname.data.as_ptr());
            Self {
                oid: (*relation).rd_id,
                name: CStr::from_ptr(name).to_string_lossy().into_owned(),
                owner: class.relowner,
                kind: catalog_byte(class.relkind),
                temporary: catalog_byte(class.relpersistence) == pg_sys::RELPERSISTENCE_TEMP,
                row_type: class.reltype,
            }
        }
    }
}

thread_local! {
    /// Whether the DDL that runs now is the extension's own.
    pub static OWN_DDL: Cell<bool> = const { Cell::new(false) };
}

/// Marks, while it lives, that DDL is the extension's own: what follows DDL of users does nothing then.
pub struct ExtensionDdlGuard(bool);

impl ExtensionDdlGuard {
    /// Starts to mark it; marks may be nested.
    pub fn new() -> Self {
        Self(OWN_DDL.replace(true))
    }
}

impl Drop for ExtensionDdlGuard {
    fn drop(&mut self) {
        OWN_DDL.set(self.0);
    }
}

/// An open relation, which stays locked until the transaction ends.
pub struct OpenRelation(pub pg_sys::Relation);

impl OpenRelation {
    /// Opens a relation with a lock. Raises an error where there is no such relation.
    pub fn new(oid: pg_sys::Oid, lock: u32) -> Self {
        // SAFETY: raises an error where there is no such relation.
        Self(unsafe { pg_sys::relation_open(oid, lock.cast_signed()) })
    }
}

impl Drop for OpenRelation {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: new() opened it.
            unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock.cast_signed()) };
        }
    }
}

/// Opens a table that the caller owns, with a SHARE ROW EXCLUSIVE lock until the transaction ends. Fails for everything but
/// ordinary and partitioned tables.
pub fn open_owned_table(relation: Option<Regclass>) -> Result<(OpenRelation, Relation)> {
    let oid = arguments::required("relation", relation)?.0;
    if !relation_exists(oid)? {
        return Err(Error::invalid("relation", oid.to_u32(), "a table"));
    }
    let opened = OpenRelation::new(oid, pg_sys::ShareRowExclusiveLock);
    // SAFETY: `opened` keeps the relation open.
    let relation = unsafe { Relation::of(opened.0) };
    let got = match relation.kind {
        pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE if relation.temporary => "a temporary table",
        pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE => {
            // SAFETY: a look-up in the catalog's cache.
            let owns = unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), relation.owner) };
            return if owns { Ok((opened, relation)) } else { Err(Error::NotOwner { relation: relation.name }) };
        }
        pg_sys::RELKIND_VIEW => "a view",
        pg_sys::RELKIND_MATVIEW => "a materialized view",
        pg_sys::RELKIND_FOREIGN_TABLE => "a foreign table",
        pg_sys::RELKIND_SEQUENCE => "a sequence",
        pg_sys::RELKIND_INDEX | pg_sys::RELKIND_PARTITIONED_INDEX => "an index",
        _ => "a type",
    };
    Err(Error::NoTable { relation: relation.name, got })
}

/// Locks a table with its partitions and children until the transaction ends.
pub fn lock_with_descendants(table: pg_sys::Oid, lock: u32) -> Result<()> {
    for oid in relation_with_descendants(table)? {
        // SAFETY: waits for the lock, or raises an error where it is not to be had.
        unsafe { pg_sys::LockRelationOid(oid, lock.cast_signed()) };
    }
    Ok(())
}
