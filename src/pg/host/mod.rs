//! Host tables: attaching and detaching them.

mod changes;
mod chatbots;
mod follow;
mod key_set;
mod nested;
mod pending;
mod read;
mod reconcile;
mod refusal;
mod row;
mod row_security;
mod table;
mod told;
mod trigger;

use std::cell::Cell;

use pgrx::pg_sys;

pub use chatbots::attach_chatbots;
pub use follow::{altered, dropped, restored};
pub use pending::{
    Batch, adopt, adopt_all, each_input, each_key_as_seen, hosts, invalid_rows, readings, sync_batch, tell,
};
pub use read::{Access, rows, without_waiting};
pub use reconcile::{follow_rewrites, note_rewrite};
pub use row_security::warn_of_hidden_rows;
pub use table::State;

use self::row::Attribute;
use self::table::{Relation, Table};
use super::catalog_types::{Name, Regclass};
use super::store::{host as store, hosted};
use super::{args, model};
use crate::error::{Error, Result};
use crate::host::{Column, Columns, Host, Mode, OnError};

/// What `chatbot_attach()` is told, as SQL gives it.
pub struct Attach<'a> {
    /// The table.
    pub relation: Option<Regclass>,
    /// `document` or `link`.
    pub source_type: Option<&'a str>,
    /// Columns that have to be named.
    pub id: Option<Name>,
    /// The tenant's.
    pub chatbot: Option<Name>,
    /// The text.
    pub content: Option<Name>,
    /// Go into the metadata.
    pub metadata: Option<Vec<Option<Name>>>,
    /// Columns that may be named.
    pub enabled: Option<Name>,
    /// Written.
    pub status: Option<Name>,
    /// Written.
    pub processed: Option<Name>,
    /// Written.
    pub error: Option<Name>,
    /// sync, async.
    pub mode: Option<&'a str>,
    /// mark, raise.
    pub on_error: Option<&'a str>,
    /// text, html.
    pub content_format: Option<&'a str>,
}

thread_local! {
    static OWN_DDL: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, what is done to tables is our own doing.
struct OwnDdl(bool);

impl OwnDdl {
    fn new() -> Self {
        Self(OWN_DDL.replace(true))
    }
}

impl Drop for OwnDdl {
    fn drop(&mut self) {
        OWN_DDL.set(self.0);
    }
}

/// Locks a table and its partitions until the transaction ends.
fn lock_tree(table: pg_sys::Oid, lock: u32) -> Result<()> {
    for oid in store::tree(table)? {
        // SAFETY: waits, or raises an error where the lock is not to be had.
        unsafe { pg_sys::LockRelationOid(oid, lock.cast_signed()) };
    }
    Ok(())
}

/// A relation that is open, and stays locked until the transaction ends.
struct Opened(pg_sys::Relation);

impl Opened {
    fn new(oid: pg_sys::Oid, lock: u32) -> Self {
        // SAFETY: raises an error where there is none.
        Self(unsafe { pg_sys::relation_open(oid, lock.cast_signed()) })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: it is open.
            unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock.cast_signed()) };
        }
    }
}

/// Opens a table of the caller's, so that nobody writes to it until the transaction ends.
fn open_own(relation: Option<Regclass>) -> Result<(Opened, Relation)> {
    let oid = args::given("relation", relation)?.0;
    if !store::relation_exists(oid)? {
        return Err(Error::invalid("relation", oid.to_u32(), "a table"));
    }
    let opened = Opened::new(oid, pg_sys::ShareRowExclusiveLock);
    // SAFETY: it is open.
    let relation = unsafe { Relation::of(opened.0) };
    let got = match relation.kind {
        pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE if relation.temporary => "a temporary table",
        pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE => {
            // SAFETY: a look-up in the catalog's cache.
            let owns = unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), relation.owner) };
            return if owns { Ok((opened, relation)) } else { Err(Error::NotOwner { relation: relation.name }) };
        }
        pg_sys::RELKIND_VIEW => "a view",
        pg_sys::RELKIND_MATVIEW => "a materialized view",
        pg_sys::RELKIND_FOREIGN_TABLE => "a foreign table",
        pg_sys::RELKIND_SEQUENCE => "a sequence",
        pg_sys::RELKIND_INDEX | pg_sys::RELKIND_PARTITIONED_INDEX => "an index",
        _ => "a type",
    };
    Err(Error::NoTable { relation: relation.name, got })
}

/// Rows of a table become sources from now on; those that it has wait for `chatbot_sync_all()`.
pub fn attach(told: Attach) -> Result<()> {
    let source_type = args::source_type(told.source_type)?;
    let on_error = match args::word("on_error", told.on_error, &OnError::NAMES)? {
        "raise" => OnError::Raise,
        _ => OnError::Mark,
    };
    let mode = match args::word("mode", told.mode, &Mode::NAMES)? {
        "async" => Mode::Async,
        _ => Mode::Sync,
    };
    let content_format = match args::word("content_format", told.content_format, &crate::text::content::Format::NAMES)?
    {
        "html" => crate::text::content::Format::Html,
        _ => crate::text::content::Format::Text,
    };
    let column = |Name(name)| Column(name, 0);
    let named = |role, name| args::given(role, name).map(column);
    let mut columns = Columns {
        id: named("id_column", told.id)?,
        chatbot: named("chatbot_column", told.chatbot)?,
        content: named("content_column", told.content)?,
        metadata: args::given("metadata_columns", told.metadata)?
            .into_iter()
            .map(|name| args::given("metadata_columns", name).map(column))
            .collect::<Result<_>>()?,
        enabled: told.enabled.map(column),
        status: told.status.map(column),
        processed: told.processed.map(column),
        error: told.error.map(column),
    };
    distinct(&columns)?;
    let (opened, relation) = open_own(told.relation)?;
    if let Some(name) = store::attached(relation.oid)? {
        return Err(Error::Attached { relation: name });
    }
    row_security::refuse_hidden_rows(relation.oid)?;
    number(&mut columns, &relation.name, opened.0)?;
    let mut host = Host {
        host: 0,
        source_type: source_type.to_owned(),
        on_error,
        mode,
        content_format,
        translated: false,
        partition: false,
        columns,
    };
    // SAFETY: it is open.
    let table = unsafe { Table::bind(host.clone(), opened.0)? };
    if let Some(other) = store::other_table(source_type)? {
        pgrx::warning!(
            "{other} is attached as {source_type} too: an id that both tables use is one source, and the last one written wins"
        );
    }
    // Now, so that no two first syncs make it at the same time.
    model::for_writing()?;
    host.translated = table.translated();
    host.host = store::next_host()?;
    let _own = OwnDdl::new();
    make_triggers(&host, &relation)?;
    // SAFETY: it is open.
    let table = unsafe { Table::bind(host, opened.0)? };
    let waiting = adopt(&table)?;
    told::write_pending(&table)?;
    if waiting > 0 {
        pgrx::notice!("{waiting} rows of {} are pending: CALL chatbot_sync_all();", relation.name);
    }
    Ok(())
}

/// A column that is written must be for nothing else.
fn distinct(columns: &Columns) -> Result<()> {
    let all = columns.all();
    for (at, (role, Column(name, _))) in all.iter().enumerate() {
        let twice = all[..at].iter().any(|(other, Column(n, _))| {
            let written = |r: &str| matches!(r, "status_column" | "processed_column" | "error_column");
            n == name && (written(role) || written(other) || role == other)
        });
        if twice {
            return Err(Error::invalid(role, format!("\"{name}\""), "a column that is named once"));
        }
    }
    Ok(())
}

/// Gives the columns the numbers that they have in a relation.
fn number(columns: &mut Columns, relation: &str, open: pg_sys::Relation) -> Result<()> {
    // SAFETY: it is open.
    let descriptor = unsafe { (*open).rd_att };
    for (role, Column(name, number)) in columns.all_mut() {
        let found = Attribute::find(descriptor, name).ok_or_else(|| Error::NoColumn {
            relation: relation.to_owned(),
            column: name.clone(),
            role,
        })?;
        *number = found.number;
    }
    Ok(())
}

/// Makes the triggers of a table and of its partitions and children.
fn make_triggers(host: &Host, root: &Relation) -> Result<()> {
    for oid in store::tree(root.oid)? {
        make_triggers_of(host, root.oid, oid)?;
    }
    Ok(())
}

fn make_triggers_of(host: &Host, root: pg_sys::Oid, oid: pg_sys::Oid) -> Result<()> {
    let opened = Opened::new(oid, pg_sys::ShareRowExclusiveLock);
    // SAFETY: it is open.
    let relation = unsafe { Relation::of(opened.0) };
    if relation.kind == pg_sys::RELKIND_FOREIGN_TABLE || relation.temporary {
        let got = if relation.temporary { "a temporary table" } else { "a foreign table" };
        return Err(Error::NoTable { relation: relation.name, got });
    }
    let mut host = Host { partition: oid != root, ..host.clone() };
    number(&mut host.columns, &relation.name, opened.0)?;
    let leaf = relation.kind == pg_sys::RELKIND_RELATION;
    let argument = host.argument()?;
    drop(opened);
    store::make_triggers(oid, &relation.name, host.host, &argument, leaf && host.columns.written())
}

/// Rows of a table are no sources any more.
pub fn detach(relation: Option<Regclass>, delete_embeddings: Option<bool>) -> Result<()> {
    let delete = args::given("delete_embeddings", delete_embeddings)?;
    let (opened, relation) = open_own(relation)?;
    drop(opened);
    let _own = OwnDdl::new();
    let hosts = store::hosts_of(relation.oid)?;
    let chatbots = store::drop_chatbots_triggers(relation.oid, &relation.name)?;
    if hosts.is_empty() && !chatbots {
        return Err(Error::NotAttached { relation: relation.name });
    }
    for host in hosts {
        store::drop_triggers(host)?;
        if delete { hosted::delete_host(host)? } else { hosted::release_host(host)? }
    }
    Ok(())
}
