//! A mock provider on loopback with a configurable latency, and a bare client for it, to compare the extension with.
//! As a separate process it prints its address; then it reads a JSON object from each line and answers with one, until
//! its input ends:
//!
//! - `{"latency_ms": 50}`: sets the latency
//! - `{"stats": true}`: returns the requests and inputs since the last such line
//! - `{"in_flight": true}`: returns the number of requests that are not answered yet
//! - `{"push": "FILE", "batch": 100, "parallel": 4}`: sends the texts of a file, a JSON array of arrays, one inner
//!   array after the other, and returns the seconds that it took

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};

const DIMENSIONS: usize = 384;

/// A provider that answers every text with the same vector.
pub struct Provider {
    pub url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    latency_us: AtomicU64,
    requests: AtomicUsize,
    inputs: AtomicUsize,
    in_flight: AtomicUsize,
}

impl Provider {
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let state = Arc::<State>::default();
        let unit = (DIMENSIONS as f32).sqrt().recip();
        let bytes: Vec<u8> = std::iter::repeat_n(unit.to_le_bytes(), DIMENSIONS).flatten().collect();
        let vector: Arc<str> = base64::engine::general_purpose::STANDARD.encode(bytes).into();
        let provider = Self { url, state: state.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = stream.set_nodelay(true);
                let (vector, state) = (vector.clone(), state.clone());
                std::thread::spawn(move || serve(&stream, &vector, &state));
            }
        });
        provider
    }

    pub fn set_latency(&self, latency: Duration) {
        self.state.latency_us.store(latency.as_micros() as u64, Ordering::Relaxed);
    }

    /// Stops answering requests until the latency is set again.
    pub fn hang(&self) {
        self.state.latency_us.store(u64::MAX, Ordering::Relaxed);
    }

    pub fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: &TcpStream, vector: &str, state: &State) -> Option<()> {
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = n.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body: Value = serde_json::from_slice(&body).ok()?;
        let inputs = body["input"].as_array()?.len();
        state.requests.fetch_add(1, Ordering::Relaxed);
        state.inputs.fetch_add(inputs, Ordering::Relaxed);
        state.in_flight.fetch_add(1, Ordering::Relaxed);
        let wait = state.latency_us.load(Ordering::Relaxed);
        if wait == u64::MAX {
            // Hang until the client closes the connection.
            let _ = stream.read(&mut [0]);
        } else {
            std::thread::sleep(Duration::from_micros(wait));
        }
        state.in_flight.fetch_sub(1, Ordering::Relaxed);
        let mut answer = String::from("{\"data\":[");
        let float = body["encoding_format"] != "base64";
        let numbers =
            if float { format!("[{}]", vec!["0.05103104"; DIMENSIONS].join(",")) } else { format!("\"{vector}\"") };
        for at in 0..inputs {
            let comma = if at == 0 { "" } else { "," };
            answer += &format!("{comma}{{\"index\":{at},\"embedding\":{numbers}}}");
        }
        answer += "],\"usage\":{\"total_tokens\":1}}";
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(answer.as_bytes()).ok()?;
    }
}

/// Sends the chunks with the bare client in batches, `parallel` requests at a time; returns the time that it took.
pub fn bare(url: &str, chunks: &[String], batch: usize, parallel: usize) -> Duration {
    let agent: ureq::Agent = ureq::Agent::config_builder().max_idle_connections_per_host(64).build().into();
    push(&agent, url, chunks, batch, parallel)
}

fn push(agent: &ureq::Agent, url: &str, chunks: &[String], batch: usize, parallel: usize) -> Duration {
    let bodies: Vec<String> = chunks
        .chunks(batch)
        .map(|c| json!({"model": "m", "input": c, "encoding_format": "base64"}).to_string())
        .collect();
    let next = Mutex::new(bodies.iter());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                loop {
                    let Some(body) = next.lock().expect("no panic").next() else { return };
                    let post = agent.post(format!("{url}/embeddings")).header("content-type", "application/json");
                    let mut answer = post.send(body).expect("an answer");
                    std::io::copy(&mut answer.body_mut().as_reader(), &mut std::io::sink()).expect("a body");
                }
            });
        }
    });
    began.elapsed()
}

/// Runs the provider as a process that reads its commands from standard input.
pub fn obey(port: u16) {
    let provider = Provider::start(port);
    println!("{}", provider.url);
    for line in std::io::stdin().lines() {
        let line: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let number = |name: &str| line[name].as_u64().expect("a number");
        let answer = if line.get("latency_ms").is_some() {
            provider.set_latency(Duration::from_millis(number("latency_ms")));
            json!({})
        } else if let Some(file) = line["push"].as_str() {
            let texts = std::fs::read(file).expect("a file");
            let texts: Vec<Vec<String>> = serde_json::from_slice(&texts).expect("arrays of texts");
            let agent: ureq::Agent = ureq::Agent::config_builder().max_idle_connections_per_host(64).build().into();
            let (batch, parallel) = (number("batch") as usize, number("parallel") as usize);
            let took: Duration = texts.iter().map(|texts| push(&agent, &provider.url, texts, batch, parallel)).sum();
            json!({"seconds": took.as_secs_f64()})
        } else if line.get("in_flight").is_some() {
            json!({"in_flight": provider.in_flight()})
        } else {
            let taken = |counter: &AtomicUsize| counter.swap(0, Ordering::Relaxed);
            json!({"requests": taken(&provider.state.requests), "inputs": taken(&provider.state.inputs)})
        };
        println!("{answer}");
    }
}
