//! Relations and types in the catalog: their names, and what inherits from what.

use pgrx::pg_sys;

use crate::error::Result;
use crate::pg::store::{StatementMode, not_null, run};

/// Returns the name of a type.
pub fn type_name(oid: pg_sys::Oid) -> Result<String> {
    let sql = "SELECT pg_catalog.format_type($1, NULL)";
    run(sql, &[oid.into()], StatementMode::Read, |rows| not_null(rows.first().get_one()))
}

/// Returns the name of a relation, quoted, with its schema where that is not in the search_path.
pub fn relation_name(oid: pg_sys::Oid) -> Result<String> {
    let sql = "SELECT $1::pg_catalog.regclass::text";
    run(sql, &[oid.into()], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}

/// Whether there is a relation with this oid.
pub fn relation_exists(oid: pg_sys::Oid) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = $1)";
    run(sql, &[oid.into()], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}

/// A subquery for a relation, given as an expression, and everything that inherits from it, directly or not.
pub fn with_descendants(relation: &str) -> String {
    format!(
        "(
            WITH RECURSIVE r AS (
                SELECT {relation}::oid AS relid
                UNION
                SELECT i.inhrelid
                FROM pg_catalog.pg_inherits i
                JOIN r ON i.inhparent = r.relid
                WHERE NOT i.inhdetachpending
            )
            SELECT r.relid
            FROM r
        )"
    )
}

/// A subquery for a relation, given as an expression, and everything that it inherits from, directly or not.
pub fn with_ancestors(relation: &str) -> String {
    format!(
        "(
            WITH RECURSIVE r AS (
                SELECT {relation}::oid AS relid
                UNION
                SELECT i.inhparent
                FROM pg_catalog.pg_inherits i
                JOIN r ON i.inhrelid = r.relid
                WHERE NOT i.inhdetachpending
            )
            SELECT r.relid
            FROM r
        )"
    )
}

/// Returns a relation with its partitions and children, and those of them too.
pub fn relation_with_descendants(oid: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let sql = format!("SELECT d.relid FROM {} AS d", with_descendants("$1"));
    run(&sql, &[oid.into()], StatementMode::ReadLatest, |rows| rows.map(|row| not_null(row.get(1))).collect())
}
