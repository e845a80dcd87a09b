//! Positions in a text, counted in bytes and in characters.

use unicode_segmentation::GraphemeCursor;

/// A position in a text, counted in both units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pos {
    /// The number of bytes before the position.
    pub byte: usize,
    /// The number of characters before the position.
    pub char: usize,
}

/// Returns the next position that is not white space. White space with a combining mark on it counts as a character.
pub fn skip_white_space(text: &str, from: Pos) -> Pos {
    let rest = &text[from.byte..];
    let white = rest.len() - rest.trim_start().len();
    let to = position_at(text, from, from.byte + white);
    match rest[..white].chars().next_back() {
        Some(last) if !is_cluster_boundary(text, to.byte) => Pos { byte: to.byte - last.len_utf8(), char: to.char - 1 },
        _ => to,
    }
}

/// Returns the position at `byte`, counting characters from the nearby position `from`.
pub fn position_at(text: &str, from: Pos, byte: usize) -> Pos {
    let char = if byte >= from.byte {
        from.char + text[from.byte..byte].chars().count()
    } else {
        from.char - text[byte..from.byte].chars().count()
    };
    Pos { byte, char }
}

/// Whether a grapheme cluster may end at a byte offset. Between two regional indicators it always answers false: a true
/// answer would need a count of all those before, and another place to cut is never far.
pub fn is_cluster_boundary(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    if at == 0 || at == bytes.len() {
        return true;
    }
    if bytes[at - 1].is_ascii() && bytes[at].is_ascii() {
        return !(bytes[at - 1] == b'\r' && bytes[at] == b'\n');
    }
    let regional = |c: Option<char>| c.is_some_and(|c| ('\u{1f1e6}'..='\u{1f1ff}').contains(&c));
    if regional(text[..at].chars().next_back()) && regional(text[at..].chars().next()) {
        return false;
    }
    // The cursor has the whole text, so it never asks for another part of it.
    GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0).unwrap_or(false)
}
