//! The triggers of host tables: reads them from the catalog, makes and drops them.

use std::ffi::{CStr, CString};

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiHeapTupleData;
use pgrx::{Spi, pg_sys};

use crate::error::Result;
use crate::ids::HostId;
use crate::pg::store::{self, StatementMode, not_null, run};
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

/// Quotes an identifier for a statement.
pub fn quoted(name: &str) -> String {
    let name = CString::new(name).unwrap_or_default();
    // SAFETY: both are C strings.
    unsafe { CStr::from_ptr(pg_sys::quote_identifier(name.as_ptr())).to_string_lossy().into_owned() }
}

/// Quotes a literal for a statement.
pub fn quote_literal(text: &str) -> String {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: both are C strings.
    unsafe { CStr::from_ptr(pg_sys::quote_literal_cstr(text.as_ptr())).to_string_lossy().into_owned() }
}

/// Runs a statement without keeping its plan.
pub fn execute(sql: &str) -> Result<()> {
    store::refuse_read_only();
    Ok(Spi::connect_mut(|client| client.update(sql, None, &[]).map(drop))?)
}

/// Returns the name of a type.
pub fn type_name(oid: pg_sys::Oid) -> Result<String> {
    let sql = "SELECT pg_catalog.format_type($1, NULL)";
    run(sql, &[oid.into()], StatementMode::Read, |rows| not_null(rows.first().get_one()))
}

/// Returns the name of a relation, quoted, with its schema where that is not in the search_path.
pub fn relation_name(oid: pg_sys::Oid) -> Result<String> {
    let sql = "SELECT $1::pg_catalog.regclass::text";
    run(sql, &[oid.into()], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}

/// Whether there is a relation with this oid.
pub fn relation_exists(oid: pg_sys::Oid) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = $1)";
    run(sql, &[oid.into()], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}

/// Returns an id for a further host table.
pub fn next_host() -> Result<HostId> {
    let sql = "SELECT pg_catalog.nextval('chatbot_sync.host_id')::int";
    run(sql, &[], StatementMode::Write, |rows| not_null(rows.first().get_one()))
}

/// A subquery for a relation, given as an expression, and everything that inherits from it, directly or not.
fn with_descendants(relation: &str) -> String {
    format!(
        "(
            WITH RECURSIVE r AS (
                SELECT {relation}::oid AS relid
                UNION
                SELECT i.inhrelid
                FROM pg_catalog.pg_inherits i
                JOIN r ON i.inhparent = r.relid
                WHERE NOT i.inhdetachpending
            )
            SELECT r.relid
            FROM r
        )"
    )
}

/// A subquery for a relation, given as an expression, and everything that it inherits from, directly or not.
fn with_ancestors(relation: &str) -> String {
    format!(
        "(
            WITH RECURSIVE r AS (
                SELECT {relation}::oid AS relid
                UNION
                SELECT i.inhparent
                FROM pg_catalog.pg_inherits i
                JOIN r ON i.inhrelid = r.relid
                WHERE NOT i.inhdetachpending
            )
            SELECT r.relid
            FROM r
        )"
    )
}

/// Returns a relation with its partitions and children, and those of them too.
pub fn relation_with_descendants(oid: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let sql = format!("SELECT d.relid FROM {} AS d", with_descendants("$1"));
    run(&sql, &[oid.into()], StatementMode::ReadLatest, |rows| rows.map(|row| not_null(row.get(1))).collect())
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

/// Attached tables, each with the argument of its triggers.
type Attached = Vec<(pg_sys::Oid, String)>;

/// Returns the tables of those triggers `t` that fulfil a condition.
fn attached_tables(condition: &str, args: &[DatumWithOid]) -> Result<Attached> {
    attached_tables_with("", condition, args)
}

/// Returns the tables of those triggers `t` that fulfil a condition, which may use a WITH query.
fn attached_tables_with(query: &str, condition: &str, args: &[DatumWithOid]) -> Result<Attached> {
    let sql = format!(
        "{query}
        SELECT DISTINCT t.relation, t.argument::text
        FROM {TRIGGERS} AS t
        WHERE {condition}"
    );
    run(&sql, args, StatementMode::ReadLatest, |rows| {
        rows.map(|row| Ok((not_null(row.get(1))?, not_null(row.get(2))?))).collect()
    })
}

/// Returns all attached tables, each with the argument of its triggers.
pub fn roots() -> Result<Attached> {
    attached_tables(IS_ROOT, &[])
}

/// Returns the attached table with this host id, and the argument of its triggers; `None`: it is not attached any more.
pub fn attached_table(host: HostId) -> Result<Option<(pg_sys::Oid, String)>> {
    let condition = format!(
        "{IS_ROOT}
            AND {HOST} = $1
        LIMIT 1"
    );
    Ok(attached_tables(&condition, &[host.into()])?.pop())
}

/// Returns the attached tables that a relation is, or inherits from.
pub fn attached_ancestors(oid: pg_sys::Oid) -> Result<Attached> {
    let condition = format!(
        "{IS_ROOT}
            AND t.relation IN {}",
        with_ancestors("$1")
    );
    attached_tables(&condition, &[oid.into()])
}

/// Returns the attached tables with a column of one of these types, or of a type that is made of one.
pub fn attached_tables_with_types(types: Vec<pg_sys::Oid>) -> Result<Attached> {
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
pub fn orphaned_triggers() -> Result<Attached> {
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
    let there = trigger_names(oid, host)?;
    for (name, definition) in trigger_definitions(relation, host, argument) {
        // Triggers fire in the order of their names: by its zz_, the status trigger sees what other BEFORE triggers made of
        // the row.
        if status || !name.starts_with("zz_") {
            execute(&definition)?;
        } else if there.contains(&name) {
            execute(&format!("DROP TRIGGER {name} ON {relation}"))?;
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
    let there = trigger_names(oid, host)?;
    trigger_definitions(relation, host, argument)
        .into_iter()
        .filter(|(name, _)| there.contains(name))
        .try_for_each(|(_, definition)| execute(&definition))
}

/// Returns the arguments of the extension's triggers on one relation, each once.
pub fn trigger_arguments(oid: pg_sys::Oid) -> Result<Vec<String>> {
    let sql = format!("SELECT DISTINCT t.argument::text FROM {TRIGGERS} AS t WHERE t.relation = $1");
    run(&sql, &[oid.into()], StatementMode::ReadLatest, |rows| rows.map(|row| not_null(row.get(1))).collect())
}

/// The names of a host's triggers, and the statements that create them.
fn trigger_definitions(relation: &str, host: HostId, argument: &str) -> [(String, String); 5] {
    let argument = quote_literal(argument);
    let make = |name: String, when: &str, rest: &str| {
        let sql = format!("CREATE OR REPLACE TRIGGER {name} {when} ON {relation} {rest}({argument})");
        (name, sql)
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
        execute(&format!("ALTER TABLE {relation} {action} TRIGGER {}", quoted(&name)))?;
    }
    Ok(())
}

/// Drops the triggers that a query returns as (name, relation); returns false where it returns none.
fn drop_triggers_found_by(sql: &str, args: &[DatumWithOid]) -> Result<bool> {
    let found: Vec<(String, String)> = run(sql, args, StatementMode::ReadLatest, |rows| {
        rows.map(|row| Ok((not_null(row.get(1))?, not_null(row.get(2))?))).collect()
    })?;
    for (name, relation) in &found {
        execute(&format!("DROP TRIGGER {} ON {relation}", quoted(name)))?;
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

/// The FROM and WHERE of a query for the triggers of a table of chatbots, `$1`.
const CHATBOTS_TRIGGERS: &str = "FROM pg_catalog.pg_trigger t
        JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
        WHERE p.pronamespace = 'chatbot_sync'::pg_catalog.regnamespace
            AND p.proname = 'chatbots_deleted'
            AND t.tgrelid = $1";

/// Creates the triggers of a table of chatbots, or replaces them: those whose name is `wanted`.
pub fn make_chatbots_triggers(relation: &str, argument: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let argument = quote_literal(argument);
    let make = |name: &str, when: &str, tables: &str| match wanted(name) {
        false => Ok(()),
        true => execute(&format!(
            "CREATE OR REPLACE TRIGGER {name} {when} ON {relation} {tables}
            FOR EACH STATEMENT EXECUTE FUNCTION chatbot_sync.chatbots_deleted({argument})"
        )),
    };
    make("chatbot_sync_chatbots_delete", "AFTER DELETE", "REFERENCING OLD TABLE AS old_rows")?;
    make("chatbot_sync_chatbots_truncate", "BEFORE TRUNCATE", "")
}

/// Returns the triggers of a table of chatbots: (name, argument).
pub fn chatbots_triggers(oid: pg_sys::Oid) -> Result<Vec<(String, String)>> {
    let sql = format!(
        "SELECT t.tgname::text, {}
        {CHATBOTS_TRIGGERS}",
        argument_sql!()
    );
    run(&sql, &[oid.into()], StatementMode::ReadLatest, |rows| {
        rows.map(|row| Ok((not_null(row.get(1))?, not_null(row.get(2))?))).collect()
    })
}

/// Whether a table is attached as one of chatbots.
pub fn has_chatbots_triggers(oid: pg_sys::Oid) -> Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT {CHATBOTS_TRIGGERS})");
    run(&sql, &[oid.into()], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}

/// Returns the name of a table of chatbots and the argument of its triggers; `None`: the table is not attached as one.
pub fn chatbots_table(oid: pg_sys::Oid) -> Result<Option<(String, String)>> {
    let sql = format!(
        "SELECT t.tgrelid::pg_catalog.regclass::text, {}
        {CHATBOTS_TRIGGERS}
        LIMIT 1",
        argument_sql!()
    );
    run(&sql, &[oid.into()], StatementMode::ReadLatest, |mut rows| {
        rows.next().map(|row| Ok((not_null(row.get(1))?, not_null(row.get(2))?))).transpose()
    })
}

/// Drops the triggers of a table of chatbots; returns false where it has none.
pub fn drop_chatbots_triggers(oid: pg_sys::Oid, relation: &str) -> Result<bool> {
    drop_triggers_found_by(
        &format!("SELECT t.tgname::text, {} {CHATBOTS_TRIGGERS}", quote_literal(relation)),
        &[oid.into()],
    )
}
