//! The condition that rows of a host table have to fulfil: an expression over the row's columns, checked as a CHECK
//! constraint's is, and evaluated by triggers without a query.
//!
//! A trigger's argument may be written by the owner of the table, and triggers run as the extension's owner. So the
//! expression is checked whenever it is read, and only what Postgres itself has may be called in it.

use std::cell::OnceCell;
use std::ffi::{CStr, c_void};

use pgrx::FromDatum;
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::error::Result;
use crate::host::{Column, Condition};
use crate::pg::host::expression::{parse_expression, refused_condition};
use crate::pg::host::relation::Relation;
use crate::pg::host::row::{Attribute, Row};
use crate::pg::runtime::run_as::{Restriction, RunAs};
use crate::pg::runtime::subtransaction::try_row;

/// The number of the only table in an expression's range table.
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

/// An expression that is ready to be evaluated.
struct Compiled {
    state: *mut pg_sys::ExprState,
    context: *mut pg_sys::ExprContext,
}

impl Drop for Expression {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: only this value uses the context, which also has the compiled expression. At the end of the session
            // Postgres frees all memory itself.
            unsafe {
                if !pg_sys::proc_exit_inprogress {
                    pg_sys::MemoryContextDelete(self.memory);
                }
            }
        }
    }
}

/// Makes a memory context the current one while it lives.
struct MemoryContextGuard(pg_sys::MemoryContext);

impl MemoryContextGuard {
    /// # Safety
    /// The context lives as long as this does.
    unsafe fn new(memory: pg_sys::MemoryContext) -> Self {
        // SAFETY: as the caller promises.
        unsafe {
            let before = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = memory;
            Self(before)
        }
    }
}

impl Drop for MemoryContextGuard {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the context that was current before.
            unsafe { pg_sys::CurrentMemoryContext = self.0 };
        }
    }
}

impl CheckedCondition {
    /// Checks a stored condition against a relation.
    ///
    /// # Safety
    /// The relation is open.
    pub unsafe fn check(condition: &Condition, open: pg_sys::Relation) -> Result<Self> {
        // SAFETY: the relation is open, as the caller promises.
        unsafe { Self::parse(&condition.sql, open, &[]).map(|(checked, _)| checked) }
    }

    /// Checks the condition that chatbot_attach() was called with, and returns it as it is stored, with its columns.
    ///
    /// # Safety
    /// The relation is open.
    pub unsafe fn check_new(sql: &str, open: pg_sys::Relation) -> Result<Condition> {
        // SAFETY: as the caller promises.
        unsafe { Self::to_store(sql, open, &[]) }
    }

    /// Returns a condition with the current names of its columns. `before` has the names that the condition still uses,
    /// with their numbers.
    ///
    /// # Safety
    /// The relation is open.
    pub unsafe fn after_rename(condition: &Condition, open: pg_sys::Relation, before: &[Column]) -> Result<Condition> {
        // SAFETY: as the caller promises.
        unsafe { Self::to_store(&condition.sql, open, before) }
    }

    unsafe fn to_store(sql: &str, open: pg_sys::Relation, before: &[Column]) -> Result<Condition> {
        // SAFETY: the relation is open, as the caller promises; the text is palloc'ed and copied.
        unsafe {
            let (checked, sql) = Self::parse(sql, open, before)?;
            let descriptor = (*open).rd_att;
            let column =
                |a: &Attribute| Some(Column { name: Attribute::name(descriptor, a.number)?, number: a.number });
            Ok(Condition { sql, columns: checked.columns.iter().filter_map(column).collect() })
        }
    }

    unsafe fn parse(sql: &str, open: pg_sys::Relation, before: &[Column]) -> Result<(Self, String)> {
        // SAFETY: the relation is open, as the caller promises. The memory context is a child of the current one until the
        // expression is checked, so that an error frees it.
        unsafe {
            // With a fixed search_path, names mean the same in every session.
            let _path = RunAs::new(pg_sys::GetUserId(), Restriction::Session);
            let memory = pg_sys::AllocSetContextCreateExtended(
                pg_sys::CurrentMemoryContext,
                c"chatbot_sync condition".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            );
            let mut expression = Expression { node: std::ptr::null_mut(), memory };
            let _memory = MemoryContextGuard::new(memory);
            let node = parse_expression(sql, open, before)?;
            let mut found = Findings { refusal: None, may_raise: false };
            check_node(node, (&raw mut found).cast());
            if let Some(reason) = found.refusal {
                return Err(refused_condition(sql, reason));
            }
            let columns = columns_of(node, (*open).rd_att).map_err(|reason| refused_condition(sql, reason))?;
            expression.node = pg_sys::expression_planner(node.cast()).cast();
            if pg_sys::contain_mutable_functions(expression.node) {
                return Err(refused_condition(sql, "its functions must be immutable".to_owned()));
            }
            let relation = Relation::of(open);
            let name = pg_sys::get_rel_name(relation.oid);
            let text = pg_sys::deparse_expression(node, pg_sys::deparse_context_for(name, relation.oid), false, false);
            let text = CStr::from_ptr(text).to_string_lossy().into_owned();
            // The expression is kept until this value is dropped.
            pg_sys::MemoryContextSetParent(memory, pg_sys::CacheMemoryContext);
            let may_raise = found.may_raise;
            Ok((Self { columns, may_raise, expression, compiled: OnceCell::new() }, text))
        }
    }

    /// Whether a row fulfils the condition; NULL counts as false. Raises what the expression raises.
    pub fn is_fulfilled(&self, row: Row) -> bool {
        let Compiled { state, context } = self.compiled.get_or_init(|| self.compile());
        // SAFETY: the compiled expression lives as long as `self`; the row is of the relation that it was checked against.
        unsafe {
            (**context).ecxt_scantuple = row.slot();
            let _memory = MemoryContextGuard::new((**context).ecxt_per_tuple_memory);
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

    /// Whether a row fulfils the condition; `None` where the expression raises an error.
    pub fn is_fulfilled_if_readable(&self, row: Row) -> Result<Option<bool>> {
        if !self.may_raise {
            return Ok(Some(self.is_fulfilled(row)));
        }
        Ok(try_row(|| Ok(self.is_fulfilled(row)))?.ok())
    }

    fn compile(&self) -> Compiled {
        // SAFETY: the expression was planned, and the compiled one is allocated in its memory context.
        unsafe {
            let _memory = MemoryContextGuard::new(self.expression.memory);
            Compiled {
                state: pg_sys::ExecInitExpr(self.expression.node.cast(), std::ptr::null_mut()),
                context: pg_sys::CreateStandaloneExprContext(),
            }
        }
    }
}

/// The findings of [`check_node`] in an expression.
struct Findings {
    refusal: Option<String>,
    may_raise: bool,
}

/// Checks a node of an expression and those below it; returns true where the walk may end, since the expression is refused.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn check_node(node: *mut pg_sys::Node, found: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: a node of an expression, and the caller's variable.
    unsafe {
        let findings = &mut *found.cast::<Findings>();
        match (*node).type_ {
            pg_sys::NodeTag::T_Var => {
                let var = &*node.cast::<pg_sys::Var>();
                if var.varattno == 0 {
                    findings.refusal = Some("it must name columns, and not the whole row".to_owned());
                } else if var.varattno < 0 {
                    findings.refusal = Some("it must not name system columns".to_owned());
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
                findings.may_raise |= !is_comparison(operator);
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
            | pg_sys::NodeTag::T_SubscriptingRef => findings.may_raise = true,
            _ => findings.refusal = Some("it must compare, combine and cast columns and values only".to_owned()),
        }
        if findings.refusal.is_none()
            && pg_sys::check_functions_in_node(node, Some(is_user_function), std::ptr::null_mut())
        {
            let reason = "it must call functions of Postgres only: a trigger would run others as the extension's owner";
            findings.refusal = Some(reason.to_owned());
        }
        findings.refusal.is_some() || pg_sys::expression_tree_walker(node, Some(check_node), found)
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_user_function(function: pg_sys::Oid, _context: *mut c_void) -> bool {
    function.to_u32() >= pg_sys::FirstNormalObjectId
}

/// Whether an operator compares two values. No built-in comparison raises an error.
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

/// Returns the columns that an expression reads, or why one of them cannot be read.
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
