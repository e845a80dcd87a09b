//! Sessions: conversations with a chatbot, and their messages.

use pgrx::{Uuid, pg_sys};

use crate::error::{Error, Result};
use crate::ids::ChatbotId;
use crate::pg::store::session as store;
use crate::pg::store::session::Message;
use crate::session_id;
use crate::source::Jsonb;

/// The roles that a message can have.
pub const ROLES: [&str; 3] = ["user", "assistant", "system"];

/// Opens a session and returns its id.
#[allow(unsafe_code)]
pub fn open(chatbot_id: ChatbotId, metadata: Jsonb) -> Result<Uuid> {
    let mut random = [0u8; 8];
    // SAFETY: the buffer has the length that is passed.
    if !unsafe { pg_sys::pg_strong_random(random.as_mut_ptr().cast(), random.len()) } {
        return Err(Error::Internal("the system gives no random numbers".to_owned()));
    }
    let id = Uuid::from_bytes(session_id::new(chatbot_id, u64::from_ne_bytes(random)));
    store::insert_session(chatbot_id, id, metadata)?;
    Ok(id)
}

/// Adds a message to an open session and returns the message's id. Fails where the session is closed or does not exist.
pub fn add_message(session: Uuid, role: &str, content: &str, metadata: Jsonb) -> Result<i64> {
    let chatbot_id = chatbot_id(session)?;
    match store::lock_session(chatbot_id, session)? {
        Some(true) => store::insert_message(chatbot_id, session, role, content, metadata),
        Some(false) => Err(Error::SessionClosed { id: session.to_string() }),
        None => Err(not_found(session)),
    }
}

/// Returns the latest `max_messages` messages of a session, oldest first; `None`: all. Fails where there is no such session.
pub fn messages(session: Uuid, max_messages: Option<i32>) -> Result<Vec<Message>> {
    if let Some(n) = max_messages.filter(|n| *n < 1) {
        return Err(Error::invalid("max_messages", n, "1 or more, or NULL for all"));
    }
    let chatbot_id = chatbot_id(session)?;
    if !store::has_session(chatbot_id, session)? {
        return Err(not_found(session));
    }
    store::messages(chatbot_id, session, max_messages.map(i64::from))
}

/// Closes a session; returns false where it is not open.
pub fn close(session: Uuid) -> Result<bool> {
    session_id::chatbot_id(*session.as_bytes())
        .map_or(Ok(false), |chatbot_id| store::close_session(chatbot_id, session))
}

fn chatbot_id(session: Uuid) -> Result<ChatbotId> {
    session_id::chatbot_id(*session.as_bytes()).ok_or_else(|| not_found(session))
}

fn not_found(session: Uuid) -> Error {
    Error::SessionNotFound { id: session.to_string() }
}
