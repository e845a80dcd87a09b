//! The pieces of words that a call has met: most words of a text come again, and finding a word's pieces takes longer than
//! looking it up.

/// Words that are kept: a word replaces another with the same last bits of its hash. 128 KB, for as long as a call takes.
const SLOTS: usize = 2048;
/// Longer words, and words of more pieces, are seldom.
const MAX_BYTES: usize = 30;
const MAX_PIECES: usize = 8;

/// Words that are met before any is kept: a query is through by then, and takes no memory.
const WORDS_BEFORE: u32 = 50;

/// Words and their pieces.
#[derive(Default)]
pub struct WordCache {
    slots: Vec<Slot>,
    /// Words that were met before any was kept.
    met: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    /// The word's bytes, and how many; 0: no word.
    bytes: [u8; MAX_BYTES],
    length: u8,
    /// Its pieces, and how many.
    count: u8,
    pieces: [u32; MAX_PIECES],
}

const EMPTY: Slot = Slot { bytes: [0; MAX_BYTES], length: 0, count: 0, pieces: [0; MAX_PIECES] };

impl WordCache {
    /// The pieces of a word, if they are kept.
    pub fn get(&self, word: &str) -> Option<&[u32]> {
        if word.len() > MAX_BYTES {
            return None;
        }
        let slot = self.slots.get(place(word))?;
        (&slot.bytes[..usize::from(slot.length)] == word.as_bytes()).then(|| &slot.pieces[..usize::from(slot.count)])
    }

    /// Keeps the pieces of a word that is not empty.
    #[allow(clippy::cast_possible_truncation)]
    pub fn put(&mut self, word: &str, pieces: &[u32]) {
        if word.len() > MAX_BYTES || pieces.len() > MAX_PIECES {
            return;
        }
        if self.slots.is_empty() {
            self.met += 1;
            if self.met < WORDS_BEFORE {
                return;
            }
            self.slots = vec![EMPTY; SLOTS];
        }
        let slot = &mut self.slots[place(word)];
        slot.bytes[..word.len()].copy_from_slice(word.as_bytes());
        slot.length = word.len() as u8;
        slot.pieces[..pieces.len()].copy_from_slice(pieces);
        slot.count = pieces.len() as u8;
    }
}

/// The slot of a word, by eight bytes at a time.
#[allow(clippy::cast_possible_truncation)]
fn place(word: &str) -> usize {
    let mut hash = 0u64;
    for part in word.as_bytes().chunks(8) {
        let mut bytes = [0; 8];
        bytes[..part.len()].copy_from_slice(part);
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(bytes)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    (hash >> (u64::BITS - SLOTS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_its_own_pieces_or_none() {
        let mut cache = WordCache { met: WORDS_BEFORE, ..WordCache::default() };
        let words: Vec<String> = (0..10_000).map(|i| format!("word{i}")).collect();
        for (id, word) in (0..).zip(&words) {
            cache.put(word, &[id, id + 1]);
            assert_eq!(cache.get(word), Some(&[id, id + 1][..]));
        }
        let kept = (0..).zip(&words).filter(|(id, word)| match cache.get(word) {
            Some(pieces) => pieces == [*id, *id + 1],
            None => false,
        });
        assert!((SLOTS * 9 / 10..=SLOTS).contains(&kept.count()));
        assert_eq!(cache.get("word"), None);
        cache.put(&"x".repeat(MAX_BYTES + 1), &[1]);
        assert_eq!(cache.get(&"x".repeat(MAX_BYTES + 1)), None);
    }
}
