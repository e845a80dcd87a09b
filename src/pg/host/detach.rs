//! Detaching tables: their rows are no sources any more.

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::host::HostOptions;
use crate::ids::{ChatbotId, HostId};
use crate::pg::host::read::without_waiting;
use crate::pg::host::relation::{ExtensionDdlGuard, OpenRelation, Relation, open_owned_table};
use crate::pg::runtime::arguments;
use crate::pg::runtime::catalog_types::Regclass;
use crate::pg::runtime::subtransaction::try_row;
use crate::pg::store::relation::relation_name;
use crate::pg::store::{chatbot_triggers, host_sources, host_triggers as store};

/// Takes back what attached a table: all of it, or its attachment to one chatbot.
pub fn detach(relation: Option<Regclass>, delete_embeddings: Option<bool>, chatbot_id: Option<i64>) -> Result<()> {
    let delete = arguments::required("delete_embeddings", delete_embeddings)?;
    let chatbot_id = chatbot_id.map(|id| arguments::check_chatbot_id(Some(id))).transpose()?;
    let (opened, relation) = open_owned_table(relation)?;
    drop(opened);
    let _own = ExtensionDdlGuard::new();
    let mut hosts = Vec::new();
    for argument in store::trigger_arguments(relation.oid)? {
        let host = HostOptions::parse(&argument)?;
        if !host.partition && (chatbot_id.is_none() || host.chatbot_id == chatbot_id) {
            hosts.push(host.host);
        }
    }
    let chatbots = chatbot_id.is_none() && chatbot_triggers::drop_chatbots_triggers(relation.oid, &relation.name)?;
    if hosts.is_empty() && !chatbots {
        return Err(Error::NotAttached { relation: relation.name });
    }
    for host in hosts {
        store::drop_triggers(host)?;
        if delete {
            host_sources::delete_host(host)?;
            continue;
        }
        let waited = host_sources::release_host(host)?;
        if waited > 0 {
            pgrx::notice!(
                "{waited} sources of {} were pending: they keep the vectors of their last embedded text; those without any are deleted",
                relation.name
            );
        }
    }
    Ok(())
}

/// Detaches the tables whose rows all belong to a chatbot that is gone: they would be its sources again with their next
/// change. Only those that the owner of the table of chatbots could detach.
pub fn detach_chatbot(chatbot_id: ChatbotId, owner: pg_sys::Oid) -> Result<()> {
    for table in store::all_attached_tables()? {
        let host = table.options()?;
        if host.chatbot_id != Some(chatbot_id) {
            continue;
        }
        let relation = relation_name(table.oid)?;
        let _own = ExtensionDdlGuard::new();
        let reason = match without_waiting(|| try_row(|| drop_triggers_as(owner, table.oid, host.host)))? {
            Some(Ok(true)) => {
                host_sources::delete_host(host.host)?;
                continue;
            }
            Some(Ok(false)) => "it has another owner".to_owned(),
            Some(Err(raised)) => raised.message,
            None => "another session has locked it".to_owned(),
        };
        pgrx::warning!(
            "{relation} stays attached to chatbot {chatbot_id}, which is gone ({reason}): SELECT chatbot_detach('{relation}', chatbot_id => {chatbot_id});"
        );
    }
    Ok(())
}

/// Drops the triggers of a table, if a role has the rights of its owner.
fn drop_triggers_as(role: pg_sys::Oid, table: pg_sys::Oid, host: HostId) -> Result<bool> {
    let opened = OpenRelation::new(table, pg_sys::AccessShareLock);
    // SAFETY: it is open; a look-up in the catalog's cache.
    let is_owner = unsafe { pg_sys::has_privs_of_role(role, Relation::of(opened.0).owner) };
    drop(opened);
    if is_owner {
        store::drop_triggers(host)?;
    }
    Ok(is_owner)
}
