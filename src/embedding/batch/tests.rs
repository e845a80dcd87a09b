//! What must not become of texts on their way to vectors.

use super::*;

fn limits(inputs: usize, bytes: usize) -> Limits {
    Limits { inputs, bytes }
}

/// Texts of these lengths, and no more to come.
fn batch(lengths: &[usize], limits: Limits, now: Instant) -> Batch {
    let expected = Expected { dimensions: 2, unit: false, normalise: false };
    let mut batch = Batch::new(limits, expected, Patience { max_attempts: 3, deadline: now + Duration::from_secs(60) });
    lengths.iter().for_each(|&bytes| batch.push(bytes, now));
    batch.flush(now);
    batch
}

/// Vectors that tell which text they are of.
fn answer(range: &Range<usize>) -> Answer {
    let vectors = range.clone().enumerate().rev().map(|(at, text)| (at, vec![text as f32, 1.0])).collect();
    Answer { vectors, tokens: 7 }
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
    // What is too long alone goes alone: the provider may know better.
    assert_eq!(ranges(&[1, 500, 1], limits(10, 100)), [0..1, 1..2, 2..3]);
    assert_eq!(ranges(&[], limits(10, 100)), [0..0; 0]);
}

#[test]
fn vectors_come_in_order() {
    let now = Instant::now();
    let mut batch = batch(&[1; 7], limits(3, 100), now);
    let mut work: Vec<Work> = std::iter::from_fn(|| batch.next(now)).collect();
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
fn wrong_answers_are_refused() {
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
    for (answer, message) in wrong {
        let mut batch = batch(&[1; 3], limits(3, 100), now);
        batch.patience.max_attempts = 1;
        let work = batch.next(now).unwrap();
        let (texts, _) = batch.done(work, Ok(answer), now, 0.5).unwrap();
        assert_eq!(texts.len(), 3);
        for (_, outcome) in texts {
            let fault = outcome.unwrap_err();
            assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::BadAnswer, message));
        }
    }
}

#[test]
fn promised_dimensions_are_checked_or_made() {
    let now = Instant::now();
    for (unit, normalise, right) in [(true, false, false), (false, true, true), (false, false, true)] {
        let mut batch = batch(&[1], limits(1, 1), now);
        batch.expected = Expected { dimensions: 0, unit, normalise };
        batch.patience.max_attempts = 1;
        let work = batch.next(now).unwrap();
        let done = batch.done(work, Ok(Answer { vectors: vec![(0, vec![3.0, 4.0])], tokens: 0 }), now, 0.5);
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
                // The text's own fault, for all that is known: others go on.
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

/// The caller adds them up and shares them out.
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
