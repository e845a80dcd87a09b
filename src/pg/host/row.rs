//! A row in a tuple slot: its values by column, and whether two rows have the same value, without fetching unchanged ones
//! from TOAST tables.

use std::ffi::CStr;

use pgrx::{FromDatum, pg_sys};

use crate::pg::runtime::catalog::catalog_byte;
use crate::pg::runtime::encoding;
use crate::pg::runtime::subtransaction::try_row;
use crate::source::Jsonb;

/// A column's number and type.
#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    /// The column's number, from 1.
    pub number: i16,
    /// The column's type.
    pub of_type: pg_sys::Oid,
    /// The column's type; for a domain its base type.
    pub base: pg_sys::Oid,
    /// The limit of a `varchar(n)`, in characters; `None`: there is no limit.
    pub longest: Option<i32>,
    /// Whether the column may be NULL.
    pub nullable: bool,
    /// Whether the column is generated.
    pub generated: bool,
    /// Whether the column is a virtual generated one: it is not stored, so that a trigger sees no value.
    pub virtual_column: bool,
    /// Whether the column's type is a domain, which may have constraints.
    pub domain: bool,
    by_value: bool,
    length: i16,
}

impl Attribute {
    /// Finds a column by its name; `None` where there is no such column.
    pub fn find(descriptor: pg_sys::TupleDesc, name: &str) -> Option<Self> {
        // SAFETY: a relation's descriptor that is in use; it is neither pinned nor released here.
        let descriptor = unsafe { pgrx::PgTupleDesc::from_pg_unchecked(descriptor) };
        let column = descriptor.iter().find(|a| a.name() == name && !a.attisdropped)?;
        // SAFETY: a look-up in the catalog's cache.
        let base = unsafe { pg_sys::getBaseType(column.atttypid) };
        let header = i32::try_from(pg_sys::VARHDRSZ).unwrap_or(4);
        Some(Self {
            number: column.attnum,
            of_type: column.atttypid,
            base,
            longest: (base == pg_sys::VARCHAROID && column.atttypmod >= header).then(|| column.atttypmod - header),
            nullable: !column.attnotnull,
            generated: column.attgenerated != 0,
            virtual_column: catalog_byte(column.attgenerated) == b'v',
            domain: base != column.atttypid,
            by_value: column.attbyval,
            length: column.attlen,
        })
    }
}

impl Attribute {
    /// Returns the name of the column with this number; `None` where it is dropped.
    pub fn name(descriptor: pg_sys::TupleDesc, number: i16) -> Option<String> {
        // SAFETY: as in find().
        let descriptor = unsafe { pgrx::PgTupleDesc::from_pg_unchecked(descriptor) };
        let column = descriptor.iter().find(|a| a.attnum == number && !a.attisdropped)?;
        Some(column.name().to_owned())
    }
}

/// A row in a slot that is owned by Postgres or by a [`TransitionTableScan`].
#[derive(Debug, Clone, Copy)]
pub struct Row(*mut pg_sys::TupleTableSlot);

impl Row {
    /// Takes the row in a slot.
    ///
    /// # Safety
    /// The slot holds a tuple for as long as the row is used.
    pub unsafe fn of(slot: *mut pg_sys::TupleTableSlot) -> Self {
        Self(slot)
    }

    /// The slot that it is in.
    pub fn slot(self) -> *mut pg_sys::TupleTableSlot {
        self.0
    }

    fn datum(self, of: Attribute) -> Option<pg_sys::Datum> {
        // SAFETY: the slot holds a tuple of the descriptor that the attribute was found in.
        unsafe {
            if (*self.0).tts_nvalid < of.number {
                pg_sys::slot_getsomeattrs_int(self.0, of.number.into());
            }
            let at = usize::try_from(of.number - 1).ok()?;
            (!*(*self.0).tts_isnull.add(at)).then(|| *(*self.0).tts_values.add(at))
        }
    }

    /// The value of a smallint, integer or bigint column; `None` where it is NULL.
    pub fn integer(self, of: Attribute) -> Option<i64> {
        let datum = self.datum(of)?;
        // SAFETY: the column has this type.
        unsafe {
            match of.base {
                pg_sys::INT2OID => i16::from_datum(datum, false).map(i64::from),
                pg_sys::INT4OID => i32::from_datum(datum, false).map(i64::from),
                _ => i64::from_datum(datum, false),
            }
        }
    }

    /// The value of a boolean column; `None` where it is NULL.
    pub fn boolean(self, of: Attribute) -> Option<bool> {
        // SAFETY: the column has this type.
        unsafe { bool::from_datum(self.datum(of)?, false) }
    }

    /// The value of a text, varchar or jsonb column as text; `None` where it is NULL.
    pub fn text(self, of: Attribute) -> Option<String> {
        let datum = self.datum(of)?;
        // SAFETY: the column has this type, or text's, which is varchar's.
        unsafe {
            match of.base {
                pg_sys::JSONBOID => Jsonb::from_datum(datum, false).map(|json| json.as_str().to_owned()),
                _ if encoding::is_utf8() => String::from_datum(datum, false),
                // The text is never stored: in a database that is not in UTF-8, the sync of the row fails.
                _ => Some(String::new()),
            }
        }
    }

    /// The row as a composite Datum, which is a copy.
    pub fn composite(self) -> pg_sys::Datum {
        // SAFETY: the slot holds a tuple; the value is a copy.
        unsafe { pg_sys::ExecFetchSlotHeapTupleDatum(self.0) }
    }

    /// Whether a column has the same value in another row of the table.
    pub fn has_same_value(self, other: Self, of: Attribute) -> bool {
        match (self.datum(of), other.datum(of)) {
            (None, None) => true,
            // SAFETY: both are values of the column's type, which has this length.
            (Some(a), Some(b)) => unsafe { is_same_datum(a, b, of) },
            _ => false,
        }
    }
}

unsafe fn is_same_datum(a: pg_sys::Datum, b: pg_sys::Datum, of: Attribute) -> bool {
    if of.by_value {
        return a.value() == b.value();
    }
    // SAFETY: values by reference; their type or the value itself says how long they are.
    unsafe {
        let (a, b) = (a.cast_mut_ptr::<pg_sys::varlena>(), b.cast_mut_ptr::<pg_sys::varlena>());
        let bytes = |p: *mut pg_sys::varlena, n: usize| std::slice::from_raw_parts(p.cast::<u8>(), n);
        match usize::try_from(of.length) {
            Ok(length) => bytes(a, length) == bytes(b, length),
            Err(_) if of.length != -1 => CStr::from_ptr(a.cast()) == CStr::from_ptr(b.cast()),
            Err(_) => {
                // An unchanged value that is stored out of line has the same TOAST pointer, so nothing is fetched for it.
                let size = pgrx::varsize_any;
                if bytes(a, size(a)) == bytes(b, size(b)) {
                    return true;
                }
                if pg_sys::toast_raw_datum_size(a.into()) != pg_sys::toast_raw_datum_size(b.into()) {
                    return false;
                }
                if !is_stored_elsewhere(a) && !is_stored_elsewhere(b) {
                    return is_same_payload(a, b);
                }
                // A value that cannot be fetched any more counts as changed, so that the statement that replaces it does not
                // fail.
                matches!(try_row(|| Ok(is_same_payload(a, b))), Ok(Ok(true)))
            }
        }
    }
}

/// Whether a value has to be fetched from a TOAST table or decompressed.
unsafe fn is_stored_elsewhere(value: *mut pg_sys::varlena) -> bool {
    // SAFETY: the value is a varlena, as callers promise.
    unsafe { pgrx::varatt_is_1b_e(value) || pgrx::varatt_is_4b_c(value) }
}

/// Whether two values of the same length are equal, after fetching and decompressing them.
unsafe fn is_same_payload(a: *mut pg_sys::varlena, b: *mut pg_sys::varlena) -> bool {
    // SAFETY: both are varlenas, as the caller promises; what was fetched is freed here.
    unsafe {
        let (plain_a, plain_b) = (pg_sys::pg_detoast_datum_packed(a), pg_sys::pg_detoast_datum_packed(b));
        let payload = |p: *mut pg_sys::varlena| {
            std::slice::from_raw_parts(pgrx::vardata_any(p).cast::<u8>(), pgrx::varsize_any_exhdr(p))
        };
        let is_same = payload(plain_a) == payload(plain_b);
        for (plain, given) in [(plain_a, a), (plain_b, b)] {
            if plain != given {
                pg_sys::pfree(plain.cast());
            }
        }
        is_same
    }
}

/// A scan of a transition table, in the order in which the rows were changed. The old and the new rows of an UPDATE have
/// the same order.
pub struct TransitionTableScan {
    store: *mut pg_sys::Tuplestorestate,
    pointer: i32,
    slot: *mut pg_sys::TupleTableSlot,
}

impl TransitionTableScan {
    /// Starts a scan at the first row.
    ///
    /// # Safety
    /// The store outlives the scan, and its rows have this descriptor.
    pub unsafe fn new(store: *mut pg_sys::Tuplestorestate, descriptor: pg_sys::TupleDesc) -> Self {
        // SAFETY: each reader of the store has a read pointer of its own.
        unsafe {
            let pointer = pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND.cast_signed());
            pg_sys::tuplestore_select_read_pointer(store, pointer);
            pg_sys::tuplestore_rescan(store);
            let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsMinimalTuple);
            Self { store, pointer, slot }
        }
    }

    /// Returns the next row, valid until the next call; `None` at the end.
    pub fn next(&mut self) -> Option<Row> {
        // SAFETY: the store and the descriptor are as the caller of new() promised.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(self.store, self.pointer);
            // A row that was read back from disk, as beyond work_mem, is freed by the slot, so it has to be allocated in the
            // slot's context.
            let before = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = (*self.slot).tts_mcxt;
            let found = pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot);
            pg_sys::CurrentMemoryContext = before;
            found.then_some(Row(self.slot))
        }
    }
}

impl Drop for TransitionTableScan {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: new() made the slot.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
        }
    }
}
