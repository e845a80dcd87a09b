//! Groups texts into requests, decides which are tried again and when, and checks the responses. It does no I/O:
//! sending, waiting and the clock are the caller's.

mod response_checks;

use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::embedding::provider::{Answer, Limits};
use crate::embedding::retry::backoff;
use crate::error::{Fault, FaultKind, RetryClass};

pub use response_checks::ResponseChecks;
use response_checks::bad_answer;

/// The wait before the second attempt. It is short, because the caller's transaction is open meanwhile.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The wait where a provider asks to wait without saying how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
/// The least wait where a provider asks to wait. A provider that says 0 seconds, or a date in the past, would otherwise
/// be asked without pause.
const MIN_WAIT: Duration = Duration::from_millis(100);
/// The number of requests in a row that may fail, with no text embedded in between, before the provider is taken to be the reason
/// and not a text. From then on no request is split. Single texts that make requests fail are found with fewer.
const MAX_FAILED_IN_A_ROW: u32 = 8;
/// The largest number of tokens that is believed of one request.
const MAX_TOKENS: u64 = u32::MAX as u64;

/// Consecutive texts that go into one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The numbers of its texts, in the order in which they were pushed.
    pub range: Range<usize>,
    failed: u32,
    /// Whether it is a part of a request that failed.
    split: bool,
}

impl Batch {
    /// Returns how long a request may take, given the time left until the deadline. A request of several texts, or a
    /// part of one that failed, only gets a share of it, so that time remains to split it further and find one text
    /// that never gets a response.
    pub fn timeout(&self, left: Duration) -> Duration {
        match self.range.len() {
            0 | 1 if !self.split => left,
            _ if !self.split => left / 2,
            texts => left / (texts.ilog2() + 2),
        }
    }
}

/// The usage of requests: their number, their texts, and the tokens that the provider counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of requests that were sent, whether they failed or not.
    pub requests: u64,
    /// The number of texts in them.
    pub inputs: u64,
    /// The number of tokens; 0 where the provider does not count them.
    pub tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, more: Self) {
        self.requests += more.requests;
        self.inputs += more.inputs;
        self.tokens += more.tokens;
    }
}

/// The limits of attempts at a request, in number and in time.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// The largest number of attempts for a request, 1 or more.
    pub max_attempts: u32,
    /// The instant after which no request is started or waited for.
    pub deadline: Instant,
}

/// The result of one text: its number, and its vector or the fault.
pub type TextResult = (usize, Result<Vec<f32>, Fault>);

/// The requests for a sequence of texts: texts are pushed, requests are taken with [`Self::next`] and their outcomes
/// given back with [`Self::done`].
#[derive(Debug)]
pub struct Batcher {
    limits: Limits,
    expected: ResponseChecks,
    retry_policy: RetryPolicy,
    /// The numbers of the texts for the next request, which is not full yet.
    gathering: Range<usize>,
    gathered_bytes: usize,
    waiting: BinaryHeap<ScheduledBatch>,
    in_flight: usize,
    paused_until: Option<Instant>,
    /// The number of requests that failed for good since a text was last embedded.
    failed_in_a_row: u32,
}

#[derive(Debug, PartialEq, Eq)]
struct ScheduledBatch {
    due: Instant,
    work: Batch,
}

impl Ord for ScheduledBatch {
    // `BinaryHeap` returns the largest: the earliest due, then the one with the lowest text numbers.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.order().cmp(&self.order())
    }
}

impl ScheduledBatch {
    /// The sort key. Of the parts of a failed request, single texts come first and then the largest parts. So after one
    /// part failed, the next request is another part of the whole and not a part of that part, which shows sooner
    /// whether the provider works.
    fn order(&self) -> (Instant, std::cmp::Reverse<usize>, usize) {
        let Batch { range, split, .. } = &self.work;
        let size = match range.len() {
            1 => usize::MAX,
            len => len,
        };
        (self.due, std::cmp::Reverse(if *split { size } else { 0 }), range.start)
    }
}

impl PartialOrd for ScheduledBatch {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Batcher {
    /// Makes a batcher without texts.
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

    /// Adds a text of `bytes` bytes. Texts are numbered from 0 in the order of their calls.
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

    /// Makes a request of the texts so far, though there is room for more.
    pub fn flush(&mut self, now: Instant) {
        if !self.gathering.is_empty() {
            let range = self.gathering.clone();
            self.gathering.start = range.end;
            self.waiting.push(ScheduledBatch { due: now, work: Batch { range, failed: 0, split: false } });
        }
        self.gathered_bytes = 0;
    }

    /// Returns the number of requests that are ready and not sent.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the number of requests that are sent and not answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Returns the next request that may be sent now; `None` where there is none yet. The caller has to pass each
    /// one to [`Self::done`].
    pub fn next(&mut self, now: Instant) -> Option<Batch> {
        if self.paused_until.is_some_and(|until| until > now)
            || self.waiting.peek()?.due > now
            || self.must_wait_for_in_flight()
        {
            return None;
        }
        self.in_flight += 1;
        self.waiting.pop().map(|w| w.work)
    }

    /// Whether the next request is a part of a failed one, and has to wait for the outcome of those in flight. If they
    /// fail too, the limit of failures in a row is reached and it is not sent at all.
    fn must_wait_for_in_flight(&self) -> bool {
        let is_part = self.waiting.peek().is_some_and(|waiting| waiting.work.split);
        let may_fail = usize::try_from(self.failed_in_a_row).unwrap_or(usize::MAX).saturating_add(self.in_flight);
        is_part && self.in_flight > 0 && may_fail >= MAX_FAILED_IN_A_ROW as usize
    }

    /// Returns when [`Self::next`] may return a request; `None` where only an answer to a request in flight can
    /// lead to one.
    pub fn wake_at(&self) -> Option<Instant> {
        let due = self.waiting.peek()?.due;
        if self.must_wait_for_in_flight() {
            return None;
        }
        Some(self.paused_until.map_or(due, |until| due.max(until)))
    }

    /// Sends no request before `until`. Used where a provider asked another session to wait.
    pub fn pause(&mut self, until: Instant) {
        self.paused_until = Some(self.paused_until.map_or(until, |u| u.max(until)));
    }

    /// Takes the outcome of a request. Returns the texts that have their result, and what the request used. An error
    /// means that all texts without a result have failed with it.
    pub fn done(
        &mut self,
        work: Batch,
        outcome: Result<Answer, Fault>,
        now: Instant,
        jitter: f64,
    ) -> Result<(Vec<TextResult>, Usage), Fault> {
        self.in_flight -= 1;
        let mut usage = Usage { requests: 1, inputs: work.range.len() as u64, tokens: 0 };
        let fault = match outcome {
            Ok(answer) => {
                // A larger number cannot be true, and sums of such numbers would overflow.
                usage.tokens = answer.tokens.min(MAX_TOKENS);
                usage.requests += answer.more_requests;
                match self.take(&work.range, answer) {
                    Ok(vectors) => return Ok((self.accept_vectors(work, vectors, now, jitter), usage)),
                    Err(message) => bad_answer(message),
                }
            }
            Err(fault) => fault,
        };
        Ok((self.failed(work, fault, now, jitter)?, usage))
    }

    /// Returns the texts of a response that have their result. Texts with an invalid vector are asked for again,
    /// without the others, until their attempts are used up.
    fn accept_vectors(&mut self, work: Batch, vectors: Vec<TextResult>, now: Instant, jitter: f64) -> Vec<TextResult> {
        let failed = work.failed + 1;
        let (mut through, wrong): (Vec<TextResult>, Vec<TextResult>) =
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
            self.waiting.push(ScheduledBatch { due, work: Batch { range, failed, split: work.split } });
        }
        through
    }

    fn failed(&mut self, mut work: Batch, fault: Fault, now: Instant, jitter: f64) -> Result<Vec<TextResult>, Fault> {
        let deadline = self.retry_policy.deadline;
        let due = match fault.kind.retry_class() {
            RetryClass::Permanent => return Err(fault),
            // A refusal shows that the provider works, so it does not count towards the failures in a row.
            RetryClass::Input if matches!(fault.kind, FaultKind::Refused | FaultKind::TooLong) => {
                if work.range.len() == 1 {
                    return Ok(vec![(work.range.start, Err(fault))]);
                }
                let middle = work.range.start + work.range.len() / 2;
                self.split(&work, &[work.range.start..middle, middle..work.range.end], now);
                return Ok(Vec::new());
            }
            RetryClass::Input => return Ok(self.split_or_give_up(work, fault, now)),
            RetryClass::Throttled => {
                let wait = fault.retry_after.unwrap_or(DEFAULT_WAIT).max(MIN_WAIT);
                let until = now + wait;
                self.pause(until);
                until
            }
            RetryClass::Transient => {
                work.failed += 1;
                if work.failed >= self.retry_policy.max_attempts {
                    return match fault.kind {
                        // No connection could be made, so the other texts would fail as well.
                        FaultKind::Unreachable => Err(fault),
                        _ => Ok(self.split_or_give_up(work, fault, now)),
                    };
                }
                now + fault.retry_after.unwrap_or_default().max(backoff(FIRST_WAIT, work.failed, jitter))
            }
        };
        if due >= deadline {
            return Err(fault);
        }
        self.waiting.push(ScheduledBatch { due, work });
        Ok(Vec::new())
    }

    /// Splits a request that failed for good, since one of its texts may be the reason. The text in the middle is tried
    /// alone first, which shows soonest whether the provider embeds anything. If too many requests failed in a row,
    /// these texts and those of all waiting parts fail instead.
    fn split_or_give_up(&mut self, work: Batch, fault: Fault, now: Instant) -> Vec<TextResult> {
        self.failed_in_a_row += 1;
        let fails =
            |range: Range<usize>, fault: &Fault| range.map(|text| (text, Err(fault.clone()))).collect::<Vec<_>>();
        if self.failed_in_a_row >= MAX_FAILED_IN_A_ROW {
            let mut failed = fails(work.range, &fault);
            let (parts, rest): (Vec<ScheduledBatch>, Vec<ScheduledBatch>) =
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

    /// Adds requests for parts of a failed one. Each part is tried once, since its texts had their attempts.
    fn split(&mut self, work: &Batch, parts: &[Range<usize>], now: Instant) {
        for range in parts.iter().filter(|range| !range.is_empty()) {
            self.waiting.push(ScheduledBatch {
                due: now,
                work: Batch { range: range.clone(), failed: work.failed, split: true },
            });
        }
    }

    /// Returns the instant after which no request is started or waited for.
    pub fn deadline(&self) -> Instant {
        self.retry_policy.deadline
    }

    /// Returns the instant until which the provider asked for no requests; `None` where it did not.
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Whether every text has its result.
    pub fn is_done(&self) -> bool {
        self.gathering.is_empty() && self.waiting.is_empty() && self.in_flight == 0
    }

    /// Returns the vectors of a response, each of them valid or with its fault, or what is wrong with the response
    /// as a whole.
    fn take(&mut self, range: &Range<usize>, answer: Answer) -> Result<Vec<TextResult>, String> {
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

#[cfg(test)]
mod tests;
