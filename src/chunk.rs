//! Text in, ranges out: where a source is cut into chunks.
//!
//! Three steps, each linear in the text. *Candidates*: every place where a cut would be tolerable, with a cost by the
//! kind of boundary (paragraph, sentence, line, word, grapheme cluster: UAX #29) and a little pseudo-random cost from
//! the characters right beside it. *Thinning*: the cheapest candidate of every short window stays, so that their number
//! is bounded whatever the text. *Path*: of all ways to cut, the cheapest one, by dynamic programming.
//!
//! The costs depend on the neighbourhood only, and two cheapest paths that share one cut are the same from there on.
//! So after an edit the old cuts come back within a chunk or two, and what lies beyond needs no new embedding.

use std::collections::VecDeque;

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use crate::error::{Error, Result};

/// The largest chunk that can be asked for, in characters.
pub const MAX_CHUNK_SIZE: usize = 100_000;
/// The largest number of chunks a source that can be asked for.
pub const MAX_CHUNKS: usize = 100_000;

/// How to cut. Lengths are in characters (Unicode scalar values).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// No chunk is longer, unless a single grapheme cluster is.
    pub size: usize,
    /// At most so much of the text before a chunk is repeated at its start.
    pub overlap: usize,
    /// A source is cut off after so many chunks.
    pub max_chunks: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { size: 1000, overlap: 200, max_chunks: 100 }
    }
}

impl Params {
    /// Checks the three numbers against each other; the error says what was expected.
    pub fn checked(size: i64, overlap: i64, max_chunks: i64) -> Result<Self> {
        let within = |name: &'static str, got: i64, least: usize, most: usize| match usize::try_from(got) {
            Ok(n) if (least..=most).contains(&n) => Ok(n),
            _ => Err(Error::invalid(name, got, format!("{least} to {most}"))),
        };
        let size = within("chunk_size", size, 1, MAX_CHUNK_SIZE)?;
        let overlap = within("chunk_overlap", overlap, 0, size - 1)?;
        let max_chunks = within("max_chunks", max_chunks, 1, MAX_CHUNKS)?;
        Ok(Self { size, overlap, max_chunks })
    }
}

/// A stretch of the text, white space at its ends left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
    /// First character.
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

/// A place in the text, counted both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pos {
    byte: usize,
    char: usize,
}

/// What is cut at, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    Paragraph,
    Sentence,
    /// A line that ends within a sentence.
    Line,
    /// Between words that white space sets apart.
    Word,
    /// Between words that nothing sets apart, as a word and its comma.
    Punctuation,
    Cluster,
}

/// A place to cut: the text before ends at `end`, the text after starts at `start`, between them is white space.
#[derive(Debug, Clone, Copy)]
struct Cut {
    end: Pos,
    start: Pos,
    /// By the kind of boundary.
    kind: u64,
    /// By the characters beside it.
    random: u64,
}

impl Cut {
    fn cost(&self) -> u64 {
        self.kind + self.random
    }
}

// Costs are in millionths. A worse kind of boundary outweighs any number of better ones that could stand for it, so words
// are only broken between where a sentence is longer than a chunk. The random part makes neighbouring candidates differ,
// so that the same ones win again after an edit. There is no cost of length: a path of few cuts is a path of long chunks.
// The numbers were chosen by measuring fill against re-alignment (bench/README.md, "Chunks").
const UNIT: u64 = 1_000_000;

impl Break {
    /// What a cut here costs at least; the neighbourhood adds up to [`UNIT`].
    fn cost(self) -> u64 {
        match self {
            Self::Paragraph => 0,
            Self::Sentence => UNIT / 2,
            Self::Line => UNIT * 2,
            Self::Word => UNIT * 50,
            Self::Punctuation => UNIT * 60,
            Self::Cluster => UNIT * 1000,
        }
    }
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

/// All tolerable cuts inside the text, in order, then its end.
fn candidates(text: &str, start: Pos, params: &Params) -> Vec<Cut> {
    let gap = widest_gap(params);
    let mut out = Vec::new();
    let (mut from, mut seen) = (start, start);
    for piece in pieces(text, start.byte) {
        let within = text[piece.range.clone()].split_sentence_bound_indices().skip(usize::from(!piece.starts_sentence));
        for at in within.map(|(at, _)| piece.range.start + at).filter(|&at| at > start.byte) {
            if let Some(cut) = cut_at(text, from, at, &mut seen, sentence_break) {
                refine(text, from, cut.end, gap, &mut out);
                out.push(cut);
                from = cut.start;
            }
        }
    }
    let end = walk(text, seen, text.len());
    refine(text, from, end, gap, &mut out);
    out.push(Cut { end, start: end, kind: 0, random: 0 });
    out
}

/// A stretch of the text to look for sentences in.
struct Piece {
    range: std::ops::Range<usize>,
    starts_sentence: bool,
}

/// The text line by line (UAX #29 ends a sentence at every line end), and long lines in pieces. The rules for sentences
/// look ahead without bound, so this is what keeps them linear in a text like a full stop before a million brackets.
fn pieces(text: &str, from: usize) -> impl Iterator<Item = Piece> + '_ {
    const FAR: usize = 4096;
    let mut next = Piece { range: from..from, starts_sentence: true };
    std::iter::from_fn(move || {
        let at = next.range.end;
        if at >= text.len() {
            return None;
        }
        let near = &text.as_bytes()[at..text.len().min(at + FAR)];
        let starts_sentence = next.starts_sentence;
        let line = near.iter().position(|&b| b == b'\n').map(|n| n + 1);
        let sentence = || near.windows(2).rposition(|w| matches!(w, b". " | b"? " | b"! ")).map(|n| n + 2);
        let whole = (at + near.len() == text.len()).then_some(near.len());
        let found = line.or(whole).or_else(sentence);
        let mut end = at + found.unwrap_or(near.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        next = Piece { range: end..end, starts_sentence: found.is_some() };
        Some(Piece { range: at..end, starts_sentence })
    })
}

/// Adds word cuts, and where words are too long cluster cuts, in a stretch of more than `gap` without a better one.
fn refine(text: &str, from: Pos, to: Pos, gap: usize, out: &mut Vec<Cut>) {
    if to.char - from.char <= gap {
        return;
    }
    let (mut last, mut seen) = (from, from);
    for (at, _) in text[from.byte..to.byte].split_word_bound_indices().skip(1) {
        if let Some(cut) = cut_at(text, last, from.byte + at, &mut seen, word_break) {
            clusters(text, last, cut.end, gap, out);
            out.push(cut);
            last = cut.start;
        }
    }
    clusters(text, last, to, gap, out);
}

fn clusters(text: &str, from: Pos, to: Pos, gap: usize, out: &mut Vec<Cut>) {
    if to.char - from.char <= gap {
        return;
    }
    let mut last = from;
    for (at, _) in text[from.byte..to.byte].grapheme_indices(true).skip(1) {
        last = walk(text, last, from.byte + at);
        out.push(Cut { end: last, start: last, kind: Break::Cluster.cost(), random: random(text, last, last) });
    }
}

/// Between two cuts there is at most so much text, unless one grapheme cluster is longer.
fn widest_gap(params: &Params) -> usize {
    (longest_body(params) / 4).max(1)
}

/// The longest stretch of new text in a chunk: the overlap gives way to it, but for an eighth.
fn longest_body(params: &Params) -> usize {
    (params.size - params.overlap / 8).max(1)
}

/// The cut at a boundary `at`, white space around it left out; none where nothing is left on one side, or where it would
/// be inside a grapheme cluster. `last` is where the text after the cut before starts, `seen` a place whose character
/// count is known: it moves along.
fn cut_at(text: &str, last: Pos, at: usize, seen: &mut Pos, kind: impl Fn(&str, &str) -> Break) -> Option<Cut> {
    if at <= last.byte {
        return None;
    }
    let end = walk(text, *seen, last.byte + text[last.byte..at].trim_end().len());
    *seen = end;
    if end.byte == last.byte || !is_cluster_boundary(text, end.byte) {
        return None;
    }
    let start = skip_white(text, end);
    if start.byte < at || start.byte >= text.len() {
        return None;
    }
    let kind = kind(&text[..end.byte], &text[end.byte..start.byte]);
    Some(Cut { end, start, kind: kind.cost(), random: random(text, end, start) })
}

fn sentence_break(before: &str, white: &str) -> Break {
    match white.matches('\n').count() {
        _ if white.contains(['\u{2029}', '\u{c}']) => Break::Paragraph,
        0 => Break::Sentence,
        1 if ends_sentence(before) => Break::Sentence,
        1 => Break::Line,
        _ => Break::Paragraph,
    }
}

fn word_break(_: &str, white: &str) -> Break {
    if white.is_empty() { Break::Punctuation } else { Break::Word }
}

/// Ends with a terminator (UAX #29: STerm or ATerm, the common ones), closing quotes and brackets aside.
fn ends_sentence(text: &str) -> bool {
    let closing = |c: char| matches!(c, '"' | '\'' | ')' | ']' | '»' | '”' | '’' | '」' | '』' | '）');
    text.trim_end_matches(closing).ends_with(['.', '!', '?', ':', ';', '…', '。', '！', '？', '؟', '۔', '।'])
}

/// A pseudo-random cost from the bytes right beside a cut, below [`UNIT`].
fn random(text: &str, end: Pos, start: Pos) -> u64 {
    // Eight bytes a step (xor, multiply, fold: as in MurmurHash3). It is asked for spread, not for secrecy.
    const NEAR: usize = 16;
    let bytes = text.as_bytes();
    let sides =
        [&bytes[end.byte.saturating_sub(NEAR)..end.byte], &bytes[start.byte..bytes.len().min(start.byte + NEAR)]];
    let mut hash = 0u64;
    for word in sides.iter().flat_map(|side| side.chunks(8)) {
        let mut eight = [0u8; 8];
        eight[..word.len()].copy_from_slice(word);
        hash = (hash ^ u64::from_le_bytes(eight)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
    }
    // The cube of a number between 0 and 1: a few cuts are much cheaper than the rest, so most ways agree on them.
    let random = hash >> 32;
    let cube = (((random * random) >> 32) * random) >> 32;
    (cube * UNIT) >> 32
}

/// Keeps the cheapest candidate of every stretch of an eighth of a chunk, what is alone in one, what follows a grapheme
/// cluster so long that a chunk could not hold more beside it, and the end.
fn thin(cuts: Vec<Cut>, params: &Params) -> Vec<Cut> {
    let (width, gap) = (params.size / 8, widest_gap(params));
    let mut kept = vec![false; cuts.len()];
    // best: candidates of the window, each cheaper than all before it. A choice stays while nothing cheaper comes and
    // the window holds it (robust winnowing), so that text that repeats itself does not keep every candidate.
    let mut best: VecDeque<usize> = VecDeque::new();
    let mut chosen: Option<usize> = None;
    for (at, cut) in cuts.iter().enumerate() {
        let gone = |b: usize| cuts[b].end.char + width < cut.end.char;
        while best.back().is_some_and(|&b| cuts[b].cost() >= cut.cost()) {
            best.pop_back();
        }
        best.push_back(at);
        while best.front().is_some_and(|&b| gone(b)) {
            best.pop_front();
        }
        let cheapest = best.front().copied().unwrap_or(at);
        if chosen.is_none_or(|c| gone(c) || cuts[c].cost() > cuts[cheapest].cost()) {
            chosen = Some(cheapest);
            kept[cheapest] = true;
        }
    }
    for (at, two) in cuts.windows(2).enumerate() {
        kept[at] |= two[1].end.char - two[0].end.char > width;
        kept[at + 1] |= two[1].end.char - two[0].start.char > gap;
    }
    if let Some(last) = kept.last_mut() {
        *last = true;
    }
    cuts.into_iter().zip(kept).filter_map(|(cut, keep)| keep.then_some(cut)).collect()
}

/// Takes from each cut's cost what the best kind of boundary near it costs: where sentences are the best there is, they
/// are as good as paragraphs elsewhere. Without that, text of one kind would be cut as seldom as possible, every chunk
/// would be full, and an edit would have nowhere to go but through all chunks after it.
fn level(cuts: &mut [Cut], params: &Params) {
    let reach = longest_body(params) / 2;
    let Some((_end, inner)) = cuts.split_last_mut() else { return };
    let (mut first, mut last) = (0, 0);
    let least: Vec<u64> = (0..inner.len())
        .map(|at| {
            let here = inner[at].end.char;
            while inner[first].end.char + reach < here {
                first += 1;
            }
            while inner.get(last).is_some_and(|c| c.end.char <= here + reach) {
                last += 1;
            }
            inner[first..last].iter().map(|c| c.kind).min().unwrap_or(0)
        })
        .collect();
    for (cut, least) in inner.iter_mut().zip(least) {
        cut.kind -= least;
    }
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

/// The next place that is no white space. White space that a combining mark sits on is a character like any other.
fn skip_white(text: &str, from: Pos) -> Pos {
    let rest = &text[from.byte..];
    let white = rest.len() - rest.trim_start().len();
    let to = walk(text, from, from.byte + white);
    match rest[..white].chars().next_back() {
        Some(last) if !is_cluster_boundary(text, to.byte) => Pos { byte: to.byte - last.len_utf8(), char: to.char - 1 },
        _ => to,
    }
}

/// The place at `byte`, counted from one that is near.
fn walk(text: &str, from: Pos, byte: usize) -> Pos {
    let char = if byte >= from.byte {
        from.char + text[from.byte..byte].chars().count()
    } else {
        from.char - text[byte..from.byte].chars().count()
    };
    Pos { byte, char }
}

/// Whether a grapheme cluster may end here. May answer no between two regional indicators, where telling would mean
/// to count all those before: a better place is never far.
fn is_cluster_boundary(text: &str, at: usize) -> bool {
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

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;
