//! The encoding of the database. Texts are read and written as UTF-8, so other encodings are refused: by CREATE EXTENSION
//! since 0.3.0, and by each call where the extension is older.

use std::ffi::CStr;
use std::ops::Deref;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};

use crate::error::{Error, Result};

/// Fails in a database that is not in UTF-8.
pub fn require_utf8() -> Result<()> {
    if is_utf8() { Ok(()) } else { Err(Error::Encoding { encoding: encoding_name() }) }
}

/// Whether the database is in UTF-8.
pub fn is_utf8() -> bool {
    // SAFETY: a number that is set when the process connects.
    unsafe { pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8.cast_signed() }
}

fn encoding_name() -> String {
    // SAFETY: the name is a constant of Postgres.
    unsafe { CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) }.to_string_lossy().into_owned()
}

/// Replaces each character that the client's encoding lacks with a question mark; otherwise Postgres would send an error of
/// the conversion instead of the message.
pub fn for_client(text: String) -> String {
    let utf8 = pg_sys::pg_enc::PG_UTF8.cast_signed();
    // SAFETY: reads a variable of this backend.
    let client = unsafe { pg_sys::pg_get_client_encoding() };
    if text.is_ascii() || client == utf8 || client == pg_sys::pg_enc::PG_SQL_ASCII.cast_signed() {
        return text;
    }
    // SAFETY: a look-up in the catalog, which is made within a transaction only.
    let conversion = unsafe {
        if pg_sys::IsTransactionState() { pg_sys::FindDefaultConversionProc(utf8, client) } else { pg_sys::InvalidOid }
    };
    let readable = |c: char| {
        let (mut from, mut to) = ([0_u8; 5], [0_u8; 64]);
        let length = i32::try_from(c.encode_utf8(&mut from).len()).unwrap_or(0);
        // SAFETY: the function converts between these encodings, and answers how many bytes it could convert; the result has
        // room for more than a character takes anywhere.
        conversion != pg_sys::InvalidOid
            && length
                == unsafe {
                    let (from, to, room) = (from.as_mut_ptr(), to.as_mut_ptr(), to.len() as i32);
                    pg_sys::pg_do_encoding_conversion_buf(conversion, utf8, client, from, length, to, room, true)
                }
    };
    text.chars().map(|c| if c.is_ascii() || readable(c) { c } else { '?' }).collect()
}

/// An argument of the type `text`. Where the database is not in UTF-8, it is not read and the call fails.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(&'a str);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}

// SAFETY: a text argument is read where it stands, as pgrx does it for &str.
unsafe impl<'fcx> ArgAbi<'fcx> for Text<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        require_utf8().map_err(ErrorReport::from).unwrap_or_report();
        // SAFETY: as the caller promises, the argument is a text that is not NULL.
        Self(unsafe { <&str as ArgAbi>::unbox_arg_unchecked(arg) })
    }
}

// SAFETY: this type is Postgres' text.
unsafe impl SqlTranslatable for Text<'_> {
    const TYPE_IDENT: &'static str = <&str as SqlTranslatable>::TYPE_IDENT;
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: std::result::Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("text"));
    const RETURN_SQL: std::result::Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("text")));
}
