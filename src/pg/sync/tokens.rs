//! The tokens of a source's new chunks, read ahead on threads while its vectors are made and other sources are stored.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::vec;

use crate::error::{Error, Result};
use crate::pg::runtime::threads;
use crate::sync::reading::tokens;
use crate::text::analyzer::{Casing, Tokens};
use crate::text::content::ChunkedContent;
use crate::threads::pool::{Pool, Task};

/// Chunks whose tokens one task reads.
const CHUNKS_A_TASK: usize = 50;
/// Tasks that are started before their tokens are wanted. More would only fill memory with tokens.
const TASKS_AHEAD: usize = 4;

/// The tokens of some chunks of a source, in their order.
pub struct TokensAhead {
    pool: Rc<Pool>,
    chunked: Arc<ChunkedContent>,
    /// The chunks that no task reads yet: the place of each, and how its tokens are made.
    left: VecDeque<(usize, Option<Casing>)>,
    tasks: VecDeque<Task<Vec<Tokens>>>,
    ready: vec::IntoIter<Tokens>,
}

impl TokensAhead {
    /// Starts to read the tokens of chunks.
    pub fn start(pool: Rc<Pool>, chunked: Arc<ChunkedContent>, chunks: VecDeque<(usize, Option<Casing>)>) -> Self {
        let mut ahead = Self { pool, chunked, left: chunks, tasks: VecDeque::new(), ready: Vec::new().into_iter() };
        ahead.start_tasks();
        ahead
    }

    fn start_tasks(&mut self) {
        while self.tasks.len() < TASKS_AHEAD && !self.left.is_empty() {
            let some: Vec<_> = self.left.drain(..self.left.len().min(CHUNKS_A_TASK)).collect();
            let bytes = some.iter().map(|&(at, _)| self.chunked.text(at).len()).sum();
            let chunked = self.chunked.clone();
            self.tasks.push_back(self.pool.start(bytes, move || tokens(&chunked, &some)));
        }
    }

    /// Returns the tokens of the next chunk.
    pub fn next(&mut self) -> Result<Tokens> {
        loop {
            if let Some(tokens) = self.ready.next() {
                return Ok(tokens);
            }
            let missing = || Error::Internal("a chunk has no tokens".to_owned());
            let task = self.tasks.pop_front().ok_or_else(missing)?;
            self.start_tasks();
            self.ready = threads::finish(&self.pool, task)?.into_iter();
        }
    }
}
