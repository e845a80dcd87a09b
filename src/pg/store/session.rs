//! Sessions and their messages.

use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;

use crate::error::Result;
use crate::ids::ChatbotId;
use crate::pg::store::{StatementMode, not_null, run, write};
use crate::source::Jsonb;

/// Inserts a session.
pub fn insert_session(chatbot_id: ChatbotId, id: Uuid, metadata: Jsonb) -> Result<()> {
    let sql = "INSERT INTO chatbot_sync.session (chatbot_id, id, metadata) VALUES ($1, $2, $3)";
    write(sql, &[chatbot_id.into(), id.into(), metadata.into()]).map(drop)
}

/// Returns whether a session is open, and locks it against being closed or deleted until the transaction ends; `None`: there
/// is no such session.
pub fn lock_session(chatbot_id: ChatbotId, id: Uuid) -> Result<Option<bool>> {
    let sql = "SELECT closed_at IS NULL
        FROM chatbot_sync.session
        WHERE chatbot_id = $1
            AND id = $2
        FOR SHARE";
    run(sql, &[chatbot_id.into(), id.into()], StatementMode::Write, |mut rows| {
        rows.next().map(|row| not_null(row.get(1))).transpose()
    })
}

/// Whether there is a session with this id.
pub fn has_session(chatbot_id: ChatbotId, id: Uuid) -> Result<bool> {
    let sql = "SELECT FROM chatbot_sync.session WHERE chatbot_id = $1 AND id = $2";
    run(sql, &[chatbot_id.into(), id.into()], StatementMode::Read, |rows| Ok(rows.len() > 0))
}

/// Closes a session; returns false where it is not open.
pub fn close_session(chatbot_id: ChatbotId, id: Uuid) -> Result<bool> {
    let sql = "UPDATE chatbot_sync.session
        SET closed_at = pg_catalog.now()
        WHERE chatbot_id = $1
            AND id = $2
            AND closed_at IS NULL";
    Ok(write(sql, &[chatbot_id.into(), id.into()])? > 0)
}

/// Inserts a message and returns its id.
pub fn insert_message(chatbot_id: ChatbotId, session: Uuid, role: &str, content: &str, metadata: Jsonb) -> Result<i64> {
    let sql = "INSERT INTO chatbot_sync.message (chatbot_id, session_id, role, content, metadata)
        VALUES ($1, $2, $3, $4, $5)
        RETURNING id";
    let args = [chatbot_id.into(), session.into(), role.into(), content.into(), metadata.into()];
    run(sql, &args, StatementMode::Write, |rows| not_null(rows.first().get_one()))
}

/// A message of a session.
pub struct Message {
    /// The message's id.
    pub id: i64,
    /// One of `user`, `assistant` and `system`.
    pub role: String,
    /// The message's text.
    pub content: String,
    /// The message's metadata.
    pub metadata: Jsonb,
    /// When it was added.
    pub created_at: TimestampWithTimeZone,
}

/// Returns the latest `limit` messages of a session, oldest first; `None`: all.
pub fn messages(chatbot_id: ChatbotId, session: Uuid, limit: Option<i64>) -> Result<Vec<Message>> {
    let sql = "SELECT id, role, content, metadata, created_at
        FROM (
            SELECT *
            FROM chatbot_sync.message
            WHERE chatbot_id = $1
                AND session_id = $2
            ORDER BY id DESC
            LIMIT $3
        ) AS latest
        ORDER BY id";
    run(sql, &[chatbot_id.into(), session.into(), limit.into()], StatementMode::Read, |rows| {
        rows.map(|row| {
            Ok(Message {
                id: not_null(row.get(1))?,
                role: not_null(row.get(2))?,
                content: not_null(row.get(3))?,
                metadata: not_null(row.get(4))?,
                created_at: not_null(row.get(5))?,
            })
        })
        .collect()
    })
}
