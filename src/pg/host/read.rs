//! Reads rows of host tables by key. What Postgres raises for one row becomes the error of that row alone.

use std::collections::HashSet;

use pgrx::pg_sys;

use crate::error::{Error, PostgresError, Result};
use crate::host::RowStatus;
use crate::ids::{ChatbotId, HostId};
use crate::pg::host::relation::{OpenRelation, lock_with_descendants};
use crate::pg::host::table::HostTable;
use crate::pg::runtime::run_as::RunAs;
use crate::pg::runtime::scoped_settings::ScopedSettings;
use crate::pg::runtime::subtransaction::{self, try_row};
use crate::pg::store::host_row::{self, HostRow, KeySql, OwnColumns, ReadMode, RowIds};
use crate::pg::store::host_triggers as store;
use crate::pg::store::relation::relation_name;
use crate::pg::sync::RowHandling;
use crate::source::{RowInput, SourceInput, SourceKey, UnreadableRow};

/// A host row as it was read.
pub struct ReadRow {
    /// The input for the sync of its source.
    pub input: RowInput,
    /// The status that the row shows; `None` where its status columns cannot be read either.
    pub status: Option<RowStatus>,
}

/// The result of a call that needs a host table.
pub enum Access<R> {
    /// The call was made, and returned this.
    Done(R),
    /// The table is not attached any more.
    Detached,
    /// Another session has locked the table, or something that reading or writing its rows needs.
    Locked,
}

impl<R> Access<R> {
    /// Converts the result of a call that was made.
    pub fn map<T>(self, other: impl FnOnce(R) -> T) -> Access<T> {
        match self {
            Self::Done(done) => Access::Done(other(done)),
            Self::Detached => Access::Detached,
            Self::Locked => Access::Locked,
        }
    }

    /// Returns the result, or `otherwise` where the table is not attached or is locked; of a locked table a
    /// WARNING is raised.
    pub fn or_warn_if_locked(self, host: HostId, otherwise: R) -> Result<R> {
        match self {
            Self::Done(done) => Ok(done),
            Self::Detached => Ok(otherwise),
            Self::Locked => {
                if let Some(table) = store::attached_table(host)? {
                    warn_locked(&relation_name(table.oid)?);
                }
                Ok(otherwise)
            }
        }
    }
}

/// Warns that the rows of a locked table are left out.
pub fn warn_locked(relation: &str) {
    pgrx::warning!("{relation} is locked by another session: its rows are left out");
}

/// Opens the table of a host, locks it with its partitions, and calls `act` with it. Waits at most 100 ms for each lock.
pub fn with_table<R>(host: HostId, lock: u32, act: impl FnOnce(&HostTable) -> Result<R>) -> Result<Access<R>> {
    let Some(attached) = store::attached_table(host)? else { return Ok(Access::Detached) };
    let Some(opened) = try_open(attached.oid, lock)? else { return Ok(Access::Locked) };
    // SAFETY: `opened` keeps the relation open.
    let table = unsafe { HostTable::bind(attached.options()?, opened.0)? };
    act(&table).map(Access::Done)
}

/// Opens a table and locks it with its partitions until the transaction ends; `None` where a lock is not to be had
/// within 100 ms.
pub fn try_open(relation: pg_sys::Oid, lock: u32) -> Result<Option<OpenRelation>> {
    Ok(without_waiting(|| lock_with_descendants(relation, lock))?.map(|()| OpenRelation::new(relation, lock)))
}

/// Calls `act` in a subtransaction with a `lock_timeout` of 100 ms; `None` where a lock was not to be had in that time.
pub fn without_waiting<R>(act: impl FnOnce() -> Result<R>) -> Result<Option<R>> {
    let _short = ScopedSettings::short_lock_timeout();
    match subtransaction::in_subtransaction(act) {
        Ok(done) => done.map(Some),
        Err(caught) if subtransaction::is_lock_timeout(&caught) => Ok(None),
        Err(caught) => caught.rethrow(),
    }
}

/// Reads rows of a host table by key, without locking them. Rows that are gone are not in the result.
pub fn read_inputs(host: HostId, keys: &[SourceKey], read_mode: ReadMode) -> Result<Access<Vec<RowInput>>> {
    let read = with_table(host, pg_sys::AccessShareLock, |table| {
        Ok(read_unlocked(table, keys, read_mode)?.into_iter().map(|row| row.input).collect())
    });
    match read {
        // The table lacks a column, or has it with another type: that is the error of each of its rows.
        Err(error @ (Error::NoColumn { .. } | Error::ColumnType { .. })) => {
            let unreadable = |&key| UnreadableRow { key, host: Some(host), enabled: None, error: error.clone() };
            Ok(Access::Done(keys.iter().map(unreadable).map(RowInput::Unreadable).collect()))
        }
        read => read,
    }
}

/// Reads rows without locking them: all with one statement, or each alone where that raises.
pub fn read_unlocked(table: &HostTable, keys: &[SourceKey], read_mode: ReadMode) -> Result<Vec<ReadRow>> {
    match try_row(|| read(table, keys, read_mode, RowHandling::Together))? {
        Ok(rows) => Ok(rows),
        Err(_) => read(table, keys, read_mode, RowHandling::EachAlone),
    }
}

/// Reads rows as the table's owner. Rows that are gone are not in the result; with [`ReadMode::ForUpdate`] neither are rows
/// that another session has locked.
pub fn read(table: &HostTable, keys: &[SourceKey], read_mode: ReadMode, handling: RowHandling) -> Result<Vec<ReadRow>> {
    match handling {
        RowHandling::Together => {
            let ids: HashSet<i64> = keys.iter().map(|key| key.source_id).collect();
            read_together(table, ids.into_iter().collect(), None, read_mode)
        }
        RowHandling::EachAlone => {
            keys.iter().filter_map(|key| read_alone(table, *key, read_mode).transpose()).collect()
        }
    }
}

fn read_together(
    table: &HostTable,
    ids: Vec<i64>,
    chatbot: Option<ChatbotId>,
    read_mode: ReadMode,
) -> Result<Vec<ReadRow>> {
    let rows = {
        let _owner = RunAs::reading(table.relation.owner);
        host_row::rows_by_id(&table.relation.name, &table.host, ids, chatbot, read_mode)?
    };
    let read = |row| {
        let HostRow { source_id, chatbot_id, content, metadata, enabled, status } = row;
        let key = table.key_of(chatbot_id, source_id).ok()?;
        let content = table.content_of(content, &metadata);
        let (host, siblings) = (Some(table.host.host), table.siblings.clone());
        let input = SourceInput { key, content, metadata, enabled, host, siblings, is_new: false };
        Some(ReadRow { input: input.into(), status: Some(status) })
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

fn read_alone(table: &HostTable, key: SourceKey, read_mode: ReadMode) -> Result<Option<ReadRow>> {
    let ids = vec![key.source_id];
    let raised = match try_row(|| read_together(table, ids, Some(key.chatbot_id), read_mode))? {
        Ok(mut rows) => return Ok(rows.pop()),
        Err(raised) => raised,
    };
    // It is a user's type or function that raises; the other columns can nearly always be read.
    let known = try_row(|| {
        let _owner = RunAs::reading(table.relation.owner);
        host_row::read_own_columns(&table.relation.name, &table.host, key, read_mode)
    })?;
    Ok(match known {
        Ok(None) => None,
        Ok(Some(own)) => Some(unreadable_row(table, key, raised, Some(own))),
        Err(_) => Some(unreadable_row(table, key, raised, None)),
    })
}

fn unreadable_row(table: &HostTable, key: SourceKey, raised: PostgresError, own: Option<OwnColumns>) -> ReadRow {
    let (enabled, status) = own.map(|own| (own.enabled, own.status)).unzip();
    let unreadable = UnreadableRow { key, host: Some(table.host.host), enabled, error: raised.into_read_error() };
    ReadRow { input: RowInput::Unreadable(unreadable), status }
}

/// A row with ids that no source can have.
pub struct InvalidRow {
    /// The key that its source would have.
    pub key: SourceKey,
    /// Why no source can have this key.
    pub error: Error,
}

/// Returns the rows with ids that no source can have.
pub fn invalid_rows(table: &HostTable) -> Result<Vec<InvalidRow>> {
    let _owner = RunAs::reading(table.relation.owner);
    let ids = host_row::invalid_ids(&table.relation.name, &KeySql::of(&table.host))?;
    let invalid = |RowIds { source_id, chatbot_id }| {
        let key = SourceKey { chatbot_id, source_type: table.source_type, source_id };
        Some(InvalidRow { key, error: table.key_of(chatbot_id, source_id).err()? })
    };
    Ok(ids.into_iter().filter_map(invalid).collect())
}
