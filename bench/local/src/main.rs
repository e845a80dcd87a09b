//! How fast the built-in models make vectors of chunks, tokens included, one core: both, 200 chunks a call, which share
//! a cache of words, and each chunk by itself.
//!
//! Usage: bench-local FOLDER..., where each folder holds text of a language, a file a source.

use std::path::Path;
use std::time::{Duration, Instant};

use chatbot_sync::embedding::local::{MODELS, StaticModel, WordCache};
use chatbot_sync::text::chunk::{Params, chunk};

/// Texts that a call embeds together.
const CALL: usize = 200;
const TURN: Duration = Duration::from_millis(300);
const TURNS: usize = 5;

fn chunks_of(folder: &Path) -> Vec<String> {
    let params = Params { max_chunks: 100_000, ..Params::default() };
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()).collect();
    files.sort();
    let texts = files.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.flat_map(|text| chunk(&text, &params).chunks.iter().map(|c| text[c.start..c.end].to_owned()).collect::<Vec<_>>()).collect()
}

/// Characters a second.
fn speed(model: &StaticModel, chunks: &[String], shared: bool) -> f64 {
    let (start, mut characters, mut sum) = (Instant::now(), 0, 0.0);
    for call in chunks.chunks(CALL).cycle() {
        let mut words = WordCache::default();
        for text in call {
            if !shared {
                words = WordCache::default();
            }
            sum += model.embed(text, &mut words)[0];
            characters += text.chars().count();
        }
        if start.elapsed() > TURN {
            break;
        }
    }
    assert!(f32::is_finite(sum));
    characters as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    println!("{:<28}{:<26}{:>14}{:>20}{:>18}", "", "", "tokens a chunk", "chunks/s (of 1000)", "each by itself");
    for folder in std::env::args().skip(1) {
        let chunks = chunks_of(Path::new(&folder));
        for model in MODELS {
            let tokens: usize = chunks.iter().map(|text| model.count_tokens(text, &mut WordCache::default())).sum();
            let best = |shared| (0..TURNS).map(|_| speed(model, &chunks, shared)).fold(0.0, f64::max) / 1000.0;
            let folder = folder.rsplit('/').next().unwrap_or_default();
            println!(
                "{folder:<28}{:<26}{:>14}{:>20.0}{:>18.0}",
                model.name,
                tokens / chunks.len().max(1),
                best(true),
                best(false)
            );
        }
    }
}
