//! A set of keys that takes no more memory for a statement of millions of rows than for one of thousands.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::source::SourceKey;

/// So many keys are kept themselves.
const EXACT: usize = 100_000;
/// Bits of the filter that stands for more: 8 MB.
const BITS: usize = 1 << 26;

/// Knows each key that was added. Beyond [`EXACT`] keys it may also take one for known that was not added: whoever asks has
/// to do the right thing then, too.
#[derive(Default)]
pub struct KeySet {
    exact: HashSet<SourceKey>,
    filter: Option<Filter>,
}

struct Filter {
    bits: Vec<u64>,
    hash: RandomState,
}

impl Filter {
    /// The word and the bit of a key.
    fn place(&self, key: &SourceKey) -> (usize, u64) {
        let hash = self.hash.hash_one(key);
        let at = usize::try_from(hash % BITS as u64).unwrap_or(0);
        (at / 64, 1 << (at % 64))
    }

    fn add(&mut self, key: &SourceKey) -> bool {
        let (word, bit) = self.place(key);
        let was = self.bits[word] & bit != 0;
        self.bits[word] |= bit;
        was
    }
}

impl KeySet {
    /// Adds a key: whether it is known already.
    pub fn add(&mut self, key: SourceKey) -> bool {
        if let Some(filter) = &mut self.filter {
            return filter.add(&key);
        }
        let was = !self.exact.insert(key);
        if self.exact.len() > EXACT {
            let mut filter = Filter { bits: vec![0; BITS / 64], hash: RandomState::new() };
            for key in std::mem::take(&mut self.exact) {
                filter.add(&key);
            }
            self.filter = Some(filter);
        }
        was
    }

    /// Whether a key is known.
    pub fn knows(&self, key: &SourceKey) -> bool {
        match &self.filter {
            Some(filter) => {
                let (word, bit) = filter.place(key);
                filter.bits[word] & bit != 0
            }
            None => self.exact.contains(key),
        }
    }
}
