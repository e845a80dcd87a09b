//! The words of a source's new chunks, read ahead on threads while its vectors are made and other sources are stored.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::vec;

use crate::error::{Error, Result};
use crate::pg::runtime::threads;
use crate::search::lexicon::{WordReader, Words};
use crate::sync::reading::words;
use crate::text::content::ChunkedContent;
use crate::threads::pool::{Pool, Task};

/// Chunks whose words one task reads.
const CHUNKS_A_TASK: usize = 50;
/// Tasks that are started before their words are wanted. More would only fill memory.
const TASKS_AHEAD: usize = 4;

/// The words of some chunks of a source, in their order.
pub struct WordsAhead {
    pool: Rc<Pool>,
    chunked: Arc<ChunkedContent>,
    /// The chunks that no task reads yet: the place of each, and what reads it.
    left: VecDeque<(usize, Option<WordReader>)>,
    tasks: VecDeque<Task<Vec<Option<Words>>>>,
    ready: vec::IntoIter<Option<Words>>,
}

impl WordsAhead {
    /// Starts to read the words of chunks.
    pub fn start(pool: Rc<Pool>, chunked: Arc<ChunkedContent>, chunks: VecDeque<(usize, Option<WordReader>)>) -> Self {
        let mut ahead = Self { pool, chunked, left: chunks, tasks: VecDeque::new(), ready: Vec::new().into_iter() };
        ahead.start_tasks();
        ahead
    }

    fn start_tasks(&mut self) {
        while self.tasks.len() < TASKS_AHEAD && !self.left.is_empty() {
            let some: Vec<_> = self.left.drain(..self.left.len().min(CHUNKS_A_TASK)).collect();
            let bytes = some.iter().map(|(at, _)| self.chunked.text(*at).len()).sum();
            let chunked = self.chunked.clone();
            self.tasks.push_back(self.pool.start(bytes, move || words(&chunked, &some)));
        }
    }

    /// Returns the words of the next chunk; `None` where it had no reader.
    pub fn next(&mut self) -> Result<Option<Words>> {
        loop {
            if let Some(words) = self.ready.next() {
                return Ok(words);
            }
            let missing = || Error::Internal("a chunk has no words".to_owned());
            let task = self.tasks.pop_front().ok_or_else(missing)?;
            self.start_tasks();
            self.ready = threads::finish(&self.pool, task)?.into_iter();
        }
    }
}
