//! Writes the table that `double_array` reads.

use std::collections::VecDeque;

use super::double_array::NO_BYTE;

/// Slots that are looked at for a node before those at the front are given up: else a full table takes quadratic time.
const MAX_STEPS: usize = 128;

#[derive(Clone, Copy)]
struct Slot {
    base: u32,
    /// The byte that enters it, and the number plus one.
    byte: u8,
    number: u32,
    is_used: bool,
    /// Whether a node has this slot's position as its base.
    is_base: bool,
}

const FREE: Slot = Slot { base: 0, byte: NO_BYTE, number: 0, is_used: false, is_base: false };

struct Builder {
    slots: Vec<Slot>,
    /// The slot from which free ones are looked for.
    first_free: usize,
}

/// A node whose children are still to be placed: the strings `from..to` lead to it by their first `depth` bytes.
struct Pending {
    slot: usize,
    from: usize,
    to: usize,
    depth: usize,
}

/// Appends the table of some strings without 0xff and their numbers, sorted by their bytes, each once.
pub fn build(strings: &[(&[u8], u32)], out: &mut Vec<u8>) {
    let mut builder = Builder { slots: vec![FREE; 256], first_free: 1 };
    builder.slots[0].is_used = true;
    // The root's base must not be 0, which says that no string goes on.
    builder.slots[0].is_base = true;
    let mut pending = VecDeque::from([Pending { slot: 0, from: 0, to: strings.len(), depth: 0 }]);
    while let Some(Pending { slot, from, to, depth }) = pending.pop_front() {
        let mut at = from;
        while at < to && strings[at].0.len() == depth {
            builder.slots[slot].number = strings[at].1 + 1;
            at += 1;
        }
        let mut children = Vec::new();
        while at < to {
            let byte = strings[at].0[depth];
            let end = at + strings[at..to].partition_point(|(string, _)| string[depth] == byte);
            children.push((byte, at, end));
            at = end;
        }
        if children.is_empty() {
            continue;
        }
        let base = builder.place(slot, &children);
        for (byte, from, to) in children {
            pending.push_back(Pending { slot: base ^ usize::from(byte), from, to, depth: depth + 1 });
        }
    }
    for slot in &builder.slots {
        out.extend_from_slice(&slot.base.to_le_bytes());
        out.extend_from_slice(&(slot.number << 8 | u32::from(slot.byte)).to_le_bytes());
    }
}

impl Builder {
    /// Gives a node a base where all its children's slots are free, and takes those.
    #[allow(clippy::cast_possible_truncation)]
    fn place(&mut self, node: usize, children: &[(u8, usize, usize)]) -> usize {
        let first = usize::from(children[0].0);
        let (mut at, mut steps) = (self.first_free, 0);
        let mut first_free = None;
        let base = loop {
            // All slots of a base are in one block of 256.
            if at >= self.slots.len() {
                self.slots.resize(self.slots.len() + 256, FREE);
            }
            if !self.slots[at].is_used {
                first_free.get_or_insert(at);
                let base = at ^ first;
                let fits = |child: &(u8, usize, usize)| !self.slots[base ^ usize::from(child.0)].is_used;
                if !self.slots[base].is_base && children.iter().all(fits) {
                    break base;
                }
            }
            steps += 1;
            at += 1;
        };
        let first_free = first_free.unwrap_or(at);
        self.first_free = if steps > MAX_STEPS { first_free.midpoint(at) } else { first_free };
        self.slots[base].is_base = true;
        self.slots[node].base = base as u32;
        for &(byte, ..) in children {
            let slot = &mut self.slots[base ^ usize::from(byte)];
            slot.is_used = true;
            slot.byte = byte;
        }
        base
    }
}
