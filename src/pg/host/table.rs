//! A host table: its columns by their roles, as its triggers' arguments name them.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::host::{Column, HostColumns, HostOptions, RowStatus, shortest};
use crate::ids::ChatbotId;
use crate::pg::host::condition::CheckedCondition;
use crate::pg::host::relation::Relation;
use crate::pg::host::row::{Attribute, Row};
use crate::pg::host::{refusal, siblings};
use crate::pg::runtime::arguments;
use crate::pg::runtime::run_as::{Restriction, RunAs};
use crate::pg::store::relation::type_name;
use crate::pg::store::row_metadata::{self, ColumnShape};
use crate::source::{Jsonb, Sibling, SourceInput, SourceKey, SourceStatus, SourceType};
use crate::text::content::{ColumnContent, Content};
use crate::text::title::Title;

/// The types that an id column may have.
pub const INTEGERS: &[pg_sys::Oid] = &[pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID];
const TEXTS: &[pg_sys::Oid] = &[pg_sys::TEXTOID, pg_sys::VARCHAROID];
const CONTENTS: &[pg_sys::Oid] = &[pg_sys::TEXTOID, pg_sys::VARCHAROID, pg_sys::JSONBOID];
const BOOLEANS: &[pg_sys::Oid] = &[pg_sys::BOOLOID];

/// A host table as its triggers and `chatbot_attach()` see it.
pub struct HostTable {
    /// The arguments of `chatbot_attach()`.
    pub host: HostOptions,
    /// The kind of source that its rows are.
    pub source_type: SourceType,
    /// The table itself.
    pub relation: Relation,
    /// The column with the source's id.
    pub id: Attribute,
    /// The column with the chatbot's id; `None` where all rows belong to one chatbot.
    pub chatbot: Option<Attribute>,
    /// The columns with the content.
    pub content: Vec<Attribute>,
    /// The column with the title, which goes before the text of every chunk; `None`: there is none.
    pub title: Option<Attribute>,
    /// The columns that go into the metadata.
    pub metadata: Vec<Attribute>,
    /// The column that says whether searches find the row; `None`: they find every row.
    pub enabled: Option<Attribute>,
    /// The condition that rows have to fulfil to be found; `None`: there is none.
    pub condition: Option<CheckedCondition>,
    /// The other attachments of the table, which make the same rows sources of other chatbots.
    pub siblings: Rc<[Sibling]>,
    /// The column that `pending`, `synced` or `error` is written to, if any.
    pub status: Option<Attribute>,
    /// The column that is set to whether the row is synced, if any.
    pub processed: Option<Attribute>,
    /// The column that the reason of a failure is written to, if any.
    pub error: Option<Attribute>,
    /// Whether the status columns may refuse a value, looked up on first use.
    may_refuse_status: OnceCell<bool>,
}

thread_local! {
    /// Tables by the oid of their trigger; cleared whenever a table changes or a schema is renamed.
    static CACHE: RefCell<HashMap<pg_sys::Oid, Rc<HostTable>>> = RefCell::new(HashMap::new());
}

impl HostTable {
    /// Returns the table of a running trigger.
    ///
    /// # Safety
    /// The data is that of a trigger that is running.
    pub unsafe fn of(data: &pg_sys::TriggerData) -> Result<Rc<Self>> {
        // SAFETY: the trigger runs, as the caller promises, so it and its relation are open.
        unsafe {
            let trigger = &*data.tg_trigger;
            if let Some(known) = CACHE.with_borrow(|known| known.get(&trigger.tgoid).cloned()) {
                return Ok(known);
            }
            register_cache_callback();
            let argument = match trigger.tgnargs {
                1 => CStr::from_ptr(*trigger.tgargs).to_string_lossy().into_owned(),
                _ => String::new(),
            };
            let table = Rc::new(Self::bind(HostOptions::parse(&argument)?, data.tg_relation)?);
            CACHE.with_borrow_mut(|known| known.insert(trigger.tgoid, table.clone()));
            Ok(table)
        }
    }

    /// Binds the columns that `chatbot_attach()` named to those that the relation has. Fails where one is missing, or its
    /// type does not fit its role.
    ///
    /// # Safety
    /// The relation is open.
    pub unsafe fn bind(host: HostOptions, relation: pg_sys::Relation) -> Result<Self> {
        // SAFETY: the relation is open, as the caller promises.
        let (condition, siblings) = unsafe {
            let condition = host.condition.as_ref().map(|c| CheckedCondition::check(c, relation)).transpose()?;
            (condition, siblings::find(&host, relation))
        };
        // SAFETY: the relation is open, as the caller promises.
        let (descriptor, relation) = unsafe { ((*relation).rd_att, Relation::of(relation)) };
        let find = |role, Column { name, .. }: &Column, types: &[pg_sys::Oid]| {
            let missing = || Error::NoColumn { relation: relation.name.clone(), column: name.clone(), role };
            let found = Attribute::find(descriptor, name).ok_or_else(missing)?;
            let wrong_type = |got: String, expected: String| Error::ColumnType {
                relation: relation.name.clone(),
                column: name.clone(),
                role,
                got,
                expected,
            };
            if !types.is_empty() && !types.contains(&found.base) {
                let expected = types.iter().map(|&oid| type_name(oid)).collect::<Result<Vec<_>>>()?.join(" or ");
                return Err(wrong_type(type_name(found.base)?, expected));
            }
            if found.virtual_column {
                return Err(wrong_type("a virtual generated column".to_owned(), "one that is stored".to_owned()));
            }
            if HostColumns::is_written(role) && found.generated {
                return Err(wrong_type("generated".to_owned(), "one that can be written".to_owned()));
            }
            if role == "status_column" && found.longest.is_some_and(|n| n < SourceStatus::MAX_LENGTH) {
                let got = format!("character varying({})", found.longest.unwrap_or_default());
                return Err(wrong_type(got, format!("character varying({}) or longer", SourceStatus::MAX_LENGTH)));
            }
            if role == "error_column" && !found.nullable {
                return Err(wrong_type("NOT NULL".to_owned(), "nullable".to_owned()));
            }
            if role == "id_column" && found.nullable {
                return Err(wrong_type("nullable".to_owned(), "NOT NULL".to_owned()));
            }
            Ok(found)
        };
        let maybe = |role, column: &Option<Column>, types| column.as_ref().map(|c| find(role, c, types)).transpose();
        let columns = &host.columns;
        Ok(Self {
            source_type: host.source_type,
            id: find("id_column", &columns.id, INTEGERS)?,
            chatbot: maybe("chatbot_column", &columns.chatbot, INTEGERS)?,
            content: columns
                .content
                .iter()
                .map(|c| find(HostColumns::content_role(columns.content.len()), c, CONTENTS))
                .collect::<Result<_>>()?,
            title: maybe("title_column", &columns.title, CONTENTS)?,
            metadata: columns.metadata.iter().map(|c| find("metadata_columns", c, &[])).collect::<Result<_>>()?,
            enabled: maybe("enabled_column", &columns.enabled, BOOLEANS)?,
            condition,
            siblings,
            status: maybe("status_column", &columns.status, TEXTS)?,
            processed: maybe("processed_column", &columns.processed, BOOLEANS)?,
            error: maybe("error_column", &columns.error, TEXTS)?,
            may_refuse_status: OnceCell::new(),
            relation,
            host,
        })
    }

    /// Whether the content columns are JSON objects of texts by language: one answer for all, or one for each.
    pub fn is_translated(&self) -> Vec<bool> {
        shortest(&self.content.iter().map(|column| column.base == pg_sys::JSONBOID).collect::<Vec<_>>())
    }

    /// The chatbot of a row; `None` where it belongs to none.
    pub fn chatbot_id(&self, row: Row) -> Option<ChatbotId> {
        match self.chatbot {
            Some(column) => row.integer(column).map(ChatbotId),
            None => self.host.chatbot_id,
        }
    }

    /// The key of a row's source; `None` where the row has no chatbot, or ids that no source can have.
    pub fn key(&self, row: Row) -> Option<SourceKey> {
        self.checked_key(row)?.ok()
    }

    /// The key of a row's source, or why it can have none; `None` where the row has no chatbot.
    pub fn checked_key(&self, row: Row) -> Option<Result<SourceKey>> {
        Some(self.key_of(self.chatbot_id(row)?, row.integer(self.id).unwrap_or_default()))
    }

    /// The key with these ids, or why no source can have them.
    pub fn key_of(&self, chatbot_id: ChatbotId, source_id: i64) -> Result<SourceKey> {
        Ok(SourceKey {
            chatbot_id: arguments::check_chatbot_id(Some(chatbot_id.0))?,
            source_type: self.source_type,
            source_id: arguments::check_id("source_id", Some(source_id))?,
        })
    }

    /// A key that names a row with invalid ids while its status is written.
    pub fn unchecked_key(&self, row: Row) -> SourceKey {
        SourceKey {
            chatbot_id: self.chatbot_id(row).unwrap_or_default(),
            source_type: self.source_type,
            source_id: row.integer(self.id).unwrap_or_default(),
        }
    }

    /// Whether something of the user's may refuse a value of the status columns.
    pub fn may_refuse_status(&self) -> Result<bool> {
        if let Some(&known) = self.may_refuse_status.get() {
            return Ok(known);
        }
        let columns: Vec<Attribute> = [self.status, self.processed, self.error].into_iter().flatten().collect();
        let may = refusal::may_refuse(&self.relation, &columns)?;
        Ok(*self.may_refuse_status.get_or_init(|| may))
    }

    /// Whether searches are to find the row. Raises what the condition raises.
    pub fn is_enabled(&self, row: Row) -> bool {
        self.is_enabled_by_column(row) && self.condition.as_ref().is_none_or(|condition| condition.is_fulfilled(row))
    }

    /// Whether searches are to find the row; `None` where the condition raises an error.
    pub fn is_enabled_if_readable(&self, row: Row) -> Result<Option<bool>> {
        match &self.condition {
            Some(condition) if self.is_enabled_by_column(row) => condition.is_fulfilled_if_readable(row),
            _ => Ok(Some(self.is_enabled_by_column(row))),
        }
    }

    fn is_enabled_by_column(&self, row: Row) -> bool {
        self.enabled.is_none_or(|column| row.boolean(column) == Some(true))
    }

    /// Whether a column that the source is made from differs between the two versions of a row. Of the columns of a
    /// condition only the answer counts.
    pub fn differs(&self, old: Row, new: Row) -> Result<bool> {
        let watched = [self.id].into_iter().chain(self.chatbot).chain(self.title).chain(self.enabled);
        let watched = watched.chain(self.content.iter().copied()).chain(self.metadata.iter().copied());
        if watched.into_iter().any(|column| !old.has_same_value(new, column)) {
            return Ok(true);
        }
        let Some(condition) = &self.condition else { return Ok(false) };
        if condition.columns.iter().all(|&column| old.has_same_value(new, column)) {
            return Ok(false);
        }
        let (before, after) = (condition.is_fulfilled_if_readable(old)?, condition.is_fulfilled_if_readable(new)?);
        Ok(before.is_none() || before != after)
    }

    /// Whether a content column or the title differs.
    pub fn text_differs(&self, old: Row, new: Row) -> bool {
        self.content.iter().copied().chain(self.title).any(|column| !old.has_same_value(new, column))
    }

    /// Whether an UPDATE asks for another sync, by changing the status to `pending` or `synced`.
    pub fn requests_sync(&self, old: Row, new: Row) -> bool {
        self.status.is_some_and(|column| {
            !old.has_same_value(new, column)
                && matches!(self.shown_status(new), Some(SourceStatus::Pending | SourceStatus::Synced))
        })
    }

    /// Whether a row shows the status `synced`.
    pub fn is_marked_synced(&self, row: Row) -> bool {
        self.shown_status(row) == Some(SourceStatus::Synced)
    }

    /// The status that a row shows; `None` where it shows another text or NULL, or the table has no status column.
    fn shown_status(&self, row: Row) -> Option<SourceStatus> {
        SourceStatus::parse(&row.text(self.status?)?)
    }

    /// The status for a row without a chatbot that has just left one, or still shows that it is synced; `None`: the row
    /// stays as it is.
    pub fn status_without_chatbot(&self, old: Option<Row>, new: Row) -> Option<RowStatus> {
        let left = old.is_some_and(|old| self.chatbot_id(old).is_some());
        let processed = self.processed.is_some_and(|column| new.boolean(column) == Some(true));
        (left || processed || self.is_marked_synced(new))
            .then(|| RowStatus::without_chatbot(self.status.is_none_or(|column| column.nullable)))
    }

    /// The status that a row shows; for a status column that the table does not have, the value of `expected`.
    pub fn row_status(&self, row: Row, expected: &RowStatus) -> RowStatus {
        RowStatus {
            status: self.status.map_or_else(|| expected.status.clone(), |column| row.text(column)),
            processed: self.processed.map_or(expected.processed, |column| row.boolean(column)),
            error: self.error.map_or_else(|| expected.error.clone(), |column| row.text(column)),
        }
    }

    /// The source that a row makes; `is_new`: the row was inserted by this statement, so that no source exists yet.
    pub fn source_input(&self, row: Row, key: SourceKey, is_new: bool) -> Result<SourceInput> {
        let metadata = self.metadata_of(row)?;
        let values = self.content.iter().map(|&column| row.text(column)).collect();
        Ok(SourceInput {
            key,
            content: self.content_of(values, &metadata),
            metadata,
            enabled: self.is_enabled(row),
            host: Some(self.host.host),
            siblings: self.siblings.clone(),
            is_new,
        })
    }

    /// Makes the content of a row from the values of its content columns, with the title in its metadata where a column is
    /// named for it.
    pub fn content_of(&self, values: Vec<Option<String>>, metadata: &Jsonb) -> Content {
        let column = |(at, (value, column)): (usize, (Option<String>, &Attribute))| {
            let translated = column.base == pg_sys::JSONBOID;
            let value = value.unwrap_or_else(|| if translated { "null" } else { "" }.to_owned());
            ColumnContent { value, format: self.host.format(at), translated }
        };
        let columns = values.into_iter().zip(&self.content).enumerate().map(column).collect();
        let title = self.title.and_then(|_| Title::of_metadata(metadata.as_str()));
        Content::of_columns(columns).with_title(title)
    }

    fn metadata_of(&self, row: Row) -> Result<Jsonb> {
        if self.metadata.is_empty() && self.title.is_none() {
            return Ok(Jsonb::empty());
        }
        // A user's type may have a cast to json, which runs here and must not run with the session's rights.
        let _owner = RunAs::new(self.relation.owner, Restriction::Maintenance);
        let read = self.metadata.iter().chain(self.title.as_ref());
        let shape: Vec<ColumnShape> =
            read.map(|a| ColumnShape { number: a.number, of_type: a.of_type.to_u32() }).collect();
        row_metadata::metadata(row.composite(), self.relation.row_type, &self.host.columns, &shape)
    }
}

fn register_cache_callback() {
    #[pgrx::pg_guard]
    unsafe extern "C-unwind" fn forget(_arg: pg_sys::Datum, _relation: pg_sys::Oid) {
        CACHE.with_borrow_mut(HashMap::clear);
    }
    #[pgrx::pg_guard]
    unsafe extern "C-unwind" fn renamed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
        CACHE.with_borrow_mut(HashMap::clear);
    }
    thread_local!(static WATCHING: Cell<bool> = const { Cell::new(false) });
    if !WATCHING.replace(true) {
        // SAFETY: the callbacks only clear a map of this thread, which is not borrowed while a catalog is read.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(forget), pg_sys::Datum::null());
            let schemas = pg_sys::SysCacheIdentifier::NAMESPACEOID.cast_signed();
            pg_sys::CacheRegisterSyscacheCallback(schemas, Some(renamed), pg_sys::Datum::null());
        }
    }
}
