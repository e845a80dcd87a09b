//! What policies of row security leave to the caller of a function that runs as the extension's owner.

use std::collections::HashSet;

use pgrx::pg_sys;

use crate::error::Result;
use crate::pg::runtime::run_as::{Restriction, RunAs};
use crate::pg::store::tables::{Tables, is_restricted};
use crate::pg::store::verify;

/// The chatbots that the caller sees a source of; none where no policy restricts the caller.
pub struct VisibleChatbots(Option<HashSet<i64>>);

impl VisibleChatbots {
    /// Those of the role that called the function.
    pub fn of_caller() -> Result<Self> {
        // SAFETY: a number of this backend's: the role of the session, or the one that SET ROLE said.
        let caller = unsafe { pg_sys::GetOuterUserId() };
        if !is_restricted(Tables::whole()?.source.id, caller) {
            return Ok(Self(None));
        }
        let _caller = RunAs::new(caller, Restriction::Session);
        Ok(Self(Some(verify::chatbots()?)))
    }

    /// Whether a chatbot is one of them.
    pub fn contains(&self, chatbot_id: i64) -> bool {
        self.0.as_ref().is_none_or(|visible| visible.contains(&chatbot_id))
    }
}
