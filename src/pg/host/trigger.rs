//! The trigger functions of host tables and of the table of chatbots.

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{IntoDatum, pg_sys};

use crate::error::{Error, Result};
use crate::host::{OnError, RowStatus, SyncMode};
use crate::ids::ChatbotId;
use crate::pg::host::changes::Changes;
use crate::pg::host::chatbots::ChatbotTable;
use crate::pg::host::detach;
use crate::pg::host::enqueue::{Operation, enqueue, insert_jobs, record_invalid_id};
use crate::pg::host::key_set::KeySet;
use crate::pg::host::nested::{self, RowsToReread, TriggerDepth};
use crate::pg::host::row::{Attribute, Row, TransitionTableScan};
use crate::pg::host::source_keys::for_each_key_in;
use crate::pg::host::status_writeback::{StatusWriteback, is_writing_back};
use crate::pg::host::table::HostTable;
use crate::pg::runtime::catalog::catalog_byte;
use crate::pg::runtime::memory::Scratch;
use crate::pg::runtime::run_as::Restriction;
use crate::pg::runtime::subtransaction::try_row;
use crate::pg::runtime::{enabled, encoding, sql_error};
use crate::pg::store::{LatestSnapshot, delete, host_sources};
use crate::pg::sync::{self, RowHandling, pending_at_commit};
use crate::source::{RowInput, SourceKey, UnreadableRow};

/// The number of keys that are deleted or queued together.
const SLICE: usize = 10_000;

macro_rules! trigger_functions {
    ($($name:ident, $record:ident, $body:path;)*) => {$(
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $record() -> &'static pg_sys::Pg_finfo_record {
            const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        #[pgrx::pg_guard]
        pub unsafe extern "C-unwind" fn $name(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: Postgres calls with a valid call; its context is checked to be a trigger's.
            let done = unsafe {
                let context = (*call).context;
                if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                    Err(not_our_trigger("a statement"))
                } else {
                    $body(&*context.cast::<pg_sys::TriggerData>())
                }
            };
            done.map_err(ErrorReport::from).unwrap_or_report()
        }
    )*};
}

trigger_functions! {
    chatbot_sync_host_changed, pg_finfo_chatbot_sync_host_changed, after_change;
    chatbot_sync_host_status, pg_finfo_chatbot_sync_host_status, before_write;
    chatbot_sync_host_truncated, pg_finfo_chatbot_sync_host_truncated, before_truncate;
    chatbot_sync_chatbots_deleted, pg_finfo_chatbot_sync_chatbots_deleted, after_chatbots_deleted;
}

/// The error for a caller that is no trigger of the extension.
fn not_our_trigger(got: &str) -> Error {
    Error::invalid("the caller", got, "a trigger that chatbot_attach() or chatbot_attach_chatbots() made")
}

/// Fails for a trigger that `chatbot_attach()` did not make: it may fire without transition tables.
fn check_trigger_kind(data: &pg_sys::TriggerData, when: u32, for_what: &[(u32, bool)]) -> Result<()> {
    let timing = data.tg_event & (pg_sys::TRIGGER_EVENT_TIMINGMASK | pg_sys::TRIGGER_EVENT_ROW);
    if timing == when && for_what.contains(&(operation(data), true)) {
        Ok(())
    } else {
        Err(not_our_trigger("a trigger of another kind"))
    }
}

const NULL_DATUM: Result<pg_sys::Datum> = Ok(pg_sys::Datum::null());

fn operation(data: &pg_sys::TriggerData) -> u32 {
    data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK
}

/// AFTER INSERT, UPDATE or DELETE: syncs the sources of the statement's rows, or queues them in mode async.
unsafe fn after_change(data: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    let (old, new) = (!data.tg_oldtable.is_null(), !data.tg_newtable.is_null());
    let for_what = [
        (pg_sys::TRIGGER_EVENT_INSERT, new),
        (pg_sys::TRIGGER_EVENT_UPDATE, old && new),
        (pg_sys::TRIGGER_EVENT_DELETE, old),
    ];
    check_trigger_kind(data, pg_sys::TRIGGER_EVENT_AFTER, &for_what)?;
    let _latest = LatestSnapshot::new();
    // SAFETY: the trigger runs, and its transition tables live as long, with rows of the relation's descriptor.
    let (table, rows) = unsafe {
        let descriptor = (*data.tg_relation).rd_att;
        (HostTable::of(data)?, move |store| TransitionTableScan::new(store, descriptor))
    };
    // Where embedding is off there is nothing to put off: what needs no vector is done now, and the rest gets a job. Where
    // the database is not in UTF-8, the row shows that error at once.
    let is_queued = table.host.mode == SyncMode::Async && enabled::is_enabled() && encoding::is_utf8();
    let depth = TriggerDepth::now();
    match operation(data) {
        pg_sys::TRIGGER_EVENT_INSERT if is_queued => {
            enqueue(&table, None, rows(data.tg_newtable), |_| true, Operation::Insert)?
        }
        pg_sys::TRIGGER_EVENT_DELETE if is_queued => {
            enqueue(&table, None, rows(data.tg_oldtable), |_| true, Operation::Delete)?
        }
        pg_sys::TRIGGER_EVENT_INSERT => upsert(&table, || rows(data.tg_newtable), |_| true, true, &depth)?,
        pg_sys::TRIGGER_EVENT_DELETE => delete(&table, rows(data.tg_oldtable), &depth)?,
        _ => {
            let changes = Changes::between(&table, || (rows(data.tg_oldtable), rows(data.tg_newtable)))?;
            if is_queued {
                changes.for_each_deleted(|gone| {
                    insert_jobs(&table, &gone.iter().map(|&key| key.into()).collect::<Vec<_>>())?;
                    pending_at_commit::mark_pending_at_commit(gone.iter().copied());
                    Ok(())
                })?;
                let old = Some(rows(data.tg_oldtable));
                enqueue(&table, old, rows(data.tg_newtable), |at| changes.upserts.has(at), Operation::Update)?;
                return NULL_DATUM;
            }
            let to_reread = RowsToReread::new(&table);
            let changed = |before: &SourceKey, after: &SourceKey| depth.is_changed(before) || depth.is_changed(after);
            changes.for_each_deleted(|gone| {
                let (reread, gone): (Vec<_>, Vec<_>) = gone.iter().copied().partition(|key| depth.is_changed(key));
                reread.into_iter().for_each(|key| to_reread.push(key));
                delete::delete_sources(&gone)
            })?;
            changes.for_each_moved(changed, |before, after| {
                [before, after].into_iter().for_each(|key| to_reread.push(key))
            })?;
            changes.relocate(|before, after| !changed(before, after))?;
            if !changes.upserts.is_empty() {
                upsert(&table, || rows(data.tg_newtable), |at| changes.upserts.has(at), false, &depth)?;
            }
            if depth.is_inner() {
                changes.for_each_changed_key(|key| depth.record_changed([key]))?;
            }
            to_reread.sync_current_rows()?;
        }
    }
    NULL_DATUM
}

fn delete(table: &HostTable, mut rows: TransitionTableScan, depth: &TriggerDepth) -> Result<()> {
    let mut keys = Vec::new();
    let to_reread = RowsToReread::new(table);
    loop {
        let row = rows.next();
        if let Some(key) = row.and_then(|row| table.key(row)) {
            if depth.is_changed(&key) { to_reread.push(key) } else { keys.push(key) }
        }
        if keys.len() >= SLICE || row.is_none() {
            delete::delete_sources(&keys)?;
            depth.record_changed(keys.drain(..));
        }
        to_reread.sync_if_full()?;
        if row.is_none() {
            return to_reread.sync_current_rows();
        }
    }
}

/// Syncs the sources of rows, and corrects the status of a row where it is not what the BEFORE trigger wrote.
fn upsert(
    table: &HostTable,
    rows: impl Fn() -> TransitionTableScan,
    wanted: impl Fn(usize) -> bool,
    is_new: bool,
    depth: &TriggerDepth,
) -> Result<()> {
    nested::with_row_fallback(table, |handling| upsert_rows(table, rows(), &wanted, is_new, depth, handling))
}

fn upsert_rows(
    table: &HostTable,
    mut rows: TransitionTableScan,
    wanted: impl Fn(usize) -> bool,
    is_new: bool,
    depth: &TriggerDepth,
    handling: RowHandling,
) -> Result<()> {
    let to_reread = RowsToReread::new(table);
    let writeback = StatusWriteback::new(table);
    let on_failure = table.host.on_error.into();
    let mut at = 0;
    let mut seen = KeySet::default();
    let inputs = std::iter::from_fn(|| {
        // Statuses and rows to read again are worked off once they are many, so that a large statement does not keep them
        // all in memory.
        if let Err(error) =
            writeback.write_if_full(Restriction::Session, on_failure, handling).and_then(|()| to_reread.sync_if_full())
        {
            return Some(Err(error));
        }
        loop {
            let row = rows.next()?;
            at += 1;
            if wanted(at - 1) {
                match table.checked_key(row) {
                    Some(Ok(key)) if depth.is_changed(&key) => to_reread.push(key),
                    Some(Ok(key)) if seen.add(key) => to_reread.push(key),
                    Some(Ok(key)) => {
                        depth.record_changed([key]);
                        writeback.record_row(key, row);
                        return Some(read_row(table, row, key, is_new, handling));
                    }
                    Some(Err(error)) if table.host.on_error == OnError::Raise => return Some(Err(error)),
                    Some(Err(error)) => record_invalid_id(table, &writeback, row, &error),
                    None => {}
                }
            }
        }
    });
    sync::sync(inputs, on_failure, handling, None, |key, outcome| writeback.record_outcome(key, outcome))?;
    writeback.write(Restriction::Session, on_failure, handling)?;
    to_reread.sync_current_rows()
}

/// Reads what the source of a row in a transition table is to become.
fn read_row(table: &HostTable, row: Row, key: SourceKey, is_new: bool, handling: RowHandling) -> Result<RowInput> {
    if handling == RowHandling::Together {
        return table.source_input(row, key, is_new).map(RowInput::Readable);
    }
    Ok(match try_row(|| table.source_input(row, key, is_new))? {
        Ok(input) => RowInput::Readable(input),
        Err(raised) => RowInput::Unreadable(UnreadableRow {
            key,
            host: Some(table.host.host),
            enabled: table.is_enabled_if_readable(row)?,
            error: raised.into_read_error(),
        }),
    })
}

/// BEFORE INSERT or UPDATE of a row: writes the status that the trigger after the statement is about to make true, which
/// saves a second UPDATE of the row.
unsafe fn before_write(data: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    let for_what = [(pg_sys::TRIGGER_EVENT_INSERT, true), (pg_sys::TRIGGER_EVENT_UPDATE, true)];
    check_trigger_kind(data, pg_sys::TRIGGER_EVENT_BEFORE | pg_sys::TRIGGER_EVENT_ROW, &for_what)?;
    let inserted = operation(data) == pg_sys::TRIGGER_EVENT_INSERT;
    let tuple = if inserted { data.tg_trigtuple } else { data.tg_newtuple };
    let unchanged = Ok(tuple.into());
    // SAFETY: the trigger runs; a row trigger's slots hold its rows.
    let (table, row, old) = unsafe {
        let row = Row::of(if inserted { data.tg_trigslot } else { data.tg_newslot });
        (HostTable::of(data)?, row, (!inserted).then(|| Row::of(data.tg_trigslot)))
    };
    // A status that the table may refuse is written after the statement, so that a refusal does not fail it.
    if table.may_refuse_status()? {
        return unchanged;
    }
    let differs = old.map(|old| table.differs(old, row)).transpose()?;
    let invalid = table.checked_key(row).and_then(Result::err);
    let expected = if let Some(error) = invalid {
        Some(RowStatus::failed(sql_error::one_line_message(&error)))
    } else if table.chatbot_id(row).is_none() {
        table.status_without_chatbot(old, row)
    } else if table.is_enabled_if_readable(row)? == Some(true) {
        let differs = differs.unwrap_or(true);
        let asked = old.is_none_or(|old| differs || !is_writing_back() && table.requests_sync(old, row));
        // The row showed `synced`, and the UPDATE writes `pending` to ask for another sync. If `synced` were written here
        // again, the trigger after the statement would not see that it was asked.
        let visible = old.is_none_or(|old| differs || !table.is_marked_synced(old));
        let waits = table.host.mode == SyncMode::Async || !enabled::is_enabled();
        (asked && visible).then(if waits { RowStatus::pending } else { RowStatus::synced })
    } else {
        old.is_none_or(|old| table.text_differs(old, row)).then(RowStatus::pending)
    };
    match expected {
        Some(state) if table.row_status(row, &state) != state => {
            // SAFETY: the tuple and its relation's descriptor; the columns are of it.
            Ok(unsafe { with_status(&table, tuple, (*data.tg_relation).rd_att, &state) }.into())
        }
        _ => unchanged,
    }
}

unsafe fn with_status(
    table: &HostTable,
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    state: &RowStatus,
) -> pg_sys::HeapTuple {
    let columns: [(Option<Attribute>, Option<pg_sys::Datum>); 3] = [
        (table.status, state.status.clone().into_datum()),
        (table.processed, state.processed.into_datum()),
        (table.error, state.error.clone().into_datum()),
    ];
    let (mut numbers, mut values, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
    for (column, value) in columns {
        if let Some(column) = column {
            numbers.push(i32::from(column.number));
            values.push(value.unwrap_or(pg_sys::Datum::null()));
            nulls.push(value.is_none());
        }
    }
    let count = i32::try_from(numbers.len()).unwrap_or(0);
    // SAFETY: as many of each as `count` says; the columns are the descriptor's and have these types.
    unsafe {
        pg_sys::heap_modify_tuple_by_cols(
            tuple,
            descriptor,
            count,
            numbers.as_mut_ptr(),
            values.as_mut_ptr(),
            nulls.as_mut_ptr(),
        )
    }
}

/// BEFORE TRUNCATE: deletes the sources of the table's rows.
unsafe fn before_truncate(data: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    check_trigger_kind(data, pg_sys::TRIGGER_EVENT_BEFORE, &[(pg_sys::TRIGGER_EVENT_TRUNCATE, true)])?;
    let _latest = LatestSnapshot::new();
    // SAFETY: the trigger runs.
    let table = unsafe { HostTable::of(data)? };
    // TRUNCATE ONLY keeps the rows of children, which have TRUNCATE triggers of their own.
    // SAFETY: the trigger's relation is open.
    let (kind, has_children) =
        unsafe { ((*(*data.tg_relation).rd_rel).relkind, (*(*data.tg_relation).rd_rel).relhassubclass) };
    let inherited = catalog_byte(kind) == pg_sys::RELKIND_RELATION && has_children;
    if !table.host.partition && !inherited {
        host_sources::delete_host(table.host.host)?;
        return NULL_DATUM;
    }
    let only = if inherited { "ONLY " } else { "" };
    let from = format!("{only}{}", table.relation.name);
    if let Err(raised) = try_row(|| for_each_key_in(&table, &from, delete::delete_sources))? {
        pgrx::warning!(
            "the sources of {} stay until SELECT chatbot_repair(): its rows cannot be read: {}",
            table.relation.name,
            raised.message
        );
    }
    NULL_DATUM
}

/// AFTER DELETE of chatbots, or BEFORE TRUNCATE of their table: deletes everything that belongs to them.
unsafe fn after_chatbots_deleted(data: &pg_sys::TriggerData) -> Result<pg_sys::Datum> {
    if operation(data) == pg_sys::TRIGGER_EVENT_DELETE {
        let old = !data.tg_oldtable.is_null();
        check_trigger_kind(data, pg_sys::TRIGGER_EVENT_AFTER, &[(pg_sys::TRIGGER_EVENT_DELETE, old)])?;
    } else {
        check_trigger_kind(data, pg_sys::TRIGGER_EVENT_BEFORE, &[(pg_sys::TRIGGER_EVENT_TRUNCATE, true)])?;
    }
    let _latest = LatestSnapshot::new();
    // SAFETY: the trigger runs, and its transition table lives as long.
    let (chatbots, rows) = unsafe {
        let rows = (operation(data) == pg_sys::TRIGGER_EVENT_DELETE)
            .then(|| TransitionTableScan::new(data.tg_oldtable, (*data.tg_relation).rd_att));
        (ChatbotTable::of(data)?, rows)
    };
    let delete_chatbot_and_tables = |id| {
        delete::delete_chatbot(id)?;
        detach::detach_chatbot(id, chatbots.owner())
    };
    let Some(mut rows) = rows else {
        chatbots.for_each_id(delete_chatbot_and_tables)?;
        return NULL_DATUM;
    };
    let mut scratch = Scratch::new();
    while let Some(row) = rows.next() {
        if let Some(id) = row.integer(chatbots.id).map(ChatbotId) {
            delete_chatbot_and_tables(id)?;
        }
        scratch.reset();
    }
    NULL_DATUM
}
