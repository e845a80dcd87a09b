//! Postgres' `tsvector`, as it is in memory after its length word: the number of lexemes, an entry of four bytes for each
//! (from the lowest bit: 1 whether it has positions, 11 length, 20 place), then their bytes, each followed by its positions
//! (two bytes how many, two bytes each, at even places). Lexemes are sorted by their bytes.

use std::cmp::Ordering;

use super::bm25::TermCounts;
use super::term::{Term, Word};

/// The longest lexeme, in bytes.
pub const MAX_LEXEME_BYTES: usize = (1 << 11) - 1;
/// All lexemes with their positions, in bytes.
const MAX_TEXT_BYTES: usize = (1 << 20) - 1;
/// The last position; what comes later is counted there.
const MAX_POSITION: usize = (1 << 14) - 1;
/// Positions of one lexeme.
const MAX_POSITIONS: usize = 255;

/// Lexemes with their positions, from 0, as a `tsvector` without its length word; one that is there once is written without
/// its position. Lexemes that are too long are left out,
/// and so are the last ones by their bytes where all together are too long.
pub fn encode(mut lexemes: Vec<(&[u8], usize)>) -> Vec<u8> {
    lexemes.retain(|(lexeme, _)| (1..=MAX_LEXEME_BYTES).contains(&lexeme.len()));
    let mut entries: Vec<u32> = Vec::with_capacity(lexemes.len());
    let mut texts: Vec<u8> = Vec::with_capacity(lexemes.len() * 10);
    let mut alike: Vec<(&[u8], usize)> = Vec::new();
    // Numbers are sorted several times as fast as slices, and their beginnings tell nearly all lexemes apart: the upper bits
    // of a key are those, the lower ones the lexeme's index.
    let bits = usize::BITS - lexemes.len().leading_zeros();
    let key = |(at, (lexeme, _)): (usize, &(&[u8], usize))| beginning(lexeme) >> bits << bits | at as u64;
    let mut keys: Vec<u64> = lexemes.iter().enumerate().map(key).collect();
    keys.sort_unstable();
    'all: for keys in keys.chunk_by(|a, b| a >> bits == b >> bits) {
        alike.clear();
        alike.extend(keys.iter().filter_map(|key| lexemes.get(usize::try_from(key & !(!0 << bits)).ok()?)));
        if alike.len() > 1 {
            alike.sort_unstable();
            alike.dedup();
        }
        for same in alike.chunk_by(|a, b| a.0 == b.0) {
            if !push(&mut entries, &mut texts, same) {
                break 'all;
            }
        }
    }
    let size = i32::try_from(entries.len()).unwrap_or(0);
    let mut vector = Vec::with_capacity(4 + 4 * entries.len() + texts.len());
    vector.extend(size.to_ne_bytes());
    vector.extend(entries.iter().flat_map(|entry| entry.to_ne_bytes()));
    vector.extend(texts);
    vector
}

/// Adds a lexeme with its positions; false where there is no room for it.
fn push(entries: &mut Vec<u32>, texts: &mut Vec<u8>, same: &[(&[u8], usize)]) -> bool {
    let lexeme = same[0].0;
    let positions = &same[..same.len().min(MAX_POSITIONS)];
    let place = texts.len();
    if place + lexeme.len() + 4 + 2 * positions.len() > MAX_TEXT_BYTES {
        return false;
    }
    texts.extend(lexeme);
    // Both are in range, as checked above.
    let (length, at) = (u32::try_from(lexeme.len()).unwrap_or(0), u32::try_from(place).unwrap_or(0));
    let entry = length << 1 | at << 12;
    if positions.len() == 1 {
        // Without a position it counts once: a fifth of the bytes of a chunk's words. No search asks where a word is.
        entries.push(entry);
        return true;
    }
    if texts.len() % 2 == 1 {
        texts.push(0);
    }
    let clamped = |at: usize| u16::try_from((at + 1).min(MAX_POSITION)).unwrap_or(u16::MAX);
    let start = texts.len();
    texts.extend([0, 0]);
    let mut count = 0u16;
    let mut last = 0;
    for position in positions.iter().map(|(_, at)| clamped(*at)).filter(|at| std::mem::replace(&mut last, *at) != *at) {
        texts.extend(position.to_ne_bytes());
        count += 1;
    }
    texts[start..start + 2].copy_from_slice(&count.to_ne_bytes());
    entries.push(1 | entry);
    true
}

/// The first bytes of a lexeme, as a number that is ordered as they are.
fn beginning(lexeme: &[u8]) -> u64 {
    match lexeme.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let number = lexeme.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            number << (8 * (8 - lexeme.len()))
        }
    }
}

/// Counts how often a `tsvector` has each word of a query, by the word's most frequent lexeme; `None` where the bytes are no
/// `tsvector`.
pub fn counts(vector: &[u8], words: &[Word]) -> Option<TermCounts> {
    let vector = Lexemes::new(vector)?;
    let mut length = 0;
    for at in 0..vector.size {
        length += vector.get(at)?.1;
    }
    let count = |word: &Word| word.terms.iter().try_fold(0, |best: u32, term| Some(best.max(vector.count(term)?)));
    let of_words = words.iter().map(count).collect::<Option<Vec<u32>>>()?;
    Some(TermCounts { of_words, length })
}

struct Lexemes<'a> {
    size: usize,
    entries: &'a [u8],
    texts: &'a [u8],
}

impl<'a> Lexemes<'a> {
    fn new(vector: &'a [u8]) -> Option<Self> {
        let (size, rest) = vector.split_first_chunk()?;
        let size = usize::try_from(u32::from_ne_bytes(*size)).ok()?;
        let (entries, texts) = rest.split_at_checked(size.checked_mul(4)?)?;
        Some(Self { size, entries, texts })
    }

    /// A lexeme, and how often it is there.
    fn get(&self, at: usize) -> Option<(&'a [u8], u32)> {
        let entry = u32::from_ne_bytes(self.entries.get(4 * at..4 * at + 4)?.try_into().ok()?);
        let (length, place) = ((entry >> 1 & 0x7ff) as usize, (entry >> 12) as usize);
        let end = place + length;
        let count = if entry & 1 == 1 {
            let at = end + end % 2;
            u32::from(u16::from_ne_bytes(self.texts.get(at..at + 2)?.try_into().ok()?))
        } else {
            1
        };
        Some((self.texts.get(place..end)?, count))
    }

    fn count(&self, term: &Term) -> Option<u32> {
        let text = term.text.as_bytes();
        let (mut from, mut to) = (0, self.size);
        while from < to {
            let middle = usize::midpoint(from, to);
            match self.get(middle)?.0.cmp(text) {
                Ordering::Less => from = middle + 1,
                Ordering::Greater | Ordering::Equal => to = middle,
            }
        }
        let mut sum = 0;
        for at in from..self.size {
            let (lexeme, count) = self.get(at)?;
            match term.is_prefix {
                true if lexeme.starts_with(text) => sum += count,
                false if lexeme == text => return Some(count),
                _ => break,
            }
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(terms: &[&str]) -> Word {
        terms
            .iter()
            .map(|t| t.strip_suffix('*').map_or_else(|| Term::lexeme(*t), Term::prefix))
            .collect::<Vec<_>>()
            .into()
    }

    /// 'ab':1,3 'b' 'c':2
    fn written_by_hand() -> Vec<u8> {
        let mut vector = 3u32.to_le_bytes().to_vec();
        for (positions, length, place) in [(1u32, 2u32, 0u32), (0, 1, 8), (1, 1, 9)] {
            vector.extend((positions | length << 1 | place << 12).to_le_bytes());
        }
        vector.extend(b"ab\x02\x00\x01\x00\x03\x00bc\x01\x00\x02\x00");
        vector
    }

    #[test]
    fn words_are_counted_in_a_tsvector() {
        let vector = written_by_hand();
        let counted = |words: &[&[&str]]| {
            counts(&vector, &words.iter().map(|terms| word(terms)).collect::<Vec<_>>()).map(|c| (c.of_words, c.length))
        };
        assert_eq!(counted(&[&["a"], &["ab"], &["c"]]), Some((vec![0, 2, 1], 4)));
        // Alternatives count once, as the one that is there most often; a prefix as all that begin with it.
        assert_eq!(counted(&[&["ab", "c"], &["a*"], &["*"], &[]]), Some((vec![2, 2, 4, 0], 4)));
        assert_eq!(counts(&0u32.to_le_bytes(), &[word(&["a"])]), Some(TermCounts { of_words: vec![0], length: 0 }));
        assert_eq!(counts(&vector[..vector.len() - 5], &[word(&["c"])]), None);
        assert_eq!(counts(&[9], &[]), None);
    }

    #[test]
    fn a_tsvector_that_is_encoded_has_what_was_encoded() {
        let long = vec![b'x'; MAX_LEXEME_BYTES + 1];
        let vector = encode(vec![(b"c", 1), (b"ab", 2), (&long, 3), (b"ab", 0), (b"ab", 2), (b"", 4), (b"ab", 99_999)]);
        let counted = counts(&vector, &[word(&["ab"]), word(&["c"])]).unwrap();
        assert_eq!((counted.of_words, counted.length), (vec![3, 1], 4));
        // 'ab':1,3,16383 'c'
        assert_eq!(&vector[12..], b"ab\x03\x00\x01\x00\x03\x00\xff\x3fc");
        let many: Vec<(&[u8], usize)> = (0..1000).map(|at| (b"a".as_slice(), at)).collect();
        assert_eq!(counts(&encode(many), &[word(&["a"])]).unwrap().of_words, [255]);
        let texts: Vec<String> = (0..20_000).map(|n| format!("{n:0100}")).collect();
        let vector = encode(texts.iter().map(|text| (text.as_bytes(), 0)).collect());
        assert!(
            vector.len() < (1 << 20) + 4 * 20_000 && counts(&vector, &[word(&[&texts[0]])]).unwrap().of_words == [1]
        );
    }
}
