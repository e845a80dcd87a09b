//! Writes to a source what Postgres raised while its host row was read or its status was written.

use crate::error::Result;
use crate::ids::HostId;
use crate::pg::store::source_key::IS_SOURCE;
use crate::pg::store::sync_error::SyncError;
use crate::pg::store::{chunk, write};
use crate::source::SourceKey;

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
