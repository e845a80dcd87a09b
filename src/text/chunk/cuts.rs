//! Where a text may be cut, and what each cut costs.

use std::collections::VecDeque;

use unicode_segmentation::UnicodeSegmentation;

use super::params::Params;
use super::text::{Pos, is_cluster_boundary, skip_white, walk};

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
pub struct Cut {
    /// The text before ends here.
    pub end: Pos,
    /// The text after starts here.
    pub start: Pos,
    /// By the kind of boundary.
    kind: u64,
    /// By the characters beside it.
    random: u64,
}

impl Cut {
    /// The cost of cutting here: of the boundary, and a pseudo-random part.
    pub fn cost(&self) -> u64 {
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

/// All tolerable cuts inside the text, in order, then its end.
pub fn candidates(text: &str, start: Pos, params: &Params) -> Vec<Cut> {
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
pub fn longest_body(params: &Params) -> usize {
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
pub fn thin(cuts: Vec<Cut>, params: &Params) -> Vec<Cut> {
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
pub fn level(cuts: &mut [Cut], params: &Params) {
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
