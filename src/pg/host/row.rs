//! Rows of a host table, in slots: values by column, and whether two are the same without reading what was not changed.

use std::ffi::CStr;

use pgrx::{FromDatum, pg_sys};

use crate::pg::runtime::encoding;
use crate::pg::runtime::subtransaction::attempt;
use crate::source::Jsonb;

/// A column's place and type.
#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    /// From 1.
    pub number: i16,
    /// The column's type.
    pub of_type: pg_sys::Oid,
    /// Its type; of a domain the one below.
    pub base: pg_sys::Oid,
    /// The longest text, where the column has a limit.
    pub longest: Option<i32>,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether its value follows from others.
    pub generated: bool,
    /// Whether it is not even stored, so that no trigger sees a value.
    pub virtual_column: bool,
    /// Whether its type may have constraints of its own.
    pub domain: bool,
    by_value: bool,
    length: i16,
}

impl Attribute {
    /// The column with this name.
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
            virtual_column: column.attgenerated.cast_unsigned() == b'v',
            domain: base != column.atttypid,
            by_value: column.attbyval,
            length: column.attlen,
        })
    }
}

impl Attribute {
    /// The name of the column with this number; none where it is dropped.
    pub fn name(descriptor: pg_sys::TupleDesc, number: i16) -> Option<String> {
        // SAFETY: as in find().
        let descriptor = unsafe { pgrx::PgTupleDesc::from_pg_unchecked(descriptor) };
        let column = descriptor.iter().find(|a| a.attnum == number && !a.attisdropped)?;
        Some(column.name().to_owned())
    }
}

/// A row in a slot that is owned by Postgres or by [`Rows`].
#[derive(Debug, Clone, Copy)]
pub struct Row(*mut pg_sys::TupleTableSlot);

impl Row {
    /// The row in a slot.
    ///
    /// # Safety
    /// The slot holds a tuple as long as the row is used.
    pub unsafe fn of(slot: *mut pg_sys::TupleTableSlot) -> Self {
        Self(slot)
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

    /// An integer of any size.
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

    /// The value of a boolean column; none where it is NULL.
    pub fn boolean(self, of: Attribute) -> Option<bool> {
        // SAFETY: the column has this type.
        unsafe { bool::from_datum(self.datum(of)?, false) }
    }

    /// A text, or the text of a JSON value.
    pub fn text(self, of: Attribute) -> Option<String> {
        let datum = self.datum(of)?;
        // SAFETY: the column has this type, or text's, which is varchar's.
        unsafe {
            match of.base {
                pg_sys::JSONBOID => Jsonb::from_datum(datum, false).map(|json| json.as_str().to_owned()),
                _ if encoding::is_utf8() => String::from_datum(datum, false),
                // It is not stored, and says why not: see encoding.rs.
                _ => Some(String::new()),
            }
        }
    }

    /// The row as a composite value.
    pub fn composite(self) -> pg_sys::Datum {
        // SAFETY: the slot holds a tuple; the value is a copy.
        unsafe { pg_sys::ExecFetchSlotHeapTupleDatum(self.0) }
    }

    /// Whether a column is the same in another row of the table.
    pub fn same(self, other: Self, of: Attribute) -> bool {
        match (self.datum(of), other.datum(of)) {
            (None, None) => true,
            // SAFETY: both are values of the column's type, which has this length.
            (Some(a), Some(b)) => unsafe { same(a, b, of) },
            _ => false,
        }
    }
}

unsafe fn same(a: pg_sys::Datum, b: pg_sys::Datum, of: Attribute) -> bool {
    if of.by_value {
        return a.value() == b.value();
    }
    // SAFETY: values by reference; as long as their type says, or themselves.
    unsafe {
        let (a, b) = (a.cast_mut_ptr::<pg_sys::varlena>(), b.cast_mut_ptr::<pg_sys::varlena>());
        let bytes = |p: *mut pg_sys::varlena, n: usize| std::slice::from_raw_parts(p.cast::<u8>(), n);
        match usize::try_from(of.length) {
            Ok(length) => bytes(a, length) == bytes(b, length),
            Err(_) if of.length != -1 => CStr::from_ptr(a.cast()) == CStr::from_ptr(b.cast()),
            Err(_) => {
                // What is stored out of line and was not changed has the same pointer: nothing is read.
                let size = pgrx::varsize_any;
                if bytes(a, size(a)) == bytes(b, size(b)) {
                    return true;
                }
                if pg_sys::toast_raw_datum_size(a.into()) != pg_sys::toast_raw_datum_size(b.into()) {
                    return false;
                }
                if !is_stored_elsewhere(a) && !is_stored_elsewhere(b) {
                    return same_payload(a, b);
                }
                // A value that cannot be read any more is not the same: the statement that replaces it is no error.
                matches!(attempt(|| Ok(same_payload(a, b))), Ok(Ok(true)))
            }
        }
    }
}

/// Whether a value has to be fetched from a TOAST table or uncompressed.
unsafe fn is_stored_elsewhere(value: *mut pg_sys::varlena) -> bool {
    // SAFETY: a varlena, says the caller.
    unsafe { pgrx::varatt_is_1b_e(value) || pgrx::varatt_is_4b_c(value) }
}

/// Whether two values of the same length are the same, once they are fetched.
unsafe fn same_payload(a: *mut pg_sys::varlena, b: *mut pg_sys::varlena) -> bool {
    // SAFETY: varlenas, says the caller; what was fetched is this function's to free.
    unsafe {
        let (plain_a, plain_b) = (pg_sys::pg_detoast_datum_packed(a), pg_sys::pg_detoast_datum_packed(b));
        let payload = |p: *mut pg_sys::varlena| {
            std::slice::from_raw_parts(pgrx::vardata_any(p).cast::<u8>(), pgrx::varsize_any_exhdr(p))
        };
        let same = payload(plain_a) == payload(plain_b);
        for (plain, given) in [(plain_a, a), (plain_b, b)] {
            if plain != given {
                pg_sys::pfree(plain.cast());
            }
        }
        same
    }
}

/// The rows of a transition table, in the order in which they were changed. Those before and those after an UPDATE are in
/// the same order.
pub struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    pointer: i32,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Rows {
    /// From the first row on.
    ///
    /// # Safety
    /// The store lives as long as this does, and its rows are of this descriptor.
    pub unsafe fn new(store: *mut pg_sys::Tuplestorestate, descriptor: pg_sys::TupleDesc) -> Self {
        // SAFETY: others read the same store, each with a pointer of its own, as here.
        unsafe {
            let pointer = pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND.cast_signed());
            pg_sys::tuplestore_select_read_pointer(store, pointer);
            pg_sys::tuplestore_rescan(store);
            let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsMinimalTuple);
            Self { store, pointer, slot }
        }
    }

    /// The next row, valid until the one after.
    pub fn next(&mut self) -> Option<Row> {
        // SAFETY: as new() was promised.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(self.store, self.pointer);
            // A row that comes from a file, as beyond work_mem, is the slot's to free: it has to live as long.
            let before = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = (*self.slot).tts_mcxt;
            let found = pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot);
            pg_sys::CurrentMemoryContext = before;
            found.then_some(Row(self.slot))
        }
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the slot is this one's own.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
        }
    }
}
