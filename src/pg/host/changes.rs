//! The changes that an UPDATE made to sources: which are gone, which have another key, which are to be synced. The transition tables are
//! read again for each of these questions and not kept in memory: Postgres keeps large ones on disk.

use crate::error::Result;
use crate::pg::host::key_set::KeySet;
use crate::pg::host::row::{Row, TransitionTableScan};
use crate::pg::host::status_writeback::is_writing_back;
use crate::pg::host::table::HostTable;
use crate::pg::store::delete::{self, Relocation};
use crate::source::SourceKey;

/// The number of keys that are deleted or moved by one statement.
const SLICE: usize = 10_000;

/// A set of row positions in a transition table, as a bitmap.
#[derive(Default)]
pub struct RowPositions {
    bits: Vec<u64>,
}

impl RowPositions {
    fn add(&mut self, at: usize) {
        if self.bits.len() <= at / 64 {
            self.bits.resize(at / 64 + 1, 0);
        }
        self.bits[at / 64] |= 1 << (at % 64);
    }

    /// Whether a position is in the set.
    pub fn has(&self, at: usize) -> bool {
        self.bits.get(at / 64).is_some_and(|bits| bits & (1 << (at % 64)) != 0)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }
}

/// The changes that an UPDATE made to the sources of a host table.
pub struct Changes<'a, R: Fn() -> (TransitionTableScan, TransitionTableScan)> {
    /// Positions of the rows that are to be synced, in the transition table of the new rows.
    pub upserts: RowPositions,
    table: &'a HostTable,
    rows: R,
    any_gone: bool,
    any_moved: bool,
}

/// One updated row that concerns its source. Both keys are `None` where the row kept its key; one of them is where the row
/// is no source on that side of the UPDATE.
struct Change {
    before: Option<SourceKey>,
    after: Option<SourceKey>,
    /// Whether there is a row after the UPDATE.
    is_upsert: bool,
}

impl<'a, R: Fn() -> (TransitionTableScan, TransitionTableScan)> Changes<'a, R> {
    /// Compares the old and the new rows of an UPDATE. `rows` opens both transition tables, which have the same order.
    pub fn between(table: &'a HostTable, rows: R) -> Result<Self> {
        let mut changes = Self { upserts: RowPositions::default(), table, rows, any_gone: false, any_moved: false };
        let (mut upserts, mut any_gone, mut any_moved) = (RowPositions::default(), false, false);
        changes.walk(|at, change| {
            if change.is_upsert {
                upserts.add(at);
            }
            any_gone |= change.before.is_some() && change.after.is_none();
            any_moved |= change.before.is_some() && change.after.is_some();
            Ok(())
        })?;
        (changes.upserts, changes.any_gone, changes.any_moved) = (upserts, any_gone, any_moved);
        Ok(changes)
    }

    fn walk(&self, mut act: impl FnMut(usize, Change) -> Result<()>) -> Result<()> {
        let (mut old, mut new) = (self.rows)();
        let key = |row: Option<Row>| row.and_then(|row| self.table.key(row));
        let mut at = 0;
        loop {
            let (before, after) = (old.next(), new.next());
            let is_upsert = after.is_some();
            match (before, after) {
                (None, None) => return Ok(()),
                (Some(before), Some(after)) => {
                    let asks_again = || !is_writing_back() && self.table.requests_sync(before, after);
                    if self.table.differs(before, after)? || asks_again() {
                        let (before, after) = (self.table.key(before), self.table.key(after));
                        let (before, after) = if before == after { (None, None) } else { (before, after) };
                        act(at, Change { before, after, is_upsert })?;
                    }
                }
                // A row moved to another partition, where it was refused: one table has fewer rows than the other. From here
                // on rows are not pairs, and each counts for itself.
                (before, after) => act(at, Change { before: key(before), after: key(after), is_upsert })?,
            }
            at += 1;
        }
    }

    /// Calls `act` with the keys of sources that no row has any more, in slices. A row that has taken over such a key is
    /// among the upserts, which callers handle afterwards.
    pub fn for_each_deleted(&self, mut act: impl FnMut(&[SourceKey]) -> Result<()>) -> Result<()> {
        if !self.any_gone {
            return Ok(());
        }
        let mut slice = Vec::new();
        self.walk(|_, change| {
            if let (Some(before), None) = (change.before, change.after) {
                slice.push(before);
            }
            if slice.len() < SLICE { Ok(()) } else { act(&std::mem::take(&mut slice)) }
        })?;
        act(&slice)
    }

    /// Moves sources, with their vectors, to the keys that their rows have now, if `is_selected` is true for the old and the new key.
    pub fn relocate(&self, is_selected: impl Fn(&SourceKey, &SourceKey) -> bool) -> Result<()> {
        if !self.any_moved {
            return Ok(());
        }
        let (mut from, mut crossing) = (KeySet::default(), false);
        self.for_each_moved(&is_selected, |before, _| {
            from.add(before);
        })?;
        self.for_each_moved(&is_selected, |_, after| crossing |= from.contains(&after))?;
        drop(from);
        if !crossing {
            return self.relocate_each(&is_selected, |from, to| Relocation { from, to });
        }
        // A new key is the old key of another source, as when two ids are swapped: all sources go to temporary keys first,
        // so that none replaces another.
        self.relocate_each(&is_selected, |from, _| Relocation { from, to: delete::temporary_key(from) })?;
        self.relocate_each(&is_selected, |from, to| Relocation { from: delete::temporary_key(from), to })
    }

    /// Calls `act` with the old and the new key of each source whose key changed and that `is_selected` accepts.
    pub fn for_each_moved(
        &self,
        is_selected: impl Fn(&SourceKey, &SourceKey) -> bool,
        mut act: impl FnMut(SourceKey, SourceKey),
    ) -> Result<()> {
        if !self.any_moved {
            return Ok(());
        }
        self.walk(|_, change| {
            if let (Some(before), Some(after)) = (change.before, change.after)
                && is_selected(&before, &after)
            {
                act(before, after);
            }
            Ok(())
        })
    }

    fn relocate_each(
        &self,
        is_selected: &impl Fn(&SourceKey, &SourceKey) -> bool,
        relocation: impl Fn(SourceKey, SourceKey) -> Relocation,
    ) -> Result<()> {
        let mut slice = Vec::new();
        self.walk(|_, change| {
            if let (Some(before), Some(after)) = (change.before, change.after)
                && is_selected(&before, &after)
            {
                slice.push(relocation(before, after));
            }
            if slice.len() < SLICE { Ok(()) } else { delete::relocate_sources(&std::mem::take(&mut slice)) }
        })?;
        delete::relocate_sources(&slice)
    }

    /// Calls `act` with each key that changed: the old one and the new one.
    pub fn for_each_changed_key(&self, mut act: impl FnMut(SourceKey)) -> Result<()> {
        self.walk(|_, change| {
            change.before.into_iter().chain(change.after).for_each(&mut act);
            Ok(())
        })
    }
}
