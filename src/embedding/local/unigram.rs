//! The tokenizer of the multilingual model, as its `tokenizer.json` describes it: text is normalised (NFKC, lower case),
//! each run of letters, numbers and marks is a word with `▁` before it, and a word becomes the most probable sequence of
//! pieces. The pieces are a table frozen at build time, which is used where it stands in the library.
//!
//! Source: Kudo 2018 ("Subword Regularization") and Hugging Face `tokenizers`, whose Unigram this equals id by id
//! (`tests/data/multilingual_tokens.json` holds what that library answered).

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::double_array;
use super::word_cache::WordCache;

/// The pieces, and the logarithm of the probability of each (f64, little endian).
static TRIE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/unigram_trie.bin"));
static SCORES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/unigram_scores.bin"));
include!(concat!(env!("OUT_DIR"), "/unigram.rs"));

const WORD_START: &str = "▁";
/// A character that no piece has costs this much more than the least probable piece.
const UNKNOWN_PENALTY: f64 = 10.0;
/// Bytes without a separator that are read at once. A longer run is cut here, so that what a text needs in memory has a
/// limit; more pieces than count are in far fewer bytes.
const LONGEST_RUN: usize = 16 * 1024;

/// Calls `take` with the id of each piece of `text`, in order, until it answers false. A stretch of characters that no
/// piece has is [`UNKNOWN`].
pub fn pieces(text: &str, cache: &mut WordCache, mut take: impl FnMut(u32) -> bool) {
    let mut segmenter = Segmenter { word: String::new(), best: Vec::new(), ids: Vec::new() };
    let mut rest = text;
    while let Some((run, after)) = next_run(rest) {
        rest = after;
        let ids = match cache.get(run) {
            Some(ids) => ids,
            None => {
                segmenter.ids.clear();
                segmenter.read(run);
                cache.put(run, &segmenter.ids);
                &segmenter.ids
            }
        };
        if !ids.iter().all(|&id| take(id)) {
            return;
        }
    }
}

/// The next stretch of a text without a character that separates words whatever stands beside it, and what comes after it.
fn next_run(text: &str) -> Option<(&str, &str)> {
    let ends_at = |(at, c): &(usize, char)| separates(*c, &text[at + c.len_utf8()..]);
    let mut chars = text.char_indices();
    let (start, _) = chars.find(|c| !ends_at(c))?;
    let end = chars.find(|c| ends_at(c) || c.0 - start >= LONGEST_RUN).map_or(text.len(), |(at, _)| at);
    Some((&text[start..end], &text[end..]))
}

/// Whether words end at this character, so that what comes before and after can be normalised apart: a quick look that
/// knows the usual ones, not all.
fn separates(c: char, after: &str) -> bool {
    match c {
        // A stroke through one of these makes another character.
        '<' | '=' | '>' => !after.starts_with('\u{338}'),
        '\0'..='\x7f' => !c.is_ascii_alphanumeric(),
        '\u{2010}'..='\u{2016}' | '\u{2018}'..='\u{2027}' | '\u{3000}'..='\u{3003}' | '\u{3008}'..='\u{3011}' => true,
        '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}' | '\u{ff1b}' | '\u{ff1f}' | '\u{ff5e}' => true,
        _ => false,
    }
}

/// Buffers that a text's words share.
struct Segmenter {
    /// The word that is being read, [`WORD_START`] before it.
    word: String,
    /// The best sequence of pieces for each place in the word at which it may end.
    best: Vec<Best>,
    /// The pieces of the run that is being read.
    ids: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Best {
    score: f64,
    /// The offset at which its last piece starts.
    start: u32,
    id: u32,
}

impl Segmenter {
    fn read(&mut self, run: &str) {
        self.word.clear();
        if run.is_ascii() || is_nfkc_quick(run.chars()) == IsNormalized::Yes {
            run.chars().for_each(|c| self.push(c));
        } else {
            run.nfkc().for_each(|c| self.push(c));
        }
        self.end_word();
    }

    fn push(&mut self, c: char) {
        if c.is_ascii() {
            self.push_lower(c.to_ascii_lowercase());
        } else {
            c.to_lowercase().for_each(|c| self.push_lower(c));
        }
    }

    fn push_lower(&mut self, c: char) {
        if is_word(c) {
            if self.word.is_empty() {
                self.word.push_str(WORD_START);
            }
            self.word.push(c);
        } else {
            self.end_word();
        }
    }

    /// Appends the pieces of the word: the sequence whose scores have the highest sum (Viterbi).
    #[allow(clippy::cast_possible_truncation)]
    fn end_word(&mut self) {
        let bytes = self.word.as_bytes();
        let unreached = Best { score: f64::NEG_INFINITY, start: 0, id: UNKNOWN };
        self.best.clear();
        self.best.resize(bytes.len() + 1, unreached);
        self.best[0].score = 0.0;
        for (start, c) in self.word.char_indices() {
            let before = self.best[start].score;
            let single = start + c.len_utf8();
            let mut single_is_known = false;
            let mut node = double_array::ROOT;
            for (at, &byte) in bytes.iter().enumerate().skip(start) {
                let Some(next) = double_array::step(TRIE, node, byte) else { break };
                node = next;
                if let Some(id) = double_array::value(TRIE, node) {
                    reach(&mut self.best[at + 1], Best { score: before + score(id), start: start as u32, id });
                    single_is_known |= at + 1 == single;
                }
            }
            if !single_is_known {
                let score = before + (LEAST_SCORE - UNKNOWN_PENALTY);
                reach(&mut self.best[single], Best { score, start: start as u32, id: UNKNOWN });
            }
        }
        let first = self.ids.len();
        let mut end = bytes.len();
        while end > 0 {
            let Best { start, id, .. } = self.best[end];
            // Unknown characters side by side are one piece.
            if id != UNKNOWN || self.ids.len() == first || self.ids.last() != Some(&UNKNOWN) {
                self.ids.push(id);
            }
            end = start as usize;
        }
        self.ids[first..].reverse();
        self.word.clear();
    }
}

fn reach(best: &mut Best, candidate: Best) {
    if candidate.score > best.score {
        *best = candidate;
    }
}

fn score(id: u32) -> f64 {
    let at = id as usize * 8;
    SCORES.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(f64::NEG_INFINITY, f64::from_le_bytes)
}

fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    match c {
        // The usual ones need no look into the tables of Unicode.
        '\u{c0}'..='\u{24f}' => c != '×' && c != '÷',
        '\u{430}'..='\u{481}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => true,
        _ => matches!(
            c.general_category_group(),
            GeneralCategoryGroup::Letter | GeneralCategoryGroup::Number | GeneralCategoryGroup::Mark
        ),
    }
}

#[cfg(test)]
mod tests {
    use unicode_normalization::char::is_combining_mark;

    use super::*;

    #[test]
    fn quick_looks_equal_the_tables_of_unicode() {
        let marks: Vec<char> = ('\u{80}'..=char::MAX).filter(|&c| is_combining_mark(c)).collect();
        for c in '\0'..=char::MAX {
            let by_table = matches!(
                c.general_category_group(),
                GeneralCategoryGroup::Letter | GeneralCategoryGroup::Number | GeneralCategoryGroup::Mark
            );
            assert_eq!(is_word(c), by_table, "{c:?}");
            if separates(c, "") {
                let alone: String = c.to_string().nfkc().collect();
                assert!(alone.chars().flat_map(char::to_lowercase).all(|c| !is_word(c)), "{c:?}");
                for mark in marks.iter().filter(|mark| separates(c, &mark.to_string())) {
                    let apart = alone.clone() + &mark.to_string().nfkc().collect::<String>();
                    assert_eq!(format!("{c}{mark}").nfkc().collect::<String>(), apart, "{c:?} {mark:?}");
                }
            }
        }
    }

    #[test]
    fn a_megabyte_without_a_separator_has_at_most_a_piece_a_character() {
        for unit in ["a", "漢", "\u{301}", "ก", "\u{1f389}", "ᚠ"] {
            let mut count = 0u32;
            pieces(&unit.repeat(1 << 20), &mut WordCache::default(), |_| {
                count += 1;
                true
            });
            // And one that says where a word starts, each time that the run is cut.
            let cuts = unit.len() * (1 << 20) / LONGEST_RUN + 1;
            assert!(count as usize <= (1 << 20) + cuts, "{unit}: {count}");
        }
    }
}
