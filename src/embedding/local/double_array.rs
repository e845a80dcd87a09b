//! A trie of byte strings as a double array, written at build time (`double_array_builder.rs`): walking one byte further is
//! one look at one slot, wherever the table stands.
//!
//! A slot is 8 bytes, little endian: `base`, then `check`. From node `n`, byte `b` leads to slot `base(n) ^ b`, if its
//! `check` is `n`. Byte 0, which no string holds, leads to a leaf, whose `base` is the string's number. Source: Aoe 1989;
//! the exclusive or is that of darts-clone.

/// The node that stands for no byte yet.
pub const ROOT: u32 = 0;
/// Bytes of a slot.
const SLOT: usize = 8;

/// The slot that a byte leads to; none where no string goes on like this.
pub fn step(table: &[u8], node: u32, byte: u8) -> Option<u32> {
    let next = word(table, node, 0)? ^ u32::from(byte);
    (word(table, next, 4)? == node).then_some(next)
}

/// The number of the string that ends at a node.
pub fn value(table: &[u8], node: u32) -> Option<u32> {
    word(table, step(table, node, 0)?, 0)
}

fn word(table: &[u8], slot: u32, at: usize) -> Option<u32> {
    let at = slot as usize * SLOT + at;
    Some(u32::from_le_bytes(table.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::double_array_builder::build;
    use super::*;

    fn look_up(table: &[u8], string: &[u8]) -> Option<u32> {
        let node = string.iter().try_fold(ROOT, |node, &byte| step(table, node, byte))?;
        value(table, node)
    }

    proptest! {
        #[test]
        fn every_string_is_found_and_no_other(
            strings in prop::collection::btree_map(prop::collection::vec(1u8..6, 1..6), any::<u32>(), 0..60),
            others in prop::collection::vec(prop::collection::vec(1u8.., 0..6), 0..60)
        ) {
            let strings: BTreeMap<Vec<u8>, u32> = strings;
            let sorted: Vec<(&[u8], u32)> = strings.iter().map(|(string, number)| (string.as_slice(), *number)).collect();
            let table = build(&sorted);
            for (string, number) in &strings {
                prop_assert_eq!(look_up(&table, string), Some(*number));
            }
            for other in &others {
                prop_assert_eq!(look_up(&table, other), strings.get(other).copied());
            }
        }
    }

    #[test]
    fn a_broken_table_is_read_without_a_panic() {
        assert_eq!(step(&[], ROOT, 1), None);
        assert_eq!(step(&[1, 2, 3], ROOT, 1), None);
        assert_eq!(value(&[0; 8], ROOT), Some(0));
    }
}
