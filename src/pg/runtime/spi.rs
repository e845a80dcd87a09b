//! Runs statements through SPI and keeps their plans as long as the session lives. The SPI of pgrx can neither choose the
//! snapshot nor leave a transaction that only reads without a transaction id.

use crate::pg::runtime::memory::Scratch;
use crate::pg::runtime::plan::{self, PlanStrategy};
use crate::pg::runtime::settings;
use crate::pg::runtime::statement_mode::StatementMode;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CString, c_char};

use pgrx::datum::DatumWithOid;
use pgrx::spi::{Error, SpiErrorCodes, SpiHeapTupleData};
use pgrx::{FromDatum, IntoDatum, Spi, pg_sys};

type Result<T> = pgrx::spi::Result<T>;
/// A statement whose plan is kept.
#[derive(PartialEq, Eq, Hash)]
struct PlanKey {
    sql: String,
    /// The types of its arguments.
    types: Vec<pg_sys::Oid>,
    strategy: PlanStrategy,
}

thread_local! {
    static PLANS: RefCell<HashMap<PlanKey, pg_sys::SPIPlanPtr>> = RefCell::default();
    static READS_LATEST: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, statements see what is committed by now at REPEATABLE READ and SERIALIZABLE too, as checks of foreign
/// keys do. It is for statements that follow a row which this transaction has written: what another transaction has stored
/// for an older version of the row is then overwritten, instead of raising a serialization failure.
pub struct LatestSnapshot(bool);

impl LatestSnapshot {
    /// Makes statements read the latest committed rows, until this is dropped.
    pub fn new() -> Self {
        Self(READS_LATEST.replace(true))
    }
}

/// Whether statements see the latest committed rows although the transaction has a fixed snapshot.
pub fn reads_latest() -> bool {
    READS_LATEST.get() && settings::sees_only_its_snapshot()
}

impl Drop for LatestSnapshot {
    fn drop(&mut self) {
        READS_LATEST.set(self.0);
    }
}

/// The rows that a statement returned.
pub struct Rows<'a> {
    table: Option<&'a pg_sys::SPITupleTable>,
    count: usize,
    next: usize,
}

/// The first row that a statement returned, if any.
pub struct FirstRow<'a>(Option<SpiHeapTupleData<'a>>);

impl<'a> Rows<'a> {
    /// The number of rows that were returned or, if none are, were written.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Takes the first row.
    pub fn first(mut self) -> FirstRow<'a> {
        FirstRow(self.next())
    }
}

impl FirstRow<'_> {
    /// A column of the row, by its number from 1; `None` where it is NULL. Fails where there is no row.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: usize) -> Result<Option<T>> {
        self.0.as_ref().ok_or(Error::InvalidPosition)?.get(column)
    }

    /// The first column of the row.
    pub fn get_one<T: FromDatum + IntoDatum>(&self) -> Result<Option<T>> {
        self.get(1)
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = SpiHeapTupleData<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let table = self.table?;
        let at = (self.next < self.count).then_some(self.next)?;
        self.next += 1;
        // SAFETY: SPI's result, which has so many rows of this descriptor, and lives as long as `'a`.
        unsafe { SpiHeapTupleData::new(table.tupdesc, *table.vals.add(at)) }.ok().flatten()
    }
}

/// Runs a statement and passes its rows to `read`.
pub fn execute<R>(
    sql: &str,
    args: &[DatumWithOid],
    mode: StatementMode,
    read: impl FnOnce(Rows) -> Result<R>,
) -> Result<R> {
    // SAFETY: connected until the result is read; an error in between ends the transaction or subtransaction, which
    // disconnects.
    unsafe { Spi::check_status(pg_sys::SPI_connect())? };
    let result = execute_connected(sql, args, mode, read);
    // SAFETY: connected above.
    unsafe { Spi::check_status(pg_sys::SPI_finish())? };
    result
}

fn execute_connected<R>(
    sql: &str,
    args: &[DatumWithOid],
    mode: StatementMode,
    read: impl FnOnce(Rows) -> Result<R>,
) -> Result<R> {
    let strategy = PlanStrategy::of(mode);
    let plan = prepare_plan(sql, args, strategy)?;
    if strategy == PlanStrategy::Keys {
        plan::make_generic_plan(plan);
    }
    let _planning = strategy.planning();
    let _settings = strategy.settings();
    let reads = matches!(mode, StatementMode::Read | StatementMode::Scan);
    let null = |arg: &DatumWithOid| if arg.datum().is_some() { b' ' } else { b'n' };
    let mut values: Vec<pg_sys::Datum> =
        args.iter().map(|arg| arg.datum().map_or(pg_sys::Datum::null(), |datum| datum.sans_lifetime())).collect();
    let nulls: Vec<c_char> = args.iter().map(|arg| null(arg) as c_char).collect();
    // SAFETY: a plan of these types, and as many values; SPI's result lives until SPI_finish().
    let rows = unsafe {
        pg_sys::SPI_tuptable = std::ptr::null_mut();
        let (values, nulls) = (values.as_mut_ptr(), nulls.as_ptr());
        let status = if !reads && reads_latest() {
            let (latest, none) = (pg_sys::GetLatestSnapshot(), std::ptr::null_mut());
            pg_sys::SPI_execute_snapshot(plan, values, nulls, latest, none, false, true, 0)
        } else {
            pg_sys::SPI_execute_plan(plan, values, nulls, reads, 0)
        };
        Spi::check_status(status)?;
        let table = pg_sys::SPI_tuptable.as_ref();
        let count = table.map_or(pg_sys::SPI_processed, |table| table.numvals);
        Rows { table, count: usize::try_from(count).unwrap_or(usize::MAX), next: 0 }
    };
    // Values are unpacked into the parent of the current context. With a context of our own below SPI's, they are freed with
    // the result; otherwise they would stay until the transaction ends. SPI makes its own context current again after each
    // statement.
    let _scratch = Scratch::new();
    read(rows)
}

fn prepare_plan(sql: &str, args: &[DatumWithOid], strategy: PlanStrategy) -> Result<pg_sys::SPIPlanPtr> {
    let key = PlanKey { sql: sql.to_owned(), types: args.iter().map(DatumWithOid::oid).collect(), strategy };
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&key).copied()) {
        return Ok(plan);
    }
    let text = CString::new(sql).map_err(|_| Error::SpiError(SpiErrorCodes::Argument))?;
    let count = i32::try_from(args.len()).unwrap_or(i32::MAX);
    let mut types = key.types.clone();
    let options = strategy.options();
    // SAFETY: the text and as many types, which SPI copies; a plan that is kept is never freed: at exit that would call
    // into a Postgres that is already gone.
    let plan = unsafe {
        let plan = pg_sys::SPI_prepare_cursor(text.as_ptr(), count, types.as_mut_ptr(), options);
        if plan.is_null() {
            return Err(Spi::check_status(pg_sys::SPI_result)
                .err()
                .unwrap_or(Error::SpiError(SpiErrorCodes::Argument)));
        }
        pg_sys::SPI_keepplan(plan);
        plan
    };
    PLANS.with_borrow_mut(|plans| plans.insert(key, plan));
    Ok(plan)
}

/// A cursor, by which the rows of a statement are fetched some at a time. The statement's plan is not kept.
pub struct Cursor(CString);

impl Cursor {
    /// Opens a cursor before the first row. The statement has no arguments and only reads.
    pub fn open(sql: &str, mode: StatementMode) -> Result<Self> {
        let text = CString::new(sql).map_err(|_| Error::SpiError(SpiErrorCodes::Argument))?;
        // SAFETY: connected meanwhile; the portal stays, with a copy of its plan and of its snapshot. A portal that only
        // reads takes the active snapshot, which is pushed before and popped after, unless an error has done that.
        unsafe {
            Spi::check_status(pg_sys::SPI_connect())?;
            if mode != StatementMode::Read {
                pg_sys::CommandCounterIncrement();
                let latest =
                    if reads_latest() { pg_sys::GetLatestSnapshot() } else { pg_sys::GetTransactionSnapshot() };
                pg_sys::PushActiveSnapshot(latest);
            }
            let (name, none) = (std::ptr::null(), std::ptr::null_mut());
            let (types, nulls) = (std::ptr::null_mut(), std::ptr::null());
            let portal = pg_sys::SPI_cursor_open_with_args(name, text.as_ptr(), 0, types, none, nulls, true, 0);
            let name = std::ffi::CStr::from_ptr((*portal).name).to_owned();
            if mode != StatementMode::Read {
                pg_sys::PopActiveSnapshot();
            }
            Spi::check_status(pg_sys::SPI_finish())?;
            Ok(Self(name))
        }
    }

    /// Fetches up to `most` further rows and passes them to `read`.
    pub fn fetch<R>(&self, most: i64, read: impl FnOnce(Rows) -> Result<R>) -> Result<R> {
        // SAFETY: connected until the rows are read, as in execute(); the portal is this cursor's own.
        unsafe {
            Spi::check_status(pg_sys::SPI_connect())?;
            let portal = pg_sys::SPI_cursor_find(self.0.as_ptr());
            if portal.is_null() {
                return Err(Error::SpiError(SpiErrorCodes::Cursor));
            }
            pg_sys::SPI_cursor_fetch(portal, true, most);
            let table = pg_sys::SPI_tuptable.as_ref();
            let count = usize::try_from(pg_sys::SPI_processed).unwrap_or(usize::MAX);
            let result = {
                let _scratch = Scratch::new();
                read(Rows { table, count, next: 0 })
            };
            Spi::check_status(pg_sys::SPI_finish())?;
            result
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the portal that open() made, if it is still there; SPI_cursor_close() would do no more.
            unsafe {
                let portal = pg_sys::GetPortalByName(self.0.as_ptr());
                if !portal.is_null() {
                    pg_sys::PortalDrop(portal, false);
                }
            }
        }
    }
}

/// The value of a column that is never NULL; fails where it is.
pub fn not_null<T>(column: Result<Option<T>>) -> Result<T> {
    column?.ok_or(pgrx::spi::Error::InvalidPosition)
}
