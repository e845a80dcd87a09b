//! Byte-level BPE (Sennrich et al. 2016, Radford et al. 2019): a word's bytes are its first pieces; then the two that stand
//! side by side and were merged earliest in training become one, until no two can be merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::double_array::DoubleArray;

/// Bytes of a slot of the table of merges: the two pieces, the rank, the piece that they become.
const SLOT: usize = 16;
/// The left piece of a slot that is not in use.
const FREE: u32 = u32::MAX;

/// Two pieces that become one.
#[derive(Clone, Copy)]
pub struct Merge {
    pub left: u32,
    pub right: u32,
    pub rank: u32,
    pub merged: u32,
}

/// Writes a hash table of merges, each pair once: a pair stands in its slot or in the next ones, before one that is free.
pub fn freeze(merges: impl ExactSizeIterator<Item = Merge>) -> Vec<u8> {
    let count = (merges.len() * 2).next_power_of_two();
    let mut slots = vec![[FREE, 0, 0, 0]; count];
    for Merge { left, right, rank, merged } in merges {
        let mut at = slot(left, right, count);
        while slots[at][0] != FREE {
            at = (at + 1) % count;
        }
        slots[at] = [left, right, rank, merged];
    }
    slots.iter().flatten().flat_map(|number| number.to_le_bytes()).collect()
}

/// Returns the slot at which a pair is looked for first.
fn slot(left: u32, right: u32, count: usize) -> usize {
    let hash = (u64::from(left) << 32 | u64::from(right)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 32) as usize % count
}

/// A BPE model over a double array of its pieces and the table of its merges.
pub struct Bpe<'a> {
    pieces: DoubleArray<'a>,
    merges: &'a [[u8; SLOT]],
}

/// A piece of a word, and which stand before and after it.
struct Symbol {
    id: u32,
    before: Option<usize>,
    after: Option<usize>,
    is_gone: bool,
}

impl<'a> Bpe<'a> {
    /// The model of these pieces and of a table that [`freeze`] wrote.
    pub fn new(pieces: DoubleArray<'a>, merges: &'a [u8]) -> Bpe<'a> {
        Bpe { pieces, merges: merges.as_chunks().0 }
    }

    /// Appends the tokens of a word, whose characters stand for bytes. All of them are pieces.
    pub fn tokenize(&self, word: &str, tokens: &mut Vec<u32>) {
        let ids = word.chars().filter_map(|c| self.pieces.get(c.encode_utf8(&mut [0; 4]).as_bytes()));
        let mut symbols: Vec<Symbol> = ids
            .enumerate()
            .map(|(at, id)| Symbol { id, before: at.checked_sub(1), after: Some(at + 1), is_gone: false })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.after = None;
        }
        // By rank, then by place.
        let mut queue = BinaryHeap::with_capacity(symbols.len());
        (0..symbols.len()).for_each(|at| self.offer(&symbols, Some(at), &mut queue));
        while let Some(Reverse((_, at, merged))) = queue.pop() {
            let Some(after) = symbols[at].after.filter(|_| !symbols[at].is_gone) else { continue };
            // Since it was queued, one of the two may have become another piece.
            if self.look_up(symbols[at].id, symbols[after].id).is_none_or(|merge| merge.merged != merged) {
                continue;
            }
            symbols[at].id = merged;
            symbols[at].after = symbols[after].after;
            symbols[after].is_gone = true;
            if let Some(next) = symbols[at].after {
                symbols[next].before = Some(at);
            }
            self.offer(&symbols, symbols[at].before, &mut queue);
            self.offer(&symbols, Some(at), &mut queue);
        }
        tokens.extend(symbols.iter().filter(|symbol| !symbol.is_gone).map(|symbol| symbol.id));
    }

    /// Queues the merge of a symbol with the one after it.
    fn offer(&self, symbols: &[Symbol], at: Option<usize>, queue: &mut BinaryHeap<Reverse<(u32, usize, u32)>>) {
        let Some((at, after)) = at.and_then(|at| Some((at, symbols[at].after?))) else { return };
        if let Some(merge) = self.look_up(symbols[at].id, symbols[after].id) {
            queue.push(Reverse((merge.rank, at, merge.merged)));
        }
    }

    fn look_up(&self, left: u32, right: u32) -> Option<Merge> {
        let count = self.merges.len();
        let first = slot(left, right, count.max(1));
        (0..count)
            .map(|step| self.read((first + step) % count))
            .take_while(|merge| merge.left != FREE)
            .find(|merge| merge.left == left && merge.right == right)
    }

    fn read(&self, slot: usize) -> Merge {
        let numbers = self.merges[slot].as_chunks::<4>().0;
        let number = |at: usize| numbers.get(at).map_or(FREE, |bytes| u32::from_le_bytes(*bytes));
        Merge { left: number(0), right: number(1), rank: number(2), merged: number(3) }
    }
}
