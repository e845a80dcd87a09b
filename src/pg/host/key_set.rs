//! A set of source keys with bounded memory: beyond 100,000 keys it becomes a Bloom filter with one hash function.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::source::SourceKey;

/// The number of keys up to which the set is exact.
const EXACT: usize = 100_000;
/// The size of the filter that replaces more keys, in bits: 8 MB.
const BITS: usize = 1 << 26;

/// A set that contains every key that was added. Beyond [`EXACT`] keys it may report a key that was never added, so callers
/// have to be correct for such a false positive.
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
    /// The index of a key's word, and the mask of its bit in that word.
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
    /// Adds a key and returns whether the set contained it before.
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

    /// Whether the set contains a key, with false positives as described at [`KeySet`].
    pub fn contains(&self, key: &SourceKey) -> bool {
        match &self.filter {
            Some(filter) => {
                let (word, bit) = filter.place(key);
                filter.bits[word] & bit != 0
            }
            None => self.exact.contains(key),
        }
    }
}
