//! Places in a text, counted in bytes and in characters.

use unicode_segmentation::GraphemeCursor;

/// A place in the text, counted both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pos {
    /// The number of bytes before the position.
    pub byte: usize,
    /// The number of characters before the position.
    pub char: usize,
}

/// The next place that is no white space. White space that a combining mark sits on is a character like any other.
pub fn skip_white(text: &str, from: Pos) -> Pos {
    let rest = &text[from.byte..];
    let white = rest.len() - rest.trim_start().len();
    let to = walk(text, from, from.byte + white);
    match rest[..white].chars().next_back() {
        Some(last) if !is_cluster_boundary(text, to.byte) => Pos { byte: to.byte - last.len_utf8(), char: to.char - 1 },
        _ => to,
    }
}

/// The place at `byte`, counted from one that is near.
pub fn walk(text: &str, from: Pos, byte: usize) -> Pos {
    let char = if byte >= from.byte {
        from.char + text[from.byte..byte].chars().count()
    } else {
        from.char - text[byte..from.byte].chars().count()
    };
    Pos { byte, char }
}

/// Whether a grapheme cluster may end here. May answer no between two regional indicators, where telling would mean
/// to count all those before: a better place is never far.
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
    // The whole text is at hand, so the cursor never has to ask for more of it.
    GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0).unwrap_or(false)
}
