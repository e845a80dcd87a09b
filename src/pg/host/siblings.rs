//! The attachments of one table to several chatbots, read from its triggers.

use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::error::Result;
use crate::host::HostOptions;
use crate::pg::store::host_triggers as store;
use crate::source::Sibling;

/// Returns the other attachments of an attached relation.
///
/// # Safety
/// The relation is open.
pub unsafe fn find(host: &HostOptions, relation: pg_sys::Relation) -> Rc<[Sibling]> {
    if host.chatbot_id.is_none() {
        return Rc::new([]);
    }
    // SAFETY: the relation is open, as the caller promises.
    let others = unsafe { attachments(relation) }.into_iter().filter(|other| other.host != host.host);
    let sibling = |other: HostOptions| Some(Sibling { chatbot_id: other.chatbot_id?, source_type: other.source_type });
    others.filter_map(sibling).collect()
}

/// Returns the attachments of tables that are attached to several chatbots: for each attachment, all of its table.
pub fn find_in_all_tables() -> Result<HashMap<Sibling, Vec<Sibling>>> {
    let mut by_table: HashMap<pg_sys::Oid, Vec<Sibling>> = HashMap::new();
    for table in store::all_attached_tables()? {
        let host = table.options()?;
        if let Some(chatbot_id) = host.chatbot_id {
            let source_type = host.source_type;
            by_table.entry(table.oid).or_default().push(Sibling { chatbot_id, source_type });
        }
    }
    let shared = by_table.into_values().filter(|siblings| siblings.len() > 1);
    let each = |all: Vec<Sibling>| all.clone().into_iter().map(move |sibling| (sibling, all.clone()));
    Ok(shared.flat_map(each).collect())
}

/// Reads the attachments of a relation from its triggers.
unsafe fn attachments(relation: pg_sys::Relation) -> Vec<HostOptions> {
    let mut found = Vec::new();
    // SAFETY: the relation is open, as the caller promises, which keeps its trigger descriptor.
    unsafe {
        let Some(triggers) = (*relation).trigdesc.as_ref() else { return found };
        for at in 0..usize::try_from(triggers.numtriggers).unwrap_or(0) {
            let trigger = &*triggers.triggers.add(at);
            // Each attachment has one such trigger.
            let name = CStr::from_ptr(trigger.tgname).to_string_lossy();
            if trigger.tgnargs != 1 || !name.starts_with("chatbot_sync_") || !name.ends_with("_insert") {
                continue;
            }
            found.extend(HostOptions::parse(&CStr::from_ptr(*trigger.tgargs).to_string_lossy()).ok());
        }
    }
    found
}
