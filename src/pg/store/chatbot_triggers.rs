//! The triggers of a table of chatbots: reads them from the catalog, creates and drops them.

use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

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

/// Creates the triggers of a table of chatbots, or replaces them: those for whose name `is_selected` is true.
pub fn make_chatbots_triggers(relation: &str, argument: &str, is_selected: impl Fn(&str) -> bool) -> Result<()> {
    let argument = quote_literal(argument);
    let make = |name: &str, when: &str, tables: &str| match is_selected(name) {
        false => Ok(()),
        true => execute_once(&format!(
            "CREATE OR REPLACE TRIGGER {name} {when} ON {relation} {tables}
            FOR EACH STATEMENT EXECUTE FUNCTION chatbot_sync.chatbots_deleted({argument})"
        )),
    };
    make("chatbot_sync_chatbots_delete", "AFTER DELETE", "REFERENCING OLD TABLE AS old_rows")?;
    make("chatbot_sync_chatbots_truncate", "BEFORE TRUNCATE", "")
}

/// A trigger of a table of chatbots.
pub struct ChatbotsTrigger {
    /// The trigger's name.
    pub name: String,
    /// The trigger's argument: the id column.
    pub argument: String,
}

/// Returns the triggers of a table of chatbots.
pub fn chatbots_triggers(oid: pg_sys::Oid) -> Result<Vec<ChatbotsTrigger>> {
    let sql = format!(
        "SELECT t.tgname::text, {}
        {CHATBOTS_TRIGGERS}",
        argument_sql!()
    );
    run(&sql, &[oid.into()], StatementMode::ReadLatest, |rows| {
        rows.map(|row| Ok(ChatbotsTrigger { name: not_null(row.get(1))?, argument: not_null(row.get(2))? })).collect()
    })
}

/// Whether a table is attached as one of chatbots.
pub fn has_chatbots_triggers(oid: pg_sys::Oid) -> Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT {CHATBOTS_TRIGGERS})");
    run(&sql, &[oid.into()], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}

/// A table that is attached as one of chatbots.
pub struct AttachedChatbots {
    /// The table's name, quoted, with its schema where that is not in the search_path.
    pub relation: String,
    /// The argument of its triggers: the id column.
    pub argument: String,
}

/// Returns a table that is attached as one of chatbots; `None`: it is not.
pub fn chatbots_table(oid: pg_sys::Oid) -> Result<Option<AttachedChatbots>> {
    let sql = format!(
        "SELECT t.tgrelid::pg_catalog.regclass::text, {}
        {CHATBOTS_TRIGGERS}
        LIMIT 1",
        argument_sql!()
    );
    run(&sql, &[oid.into()], StatementMode::ReadLatest, |mut rows| {
        let table = |row: SpiHeapTupleData| {
            Ok(AttachedChatbots { relation: not_null(row.get(1))?, argument: not_null(row.get(2))? })
        };
        rows.next().map(table).transpose()
    })
}

/// Drops the triggers of a table of chatbots; returns false where it has none.
pub fn drop_chatbots_triggers(oid: pg_sys::Oid, relation: &str) -> Result<bool> {
    drop_triggers_found_by(
        &format!("SELECT t.tgname::text, {} {CHATBOTS_TRIGGERS}", quote_literal(relation)),
        &[oid.into()],
    )
}
