//! Cuts a text into chunks: text in, ranges out.
//!
//! It takes three steps, each linear in the length of the text. *Candidates*: every acceptable place for a cut gets a
//! cost by its kind of boundary (paragraph, sentence, line, word, grapheme cluster: UAX #29), plus a small
//! pseudo-random cost from the characters beside it. *Thinning*: the cheapest candidate of every short window stays,
//! which bounds their number whatever the text. *Path*: dynamic programming finds the cheapest way to cut.
//!
//! Costs depend only on the text nearby, and two cheapest paths that share one cut are the same from there on. So after
//! an edit the old cuts return within a chunk or two, and the chunks beyond need no new embedding.

mod cuts;
mod params;
mod text;

use unicode_segmentation::UnicodeSegmentation;

pub use params::{MAX_CHUNK_SIZE, MAX_CHUNKS, Params};

use self::cuts::{Cut, candidates, max_body_chars, subtract_local_minimum, thin};
use self::text::{Pos, is_cluster_boundary, position_at, skip_white_space};

/// A range of the text without white space at its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The offset of the first byte.
    pub start: usize,
    /// The offset after the last byte.
    pub end: usize,
    /// The offset of the first character.
    pub start_char: usize,
    /// The offset after the last character.
    pub end_char: usize,
}

/// The result of [`chunk`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunks {
    /// The chunks, in the order of the text.
    pub chunks: Vec<Chunk>,
    /// Whether the text goes on after the last of `max_chunks` chunks.
    pub truncated: bool,
}

/// Cuts `text` into chunks. Time is linear in the length of the text; of a text with far more than `max_chunks` chunks
/// only the beginning is read.
pub fn chunk(text: &str, params: &Params) -> Chunks {
    let text = text.trim_end();
    let near = relevant_prefix(text, params);
    if near.len() < text.len() {
        let cut = bodies_of(near, params);
        if cut.len() > params.max_chunks {
            return add_overlap(near, cut, params);
        }
        // Grapheme clusters longer than a chunk put more text into `max_chunks` chunks than was expected: use all of
        // it.
    }
    add_overlap(text, bodies_of(text, params), params)
}

/// Returns the beginning of a text that is far too long: so much that no cut within `max_chunks` depends on the rest.
fn relevant_prefix<'a>(text: &'a str, params: &Params) -> &'a str {
    const MARGIN_CHUNKS: usize = 8;
    let most = params.size.saturating_mul(params.max_chunks.saturating_add(MARGIN_CHUNKS));
    if text.len() <= most {
        return text;
    }
    // White space between chunks belongs to none of them, so it does not count towards their size.
    let solid = text.char_indices().filter(|(_, c)| !c.is_whitespace());
    solid.map(|(at, _)| at).nth(most).map_or(text, |at| text[..at].trim_end())
}

/// Returns the stretches of text between the cuts, as (start, end), in the order of the text.
fn bodies_of(text: &str, params: &Params) -> Vec<(Pos, Pos)> {
    let start = skip_white_space(text, Pos { byte: 0, char: 0 });
    if start.byte == text.len() {
        return Vec::new();
    }
    let mut cuts = thin(candidates(text, start, params), params);
    subtract_local_minimum(&mut cuts, params);
    cheapest_path(&cuts, start, params)
}

/// Puts the end of the previous text before each stretch, as overlap.
fn add_overlap(text: &str, mut bodies: Vec<(Pos, Pos)>, params: &Params) -> Chunks {
    let truncated = bodies.len() > params.max_chunks;
    bodies.truncate(params.max_chunks);
    let mut before = bodies.first().map_or(Pos { byte: 0, char: 0 }, |b| b.0);
    let mut chunks = Vec::with_capacity(bodies.len());
    for (body, end) in bodies {
        let room = params.overlap.min(params.size.saturating_sub(end.char - body.char));
        let from = overlap_start(text, before, body, room);
        chunks.push(Chunk { start: from.byte, end: end.byte, start_char: from.char, end_char: end.char });
        before = body;
    }
    Chunks { chunks, truncated }
}

/// Returns the stretches of text along the cheapest path through the cuts, as (start, end).
fn cheapest_path(cuts: &[Cut], start: Pos, params: &Params) -> Vec<(Pos, Pos)> {
    let longest = max_body_chars(params);
    // `best[i]` is the least cost of a path that ends with the cut `cuts[i - 1]`, and the index of the one before it;
    // `best[0]` is the start.
    let mut best: Vec<(u64, usize)> = Vec::with_capacity(cuts.len() + 1);
    best.push((0, 0));
    let begin = |i: usize| if i == 0 { start } else { cuts[i - 1].start };
    let mut first = 0;
    for (j, cut) in cuts.iter().enumerate() {
        while first < j && cut.end.char.saturating_sub(begin(first).char) > longest {
            first += 1;
        }
        // The nearest earlier cut is out of reach only where one grapheme cluster is longer than a chunk; it is taken
        // anyway.
        let mut cheapest = (u64::MAX, first);
        for (i, way) in best.iter().enumerate().take(j + 1).skip(first) {
            let total = way.0 + cut.cost();
            if total < cheapest.0 {
                cheapest = (total, i);
            }
        }
        best.push(cheapest);
    }
    let mut bodies = Vec::new();
    let mut at = cuts.len();
    while at > 0 {
        let before = best[at].1;
        bodies.push((begin(before), cuts[at - 1].end));
        at = before;
    }
    bodies.reverse();
    bodies
}

/// Returns where the overlap of a chunk starts: at the first word boundary within `room` characters before `body`, and
/// after `least`, so that no chunk contains all of the previous one.
fn overlap_start(text: &str, least: Pos, body: Pos, room: usize) -> Pos {
    let span = &text[least.byte..body.byte];
    if room == 0 || span.is_empty() {
        return body;
    }
    let Some(from) = span.char_indices().rev().nth(room.min(body.char - least.char) - 1).map(|(at, _)| at) else {
        return body;
    };
    // Words are looked for from the white space before, since from the middle of a word the boundaries would be wrong;
    // at most 256 bytes back, so that a very long word costs no more.
    const BACK: usize = 256;
    let mut back = from.saturating_sub(BACK);
    while !span.is_char_boundary(back) {
        back -= 1;
    }
    let back = span[back..from].rfind(char::is_whitespace).map_or(back, |n| back + n);
    let found = span[back..].split_word_bound_indices().find_map(|(at, word)| {
        let at = back + at;
        let fits =
            at >= from.max(1) && !word.starts_with(char::is_whitespace) && is_cluster_boundary(text, least.byte + at);
        let apart = at == 0
            || span[..at].ends_with(char::is_whitespace)
            || !word.starts_with(|c: char| c.is_ascii_punctuation());
        (fits && apart).then_some(least.byte + at)
    });
    match found {
        Some(at) => position_at(text, body, at),
        None => body,
    }
}

#[cfg(test)]
mod tests;
