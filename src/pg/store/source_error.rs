//! Errors and notes in the rows of sources: why a source is not synced, or what its reader should know.

use std::time::Duration;

use crate::error::Result;
use crate::ids::HostId;
use crate::pg::store::source::attribute_args;
use crate::pg::store::source_key::IS_SOURCE;
use crate::pg::store::sync_error::SyncError;
use crate::pg::store::{chunk, write};
use crate::source::{SourceInput, SourceKey};

/// Marks a source as failed. Its vectors stay, and searches find them if the source is enabled.
pub fn mark_failed(input: &SourceInput, failed: &SyncError) -> Result<()> {
    let sql = "INSERT INTO chatbot_sync.source AS s (
            chatbot_id, source_type, source_id, metadata, enabled, host, error_code, error, status, attempts
        )
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'error', 1)
        ON CONFLICT (chatbot_id, source_type, source_id) DO UPDATE
        SET status = 'error',
            error_code = $7,
            error = $8,
            attempts = s.attempts + 1,
            enabled = $5,
            host = COALESCE($6, s.host)";
    let error = [failed.code.clone().into(), failed.message.clone().into()];
    write(sql, &input.key.args_and(attribute_args(input).into_iter().chain(error)))?;
    chunk::set_enabled(&input.key, input.enabled)
}

/// Records a failed attempt of the queue: the source is pending and tried again after `wait`; `None`: it is in error, and
/// not tried again by itself.
pub fn mark_attempt(input: &SourceInput, failed: &SyncError, attempts: i32, wait: Option<Duration>) -> Result<()> {
    let sql = "INSERT INTO chatbot_sync.source AS s (
            chatbot_id, source_type, source_id, metadata, enabled, host, error_code, error, attempts, next_attempt_at, status
        )
        VALUES (
            $1, $2, $3, $4, $5, $6, $7, $8, $9,
            pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $10),
            CASE WHEN $10 IS NULL THEN 'error' ELSE 'pending' END
        )
        ON CONFLICT (chatbot_id, source_type, source_id) DO UPDATE
        SET status = EXCLUDED.status,
            error_code = $7,
            error = $8,
            attempts = $9,
            next_attempt_at = EXCLUDED.next_attempt_at,
            enabled = $5,
            host = COALESCE($6, s.host)";
    let attempt = [
        failed.code.clone().into(),
        failed.message.clone().into(),
        attempts.into(),
        wait.map(|wait| wait.as_secs_f64()).into(),
    ];
    write(sql, &input.key.args_and(attribute_args(input).into_iter().chain(attempt))).map(drop)
}

/// Writes into the row of a synced source what its reader should know, with the SQLSTATE of a warning (01000). It stays
/// until texts of the source are embedded again.
pub fn write_note(key: &SourceKey, note: &str) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.source
        SET error_code = '01000',
            error = $4
        WHERE {IS_SOURCE}
            AND status <> 'error'"
    );
    write(&sql, &key.args_and([note.to_owned().into()])).map(drop)
}

/// Marks the source of a row that cannot be read as failed; its vectors stay. `enabled` is `None` where that cannot be read
/// either: then it stays as it is.
pub fn mark_unreadable(key: &SourceKey, host: Option<HostId>, enabled: Option<bool>, failed: &SyncError) -> Result<()> {
    let sql = "INSERT INTO chatbot_sync.source AS s (
            chatbot_id, source_type, source_id, host, enabled, error_code, error, status, attempts
        )
        VALUES ($1, $2, $3, $4, COALESCE($5, true), $6, $7, 'error', 1)
        ON CONFLICT (chatbot_id, source_type, source_id) DO UPDATE
        SET status = 'error',
            error_code = $6,
            error = $7,
            attempts = s.attempts + 1,
            next_attempt_at = NULL,
            enabled = COALESCE($5, s.enabled),
            host = COALESCE($4, s.host)";
    let args = [host.into(), enabled.into(), failed.code.clone().into(), failed.message.clone().into()];
    write(sql, &key.args_and(args))?;
    match enabled {
        Some(enabled) => chunk::set_enabled(key, enabled),
        None => Ok(()),
    }
}

/// Records why a row did not take its status, until the source is synced again. A source in error keeps the reason for that.
pub fn note_refused_status(key: &SourceKey, refused: &SyncError) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.source
        SET error_code = $4,
            error = $5
        WHERE {IS_SOURCE}
            AND status <> 'error'"
    );
    write(&sql, &key.args_and([refused.code.clone().into(), refused.message.clone().into()])).map(drop)
}
