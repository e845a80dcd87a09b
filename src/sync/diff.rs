//! Compares the old chunks of a source with the new ones: which are kept, embedded or dropped.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The changes to the chunks of a source whose text changed.
#[derive(Debug, PartialEq, Eq)]
pub struct ChunkDiff {
    /// For each new chunk the index of the old one with the same text, whose vector it keeps; `None` where it has
    /// to be embedded.
    pub kept: Vec<Option<usize>>,
    /// The indexes of the old chunks that no new one keeps, in ascending order.
    pub dropped: Vec<usize>,
}

/// Pairs new chunks with old ones of the same text. Where a text occurs more than once, the chunk at the same
/// index is preferred.
pub fn diff_chunks<T: Copy + Eq + Hash>(old: &[T], new: &[T]) -> ChunkDiff {
    let mut kept: Vec<Option<usize>> =
        new.iter().enumerate().map(|(at, text)| old.get(at).filter(|o| *o == text).map(|_| at)).collect();
    let mut free: HashMap<T, VecDeque<usize>> = HashMap::new();
    for (at, text) in old.iter().enumerate() {
        if kept.get(at).is_none_or(Option::is_none) {
            free.entry(*text).or_default().push_back(at);
        }
    }
    for (slot, text) in kept.iter_mut().zip(new) {
        if slot.is_none() {
            *slot = free.get_mut(text).and_then(VecDeque::pop_front);
        }
    }
    let mut dropped: Vec<usize> = free.into_values().flatten().collect();
    dropped.sort_unstable();
    ChunkDiff { kept, dropped }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(old: &str, new: &str) -> (Vec<Option<usize>>, Vec<usize>) {
        let split = |s: &'static str| s.split_whitespace().collect::<Vec<_>>();
        let (old, new) = (split(old.to_owned().leak()), split(new.to_owned().leak()));
        let ChunkDiff { kept, dropped } = diff_chunks(&old, &new);
        (kept, dropped)
    }

    #[test]
    fn an_unchanged_chunk_is_kept() {
        assert_eq!(of("a b c", "a x c"), (vec![Some(0), None, Some(2)], vec![1]));
        assert_eq!(of("a b c", "x a b c"), (vec![None, Some(0), Some(1), Some(2)], vec![]));
        assert_eq!(of("a b c", "b c"), (vec![Some(1), Some(2)], vec![0]));
        assert_eq!(of("", "a"), (vec![None], vec![]));
        assert_eq!(of("a b", ""), (vec![], vec![0, 1]));
    }

    #[test]
    fn two_chunks_of_one_text_keep_a_row_each() {
        assert_eq!(of("a a", "a a a"), (vec![Some(0), Some(1), None], vec![]));
        assert_eq!(of("a b a", "b a"), (vec![Some(1), Some(0)], vec![2]));
        assert_eq!(of("a a b", "b a"), (vec![Some(2), Some(1)], vec![0]));
    }
}
