//! Counts what this session embeds, and measures how long that takes.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A sample of fewer texts says little where it took no longer than [`MIN_ELAPSED`]: most of the time went elsewhere.
const MIN_TEXTS: usize = 20;
const MIN_ELAPSED: Duration = Duration::from_millis(500);

/// Texts that have got a vector.
#[derive(Debug, Clone, Copy, Default)]
struct Embedded {
    texts: usize,
    bytes: usize,
}

thread_local! {
    static EMBEDDED: Cell<Embedded> = const { Cell::new(Embedded { texts: 0, bytes: 0 }) };
}

/// Counts texts that have got a vector.
pub fn count_embedded<'a>(texts: impl IntoIterator<Item = &'a String>) {
    let mut all = EMBEDDED.get();
    for text in texts {
        all.texts += 1;
        all.bytes += text.len();
    }
    EMBEDDED.set(all);
}

/// Measures what this session embeds while it lives.
#[derive(Debug, Clone, Copy)]
pub struct Speedometer {
    began: Instant,
    before: Embedded,
}

/// The texts that were embedded in some time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    texts: usize,
    bytes: usize,
    elapsed: Duration,
}

impl Speedometer {
    /// Starts to measure.
    pub fn start() -> Self {
        Self { began: Instant::now(), before: EMBEDDED.get() }
    }

    /// Returns what was embedded since the start.
    pub fn sample(&self) -> Sample {
        let now = EMBEDDED.get();
        let (texts, bytes) = (now.texts - self.before.texts, now.bytes - self.before.bytes);
        Sample { texts, bytes, elapsed: self.began.elapsed() }
    }
}

impl Sample {
    /// Whether most of the time went into embedding, so that it says how fast that is.
    pub fn is_telling(&self) -> bool {
        self.bytes > 0 && (self.texts >= MIN_TEXTS || self.elapsed >= MIN_ELAPSED)
    }

    /// Bytes of text in a second.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64().max(1e-6)
    }
}
