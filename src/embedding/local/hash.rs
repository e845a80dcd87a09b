//! The hash table of the frozen vocabulary: the build script writes it, the tokenizer reads it.

/// The number of slots: a power of two, more than twice the number of pieces.
pub const SLOTS: usize = 1 << 16;
/// The id that marks an empty slot.
pub const EMPTY: u16 = u16::MAX;
/// The largest length of a piece, in bytes.
pub const LONGEST_PIECE: usize = 32;
/// The hash of no bytes: the start value of [`extend`].
pub const START: u32 = 0x811c_9dc5;

/// Continues a hash (FNV-1a) with more bytes, so that every prefix of a word is hashed in one pass.
pub const fn extend(mut hash: u32, bytes: &[u8]) -> u32 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

/// Returns the first slot of the table to look at for a hash.
pub const fn slot(hash: u32) -> usize {
    ((hash ^ (hash >> 15)).wrapping_mul(0x9e37_79b1) >> 16) as usize % SLOTS
}

/// Returns the part of the hash that a slot stores beside the piece's id: with it most other pieces are excluded
/// without comparing bytes.
#[allow(clippy::cast_possible_truncation)]
pub const fn fingerprint(hash: u32) -> u16 {
    (hash ^ (hash >> 16)) as u16
}
