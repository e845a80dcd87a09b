//! The table of chatbots: deleting one of its rows deletes everything that belongs to the chatbot.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::host::Column;
use crate::ids::ChatbotId;
use crate::pg::host::relation::{ExtensionDdlGuard, OpenRelation, Relation, open_owned_table};
use crate::pg::host::row::Attribute;
use crate::pg::host::table::INTEGERS;
use crate::pg::host::triggers::update_column;
use crate::pg::runtime::arguments;
use crate::pg::runtime::catalog_types::{Name, Regclass};
use crate::pg::runtime::run_as::RunAs;
use crate::pg::store::chatbot_triggers;
use crate::pg::store::host_row::{self, KeySql};
use crate::pg::store::relation::type_name;

/// A table whose rows are the chatbots.
pub struct ChatbotTable {
    /// The column with the chatbot's id.
    pub id: Attribute,
    relation: Relation,
    id_name: String,
}

impl ChatbotTable {
    /// Binds the table of a running trigger, whose argument names the id column.
    ///
    /// # Safety
    /// The data is that of a trigger that is running.
    pub unsafe fn of(data: &pg_sys::TriggerData) -> Result<Self> {
        // SAFETY: the trigger runs, as the caller promises.
        let (argument, relation) = unsafe {
            let trigger = &*data.tg_trigger;
            let argument = if trigger.tgnargs == 1 { CStr::from_ptr(*trigger.tgargs) } else { c"" };
            (argument.to_string_lossy().into_owned(), data.tg_relation)
        };
        let Column { name, .. } = serde_json::from_str(&argument)
            .map_err(|error| Error::invalid("a trigger's argument", error, "what chatbot_attach_chatbots() makes"))?;
        // SAFETY: the trigger's relation is open.
        unsafe { Self::bind(name, relation) }
    }

    unsafe fn bind(name: String, open: pg_sys::Relation) -> Result<Self> {
        // SAFETY: the relation is open, as the caller promises.
        let (descriptor, relation) = unsafe { ((*open).rd_att, Relation::of(open)) };
        let role = "id_column";
        let missing = || Error::NoColumn { relation: relation.name.clone(), column: name.clone(), role };
        let id = Attribute::find(descriptor, &name).ok_or_else(missing)?;
        if !INTEGERS.contains(&id.base) {
            return Err(Error::ColumnType {
                relation: relation.name,
                column: name,
                role,
                got: type_name(id.base)?,
                expected: "smallint, integer or bigint".to_owned(),
            });
        }
        Ok(Self { id, relation, id_name: name })
    }

    /// The owner of the table.
    pub fn owner(&self) -> pg_sys::Oid {
        self.relation.owner
    }

    /// Calls `act` with the id of each chatbot in the table, as it is by now.
    pub fn for_each_id(&self, mut act: impl FnMut(ChatbotId) -> Result<()>) -> Result<()> {
        const SLICE: i64 = 1_000;
        let as_owner = || RunAs::reading(self.relation.owner);
        let rows = {
            let _owner = as_owner();
            host_row::RowCursor::open_latest(&self.relation.name, &KeySql::of_chatbots(&self.id_name))?
        };
        loop {
            let slice = {
                let _owner = as_owner();
                rows.fetch(SLICE)?
            };
            if slice.is_empty() {
                return Ok(());
            }
            slice.into_iter().try_for_each(|row| act(row.chatbot_id))?;
        }
    }
}

/// Attaches a table of chatbots: deleting one of its rows deletes everything that belongs to the chatbot.
pub fn attach_chatbots(relation: Option<Regclass>, id_column: Option<Name>) -> Result<()> {
    let id_column = arguments::required("id_column", id_column)?;
    let (opened, relation) = open_owned_table(relation)?;
    if chatbot_triggers::has_chatbots_triggers(relation.oid)? {
        return Err(Error::Attached { relation: relation.name });
    }
    // SAFETY: `opened` keeps the relation open.
    let chatbots = unsafe { ChatbotTable::bind(id_column.0, opened.0)? };
    drop(opened);
    let column = Column { name: chatbots.id_name, number: chatbots.id.number };
    let argument = serde_json::to_string(&column).map_err(|error| Error::Internal(error.to_string()))?;
    let _own = ExtensionDdlGuard::new();
    chatbot_triggers::make_chatbots_triggers(&relation.name, &argument, |_| true)
}

/// After ALTER TABLE: writes the id column's new name or number into the triggers, or detaches the table where it is gone.
pub fn on_chatbots_altered(oid: pg_sys::Oid, name: &str, argument: &str) -> Result<()> {
    let mut column: Column = serde_json::from_str(argument).map_err(|error| Error::Internal(error.to_string()))?;
    let before = column.clone();
    let opened = OpenRelation::new(oid, pg_sys::AccessShareLock);
    // SAFETY: `opened` keeps the relation open.
    let gone = unsafe { !update_column(&mut column, (*opened.0).rd_att) };
    drop(opened);
    if gone {
        pgrx::warning!("{name} is detached: its column {} is gone", before.name);
        chatbot_triggers::drop_chatbots_triggers(oid, name).map(drop)
    } else if column != before {
        let argument = serde_json::to_string(&column).map_err(|error| Error::Internal(error.to_string()))?;
        chatbot_triggers::make_chatbots_triggers(name, &argument, |_| true)
    } else {
        Ok(())
    }
}
