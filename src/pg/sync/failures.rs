//! What becomes of sources that cannot be embedded now: they stay pending, or are marked as failed.

use crate::error::{Error, Result};
use crate::pg::runtime::subtransaction::try_row;
use crate::pg::store::log::{self, LogEntry};
use crate::pg::store::source::{self, SourceRow};
use crate::pg::store::source_error;
use crate::pg::store::sync_error::SyncError;
use crate::pg::sync::SyncRun;
use crate::pg::sync::input::{OnFailure, RowHandling};
use crate::source::{SourceInput, SourceKey, SourceStatus, UnreadableRow};

/// The number of failures that are logged with one statement.
const LOG_BATCH: usize = 1000;

impl SyncRun<'_> {
    pub fn fail_unreadable(&mut self, unreadable: UnreadableRow) -> Result<()> {
        let UnreadableRow { key, host, enabled, error } = unreadable;
        self.fail_with(key, error, |failed| source_error::mark_unreadable(&key, host, enabled, failed))
    }

    /// Leaves the source of a host row pending, with a job for the time when `chatbot_sync.enabled` is on again. Fails for a
    /// source without a host table, since its content is stored nowhere.
    pub fn postpone(&mut self, input: &SourceInput, row: Option<&SourceRow>) -> Result<()> {
        let host = input.host.ok_or(Error::Disabled)?;
        match row {
            Some(row) => source::update_attributes(input, SourceStatus::Pending, row)?,
            None => source::insert_pending(input)?,
        }
        self.postponed.push((input.key, host));
        self.tell(input.key, Ok(None));
        Ok(())
    }

    pub fn fail(&mut self, input: SourceInput, error: Error) -> Result<()> {
        self.fail_with(input.key, error, |failed| source_error::mark_failed(&input, failed))
    }

    pub fn fail_with(
        &mut self,
        key: SourceKey,
        error: Error,
        mark: impl FnOnce(&SyncError) -> Result<()>,
    ) -> Result<()> {
        self.spent.syncs(1);
        if self.on_failure == OnFailure::Raise || !error.is_about_one_source() {
            return Err(error);
        }
        if self.on_failure == OnFailure::Mark {
            let failed = SyncError::new(&error);
            self.mark_failed(&key, || mark(&failed))?;
            self.failed.add(&key, &error);
            self.failures.push(LogEntry::failed(key, self.model.id, failed.code));
            if self.failures.len() >= LOG_BATCH {
                log::insert(&std::mem::take(&mut self.failures))?;
            }
        }
        self.tell(key, Err(&error));
        Ok(())
    }

    /// Marks a source as failed. With [`RowHandling::EachAlone`], an error that Postgres raises meanwhile becomes a WARNING.
    pub fn mark_failed(&self, key: &SourceKey, mark: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.handling == RowHandling::Together {
            return mark();
        }
        if let Err(raised) = try_row(mark)? {
            pgrx::warning!("{key}: chatbot_sync.source does not take its error: {}", raised.message);
        }
        Ok(())
    }
}
