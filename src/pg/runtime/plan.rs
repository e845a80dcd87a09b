//! Plans the extension's statements by their keys, whatever the statistics say. Only this file decides how.
//!
//! A new chatbot is in no statistics, and a table may have been analyzed never, or while it was empty. By such estimates, a
//! statement with 10,000 keys becomes a nested loop that reads the keys once for each row of the chatbot, and a session
//! keeps that plan. So while such a statement is planned, the hooks here tell the planner that each table is huge ([`ROWS`]
//! rows in [`PAGES`] pages, indexes alike) and that nothing is known about its columns. Then only one plan is cheap: the
//! keys, an `unnest()`, are the outer side of a nested loop, and each key is one descent of the index that has all of its
//! columns. A statement without keys reads its first table from end to end and finds the rest by index. Planner settings
//! that a user may have changed have their defaults meanwhile. The plan is generic: it is made once, and in the same way
//! again when a table changes.
//!
//! A statement has to be made for this: every column of a key but `chatbot_id`, by which Citus finds the node, comes from the
//! `unnest()`; and there is no `$1 IS NULL OR column = $1`, from which a generic plan can make no index condition.
//!
//! Searches are the exception ([`StatementMode::Scan`]): which of several indexes is best depends on how large the chatbot is. So is
//! a database with Citus, which plans for other nodes, and only with the values of a statement's arguments.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::runtime::schema::{has_citus, schema};
use crate::pg::runtime::scoped_settings::ScopedSettings;
use crate::pg::runtime::statement_mode::StatementMode;

/// The number of rows that each table seems to have.
const ROWS: f64 = 1e9;
/// The number of pages that each table seems to have: reading all of them costs more than finding a hundredth of the
/// rows by an index.
const PAGES: u32 = 4_000_000_000;
/// The number of pages that each index seems to have.
const INDEX_PAGES: u32 = 10_000_000;
/// The number of levels that each index seems to have.
const INDEX_HEIGHT: i32 = 4;

/// Which statement the planner is planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlannerScope {
    /// A statement of any session, planned by the statistics.
    Any,
    /// A statement of the extension.
    Ours,
    /// A statement that runs within one of the extension, such as a check of a foreign key, whose first execution
    /// makes its plan.
    Within,
}

thread_local! {
    static PLANNED: Cell<PlannerScope> = const { Cell::new(PlannerScope::Any) };
    static PREVIOUS_INFO: Cell<pg_sys::get_relation_info_hook_type> = const { Cell::new(None) };
    static PREVIOUS_STATISTICS: Cell<pg_sys::get_relation_stats_hook_type> = const { Cell::new(None) };
}

/// The way in which a statement of the extension is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlanStrategy {
    /// By its keys, as the module's documentation describes.
    Keys,
    /// By Citus, which plans for distributed tables itself; for other tables sequential scans are switched off.
    Citus,
    /// By the statistics.
    Statistics,
}

impl PlanStrategy {
    /// Returns how statements of a mode are planned in this database.
    pub fn of(mode: StatementMode) -> Self {
        match mode {
            StatementMode::Scan => Self::Statistics,
            StatementMode::Read if has_citus() => Self::Statistics,
            _ if has_citus() => Self::Citus,
            _ => Self::Keys,
        }
    }

    /// The cursor options that the statement is prepared with.
    pub fn options(self) -> i32 {
        match self {
            Self::Keys => pg_sys::CURSOR_OPT_GENERIC_PLAN,
            Self::Citus => 0,
            // As for a client's statement: several processes can share the work of reading all chunks of a large chatbot.
            Self::Statistics => pg_sys::CURSOR_OPT_PARALLEL_OK,
        }
        .cast_signed()
    }

    /// Returns a guard for the time in which the statement is executed, which says how statements within it are planned.
    pub fn planning(self) -> PlannerScopeGuard {
        PlannerScopeGuard::new(if self == Self::Statistics { PlannerScope::Any } else { PlannerScope::Within })
    }

    /// Returns the settings for the time in which the statement is executed; `None`: none is to be changed.
    pub fn settings(self) -> Option<ScopedSettings> {
        match self {
            Self::Keys => {
                const CUSTOM: pg_sys::PlanCacheMode::Type = pg_sys::PlanCacheMode::PLAN_CACHE_MODE_FORCE_CUSTOM_PLAN;
                // SAFETY: reads a setting.
                let custom = unsafe { pg_sys::plan_cache_mode }.cast_unsigned() == CUSTOM;
                custom.then(|| ScopedSettings::new(&[(c"plan_cache_mode", c"force_generic_plan")]))
            }
            Self::Citus => Some(ScopedSettings::new(&[(c"enable_seqscan", c"off")])),
            Self::Statistics => None,
        }
    }
}

/// Sets [`PLANNED`] while it lives, and restores it also after an error.
pub struct PlannerScopeGuard(PlannerScope);

impl PlannerScopeGuard {
    fn new(planned: PlannerScope) -> Self {
        Self(PLANNED.replace(planned))
    }
}

impl Drop for PlannerScopeGuard {
    fn drop(&mut self) {
        PLANNED.set(self.0);
    }
}

/// Makes the generic plan of a statement, unless it has a valid one. SPI must be connected.
pub fn make_generic_plan(statement: pg_sys::SPIPlanPtr) {
    let _planning = PlannerScopeGuard::new(PlannerScope::Ours);
    let changed = changed_settings();
    let _settings = (!changed.is_empty()).then(|| ScopedSettings::new(&changed));
    // SAFETY: a kept plan of one statement. The plan is released, but its locks stay, so that executing it right afterwards
    // meets no invalidation that would have it planned again.
    unsafe {
        let made = pg_sys::SPI_plan_get_cached_plan(statement);
        if !made.is_null() {
            pg_sys::ReleaseCachedPlan(made, pg_sys::CurrentResourceOwner);
        }
    }
}

/// Returns the planner settings that are not at their defaults, each with its default; and `jit` as off, since by the
/// made-up sizes every plan would be compiled.
fn changed_settings() -> Vec<(&'static CStr, &'static CStr)> {
    // SAFETY: reads settings.
    let (off, costs, limits, jit) = unsafe {
        (
            [
                (c"enable_bitmapscan", pg_sys::enable_bitmapscan),
                (c"enable_hashagg", pg_sys::enable_hashagg),
                (c"enable_hashjoin", pg_sys::enable_hashjoin),
                (c"enable_incremental_sort", pg_sys::enable_incremental_sort),
                (c"enable_indexscan", pg_sys::enable_indexscan),
                (c"enable_mergejoin", pg_sys::enable_mergejoin),
                (c"enable_nestloop", pg_sys::enable_nestloop),
                (c"enable_partition_pruning", pg_sys::enable_partition_pruning),
                (c"enable_seqscan", pg_sys::enable_seqscan),
                (c"enable_sort", pg_sys::enable_sort),
            ],
            [
                (c"seq_page_cost", c"1", 1.0, pg_sys::seq_page_cost),
                (c"random_page_cost", c"4", 4.0, pg_sys::random_page_cost),
                (c"cpu_tuple_cost", c"0.01", 0.01, pg_sys::cpu_tuple_cost),
                (c"cpu_index_tuple_cost", c"0.005", 0.005, pg_sys::cpu_index_tuple_cost),
                (c"cpu_operator_cost", c"0.0025", 0.0025, pg_sys::cpu_operator_cost),
            ],
            [
                (c"from_collapse_limit", pg_sys::from_collapse_limit),
                (c"join_collapse_limit", pg_sys::join_collapse_limit),
            ],
            pg_sys::jit_enabled,
        )
    };
    let off = off.into_iter().filter(|(_, on)| !on).map(|(name, _)| (name, c"on"));
    let costs = costs.into_iter().filter(|(_, _, usual, is)| usual != is).map(|(name, value, ..)| (name, value));
    let limits = limits.into_iter().filter(|(_, is)| *is != 8).map(|(name, _)| (name, c"8"));
    let jit = jit.then_some((c"jit", c"off"));
    off.chain(costs).chain(limits).chain(jit).collect()
}

/// Installs the planner's hooks. Called once, when the library is loaded.
pub fn init() {
    // SAFETY: hooks of this backend's planner, which is not running now; hooks that were there before are called too.
    unsafe {
        PREVIOUS_INFO.set(pg_sys::get_relation_info_hook);
        pg_sys::get_relation_info_hook = Some(sizes);
        PREVIOUS_STATISTICS.set(pg_sys::get_relation_stats_hook);
        pg_sys::get_relation_stats_hook = Some(statistics);
    }
}

/// Whether the planner is given made-up sizes of a table: while a statement of the extension is planned for all tables but
/// catalogs, and for a statement within one for the extension's own tables.
fn has_made_up_size(relation: pg_sys::Oid) -> bool {
    match PLANNED.get() {
        PlannerScope::Any => false,
        PlannerScope::Ours => relation.to_u32() >= pg_sys::FirstNormalObjectId,
        // SAFETY: a look-up in the catalog's cache.
        PlannerScope::Within => schema().is_ok_and(|ours| unsafe { pg_sys::get_rel_namespace(relation) } == ours),
    }
}

/// The hook by which the planner reads a table's size.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn sizes(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    is_parent: bool,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the planner's own call, passed on; what it has just filled in is changed, as the hook is for.
    unsafe {
        if let Some(previous) = PREVIOUS_INFO.get() {
            previous(root, relation, is_parent, rel);
        }
        if is_parent || !has_made_up_size(relation) {
            return;
        }
        (*rel).pages = PAGES;
        (*rel).tuples = ROWS;
        (*rel).allvisfrac = 0.0;
        (*rel).statlist = std::ptr::null_mut();
        let Some(indexes) = (*rel).indexlist.as_ref() else { return };
        for at in 0..usize::try_from(indexes.length).unwrap_or(0) {
            let index = (*indexes.elements.add(at)).ptr_value.cast::<pg_sys::IndexOptInfo>();
            (*index).pages = INDEX_PAGES;
            (*index).tuples = ROWS;
            (*index).tree_height = INDEX_HEIGHT;
        }
    }
}

/// The hook by which the planner reads a column's statistics; true: `found` was filled in.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn statistics(
    root: *mut pg_sys::PlannerInfo,
    table: *mut pg_sys::RangeTblEntry,
    column: pg_sys::AttrNumber,
    found: *mut pg_sys::VariableStatData,
) -> bool {
    // SAFETY: the planner's own call, passed on, or answered with no statistics.
    unsafe {
        if has_made_up_size((*table).relid) {
            (*found).statsTuple = std::ptr::null_mut();
            return true;
        }
        PREVIOUS_STATISTICS.get().is_some_and(|previous| previous(root, table, column, found))
    }
}
