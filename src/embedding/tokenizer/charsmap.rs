//! sentencepiece's `precompiled_charsmap`: which strings become which, as a double array of darts-clone and the strings
//! that its leaves point to, each ended by a zero byte.
//!
//! Of a grapheme cluster of fewer than 6 bytes the shortest beginning that is in the table decides what becomes of all of
//! it; that is how the reference does it. Of others, each character stands alone.

use unicode_segmentation::UnicodeSegmentation;

use super::characters::is_cluster_beside_its_like;

/// A longer cluster is replaced character by character.
const LONGEST_CLUSTER: usize = 5;

/// A charsmap over bytes that hold one. Any bytes are safe.
pub struct Charsmap<'a> {
    slots: &'a [[u8; 4]],
    strings: &'a [u8],
    /// The replacement of each ASCII character.
    ascii: [Replacement<'a>; 128],
}

/// Nothing: the character stays.
type Replacement<'a> = Option<&'a str>;

/// The two sections of a decoded `precompiled_charsmap`.
pub fn sections(charsmap: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let broken = || "Precompiled: the charsmap is broken".to_owned();
    let (size, rest) = charsmap.split_first_chunk().ok_or_else(broken)?;
    let size = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| broken())? / 4 * 4;
    let (slots, strings) = rest.split_at_checked(size).filter(|(slots, _)| !slots.is_empty()).ok_or_else(broken)?;
    std::str::from_utf8(strings).map_err(|_| broken())?;
    Ok((slots, strings))
}

impl<'a> Charsmap<'a> {
    /// Reads the sections of a charsmap.
    pub fn new(slots: &'a [u8], strings: &'a [u8]) -> Charsmap<'a> {
        let mut charsmap = Charsmap { slots: slots.as_chunks().0, strings, ascii: [None; 128] };
        for byte in 0..128u8 {
            charsmap.ascii[usize::from(byte)] = charsmap.look_up(&[byte]);
        }
        charsmap
    }

    /// The text with every replacement made.
    pub fn normalize(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 8);
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let next = rest[first.len_utf8()..].chars().next();
            if is_cluster_beside_its_like(first) && next.is_none_or(is_cluster_beside_its_like) {
                rest = &rest[first.len_utf8()..];
                self.push(first, &mut out);
                continue;
            }
            let cluster = rest.graphemes(true).next().unwrap_or(rest);
            rest = &rest[cluster.len()..];
            match self.look_up(cluster.as_bytes()).filter(|_| cluster.len() <= LONGEST_CLUSTER) {
                Some(replacement) => out.push_str(replacement),
                None => cluster.chars().for_each(|c| self.push(c, &mut out)),
            }
        }
        out
    }

    fn push(&self, c: char, out: &mut String) {
        let replacement = match self.ascii.get(c as usize) {
            Some(replacement) => *replacement,
            None => self.look_up(c.encode_utf8(&mut [0; 4]).as_bytes()),
        };
        match replacement {
            Some(replacement) => out.push_str(replacement),
            None => out.push(c),
        }
    }

    /// Returns the replacement of the shortest beginning of a key that is in the table.
    fn look_up(&self, key: &[u8]) -> Replacement<'a> {
        let slot = |at: usize| self.slots.get(at).map(|slot| u32::from_le_bytes(*slot));
        let offset = |slot: u32| ((slot >> 10) << ((slot & 1 << 9) >> 6)) as usize;
        let mut at = offset(slot(0)?);
        for &byte in key.iter().take_while(|&&byte| byte != 0) {
            at ^= usize::from(byte);
            let here = slot(at)?;
            if here & (1 << 31 | 0xff) != u32::from(byte) {
                return None;
            }
            at ^= offset(here);
            if here >> 8 & 1 == 1 {
                let start = (slot(at)? & !(1 << 31)) as usize;
                let string = self.strings.get(start..)?;
                let end = string.iter().position(|&byte| byte == 0).unwrap_or(string.len());
                return std::str::from_utf8(&string[..end]).ok();
            }
        }
        None
    }
}
