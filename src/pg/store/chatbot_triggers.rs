//! The triggers of a table of chatbots: reads them from the catalog, creates and drops them.

use pgrx::pg_sys;

use crate::error::Result;
use crate::pg::store::host_triggers::{argument_sql, drop_triggers_found_by};
use crate::pg::store::quoting::quote_literal;
use crate::pg::store::{StatementMode, execute_once, not_null, run};

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
        true => execute_once(&format!(
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
