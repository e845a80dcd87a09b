//! Texts to requests to vectors: what goes together, what is tried again and when, and whether the answers are right.
//! Decides only; sending, waiting and the clock are the caller's.

use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::embedding::provider::{Answer, Limits};
use crate::embedding::retry::backoff;
use crate::error::{Fault, FaultKind, RetryClass};

/// The wait before the second attempt; the caller's transaction is open meanwhile.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The wait where a provider asks to wait and does not say how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
/// The least wait where a provider asks to wait: 0 seconds, or a date in the past, is no leave to ask without end.
const LEAST_WAIT: Duration = Duration::from_millis(100);
/// As many requests in a row may fail, with no text embedded in between, before the provider is to blame, and not a text:
/// a request is split no further then. One text, or some, that make requests fail are found sooner.
const MAX_FAILED_IN_A_ROW: u32 = 8;
/// More tokens than a request has.
const MAX_TOKENS: u64 = u32::MAX as u64;

/// Some of the texts, to be asked for together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The numbers of its texts, in the order in which they were pushed.
    pub range: Range<usize>,
    failed: u32,
    /// Whether it is a part of a request that failed.
    split: bool,
}

impl Batch {
    /// The time that a request may take, of the time that is left. A request of several texts leaves time to split it, so
    /// that one text to which no answer ever comes is found before the time is over.
    pub fn timeout(&self, left: Duration) -> Duration {
        match self.range.len() {
            0 | 1 if !self.split => left,
            _ if !self.split => left / 2,
            texts => left / (texts.ilog2() + 2),
        }
    }
}

/// What requests have used: their number, their inputs, and the tokens that the provider counted.
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
pub struct ResponseChecks {
    /// 0: any length, but one for all.
    pub dimensions: usize,
    /// The provider promises length 1.
    pub unit: bool,
    /// Make it length 1.
    pub normalise: bool,
}

/// How often and how long a request is tried again.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Attempts at a request, 1 or more.
    pub max_attempts: u32,
    /// Nothing is tried that would be after it.
    pub deadline: Instant,
}

/// What became of a text: its number and its vector, or why it has none.
pub type Embedded = (usize, Result<Vec<f32>, Fault>);

/// All requests for texts that come one after the other.
#[derive(Debug)]
pub struct Batcher {
    limits: Limits,
    expected: ResponseChecks,
    retry_policy: RetryPolicy,
    /// What the next request is made of.
    gathering: Range<usize>,
    gathered_bytes: usize,
    waiting: BinaryHeap<Waiting>,
    in_flight: usize,
    paused_until: Option<Instant>,
    /// Requests that failed for good since a text was embedded.
    failed_in_a_row: u32,
}

#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    due: Instant,
    work: Batch,
}

impl Ord for Waiting {
    // The earliest first, then the first in the text.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.order().cmp(&self.order())
    }
}

impl Waiting {
    /// Of the parts of a request that failed, single texts come first and then the largest, so that failures of one part
    /// are followed by other parts of the request and not by parts of that part.
    fn order(&self) -> (Instant, std::cmp::Reverse<usize>, usize) {
        let Batch { range, split, .. } = &self.work;
        let size = match range.len() {
            1 => usize::MAX,
            len => len,
        };
        (self.due, std::cmp::Reverse(if *split { size } else { 0 }), range.start)
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Batcher {
    /// Makes an empty batcher: texts are pushed, and requests taken, later.
    pub fn new(limits: Limits, expected: ResponseChecks, retry_policy: RetryPolicy) -> Self {
        Self {
            limits,
            expected,
            retry_policy,
            gathering: 0..0,
            gathered_bytes: 0,
            waiting: BinaryHeap::new(),
            in_flight: 0,
            paused_until: None,
            failed_in_a_row: 0,
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
            self.waiting.push(Waiting { due: now, work: Batch { range, failed: 0, split: false } });
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
    pub fn next(&mut self, now: Instant) -> Option<Batch> {
        if self.paused_until.is_some_and(|until| until > now) || self.waiting.peek()?.due > now || self.holds_back() {
            return None;
        }
        self.in_flight += 1;
        self.waiting.pop().map(|w| w.work)
    }

    /// Whether the next request is a part of one that failed, and has to wait for those in flight: if they fail too, the
    /// provider is to blame.
    fn holds_back(&self) -> bool {
        let is_part = self.waiting.peek().is_some_and(|waiting| waiting.work.split);
        let may_fail = usize::try_from(self.failed_in_a_row).unwrap_or(usize::MAX).saturating_add(self.in_flight);
        is_part && self.in_flight > 0 && may_fail >= MAX_FAILED_IN_A_ROW as usize
    }

    /// When [`Self::next`] may have something; none where nothing waits.
    pub fn wake_at(&self) -> Option<Instant> {
        let due = self.waiting.peek()?.due;
        if self.holds_back() {
            return None;
        }
        Some(self.paused_until.map_or(due, |until| due.max(until)))
    }

    /// Sends nothing before this instant, since the provider asked another session to wait.
    pub fn pause(&mut self, until: Instant) {
        self.paused_until = Some(self.paused_until.map_or(until, |u| u.max(until)));
    }

    /// Takes what became of a request: which texts are through with it, and what it took. An error is final for all
    /// texts that are not.
    pub fn done(
        &mut self,
        work: Batch,
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
                usage.requests += answer.more_requests;
                match self.take(&work.range, answer) {
                    Ok(vectors) => return Ok((self.take_each(work, vectors, now, jitter), usage)),
                    Err(message) => bad_answer(message),
                }
            }
            Err(fault) => fault,
        };
        Ok((self.failed(work, fault, now, jitter)?, usage))
    }

    /// What is through of a request whose answer has a vector for each text. Texts whose vector cannot be right are asked
    /// for again, without the others, until their attempts are over.
    fn take_each(&mut self, work: Batch, vectors: Vec<Embedded>, now: Instant, jitter: f64) -> Vec<Embedded> {
        let failed = work.failed + 1;
        let (mut through, wrong): (Vec<Embedded>, Vec<Embedded>) =
            vectors.into_iter().partition(|(_, vector)| vector.is_ok());
        if !through.is_empty() {
            self.failed_in_a_row = 0;
        }
        let due = now + backoff(FIRST_WAIT, failed, jitter);
        if failed >= self.retry_policy.max_attempts || due >= self.retry_policy.deadline {
            through.extend(wrong);
            return through;
        }
        let mut texts: Vec<usize> = wrong.into_iter().map(|(text, _)| text).collect();
        texts.sort_unstable();
        for neighbours in texts.chunk_by(|a, b| a + 1 == *b) {
            let range = neighbours[0]..neighbours[0] + neighbours.len();
            self.waiting.push(Waiting { due, work: Batch { range, failed, split: work.split } });
        }
        through
    }

    fn failed(&mut self, mut work: Batch, fault: Fault, now: Instant, jitter: f64) -> Result<Vec<Embedded>, Fault> {
        let deadline = self.retry_policy.deadline;
        let due = match fault.kind.retry_class() {
            RetryClass::Permanent => return Err(fault),
            // The provider is there, and says what it does not take: nothing is to be given up.
            RetryClass::Input if matches!(fault.kind, FaultKind::Refused | FaultKind::TooLong) => {
                if work.range.len() == 1 {
                    return Ok(vec![(work.range.start, Err(fault))]);
                }
                let middle = work.range.start + work.range.len() / 2;
                self.split(&work, &[work.range.start..middle, middle..work.range.end], now);
                return Ok(Vec::new());
            }
            RetryClass::Input => return Ok(self.find_culprit(work, fault, now)),
            RetryClass::Throttled => {
                let wait = fault.retry_after.unwrap_or(DEFAULT_WAIT).max(LEAST_WAIT);
                let until = now + wait;
                self.pause(until);
                until
            }
            RetryClass::Transient => {
                work.failed += 1;
                if work.failed >= self.retry_policy.max_attempts {
                    return match fault.kind {
                        // Where the provider cannot be reached, other texts fare no better.
                        FaultKind::Unreachable => Err(fault),
                        _ => Ok(self.find_culprit(work, fault, now)),
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

    /// A request failed for good, and one of its texts may be why: it is split, the text in its middle apart, which tells
    /// soonest whether the provider embeds anything at all. Where it does not, texts that wait in parts fail with these.
    fn find_culprit(&mut self, work: Batch, fault: Fault, now: Instant) -> Vec<Embedded> {
        self.failed_in_a_row += 1;
        let fails =
            |range: Range<usize>, fault: &Fault| range.map(|text| (text, Err(fault.clone()))).collect::<Vec<_>>();
        if self.failed_in_a_row >= MAX_FAILED_IN_A_ROW {
            let mut failed = fails(work.range, &fault);
            let (parts, rest): (Vec<Waiting>, Vec<Waiting>) =
                std::mem::take(&mut self.waiting).into_iter().partition(|waiting| waiting.work.split);
            self.waiting = rest.into();
            failed.extend(parts.into_iter().flat_map(|part| fails(part.work.range, &fault)));
            return failed;
        }
        let Range { start, end } = work.range;
        if end - start == 1 {
            return fails(start..end, &fault);
        }
        let middle = start + (end - start) / 2;
        self.split(&work, &[middle..middle + 1, start..middle, middle + 1..end], now);
        Vec::new()
    }

    /// Asks for parts of a request, once each: its texts had their attempts.
    fn split(&mut self, work: &Batch, parts: &[Range<usize>], now: Instant) {
        for range in parts.iter().filter(|range| !range.is_empty()) {
            self.waiting
                .push(Waiting { due: now, work: Batch { range: range.clone(), failed: work.failed, split: true } });
        }
    }

    /// The instant that nothing is waited for any longer.
    pub fn deadline(&self) -> Instant {
        self.retry_policy.deadline
    }

    /// Until when a provider asked not to be asked.
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Whether every text is through.
    pub fn is_done(&self) -> bool {
        self.gathering.is_empty() && self.waiting.is_empty() && self.in_flight == 0
    }

    /// The vectors of an answer, each of them right or with its fault, or what is wrong with the answer as a whole.
    fn take(&mut self, range: &Range<usize>, answer: Answer) -> Result<Vec<Embedded>, String> {
        let asked = range.len();
        if answer.vectors.len() != asked {
            return Err(format!("{} vectors for {asked} texts", answer.vectors.len()));
        }
        let mut seen = vec![false; asked];
        let mut dimensions = self.expected.dimensions;
        let mut checked = Vec::with_capacity(asked);
        for (at, vector) in answer.vectors {
            match seen.get_mut(at) {
                None => return Err(format!("a vector for text {at} of {asked}")),
                Some(true) => return Err(format!("two vectors for text {at}")),
                Some(seen) => *seen = true,
            }
            if dimensions == 0 {
                dimensions = vector.len();
            }
            checked.push((range.start + at, self.expected.check(vector, dimensions).map_err(bad_answer)));
        }
        self.expected.dimensions = dimensions;
        Ok(checked)
    }
}

impl ResponseChecks {
    /// A vector that can be right, normalised where that is wanted, or what is wrong with it.
    fn check(&self, mut vector: Vec<f32>, dimensions: usize) -> Result<Vec<f32>, String> {
        if vector.len() != dimensions {
            return Err(format!("a vector of {} dimensions, expected {dimensions}", vector.len()));
        }
        if !vector.iter().all(|x| x.is_finite()) {
            return Err("a vector with a number that is not finite".to_owned());
        }
        let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if length == 0.0 {
            return Err("a vector of zeros".to_owned());
        }
        if self.unit && (length - 1.0).abs() > 0.01 {
            return Err(format!("a vector of length {length:.3}, where the model's have length 1"));
        }
        if self.normalise {
            // What is halved in precision here was a float4 before.
            #[allow(clippy::cast_possible_truncation)]
            vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
        Ok(vector)
    }
}

/// Only the caller knows whose answer it was.
fn bad_answer(message: String) -> Fault {
    Fault { status: Some(200), ..Fault::new(FaultKind::BadAnswer, "", "", message) }
}

#[cfg(test)]
mod tests;
