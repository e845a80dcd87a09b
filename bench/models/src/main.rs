//! Models in folders, without a server: imports one, then embeds what it is asked to. bench/models.py asks it and
//! onnxruntime in turn, so that their times are of one run.
//!
//! Usage: bench-models MODELS NAME float|int8 INSTRUCTIONS THREADS, where MODELS has a folder NAME, and INSTRUCTIONS is
//! one of those that it prints, or "best". A line of standard input is a JSON object with texts, or with tokens; the
//! answer is one with seconds and seconds of CPU, and with vectors where the question has "vectors": true.

use std::error::Error;
use std::io::{BufRead, PipeReader, Read, Write};
use std::path::Path;
use std::time::Instant;

use chatbot_sync::embedding::transformer::folder::Folder;
use chatbot_sync::embedding::transformer::frozen::{Frozen, Model, Precision};
use chatbot_sync::embedding::transformer::import::Plan;
use chatbot_sync::embedding::transformer::kernels::Kernels;
use chatbot_sync::embedding::transformer::store::{ModelFile, Store};
use chatbot_sync::embedding::transformer::threads::{self, Caller};
use chatbot_sync::embedding::transformer::embed;
use serde_json::{Value, json};

struct Patient;

impl Caller for Patient {
    fn stops(&self) -> bool {
        false
    }

    fn wait(&self, mut pipe: &PipeReader) {
        let _ = pipe.read(&mut [0; 64]);
    }
}

fn cpu_seconds() -> f64 {
    // SAFETY: the struct is plain numbers, which the call fills in.
    let usage = unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Megabytes of this process alone, and its share of those that processes share.
fn memory() -> Value {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let of = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    };
    json!({"private": of("Private_Dirty:"), "pss": of("Pss:"), "rss": of("Rss:")})
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [models, name, precision, instructions, threads] = &args[..] else { return Err("see the usage".into()) };
    let precision = if precision == "int8" { Precision::Int8 } else { Precision::Float };
    let all = Kernels::all();
    let kernels = *all.iter().find(|kernels| kernels.name() == instructions).unwrap_or(&all[0]);
    let threads: usize = threads.parse()?;

    let began = Instant::now();
    let plan = Plan::new(Folder::open(Path::new(models), name)?, name, &|| false)?;
    let file = ModelFile { name: name.clone(), digest: plan.digest.clone(), precision };
    let store = Store::new(Path::new(models).join("imported"));
    store.import(&file, &plan, &|| false)?;
    let imported = began.elapsed().as_secs_f64();
    let before = memory();
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mapped = store.open(&file)?.ok_or("not imported")?;
    let frozen = Frozen::open(&mapped)?;
    let names: Vec<&str> = all.iter().map(|kernels| kernels.name()).collect();
    println!(
        "{}",
        json!({"import_seconds": imported, "open_seconds": began.elapsed().as_secs_f64(), "open_cpu": cpu_seconds() - cpu,
            "bytes": mapped.len(), "instructions": kernels.name(), "all": names, "memory": before,
            "max_tokens": frozen.header.description.max_tokens})
    );
    for line in std::io::stdin().lock().lines() {
        let question: Value = serde_json::from_str(&line?)?;
        let (began, cpu) = (Instant::now(), cpu_seconds());
        let vectors = if let (Some(tokens), Model::Transformer(encoder)) = (question.get("tokens"), &frozen.model) {
            let tokens: Vec<Vec<u32>> = serde_json::from_value(tokens.clone())?;
            threads::encode(encoder, kernels, &tokens, threads, &Patient)?
        } else {
            let texts: Vec<String> = serde_json::from_value(question["texts"].clone())?;
            embed(&frozen, kernels, &texts, threads, &Patient)?
        };
        let mut answer =
            json!({"seconds": began.elapsed().as_secs_f64(), "cpu": cpu_seconds() - cpu, "memory": memory()});
        if question["vectors"] == true {
            answer["vectors"] = json!(vectors);
        }
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}
