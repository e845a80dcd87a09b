//! Makes the triggers of a host table and of its partitions, and keeps the column numbers in their arguments current.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::host::{Column, HostOptions};
use crate::pg::host::relation::{OpenRelation, Relation};
use crate::pg::host::row::Attribute;
use crate::pg::store::host_triggers as store;
use crate::pg::store::relation::relation_with_descendants;

/// Sets a column's name or number to what the relation has now; returns false where the column is gone.
pub fn update_column(column: &mut Column, descriptor: pg_sys::TupleDesc) -> bool {
    let Column { name, number } = column;
    match (Attribute::find(descriptor, name), Attribute::name(descriptor, *number)) {
        // A restored table or a partition may have other numbers, so the name counts first.
        (Some(found), _) => *number = found.number,
        (None, Some(renamed)) => *name = renamed,
        (None, None) => return false,
    }
    true
}

/// Sets the columns' numbers to those that they have in a relation. Fails where the relation lacks one.
pub fn set_column_numbers(host: &mut HostOptions, relation: &str, open: pg_sys::Relation) -> Result<()> {
    // SAFETY: callers pass a relation that is open.
    let descriptor = unsafe { (*open).rd_att };
    for (role, Column { name, number }) in host.all_columns_mut() {
        let found = Attribute::find(descriptor, name).ok_or_else(|| Error::NoColumn {
            relation: relation.to_owned(),
            column: name.clone(),
            role,
        })?;
        *number = found.number;
    }
    Ok(())
}

/// Makes the triggers of a table and of its partitions and children.
pub fn make_triggers(host: &HostOptions, root: &Relation) -> Result<()> {
    for oid in relation_with_descendants(root.oid)? {
        make_table_triggers(host, root.oid, oid)?;
    }
    Ok(())
}

/// Makes the triggers of one table, partition or child, with a SHARE ROW EXCLUSIVE lock until the transaction ends.
pub fn make_table_triggers(host: &HostOptions, root: pg_sys::Oid, oid: pg_sys::Oid) -> Result<()> {
    let opened = OpenRelation::new(oid, pg_sys::ShareRowExclusiveLock);
    // SAFETY: `opened` keeps the relation open.
    let relation = unsafe { Relation::of(opened.0) };
    if relation.kind == pg_sys::RELKIND_FOREIGN_TABLE || relation.temporary {
        let got = if relation.temporary { "a temporary table" } else { "a foreign table" };
        return Err(Error::NoTable { relation: relation.name, got });
    }
    let mut host = HostOptions { partition: oid != root, ..host.clone() };
    set_column_numbers(&mut host, &relation.name, opened.0)?;
    let leaf = relation.kind == pg_sys::RELKIND_RELATION;
    let argument = host.to_trigger_argument()?;
    drop(opened);
    store::make_triggers(oid, &relation.name, host.host, &argument, leaf && host.columns.has_status_columns())
}
