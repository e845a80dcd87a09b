//! Whether a table may refuse a value of its status columns. Then these are written after the statement, in a
//! subtransaction, so that a refusal does not fail the application's statement.

use pgrx::pg_sys;

use crate::error::Result;
use crate::pg::host::relation::Relation;
use crate::pg::host::row::Attribute;
use crate::pg::runtime::run_as::{Restriction, RunAs};
use crate::pg::store::refusal as store;

/// Whether something of the user's that may refuse a value depends on one of the columns: a domain, constraint, index,
/// generated column, policy, partition bound or trigger.
pub fn may_refuse(relation: &Relation, columns: &[Attribute]) -> Result<bool> {
    if columns.iter().any(|column| column.domain) {
        return Ok(true);
    }
    // The trigger that calls this runs with the search_path of the session that writes the row, where a user's function or
    // operator may hide one of Postgres' own.
    // SAFETY: reads a variable of this backend.
    let _path = RunAs::new(unsafe { pg_sys::GetUserId() }, Restriction::Session);
    store::depends_on_columns(relation.oid, columns.iter().map(|column| column.number).collect())
}
