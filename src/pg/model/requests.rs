//! Requests for the texts of many sources, which run while a worker does something else.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::embedding::batch::Usage;
use crate::embedding::provider::{InputType, Model};
use crate::error::{Error, Fault, Result};
use crate::pg::model::Embedder;

/// The vectors of texts, and the faults of those that have no vector.
#[derive(Default)]
pub struct EmbeddedTexts {
    /// Vectors by their text, each with what it used.
    pub vectors: HashMap<String, (Vec<f32>, Usage)>,
    /// The texts that the provider refused, each with its fault.
    pub refused: HashMap<String, Fault>,
    /// Texts that were longer than the model takes, with the number of parts that each was embedded in.
    pub in_parts: HashMap<String, usize>,
    /// The error because of which the other texts have neither a vector nor a fault.
    pub error: Option<Error>,
    /// The time from the first request to the last response.
    pub elapsed: Duration,
}

/// Requests that are running. They end if this is dropped before finish() is called.
pub struct Requests {
    embedder: Embedder,
    /// Texts that were not handed out yet.
    waiting: VecDeque<String>,
    asked: Vec<String>,
    through: usize,
    flushed: bool,
    began: Instant,
    made: EmbeddedTexts,
}

impl Requests {
    /// Starts to embed texts and returns without waiting. No text may occur twice.
    pub fn start(model: &Model, texts: impl IntoIterator<Item = String>) -> Self {
        let mut requests = Self {
            embedder: Embedder::once(model, InputType::Document),
            waiting: texts.into_iter().collect(),
            asked: Vec::new(),
            through: 0,
            flushed: false,
            began: Instant::now(),
            made: EmbeddedTexts::default(),
        };
        requests.made.error = requests.push_texts().err();
        requests
    }

    /// Waits for all requests and returns their results.
    pub fn finish(mut self) -> EmbeddedTexts {
        while self.made.error.is_none() && (!self.waiting.is_empty() || self.through < self.asked.len()) {
            self.made.error = self.step().err();
        }
        self.made.elapsed = self.began.elapsed();
        if self.made.error.is_none() {
            self.embedder.done();
        }
        self.made
    }

    fn push_texts(&mut self) -> Result<()> {
        while self.embedder.wants_more()
            && let Some(text) = self.waiting.pop_front()
        {
            self.embedder.push(&text)?;
            self.asked.push(text);
        }
        if self.waiting.is_empty() && !std::mem::replace(&mut self.flushed, true) {
            self.embedder.flush()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        self.push_texts()?;
        let answered = self.embedder.wait()?;
        if answered.is_empty() && self.flushed {
            return Err(Error::Internal("texts were not answered".to_owned()));
        }
        for answer in answered {
            self.through += answer.texts.len();
            if let Some((number, parts)) = answer.in_parts {
                self.made.in_parts.insert(self.asked[number].clone(), parts);
            }
            let inputs = answer.usage.inputs.max(1);
            let mut left = answer.usage;
            for (number, outcome) in answer.texts {
                let text = self.asked[number].clone();
                match outcome {
                    Ok(vector) => {
                        let share = Usage {
                            requests: left.requests,
                            inputs: left.inputs.min(1),
                            tokens: (answer.usage.tokens / inputs).min(left.tokens),
                        };
                        left = Usage {
                            requests: 0,
                            inputs: left.inputs - share.inputs,
                            tokens: left.tokens - share.tokens,
                        };
                        self.made.vectors.insert(text, (vector, share));
                    }
                    Err(fault) => drop(self.made.refused.insert(text, fault)),
                }
            }
        }
        Ok(())
    }
}
