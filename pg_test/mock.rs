//! An embeddings server on loopback in the test's own process, which fails on demand. It implements OpenAI's protocol
//! and Ollama's, also over TLS.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::write::GzEncoder;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// The length of the vectors.
pub(crate) const DIMENSIONS: usize = 8;

/// What the server does with a request instead of answering it correctly.
#[derive(Clone)]
pub(crate) enum Fault {
    Status(u16, &'static str, &'static str),
    Hang,
    Drip,
    Cut,
    Close,
    Count,
    Extra,
    TwoOfOne,
    Beyond,
    Dimensions,
    NotFinite,
    /// Puts this text in the place of the first vector.
    Vector(&'static str),
    NotJson,
    Large,
    /// Compresses the response, which is not a fault.
    Gzip,
    /// Compresses a large response, so that few bytes are sent.
    Bomb,
}

#[derive(Default)]
pub(crate) struct State {
    /// The faults of the next requests, one each.
    pub faults: VecDeque<Fault>,
    /// The fault of every request while it is set.
    pub always: Option<Fault>,
    /// Answers with status 400 if one of the texts contains this.
    pub poison: Option<&'static str>,
    /// The fault of a request with the `poison` text, instead of status 400.
    pub poison_fault: Option<Fault>,
    /// Refuses texts of more bytes than this as too long.
    pub longest: Option<usize>,
    /// Answers no request before this many have arrived.
    pub gather: usize,
    /// Answers no request while this is true; [`Mock::release`] ends it.
    pub held: bool,
    /// The requests so far: (headers, body).
    pub requests: Vec<(String, Value)>,
    /// The number of connections so far.
    pub connections: usize,
    /// The number of requests that are not answered yet.
    pub in_flight: usize,
    /// The number of requests whose connection ended before they were answered.
    pub abandoned: usize,
}

pub(crate) struct Mock {
    state: Arc<(Mutex<State>, Condvar)>,
    pub url: String,
}

impl Mock {
    pub fn new() -> Self {
        Self::start(None)
    }

    /// Starts a server over TLS.
    pub fn over_tls(config: ServerConfig) -> Self {
        Self::start(Some(Arc::new(config)))
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/v1", listener.local_addr().unwrap());
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared, tls) = (stream.unwrap(), shared.clone(), tls.clone());
                std::thread::spawn(move || {
                    shared.0.lock().unwrap().connections += 1;
                    let socket = stream.try_clone().unwrap();
                    match tls {
                        None => serve(stream, &socket, &shared),
                        Some(config) => {
                            serve(StreamOwned::new(ServerConnection::new(config).unwrap(), stream), &socket, &shared)
                        }
                    }
                });
            }
        });
        Self { state, url }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    /// Answers the requests that were held.
    pub fn release(&self) {
        self.state().held = false;
        self.state.1.notify_all();
    }

    /// Waits until a condition on the server's state holds.
    pub fn wait(&self, so: impl Fn(&State) -> bool) {
        let mut state = self.state();
        while !so(&state) {
            state = self.state.1.wait(state).unwrap();
        }
    }

    /// Returns the number of requests so far, and the number of their texts.
    pub fn asked(&self) -> (usize, usize) {
        let texts = self.texts().len();
        (self.state().requests.len(), texts)
    }

    /// Returns the texts of all requests.
    pub fn texts(&self) -> Vec<String> {
        let state = self.state();
        let inputs = state.requests.iter().flat_map(|(_, body)| body["input"].as_array().unwrap().clone());
        inputs.map(|t| t.as_str().unwrap().to_owned()).collect()
    }
}

/// Returns the vector of a text: it has length 1 and depends on the text.
pub(crate) fn vector(text: &str) -> Vec<f32> {
    vector_of(DIMENSIONS, text)
}

fn vector_of(dimensions: usize, text: &str) -> Vec<f32> {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut next = |byte: u8| {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        (hash >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    text.bytes().for_each(|b| {
        next(b);
    });
    let raw: Vec<f32> = (0..dimensions).map(|at| next(at as u8)).collect();
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    raw.iter().map(|x| x / length).collect()
}

fn serve(stream: impl Read + Write, socket: &TcpStream, shared: &(Mutex<State>, Condvar)) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head.to_lowercase().split("content-length: ").nth(1)?.split('\r').next()?.parse().ok()?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body: Value = serde_json::from_slice(&body).ok()?;
        let ollama = head.starts_with("POST /api/embed ");
        let (mut fault, mut poison, gather, longest) = {
            let mut state = shared.0.lock().unwrap();
            state.requests.push((head, body.clone()));
            state.in_flight += 1;
            (state.faults.pop_front().or(state.always.clone()), state.poison, state.gather, state.longest)
        };
        let texts: Vec<&str> = body["input"].as_array()?.iter().filter_map(Value::as_str).collect();
        let poison_fault = shared.0.lock().unwrap().poison_fault.clone();
        if poison_fault.is_some() {
            if texts.iter().any(|text| poison.is_some_and(|poison| text.contains(poison))) {
                fault = poison_fault;
            }
            poison = None;
        }
        if texts.iter().any(|text| longest.is_some_and(|longest| text.len() > longest)) {
            let body = r#"{"error":{"message":"This model's maximum context length is 512 tokens"}}"#;
            fault = Some(Fault::Status(400, "", body));
        }
        shared.1.notify_all();
        let mut state = shared.0.lock().unwrap();
        while state.held || state.in_flight < gather && state.requests.len() < gather {
            state = shared.1.wait(state).unwrap();
        }
        drop(state);
        let went = answer(reader.get_mut(), socket, &body, fault, poison, ollama);
        let mut state = shared.0.lock().unwrap();
        state.in_flight -= 1;
        state.abandoned += usize::from(went.is_none());
        drop(state);
        shared.1.notify_all();
        went?;
    }
}

/// Answers a request. Returns `None` where the client has gone, or the connection is to be closed.
fn answer(
    stream: &mut (impl Read + Write),
    socket: &TcpStream,
    body: &Value,
    fault: Option<Fault>,
    poison: Option<&str>,
    ollama: bool,
) -> Option<()> {
    let inputs = body["input"].as_array()?;
    let encoded = |vector: Vec<f32>| match body["encoding_format"].as_str() {
        Some("base64") => STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).into(),
        _ => json!(vector),
    };
    let dimensions = body["dimensions"].as_u64().map_or(DIMENSIONS, |n| n as usize);
    let embedding = |text: &Value| encoded(vector_of(dimensions, text.as_str().unwrap()));
    let mut data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(at, t)| json!({"object": "embedding", "index": at, "embedding": embedding(t)}))
        .collect();
    // The order differs from that of the inputs, so that only the index tells which text a vector belongs to.
    data.reverse();
    let (mut padding, mut header) = (0, "");
    let mut send = |status: (u16, &str), body: &[u8]| {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {} X\r\ncontent-type: application/json\r\n{}content-length: {length}\r\n\r\n",
            status.0, status.1
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()
    };
    if inputs.iter().any(|t| poison.is_some_and(|p| t.as_str().unwrap().contains(p))) {
        return send((400, ""), br#"{"error":{"message":"this text will not do","type":"invalid_request_error"}}"#);
    }
    match fault {
        None => {}
        Some(Fault::Status(code, header, body)) => return send((code, header), body.as_bytes()),
        Some(Fault::Hang) => {
            // Waits until the client closes the connection.
            let _ = stream.read(&mut [0]);
            return None;
        }
        Some(Fault::Drip) => {
            stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 1000000\r\n\r\n").ok()?;
            socket.set_read_timeout(Some(Duration::from_millis(5))).ok()?;
            while !matches!(stream.read(&mut [0]), Ok(0)) {
                stream.write_all(b" ").ok()?;
            }
            return None;
        }
        Some(Fault::Cut) => {
            stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n{\"data\":[").ok()?;
            return None;
        }
        Some(Fault::Close) => return None,
        Some(Fault::Count) => drop(data.pop()),
        Some(Fault::Extra) => data.push(json!({"index": data.len(), "embedding": vector("")})),
        Some(Fault::TwoOfOne) => data.iter_mut().for_each(|d| d["index"] = 0.into()),
        Some(Fault::Beyond) => data[0]["index"] = data.len().into(),
        Some(Fault::Dimensions) => data[0]["embedding"] = json!([1.0, 0.0, 0.0]),
        Some(Fault::NotFinite) => data[0]["embedding"] = json!([1e39, 0, 0, 0, 0, 0, 0, 0]),
        Some(Fault::Vector(text)) => data[0]["embedding"] = text.into(),
        Some(Fault::NotJson) => return send((200, ""), b"<html>hello</html>"),
        Some(Fault::Large) => padding = 200_000,
        Some(Fault::Gzip) => header = GZIP,
        Some(Fault::Bomb) => (padding, header) = (200_000, GZIP),
    }
    let mut answer = json!({"object": "list", "data": data, "usage": {"total_tokens": inputs.len() * 10}});
    if ollama {
        let vectors: Vec<Vec<f32>> = inputs.iter().map(|t| vector(t.as_str().unwrap())).collect();
        answer = json!({"embeddings": vectors, "prompt_eval_count": 5});
    }
    if padding > 0 {
        answer["padding"] = "x".repeat(padding).into();
    }
    let answer = answer.to_string().into_bytes();
    send((200, header), &if header.is_empty() { answer } else { gzip(&answer) })
}

const GZIP: &str = "content-encoding: gzip\r\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}
