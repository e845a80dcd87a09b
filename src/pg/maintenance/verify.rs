//! chatbot_verify(): compares what is stored with what should be.

use std::collections::HashMap;

use crate::error::Result;
use crate::ids::{HostId, ModelId};
use crate::pg::host::{self, InvalidRow};
use crate::pg::maintenance::refresh::{self, CurrentSettings, Outdated};
use crate::pg::runtime::memory::Scratch;
use crate::pg::runtime::{encoding, sql_error};
use crate::pg::search::visible_chatbots::VisibleChatbots;
use crate::pg::store::host_row::ReadMode;
use crate::pg::store::model::active_model_in_snapshot;
use crate::pg::store::verify as store;
use crate::pg::store::verify::{SourceProblem, StoredSource};
use crate::source::{RowInput, SourceInput, SourceKey, UnreadableRow};

/// A source that is not stored as it should be.
pub struct Problem {
    /// The kind of problem, in a word or two.
    pub problem: &'static str,
    /// The source that has the problem.
    pub key: SourceKey,
    /// The problem in words, with the values that were found and expected.
    pub detail: String,
}

/// Checks the extension's own tables, then every row of every host table. Rows are read in slices, so that only the problems
/// that were found are kept in memory.
pub fn verify() -> Result<Vec<Problem>> {
    encoding::require_utf8()?;
    let mut problems = Vec::new();
    let active = active_model_in_snapshot()?.map_or(ModelId(0), |active| active.id);
    for source in store::incomplete_sources(active)? {
        let problem = if source.has_other_model { "wrong model" } else { "incomplete" };
        problems.push(Problem { problem, key: source.key, detail: source.detail });
    }
    for SourceProblem { key, detail } in store::wrong_dimensions()? {
        problems.push(Problem { problem: "wrong dimensions", key, detail });
    }
    for SourceProblem { key, detail } in store::duplicate_failed_jobs()? {
        problems.push(Problem { problem: "double job", key, detail });
    }
    let hosts = host::hosts()?;
    for SourceProblem { key, detail } in store::sources_of_unknown_hosts(&hosts)? {
        problems.push(Problem { problem: "detached", key, detail });
    }
    for key in store::pending_sources_without_job()? {
        let detail = "it is pending, and no table has its text".to_owned();
        problems.push(Problem { problem: "detached", key, detail });
    }
    for key in store::sources_with_mismatched_chunks()? {
        let detail = "its chunks have other metadata, or are found where it is not".to_owned();
        problems.push(Problem { problem: "wrong attributes", key, detail });
    }
    let settings = CurrentSettings::new()?;
    for host in hosts {
        verify_host(host, &settings, &mut problems)?;
    }
    for SourceProblem { key, detail } in refresh::sources_with_outdated_words(&settings)? {
        problems.push(Problem { problem: "outdated", key, detail });
    }
    let visible = VisibleChatbots::of_caller()?;
    problems.retain(|problem| visible.contains(problem.key.chatbot_id));
    Ok(problems)
}

fn verify_host(host: HostId, settings: &CurrentSettings, problems: &mut Vec<Problem>) -> Result<()> {
    // The contents of a slice are in memory, and each may be large.
    const SLICE: i64 = 200;
    let mut after = None;
    loop {
        pgrx::check_for_interrupts!();
        let _scratch = Scratch::new();
        let known = store::sources_of_host(host, after, SLICE)?;
        let Some(last) = known.last() else { break };
        after = Some(last.reading.key);
        let keys: Vec<SourceKey> = known.iter().map(|stored| stored.reading.key).collect();
        // A locked table is left out; or_warn_if_locked() warns of it.
        let Some(rows) = host::read_inputs(host, &keys, ReadMode::Snapshot)?.map(Some).or_warn_if_locked(host, None)?
        else {
            break;
        };
        let rows: HashMap<SourceKey, RowInput> = rows.into_iter().map(|row| (row.key(), row)).collect();
        for stored in known {
            let key = stored.reading.key;
            let difference = match rows.get(&key) {
                None => Some(Difference { problem: "orphan", detail: "the table has no such row".to_owned() }),
                Some(RowInput::Unreadable(UnreadableRow { error, .. })) => Some(Difference {
                    problem: "unreadable",
                    detail: format!("{} ({})", sql_error::one_line_message(error), sql_error::sqlstate(error)),
                }),
                Some(RowInput::Readable(input)) => difference(&stored, input, settings)?,
            };
            problems.extend(difference.map(|Difference { problem, detail }| Problem { problem, key, detail }));
        }
    }
    for InvalidRow { key, error } in host::invalid_rows(host)? {
        problems.push(Problem { problem: "invalid id", key, detail: format!("{error}: the row is no source") });
    }
    host::for_each_key_in_snapshot(host, |keys| {
        let _scratch = Scratch::new();
        let missing = store::keys_without_source(host, &keys)?.into_iter();
        let detail = || "the row is no source".to_owned();
        problems.extend(missing.map(|key| Problem { problem: "missing", key, detail: detail() }));
        Ok(())
    })
}

/// A difference between a source and its row.
struct Difference {
    problem: &'static str,
    detail: String,
}

/// Compares a source with its row; `None` where nothing differs. A source with a job is not compared;
/// of one that is not synced only `enabled` is, since its status already says that it is not up to date.
fn difference(stored: &StoredSource, input: &SourceInput, settings: &CurrentSettings) -> Result<Option<Difference>> {
    let stale = |detail: &str| Ok(Some(Difference { problem: "stale", detail: detail.to_owned() }));
    if stored.has_job {
        return Ok(None);
    }
    if stored.enabled != input.enabled {
        return stale("searches find it and the row is not enabled, or the other way round");
    }
    if !stored.synced {
        return Ok(None);
    }
    if input.enabled && stored.content_hash.as_deref().is_some_and(|hash| !input.has_hash(hash)) {
        return stale("the row's text is another than the one that was embedded");
    }
    if !store::is_same_json(&stored.metadata, &input.metadata)? {
        return stale("the row's metadata is another than the source's");
    }
    Ok(match settings.outdated(&stored.reading)? {
        Some(Outdated::Cut(detail) | Outdated::Words(detail)) if input.enabled => {
            Some(Difference { problem: "outdated", detail })
        }
        _ => None,
    })
}
