//! Measures the quality and speed of the chunker on real text, beside fixed windows and the crate text-splitter.
//!
//! Usage: bench-chunker FOLDER, where FOLDER has one text file for each source.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chatbot_sync::text::chunk::{Params, chunk};
use text_splitter::{ChunkConfig, TextSplitter};
use unicode_segmentation::UnicodeSegmentation;

/// A way to cut a text: it returns ranges of bytes.
type Cutter = (&'static str, Box<dyn Fn(&str) -> Vec<std::ops::Range<usize>>>);

/// A pseudo-random generator (xorshift64*), so that every run makes the same edits.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % n.max(1)
    }
}

fn cutters() -> Vec<Cutter> {
    let params = Params { max_chunks: 100_000, ..Params::default() };
    let fixed = |text: &str| {
        let at: Vec<usize> = text.char_indices().map(|(b, _)| b).chain([text.len()]).collect();
        let n = at.len() - 1;
        let mut out = Vec::new();
        let mut start = 0;
        while start < n {
            let end = (start + 1000).min(n);
            out.push(at[start]..at[end]);
            if end == n {
                break;
            }
            start += 800;
        }
        out
    };
    let splitter = ChunkConfig::new(1000).with_overlap(200).expect("200 is less than 1000");
    let splitter = TextSplitter::new(splitter);
    vec![
        ("chatbot_sync", Box::new(move |t: &str| chunk(t, &params).chunks.iter().map(|c| c.start..c.end).collect())),
        ("fixed 1000/200", Box::new(fixed)),
        (
            "text-splitter",
            Box::new(move |t: &str| splitter.chunk_indices(t).map(|(at, s)| at..at + s.len()).collect()),
        ),
    ]
}

/// Counts the chunks of `new` that `old` does not have, which have to be embedded again.
fn embedded_again(cut: &Cutter, old: &str, new: &str) -> usize {
    let mut have: HashMap<&str, usize> = HashMap::new();
    for range in (cut.1)(old) {
        *have.entry(&old[range]).or_default() += 1;
    }
    (cut.1)(new)
        .into_iter()
        .filter(|range| match have.get_mut(&new[range.clone()]) {
            Some(n) if *n > 0 => {
                *n -= 1;
                false
            }
            _ => true,
        })
        .count()
}

/// Returns the start of a word near `at`, from 0 (the beginning of the text) to 1 (its end).
fn word_near(text: &str, at: f64, random: &mut Random) -> usize {
    let mut byte = ((text.len() as f64 * at) as usize + random.below(600)).min(text.len().saturating_sub(40));
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    text[byte..].find(' ').map_or(byte, |n| byte + n + 1)
}

fn change_word(text: &str, at: usize) -> String {
    let end = text[at..].find(char::is_whitespace).map_or(text.len(), |n| at + n);
    format!("{}replacement{}", &text[..at], &text[end..])
}

fn insert_sentence(text: &str, at: usize) -> String {
    let at = text[at..].find(". ").map_or(at, |n| at + n + 2);
    let new = "This sentence was added later, and it says nothing that the text did not say before. ";
    format!("{}{new}{}", &text[..at], &text[at..])
}

fn percentile(sorted: &[usize], p: usize) -> usize {
    sorted.get((sorted.len().saturating_sub(1)) * p / 100).copied().unwrap_or(0)
}

fn ends_well(text: &str, end: usize) -> bool {
    let after = &text[end..];
    let white: String = after.chars().take_while(|c| c.is_whitespace()).collect();
    let before = text[..end].trim_end_matches(['"', '\'', ')', ']', '”', '’']);
    end == text.trim_end().len() || white.matches('\n').count() > 1 || before.ends_with(['.', '!', '?', ':', ';'])
}

fn quality(texts: &[String]) {
    println!("{:<16} {:>7} {:>6} {:>6} {:>10} {:>28} {:>28}", "", "chunks", "fill", "all", "sent./par.", "word: mean p50 p95 max", "sentence: mean p50 p95 max");
    for cut in cutters() {
        let (mut chunks, mut chars, mut inner, mut inner_chars, mut well) = (0usize, 0usize, 0usize, 0usize, 0usize);
        for text in texts {
            let ranges = (cut.1)(text);
            for (i, r) in ranges.iter().enumerate() {
                let n = text[r.clone()].chars().count();
                chunks += 1;
                chars += n;
                if i + 1 < ranges.len() {
                    inner += 1;
                    inner_chars += n;
                    well += usize::from(ends_well(text, r.start + text[r.clone()].trim_end().len()));
                }
            }
        }
        let mut random = Random(7);
        let edit = |edit: fn(&str, usize) -> String, random: &mut Random| {
            let mut counts: Vec<usize> = Vec::new();
            for text in texts.iter().filter(|t| t.len() > 10_000) {
                for at in [0.0, 0.5, 0.97] {
                    let new = edit(text, word_near(text, at, random));
                    counts.push(embedded_again(&cut, text, &new));
                }
            }
            counts.sort_unstable();
            let mean = counts.iter().sum::<usize>() as f64 / counts.len().max(1) as f64;
            format!("{mean:.2} {} {} {}", percentile(&counts, 50), percentile(&counts, 95), percentile(&counts, 100))
        };
        let (word, sentence) = (edit(change_word, &mut random), edit(insert_sentence, &mut random));
        println!(
            "{:<16} {chunks:>7} {:>6.3} {:>6.3} {:>9.1}% {word:>28} {sentence:>28}",
            cut.0,
            inner_chars as f64 / 1000.0 / inner.max(1) as f64,
            chars as f64 / 1000.0 / chunks.max(1) as f64,
            100.0 * well as f64 / inner.max(1) as f64,
        );
    }
}

/// Returns the best of five runs, since noise only adds time.
fn best(mut work: impl FnMut() -> usize) -> Duration {
    (0..5)
        .map(|_| {
            let began = Instant::now();
            std::hint::black_box(work());
            began.elapsed()
        })
        .min()
        .unwrap_or_default()
}

fn speed(texts: &[String]) {
    let bytes: usize = texts.iter().map(String::len).sum();
    let floor_s = best(|| texts.iter().map(|t| t.split_sentence_bounds().count()).sum());
    let floor_w = best(|| texts.iter().map(|t| t.split_word_bounds().count()).sum());
    let say = |name: &str, took: Duration| {
        println!(
            "{name:<28} {:>8.1} MB/s {:>8.2} x sentences {:>8.2} x words",
            bytes as f64 / 1e6 / took.as_secs_f64(),
            took.as_secs_f64() / floor_s.as_secs_f64(),
            took.as_secs_f64() / floor_w.as_secs_f64()
        );
    };
    say("bare UAX #29 sentences", floor_s);
    say("bare UAX #29 words", floor_w);
    for cut in cutters() {
        say(cut.0, best(|| texts.iter().map(|t| (cut.1)(t).len()).sum()));
    }
}

fn awkward() {
    let n = 1_000_000;
    let fill = |unit: &str| unit.repeat(n / unit.len());
    let shapes: [(&str, String); 12] = [
        ("one endless word", fill("a")),
        ("spaces", fill(" ") + "x"),
        ("a full stop, then spaces", format!("A.{}b", fill(" "))),
        ("a full stop, then brackets", format!("A.{}b", fill(")"))),
        ("numbers and dots", fill("1.2,3 ")),
        ("combining marks", format!("e{}", fill("\u{301}"))),
        ("flags", fill("\u{1f1e9}\u{1f1ea}")),
        ("families", fill("\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}")),
        ("Chinese", fill("知识库与应用程序保持同步。")),
        ("Arabic", fill("مرحبا بالعالم ")),
        ("blank lines", fill("x\n\n")),
        ("CRLF lines", fill("a line of text\r\n")),
    ];
    for (name, text) in shapes {
        let params = Params { max_chunks: 100_000, ..Params::default() };
        let took = best(|| chunk(&text, &params).chunks.len());
        println!("{name:<28} {:>8.1} ms a megabyte", took.as_secs_f64() * 1e3);
    }
}

fn main() {
    let folder = std::env::args().nth(1).expect("usage: bench-chunker FOLDER");
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("a readable folder").flatten().map(|f| f.path()).collect();
    files.sort();
    let texts: Vec<String> = files.iter().filter_map(|f| std::fs::read_to_string(f).ok()).filter(|t| t.len() > 200).collect();
    println!("{} texts, {} characters; chunks of 1000 with 200 overlap", texts.len(), texts.iter().map(|t| t.chars().count()).sum::<usize>());
    println!("\nquality: fill is the mean share of 1000 characters without a source's last chunk (all: with it); inputs to embed again after one edit\n");
    quality(&texts);
    println!("\nspeed\n");
    speed(&texts);
    println!("\nawkward text\n");
    awkward();
}
