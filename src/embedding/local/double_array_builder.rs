//! Writes the table that `double_array.rs` reads: for the build script, and for tests.

/// The `check` of a slot that is not in use.
const FREE: u32 = u32::MAX;
/// The `check` of the root, slot 0, which no byte leads to.
const ROOT_CHECK: u32 = u32::MAX - 1;

/// Writes the table of some strings and their numbers, sorted by their bytes, each once, without a zero byte.
pub fn build(strings: &[(&[u8], u32)]) -> Vec<u8> {
    let mut builder = Builder { slots: vec![(0, FREE)], first_free: 1 };
    builder.slots[0].1 = ROOT_CHECK;
    if !strings.is_empty() {
        builder.place(strings, 0, 0);
    }
    builder.slots.iter().flat_map(|(base, check)| [base.to_le_bytes(), check.to_le_bytes()].concat()).collect()
}

struct Builder {
    /// (base, check)
    slots: Vec<(u32, u32)>,
    /// No slot before it is free.
    first_free: usize,
}

impl Builder {
    /// Places the children of a node, which all the strings lead to by their first `depth` bytes.
    fn place(&mut self, strings: &[(&[u8], u32)], depth: usize, node: u32) {
        let byte = |(string, _): &(&[u8], u32)| string.get(depth).copied().unwrap_or(0);
        let children: Vec<&[(&[u8], u32)]> = strings.chunk_by(|a, b| byte(a) == byte(b)).collect();
        let bytes: Vec<u8> = children.iter().map(|child| byte(&child[0])).collect();
        let base = self.base_for(&bytes);
        self.slots[node as usize].0 = base;
        for &byte in &bytes {
            self.slots[(base ^ u32::from(byte)) as usize].1 = node;
        }
        for (child, &byte) in children.iter().zip(&bytes) {
            let next = base ^ u32::from(byte);
            match child {
                [(string, number)] if string.len() == depth => self.slots[next as usize].0 = *number,
                _ => self.place(child, depth + 1, next),
            }
        }
    }

    /// The first base where all of these bytes lead to slots that are free.
    #[allow(clippy::cast_possible_truncation)]
    fn base_for(&mut self, bytes: &[u8]) -> u32 {
        while self.slots.get(self.first_free).is_some_and(|slot| slot.1 != FREE) {
            self.first_free += 1;
        }
        let mut at = self.first_free;
        loop {
            let base = at as u32 ^ u32::from(bytes[0]);
            // All slots of a base are in one block of 256.
            let block = (at / 256 + 1) * 256;
            if self.slots.len() < block {
                self.slots.resize(block, (0, FREE));
            }
            if bytes.iter().all(|&byte| self.slots[(base ^ u32::from(byte)) as usize].1 == FREE) {
                return base;
            }
            at += 1;
            while self.slots.get(at).is_some_and(|slot| slot.1 != FREE) {
                at += 1;
            }
        }
    }
}
