//! Unigram (Kudo 2018): of all ways to write a word as a sequence of pieces, the most probable one (Viterbi).

use serde::{Deserialize, Serialize};

use super::double_array::DoubleArray;

/// A character in no piece costs this much more than the least probable piece.
const UNKNOWN_PENALTY: f64 = 10.0;

/// The settings of a frozen Unigram model: all but the pieces and their scores.
#[derive(Serialize, Deserialize)]
pub struct UnigramSettings {
    pub unknown: u32,
    /// The lowest score of all, in bits, so that no digit of it is lost.
    pub least_score_bits: u64,
}

/// A Unigram model over a double array of its pieces and their scores.
pub struct Unigram<'a> {
    pieces: DoubleArray<'a>,
    scores: &'a [[u8; 8]],
    unknown: u32,
    unknown_score: f64,
}

/// The best way to write the beginning of a word.
#[derive(Clone, Copy)]
pub struct Best {
    score: f64,
    /// Its last piece, and where that starts; `usize::MAX`: there is no way yet.
    id: u32,
    start: usize,
}

const NONE: Best = Best { score: 0.0, id: 0, start: usize::MAX };

impl Best {
    fn improve(&mut self, candidate: Best) {
        if self.start == usize::MAX || candidate.score > self.score {
            *self = candidate;
        }
    }
}

impl<'a> Unigram<'a> {
    /// The model of these pieces; scores are f64, little endian.
    pub fn new(settings: &UnigramSettings, pieces: DoubleArray<'a>, scores: &'a [u8]) -> Unigram<'a> {
        let unknown_score = f64::from_bits(settings.least_score_bits) - UNKNOWN_PENALTY;
        Unigram { pieces, scores: scores.as_chunks().0, unknown: settings.unknown, unknown_score }
    }

    /// Appends the tokens of a word. `best` is a buffer.
    pub fn tokenize(&self, word: &str, best: &mut Vec<Best>, tokens: &mut Vec<u32>) {
        let bytes = word.as_bytes();
        best.clear();
        best.resize(bytes.len() + 1, NONE);
        for (start, c) in word.char_indices() {
            let before = best[start].score;
            let single = start + c.len_utf8();
            let mut single_is_known = false;
            let mut node = self.pieces.root();
            for (at, &byte) in bytes.iter().enumerate().skip(start) {
                let Some(next) = self.pieces.step(node, byte) else { break };
                node = next;
                let Some((id, score)) = node.number().and_then(|id| Some((id, self.scores.get(id as usize)?))) else {
                    continue;
                };
                best[at + 1].improve(Best { score: before + f64::from_le_bytes(*score), id, start });
                single_is_known |= at + 1 == single;
            }
            if !single_is_known {
                best[single].improve(Best { score: before + self.unknown_score, id: self.unknown, start });
            }
        }
        let first = tokens.len();
        let mut end = bytes.len();
        while end > 0 {
            let Best { id, mut start, .. } = best[end];
            if id == self.unknown {
                // Unknown characters side by side are one token, which may be a piece after all.
                while start > 0 && start < bytes.len() && best[start].id == self.unknown {
                    start = best[start].start;
                }
                let piece = bytes.get(start..end).and_then(|piece| self.pieces.get(piece));
                tokens.push(piece.unwrap_or(self.unknown));
            } else {
                tokens.push(id);
            }
            // Less, unless a damaged table ended a piece within a character.
            end = start.min(end - 1);
        }
        tokens[first..].reverse();
    }
}
