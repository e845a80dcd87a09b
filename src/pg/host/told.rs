//! Telling rows what became of them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::row::Row;
use super::table::{State, Table};
use crate::error::{Error, Result};
use crate::pg::owner::{ActingAs, Restriction};
use crate::pg::store::host_row;
use crate::pg::store::source::SourceKey;
use crate::pg::{report, sync};

thread_local! {
    static WRITING_BACK: Cell<u32> = const { Cell::new(0) };
}

/// Other triggers may write while rows are told; what those change is seen, but only so deep are rows told of it.
const DEEPEST: u32 = 3;

/// Rows that are corrected together, so that what they should say is not all kept until the last one is known.
const MANY: usize = 10_000;

/// While this lives, a status that is written asks for nothing: the rows are told what is known already.
pub struct WritingBack(u32);

impl WritingBack {
    /// From now on.
    pub fn new() -> Self {
        Self(WRITING_BACK.replace(WRITING_BACK.get() + 1))
    }
}

/// Whether rows are told right now.
pub fn is_writing_back() -> bool {
    WRITING_BACK.get() > 0
}

impl Drop for WritingBack {
    fn drop(&mut self) {
        WRITING_BACK.set(self.0);
    }
}

/// What rows say of their state, and what they should.
pub struct Told<'a> {
    table: &'a Table,
    shown: RefCell<HashMap<SourceKey, State>>,
    wrong: RefCell<Vec<(SourceKey, State)>>,
}

impl<'a> Told<'a> {
    /// Nothing yet.
    pub fn new(table: &'a Table) -> Self {
        Self { table, shown: RefCell::default(), wrong: RefCell::default() }
    }

    /// What a row says.
    pub fn shows(&self, key: SourceKey, row: Row) {
        if self.table.host.columns.written() {
            self.says(key, self.table.state(row, &State::synced()));
        }
    }

    /// What a row says.
    pub fn says(&self, key: SourceKey, state: State) {
        if self.table.host.columns.written() {
            self.shown.borrow_mut().insert(key, state);
        }
    }

    /// What it should.
    pub fn is(&self, key: SourceKey, outcome: std::result::Result<Option<sync::Synced>, &Error>) {
        self.should_say(
            key,
            match outcome {
                Ok(Some(_)) => State::synced(),
                Ok(None) => State::pending(),
                Err(error) => State::failed(report::in_a_line(error)),
            },
        );
    }

    /// What it should.
    pub fn should_say(&self, key: SourceKey, should: State) {
        let Some(shown) = self.shown.borrow_mut().remove(&key) else { return };
        let Table { status, processed, error, .. } = self.table;
        let differs = status.is_some() && shown.status != should.status
            || processed.is_some() && shown.processed != should.processed
            || error.is_some() && shown.error != should.error;
        if differs {
            self.wrong.borrow_mut().push((key, should));
        }
    }

    /// Corrects the rows, if they are many.
    pub fn write_many_back(&self, restriction: Restriction) -> Result<()> {
        if self.wrong.borrow().len() < MANY { Ok(()) } else { self.write_back(restriction) }
    }

    /// Corrects the rows.
    pub fn write_back(&self, restriction: Restriction) -> Result<()> {
        let wrong = self.wrong.take();
        if wrong.is_empty() || WRITING_BACK.get() >= DEEPEST {
            return Ok(());
        }
        let _quiet = WritingBack::new();
        let _owner = ActingAs::new(self.table.relation.owner, restriction);
        host_row::write_back(&self.table.relation.name, &self.table.host.columns, wrong)
    }
}
