//! What is stored against what should be.

use std::collections::{HashMap, HashSet};

use super::host;
use super::store::model::active_model;
use super::store::source::SourceKey;
use super::store::verify as store;
use crate::error::Result;

/// Something that is not as it should be.
pub struct Problem {
    /// In a word or two.
    pub problem: &'static str,
    /// Of which source.
    pub key: SourceKey,
    /// What, exactly.
    pub detail: String,
}

/// Looks at everything: our own tables first, then every row of every host table, a thousand at a time.
pub fn verify() -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let active = active_model()?.map_or(0, |active| active.id);
    for (key, found, other) in store::incomplete(active)? {
        let problem = if other { "wrong model" } else { "incomplete" };
        problems.push(Problem { problem, key, detail: found });
    }
    for (key, detail) in store::wrong_dimensions()? {
        problems.push(Problem { problem: "wrong dimensions", key, detail });
    }
    let hosts: HashSet<i32> = host::hosts()?.into_iter().collect();
    for (key, host) in store::of_unknown_hosts(&hosts.iter().copied().collect::<Vec<_>>())? {
        let detail = format!("its table, host {host}, is not attached any more");
        problems.push(Problem { problem: "detached", key, detail });
    }
    for host in hosts {
        verify_host(host, &mut problems)?;
    }
    Ok(problems)
}

fn verify_host(host: i32, problems: &mut Vec<Problem>) -> Result<()> {
    let rows: HashSet<SourceKey> = host::keys(host)?.into_iter().collect();
    let mut known: HashMap<SourceKey, Option<Vec<u8>>> = store::of_host(host)?;
    known.retain(|key, _| {
        let there = rows.contains(key);
        if !there {
            problems.push(Problem { problem: "orphan", key: *key, detail: "the table has no such row".to_owned() });
        }
        there
    });
    for key in rows.iter().filter(|key| !known.contains_key(key)) {
        problems.push(Problem { problem: "missing", key: *key, detail: "the row is no source".to_owned() });
    }
    host::each_item_of(host, rows.into_iter().collect(), |item| {
        // None: it waits, or is not to be embedded, and says so.
        if let Some(Some(hash)) = known.get(&item.key)
            && item.enabled
            && hash != item.content.hash()
        {
            let detail = "the row's text is another than the one that was embedded".to_owned();
            problems.push(Problem { problem: "stale", key: item.key, detail });
        }
        Ok(())
    })
}
