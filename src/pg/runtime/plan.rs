//! How our statements are planned: by their keys, whatever the statistics say. This is the only place that decides it.
//!
//! A new chatbot is in no statistics, and a table may never have been analyzed, or when it was empty. Planned by such an
//! estimate, a statement with 10,000 keys is a nested loop that reads the keys once for each row of the chatbot, and an old
//! session keeps that plan. So while a statement of ours is planned, the planner is told that each table is huge
//! ([`ROWS`] rows in [`PAGES`] pages, indexes alike) and that nothing is known about its columns. Then only one plan is
//! cheap: the keys, an `unnest()`, are the outer side of a nested loop, and each key is one descent of the index that has
//! all of its columns. A statement that has no keys reads its first table from end to end and finds the rest by index.
//! Settings that a user may have changed are those of a new server meanwhile, and the plan is generic: it is made once, and
//! made anew in the same way when a table changes.
//!
//! What this asks of a statement: every column of a key but `chatbot_id`, by which Citus finds the node, comes from the
//! `unnest()`; and no `$1 IS NULL OR column = $1`, of which a generic plan can make no index condition.
//!
//! Searches are the exception ([`Mode::Scan`]): which of several indexes is best depends on how large the chatbot is. So is
//! a database with Citus, which plans for other nodes, and only with the values of a statement's arguments.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::runtime::mode::Mode;
use crate::pg::runtime::schema::{has_citus, schema};
use crate::pg::runtime::scoped_settings::ScopedSettings;

/// Rows that each table seems to have.
const ROWS: f64 = 1e9;
/// Pages that they seem to be in: to read them all is dearer than to look up a hundredth of the rows by an index.
const PAGES: u32 = 4_000_000_000;
/// Pages of each of its indexes.
const INDEX_PAGES: u32 = 10_000_000;
/// Levels of each of its indexes.
const INDEX_HEIGHT: i32 = 4;

/// Whose statements the planner is at work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planned {
    /// Anybody's, by the statistics.
    Any,
    /// A statement of the extension.
    Ours,
    /// What runs within a statement of ours: of the checks of our foreign keys, too, the first one makes the plan.
    Within,
}

thread_local! {
    static PLANNED: Cell<Planned> = const { Cell::new(Planned::Any) };
    static PREVIOUS_INFO: Cell<pg_sys::get_relation_info_hook_type> = const { Cell::new(None) };
    static PREVIOUS_STATISTICS: Cell<pg_sys::get_relation_stats_hook_type> = const { Cell::new(None) };
}

/// How a statement is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// As this file says.
    Keys,
    /// By Citus, which decides about distributed tables; of others it is told to use indexes.
    Citus,
    /// By the statistics.
    Statistics,
}

impl How {
    /// How statements of a mode are planned here.
    pub fn of(mode: Mode) -> Self {
        match mode {
            Mode::Scan => Self::Statistics,
            Mode::Read if has_citus() => Self::Statistics,
            _ if has_citus() => Self::Citus,
            _ => Self::Keys,
        }
    }

    /// For preparing it.
    pub fn options(self) -> i32 {
        match self {
            Self::Keys => pg_sys::CURSOR_OPT_GENERIC_PLAN,
            Self::Citus => 0,
            // As for a statement that a client sends: reading all chunks of a large chatbot is work for several.
            Self::Statistics => pg_sys::CURSOR_OPT_PARALLEL_OK,
        }
        .cast_signed()
    }

    /// While it is executed.
    pub fn planning(self) -> Planning {
        Planning::new(if self == Self::Statistics { Planned::Any } else { Planned::Within })
    }

    /// While it is executed.
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

/// Puts [`PLANNED`] back, also when an error is raised.
pub struct Planning(Planned);

impl Planning {
    fn new(planned: Planned) -> Self {
        Self(PLANNED.replace(planned))
    }
}

impl Drop for Planning {
    fn drop(&mut self) {
        PLANNED.set(self.0);
    }
}

/// Makes the generic plan of a statement, where it has none that is valid. SPI is connected.
pub fn plan(statement: pg_sys::SPIPlanPtr) {
    let _planning = Planning::new(Planned::Ours);
    let changed = changed_settings();
    let _settings = (!changed.is_empty()).then(|| ScopedSettings::new(&changed));
    // SAFETY: a kept plan of one statement; the answer is released, and its locks stay, so that executing it right after
    // this meets no news that would have it planned again.
    unsafe {
        let made = pg_sys::SPI_plan_get_cached_plan(statement);
        if !made.is_null() {
            pg_sys::ReleaseCachedPlan(made, pg_sys::CurrentResourceOwner);
        }
    }
}

/// Settings that plans depend on, as far as they are not those of a new server. No plan of ours is worth compiling: the
/// sizes are made up.
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

/// Asks to be asked by the planner. Once, when the library is loaded.
pub fn init() {
    // SAFETY: hooks of this backend's planner, which is not at work now; whoever was there before is called, too.
    unsafe {
        PREVIOUS_INFO.set(pg_sys::get_relation_info_hook);
        pg_sys::get_relation_info_hook = Some(sizes);
        PREVIOUS_STATISTICS.set(pg_sys::get_relation_stats_hook);
        pg_sys::get_relation_stats_hook = Some(statistics);
    }
}

/// Whether the sizes of a table are made up: in a statement of ours those of all but catalogs, and within one ours.
fn is_made_up(relation: pg_sys::Oid) -> bool {
    match PLANNED.get() {
        Planned::Any => false,
        Planned::Ours => relation.to_u32() >= pg_sys::FirstNormalObjectId,
        // SAFETY: a look-up in the catalog's cache.
        Planned::Within => schema().is_ok_and(|ours| unsafe { pg_sys::get_rel_namespace(relation) } == ours),
    }
}

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
        if is_parent || !is_made_up(relation) {
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

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn statistics(
    root: *mut pg_sys::PlannerInfo,
    table: *mut pg_sys::RangeTblEntry,
    column: pg_sys::AttrNumber,
    found: *mut pg_sys::VariableStatData,
) -> bool {
    // SAFETY: the planner's own call, passed on, or answered with no statistics.
    unsafe {
        if is_made_up((*table).relid) {
            (*found).statsTuple = std::ptr::null_mut();
            return true;
        }
        PREVIOUS_STATISTICS.get().is_some_and(|previous| previous(root, table, column, found))
    }
}
