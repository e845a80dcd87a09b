//! A trie of byte strings as a double array (Aho 1989), written by `double_array_builder`: one byte further is one look at
//! one slot, wherever the table lies.
//!
//! A slot is 8 bytes, little endian: the base (4 bytes), the byte that leads to the slot (1), the number of the string that
//! ends there plus one (3). From a node, byte `b` leads to slot `base ^ b` if that slot was entered by `b`: no two nodes
//! share a base. Base 0: no string goes on. A free slot was entered by 0xff, which is in no UTF-8.

/// A number is less than this.
pub const MAX_NUMBERS: u32 = (1 << 24) - 1;
/// Bytes of a slot.
pub const SLOT: usize = 8;
/// The byte that entered a free slot, and the root.
pub const NO_BYTE: u8 = 0xff;

/// A trie over bytes that hold a table. Any bytes are safe to walk.
#[derive(Clone, Copy)]
pub struct DoubleArray<'a> {
    slots: &'a [[u8; SLOT]],
}

/// The place that a walk has reached.
#[derive(Clone, Copy)]
pub struct Node(u64);

impl<'a> DoubleArray<'a> {
    /// Reads a table; bytes after the last whole slot do not count.
    pub fn new(bytes: &'a [u8]) -> DoubleArray<'a> {
        DoubleArray { slots: bytes.as_chunks().0 }
    }

    /// The node of the empty string.
    pub fn root(&self) -> Node {
        Node(self.slots.first().map_or(0, |slot| u64::from_le_bytes(*slot)))
    }

    /// The node that a byte leads to; none where no string goes on like this.
    pub fn step(&self, node: Node, byte: u8) -> Option<Node> {
        let base = node.base();
        let next = u64::from_le_bytes(*self.slots.get((base ^ u32::from(byte)) as usize)?);
        (base != 0 && next.to_le_bytes()[4] == byte).then_some(Node(next))
    }

    /// The node that some bytes lead to.
    pub fn walk(&self, from: Node, bytes: &[u8]) -> Option<Node> {
        bytes.iter().try_fold(from, |node, &byte| self.step(node, byte))
    }

    /// The number of a string.
    pub fn get(&self, string: &[u8]) -> Option<u32> {
        self.walk(self.root(), string)?.number()
    }
}

impl Node {
    #[allow(clippy::cast_possible_truncation)]
    fn base(self) -> u32 {
        self.0 as u32
    }

    /// The number of the string that ends here.
    #[allow(clippy::cast_possible_truncation)]
    pub fn number(self) -> Option<u32> {
        ((self.0 >> 40) as u32).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::double_array_builder::build;
    use super::*;

    proptest! {
        #[test]
        fn every_string_is_found_and_no_other(
            strings in prop::collection::btree_map(prop::collection::vec(0u8..6, 1..6), 0u32..MAX_NUMBERS, 0..60),
            others in prop::collection::vec(prop::collection::vec(0u8.., 0..6), 0..60)
        ) {
            let strings: BTreeMap<Vec<u8>, u32> = strings;
            let sorted: Vec<(&[u8], u32)> = strings.iter().map(|(string, number)| (string.as_slice(), *number)).collect();
            let mut bytes = Vec::new();
            build(&sorted, &mut bytes);
            let trie = DoubleArray::new(&bytes);
            for (string, number) in &strings {
                prop_assert_eq!(trie.get(string), Some(*number));
            }
            for other in &others {
                prop_assert_eq!(trie.get(other), strings.get(other).copied());
            }
        }

        #[test]
        fn any_bytes_are_walked(bytes in prop::collection::vec(any::<u8>(), 0..200), string in prop::collection::vec(any::<u8>(), 0..20)) {
            let _any = DoubleArray::new(&bytes).get(&string);
        }
    }
}
