//! WordPiece (Devlin et al. 2018): of a word, the longest piece that it begins with, then the longest that goes on there.
//! A word that is too long, or that has a stretch in no piece, is unknown as a whole.

use serde::{Deserialize, Serialize};

use super::double_array::{DoubleArray, Node};

/// The settings of a frozen WordPiece model: all but the pieces.
#[derive(Serialize, Deserialize)]
pub struct WordPieceSettings {
    pub unknown: u32,
    /// The beginning of pieces that go on within a word.
    pub continuing_prefix: String,
    pub longest_word: usize,
}

/// A WordPiece model over a double array of its pieces.
pub struct WordPiece<'a> {
    pieces: DoubleArray<'a>,
    /// The node from which pieces that go on within a word are looked up.
    continuing: Option<Node>,
    unknown: u32,
    longest_word: usize,
}

impl<'a> WordPiece<'a> {
    /// The model of these pieces.
    pub fn new(settings: &WordPieceSettings, pieces: DoubleArray<'a>) -> WordPiece<'a> {
        WordPiece {
            pieces,
            continuing: pieces.walk(pieces.root(), settings.continuing_prefix.as_bytes()),
            unknown: settings.unknown,
            longest_word: settings.longest_word,
        }
    }

    /// Appends the tokens of a word.
    pub fn tokenize(&self, word: &str, tokens: &mut Vec<u32>) {
        let first = tokens.len();
        let is_short = word.len() <= self.longest_word || word.chars().nth(self.longest_word).is_none();
        if !is_short || self.split(word.as_bytes(), tokens).is_none() {
            tokens.truncate(first);
            tokens.push(self.unknown);
        }
    }

    /// None where a stretch of the word is in no piece.
    fn split(&self, word: &[u8], tokens: &mut Vec<u32>) -> Option<()> {
        let mut start = 0;
        while start < word.len() {
            let mut node = if start == 0 { self.pieces.root() } else { self.continuing? };
            let mut longest = None;
            for (at, &byte) in word.iter().enumerate().skip(start) {
                let Some(next) = self.pieces.step(node, byte) else { break };
                node = next;
                longest = node.number().map(|id| (id, at + 1)).or(longest);
            }
            let (id, end) = longest?;
            tokens.push(id);
            start = end;
        }
        Some(())
    }
}
