//! The condition that rows of a host table have to fulfil: an expression over the row's columns, checked as a CHECK
//! constraint's is, and evaluated by triggers without a query.
//!
//! A trigger's argument may be written by the owner of the table, and triggers run as the extension's owner. So the
//! expression is checked whenever it is read, and only what Postgres itself has may be called in it.

use std::cell::OnceCell;
use std::ffi::{CStr, CString, c_void};

use pgrx::FromDatum;
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::error::{Error, Result};
use crate::host::{Column, Condition};
use crate::pg::host::relation::Relation;
use crate::pg::host::row::{Attribute, Row};
use crate::pg::runtime::run_as::{Restriction, RunAs};
use crate::pg::runtime::subtransaction::try_row;

/// The only table in an expression.
const TABLE: u32 = 1;

/// A condition that was checked against a relation.
pub struct CheckedCondition {
    /// The columns that it reads.
    pub columns: Vec<Attribute>,
    /// Whether it may raise an error for some row.
    pub may_raise: bool,
    expression: Expression,
    compiled: OnceCell<Compiled>,
}

/// An expression in a memory context of its own.
struct Expression {
    node: *mut pg_sys::Node,
    memory: pg_sys::MemoryContext,
}

/// What evaluates it.
struct Compiled {
    state: *mut pg_sys::ExprState,
    context: *mut pg_sys::ExprContext,
}

impl Drop for Expression {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the context is this one's own, and what evaluates the expression goes with it. At the end of the
            // session Postgres gives all memory back by itself.
            unsafe {
                if !pg_sys::proc_exit_inprogress {
                    pg_sys::MemoryContextDelete(self.memory);
                }
            }
        }
    }
}

/// A memory context that is current as long as this lives.
struct Within(pg_sys::MemoryContext);

impl Within {
    /// # Safety
    /// The context lives as long as this does.
    unsafe fn new(memory: pg_sys::MemoryContext) -> Self {
        // SAFETY: as promised.
        unsafe {
            let before = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = memory;
            Self(before)
        }
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the context that was current before.
            unsafe { pg_sys::CurrentMemoryContext = self.0 };
        }
    }
}

impl CheckedCondition {
    /// Checks a condition against a relation.
    ///
    /// # Safety
    /// The relation is open.
    pub unsafe fn check(condition: &Condition, open: pg_sys::Relation) -> Result<Self> {
        // SAFETY: as promised; names are those of now.
        unsafe { Self::parse(&condition.sql, open, &[]).map(|(checked, _)| checked) }
    }

    /// Checks what chatbot_attach() was given: the condition as it is stored, with its columns.
    ///
    /// # Safety
    /// The relation is open.
    pub unsafe fn store(sql: &str, open: pg_sys::Relation) -> Result<Condition> {
        // SAFETY: as promised.
        unsafe { Self::stored(sql, open, &[]) }
    }

    /// The same condition after columns were renamed: `before` has their names of before, with their numbers.
    ///
    /// # Safety
    /// The relation is open.
    pub unsafe fn renamed(condition: &Condition, open: pg_sys::Relation, before: &[Column]) -> Result<Condition> {
        // SAFETY: as promised.
        unsafe { Self::stored(&condition.sql, open, before) }
    }

    unsafe fn stored(sql: &str, open: pg_sys::Relation, before: &[Column]) -> Result<Condition> {
        // SAFETY: as promised; the text is palloc'ed and copied.
        unsafe {
            let (checked, sql) = Self::parse(sql, open, before)?;
            let descriptor = (*open).rd_att;
            let column =
                |a: &Attribute| Some(Column { name: Attribute::name(descriptor, a.number)?, number: a.number });
            Ok(Condition { sql, columns: checked.columns.iter().filter_map(column).collect() })
        }
    }

    unsafe fn parse(sql: &str, open: pg_sys::Relation, before: &[Column]) -> Result<(Self, String)> {
        // SAFETY: as promised. Whatever raises an error leaves a context below the cache's behind, at most once a statement.
        unsafe {
            // Names mean the same in every session.
            let _path = RunAs::new(pg_sys::GetUserId(), Restriction::Session);
            let memory = pg_sys::AllocSetContextCreateExtended(
                pg_sys::CurrentMemoryContext,
                c"chatbot_sync condition".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            );
            let mut expression = Expression { node: std::ptr::null_mut(), memory };
            let _within = Within::new(memory);
            let node = transform(sql, open, before)?;
            let mut found = Found { refused: None, may_raise: false };
            look(node, (&raw mut found).cast());
            if let Some(reason) = found.refused {
                return Err(refused(sql, reason));
            }
            let columns = columns_of(node, (*open).rd_att).map_err(|reason| refused(sql, reason))?;
            expression.node = pg_sys::expression_planner(node.cast()).cast();
            if pg_sys::contain_mutable_functions(expression.node) {
                return Err(refused(sql, "its functions must be immutable".to_owned()));
            }
            let relation = Relation::of(open);
            let name = pg_sys::get_rel_name(relation.oid);
            let text = pg_sys::deparse_expression(node, pg_sys::deparse_context_for(name, relation.oid), false, false);
            let text = CStr::from_ptr(text).to_string_lossy().into_owned();
            // From now on it lives as long as this session wants.
            pg_sys::MemoryContextSetParent(memory, pg_sys::CacheMemoryContext);
            let may_raise = found.may_raise;
            Ok((Self { columns, may_raise, expression, compiled: OnceCell::new() }, text))
        }
    }

    /// Whether a row fulfils it: NULL is no. Raises what the expression raises.
    pub fn is_fulfilled(&self, row: Row) -> bool {
        let Compiled { state, context } = self.compiled.get_or_init(|| self.compile());
        // SAFETY: what was compiled lives as long as this; the row is of the relation that it was checked against.
        unsafe {
            (**context).ecxt_scantuple = row.slot();
            let _within = Within::new((**context).ecxt_per_tuple_memory);
            let mut is_null = false;
            let fulfilled = pg_guard_ffi_boundary(|| match (**state).evalfunc {
                Some(evaluate) => evaluate(*state, *context, &raw mut is_null),
                None => pg_sys::Datum::null(),
            });
            let fulfilled = bool::from_datum(fulfilled, is_null) == Some(true);
            pg_sys::MemoryContextReset((**context).ecxt_per_tuple_memory);
            fulfilled
        }
    }

    /// The same; none where the expression raises an error.
    pub fn is_fulfilled_if_readable(&self, row: Row) -> Result<Option<bool>> {
        if !self.may_raise {
            return Ok(Some(self.is_fulfilled(row)));
        }
        Ok(try_row(|| Ok(self.is_fulfilled(row)))?.ok())
    }

    fn compile(&self) -> Compiled {
        // SAFETY: the expression was planned, and its context is that of what is made of it.
        unsafe {
            let _within = Within::new(self.expression.memory);
            Compiled {
                state: pg_sys::ExecInitExpr(self.expression.node.cast(), std::ptr::null_mut()),
                context: pg_sys::CreateStandaloneExprContext(),
            }
        }
    }
}

fn refused(condition: &str, reason: String) -> Error {
    Error::Condition { condition: condition.to_owned(), reason }
}

/// The expression that a text is, over the columns of a relation: those that `before` names are called so.
unsafe fn transform(sql: &str, open: pg_sys::Relation, before: &[Column]) -> Result<*mut pg_sys::Node> {
    let no_expression = || refused(sql, "it must be one expression".to_owned());
    let text = CString::new(sql).map_err(|_| no_expression())?;
    // SAFETY: the relation is open, says the caller; what is parsed lives in the current context.
    unsafe {
        let mode = pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR;
        let statement = only_element(pg_sys::raw_parser(text.as_ptr(), mode)).ok_or_else(no_expression)?;
        let statement = (*statement.cast::<pg_sys::RawStmt>()).stmt;
        let node = only_expression(statement).ok_or_else(no_expression)?;
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        let lock = pg_sys::AccessShareLock.cast_signed();
        let name = pg_sys::get_rel_name((*open).rd_id);
        let alias = pg_sys::makeAlias(name, names(open, before)?);
        let item = pg_sys::addRangeTableEntryForRelation(state, open, lock, alias, false, true);
        pg_sys::addNSItemToQuery(state, item, false, true, true);
        let kind = pg_sys::ParseExprKind::EXPR_KIND_CHECK_CONSTRAINT;
        let node = pg_sys::transformExpr(state, node, kind);
        let node = pg_sys::coerce_to_boolean(state, node, c"condition".as_ptr());
        pg_sys::assign_expr_collations(state, node);
        Ok(node)
    }
}

/// The names of a relation's columns, as a list of strings; none where they are as they are.
unsafe fn names(open: pg_sys::Relation, before: &[Column]) -> Result<*mut pg_sys::List> {
    if before.is_empty() {
        return Ok(std::ptr::null_mut());
    }
    let mut names = std::ptr::null_mut();
    // SAFETY: the relation is open, says the caller.
    let descriptor = unsafe { pgrx::PgTupleDesc::from_pg_unchecked((*open).rd_att) };
    for attribute in descriptor.iter() {
        let number = attribute.attnum;
        // A name of before may be another column's now.
        let name = match before.iter().find(|column| column.number == number) {
            Some(column) => column.name.clone(),
            None => format!("column {number}"),
        };
        let name = CString::new(name).map_err(|error| Error::Internal(error.to_string()))?;
        // SAFETY: the copy is palloc'ed.
        unsafe { names = pg_sys::lappend(names, pg_sys::makeString(pg_sys::pstrdup(name.as_ptr())).cast()) };
    }
    Ok(names)
}

/// The element of a list of nodes that has no other.
unsafe fn only_element(list: *mut pg_sys::List) -> Option<*mut c_void> {
    // SAFETY: a list of pointers, or none.
    unsafe {
        let list = list.as_ref().filter(|list| list.length == 1)?;
        Some((*list.elements).ptr_value)
    }
}

/// The expression of `SELECT expression`, with nothing else to it.
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

/// What was found in an expression.
struct Found {
    refused: Option<String>,
    may_raise: bool,
}

/// Looks at a node and those below it; true where the rest is of no interest.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn look(node: *mut pg_sys::Node, found: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: a node of an expression, and the caller's variable.
    unsafe {
        let said = &mut *found.cast::<Found>();
        match (*node).type_ {
            pg_sys::NodeTag::T_Var => {
                let var = &*node.cast::<pg_sys::Var>();
                if var.varattno == 0 {
                    said.refused = Some("it must name columns, and not the whole row".to_owned());
                } else if var.varattno < 0 {
                    said.refused = Some("it must not name system columns".to_owned());
                }
            }
            pg_sys::NodeTag::T_OpExpr
            | pg_sys::NodeTag::T_DistinctExpr
            | pg_sys::NodeTag::T_NullIfExpr
            | pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                let operator = match (*node).type_ {
                    pg_sys::NodeTag::T_ScalarArrayOpExpr => (*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno,
                    _ => (*node.cast::<pg_sys::OpExpr>()).opno,
                };
                said.may_raise |= !is_comparison(operator);
            }
            pg_sys::NodeTag::T_Const
            | pg_sys::NodeTag::T_BoolExpr
            | pg_sys::NodeTag::T_RelabelType
            | pg_sys::NodeTag::T_CollateExpr
            | pg_sys::NodeTag::T_CaseExpr
            | pg_sys::NodeTag::T_CaseWhen
            | pg_sys::NodeTag::T_CaseTestExpr
            | pg_sys::NodeTag::T_ArrayExpr
            | pg_sys::NodeTag::T_CoalesceExpr
            | pg_sys::NodeTag::T_NullTest
            | pg_sys::NodeTag::T_BooleanTest
            | pg_sys::NodeTag::T_List => {}
            pg_sys::NodeTag::T_FuncExpr
            | pg_sys::NodeTag::T_NamedArgExpr
            | pg_sys::NodeTag::T_CoerceViaIO
            | pg_sys::NodeTag::T_ArrayCoerceExpr
            | pg_sys::NodeTag::T_MinMaxExpr
            | pg_sys::NodeTag::T_SubscriptingRef => said.may_raise = true,
            _ => said.refused = Some("it must compare, combine and cast columns and values only".to_owned()),
        }
        if said.refused.is_none() && pg_sys::check_functions_in_node(node, Some(is_user_function), std::ptr::null_mut())
        {
            let reason = "it must call functions of Postgres only: a trigger would run others as the extension's owner";
            said.refused = Some(reason.to_owned());
        }
        said.refused.is_some() || pg_sys::expression_tree_walker(node, Some(look), found)
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_user_function(function: pg_sys::Oid, _context: *mut c_void) -> bool {
    function.to_u32() >= pg_sys::FirstNormalObjectId
}

/// Whether an operator compares two values, which no built-in one fails at.
fn is_comparison(operator: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the catalog's cache.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        let found = pg_sys::get_op_btree_interpretation(operator);
        #[cfg(feature = "pg18")]
        let found = pg_sys::get_op_index_interpretation(operator);
        !found.is_null()
    }
}

/// The columns that an expression reads, or why one of them cannot be read.
unsafe fn columns_of(
    node: *mut pg_sys::Node,
    descriptor: pg_sys::TupleDesc,
) -> std::result::Result<Vec<Attribute>, String> {
    // SAFETY: the expression's only table has this descriptor; the set is palloc'ed.
    let numbers = unsafe {
        let (mut set, mut numbers, mut last) = (std::ptr::null_mut(), Vec::new(), -1);
        pg_sys::pull_varattnos(node, TABLE, &raw mut set);
        loop {
            last = pg_sys::bms_next_member(set, last);
            if last < 0 {
                break numbers;
            }
            numbers.push(last + pg_sys::FirstLowInvalidHeapAttributeNumber);
        }
    };
    let mut columns = Vec::new();
    for number in numbers {
        let number = i16::try_from(number).map_err(|error| error.to_string())?;
        let name = Attribute::name(descriptor, number).unwrap_or_default();
        let column = Attribute::find(descriptor, &name).ok_or_else(|| format!("there is no column {number}"))?;
        if column.virtual_column {
            return Err(format!("column \"{name}\" is generated and not stored, so that no trigger sees its value"));
        }
        columns.push(column);
    }
    if columns.is_empty() {
        return Err("it must read a column of the table".to_owned());
    }
    Ok(columns)
}
