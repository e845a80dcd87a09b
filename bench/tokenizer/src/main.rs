//! The tokens of texts, for `bench/tokens.py`: a `tokenizer.json` as argument; on each line of stdin an array of texts
//! in JSON. Answers on a line each: the seconds that it took and the tokens of each text.

use std::io::{BufRead, Write};
use std::time::Instant;

use chatbot_sync::embedding::tokenizer::{FrozenTokenizer, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: bench-tokenizer TOKENIZER.JSON")?;
    let max_tokens = std::env::args().nth(2).map_or(Ok(usize::MAX), |n| n.parse())?;
    let start = Instant::now();
    let mut frozen = Vec::new();
    Tokenizer::from_json(&std::fs::read(path)?)?.freeze(&mut frozen);
    let froze = start.elapsed();
    let start = Instant::now();
    let tokenizer = FrozenTokenizer::open(&frozen)?;
    eprintln!("frozen in {froze:?} to {} bytes, opened in {:?}", frozen.len(), start.elapsed());
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let texts: Vec<String> = serde_json::from_str(&line?)?;
        let start = Instant::now();
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text, max_tokens)).collect();
        let seconds = start.elapsed().as_secs_f64();
        writeln!(stdout, "{}", serde_json::json!([seconds, tokens]))?;
        stdout.flush()?;
    }
    Ok(())
}
