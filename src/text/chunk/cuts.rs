//! The places where a text may be cut into chunks, and the cost of each.

use std::collections::VecDeque;

use unicode_segmentation::UnicodeSegmentation;

use super::params::Params;
use super::text::{Pos, is_cluster_boundary, position_at, skip_white_space};

/// The kinds of boundary, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    Paragraph,
    Sentence,
    /// A line end within a sentence.
    Line,
    /// Between words with white space between them.
    Word,
    /// Between words without white space, such as a word and the comma after it.
    Punctuation,
    Cluster,
}

/// A place to cut. The text before it ends at `end`, the text after it starts at `start`; between them is
/// only white space.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// The text before ends here.
    pub end: Pos,
    /// The text after starts here.
    pub start: Pos,
    /// The cost of this kind of boundary, in millionths.
    kind: u64,
    /// The pseudo-random cost, from the characters beside the cut, in millionths.
    random: u64,
}

impl Cut {
    /// The cost of cutting here, in millionths: that of the boundary plus the pseudo-random part.
    pub fn cost(&self) -> u64 {
        self.kind + self.random
    }
}

// Costs are in millionths. One boundary of a worse kind costs more than all the better ones that could replace it, so
// words are only cut apart where a sentence is longer than a chunk. The random part makes neighbouring candidates
// differ, so that the same ones win again after an edit. Length has no cost: the path with the fewest cuts has the
// longest chunks. The numbers were chosen by measuring how full chunks are against how soon old cuts return after an
// edit (bench/README.md, "Chunks").
const UNIT: u64 = 1_000_000;

impl Break {
    /// The least cost of a cut here; the pseudo-random part adds less than [`UNIT`].
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

/// Returns all acceptable cuts within the text, in order, and the end of the text as the last one.
pub fn candidates(text: &str, start: Pos, params: &Params) -> Vec<Cut> {
    let gap = max_candidate_gap(params);
    let mut out = Vec::new();
    let (mut from, mut seen) = (start, start);
    for piece in split_into_pieces(text, start.byte) {
        let within = text[piece.range.clone()].split_sentence_bound_indices().skip(usize::from(!piece.starts_sentence));
        for at in within.map(|(at, _)| piece.range.start + at).filter(|&at| at > start.byte) {
            if let Some(cut) = cut_at(text, from, at, &mut seen, sentence_break) {
                add_word_cuts(text, from, cut.end, gap, &mut out);
                out.push(cut);
                from = cut.start;
            }
        }
    }
    let end = position_at(text, seen, text.len());
    add_word_cuts(text, from, end, gap, &mut out);
    out.push(Cut { end, start: end, kind: 0, random: 0 });
    out
}

/// A stretch of the text in which sentence boundaries are looked for.
struct Piece {
    range: std::ops::Range<usize>,
    starts_sentence: bool,
}

/// Splits the text into lines (UAX #29 ends a sentence at every line end), and long lines into pieces of at most 4096
/// bytes. The rules for sentences look ahead without limit; without these pieces a full stop before a million brackets
/// would take quadratic time.
fn split_into_pieces(text: &str, from: usize) -> impl Iterator<Item = Piece> + '_ {
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

/// Adds cuts between words to a stretch longer than `gap` characters, and cuts between grapheme clusters where a word
/// is longer than that.
fn add_word_cuts(text: &str, from: Pos, to: Pos, gap: usize, out: &mut Vec<Cut>) {
    if to.char - from.char <= gap {
        return;
    }
    let (mut last, mut seen) = (from, from);
    for (at, _) in text[from.byte..to.byte].split_word_bound_indices().skip(1) {
        if let Some(cut) = cut_at(text, last, from.byte + at, &mut seen, word_break) {
            add_cluster_cuts(text, last, cut.end, gap, out);
            out.push(cut);
            last = cut.start;
        }
    }
    add_cluster_cuts(text, last, to, gap, out);
}

fn add_cluster_cuts(text: &str, from: Pos, to: Pos, gap: usize, out: &mut Vec<Cut>) {
    if to.char - from.char <= gap {
        return;
    }
    let mut last = from;
    for (at, _) in text[from.byte..to.byte].grapheme_indices(true).skip(1) {
        last = position_at(text, last, from.byte + at);
        out.push(Cut { end: last, start: last, kind: Break::Cluster.cost(), random: random(text, last, last) });
    }
}

/// The largest number of characters between two candidates, unless one grapheme cluster is longer.
fn max_candidate_gap(params: &Params) -> usize {
    (max_body_chars(params) / 4).max(1)
}

/// The largest number of new characters in a chunk. The overlap gives way to new text, except for an eighth of it.
pub fn max_body_chars(params: &Params) -> usize {
    (params.size - params.overlap / 8).max(1)
}

/// Returns the cut at the boundary `at`, without the white space around it; `None` where one side would be empty, or
/// where the cut would be inside a grapheme cluster. `last` is where the text after the previous cut starts. `seen` is
/// a position whose character count is known; it moves on, so that characters are counted once.
fn cut_at(text: &str, last: Pos, at: usize, seen: &mut Pos, kind: impl Fn(&str, &str) -> Break) -> Option<Cut> {
    if at <= last.byte {
        return None;
    }
    let end = position_at(text, *seen, last.byte + text[last.byte..at].trim_end().len());
    *seen = end;
    if end.byte == last.byte || !is_cluster_boundary(text, end.byte) {
        return None;
    }
    let start = skip_white_space(text, end);
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

/// Whether the text ends with a sentence terminator (UAX #29: STerm or ATerm, the common ones), ignoring closing
/// quotes and brackets.
fn ends_sentence(text: &str) -> bool {
    let closing = |c: char| matches!(c, '"' | '\'' | ')' | ']' | '»' | '”' | '’' | '」' | '』' | '）');
    text.trim_end_matches(closing).ends_with(['.', '!', '?', ':', ';', '…', '。', '！', '？', '؟', '۔', '।'])
}

/// Returns a pseudo-random cost below [`UNIT`], made from the 16 bytes on either side of a cut.
fn random(text: &str, end: Pos, start: Pos) -> u64 {
    // Eight bytes a step: xor, multiply, fold, as in MurmurHash3. It only has to spread values, not to be secure.
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
    // The cube of a number between 0 and 1 makes a few cuts much cheaper than the rest, so that most paths share them.
    let random = hash >> 32;
    let cube = (((random * random) >> 32) * random) >> 32;
    (cube * UNIT) >> 32
}

/// Thins out the candidates. It keeps the cheapest one of every stretch of an eighth of a chunk, candidates that are
/// alone in theirs, those around a grapheme cluster so long that a chunk has no room for more, and the end of the text.
pub fn thin(cuts: Vec<Cut>, params: &Params) -> Vec<Cut> {
    let (width, gap) = (params.size / 8, max_candidate_gap(params));
    let mut kept = vec![false; cuts.len()];
    // `best` holds candidates of the window, each dearer than the one before it. The choice stays until a cheaper one
    // comes or it leaves the window (robust winnowing): otherwise every candidate of repetitive text would be kept.
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

/// Subtracts from each cut's cost the cost of the best kind of boundary near it, so that sentences in a text without
/// paragraphs cost as little as paragraphs elsewhere. Without that, such a text would be cut as rarely as possible,
/// every chunk would be full, and an edit would shift all the chunks after it.
pub fn subtract_local_minimum(cuts: &mut [Cut], params: &Params) {
    let reach = max_body_chars(params) / 2;
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
