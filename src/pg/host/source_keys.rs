//! The keys of the sources of a whole host table.

use crate::error::Result;
use crate::pg::host::table::HostTable;
use crate::pg::runtime::run_as::RunAs;
use crate::pg::store::host_row::{self, KeySql, RowIds};
use crate::pg::store::{delete, host_sources};
use crate::source::SourceKey;
use std::collections::HashSet;

/// The number of keys that are deleted or queued together.
const SLICE: usize = 10_000;

/// Calls `act` with the keys of a table's rows as they are by now, with those of its partitions and children, 10,000
/// at a time.
pub fn for_each_source_key(table: &HostTable, act: impl FnMut(&[SourceKey]) -> Result<()>) -> Result<()> {
    for_each_key_in(table, &table.relation.name, act)
}

/// As [`for_each_source_key`], for the rows of `from`, an item of a FROM clause.
pub fn for_each_key_in(table: &HostTable, from: &str, mut act: impl FnMut(&[SourceKey]) -> Result<()>) -> Result<()> {
    let as_owner = || RunAs::reading(table.relation.owner);
    let rows = {
        let _owner = as_owner();
        host_row::RowCursor::open_latest(from, &KeySql::of(&table.host))?
    };
    loop {
        let slice = {
            let _owner = as_owner();
            rows.fetch(SLICE as i64)?
        };
        if slice.is_empty() {
            return Ok(());
        }
        let key = |row: RowIds| SourceKey {
            chatbot_id: row.chatbot_id,
            source_type: table.source_type,
            source_id: row.source_id,
        };
        act(&slice.into_iter().map(key).collect::<Vec<_>>())?;
    }
}

/// Deletes the sources of a host table that no row has any more.
pub fn delete_sources_without_row(table: &HostTable) -> Result<()> {
    let mut after = None;
    loop {
        let known = host_sources::keys_after(table.host.host, after, SLICE as i64)?;
        let Some(last) = known.last() else { return Ok(()) };
        after = Some(*last);
        let rows: HashSet<RowIds> = {
            let _owner = RunAs::reading(table.relation.owner);
            let ids = known.iter().map(|key| key.source_id).collect();
            host_row::rows_with_ids(&table.relation.name, &KeySql::of(&table.host), ids)?.into_iter().collect()
        };
        let is_gone =
            |key: &SourceKey| !rows.contains(&RowIds { source_id: key.source_id, chatbot_id: key.chatbot_id });
        delete::delete_sources(&known.into_iter().filter(is_gone).collect::<Vec<_>>())?;
    }
}
