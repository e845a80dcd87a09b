//! Sessions: conversations with a chatbot.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{Uuid, name};

use crate::pg::runtime::arguments;
use crate::pg::runtime::encoding::Text;
use crate::pg::session;
use crate::source::Jsonb;

/// Opens a session, which is a conversation with a chatbot, and returns its id.
#[pg_extern]
fn chatbot_session_open(
    chatbot_id: Option<i64>,
    metadata: default!(Option<Jsonb>, "'{}'"),
) -> Result<Uuid, ErrorReport> {
    Ok(session::open(arguments::check_chatbot_id(chatbot_id)?, arguments::check_metadata(metadata)?)?)
}

/// Adds a message to an open session and returns the message's id.
#[pg_extern]
fn chatbot_session_add_message(
    session_id: Option<Uuid>,
    role: Option<Text>,
    content: Option<Text>,
    metadata: default!(Option<Jsonb>, "'{}'"),
) -> Result<i64, ErrorReport> {
    let session_id = arguments::required("session_id", session_id)?;
    let role = arguments::one_of("role", role.as_deref(), &session::ROLES)?;
    Ok(session::add_message(
        session_id,
        role,
        &arguments::required("content", content)?,
        arguments::check_metadata(metadata)?,
    )?)
}

/// Returns the latest `max_messages` messages of a session, oldest first; all of them where it is NULL.
#[pg_extern(stable)]
fn chatbot_session_messages(
    session_id: Option<Uuid>,
    max_messages: default!(Option<i32>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(message_id, i64),
            name!(role, String),
            name!(content, String),
            name!(metadata, Jsonb),
            name!(created_at, TimestampWithTimeZone),
        ),
    >,
    ErrorReport,
> {
    let messages = session::messages(arguments::required("session_id", session_id)?, max_messages)?;
    Ok(TableIterator::new(messages.into_iter().map(|m| (m.id, m.role, m.content, m.metadata, m.created_at))))
}

/// Closes a session; returns false where it is not open.
#[pg_extern]
fn chatbot_session_close(session_id: Option<Uuid>) -> Result<bool, ErrorReport> {
    Ok(session::close(arguments::required("session_id", session_id)?)?)
}
