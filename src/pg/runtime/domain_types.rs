//! The domain's ids, kinds and statuses as arguments and results of statements.

use pgrx::{FromDatum, IntoDatum, pg_sys};

use crate::ids::{ChatbotId, HostId, JobId, ModelId};
use crate::source::{SourceStatus, SourceType};

macro_rules! ids_as_datum {
    ($($name:ident($number:ty);)*) => {$(
        impl IntoDatum for $name {
            fn into_datum(self) -> Option<pg_sys::Datum> {
                self.0.into_datum()
            }

            fn type_oid() -> pg_sys::Oid {
                <$number>::type_oid()
            }
        }

        impl FromDatum for $name {
            unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, of: pg_sys::Oid) -> Option<Self> {
                // SAFETY: the id is a number of this type, as the caller promises.
                unsafe { <$number>::from_polymorphic_datum(datum, is_null, of) }.map(Self)
            }
        }
    )*};
}

ids_as_datum! {
    ChatbotId(i64);
    ModelId(i32);
    HostId(i32);
    JobId(i64);
}

impl IntoDatum for SourceType {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        self.as_str().into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

impl FromDatum for SourceType {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, of: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the kind is a text, as the caller promises; its name is copied where it is not known yet.
        unsafe { <&str>::from_polymorphic_datum(datum, is_null, of) }.map(Self::named)
    }
}

impl IntoDatum for SourceStatus {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        self.as_str().into_datum()
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}
