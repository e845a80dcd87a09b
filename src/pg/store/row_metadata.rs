//! The metadata of host rows, made by SQL of their columns.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use crate::error::Result;
use crate::host::HostColumns;
use crate::pg::runtime::scoped_settings::ScopedSettings;
use crate::pg::store::quoting::{quote_literal, quoted};
use crate::pg::store::{StatementMode, not_null, run};
use crate::source::Jsonb;

/// The metadata of a row as an expression in SQL. Of two members of one name Postgres keeps the last one.
pub fn row_metadata_sql(row: &str, columns: &HostColumns) -> String {
    let members = columns.metadata.iter().map(|column| (column.name.as_str(), column));
    let members = members.chain(columns.title.iter().map(|column| ("title", column)));
    let pairs: Vec<String> =
        members.map(|(member, column)| format!("{}, {row}.{}", quote_literal(member), quoted(&column.name))).collect();
    format!("pg_catalog.jsonb_build_object({})", pairs.join(", "))
}

/// A column's number and type, by which two versions of a table are told apart.
pub struct ColumnShape {
    /// The column's number, from 1.
    pub number: i16,
    /// The oid of the column's type.
    pub of_type: u32,
}

/// Makes the metadata of a row that is given as a composite Datum of `row_type`; `shape` are the numbers and types of
/// its metadata columns.
pub fn metadata(
    row: pg_sys::Datum,
    row_type: pg_sys::Oid,
    columns: &HostColumns,
    shape: &[ColumnShape],
) -> Result<Jsonb> {
    let _settings = ScopedSettings::for_metadata();
    // A kept plan does not notice that a composite type has changed. The comment with the shape makes it another statement.
    // SAFETY: the value has this type, as callers promise, and outlives the call.
    let row = unsafe { DatumWithOid::new(Composite(row), row_type) };
    let shape: Vec<String> = shape.iter().map(|column| format!("{} {}", column.number, column.of_type)).collect();
    let sql = format!("SELECT {} /* {} */", row_metadata_sql("($1)", columns), shape.join(", "));
    run(&sql, &[row], StatementMode::Read, |rows| not_null(rows.first().get_one()))
}

/// A value that is a Datum already.
struct Composite(pg_sys::Datum);

impl pgrx::IntoDatum for Composite {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::RECORDOID
    }
}
