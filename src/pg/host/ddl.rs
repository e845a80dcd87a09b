//! Follows DDL on host tables: ALTER TABLE, DROP TABLE, partitions and restores.

use crate::error::{Error, Result};
use crate::host::{Column, HostColumns, HostOptions};
use crate::ids::HostId;
use crate::pg::host::chatbots::on_chatbots_altered;
use crate::pg::host::condition::CheckedCondition;
use crate::pg::host::pending::register_existing_rows;
use crate::pg::host::reconcile::{reconcile, take_rewritten};
use crate::pg::host::relation::{ExtensionDdlGuard, OWN_DDL, OpenRelation, Relation};
use crate::pg::host::source_keys;
use crate::pg::host::table::HostTable;
use crate::pg::host::triggers::{make_table_triggers, make_triggers, set_column_numbers, update_column};
use crate::pg::runtime::subtransaction::try_row;
use crate::pg::store::relation::relation_with_descendants;
use crate::pg::store::{chatbot_triggers, delete, host_sources, host_triggers as store};
use pgrx::pg_sys;

/// Follows ALTER TABLE. Renamed columns keep their role and dropped ones lose it, rows whose values changed are compared
/// with their sources, and afterwards exactly the partitions and children of host tables have the triggers. Does nothing for
/// DDL of the extension itself.
pub fn on_altered(oid: pg_sys::Oid) -> Result<()> {
    if OWN_DDL.get() {
        return Ok(());
    }
    let _own = ExtensionDdlGuard::new();
    let rewritten = take_rewritten()?;
    for table in store::attached_ancestors(oid)? {
        update_triggers(table.oid, table.options()?, rewritten.contains(&table.oid))?;
    }
    for partition in store::orphaned_triggers()? {
        delete_detached_partition(partition.oid, partition.options()?)?;
    }
    if let Some(chatbots) = chatbot_triggers::chatbots_table(oid)? {
        on_chatbots_altered(oid, &chatbots.relation, &chatbots.argument)?;
    }
    Ok(())
}

/// Follows a restore, which creates the extension's triggers one after the other: writes the columns' current numbers
/// into their arguments.
pub fn on_restored(oid: pg_sys::Oid) -> Result<()> {
    if OWN_DDL.get() {
        return Ok(());
    }
    let _own = ExtensionDdlGuard::new();
    let opened = OpenRelation::new(oid, pg_sys::AccessShareLock);
    // SAFETY: `opened` keeps the relation open.
    let (relation, descriptor) = unsafe { (Relation::of(opened.0), (*opened.0).rd_att) };
    let mut changed = Vec::new();
    for before in store::trigger_arguments(oid)? {
        let before = HostOptions::parse(&before)?;
        let mut host = before.clone();
        set_column_numbers(&mut host, &relation.name, opened.0)?;
        if host != before {
            changed.push(host);
        }
    }
    let mut chatbots = chatbot_triggers::chatbots_triggers(oid)?;
    for trigger in &mut chatbots {
        let mut column: Column =
            serde_json::from_str(&trigger.argument).map_err(|error| Error::Internal(error.to_string()))?;
        update_column(&mut column, descriptor);
        trigger.argument = serde_json::to_string(&column).map_err(|error| Error::Internal(error.to_string()))?;
    }
    drop(opened);
    for host in changed {
        let states = store::trigger_states(host.host)?;
        store::remake_triggers(oid, &relation.name, host.host, &host.to_trigger_argument()?)?;
        store::restore_states(states)?;
    }
    for trigger in chatbots {
        chatbot_triggers::make_chatbots_triggers(&relation.name, &trigger.argument, |name| name == trigger.name)?;
    }
    Ok(())
}

fn update_triggers(oid: pg_sys::Oid, before: HostOptions, rewritten: bool) -> Result<()> {
    let opened = OpenRelation::new(oid, pg_sys::AccessShareLock);
    // SAFETY: `opened` keeps the relation open.
    let (relation, descriptor) = unsafe { (Relation::of(opened.0), (*opened.0).rd_att) };
    let mut host = before.clone();
    let mut dropped = Vec::new();
    for (role, column) in host.all_columns_mut() {
        if !update_column(column, descriptor) {
            dropped.push((role, column.name.clone()));
        }
    }
    let contents = dropped.iter().filter(|(role, _)| *role == "content_columns").count();
    // Without its condition rows would be found that it has hidden.
    let needed = |role: &str| match role {
        "id_column" | "chatbot_column" | "content_column" | "condition" => true,
        "content_columns" => contents == before.columns.content.len(),
        _ => false,
    };
    if let Some((_, column)) = dropped.iter().find(|(role, _)| needed(role)) {
        pgrx::warning!(
            "{} is detached, and what was embedded of it deleted: its column {column} is gone",
            relation.name
        );
        drop(opened);
        store::drop_triggers(host.host)?;
        return host_sources::delete_host(host.host);
    }
    for (role, name) in &dropped {
        pgrx::warning!("column {name} of {} is gone: it was {role} of chatbot_attach()", relation.name);
        let columns = &mut host.columns;
        match *role {
            "metadata_columns" => {
                columns.metadata.retain(|column| column.name != *name);
                host_sources::drop_metadata(host.host, name)?;
            }
            "content_columns" => host.remove_content_column(name),
            "title_column" => {
                columns.title = None;
                host_sources::drop_metadata(host.host, "title")?;
            }
            "enabled_column" => {
                columns.enabled = None;
                host_sources::enable_host(host.host)?;
            }
            "status_column" => columns.status = None,
            "processed_column" => columns.processed = None,
            _ => columns.error = None,
        }
    }
    for old in &before.columns.metadata {
        let is_renamed = |new: &&Column| new.number == old.number && new.name != old.name;
        for new in host.columns.metadata.iter().filter(is_renamed) {
            pgrx::debug1!("column {} of {} is {} now", new.number, relation.name, new.name);
            host_sources::rename_metadata(host.host, &old.name, &new.name)?;
        }
    }
    if let (Some(then), Some(now)) = (&before.condition, &host.condition) {
        let names = then
            .columns
            .iter()
            .zip(&now.columns)
            .map(|(then, now)| Column { name: then.name.clone(), number: now.number })
            .collect::<Vec<_>>();
        // SAFETY: it is open.
        host.condition = Some(unsafe { CheckedCondition::after_rename(then, opened.0, &names)? });
    }
    // SAFETY: `opened` keeps the relation open.
    let translated = unsafe { HostTable::bind(host.clone(), opened.0)? }.is_translated();
    let other_reading = translated != host.translated
        || host.columns.content.len() != before.columns.content.len()
        || host.columns.title.is_some() != before.columns.title.is_some();
    host.translated = translated;
    drop(opened);
    if host != before {
        let states = store::trigger_states(host.host)?;
        make_triggers(&host, &relation)?;
        store::restore_states(states)?;
    }
    if rewritten || other_reading || reads_other_columns(&before, &host) {
        return reconcile(oid, host);
    }
    for partition in relation_with_descendants(oid)? {
        if !store::has_triggers(partition, host.host)? {
            make_table_triggers(&host, oid, partition)?;
            let opened = OpenRelation::new(oid, pg_sys::AccessShareLock);
            // SAFETY: `opened` keeps the relation open.
            let table = unsafe { HostTable::bind(host.clone(), opened.0)? };
            let registered = try_row(|| register_existing_rows(&table))?.unwrap_or_else(|raised| {
                pgrx::warning!("rows of {} that are no sources yet cannot be found: {}", relation.name, raised.message);
                0
            });
            if registered > 0 {
                pgrx::notice!("{registered} rows of {} are pending: CALL chatbot_sync_all();", relation.name);
            }
        }
    }
    Ok(())
}

/// Whether a column that is read was replaced by another of the same name, as `DROP c, ADD c` does.
fn reads_other_columns(before: &HostOptions, now: &HostOptions) -> bool {
    let read = |host: &HostOptions| {
        let read = host.all_columns().into_iter().filter(|(role, _)| !HostColumns::is_written(role));
        read.map(|(_, column)| column.clone()).collect::<Vec<_>>()
    };
    let before = read(before);
    read(now).iter().any(|now| before.iter().any(|before| before.name == now.name && before.number != now.number))
}

/// Deletes the sources of a table that is not a partition or child of the host table any more, and drops its triggers.
fn delete_detached_partition(oid: pg_sys::Oid, host: HostOptions) -> Result<()> {
    let opened = OpenRelation::new(oid, pg_sys::AccessShareLock);
    // SAFETY: `opened` keeps the relation open.
    let table = unsafe { HostTable::bind(host, opened.0)? };
    drop(opened);
    source_keys::for_each_source_key(&table, delete::delete_sources)?;
    store::drop_triggers_of(oid, table.host.host)
}

/// Follows DROP TABLE of tables that had triggers of these hosts: deletes the sources whose rows are gone.
pub fn on_dropped(hosts: &[HostId]) -> Result<()> {
    for &host in hosts {
        match store::attached_table(host)? {
            None => host_sources::delete_host(host)?,
            Some(attached) => {
                let opened = OpenRelation::new(attached.oid, pg_sys::AccessShareLock);
                // SAFETY: `opened` keeps the relation open.
                let table = unsafe { HostTable::bind(attached.options()?, opened.0)? };
                if let Err(raised) = try_row(|| source_keys::delete_sources_without_row(&table))? {
                    pgrx::warning!(
                        "sources of {} stay until SELECT chatbot_repair(): its rows cannot be read: {}",
                        table.relation.name,
                        raised.message
                    );
                }
            }
        }
    }
    Ok(())
}
