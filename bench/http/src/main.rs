//! Measures what the extension adds to a provider's own time: throughput, latency and cancels, beside a bare client
//! that sends the same requests and ignores the responses.
//!
//! Usage: bench-http CONNECTION [PORT SERVICE]
//!        bench-http provider
//!
//! CONNECTION is a superuser's connection string (host=... user=... dbname=...) of a database that has the extension, no
//! vectors, and a table page(id, title, content). SERVICE is the address of a service of the old kind, which embeds with
//! a provider at http://127.0.0.1:PORT/v1 and takes `POST /api/internal/document/{id}/embed`: then the same pages, one by
//! one, go to it and to the extension. `bench-http provider` is the mock alone, for other benchmarks: see provider.rs.

mod provider;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use serde_json::json;

use provider::{Provider, bare};

const RUNS: usize = 5;
/// All pages in one statement.
const INSERT: &str = "INSERT INTO shelf SELECT id, 2, content FROM page";

/// The measured ways to embed all pages, chunking and storing included. Each call embeds one source and waits for its
/// last vector; the INSERT has all sources, and stores some while it waits for the vectors of others.
const WAYS: [(&str, &str); 2] = [
    ("calls of chatbot_embed_source()", "SELECT chatbot_embed_source(2, 'document', id, content) FROM book"),
    ("INSERT of all into an attached table", "INSERT INTO shelf SELECT id, 2, content FROM book"),
];

/// VACUUM cannot run in a transaction block, which several statements in one message are.
fn clean(client: &mut Client) {
    client.batch_execute("TRUNCATE shelf; SELECT chatbot_cleanup(2)").expect("cleanup");
    client.batch_execute("VACUUM chatbot_sync.source, chatbot_sync.embedding").expect("cleanup");
}

struct Figures(Vec<f64>);

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
        write!(f, "{:8.2}  ({:.2} .. {:.2})", at(0.5), at(0.0), at(1.0))
    }
}

fn throughput(client: &mut Client, mock: &Provider, latency: Duration, batch: usize, parallel: usize) {
    mock.set_latency(latency);
    client
        .batch_execute(&format!(
            "SET chatbot_sync.batch_size = {batch}; SET chatbot_sync.max_parallel_requests = {parallel};
             SET chatbot_sync.sync_timeout = '10min'; SET chatbot_sync.max_chunks = 100000"
        ))
        .expect("settings");
    let sql = "SELECT c.content FROM book, chatbot_chunk(book.content) AS c";
    let chunks: Vec<String> = client.query(sql, &[]).expect("chunks").iter().map(|row| row.get(0)).collect();
    let mut theirs = vec![];
    let mut ours = WAYS.map(|(name, sql)| (name, sql, vec![], vec![]));
    for _ in 0..RUNS {
        let limit = bare(&mock.url, &chunks, batch, parallel).as_secs_f64();
        theirs.push(limit);
        for (_, sql, times, ratios) in &mut ours {
            clean(client);
            let began = Instant::now();
            client.batch_execute(sql).expect("embedded");
            times.push(began.elapsed().as_secs_f64());
            ratios.push(began.elapsed().as_secs_f64() / limit);
        }
    }
    println!(
        "{} chunks, {} ms a request, batches of {batch}, {parallel} at a time:",
        chunks.len(),
        latency.as_millis()
    );
    println!("  provider alone                             {} s", Figures(theirs));
    for (name, _, times, ratios) in ours {
        println!("  {name:<42} {} s", Figures(times));
        println!("    / provider alone                         {} x", Figures(ratios));
    }
}

/// Copies the finished rows of all pages in binary form, in the order in which they are stored.
fn finished_rows(client: &mut Client) -> [(&'static str, Vec<u8>); 2] {
    ["source", "embedding"].map(|table| {
        let sql = format!(
            "COPY (SELECT * FROM chatbot_sync.{table} WHERE chatbot_id = 2 ORDER BY ctid) TO STDOUT (FORMAT BINARY)"
        );
        let mut rows = vec![];
        client.copy_out(&sql).expect("rows").read_to_end(&mut rows).expect("rows");
        (table, rows)
    })
}

/// One INSERT of all pages into an attached table, on one thread and on two, beside COPY BINARY of the finished rows into the
/// tables of the extension, with their keys and indexes, and beside the provider alone. Without a latency: the built-in model.
fn bulk(client: &mut Client, mock: &Provider, latency: Option<Duration>) {
    const BATCH: usize = 100;
    const PARALLEL: usize = 16;
    mock.set_latency(latency.unwrap_or_default());
    client
        .batch_execute(&format!(
            "RESET chatbot_sync.max_chunks; SET chatbot_sync.batch_size = {BATCH};
             SET chatbot_sync.max_parallel_requests = {PARALLEL}"
        ))
        .expect("settings");
    clean(client);
    client.batch_execute(INSERT).expect("embedded");
    let chunks: Vec<String> = client
        .query("SELECT content FROM chatbot_sync.embedding WHERE chatbot_id = 2", &[])
        .expect("chunks")
        .iter()
        .map(|row| row.get(0))
        .collect();
    let rows = finished_rows(client);
    let (mut copies, mut alone) = (vec![], vec![]);
    let mut inserts = [1, 2].map(|threads| (threads, vec![], vec![]));
    for _ in 0..2 * RUNS {
        let provider = latency.map_or(0.0, |_| bare(&mock.url, &chunks, BATCH, PARALLEL).as_secs_f64());
        clean(client);
        let began = Instant::now();
        for (table, rows) in &rows {
            let sql = format!("COPY chatbot_sync.{table} FROM STDIN (FORMAT BINARY)");
            let mut copy = client.copy_in(&sql).expect("copied");
            copy.write_all(rows).expect("copied");
            copy.finish().expect("copied");
        }
        let copy = began.elapsed().as_secs_f64();
        for (threads, times, ratios) in &mut inserts {
            clean(client);
            client.batch_execute(&format!("SET chatbot_sync.local_threads = {threads}")).expect("a setting");
            let began = Instant::now();
            client.batch_execute(INSERT).expect("embedded");
            times.push(began.elapsed().as_secs_f64());
            ratios.push(began.elapsed().as_secs_f64() / provider.max(copy));
        }
        copies.push(copy);
        alone.push(provider);
    }
    client.batch_execute("RESET chatbot_sync.local_threads").expect("a setting");
    let of = latency.map_or("the built-in model".to_owned(), |latency| {
        format!("{} ms a request, batches of {BATCH}, {PARALLEL} at a time", latency.as_millis())
    });
    println!("one INSERT of {} chunks of all pages, {of}:", chunks.len());
    if latency.is_some() {
        println!("  provider alone                             {} s", Figures(alone));
    }
    println!("  COPY BINARY of the finished rows           {} s", Figures(copies));
    let [(_, one, _), (_, two, _)] = &inserts;
    let gain = one.iter().zip(two).map(|(one, two)| one / two).collect();
    for (threads, times, ratios) in inserts {
        println!("  INSERT, local_threads = {threads}                  {} s", Figures(times));
        println!("    / the longer of those above              {} x", Figures(ratios));
    }
    println!("  one thread / two                           {} x", Figures(gain));
}

fn small(client: &mut Client, mock: &Provider, latency: Duration) {
    mock.set_latency(latency);
    let statement = client.prepare("SELECT chatbot_embed_source(2, 'document', $1, $2)").expect("a statement");
    let [mut flushed, mut unflushed, mut alone] = [vec![], vec![], vec![]];
    for id in 1..=400i64 {
        let text = format!("A short text, number {id}, that has one chunk.");
        let (commit, times) = if id % 2 == 0 { ("on", &mut flushed) } else { ("off", &mut unflushed) };
        client.batch_execute(&format!("SET synchronous_commit = {commit}")).expect("a setting");
        let began = Instant::now();
        client.query(&statement, &[&id, &text]).expect("embedded");
        times.push(began.elapsed().saturating_sub(latency).as_secs_f64() * 1e3);
        alone.push(bare(&mock.url, &[text], 1, 1).saturating_sub(latency).as_secs_f64() * 1e3);
    }
    client.batch_execute("RESET synchronous_commit").expect("a setting");
    println!("one small source at {} ms a request, time above the provider's own:", latency.as_millis());
    println!("  extension, commit on disk included         {} ms", Figures(flushed));
    println!("  the same, no commit waits for the disk     {} ms", Figures(unflushed));
    println!("  bare client, a new connection each         {} ms", Figures(alone));
}

fn cancels(connection: &str, client: &mut Client, mock: &Provider, parallel: usize) {
    mock.hang();
    let mut took = vec![];
    for _ in 0..50 {
        let mut victim = Client::connect(connection, NoTls).expect("a session");
        let settings = format!(
            "SET chatbot_sync.batch_size = 1; SET chatbot_sync.max_parallel_requests = {parallel};
             SET chatbot_sync.openai_compatible_url = '{}'",
            mock.url
        );
        victim.batch_execute(&settings).expect("settings");
        let pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
        let call = std::thread::spawn(move || {
            let sql = "SELECT chatbot_embed_source(2, 'document', 1, repeat('A sentence of some length. ', 2000))";
            let error = victim.batch_execute(sql).expect_err("a cancel");
            (Instant::now(), error.code().map(|c| c.code().to_owned()))
        });
        while mock.in_flight() < parallel {
            std::thread::yield_now();
        }
        let began = Instant::now();
        client.execute("SELECT pg_cancel_backend($1)", &[&pid]).expect("cancelled");
        let (ended, code) = call.join().expect("no panic");
        assert_eq!(code.as_deref(), Some("57014"));
        took.push(ended.duration_since(began).as_secs_f64() * 1e3);
        while mock.in_flight() > 0 {
            std::thread::yield_now();
        }
    }
    println!("a cancel with {parallel} requests in flight at a server that hangs, 50 times:");
    println!("  from pg_cancel_backend() to the error      {} ms", Figures(took));
}

/// Sends every page by itself as an application does: through the service, and through the extension.
fn page_by_page(client: &mut Client, mock: &Provider, latency: Duration, service: &str) {
    mock.set_latency(latency);
    client.batch_execute("RESET chatbot_sync.batch_size; RESET chatbot_sync.max_parallel_requests").expect("settings");
    let pages: Vec<(i64, String)> = client
        .query("SELECT id, content FROM page", &[])
        .expect("pages")
        .iter()
        .map(|r| (r.get(0), r.get(1)))
        .collect();
    let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
    let statement = client.prepare("SELECT chatbot_embed_source(2, 'document', $1, $2)").expect("a statement");
    let (mut ours, mut theirs, mut at_once) = (vec![], vec![], vec![]);
    {
        let began = Instant::now();
        for (id, content) in &pages {
            let url = format!("{service}/api/internal/document/{id}/embed");
            let post = agent
                .post(url)
                .header("content-type", "application/json")
                .header("x-odoo-api-key", "bench-internal-key");
            post.send(json!({"chatbot_id": 2, "content": content}).to_string()).expect("an answer");
        }
        theirs.push(began.elapsed().as_secs_f64());
        clean(client);
        let began = Instant::now();
        for (id, content) in &pages {
            client.query(&statement, &[id, content]).expect("embedded");
        }
        ours.push(began.elapsed().as_secs_f64());
        clean(client);
        client
            .batch_execute("SET chatbot_sync.max_parallel_requests = 16; SET chatbot_sync.local_threads = 2")
            .expect("settings");
        let began = Instant::now();
        client.batch_execute(INSERT).expect("embedded");
        at_once.push(began.elapsed().as_secs_f64());
        client
            .batch_execute("RESET chatbot_sync.max_parallel_requests; RESET chatbot_sync.local_threads")
            .expect("settings");
    }
    let times_at_once = theirs.iter().zip(&at_once).map(|(t, o)| t / o).collect();
    let ratios = theirs.iter().zip(&ours).map(|(t, o)| t / o).collect();
    println!("{} pages one by one, {} ms a request:", pages.len(), latency.as_millis());
    println!("  service                                    {} s", Figures(theirs));
    println!("  extension, default settings                {} s", Figures(ours));
    println!("  service / extension                        {} x", Figures(ratios));
    println!("  one INSERT of all, 16 requests at a time   {} s", Figures(at_once));
    println!("  service / one INSERT of all                {} x", Figures(times_at_once));
}

fn main() {
    let connection = std::env::args().nth(1).expect("usage: bench-http CONNECTION [PORT SERVICE] | provider [PORT]");
    let port = std::env::args().nth(2).map_or(0, |port| port.parse().expect("a port"));
    if connection == "provider" {
        return provider::obey(port);
    }
    let mut client = Client::connect(&connection, NoTls).expect("a connection");
    let mock = Provider::start(port);
    client
        .batch_execute(&format!(
            "SET client_min_messages = error; SET chatbot_sync.openai_compatible_url = '{}';
             SELECT chatbot_cleanup(1); SELECT chatbot_cleanup(2);
             SELECT chatbot_set_model('openai_compatible', 'mock', options => '{{\"encoding_format\": \"base64\"}}');
             CREATE TEMP TABLE book AS
                 SELECT id % 10 + 1 AS id, string_agg(content, E'\\n\\n' ORDER BY id) AS content FROM page GROUP BY 1;
             CREATE TABLE shelf (id bigint PRIMARY KEY, chatbot_id bigint, content text);
             SELECT chatbot_attach('shelf', 'document')",
            mock.url
        ))
        .expect("a database with the extension, without vectors");
    if let Some(service) = std::env::args().nth(3) {
        page_by_page(&mut client, &mock, Duration::from_millis(50), &service);
    }
    for latency in [0, 50] {
        bulk(&mut client, &mock, Some(Duration::from_millis(latency)));
    }
    throughput(&mut client, &mock, Duration::from_millis(50), 10, 16);
    throughput(&mut client, &mock, Duration::from_millis(50), 100, 4);
    client.batch_execute("SELECT chatbot_cleanup(2)").expect("cleanup");
    small(&mut client, &mock, Duration::from_millis(20));
    client.batch_execute("SELECT chatbot_cleanup(2)").expect("cleanup");
    for parallel in [1, 16] {
        cancels(&connection, &mut client, &mock, parallel);
    }
    client
        .batch_execute(
            "SELECT chatbot_cleanup(2); TRUNCATE shelf; SELECT chatbot_set_model('local', 'multilingual-static-256')",
        )
        .expect("the model that was there before");
    bulk(&mut client, &mock, None);
    client.batch_execute("DROP TABLE shelf; SELECT chatbot_cleanup(2)").expect("cleanup");
}
