//! Texts on their way through a built-in model. Threads of the extension embed them, where there are any; else the backend
//! does, when their vectors are wanted.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::embedding::batch::Usage;
use crate::embedding::local::{StaticModel, WordCache};
use crate::error::Result;
use crate::pg::model::embedding_call::BatchResult;
use crate::pg::model::speedometer;
use crate::pg::runtime::threads;
use crate::threads::pool::{Pool, Task};

/// Texts that one task embeds.
const TEXTS_A_TASK: usize = 25;
/// Texts whose vectors are waited for together: as many as a statement stores.
const TEXTS_A_WAIT: usize = 100;
/// Texts that are embedded before they are stored, where the backend embeds them and where threads do.
const TEXTS_AHEAD: usize = 200;
const TEXTS_AHEAD_OF_THREADS: usize = 400;

/// Texts on their way through a built-in model.
pub struct LocalCall {
    model: &'static StaticModel,
    pool: Rc<Pool>,
    /// The words that threads have met: each takes some, and gives them back.
    words: Arc<Mutex<Vec<WordCache>>>,
    /// Texts that no task has yet.
    gathered: Vec<String>,
    tasks: VecDeque<Task<Vec<Vec<f32>>>>,
    pushed: usize,
    embedded: usize,
}

impl LocalCall {
    /// Prepares a call.
    pub fn new(model: &'static StaticModel, pool: Rc<Pool>) -> Self {
        let (gathered, tasks) = (Vec::new(), VecDeque::new());
        Self { model, pool, words: Arc::default(), gathered, tasks, pushed: 0, embedded: 0 }
    }

    /// Adds a text and returns its number, from 0.
    pub fn push(&mut self, text: String) -> usize {
        self.gathered.push(text);
        self.pushed += 1;
        if self.gathered.len() >= TEXTS_A_TASK {
            self.start_task();
        }
        self.pushed - 1
    }

    /// Whether another text would be embedded soon; otherwise it would only wait in memory.
    pub fn wants_more(&self) -> bool {
        self.pushed - self.embedded < if self.pool.has_threads() { TEXTS_AHEAD_OF_THREADS } else { TEXTS_AHEAD }
    }

    /// Returns the vectors of the next texts. The built-in models have no price, so their tokens are not counted.
    pub fn wait(&mut self) -> Result<Vec<BatchResult>> {
        self.start_task();
        let first = self.embedded;
        let mut texts = Vec::new();
        while let Some(task) = if texts.len() < TEXTS_A_WAIT { self.tasks.pop_front() } else { None } {
            pgrx::check_for_interrupts!();
            let vectors = threads::finish(&self.pool, task)?;
            texts.extend((first + texts.len()..).zip(vectors.into_iter().map(Ok)));
        }
        self.embedded += texts.len();
        Ok(vec![BatchResult { range: first..self.embedded, texts, usage: Usage::default(), in_parts: None }])
    }

    fn start_task(&mut self) {
        let texts = std::mem::take(&mut self.gathered);
        if texts.is_empty() {
            return;
        }
        speedometer::count_embedded(&texts);
        let (model, words) = (self.model, self.words.clone());
        let bytes = texts.iter().map(String::len).sum();
        self.tasks.push_back(self.pool.start(bytes, move || {
            let mut known = words.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            let vectors = texts.iter().map(|text| model.embed(text, &mut known)).collect();
            words.lock().unwrap_or_else(PoisonError::into_inner).push(known);
            vectors
        }));
    }
}
