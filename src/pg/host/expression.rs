//! Parses the expression of a condition, as Postgres parses that of a CHECK constraint.

use std::ffi::{CString, c_void};

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::host::Column;

/// The error for a condition that cannot be used.
pub fn refused_condition(condition: &str, reason: String) -> Error {
    Error::Condition { condition: condition.to_owned(), reason }
}

/// Parses a text as a boolean expression over the columns of a relation. Columns in `before` have those names instead of
/// their current ones.
///
/// # Safety
/// The relation is open.
pub unsafe fn parse_expression(sql: &str, open: pg_sys::Relation, before: &[Column]) -> Result<*mut pg_sys::Node> {
    let no_expression = || refused_condition(sql, "it must be one expression".to_owned());
    let text = CString::new(sql).map_err(|_| no_expression())?;
    // SAFETY: the relation is open, as the caller promises; the parse tree is allocated in the current memory context.
    unsafe {
        let mode = pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR;
        let statement = only_element(pg_sys::raw_parser(text.as_ptr(), mode)).ok_or_else(no_expression)?;
        let statement = (*statement.cast::<pg_sys::RawStmt>()).stmt;
        let node = only_expression(statement).ok_or_else(no_expression)?;
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        let lock = pg_sys::AccessShareLock.cast_signed();
        let name = pg_sys::get_rel_name((*open).rd_id);
        let alias = pg_sys::makeAlias(name, column_names(open, before)?);
        let item = pg_sys::addRangeTableEntryForRelation(state, open, lock, alias, false, true);
        pg_sys::addNSItemToQuery(state, item, false, true, true);
        let kind = pg_sys::ParseExprKind::EXPR_KIND_CHECK_CONSTRAINT;
        let node = pg_sys::transformExpr(state, node, kind);
        let node = pg_sys::coerce_to_boolean(state, node, c"condition".as_ptr());
        pg_sys::assign_expr_collations(state, node);
        Ok(node)
    }
}

/// Returns the names of a relation's columns as a list of strings; null where `before` is empty, for the current names.
unsafe fn column_names(open: pg_sys::Relation, before: &[Column]) -> Result<*mut pg_sys::List> {
    if before.is_empty() {
        return Ok(std::ptr::null_mut());
    }
    let mut column_names = std::ptr::null_mut();
    // SAFETY: the relation is open, as the caller promises.
    let descriptor = unsafe { pgrx::PgTupleDesc::from_pg_unchecked((*open).rd_att) };
    // Postgres itself leaves out columns that were dropped: a name for one would be one too many.
    for attribute in descriptor.iter().filter(|attribute| !attribute.is_dropped()) {
        let number = attribute.attnum;
        // A column that is not in `before` gets a name that no expression uses: another column may have its name in `before`.
        let name = match before.iter().find(|column| column.number == number) {
            Some(column) => column.name.clone(),
            None => format!("column {number}"),
        };
        let name = CString::new(name).map_err(|error| Error::Internal(error.to_string()))?;
        // SAFETY: the copy is palloc'ed.
        unsafe {
            column_names = pg_sys::lappend(column_names, pg_sys::makeString(pg_sys::pstrdup(name.as_ptr())).cast())
        };
    }
    Ok(column_names)
}

/// Returns the element of a list that has exactly one.
unsafe fn only_element(list: *mut pg_sys::List) -> Option<*mut c_void> {
    // SAFETY: a list of pointers, or null.
    unsafe {
        let list = list.as_ref().filter(|list| list.length == 1)?;
        Some((*list.elements).ptr_value)
    }
}

/// Returns the expression of a statement `SELECT expression` without any other clause.
unsafe fn only_expression(statement: *mut pg_sys::Node) -> Option<*mut pg_sys::Node> {
    // SAFETY: a tree of the raw parser.
    unsafe {
        if statement.is_null() || (*statement).type_ != pg_sys::NodeTag::T_SelectStmt {
            return None;
        }
        let select = &*statement.cast::<pg_sys::SelectStmt>();
        let lists = [
            select.distinctClause,
            select.fromClause,
            select.groupClause,
            select.windowClause,
            select.valuesLists,
            select.sortClause,
            select.lockingClause,
        ];
        let nodes = [select.whereClause, select.havingClause, select.limitOffset, select.limitCount];
        if lists.iter().any(|list| !list.is_null())
            || nodes.iter().any(|node| !node.is_null())
            || !select.intoClause.is_null()
            || !select.withClause.is_null()
            || select.op != pg_sys::SetOperation::SETOP_NONE
        {
            return None;
        }
        let target = &*only_element(select.targetList)?.cast::<pg_sys::ResTarget>();
        let plain = target.name.is_null() && target.indirection.is_null() && !target.val.is_null();
        plain.then_some(target.val)
    }
}
