//! Properties of every chunk, over generated Unicode, and how few chunks an edit changes.

use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation;

use super::*;

/// Generates text that is difficult to cut: clusters, marks, right to left, no spaces, odd white space, real sentences.
fn difficult_text() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        4 => "[A-Z][a-z]{1,9}( [a-z]{1,12}){2,18}[.?!] ",
        2 => "[a-z]{1,12} ",
        1 => "[a-z]{1,80}",
        1 => Just("\n\n".to_owned()),
        1 => Just("\r\n".to_owned()),
        1 => "[ \t\u{a0}\u{3000}\u{2029}\u{c}]{1,30}",
        1 => "[a-z ]?[\u{300}-\u{310}]{1,40}",
        1 => "[\u{1f1e6}-\u{1f1ff}]{1,9}",
        1 => Just("\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}".to_owned()),
        1 => "[\u{4e00}-\u{4e40}]{1,30}。?",
        1 => "[\u{627}-\u{63a} ]{1,30}",
        1 => "[\u{915}-\u{939}\u{94d}\u{93f}]{1,12}",
        1 => "[\u{e01}-\u{e3a}]{1,20}",
        1 => "[\u{1100}-\u{11ff}]{1,6}",
        1 => "\\PC{0,12}",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(unit, 0..60).prop_map(|units| units.concat())
}

fn params() -> impl Strategy<Value = Params> {
    (1usize..300, 0usize..100).prop_map(|(size, overlap)| Params {
        size,
        overlap: overlap.min(size - 1),
        max_chunks: MAX_CHUNKS,
    })
}

fn is_prefix_sum(text: &str, byte: usize, char: usize) -> bool {
    text.get(..byte).is_some_and(|t| t.chars().count() == char)
}

proptest! {
    #[test]
    fn chunks_cover_the_text_within_their_limits(text in difficult_text(), params in params()) {
        let Chunks { chunks, truncated } = chunk(&text, &params);
        prop_assert!(!truncated);
        prop_assert_eq!(chunks.is_empty(), text.trim().is_empty());
        let borders: Vec<usize> = text.grapheme_indices(true).map(|(at, _)| at).chain([text.len()]).collect();
        let mut covered = 0;
        let mut before: Option<Chunk> = None;
        for c in &chunks {
            prop_assert!(c.start < c.end);
            prop_assert!(is_prefix_sum(&text, c.start, c.start_char) && is_prefix_sum(&text, c.end, c.end_char));
            prop_assert!(borders.binary_search(&c.start).is_ok(), "starts inside a cluster");
            prop_assert!(borders.binary_search(&c.end).is_ok(), "ends inside a cluster");
            let one_cluster = text[c.start..c.end].graphemes(true).count() == 1;
            prop_assert!(c.end_char - c.start_char <= params.size || one_cluster, "too long");
            prop_assert!(!text[c.start..c.end].trim().is_empty());
            if c.start > covered {
                prop_assert!(text[covered..c.start].trim().is_empty(), "text is lost");
            }
            if let Some(b) = before {
                prop_assert!(c.start > b.start && c.end > b.end, "no progress");
                prop_assert!(b.end_char.saturating_sub(c.start_char) <= params.overlap, "too much overlap");
            }
            covered = c.end;
            before = Some(*c);
        }
        prop_assert!(text[covered..].trim().is_empty(), "the end is lost");
        prop_assert_eq!(chunk(&text, &params), Chunks { chunks, truncated });
    }

    #[test]
    fn max_chunks_is_kept(text in difficult_text(), params in params(), max in 1usize..6) {
        let all = chunk(&text, &params).chunks;
        let some = chunk(&text, &Params { max_chunks: max, ..params });
        prop_assert_eq!(some.truncated, all.len() > max);
        prop_assert_eq!(some.chunks.len(), all.len().min(max));
    }
}

#[test]
fn max_chunks_does_not_change_earlier_chunks() {
    let text = prose(3000);
    let all = chunk(&text, &Params { max_chunks: MAX_CHUNKS, ..Params::default() }).chunks;
    for max_chunks in [1, 2, 50, 100, 200] {
        let some = chunk(&text, &Params { max_chunks, ..Params::default() }).chunks;
        assert_eq!(some, all[..max_chunks]);
    }
}

/// Makes paragraphs of sentences of ordinary length, the same ones at each call.
fn prose(sentences: usize) -> String {
    let words =
        ["the", "invoice", "of", "a", "customer", "was", "paid", "late", "and", "interest", "is", "due", "on", "it"];
    let mut state = 88172645463325252u64;
    let mut next = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    };
    let mut text = String::new();
    for i in 0..sentences {
        let mut sentence = format!("Number {i}");
        for _ in 0..6 + next(14) {
            sentence.push(' ');
            sentence.push_str(words[next(words.len())]);
        }
        text.push_str(&sentence);
        text.push_str(if next(6) == 0 { ".\n\n" } else { ". " });
    }
    text
}

fn strings<'a>(text: &'a str, params: &Params) -> Vec<&'a str> {
    chunk(text, params).chunks.iter().map(|c| &text[c.start..c.end]).collect()
}

/// Counts the chunks with a new text after each of 100 edits, in ascending order: with one word changed, and with
/// one sentence inserted.
fn edits(text: &str) -> [Vec<usize>; 2] {
    let params = Params { max_chunks: MAX_CHUNKS, ..Params::default() };
    let old: std::collections::HashSet<&str> = strings(text, &params).into_iter().collect();
    let count = |new: &str| strings(new, &params).iter().filter(|c| !old.contains(*c)).count();
    let places = || (0..100).map(|i| i * text.len() / 100).map(|at| text[at..].find(' ').map_or(at, |n| at + n + 1));
    let word = |at: usize| text[at..].find(' ').map_or(text.len(), |n| at + n);
    let mut counts = [
        places().map(|at| count(&format!("{}Something{}", &text[..at], &text[word(at)..]))).collect::<Vec<_>>(),
        places()
            .map(|at| count(&format!("{}A sentence that somebody put here. {}", &text[..at], &text[at..])))
            .collect(),
    ];
    counts.iter_mut().for_each(|c| c.sort_unstable());
    counts
}

#[test]
fn an_edit_changes_at_most_three_chunks() {
    let one_paragraph = prose(2000).replace("\n\n", " ");
    let alike: String = (0..2000).map(|i| format!("This is sentence number {i} of many. ")).collect();
    let lines: String = (0..2000).map(|i| format!("- item {} of a list, line by line\n", i * 7)).collect();
    for text in [prose(2000), one_paragraph, alike, lines] {
        for counts in edits(&text) {
            assert!(counts[0] >= 1);
            assert!(counts[95] <= 3 && counts[99] <= 8, "{:.40}: {counts:?}", text);
        }
    }
}

#[test]
fn prose_is_cut_at_sentences_into_full_chunks() {
    let params = Params { max_chunks: MAX_CHUNKS, ..Params::default() };
    let text = prose(1000);
    let chunks = strings(&text, &params);
    assert!(chunks.iter().all(|c| c.ends_with('.')));
    let filled: usize = chunks.iter().map(|c| c.chars().count()).sum();
    assert!(filled * 10 >= chunks.len() * params.size * 8, "{filled} characters in {} chunks", chunks.len());
}

#[test]
fn overlap_starts_at_a_word_boundary() {
    let text = prose(200);
    for c in chunk(&text, &Params::default()).chunks.iter().skip(1) {
        assert!(text[..c.start].ends_with(char::is_whitespace), "{:?}", &text[c.start..c.start + 20]);
    }
}

#[test]
fn blank_text_has_no_chunk() {
    for text in ["", " ", "\n\r\n\t", "\u{a0}\u{3000}\u{2029}"] {
        assert_eq!(chunk(text, &Params::default()), Chunks::default());
    }
}

#[test]
fn a_short_text_is_one_chunk() {
    let chunks = chunk("  Grüße aus Köln. \n", &Params::default()).chunks;
    assert_eq!(chunks, [Chunk { start: 2, end: 20, start_char: 2, end_char: 17 }]);
}

#[test]
fn text_after_the_last_chunk_is_reported() {
    let text = "A sentence of some length, again and again. ".repeat(1000);
    let cut = chunk(&text, &Params { max_chunks: 7, ..Params::default() });
    assert_eq!((cut.chunks.len(), cut.truncated), (7, true));
}

/// The number of candidates bounds the work of the path search, so it is counted instead of measuring seconds.
#[test]
fn repeated_text_keeps_few_candidates() {
    for text in ["a".repeat(200_000), "x\n\n".repeat(70_000), "\u{1f1e9}\u{1f1ea}".repeat(100_000)] {
        let params = Params { max_chunks: MAX_CHUNKS, ..Params::default() };
        let start = Pos { byte: 0, char: 0 };
        let kept = thin(candidates(&text, start, &params), &params);
        assert!(kept.len() < text.chars().count() / 60, "{} candidates", kept.len());
    }
}

#[test]
fn contradictory_parameters_are_refused() {
    for (size, overlap, max) in [(0, 0, 1), (-1, 0, 1), (100, 100, 1), (100, -1, 1), (100, 20, 0), (i64::MAX, 0, 1)] {
        assert!(Params::checked(size, overlap, max).is_err());
    }
    let error = Params::checked(100, 100, 5).unwrap_err();
    assert_eq!(error.to_string(), "chunk_overlap is 100, expected 0 to 99");
}
