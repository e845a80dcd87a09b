//! Postgres' `tsvector` as a Datum. What is in it is in [`crate::search::tsvector`].

use pgrx::{FromDatum, IntoDatum, pg_sys};

/// A `tsvector`'s bytes after its length word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsVector(pub Vec<u8>);

impl FromDatum for TsVector {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the datum is a tsvector, as its caller says: a varlena, read with its long header.
        unsafe {
            let vector = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
            let bytes = std::slice::from_raw_parts(pgrx::vardata_any(vector).cast(), pgrx::varsize_any_exhdr(vector));
            Some(Self(bytes.to_vec()))
        }
    }
}

impl IntoDatum for TsVector {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let size = pg_sys::VARHDRSZ + self.0.len();
        // SAFETY: the allocation has `size` bytes: the length word, which is Postgres' own for a varlena of that size, then
        // ours.
        unsafe {
            let start = pg_sys::palloc(size).cast::<u8>();
            pgrx::set_varsize_4b(start.cast(), i32::try_from(size).ok()?);
            start.add(pg_sys::VARHDRSZ).copy_from_nonoverlapping(self.0.as_ptr(), self.0.len());
            Some(start.into())
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TSVECTOROID
    }
}
