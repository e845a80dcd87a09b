//! Statements on rows of host tables.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use crate::error::Result;
use crate::host::{Column, HostColumns, HostOptions, RowStatus};
use crate::pg::runtime::scoped_settings::ScopedSettings;
use crate::pg::store::host_triggers::{execute, quote_literal, quoted};
use crate::pg::store::{Cursor, StatementMode, not_null, run, write};
use crate::source::{Jsonb, SourceKey};

/// A row's key as SQL, in a statement with no other table.
pub struct KeySql {
    id: String,
    chatbot: String,
}

impl KeySql {
    /// Of an attached table.
    pub fn of(host: &HostOptions) -> Self {
        Self { id: quoted(&host.columns.id.0), chatbot: chatbot(host, "") }
    }

    /// Of a table whose rows are chatbots.
    pub fn of_chatbots(id: &str) -> Self {
        Self { id: quoted(id), chatbot: quoted(id) }
    }
}

/// A row's chatbot as SQL; `of` is what stands before a column.
fn chatbot(host: &HostOptions, of: &str) -> String {
    match (&host.columns.chatbot, host.chatbot_id) {
        (Some(Column(name, _)), _) => format!("{of}{}", quoted(name)),
        (None, id) => format!("{}::bigint", id.unwrap_or_default()),
    }
}

/// Whether searches are to find a row, as SQL, with the condition or without.
pub fn enabled(host: &HostOptions, with_condition: bool) -> String {
    let column = host.columns.enabled.as_ref().map(|Column(name, _)| quoted(name));
    let condition = host.condition.as_ref().filter(|_| with_condition).map(|condition| format!("({})", condition.sql));
    let all: Vec<String> = column.into_iter().chain(condition).map(|sql| format!("COALESCE({sql}, false)")).collect();
    if all.is_empty() { "true".to_owned() } else { all.join(" AND ") }
}

/// Returns the (id, chatbot id) of the rows with these ids that belong to a chatbot.
pub fn rows_with_ids(relation: &str, key: &KeySql, ids: Vec<i64>) -> Result<Vec<(i64, i64)>> {
    let sql = format!("{} AND {} = ANY ($1)", of_chatbots(relation, key, "true"), key.id);
    run(&sql, &[ids.into()], StatementMode::ReadLatest, |rows| {
        rows.map(|row| Ok((not_null(row.get(1))?, not_null(row.get(2))?))).collect()
    })
}

fn of_chatbots(relation: &str, KeySql { id, chatbot }: &KeySql, enabled: &str) -> String {
    format!("SELECT {id}::bigint, {chatbot}::bigint, {enabled} FROM {relation} WHERE {chatbot} IS NOT NULL")
}

/// Returns the (id, chatbot id) of rows that no source can have.
pub fn invalid_ids(relation: &str, KeySql { id, chatbot }: &KeySql) -> Result<Vec<(i64, i64)>> {
    let sql = format!(
        "SELECT {id}::bigint, {chatbot}::bigint FROM {relation}
        WHERE {chatbot} < 1 OR {chatbot} IS NOT NULL AND {id} < 1"
    );
    run(&sql, &[], StatementMode::Read, |rows| {
        rows.map(|row| Ok((not_null(row.get(1))?, not_null(row.get(2))?))).collect()
    })
}

/// A cursor over the (id, chatbot id) of all rows of a table that belong to a chatbot.
pub struct RowIdCursor(Cursor);

impl RowIdCursor {
    /// Opens a cursor over the rows that the calling statement sees.
    pub fn new(relation: &str, key: &KeySql) -> Result<Self> {
        Ok(Self(Cursor::open(&of_chatbots(relation, key, "true"), StatementMode::Read)?))
    }

    /// Opens a cursor over the rows as they are by now.
    pub fn now(relation: &str, key: &KeySql) -> Result<Self> {
        Self::open_latest_with_enabled(relation, key, "true")
    }

    /// Opens a cursor over the rows as they are by now, for [`Self::next_with`]; `enabled` is the column that says whether
    /// searches find a row.
    pub fn open_latest_with_enabled(relation: &str, key: &KeySql, enabled: &str) -> Result<Self> {
        Ok(Self(Cursor::open(&of_chatbots(relation, key, enabled), StatementMode::ReadLatest)?))
    }

    /// Returns up to `most` further rows; an empty list at the end.
    pub fn next(&self, most: i64) -> Result<Vec<(i64, i64)>> {
        Ok(self.next_with(most)?.into_iter().map(|(id, chatbot, _)| (id, chatbot)).collect())
    }

    /// Returns up to `most` further rows, with whether searches find them; an empty list at the end.
    pub fn next_with(&self, most: i64) -> Result<Vec<(i64, i64, bool)>> {
        Ok(self.0.fetch(most, |rows| {
            rows.map(|row| Ok((not_null(row.get(1))?, not_null(row.get(2))?, not_null(row.get(3))?))).collect()
        })?)
    }
}

/// Which version of a row is read, and whether it is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// The latest version, locked until the transaction ends; rows that another session has locked are skipped.
    ForUpdate,
    /// The version that is committed by now, at READ COMMITTED or while a `LatestSnapshot` lives.
    Latest,
    /// The version that the calling statement sees.
    Snapshot,
}

impl ReadMode {
    fn clause(self) -> &'static str {
        if self == Self::ForUpdate { "FOR NO KEY UPDATE SKIP LOCKED" } else { "" }
    }

    fn mode(self) -> StatementMode {
        match self {
            Self::ForUpdate => StatementMode::Write,
            Self::Latest => StatementMode::ReadLatest,
            Self::Snapshot => StatementMode::Read,
        }
    }
}

/// A row of a host table as SQL reads it.
pub struct HostRow {
    /// The value of `id_column`.
    pub source_id: i64,
    /// The value of `chatbot_column`.
    pub chatbot_id: i64,
    /// The values of the content columns.
    pub content: Vec<Option<String>>,
    /// The metadata, made from the `metadata_columns`.
    pub metadata: Jsonb,
    /// Whether searches find the row: the value of `enabled_column`, or true where there is none.
    pub enabled: bool,
    /// The values of its status columns.
    pub state: RowStatus,
}

/// The metadata of a row. Of two members of one name Postgres keeps the last one.
fn jsonb_object_sql(of: &str, columns: &HostColumns) -> String {
    let members = columns.metadata.iter().map(|column| (column.0.as_str(), column));
    let members = members.chain(columns.title.iter().map(|column| ("title", column)));
    let pairs: Vec<String> =
        members.map(|(member, Column(name, _))| format!("{}, {of}.{}", quote_literal(member), quoted(name))).collect();
    format!("pg_catalog.jsonb_build_object({})", pairs.join(", "))
}

/// Reads rows by id, of one chatbot or, where that is `None`, of all. With [`ReadMode::ForUpdate`] they stay locked until
/// the transaction ends, and rows that another session has locked are skipped.
pub fn rows_by_id(
    relation: &str,
    host: &HostOptions,
    ids: Vec<i64>,
    of_chatbot: Option<i64>,
    look: ReadMode,
) -> Result<Vec<HostRow>> {
    let content = host.columns.content.iter().map(|column| format!("t.{}::text", quoted(&column.0)));
    let sql = format!(
        "SELECT t.{id}::bigint, {chatbot}::bigint, ARRAY[{content}], {metadata}, {state}
        FROM {relation} AS t WHERE t.{id} = ANY ($1) AND {chatbot} IS NOT NULL {of_chatbot} {lock}",
        state = status_columns_sql(host),
        lock = look.clause(),
        of_chatbot = of_chatbot.map_or(String::new(), |_| format!("AND {} = $2", chatbot(host, "t."))),
        id = quoted(&host.columns.id.0),
        chatbot = chatbot(host, "t."),
        content = content.collect::<Vec<_>>().join(", "),
        metadata = jsonb_object_sql("t", &host.columns),
    );
    let args: Vec<DatumWithOid> = std::iter::once(ids.into()).chain(of_chatbot.map(Into::into)).collect();
    let _settings = ScopedSettings::for_metadata();
    run(&sql, &args, look.mode(), |rows| {
        rows.map(|row| {
            Ok(HostRow {
                source_id: not_null(row.get(1))?,
                chatbot_id: not_null(row.get(2))?,
                content: not_null(row.get(3))?,
                metadata: not_null(row.get(4))?,
                enabled: not_null(row.get(5))?,
                state: RowStatus { status: row.get(6)?, processed: row.get(7)?, error: row.get(8)? },
            })
        })
        .collect()
    })
}

/// Reads whether searches find a row, and its status columns, where its other columns cannot be read; `None`: there is no
/// such row.
pub fn state_of(
    relation: &str,
    host: &HostOptions,
    key: SourceKey,
    look: ReadMode,
) -> Result<Option<(bool, RowStatus)>> {
    let sql = format!(
        "SELECT {state} FROM {relation} AS t WHERE t.{id} = $1 AND {chatbot} = $2 {lock}",
        state = status_columns_sql(host),
        lock = look.clause(),
        id = quoted(&host.columns.id.0),
        chatbot = chatbot(host, "t."),
    );
    run(&sql, &[key.source_id.into(), key.chatbot_id.into()], look.mode(), |mut rows| {
        let read = |row: pgrx::spi::SpiHeapTupleData| {
            let state = RowStatus { status: row.get(2)?, processed: row.get(3)?, error: row.get(4)? };
            Ok((not_null(row.get(1))?, state))
        };
        rows.next().map(read).transpose()
    })
}

/// The SQL for whether searches find a row and for its status columns, none of which has a type of the user's.
fn status_columns_sql(host: &HostOptions) -> String {
    let columns = &host.columns;
    let maybe = |column: &Option<Column>, otherwise: &str| {
        column.as_ref().map_or(otherwise.to_owned(), |Column(name, _)| format!("t.{}", quoted(name)))
    };
    format!(
        "{}, {}::text, {}, {}::text",
        enabled(host, true),
        maybe(&columns.status, "NULL"),
        maybe(&columns.processed, "NULL::boolean"),
        maybe(&columns.error, "NULL")
    )
}

/// Makes the metadata of a row that is given as a composite Datum of `row_type`; `shape` are the numbers and types of its
/// metadata columns.
pub fn metadata(
    row: pg_sys::Datum,
    row_type: pg_sys::Oid,
    columns: &HostColumns,
    shape: &[(i16, u32)],
) -> Result<Jsonb> {
    let _settings = ScopedSettings::for_metadata();
    // A kept plan does not notice that a composite type has changed. The comment with the shape makes it another statement.
    // SAFETY: the value has this type, as callers promise, and outlives the call.
    let row = unsafe { DatumWithOid::new(Composite(row), row_type) };
    run(&format!("SELECT {} /* {shape:?} */", jsonb_object_sql("($1)", columns)), &[row], StatementMode::Read, |rows| {
        not_null(rows.first().get_one())
    })
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

/// Writes statuses to rows. An error message that is too long for its column is cut.
pub fn write_back(relation: &str, host: &HostOptions, told: &[(SourceKey, RowStatus)]) -> Result<()> {
    let columns = &host.columns;
    let types = |Column(name, _): &Column| {
        let sql = "SELECT pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute
            WHERE attrelid = $1::pg_catalog.regclass AND attname = $2";
        run(sql, &[relation.into(), name.as_str().into()], StatementMode::ReadLatest, |rows| {
            not_null::<String>(rows.first().get_one())
        })
    };
    let mut sets = Vec::new();
    for (column, value) in [(&columns.status, "status"), (&columns.processed, "processed"), (&columns.error, "error")] {
        if let Some(column) = column {
            // A status is not cast to its column's type: cut to its length, it would be another word.
            let cast = if value == "status" { String::new() } else { format!("::{}", types(column)?) };
            sets.push(format!("{} = w.{value}{cast}", quoted(&column.0)));
        }
    }
    let sql = format!(
        "UPDATE {relation} AS t SET {}
        FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::boolean[], $5::text[])
            AS w (id, chatbot, status, processed, error)
        WHERE t.{} = w.id AND {} = w.chatbot",
        sets.join(", "),
        quoted(&columns.id.0),
        chatbot(host, "t.")
    );
    let ids: Vec<i64> = told.iter().map(|(key, _)| key.source_id).collect();
    let chatbots: Vec<i64> = told.iter().map(|(key, _)| key.chatbot_id).collect();
    let statuses: Vec<Option<String>> = told.iter().map(|(_, s)| s.status.clone()).collect();
    let processed: Vec<Option<bool>> = told.iter().map(|(_, s)| s.processed).collect();
    let errors: Vec<Option<String>> = told.iter().map(|(_, s)| s.error.clone()).collect();
    write(&sql, &[ids.into(), chatbots.into(), statuses.into(), processed.into(), errors.into()]).map(drop)
}

/// In a transaction of ours: constraints that are deferred are checked by each statement, so that one refuses the status of
/// a row, and not the commit of all. Does nothing in a transaction of the caller's, nor in a subtransaction.
pub fn check_constraints_at_once() -> Result<()> {
    // SAFETY: reads the state of this backend's transaction.
    if unsafe { pg_sys::IsTransactionBlock() } { Ok(()) } else { execute("SET CONSTRAINTS ALL IMMEDIATE") }
}

/// Writes the status `pending` to all rows that are sources.
pub fn write_pending(relation: &str, host: &HostOptions) -> Result<()> {
    let columns = &host.columns;
    let pairs = [(&columns.status, "'pending'"), (&columns.processed, "false"), (&columns.error, "NULL")];
    let pairs: Vec<(String, &str)> =
        pairs.into_iter().filter_map(|(column, value)| Some((quoted(&column.as_ref()?.0), value))).collect();
    let join = |between: &str, sign: &str| {
        pairs.iter().map(|(column, value)| format!("{column} {sign} {value}")).collect::<Vec<_>>().join(between)
    };
    execute(&format!(
        "UPDATE {relation} SET {} WHERE {} > 0 AND {} > 0 AND ({})",
        join(", ", "="),
        chatbot(host, ""),
        quoted(&columns.id.0),
        join(" OR ", "IS DISTINCT FROM")
    ))
}
