//! Sends requests over HTTP. Only this module uses ureq, behind a trait, so that everything above it is
//! tested without it.

mod names;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;

use crate::embedding::provider::{
    Answer, Endpoint, InputType, Model, Provider, Request, WAIT_HEADERS, is_about_dimensions, refused,
    refused_with_status_200,
};
use crate::error::{Error, Fault, FaultKind, Result};

use names::CachingResolver;

/// The response to a request, with the parts that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// The headers of [`WAIT_HEADERS`] that the response has.
    pub wait_headers: Vec<(&'static str, String)>,
    /// The body, decompressed.
    pub body: Vec<u8>,
}

/// The reason why a request has no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection was made; the text is the client's message.
    Unreachable(String),
    /// The connection broke while a request was sent or its response read; the text is the client's message.
    Disconnected(String),
    /// There was no response within the timeout.
    TimedOut,
    /// The response has more than [`HttpConfig::max_response_bytes`] bytes.
    TooLarge,
}

/// Sends a request and receives its response.
pub trait Transport: Send + Sync {
    /// Sends one request and returns its response, or fails within the timeout.
    fn send(&self, request: &Request, timeout: Duration) -> std::result::Result<Response, Failure>;
}

/// The settings of the HTTP client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The limit of the DNS lookup, and of opening TCP and TLS.
    pub connect_timeout: Duration,
    /// The largest size of a response, in bytes after decompression.
    pub max_response_bytes: u64,
    /// The proxy's address; `None`: no proxy, also where the environment names one.
    pub proxy: Option<String>,
}

/// The HTTP client. It keeps connections open, does not follow redirects, and trusts the system's certificates.
pub struct Http {
    agent: Agent,
    config: HttpConfig,
}

impl Http {
    /// Makes a client. No connection is opened yet.
    pub fn new(config: &HttpConfig) -> Result<Self> {
        const CONNECTIONS: usize = 64;
        let proxy = config.proxy.as_deref().map(ureq::Proxy::new).transpose();
        // The error does not show the proxy's address, since it may contain a password.
        let proxy =
            proxy.map_err(|_| Error::invalid("chatbot_sync.proxy", "no proxy's address", "http://host:port"))?;
        let settings = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(config.connect_timeout))
            .timeout_connect(Some(config.connect_timeout))
            .max_idle_connections(CONNECTIONS)
            .max_idle_connections_per_host(CONNECTIONS)
            .user_agent(concat!("chatbot_sync/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .proxy(proxy)
            .build();
        let names = <CachingResolver>::default();
        let agent = Agent::with_parts(settings, DefaultConnector::default(), names);
        Ok(Self { agent, config: config.clone() })
    }

    /// Returns the settings that the client was made with.
    pub fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// Ends all requests in flight and closes every connection. The client cannot be used afterwards.
    pub fn shutdown(&self) {
        self.agent.clone().shutdown();
    }
}

impl Transport for Http {
    fn send(&self, request: &Request, timeout: Duration) -> std::result::Result<Response, Failure> {
        let mut post = self.agent.post(&request.url).header("content-type", "application/json");
        for (name, value) in &request.headers {
            post = post.header(*name, value.reveal());
        }
        let mut response =
            post.config().timeout_global(Some(timeout)).build().send(&request.body[..]).map_err(failure)?;
        let header = |name: &'static str| Some((name, response.headers().get(name)?.to_str().ok()?.to_owned()));
        let wait_headers = WAIT_HEADERS.into_iter().filter_map(header).collect();
        let status: StatusCode = response.status();
        let mut body = Vec::new();
        // Bytes are counted after decompression, since a small compressed body can become very large.
        let limit = self.config.max_response_bytes;
        let read = response.body_mut().as_reader().take(limit.saturating_add(1)).read_to_end(&mut body);
        read.map_err(|error| failure(error.into()))?;
        if body.len() as u64 > limit {
            return Err(Failure::TooLarge);
        }
        Ok(Response { status: status.as_u16(), wait_headers, body })
    }
}

fn failure(error: ureq::Error) -> Failure {
    let error = match error {
        // ureq wraps its own errors in an I/O error when they occur while a body is read.
        ureq::Error::Io(io) => match io.downcast::<ureq::Error>() {
            Ok(inner) => inner,
            Err(io) => ureq::Error::Io(io),
        },
        other => other,
    };
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            Failure::Unreachable("no connection within chatbot_sync.connect_timeout".to_owned())
        }
        ureq::Error::Timeout(_) => Failure::TimedOut,
        ureq::Error::Protocol(_) | ureq::Error::Decompress(..) => Failure::Disconnected(error.to_string()),
        // The server closed the connection, perhaps because a text made it crash. TLS errors are `InvalidData` and not
        // among these.
        ureq::Error::Io(ref io)
            if matches!(
                io.kind(),
                ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
            ) =>
        {
            Failure::Disconnected(error.to_string())
        }
        other => Failure::Unreachable(other.to_string()),
    }
}

/// The models that gave vectors of another length when none was asked for: (address, model, length that is needed).
static NOT_OWN_LENGTH: Mutex<BTreeSet<(String, String, usize)>> = Mutex::new(BTreeSet::new());
/// The largest number of parts that a text is cut into.
const MAX_PARTS: usize = 64;

/// Asks a provider for the vectors of some texts. A single text that is longer than the model takes is cut into parts;
/// its vector is the mean of theirs, so that all of the text counts.
pub fn request_embeddings(
    transport: &dyn Transport,
    provider: &dyn Provider,
    endpoint: &Endpoint,
    model: &Model,
    input: InputType,
    texts: &[&str],
    timeout: Duration,
) -> std::result::Result<Answer, Fault> {
    let call = Call { transport, provider, endpoint, model, input, deadline: Instant::now() + timeout };
    match (call.embed(texts), texts) {
        (Err(fault), [text]) if fault.kind == FaultKind::TooLong => call.embed_in_parts(text, fault),
        (outcome, _) => outcome,
    }
}

/// The common parts of the requests for the same texts.
struct Call<'a> {
    transport: &'a dyn Transport,
    provider: &'a dyn Provider,
    endpoint: &'a Endpoint,
    model: &'a Model,
    input: InputType,
    deadline: Instant,
}

impl Call<'_> {
    /// Asks for a vector length only where it is not the model's own, since many servers refuse the field. Where the
    /// own length is not documented, the first response shows it.
    fn embed(&self, texts: &[&str]) -> std::result::Result<Answer, Fault> {
        let Self { provider, endpoint, model, .. } = self;
        let Some(length) = model.asked().filter(|_| provider.known(&model.name).is_none()) else {
            return self.send(model, texts);
        };
        let known = (endpoint.url.clone(), model.name.clone(), length);
        if NOT_OWN_LENGTH.lock().unwrap_or_else(PoisonError::into_inner).contains(&known) {
            return self.send(model, texts);
        }
        let own = Model { shortened: false, ..(*model).clone() };
        let answer = self.send(&own, texts)?;
        if answer.vectors.iter().any(|(_, vector)| vector.len() == length) {
            return Ok(answer);
        }
        NOT_OWN_LENGTH.lock().unwrap_or_else(PoisonError::into_inner).insert(known);
        let asked = self.send(model, texts)?;
        Ok(Answer { tokens: asked.tokens.saturating_add(answer.tokens), more_requests: 1, ..asked })
    }

    /// Cuts a text into ever smaller parts until the model takes them, and returns the mean of their normalised
    /// vectors.
    fn embed_in_parts(&self, text: &str, mut refusal: Fault) -> std::result::Result<Answer, Fault> {
        let prefix = match self.input {
            InputType::Document => &self.model.document_prefix,
            InputType::Query => &self.model.query_prefix,
        };
        let content = text.strip_prefix(prefix.as_str()).unwrap_or(text);
        let limit = self.provider.limits(&self.model.name).inputs;
        let limit = self.model.max_inputs().unwrap_or(limit).min(limit).max(1);
        let mut requests = 0;
        let mut wanted = 2;
        'smaller: while wanted <= MAX_PARTS {
            let parts: Vec<String> =
                cut_evenly(content, wanted).into_iter().map(|part| format!("{prefix}{part}")).collect();
            if parts.len() < 2 {
                break;
            }
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let (mut vectors, mut tokens) = (Vec::with_capacity(parts.len()), 0u64);
            for some in parts.chunks(limit) {
                requests += 1;
                match self.embed(some) {
                    Ok(answer) if answer.vectors.len() == some.len() => {
                        tokens = tokens.saturating_add(answer.tokens);
                        requests += answer.more_requests;
                        vectors.extend(answer.vectors.into_iter().map(|(_, vector)| vector));
                    }
                    Ok(answer) => {
                        let message = format!("{} vectors for {} texts", answer.vectors.len(), some.len());
                        return Err(self.fault(FaultKind::BadAnswer, Some(200), &message));
                    }
                    Err(fault) if fault.kind == FaultKind::TooLong => {
                        refusal = fault;
                        wanted *= 2;
                        continue 'smaller;
                    }
                    Err(fault) => return Err(fault),
                }
            }
            let vector =
                mean_vector(&vectors).map_err(|message| self.fault(FaultKind::BadAnswer, Some(200), &message))?;
            return Ok(Answer { vectors: vec![(0, vector)], tokens, more_requests: requests, parts: parts.len() });
        }
        Err(refusal)
    }

    /// Sends one request and decodes its response.
    fn send(&self, model: &Model, texts: &[&str]) -> std::result::Result<Answer, Fault> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let request = self.provider.encode(self.endpoint, model, self.input, texts);
        let response = self.transport.send(&request, left.max(Duration::from_millis(1)));
        let response = response.map_err(|failure| match failure {
            Failure::Unreachable(message) => self.fault(FaultKind::Unreachable, None, &message),
            Failure::Disconnected(message) => self.fault(FaultKind::Disconnected, None, &message),
            // The same words as the caller uses, which may notice the timeout first.
            Failure::TimedOut => self.fault(FaultKind::TimedOut, None, "chatbot_sync.sync_timeout is over"),
            Failure::TooLarge => self.fault(FaultKind::AnswerTooLarge, None, ""),
        })?;
        let Response { status, wait_headers, body } = &response;
        let fault_of = |(kind, message, retry_after): (FaultKind, String, Option<Duration>)| {
            let kind = match kind {
                FaultKind::Refused if model.asked().is_some() && is_about_dimensions(&message) => FaultKind::Dimensions,
                kind => kind,
            };
            Fault { retry_after, ..self.fault(kind, Some(*status), &message) }
        };
        if *status != 200 {
            return Err(fault_of(refused(*status, wait_headers, body)));
        }
        self.provider.decode(body).map_err(|message| match refused_with_status_200(wait_headers, body) {
            Some(refusal) => fault_of(refusal),
            None => self.fault(FaultKind::BadAnswer, Some(200), &message),
        })
    }

    fn fault(&self, kind: FaultKind, status: Option<u16>, message: &str) -> Fault {
        let message = redacted_line(message, self.endpoint);
        Fault { status, ..Fault::new(kind, self.provider.name(), &self.model.name, message) }
    }
}

/// Cuts a text into parts of about the same number of characters, at white space where there is some near the end
/// of a part.
fn cut_evenly(text: &str, parts: usize) -> Vec<&str> {
    let size = text.chars().count().div_ceil(parts).max(1);
    let mut cut = Vec::new();
    let mut rest = text.trim();
    while let Some((end, _)) = rest.char_indices().nth(size) {
        let near = rest[..end].rfind(char::is_whitespace).filter(|at| *at > end / 2);
        let (part, after) = rest.split_at(near.unwrap_or(end));
        cut.push(part.trim_end());
        rest = after.trim_start();
    }
    cut.push(rest);
    cut.retain(|part| !part.is_empty());
    cut
}

/// Returns the mean of vectors, each of them and the result scaled to length 1; fails where one is all zeros or
/// has another length.
fn mean_vector(vectors: &[Vec<f32>]) -> std::result::Result<Vec<f32>, String> {
    let length = |vector: &[f64]| vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut sum = vec![0.0; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        if vector.len() != sum.len() {
            return Err(format!("a vector of {} dimensions beside one of {}", vector.len(), sum.len()));
        }
        let vector: Vec<f64> = vector.iter().map(|&x| f64::from(x)).collect();
        let norm = length(&vector);
        if norm == 0.0 {
            return Err("a vector of zeros".to_owned());
        }
        sum.iter_mut().zip(&vector).for_each(|(sum, x)| *sum += x / norm);
    }
    let norm = length(&sum);
    // The provider's numbers have the precision of float4, so the result needs no more.
    #[allow(clippy::cast_possible_truncation)]
    Ok(sum.iter().map(|x| (x / norm) as f32).collect())
}

/// Returns a provider's message as one line of at most 200 characters, with the key replaced by `***`: some providers
/// repeat the key that they refuse.
fn redacted_line(message: &str, endpoint: &Endpoint) -> String {
    const LONGEST: usize = 200;
    let words: Vec<&str> = message.split_whitespace().collect();
    let mut line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    // The key is replaced last, since leaving out control characters can put it together.
    let key = endpoint.key.as_ref().map_or("", |key| key.reveal().trim());
    if !key.is_empty() {
        line = line.replace(key, "***");
    }
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests;
