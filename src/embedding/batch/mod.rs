//! Texts to requests to vectors: what goes together, what is tried again and when, and whether the answers are right.
//! Decides only; sending, waiting and the clock are the caller's.

use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::embedding::provider::{Answer, Limits};
use crate::embedding::retry::backoff;
use crate::error::{Fault, FaultKind, Nature};

/// The wait before the second attempt; the caller's transaction is open meanwhile.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The wait where a provider asks to wait and does not say how long.
const UNSAID_WAIT: Duration = Duration::from_secs(1);
/// More tokens than a request has.
const MAX_TOKENS: u64 = u32::MAX as u64;

/// Some of the texts, to be asked for together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Which.
    pub range: Range<usize>,
    failed: u32,
}

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests that were answered, one way or the other.
    pub requests: u64,
    /// Texts that were sent with them.
    pub inputs: u64,
    /// Tokens, where the provider counts them.
    pub tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, more: Self) {
        self.requests += more.requests;
        self.inputs += more.inputs;
        self.tokens += more.tokens;
    }
}

/// What an answer has to be.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// 0: any length, but one for all.
    pub dimensions: usize,
    /// The provider promises length 1.
    pub unit: bool,
    /// Make it length 1.
    pub normalise: bool,
}

/// How hard to try.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Attempts at a request, 1 or more.
    pub max_attempts: u32,
    /// Nothing is tried that would be after it.
    pub deadline: Instant,
}

/// What became of a text: its number and its vector, or why it has none.
pub type Embedded = (usize, Result<Vec<f32>, Fault>);

/// All requests for texts that come one after the other.
#[derive(Debug)]
pub struct Batch {
    limits: Limits,
    expected: Expected,
    patience: Patience,
    /// What the next request is made of.
    gathering: Range<usize>,
    gathered_bytes: usize,
    waiting: BinaryHeap<Waiting>,
    in_flight: usize,
    paused_until: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    due: Instant,
    work: Work,
}

impl Ord for Waiting {
    // The earliest first, then the first in the text.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.work.range.start).cmp(&(self.due, self.work.range.start))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Batch {
    /// No text yet.
    pub fn new(limits: Limits, expected: Expected, patience: Patience) -> Self {
        Self {
            limits,
            expected,
            patience,
            gathering: 0..0,
            gathered_bytes: 0,
            waiting: BinaryHeap::new(),
            in_flight: 0,
            paused_until: None,
        }
    }

    /// A further text, of this many bytes. Texts are numbered from 0.
    pub fn push(&mut self, bytes: usize, now: Instant) {
        if self.gathered_bytes + bytes > self.limits.bytes {
            self.flush(now);
        }
        self.gathering.end += 1;
        self.gathered_bytes += bytes;
        if self.gathering.len() >= self.limits.inputs {
            self.flush(now);
        }
    }

    /// Waits for no further text to fill a request.
    pub fn flush(&mut self, now: Instant) {
        if !self.gathering.is_empty() {
            let range = self.gathering.clone();
            self.gathering.start = range.end;
            self.waiting.push(Waiting { due: now, work: Work { range, failed: 0 } });
        }
        self.gathered_bytes = 0;
    }

    /// How many requests are full and not sent.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many are sent and not answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The next request that may be sent now. Every one that is taken has to be [`Self::done`].
    pub fn next(&mut self, now: Instant) -> Option<Work> {
        if self.paused_until.is_some_and(|until| until > now) || self.waiting.peek()?.due > now {
            return None;
        }
        self.in_flight += 1;
        self.waiting.pop().map(|w| w.work)
    }

    /// When [`Self::next`] may have something; none where nothing waits.
    pub fn wake_at(&self) -> Option<Instant> {
        let due = self.waiting.peek()?.due;
        Some(self.paused_until.map_or(due, |until| due.max(until)))
    }

    /// Sends nothing before this instant: somebody else was asked to wait.
    pub fn pause(&mut self, until: Instant) {
        self.paused_until = Some(self.paused_until.map_or(until, |u| u.max(until)));
    }

    /// Takes what became of a request: which texts are through with it, and what it took. An error is final for all
    /// texts that are not.
    pub fn done(
        &mut self,
        work: Work,
        outcome: Result<Answer, Fault>,
        now: Instant,
        jitter: f64,
    ) -> Result<(Vec<Embedded>, Usage), Fault> {
        self.in_flight -= 1;
        let mut usage = Usage { requests: 1, inputs: work.range.len() as u64, tokens: 0 };
        let fault = match outcome {
            Ok(answer) => {
                // What no request can have is nonsense, and sums overflow with it.
                usage.tokens = answer.tokens.min(MAX_TOKENS);
                match self.take(&work.range, answer) {
                    Ok(vectors) => return Ok((vectors, usage)),
                    // Only the caller knows who was asked.
                    Err(message) => Fault { status: Some(200), ..Fault::new(FaultKind::BadAnswer, "", "", message) },
                }
            }
            Err(fault) => fault,
        };
        Ok((self.failed(work, fault, now, jitter)?, usage))
    }

    fn failed(&mut self, mut work: Work, fault: Fault, now: Instant, jitter: f64) -> Result<Vec<Embedded>, Fault> {
        let deadline = self.patience.deadline;
        let due = match fault.kind.nature() {
            Nature::Permanent => return Err(fault),
            Nature::Input if work.range.len() == 1 => return Ok(vec![(work.range.start, Err(fault))]),
            Nature::Input => {
                let middle = work.range.start + work.range.len() / 2;
                for range in [work.range.start..middle, middle..work.range.end] {
                    self.waiting.push(Waiting { due: now, work: Work { range, failed: work.failed } });
                }
                return Ok(Vec::new());
            }
            Nature::Throttled => {
                let until = now + fault.retry_after.unwrap_or(UNSAID_WAIT);
                self.pause(until);
                until
            }
            Nature::Transient => {
                work.failed += 1;
                if work.failed >= self.patience.max_attempts {
                    // Where nobody is there, other texts fare no better. An answer that fails may be these texts' own.
                    return match fault.kind {
                        FaultKind::Unreachable => Err(fault),
                        _ => Ok(work.range.map(|text| (text, Err(fault.clone()))).collect()),
                    };
                }
                now + fault.retry_after.unwrap_or_default().max(backoff(FIRST_WAIT, work.failed, jitter))
            }
        };
        if due >= deadline {
            return Err(fault);
        }
        self.waiting.push(Waiting { due, work });
        Ok(Vec::new())
    }

    /// The instant that nothing is waited for any longer.
    pub fn deadline(&self) -> Instant {
        self.patience.deadline
    }

    /// Until when a provider asked not to be asked.
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Whether every text is through.
    pub fn is_done(&self) -> bool {
        self.gathering.is_empty() && self.waiting.is_empty() && self.in_flight == 0
    }

    /// The vectors of an answer, checked, or what is wrong with it.
    fn take(&mut self, range: &Range<usize>, answer: Answer) -> Result<Vec<Embedded>, String> {
        let asked = range.len();
        if answer.vectors.len() != asked {
            return Err(format!("{} vectors for {asked} texts", answer.vectors.len()));
        }
        let mut seen = vec![false; asked];
        let mut dimensions = self.expected.dimensions;
        let mut checked = Vec::with_capacity(asked);
        for (at, mut vector) in answer.vectors {
            match seen.get_mut(at) {
                None => return Err(format!("a vector for text {at} of {asked}")),
                Some(true) => return Err(format!("two vectors for text {at}")),
                Some(seen) => *seen = true,
            }
            if dimensions == 0 {
                dimensions = vector.len();
            }
            if vector.len() != dimensions {
                return Err(format!("a vector of {} dimensions, expected {dimensions}", vector.len()));
            }
            if !vector.iter().all(|x| x.is_finite()) {
                return Err("a vector with a number that is not finite".to_owned());
            }
            let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            if self.expected.unit && (length - 1.0).abs() > 0.01 {
                return Err(format!("a vector of length {length:.3}, where the model's have length 1"));
            }
            if self.expected.normalise && length > 0.0 {
                // What is halved in precision here was a float4 before.
                #[allow(clippy::cast_possible_truncation)]
                vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
            }
            checked.push((range.start + at, Ok(vector)));
        }
        self.expected.dimensions = dimensions;
        Ok(checked)
    }
}

#[cfg(test)]
mod tests;
