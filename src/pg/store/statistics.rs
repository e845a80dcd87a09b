//! Postgres' statistics of the tables that a search reads, from the catalog's cache, as the planner reads them.

use std::collections::HashMap;
use std::ffi::{CStr, CString};

use pgrx::{FromDatum, pg_sys};

use crate::error::{Error, Result};
use crate::ids::{ChatbotId, ModelId};
use crate::pg::runtime::schema::schema;
use crate::pg::store::index_form::IndexForm;
use crate::pg::store::tables::{SearchTable, Tables};
use crate::search::plan::ChatbotSize;
use crate::search::quantization::Quantization;
use crate::search::term::{Term, Word};

/// An index that searches can use.
#[derive(Clone, Copy)]
pub struct ValidIndex {
    /// The form of the index.
    pub form: IndexForm,
    /// The estimated number of chunks in it.
    pub chunks: f64,
}

/// Returns a model's valid index, of the form that it should have or, until that is built, of another one; `None` where it has
/// none.
pub fn valid_index(tables: &Tables, form: IndexForm, model_id: ModelId) -> Result<Option<ValidIndex>> {
    let others = Quantization::ALL.into_iter().filter(|other| *other != form.quantization);
    for form in std::iter::once(form).chain(others.map(|other| form.with(other))) {
        let name = tables.embedding.index_name(&form.index_name(model_id));
        if let Some(chunks) = chunks_indexed(&tables.embedding, &name)? {
            return Ok(Some(ValidIndex { form, chunks }));
        }
    }
    Ok(None)
}

/// Returns the estimated size of a chatbot among the chunks of an index; `None` where the statistics do not name the chatbot.
/// They name the largest ones.
pub fn chatbot_size(tables: &Tables, chatbot_id: ChatbotId, of_all: f64) -> Option<ChatbotSize> {
    let share = most_common(tables.embedding.id, c"chatbot_id", pg_sys::STATISTIC_KIND_MCV, |values, shares, _| {
        let at = values.iter().position(|value| value.value().cast_signed() as i64 == chatbot_id.0)?;
        shares.get(at).map(|share| f64::from(*share))
    });
    share.flatten().map(|share| ChatbotSize { chunks: (share * of_all).round(), of_all })
}

/// Returns the share of all chunks that each word is in. For a word that the statistics do not name, it is the most that
/// such a word can have. A word is in at least as many chunks as the most frequent one of its terms.
pub fn word_shares(tables: &Tables, words: &[Word]) -> Vec<f64> {
    let is_of = |lexeme: &str, term: &Term| lexeme == term.text || term.is_prefix && lexeme.starts_with(&term.text);
    let is_asked = |lexeme: &str| words.iter().flat_map(|word| &word.terms).any(|term| is_of(lexeme, term));
    let CommonElements { shares: known, share_of_others: least } =
        select_common_elements(tables.embedding.id, c"words", is_asked);
    let share = |term: &Term| {
        let shares = known.iter().filter(|(lexeme, _)| is_of(lexeme, term)).map(|(_, share)| share);
        shares.sum::<f64>().clamp(least, 1.0)
    };
    words.iter().map(|word| word.terms.iter().map(share).fold(least, f64::max)).collect()
}

/// The values of a column of integer arrays, where the statistics know nearly all of them: it has few.
pub fn arrays(table: &SearchTable, column: &CStr) -> Option<Vec<Vec<i32>>> {
    const NEARLY_ALL: f32 = 0.99;
    let known = most_common(table.id, column, pg_sys::STATISTIC_KIND_MCV, |values, shares, nulls| {
        // SAFETY: a value of this kind of statistics is one of the column, in a copy of the statistics.
        let array = |value: &pg_sys::Datum| unsafe { Vec::<i32>::from_datum(*value, false) };
        let arrays = values.iter().map(array).collect::<Option<Vec<_>>>()?;
        (shares.iter().sum::<f32>() + nulls >= NEARLY_ALL).then_some(arrays)
    });
    known.flatten()
}

/// Returns the most common elements of a column of text arrays.
pub fn common_elements(table: &SearchTable, column: &CStr) -> Vec<String> {
    select_common_elements(table.id, column, |_| true).shares.into_keys().collect()
}

/// The most common elements of a column of arrays.
#[derive(Default)]
struct CommonElements {
    /// The share of rows that each element is in.
    shares: HashMap<String, f64>,
    /// The largest share that any other element can have.
    share_of_others: f64,
}

/// Returns those of a column's most common elements for which `is_selected` is true.
fn select_common_elements(table: pg_sys::Oid, column: &CStr, is_selected: impl Fn(&str) -> bool) -> CommonElements {
    let read = |values: &[pg_sys::Datum], shares: &[f32], _| {
        let text = |value: &pg_sys::Datum| {
            // SAFETY: an element of this kind of statistics is a text, in a copy of the statistics.
            unsafe {
                let text = pg_sys::pg_detoast_datum_packed(value.cast_mut_ptr());
                let bytes = std::slice::from_raw_parts(pgrx::vardata_any(text).cast(), pgrx::varsize_any_exhdr(text));
                std::str::from_utf8(bytes).ok()
            }
        };
        let named = values.iter().map(text).zip(shares).filter_map(|(text, share)| Some((text?, f64::from(*share))));
        let selected = named.filter(|(text, _)| is_selected(text)).map(|(text, share)| (text.to_owned(), share));
        // The array goes on after the elements' shares: the lowest of them comes first.
        let share_of_others = shares.get(values.len()).copied().map_or(0.0, f64::from);
        CommonElements { shares: selected.collect(), share_of_others }
    };
    most_common(table, column, pg_sys::STATISTIC_KIND_MCELEM, read).unwrap_or_default()
}

/// The most common values or elements of a column, with their shares, and the share of rows where it is NULL.
fn most_common<R>(
    table: pg_sys::Oid,
    column: &CStr,
    kind: u32,
    read: impl FnOnce(&[pg_sys::Datum], &[f32], f32) -> R,
) -> Option<R> {
    // SAFETY: a look-up in the catalog's cache, released below; the slot's arrays are as long as it says, and are freed
    // when they were read.
    unsafe {
        let column = pg_sys::get_attnum(table, column.as_ptr());
        let cache = pg_sys::SysCacheIdentifier::STATRELATTINH.cast_signed();
        let row = pg_sys::SearchSysCache3(cache, table.into(), column.into(), false.into());
        if row.is_null() {
            return None;
        }
        let nulls = (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_statistic>(row)).stanullfrac;
        let mut slot = pg_sys::AttStatsSlot::default();
        let both = (pg_sys::ATTSTATSSLOT_VALUES | pg_sys::ATTSTATSSLOT_NUMBERS).cast_signed();
        let found = pg_sys::get_attstatsslot(&raw mut slot, row, kind.cast_signed(), pg_sys::InvalidOid, both);
        pg_sys::ReleaseSysCache(row);
        let result =
            found.then(|| read(c_slice(slot.values, slot.nvalues), c_slice(slot.numbers, slot.nnumbers), nulls));
        pg_sys::free_attstatsslot(&raw mut slot);
        result
    }
}

/// A slice of a C array, empty where the pointer is null.
unsafe fn c_slice<'a, T>(start: *const T, length: i32) -> &'a [T] {
    match usize::try_from(length) {
        // SAFETY: the array has this length, as the caller promises.
        Ok(length) if !start.is_null() => unsafe { std::slice::from_raw_parts(start, length) },
        _ => &[],
    }
}

/// Returns the estimated number of chunks in an index of a table; `None` where there is no such index, or it is not valid.
fn chunks_indexed(table: &SearchTable, name: &str) -> Result<Option<f64>> {
    let name = CString::new(name).map_err(|error| Error::Internal(error.to_string()))?;
    // SAFETY: look-ups in the catalog's cache, released when they were read.
    unsafe {
        let index = pg_sys::get_relname_relid(name.as_ptr(), schema()?);
        let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::INDEXRELID.cast_signed(), index.into());
        if row.is_null() {
            return Ok(None);
        }
        let of = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_index>(row);
        let serves = (*of).indisvalid && (*of).indrelid == table.id;
        pg_sys::ReleaseSysCache(row);
        if !serves {
            return Ok(None);
        }
        let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID.cast_signed(), index.into());
        if row.is_null() {
            return Ok(None);
        }
        let chunks = (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_class>(row)).reltuples;
        pg_sys::ReleaseSysCache(row);
        Ok(Some(f64::from(chunks)))
    }
}
