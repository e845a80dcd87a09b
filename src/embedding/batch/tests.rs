//! Promises of the batcher: limits, order, retries, and the search for a text that makes requests fail.

use super::*;

fn limits(inputs: usize, bytes: usize) -> Limits {
    Limits { inputs, bytes }
}

/// A batcher with texts of these lengths in bytes, all of them ready to be sent.
fn batch(lengths: &[usize], limits: Limits, now: Instant) -> Batcher {
    let expected = ResponseChecks { dimensions: 2, unit: false, normalise: false };
    let mut batch =
        Batcher::new(limits, expected, RetryPolicy { max_attempts: 3, deadline: now + Duration::from_secs(60) });
    lengths.iter().for_each(|&bytes| batch.push(bytes, now));
    batch.flush(now);
    batch
}

/// A response whose vectors begin with the number of their text.
fn answer(range: &Range<usize>) -> Answer {
    let vectors = range.clone().enumerate().rev().map(|(at, text)| (at, vec![text as f32, 1.0])).collect();
    Answer::new(vectors, 7)
}

fn fault(kind: FaultKind) -> Fault {
    Fault::new(kind, "p", "m", "")
}

#[test]
fn requests_stay_within_their_limits() {
    let now = Instant::now();
    let ranges = |lengths: &[usize], l: Limits| -> Vec<Range<usize>> {
        let mut batch = batch(lengths, l, now);
        std::iter::from_fn(|| batch.next(now).map(|w| w.range)).collect()
    };
    assert_eq!(ranges(&[1; 5], limits(2, 100)), [0..2, 2..4, 4..5]);
    assert_eq!(ranges(&[40, 40, 40], limits(10, 100)), [0..2, 2..3]);
    // A text that exceeds the limit is sent alone: the limit here may be lower than the provider's own.
    assert_eq!(ranges(&[1, 500, 1], limits(10, 100)), [0..1, 1..2, 2..3]);
    assert_eq!(ranges(&[], limits(10, 100)), [0..0; 0]);
}

#[test]
fn vectors_come_in_order() {
    let now = Instant::now();
    let mut batch = batch(&[1; 7], limits(3, 100), now);
    let mut work: Vec<Batch> = std::iter::from_fn(|| batch.next(now)).collect();
    work.reverse();
    let (mut all, mut used) = (vec![None; 7], Usage::default());
    for w in work {
        let a = answer(&w.range);
        let (vectors, usage) = batch.done(w, Ok(a), now, 0.5).unwrap();
        vectors.into_iter().for_each(|(at, vector)| all[at] = Some(vector.unwrap()[0]));
        used += usage;
    }
    assert!(batch.is_done());
    assert_eq!(used, Usage { requests: 3, inputs: 7, tokens: 21 });
    assert_eq!(all, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(Some));
}

#[test]
fn requests_leave_before_the_last_text() {
    let now = Instant::now();
    let mut batch = batch(&[], limits(3, 100), now);
    (0..2).for_each(|_| batch.push(1, now));
    assert_eq!((batch.next(now), batch.is_done()), (None, false));
    batch.push(1, now);
    let first = batch.next(now).unwrap();
    assert_eq!(first.range, 0..3);
    batch.push(1, now);
    assert_eq!(batch.next(now), None);
    batch.flush(now);
    let second = batch.next(now).unwrap();
    assert_eq!((second.range.clone(), batch.in_flight()), (3..4, 2));
    for work in [second, first] {
        let answer = answer(&work.range);
        batch.done(work, Ok(answer), now, 0.5).unwrap();
    }
    assert!(batch.is_done());
}

#[test]
fn invalid_responses_are_refused() {
    let now = Instant::now();
    let right = || answer(&(0..3));
    let mut wrong: Vec<(Answer, &str)> = Vec::new();
    let mut with = |message, change: &dyn Fn(&mut Answer)| {
        let mut answer = right();
        change(&mut answer);
        wrong.push((answer, message));
    };
    with("2 vectors for 3 texts", &|a| drop(a.vectors.pop()));
    with("4 vectors for 3 texts", &|a| a.vectors.push((3, vec![0.0, 1.0])));
    with("two vectors for text 0", &|a| a.vectors[0].0 = 0);
    with("a vector for text 9 of 3", &|a| a.vectors[0].0 = 9);
    with("a vector of 3 dimensions, expected 2", &|a| a.vectors[1].1.push(0.0));
    with("a vector with a number that is not finite", &|a| a.vectors[1].1[0] = f32::NAN);
    with("a vector with a number that is not finite", &|a| a.vectors[1].1[0] = f32::INFINITY);
    with("a vector of zeros", &|a| a.vectors[1].1 = vec![0.0, 0.0]);
    for (answer, message) in wrong {
        let mut batch = batch(&[1; 3], limits(3, 100), now);
        batch.retry_policy.max_attempts = 1;
        let work = batch.next(now).unwrap();
        let (texts, _) = batch.done(work, Ok(answer), now, 0.5).unwrap();
        // An invalid vector is a fault of its text alone; a response that is wrong as a whole is asked for in parts.
        let faults: Vec<Fault> = texts.iter().filter_map(|(_, outcome)| outcome.clone().err()).collect();
        assert_eq!(texts.len(), if batch.is_done() { 3 } else { 0 }, "{message}");
        assert_eq!(faults.len(), usize::from(batch.is_done()), "{message}");
        for fault in faults {
            assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::BadAnswer, message));
        }
    }
}

#[test]
fn vector_length_is_checked_or_normalised() {
    let now = Instant::now();
    for (unit, normalise, right) in [(true, false, false), (false, true, true), (false, false, true)] {
        let mut batch = batch(&[1], limits(1, 1), now);
        batch.expected = ResponseChecks { dimensions: 0, unit, normalise };
        batch.retry_policy.max_attempts = 1;
        let work = batch.next(now).unwrap();
        let done = batch.done(work, Ok(Answer::new(vec![(0, vec![3.0, 4.0])], 0)), now, 0.5);
        let vector = done.unwrap().0.pop().unwrap().1;
        assert_eq!(vector.is_ok(), right);
        if normalise {
            assert_eq!(vector.unwrap(), [0.6, 0.8]);
        }
    }
}

#[test]
fn a_transient_fault_is_tried_a_few_times() {
    let now = Instant::now();
    for kind in [FaultKind::Server, FaultKind::Unreachable, FaultKind::BadAnswer] {
        let mut batch = batch(&[1], limits(1, 1), now);
        let mut at = now;
        for attempt in 1..=3 {
            let work = batch.next(at).unwrap();
            let done = batch.done(work, Err(fault(kind)), at, 0.5);
            match (attempt, kind) {
                (3, FaultKind::Unreachable) => assert_eq!(done.unwrap_err().kind, kind),
                // The text itself may be the reason, so only this text fails.
                (3, _) => assert_eq!(done.unwrap().0.len(), 1),
                _ => assert_eq!(done.unwrap().0, []),
            }
            if let Some(wake) = batch.wake_at() {
                assert!(wake > at && batch.next(at).is_none());
                at = wake;
            }
        }
    }
}

#[test]
fn throttling_is_no_attempt_and_stops_all_requests() {
    let now = Instant::now();
    let mut batch = batch(&[1; 4], limits(1, 1), now);
    let wait = Duration::from_secs(3);
    let mut at = now;
    for _ in 0..5 {
        let work = batch.next(at).unwrap();
        batch.done(work, Err(Fault { retry_after: Some(wait), ..fault(FaultKind::Throttled) }), at, 0.5).unwrap();
        assert!(batch.next(at).is_none());
        assert_eq!(batch.wake_at(), Some(at + wait));
        at += wait;
    }
    assert!(batch.next(at).is_some());
}

#[test]
fn waiting_ends_at_the_deadline() {
    let now = Instant::now();
    let mut batch = batch(&[1; 2], limits(1, 1), now);
    let work = batch.next(now).unwrap();
    let long = Fault { retry_after: Some(Duration::from_secs(61)), ..fault(FaultKind::Throttled) };
    assert_eq!(batch.done(work, Err(long.clone()), now, 0.5), Err(long));
}

#[test]
fn a_permanent_fault_is_not_tried_again() {
    let now = Instant::now();
    for kind in [FaultKind::Unauthorized, FaultKind::NotFound, FaultKind::Quota, FaultKind::Redirect] {
        let mut batch = batch(&[1], limits(1, 1), now);
        let work = batch.next(now).unwrap();
        assert_eq!(batch.done(work, Err(fault(kind)), now, 0.5).unwrap_err().kind, kind);
    }
}

#[test]
fn the_text_to_blame_is_found() {
    let now = Instant::now();
    for bad in [0, 1, 41, 62, 99] {
        let mut batch = batch(&[1; 100], limits(100, 1000), now);
        let mut requests = 0;
        let found = loop {
            let Some(work) = batch.next(now) else { panic!("nobody is to blame") };
            requests += 1;
            let outcome =
                if work.range.contains(&bad) { Err(fault(FaultKind::Refused)) } else { Ok(answer(&work.range)) };
            let (texts, _) = batch.done(work, outcome, now, 0.5).unwrap();
            if let Some((text, _)) = texts.into_iter().find(|(_, outcome)| outcome.is_err()) {
                break text;
            }
        };
        assert_eq!(found, bad);
        assert!(requests <= 15, "{requests} requests");
    }
}

/// The caller adds up the usage of many requests in an i64.
#[test]
fn nonsensical_usage_does_not_overflow_sums() {
    let now = Instant::now();
    let mut batch = batch(&[1; 2], limits(1, 100), now);
    let mut used = Usage::default();
    for work in [batch.next(now).unwrap(), batch.next(now).unwrap()] {
        let nonsense = Answer { tokens: u64::MAX, ..answer(&work.range) };
        used += batch.done(work, Ok(nonsense), now, 0.5).unwrap().1;
    }
    assert!(used.tokens.checked_mul(1 << 20).is_some());
}

/// Sends requests until every text has its result. Returns the number of requests and the texts that failed.
fn send_until_done(texts: usize, respond: impl Fn(&Range<usize>) -> Result<Answer, Fault>) -> (u32, Vec<usize>) {
    let mut at = Instant::now();
    let mut batch = batch(&vec![1; texts], limits(texts, 1_000_000), at);
    let (mut requests, mut failed) = (0, Vec::new());
    while !batch.is_done() {
        at = batch.wake_at().unwrap_or(at).max(at);
        let Some(work) = batch.next(at) else { continue };
        requests += 1;
        let outcome = respond(&work.range);
        let (through, _) = batch.done(work, outcome, at, 0.5).unwrap();
        failed.extend(through.into_iter().filter(|(_, outcome)| outcome.is_err()).map(|(text, _)| text));
    }
    failed.sort_unstable();
    (requests, failed)
}

#[test]
fn a_text_that_makes_requests_fail_is_found() {
    for kind in [
        FaultKind::Server,
        FaultKind::BadAnswer,
        FaultKind::Disconnected,
        FaultKind::TimedOut,
        FaultKind::AnswerTooLarge,
    ] {
        for culprits in [vec![0], vec![41], vec![99], vec![3, 4, 70], vec![0, 1, 50, 51, 98, 99]] {
            let respond = |range: &Range<usize>| match culprits.iter().any(|text| range.contains(text)) {
                true => Err(fault(kind)),
                false => Ok(answer(range)),
            };
            let (requests, failed) = send_until_done(100, respond);
            assert_eq!(failed, culprits, "{kind:?}");
            // Three attempts, then at most three requests on each of the seven levels of splitting.
            assert!(requests as usize <= 3 + culprits.len() * 3 * 7, "{requests} requests for {culprits:?}");
        }
    }
}

#[test]
fn a_provider_that_is_down_is_not_asked_for_each_text() {
    for kind in [FaultKind::Server, FaultKind::BadAnswer, FaultKind::Disconnected, FaultKind::TimedOut] {
        for texts in [10, 100, 2000] {
            let (requests, failed) = send_until_done(texts, |_| Err(fault(kind)));
            assert!(requests <= 10, "{requests} requests for {texts} texts");
            assert_eq!(failed.len(), texts);
        }
    }
}

#[test]
fn a_provider_that_is_down_is_not_asked_more_by_many_requests_at_once() {
    let now = Instant::now();
    let mut batch = batch(&[1; 100], limits(100, 1000), now);
    batch.retry_policy.max_attempts = 1;
    let mut requests = 0;
    while !batch.is_done() {
        let in_flight: Vec<Batch> = std::iter::from_fn(|| batch.next(now)).collect();
        requests += in_flight.len();
        for work in in_flight {
            batch.done(work, Err(fault(FaultKind::Server)), now, 0.5).unwrap();
        }
    }
    assert!(requests <= 8, "{requests} requests");
}

#[test]
fn a_throttled_part_is_retried() {
    let throttled = std::cell::Cell::new(true);
    let (_, failed) = send_until_done(8, |range| match range.len() {
        8 => Err(fault(FaultKind::Server)),
        _ if range.contains(&5) && range.len() == 1 => Err(fault(FaultKind::Server)),
        3 if throttled.replace(false) => Err(fault(FaultKind::Throttled)),
        _ if range.contains(&5) => Err(fault(FaultKind::Server)),
        _ => Ok(answer(range)),
    });
    assert_eq!(failed, [5]);
}

#[test]
fn an_invalid_vector_is_requested_again_alone() {
    let asked = std::cell::RefCell::new(Vec::new());
    let (requests, failed) = send_until_done(50, |range| {
        asked.borrow_mut().push(range.clone());
        let mut answer = answer(range);
        answer.vectors.iter_mut().filter(|(at, _)| range.start + at == 7).for_each(|(_, vector)| vector[0] = f32::NAN);
        Ok(answer)
    });
    assert_eq!((requests, failed), (3, vec![7]));
    assert_eq!(*asked.borrow(), [0..50, 7..8, 7..8]);
}

#[test]
fn a_request_leaves_time_to_split_it() {
    let second = Duration::from_secs(1);
    let work = |texts: usize, split| Batch { range: 0..texts, failed: 0, split };
    assert_eq!(work(1, false).timeout(second), second);
    assert_eq!(work(50, false).timeout(second), second / 2);
    assert_eq!(work(1, true).timeout(second), second / 2);
    // The requests of all levels of splitting, one after the other, down to a single text.
    let mut left = second - work(64, false).timeout(second);
    for texts in [32, 16, 8, 4, 2, 1] {
        left -= work(texts, true).timeout(left);
    }
    assert!(left > second / 50, "{left:?}");
}
