//! Which chatbots the policies of row security leave to the caller of a function that runs as the extension's owner.

use std::collections::HashSet;

use pgrx::pg_sys;

use crate::error::Result;
use crate::ids::ChatbotId;
use crate::pg::runtime::run_as::{Restriction, RunAs};
use crate::pg::store::tables::{Tables, is_restricted};
use crate::pg::store::verify;

/// The chatbots of which the caller sees a source; `None` where no policy restricts the caller.
pub struct VisibleChatbots(Option<HashSet<ChatbotId>>);

impl VisibleChatbots {
    /// Returns the chatbots that the role which called the function may see.
    pub fn of_caller() -> Result<Self> {
        // SAFETY: a number of this backend's: the role of the session, or the one of its last SET ROLE.
        let caller = unsafe { pg_sys::GetOuterUserId() };
        if !is_restricted(Tables::extension_tables()?.source.id, caller) {
            return Ok(Self(None));
        }
        let _caller = RunAs::new(caller, Restriction::Session);
        Ok(Self(Some(verify::chatbots()?)))
    }

    /// Whether the caller may see a chatbot.
    pub fn contains(&self, chatbot_id: ChatbotId) -> bool {
        self.0.as_ref().is_none_or(|visible| visible.contains(&chatbot_id))
    }
}
