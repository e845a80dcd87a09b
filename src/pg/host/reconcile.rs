//! Rows whose values changed without an UPDATE: ALTER TABLE rewrote their table, or ALTER TYPE changed a type of theirs.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use pgrx::pg_sys;

use crate::error::Result;
use crate::host::{HostOptions, RowStatus, SyncMode};
use crate::pg::host::pending::register_existing_rows;
use crate::pg::host::read::{ReadRow, read};
use crate::pg::host::relation::{ExtensionDdlGuard, OpenRelation};
use crate::pg::host::source_keys;
use crate::pg::host::status_writeback::StatusWriteback;
use crate::pg::host::table::HostTable;
use crate::pg::runtime::memory::Scratch;
use crate::pg::runtime::run_as::Restriction;
use crate::pg::runtime::subtransaction::try_row;
use crate::pg::runtime::{arguments, wake};
use crate::pg::store::host_row::ReadMode;
use crate::pg::store::host_triggers::{self as store, AttachedTable};
use crate::pg::store::job::{self, ChangedSource};
use crate::pg::store::source::{self, RowLock};
use crate::pg::sync::{OnFailure, RowHandling};
use crate::source::{RowInput, SourceKey, SourceStatus};

thread_local! {
    /// Relations that the running statement rewrites. Those of a statement that failed stay here, and are compared once
    /// without need after the next one.
    static REWRITTEN: RefCell<HashSet<pg_sys::Oid>> = RefCell::default();
}

/// Records that a statement rewrites a table, as an event trigger for `table_rewrite` reports it; `reason` is a set
/// of AT_REWRITE_ bits.
pub fn note_rewrite(relation: pg_sys::Oid, reason: i32) {
    // SET LOGGED, SET UNLOGGED and SET ACCESS METHOD rewrite a table too, but change no value.
    let changes_values = pg_sys::AT_REWRITE_DEFAULT_VAL | pg_sys::AT_REWRITE_COLUMN_REWRITE;
    if reason & changes_values.cast_signed() != 0 {
        REWRITTEN.with_borrow_mut(|rewritten| rewritten.insert(relation));
    }
}

/// Returns the attached tables that were rewritten, or of which a partition was, since the last call.
pub fn take_rewritten() -> Result<HashSet<pg_sys::Oid>> {
    let mut roots = HashSet::new();
    for relation in REWRITTEN.take() {
        roots.extend(store::attached_ancestors(relation)?.into_iter().map(|table| table.oid));
    }
    Ok(roots)
}

/// Reconciles the attached tables that were rewritten, and those with columns of these types.
pub fn on_rewritten(types: Vec<pg_sys::Oid>) -> Result<()> {
    let _own = ExtensionDdlGuard::new();
    let rewritten = take_rewritten()?;
    let by_oid = |table: AttachedTable| (table.oid, table);
    let mut tables: HashMap<pg_sys::Oid, AttachedTable> =
        store::attached_tables_with_types(types)?.into_iter().map(by_oid).collect();
    for relation in rewritten {
        let itself = |table: &AttachedTable| table.oid == relation;
        tables.extend(store::attached_ancestors(relation)?.into_iter().filter(itself).map(by_oid));
    }
    tables.into_values().try_for_each(|table| reconcile(table.oid, table.options()?))
}

/// Makes the sources of a host table match its rows as they are by now. Sources whose row is gone are deleted, and rows that
/// are no sources yet are registered. Metadata and `enabled` are written at once; a source with another content becomes
/// pending, as its row shows, and keeps its vectors until it is synced.
pub fn reconcile(relation: pg_sys::Oid, host: HostOptions) -> Result<()> {
    // The contents of a slice are in memory, and each may be large.
    const SLICE: usize = 200;
    let opened = OpenRelation::new(relation, pg_sys::AccessShareLock);
    // SAFETY: `opened` keeps the relation open.
    let table = unsafe { HostTable::bind(host, opened.0)? };
    source_keys::delete_sources_without_row(&table)?;
    let registered = register_existing_rows(&table)? > 0;
    let mut pending = 0;
    source_keys::for_each_source_key(&table, |keys| {
        for slice in keys.chunks(SLICE) {
            pgrx::check_for_interrupts!();
            let _scratch = Scratch::new();
            let changed = compare(&table, slice, registered)?;
            pending += changed.len();
            write_pending(&table, changed)?;
        }
        Ok(())
    })?;
    if pending > 0 && table.host.mode == SyncMode::Sync {
        pgrx::notice!("{pending} rows of {} are pending: CALL chatbot_sync_all();", table.relation.name);
    }
    Ok(())
}

/// Writes metadata and `enabled` where they differ. Returns the rows that are to be synced: those with another content,
/// those that cannot be read and, where rows were just registered, those that were never embedded.
fn compare(table: &HostTable, keys: &[SourceKey], registered: bool) -> Result<Vec<ReadRow>> {
    let rows = match try_row(|| read(table, keys, ReadMode::Latest, RowHandling::Together))? {
        Ok(rows) => rows,
        Err(_) => read(table, keys, ReadMode::Latest, RowHandling::EachAlone)?,
    };
    let mut changed = Vec::new();
    for row in rows {
        let RowInput::Readable(input) = &row.input else {
            // The sync of the source records why the row cannot be read.
            source::mark_pending(&[row.input.key()])?;
            changed.push(row);
            continue;
        };
        let Some(stored) = source::read_row(&input.key, &input.metadata, RowLock::None)? else { continue };
        let edited = stored.synced && !stored.content_hash.as_deref().is_some_and(|hash| input.has_hash(hash));
        if arguments::check_metadata_size(&input.metadata).is_err() {
            // The sync of the source records that its metadata is too large.
            source::mark_pending(&[input.key])?;
        } else if edited || !stored.same_attributes(input) {
            let status = if stored.synced && !edited { SourceStatus::Synced } else { SourceStatus::Pending };
            source::update_attributes(input, status, &stored)?;
        }
        if input.enabled && (edited || registered && !stored.synced && stored.content_hash.is_none()) {
            changed.push(row);
        }
    }
    Ok(changed)
}

/// Writes the status `pending` to the rows, and inserts jobs for them in mode async.
fn write_pending(table: &HostTable, rows: Vec<ReadRow>) -> Result<()> {
    const IN_BULK: i32 = 0;
    if rows.is_empty() {
        return Ok(());
    }
    let changed: Vec<ChangedSource> = rows.iter().map(|row| row.input.key().into()).collect();
    let writeback = StatusWriteback::new(table);
    for row in rows {
        let key = row.input.key();
        writeback.record_current(key, row.status);
        writeback.record_expected(key, RowStatus::pending());
    }
    writeback.write(Restriction::Maintenance, OnFailure::Mark, RowHandling::Together)?;
    if table.host.mode == SyncMode::Async {
        wake::wake_at_commit();
        job::insert_changed(table.host.host, IN_BULK, &changed)?;
    }
    Ok(())
}
