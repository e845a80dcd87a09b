//! The hash of the frozen vocabulary, for the build script that writes it and the tokenizer that reads it.

/// Slots of the table: a power of two, more than twice the pieces.
pub const SLOTS: usize = 1 << 16;
/// The id in an empty slot.
pub const EMPTY: u16 = u16::MAX;
/// No piece has more bytes.
pub const LONGEST_PIECE: usize = 32;
/// The hash of no bytes.
pub const START: u32 = 0x811c_9dc5;

/// FNV-1a, from where an earlier call left off: so every prefix of a word is hashed in one pass.
pub const fn extend(mut hash: u32, bytes: &[u8]) -> u32 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

/// The slot of the hash table that a hash is looked up in first.
pub const fn slot(hash: u32) -> usize {
    ((hash ^ (hash >> 15)).wrapping_mul(0x9e37_79b1) >> 16) as usize % SLOTS
}

/// What else of the hash a slot holds, beside the piece's id: most other pieces are told apart by it alone.
#[allow(clippy::cast_possible_truncation)]
pub const fn fingerprint(hash: u32) -> u16 {
    (hash ^ (hash >> 16)) as u16
}
