//! Whether a table may refuse what is written to its status columns: then it is written in a subtransaction, after the
//! statement, so that a refusal is no error of the application's statement.

use pgrx::pg_sys;

use crate::error::Result;
use crate::pg::host::relation::Relation;
use crate::pg::host::row::Attribute;
use crate::pg::runtime::run_as::{Restriction, RunAs};
use crate::pg::store::host_triggers as store;

/// Whether a type, a constraint, an index, a generated column, a policy, a partition's bounds or a trigger of the user's
/// depends on one of the columns, or may.
pub fn may_refuse(relation: &Relation, columns: &[Attribute]) -> Result<bool> {
    if columns.iter().any(|column| column.domain) {
        return Ok(true);
    }
    // The trigger that asks runs with the rights and the search_path of whoever writes the row.
    // SAFETY: reads a variable of this backend.
    let _path = RunAs::new(unsafe { pg_sys::GetUserId() }, Restriction::Session);
    store::depends_on_columns(relation.oid, columns.iter().map(|column| column.number).collect())
}
