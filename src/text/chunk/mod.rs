//! Text in, ranges out: where a source is cut into chunks.
//!
//! Three steps, each linear in the text. *Candidates*: every place where a cut would be tolerable, with a cost by the
//! kind of boundary (paragraph, sentence, line, word, grapheme cluster: UAX #29) and a little pseudo-random cost from
//! the characters right beside it. *Thinning*: the cheapest candidate of every short window stays, so that their number
//! is bounded whatever the text. *Path*: of all ways to cut, the cheapest one, by dynamic programming.
//!
//! The costs depend on the neighbourhood only, and two cheapest paths that share one cut are the same from there on.
//! So after an edit the old cuts come back within a chunk or two, and what lies beyond needs no new embedding.

mod cuts;
mod params;
mod text;

use unicode_segmentation::UnicodeSegmentation;

pub use params::{MAX_CHUNK_SIZE, MAX_CHUNKS, Params};

use self::cuts::{Cut, candidates, level, longest_body, thin};
use self::text::{Pos, is_cluster_boundary, skip_white, walk};

/// A stretch of the text, white space at its ends left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The offset of the first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
    /// The offset of the first character.
    pub start_char: usize,
    /// The character after the last.
    pub end_char: usize,
}

/// What [`chunk`] answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunks {
    /// In the order of the text.
    pub chunks: Vec<Chunk>,
    /// The text went on after `max_chunks`.
    pub truncated: bool,
}

/// Cuts `text` into chunks. Linear in `text`, and of a text that is much too long only the part that counts is looked at.
pub fn chunk(text: &str, params: &Params) -> Chunks {
    let text = text.trim_end();
    let near = within_reach(text, params);
    if near.len() < text.len() {
        let cut = path(near, params);
        if cut.len() > params.max_chunks {
            return with_overlap(near, cut, params);
        }
        // Only where clusters are longer than chunks: then they hold more than was reckoned with.
    }
    with_overlap(text, path(text, params), params)
}

/// The start of a text that is too long by so much that no cut within `max_chunks` can depend on the rest.
fn within_reach<'a>(text: &'a str, params: &Params) -> &'a str {
    const MARGIN_CHUNKS: usize = 8;
    let most = params.size.saturating_mul(params.max_chunks.saturating_add(MARGIN_CHUNKS));
    if text.len() <= most {
        return text;
    }
    // White space can fall out between chunks, so it is not counted.
    let solid = text.char_indices().filter(|(_, c)| !c.is_whitespace());
    solid.map(|(at, _)| at).nth(most).map_or(text, |at| text[..at].trim_end())
}

/// The text between cuts, as (start, end), in the order of the text.
fn path(text: &str, params: &Params) -> Vec<(Pos, Pos)> {
    let start = skip_white(text, Pos { byte: 0, char: 0 });
    if start.byte == text.len() {
        return Vec::new();
    }
    let mut cuts = thin(candidates(text, start, params), params);
    level(&mut cuts, params);
    cheapest_path(&cuts, start, params)
}

/// Adds to each body the end of the text before it.
fn with_overlap(text: &str, mut bodies: Vec<(Pos, Pos)>, params: &Params) -> Chunks {
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

/// The cheapest way through the cuts: the bodies, as (start, end).
fn cheapest_path(cuts: &[Cut], start: Pos, params: &Params) -> Vec<(Pos, Pos)> {
    let longest = longest_body(params);
    // best[i]: the cheapest way to have a cut at cuts[i - 1], and the cut before it. best[0] is the start.
    let mut best: Vec<(u64, usize)> = Vec::with_capacity(cuts.len() + 1);
    best.push((0, 0));
    let begin = |i: usize| if i == 0 { start } else { cuts[i - 1].start };
    let mut first = 0;
    for (j, cut) in cuts.iter().enumerate() {
        while first < j && cut.end.char.saturating_sub(begin(first).char) > longest {
            first += 1;
        }
        // Only where one cluster is longer than a chunk is the nearest cut before it too far away.
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

/// The first word boundary at or after `room` characters before `body`, and after `least`, so that no chunk holds all of
/// the one before it.
fn overlap_start(text: &str, least: Pos, body: Pos, room: usize) -> Pos {
    let span = &text[least.byte..body.byte];
    if room == 0 || span.is_empty() {
        return body;
    }
    let Some(from) = span.char_indices().rev().nth(room.min(body.char - least.char) - 1).map(|(at, _)| at) else {
        return body;
    };
    // Segmenting from the word before, so that the boundary is a real one; a word is not looked for for ever.
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
        Some(at) => walk(text, body, at),
        None => body,
    }
}

#[cfg(test)]
mod tests;
