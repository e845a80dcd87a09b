//! pgvector's `vector` as a Datum, without a text in between: four bytes of length, two of dimensions, two unused,
//! then the float4s.

use std::cell::{Cell, RefCell};

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, IntoDatum, pg_sys};

use crate::error::{Error, Result};
use crate::pg::runtime::catalog::{self, VectorType};

const HEADER: usize = 8;

/// A `vector` as an argument or a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector(pub Vec<f32>);

thread_local! {
    static FOUND: RefCell<Option<VectorType>> = const { RefCell::new(None) };
}

/// Returns pgvector's type. It is looked up once, and again after any type has changed, so that a pgvector that was dropped
/// and created again, or moved to another schema, is noticed. Fails where pgvector is missing.
pub fn vector_type() -> Result<VectorType> {
    if let Some(found) = FOUND.with_borrow(Clone::clone) {
        return Ok(found);
    }
    register_cache_callback();
    let found = catalog::vector_type()?.ok_or(Error::VectorMissing)?;
    FOUND.set(Some(found.clone()));
    Ok(found)
}

fn register_cache_callback() {
    #[pgrx::pg_guard]
    unsafe extern "C-unwind" fn forget(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
        FOUND.set(None);
    }
    thread_local!(static WATCHING: Cell<bool> = const { Cell::new(false) });
    if !WATCHING.replace(true) {
        // SAFETY: the callback only clears a cell of this thread, and backends have one thread that calls Postgres.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(
                pg_sys::SysCacheIdentifier::TYPEOID as i32,
                Some(forget),
                pg_sys::Datum::null(),
            );
        }
    }
}

impl IntoDatum for Vector {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let dimensions = u16::try_from(self.0.len()).ok()?;
        let size = HEADER + self.0.len() * size_of::<f32>();
        // SAFETY: the allocation has `size` bytes, aligned for what is written (palloc aligns to 8): the header, then
        // the floats. The length word is Postgres' own for a varlena of that size.
        unsafe {
            let start = pg_sys::palloc(size).cast::<u8>();
            pgrx::set_varsize_4b(start.cast(), i32::try_from(size).ok()?);
            start.add(4).cast::<u16>().write(dimensions);
            start.add(6).cast::<u16>().write(0);
            start.add(HEADER).cast::<f32>().copy_from_nonoverlapping(self.0.as_ptr(), self.0.len());
            Some(start.into())
        }
    }

    fn type_oid() -> pg_sys::Oid {
        match vector_type() {
            Ok(found) => found.oid,
            Err(error) => {
                pg_sys::panic::ErrorReportable::unwrap_or_report(Err(pg_sys::panic::ErrorReport::from(error)))
            }
        }
    }
}

impl FromDatum for Vector {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the datum is a vector, as its caller says: detoasted, the dimensions stand after the length word and
        // as many floats after the header.
        unsafe {
            let start = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<u8>();
            let dimensions = usize::from(start.add(4).cast::<u16>().read());
            let floats = std::slice::from_raw_parts(start.add(HEADER).cast::<f32>(), dimensions);
            Some(Self(floats.to_vec()))
        }
    }
}

// SAFETY: this type is pgvector's vector.
unsafe impl SqlTranslatable for Vector {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Vector);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("vector"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("vector")));
}

// SAFETY: what is returned is a vector in the caller's memory context.
unsafe impl BoxRet for Vector {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum is a vector.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}
