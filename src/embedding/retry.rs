//! The wait before the next attempt.

use std::time::Duration;

/// Returns the wait after `failed` attempts, 1 or more: `first` doubled for each further one, times a factor from 0.5
/// to 1.5 (`jitter`, 0 to 1), so that sessions that failed together do not all try again at the same moment.
pub fn backoff(first: Duration, failed: u32, jitter: f64) -> Duration {
    let doubled = first.saturating_mul(1 << failed.saturating_sub(1).min(16));
    doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_bounds() {
        let first = Duration::from_secs(5);
        for (failed, seconds) in [(1, 5.0), (2, 10.0), (3, 20.0)] {
            assert_eq!(backoff(first, failed, 0.5).as_secs_f64(), seconds);
            assert_eq!(backoff(first, failed, 0.0).as_secs_f64(), seconds * 0.5);
            assert_eq!(backoff(first, failed, 1.0).as_secs_f64(), seconds * 1.5);
        }
        assert!(backoff(first, u32::MAX, 1.0) < Duration::from_secs(1_000_000));
    }
}
