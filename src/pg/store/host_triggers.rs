//! The triggers of host tables: reads them from the catalog, creates and drops them.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use crate::error::Result;
use crate::host::HostOptions;
use crate::ids::HostId;
use crate::pg::store::quoting::{quote_literal, quoted};
use crate::pg::store::relation::{with_ancestors, with_descendants};
use crate::pg::store::{StatementMode, execute_once, not_null, run};
use crate::source::SourceType;

/// The only argument of a trigger as an expression, where the row of pg_trigger is `t`.
macro_rules! argument_sql {
    () => {
        "pg_catalog.convert_from(
                pg_catalog.substring(t.tgargs, 1, pg_catalog.length(t.tgargs) - 1),
                pg_catalog.getdatabaseencoding()
            )"
    };
}

pub(super) use argument_sql;

/// A subquery for the extension's triggers on attached tables and their partitions: relation, name, state, argument as
/// jsonb. The CASE keeps the planner from parsing the arguments of other triggers as jsonb.
const TRIGGERS: &str = concat!(
    "(
            SELECT
                t.tgrelid AS relation,
                t.tgname AS name,
                t.tgenabled AS enabled,
                CASE WHEN p.oid = t.tgfoid THEN (",
    argument_sql!(),
    ")::jsonb END AS argument
            FROM pg_catalog.pg_trigger t
            JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
            WHERE p.pronamespace = 'chatbot_sync'::pg_catalog.regnamespace
                AND t.tgnargs = 1
                AND NOT t.tgisinternal
                AND p.proname IN ('host_changed', 'host_status', 'host_truncated')
        )"
);

/// The condition that a trigger `t` of [`TRIGGERS`] is on an attached table itself, and not on a partition or child.
const IS_ROOT: &str = "NOT (t.argument ->> 'partition')::boolean";
/// The host table of a trigger `t` of [`TRIGGERS`], as an expression.
const HOST: &str = "(t.argument ->> 'host')::int";

/// Returns an id for a further host table.
pub fn next_host() -> Result<HostId> {
    let sql = "SELECT pg_catalog.nextval('chatbot_sync.host_id')::int";
    run(sql, &[], StatementMode::Write, |rows| not_null(rows.first().get_one()))
}

/// Returns the name of a relation that is attached by itself and that this one inherits from, or the other way round;
/// `None`: there is none.
pub fn attached_relative(oid: pg_sys::Oid) -> Result<Option<String>> {
    let sql = format!(
        "SELECT t.relation::pg_catalog.regclass::text
        FROM {TRIGGERS} AS t
        WHERE t.relation <> $1
            AND (t.relation IN {descendants} OR t.relation IN {ancestors})
            AND NOT EXISTS (
                SELECT FROM {TRIGGERS} AS own
                WHERE own.relation = $1
                    AND own.argument -> 'host' = t.argument -> 'host'
                    AND NOT (own.argument ->> 'partition')::boolean
            )
        LIMIT 1",
        descendants = with_descendants("$1"),
        ancestors = with_ancestors("$1")
    );
    run(&sql, &[oid.into()], StatementMode::ReadLatest, |mut rows| {
        rows.next().map(|row| not_null(row.get(1))).transpose()
    })
}

/// Returns the name of a table that is attached with this kind of source; `None`: there is none.
pub fn table_with_source_type(source_type: SourceType) -> Result<Option<String>> {
    let sql = format!(
        "SELECT t.relation::pg_catalog.regclass::text
        FROM {TRIGGERS} AS t
        WHERE t.argument ->> 'source_type' = $1
            AND {IS_ROOT}
        LIMIT 1"
    );
    run(&sql, &[source_type.into()], StatementMode::ReadLatest, |mut rows| {
        rows.next().map(|row| not_null(row.get(1))).transpose()
    })
}

/// A table or partition with triggers of the extension.
pub struct AttachedTable {
    /// The table's oid.
    pub oid: pg_sys::Oid,
    /// The argument of its triggers.
    argument: String,
}

impl AttachedTable {
    /// Reads the options that `chatbot_attach()` has written into its triggers.
    pub fn options(&self) -> Result<HostOptions> {
        HostOptions::parse(&self.argument)
    }
}

/// Returns the tables of those triggers `t` that fulfil a condition.
fn attached_tables(condition: &str, args: &[DatumWithOid]) -> Result<Vec<AttachedTable>> {
    attached_tables_with("", condition, args)
}

/// Returns the tables of those triggers `t` that fulfil a condition, which may use a WITH query.
fn attached_tables_with(query: &str, condition: &str, args: &[DatumWithOid]) -> Result<Vec<AttachedTable>> {
    let sql = format!(
        "{query}
        SELECT DISTINCT t.relation, t.argument::text
        FROM {TRIGGERS} AS t
        WHERE {condition}"
    );
    run(&sql, args, StatementMode::ReadLatest, |rows| {
        rows.map(|row| Ok(AttachedTable { oid: not_null(row.get(1))?, argument: not_null(row.get(2))? })).collect()
    })
}

/// Returns all attached tables.
pub fn all_attached_tables() -> Result<Vec<AttachedTable>> {
    attached_tables(IS_ROOT, &[])
}

/// Returns the attached table with this host id; `None`: it is not attached any more.
pub fn attached_table(host: HostId) -> Result<Option<AttachedTable>> {
    let condition = format!(
        "{IS_ROOT}
            AND {HOST} = $1
        LIMIT 1"
    );
    Ok(attached_tables(&condition, &[host.into()])?.pop())
}

/// Returns the attached tables that a relation is, or inherits from.
pub fn attached_ancestors(oid: pg_sys::Oid) -> Result<Vec<AttachedTable>> {
    let condition = format!(
        "{IS_ROOT}
            AND t.relation IN {}",
        with_ancestors("$1")
    );
    attached_tables(&condition, &[oid.into()])
}

/// Returns the attached tables with a column of one of these types, or of a type that is made of one.
pub fn attached_tables_with_types(types: Vec<pg_sys::Oid>) -> Result<Vec<AttachedTable>> {
    if types.is_empty() {
        return Ok(Vec::new());
    }
    let types_made_of_them = "WITH RECURSIVE u AS (
            SELECT pg_catalog.unnest($1::oid[]) AS type
            UNION
            SELECT y.oid
            FROM pg_catalog.pg_type y
            JOIN u
                ON y.typelem = u.type
                OR y.typbasetype = u.type
                OR EXISTS (
                    SELECT FROM pg_catalog.pg_attribute a
                    WHERE a.attrelid = y.typrelid
                        AND a.atttypid = u.type
                )
        )";
    let condition = format!(
        "{IS_ROOT}
            AND EXISTS (
                SELECT FROM pg_catalog.pg_attribute a
                JOIN u ON u.type = a.atttypid
                WHERE a.attrelid = t.relation
                    AND a.attnum > 0
                    AND NOT a.attisdropped
            )"
    );
    attached_tables_with(types_made_of_them, &condition, &[types.into()])
}

/// Returns tables with the triggers of a partition that do not inherit from the attached table any more.
pub fn orphaned_triggers() -> Result<Vec<AttachedTable>> {
    let condition = format!(
        "(t.argument ->> 'partition')::boolean
            AND NOT EXISTS (
                SELECT FROM {TRIGGERS} AS root
                WHERE root.argument -> 'host' = t.argument -> 'host'
                    AND NOT (root.argument ->> 'partition')::boolean
                    AND root.relation IN {}
            )",
        with_ancestors("t.relation")
    );
    attached_tables(&condition, &[])
}

/// Whether a relation has triggers of a host.
pub fn has_triggers(oid: pg_sys::Oid, host: HostId) -> Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT FROM {TRIGGERS} AS t WHERE t.relation = $1 AND {HOST} = $2)");
    run(&sql, &[oid.into(), host.into()], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}

/// Creates the triggers of one relation, or replaces them. The status trigger is dropped where `status` is false.
pub fn make_triggers(oid: pg_sys::Oid, relation: &str, host: HostId, argument: &str, status: bool) -> Result<()> {
    let existing = trigger_names(oid, host)?;
    for TriggerDefinition { name, sql } in trigger_definitions(relation, host, argument) {
        // Triggers fire in the order of their names: by its zz_, the status trigger sees what other BEFORE triggers made of
        // the row.
        if status || !name.starts_with("zz_") {
            execute_once(&sql)?;
        } else if existing.contains(&name) {
            execute_once(&format!("DROP TRIGGER {name} ON {relation}"))?;
        }
    }
    Ok(())
}

fn trigger_names(oid: pg_sys::Oid, host: HostId) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT t.name::text
        FROM {TRIGGERS} AS t
        WHERE t.relation = $1
            AND {HOST} = $2"
    );
    run(&sql, &[oid.into(), host.into()], StatementMode::ReadLatest, |rows| {
        rows.map(|row| not_null(row.get(1))).collect()
    })
}

/// Replaces those triggers of a host that one relation has.
pub fn remake_triggers(oid: pg_sys::Oid, relation: &str, host: HostId, argument: &str) -> Result<()> {
    let existing = trigger_names(oid, host)?;
    trigger_definitions(relation, host, argument)
        .into_iter()
        .filter(|definition| existing.contains(&definition.name))
        .try_for_each(|definition| execute_once(&definition.sql))
}

/// Returns the arguments of the extension's triggers on one relation, each once.
pub fn trigger_arguments(oid: pg_sys::Oid) -> Result<Vec<String>> {
    let sql = format!("SELECT DISTINCT t.argument::text FROM {TRIGGERS} AS t WHERE t.relation = $1");
    run(&sql, &[oid.into()], StatementMode::ReadLatest, |rows| rows.map(|row| not_null(row.get(1))).collect())
}

/// A trigger of a host table, and the statement that creates it.
struct TriggerDefinition {
    name: String,
    sql: String,
}

/// Returns the definitions of a host's triggers on one relation.
fn trigger_definitions(relation: &str, host: HostId, argument: &str) -> [TriggerDefinition; 5] {
    let argument = quote_literal(argument);
    let make = |name: String, when: &str, rest: &str| {
        let sql = format!("CREATE OR REPLACE TRIGGER {name} {when} ON {relation} {rest}({argument})");
        TriggerDefinition { name, sql }
    };
    let after = |event: &str, tables: &str| {
        let changed = format!("REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION chatbot_sync.host_changed");
        make(format!("chatbot_sync_{host}_{}", event.to_lowercase()), &format!("AFTER {event}"), &changed)
    };
    [
        after("INSERT", "NEW TABLE AS new_rows"),
        after("UPDATE", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
        after("DELETE", "OLD TABLE AS old_rows"),
        make(
            format!("chatbot_sync_{host}_truncate"),
            "BEFORE TRUNCATE",
            "FOR EACH STATEMENT EXECUTE FUNCTION chatbot_sync.host_truncated",
        ),
        make(
            format!("zz_chatbot_sync_{host}_status"),
            "BEFORE INSERT OR UPDATE",
            "FOR EACH ROW EXECUTE FUNCTION chatbot_sync.host_status",
        ),
    ]
}

/// The state of a trigger that a user has disabled, or enabled for replicas.
pub struct TriggerState {
    name: String,
    relation: String,
    /// `pg_trigger.tgenabled`.
    state: i8,
}

/// Returns the triggers of a host whose state is not the default, `O`.
pub fn trigger_states(host: HostId) -> Result<Vec<TriggerState>> {
    let sql = format!(
        "SELECT t.name::text, t.relation::pg_catalog.regclass::text, t.enabled
        FROM {TRIGGERS} AS t
        WHERE t.enabled <> 'O'
            AND {HOST} = $1"
    );
    let read = |row: SpiHeapTupleData| {
        Ok(TriggerState { name: not_null(row.get(1))?, relation: not_null(row.get(2))?, state: not_null(row.get(3))? })
    };
    run(&sql, &[host.into()], StatementMode::ReadLatest, |rows| rows.map(read).collect())
}

/// Sets the states of triggers again, after they were replaced.
pub fn restore_states(states: Vec<TriggerState>) -> Result<()> {
    for TriggerState { name, relation, state } in states {
        let action = match state.cast_unsigned() {
            b'D' => "DISABLE",
            b'R' => "ENABLE REPLICA",
            _ => "ENABLE ALWAYS",
        };
        execute_once(&format!("ALTER TABLE {relation} {action} TRIGGER {}", quoted(&name)))?;
    }
    Ok(())
}

/// Drops the triggers that a query returns as (name, relation); returns false where it returns none.
pub fn drop_triggers_found_by(sql: &str, args: &[DatumWithOid]) -> Result<bool> {
    let found: Vec<(String, String)> = run(sql, args, StatementMode::ReadLatest, |rows| {
        rows.map(|row| Ok((not_null(row.get(1))?, not_null(row.get(2))?))).collect()
    })?;
    for (name, relation) in &found {
        execute_once(&format!("DROP TRIGGER {} ON {relation}", quoted(name)))?;
    }
    Ok(!found.is_empty())
}

/// The SELECT of a trigger's name and relation, for [`drop_triggers_found_by`].
const NAME_AND_RELATION: &str = "SELECT t.name::text, t.relation::pg_catalog.regclass::text";

/// Drops all triggers of a host.
pub fn drop_triggers(host: HostId) -> Result<()> {
    let sql = format!(
        "{NAME_AND_RELATION}
        FROM {TRIGGERS} AS t
        WHERE {HOST} = $1"
    );
    drop_triggers_found_by(&sql, &[host.into()]).map(drop)
}

/// Drops the triggers of a host on one relation.
pub fn drop_triggers_of(oid: pg_sys::Oid, host: HostId) -> Result<()> {
    let sql = format!(
        "{NAME_AND_RELATION}
        FROM {TRIGGERS} AS t
        WHERE t.relation = $1
            AND {HOST} = $2"
    );
    drop_triggers_found_by(&sql, &[oid.into(), host.into()]).map(drop)
}
