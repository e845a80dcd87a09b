//! Statements on rows of host tables.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use crate::error::Result;
use crate::host::{Column, HostOptions, RowStatus};
use crate::ids::ChatbotId;
use crate::pg::runtime::scoped_settings::ScopedSettings;
use crate::pg::store::quoting::{quote_literal, quoted};
use crate::pg::store::row_metadata::row_metadata_sql;
use crate::pg::store::{Cursor, StatementMode, execute_once, not_null, run, write};
use crate::source::{Jsonb, SourceKey, SourceStatus};

/// A row's key as SQL, in a statement with no other table.
pub struct KeySql {
    id: String,
    chatbot: String,
}

impl KeySql {
    /// The key of a row of a host table.
    pub fn of(host: &HostOptions) -> Self {
        Self { id: quoted(&host.columns.id.name), chatbot: chatbot_sql(host, "") }
    }

    /// The key of a row of a table of chatbots, whose id is both.
    pub fn of_chatbots(id: &str) -> Self {
        Self { id: quoted(id), chatbot: quoted(id) }
    }
}

/// A row's chatbot as SQL; `prefix` is what stands before a column.
fn chatbot_sql(host: &HostOptions, prefix: &str) -> String {
    match (&host.columns.chatbot, host.chatbot_id) {
        (Some(column), _) => format!("{prefix}{}", quoted(&column.name)),
        (None, id) => format!("{}::bigint", id.unwrap_or_default()),
    }
}

/// Whether searches are to find a row, as SQL, with the condition or without.
pub fn enabled_sql(host: &HostOptions, with_condition: bool) -> String {
    let column = host.columns.enabled.as_ref().map(|column| quoted(&column.name));
    let condition = host.condition.as_ref().filter(|_| with_condition).map(|condition| format!("({})", condition.sql));
    let all: Vec<String> = column.into_iter().chain(condition).map(|sql| format!("COALESCE({sql}, false)")).collect();
    if all.is_empty() { "true".to_owned() } else { all.join(" AND ") }
}

/// The ids of a host row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowIds {
    /// The row's own id.
    pub source_id: i64,
    /// The chatbot that the row belongs to.
    pub chatbot_id: ChatbotId,
}

impl RowIds {
    fn read(row: &SpiHeapTupleData) -> pgrx::spi::Result<Self> {
        Ok(Self { source_id: not_null(row.get(1))?, chatbot_id: not_null(row.get(2))? })
    }
}

/// A host row that is registered as a source.
#[derive(Debug, Clone, Copy)]
pub struct RowToRegister {
    /// The row's own id.
    pub source_id: i64,
    /// The chatbot that the row belongs to.
    pub chatbot_id: ChatbotId,
    /// Whether searches are to find the row.
    pub enabled: bool,
}

/// The SELECT of [`RowToRegister`]s: all rows that belong to a chatbot.
fn rows_sql(relation: &str, KeySql { id, chatbot }: &KeySql, enabled: &str) -> String {
    format!(
        "SELECT {id}::bigint, {chatbot}::bigint, {enabled}
        FROM {relation}
        WHERE {chatbot} IS NOT NULL"
    )
}

/// Returns the ids of the rows with these ids that belong to a chatbot.
pub fn rows_with_ids(relation: &str, key: &KeySql, ids: Vec<i64>) -> Result<Vec<RowIds>> {
    let sql = format!(
        "{}
            AND {} = ANY ($1)",
        rows_sql(relation, key, "true"),
        key.id
    );
    run(&sql, &[ids.into()], StatementMode::ReadLatest, |rows| rows.map(|row| RowIds::read(&row)).collect())
}

/// Returns the ids of rows that no source can have.
pub fn invalid_ids(relation: &str, KeySql { id, chatbot }: &KeySql) -> Result<Vec<RowIds>> {
    let sql = format!(
        "SELECT {id}::bigint, {chatbot}::bigint
        FROM {relation}
        WHERE {chatbot} < 1
            OR {chatbot} IS NOT NULL AND {id} < 1"
    );
    run(&sql, &[], StatementMode::Read, |rows| rows.map(|row| RowIds::read(&row)).collect())
}

/// A cursor over all rows of a table that belong to a chatbot.
pub struct RowCursor(Cursor);

impl RowCursor {
    /// Opens a cursor over the rows that the calling statement sees.
    pub fn open_in_snapshot(relation: &str, key: &KeySql) -> Result<Self> {
        Ok(Self(Cursor::open(&rows_sql(relation, key, "true"), StatementMode::Read)?))
    }

    /// Opens a cursor over the rows as they are by now.
    pub fn open_latest(relation: &str, key: &KeySql) -> Result<Self> {
        Self::open_latest_with_enabled(relation, key, "true")
    }

    /// Opens a cursor over the rows as they are by now, for [`Self::fetch_to_register`]; `enabled` is the
    /// SQL of [`enabled_sql`].
    pub fn open_latest_with_enabled(relation: &str, key: &KeySql, enabled: &str) -> Result<Self> {
        Ok(Self(Cursor::open(&rows_sql(relation, key, enabled), StatementMode::ReadLatest)?))
    }

    /// Returns the ids of up to `most` further rows; an empty list at the end.
    pub fn fetch(&self, most: i64) -> Result<Vec<RowIds>> {
        Ok(self.0.fetch(most, |rows| rows.map(|row| RowIds::read(&row)).collect())?)
    }

    /// Returns up to `most` further rows, with whether searches find them; an empty list at the end.
    pub fn fetch_to_register(&self, most: i64) -> Result<Vec<RowToRegister>> {
        let read = |row: SpiHeapTupleData| {
            let RowIds { source_id, chatbot_id } = RowIds::read(&row)?;
            Ok(RowToRegister { source_id, chatbot_id, enabled: not_null(row.get(3))? })
        };
        Ok(self.0.fetch(most, |rows| rows.map(read).collect())?)
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
    fn locking_clause(self) -> &'static str {
        if self == Self::ForUpdate { "FOR NO KEY UPDATE SKIP LOCKED" } else { "" }
    }

    fn statement_mode(self) -> StatementMode {
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
    pub chatbot_id: ChatbotId,
    /// The values of the content columns.
    pub content: Vec<Option<String>>,
    /// The metadata, made from the `metadata_columns`.
    pub metadata: Jsonb,
    /// Whether searches find the row: the value of `enabled_column`, or true where there is none.
    pub enabled: bool,
    /// The values of its status columns.
    pub status: RowStatus,
}

/// Reads rows by id, of one chatbot or, where `of_chatbot` is `None`, of all. With [`ReadMode::ForUpdate`] they stay locked until
/// the transaction ends, and rows that another session has locked are skipped.
pub fn rows_by_id(
    relation: &str,
    host: &HostOptions,
    ids: Vec<i64>,
    of_chatbot: Option<ChatbotId>,
    read_mode: ReadMode,
) -> Result<Vec<HostRow>> {
    let content = host.columns.content.iter().map(|column| format!("t.{}::text", quoted(&column.name)));
    let sql = format!(
        "SELECT
            t.{id}::bigint,
            {chatbot}::bigint,
            ARRAY[{content}],
            {metadata},
            {status}
        FROM {relation} AS t
        WHERE t.{id} = ANY ($1)
            AND {chatbot} IS NOT NULL {of_chatbot}
        {lock}",
        status = status_columns_sql(host),
        lock = read_mode.locking_clause(),
        of_chatbot = of_chatbot.map_or(String::new(), |_| format!("AND {} = $2", chatbot_sql(host, "t."))),
        id = quoted(&host.columns.id.name),
        chatbot = chatbot_sql(host, "t."),
        content = content.collect::<Vec<_>>().join(", "),
        metadata = row_metadata_sql("t", &host.columns),
    );
    let args: Vec<DatumWithOid> = std::iter::once(ids.into()).chain(of_chatbot.map(Into::into)).collect();
    let _settings = ScopedSettings::for_metadata();
    run(&sql, &args, read_mode.statement_mode(), |rows| {
        rows.map(|row| {
            Ok(HostRow {
                source_id: not_null(row.get(1))?,
                chatbot_id: not_null(row.get(2))?,
                content: not_null(row.get(3))?,
                metadata: not_null(row.get(4))?,
                enabled: not_null(row.get(5))?,
                status: read_status(&row, 6)?,
            })
        })
        .collect()
    })
}

/// The columns of a row whose types are Postgres' own, so that they can be read where reading another one raises an error.
pub struct OwnColumns {
    /// Whether searches find the row.
    pub enabled: bool,
    /// The values of its status columns.
    pub status: RowStatus,
}

/// Reads the columns of a row that have no type of the user's; `None`: there is no such row.
pub fn read_own_columns(
    relation: &str,
    host: &HostOptions,
    key: SourceKey,
    read_mode: ReadMode,
) -> Result<Option<OwnColumns>> {
    let sql = format!(
        "SELECT {status}
        FROM {relation} AS t
        WHERE t.{id} = $1
            AND {chatbot} = $2
        {lock}",
        status = status_columns_sql(host),
        lock = read_mode.locking_clause(),
        id = quoted(&host.columns.id.name),
        chatbot = chatbot_sql(host, "t."),
    );
    run(&sql, &[key.source_id.into(), key.chatbot_id.into()], read_mode.statement_mode(), |mut rows| {
        let own =
            |row: SpiHeapTupleData| Ok(OwnColumns { enabled: not_null(row.get(1))?, status: read_status(&row, 2)? });
        rows.next().map(own).transpose()
    })
}

/// Reads the three status columns that begin at this one.
fn read_status(row: &SpiHeapTupleData, first: usize) -> pgrx::spi::Result<RowStatus> {
    Ok(RowStatus { status: row.get(first)?, processed: row.get(first + 1)?, error: row.get(first + 2)? })
}

/// The SQL for whether searches find a row and for its status columns, none of which has a type of the user's.
fn status_columns_sql(host: &HostOptions) -> String {
    let columns = &host.columns;
    let column_or = |column: &Option<Column>, otherwise: &str| {
        column.as_ref().map_or(otherwise.to_owned(), |column| format!("t.{}", quoted(&column.name)))
    };
    format!(
        "{}, {}::text, {}, {}::text",
        enabled_sql(host, true),
        column_or(&columns.status, "NULL"),
        column_or(&columns.processed, "NULL::boolean"),
        column_or(&columns.error, "NULL")
    )
}

/// A status that is to be written to a row.
pub struct StatusUpdate {
    /// The key of the row's source.
    pub key: SourceKey,
    /// The status that the row is to have.
    pub status: RowStatus,
}

/// Writes statuses to rows. An error message that is too long for its column is cut.
pub fn write_statuses(relation: &str, host: &HostOptions, updates: &[StatusUpdate]) -> Result<()> {
    let columns = &host.columns;
    let type_of = |column: &Column| {
        let sql = "SELECT pg_catalog.format_type(atttypid, atttypmod)
            FROM pg_catalog.pg_attribute
            WHERE attrelid = $1::pg_catalog.regclass
                AND attname = $2";
        let args = [relation.into(), column.name.as_str().into()];
        run(sql, &args, StatementMode::ReadLatest, |rows| not_null::<String>(rows.first().get_one()))
    };
    let mut sets = Vec::new();
    for (column, value) in [(&columns.status, "status"), (&columns.processed, "processed"), (&columns.error, "error")] {
        if let Some(column) = column {
            // A status is not cast to its column's type: cut to its length, it would be another word.
            let cast = if value == "status" { String::new() } else { format!("::{}", type_of(column)?) };
            sets.push(format!("{} = w.{value}{cast}", quoted(&column.name)));
        }
    }
    let sql = format!(
        "UPDATE {relation} AS t
        SET {}
        FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::boolean[], $5::text[])
            AS w (id, chatbot, status, processed, error)
        WHERE t.{} = w.id
            AND {} = w.chatbot",
        sets.join(", "),
        quoted(&columns.id.name),
        chatbot_sql(host, "t.")
    );
    let args = [
        updates.iter().map(|update| update.key.source_id).collect::<Vec<_>>().into(),
        updates.iter().map(|update| update.key.chatbot_id).collect::<Vec<_>>().into(),
        updates.iter().map(|update| update.status.status.clone()).collect::<Vec<_>>().into(),
        updates.iter().map(|update| update.status.processed).collect::<Vec<_>>().into(),
        updates.iter().map(|update| update.status.error.clone()).collect::<Vec<_>>().into(),
    ];
    write(&sql, &args).map(drop)
}

/// In a transaction of a worker or of a procedure, has deferred constraints checked by each statement, so that one refuses
/// the status of a row, and not the commit of all. Does nothing in a transaction block or subtransaction of the caller's.
pub fn check_constraints_at_once() -> Result<()> {
    // SAFETY: reads the state of this backend's transaction.
    if unsafe { pg_sys::IsTransactionBlock() } { Ok(()) } else { execute_once("SET CONSTRAINTS ALL IMMEDIATE") }
}

/// Writes the status `pending` to all rows that are sources.
pub fn write_pending(relation: &str, host: &HostOptions) -> Result<()> {
    let columns = &host.columns;
    let pending = quote_literal(SourceStatus::Pending.as_str());
    let pairs = [(&columns.status, pending.as_str()), (&columns.processed, "false"), (&columns.error, "NULL")];
    let pairs: Vec<(String, &str)> =
        pairs.into_iter().filter_map(|(column, value)| Some((quoted(&column.as_ref()?.name), value))).collect();
    let join = |between: &str, sign: &str| {
        pairs.iter().map(|(column, value)| format!("{column} {sign} {value}")).collect::<Vec<_>>().join(between)
    };
    execute_once(&format!(
        "UPDATE {relation}
        SET {}
        WHERE {} > 0
            AND {} > 0
            AND ({})",
        join(", ", "="),
        chatbot_sql(host, ""),
        quoted(&columns.id.name),
        join(" OR ", "IS DISTINCT FROM")
    ))
}
