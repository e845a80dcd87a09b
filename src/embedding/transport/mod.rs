//! One request over HTTP. The only user of ureq, behind a trait, so that all that depends on it is tested without it.

mod names;

use std::io::Read;
use std::time::Duration;

use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;

use crate::embedding::provider::{Answer, Endpoint, InputType, Model, Provider, Request, refused};
use crate::error::{Error, Fault, FaultKind, Result};

use names::Names;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// The header `Retry-After`.
    pub retry_after: Option<String>,
    /// The body, decompressed.
    pub body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// In the client's words.
    Unreachable(String),
    /// Nothing in time.
    TimedOut,
    /// More bytes than may be read.
    TooLarge,
}

/// Sends requests.
pub trait Transport: Send + Sync {
    /// One request and its answer, within a time.
    fn send(&self, request: &Request, timeout: Duration) -> std::result::Result<Response, Failure>;
}

/// How to speak HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// For the name, and for TCP and TLS.
    pub connect_timeout: Duration,
    /// Of an answer, decompressed.
    pub max_response_bytes: u64,
    /// None: no proxy, whatever the environment says.
    pub proxy: Option<String>,
}

/// The HTTP client: connections are kept, redirects are not followed, certificates are the system's.
pub struct Http {
    agent: Agent,
    config: HttpConfig,
}

impl Http {
    /// A client without a connection yet.
    pub fn new(config: &HttpConfig) -> Result<Self> {
        const CONNECTIONS: usize = 64;
        let proxy = config.proxy.as_deref().map(ureq::Proxy::new).transpose();
        // What the proxy's address says may be a password.
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
        let names = <Names>::default();
        let agent = Agent::with_parts(settings, DefaultConnector::default(), names);
        Ok(Self { agent, config: config.clone() })
    }

    /// What it was made with.
    pub fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// Ends all requests in flight and closes every connection; the client is of no use afterwards.
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
        let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let status: StatusCode = response.status();
        let mut body = Vec::new();
        // Counted after decompression: a small answer can be a large one in disguise.
        let limit = self.config.max_response_bytes;
        let read = response.body_mut().as_reader().take(limit.saturating_add(1)).read_to_end(&mut body);
        read.map_err(|error| failure(error.into()))?;
        if body.len() as u64 > limit {
            return Err(Failure::TooLarge);
        }
        Ok(Response { status: status.as_u16(), retry_after, body })
    }
}

fn failure(error: ureq::Error) -> Failure {
    let error = match error {
        // What fails while a body is read comes wrapped.
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
        other => Failure::Unreachable(other.to_string()),
    }
}

/// Asks a provider for the vectors of some texts: what it answered, or how it failed.
pub fn ask(
    transport: &dyn Transport,
    provider: &dyn Provider,
    endpoint: &Endpoint,
    model: &Model,
    input: InputType,
    texts: &[&str],
    timeout: Duration,
) -> std::result::Result<Answer, Fault> {
    let fault = |kind, status, message: &str| Fault {
        status,
        ..Fault::new(kind, provider.name(), &model.name, one_line(message, endpoint))
    };
    let request = provider.encode(endpoint, model, input, texts);
    let response = transport.send(&request, timeout).map_err(|failure| match failure {
        Failure::Unreachable(message) => fault(FaultKind::Unreachable, None, &message),
        // In the words of the caller, who may notice first.
        Failure::TimedOut => fault(FaultKind::TimedOut, None, "chatbot_sync.sync_timeout is over"),
        Failure::TooLarge => fault(FaultKind::AnswerTooLarge, None, ""),
    })?;
    if response.status != 200 {
        let (kind, message, retry_after) = refused(response.status, response.retry_after.as_deref(), &response.body);
        return Err(Fault { retry_after, ..fault(kind, Some(response.status), &message) });
    }
    provider.decode(&response.body).map_err(|message| fault(FaultKind::BadAnswer, Some(200), &message))
}

/// The provider's words, cut to a line. Some of them repeat the key that they refuse.
fn one_line(message: &str, endpoint: &Endpoint) -> String {
    const LONGEST: usize = 200;
    let words: Vec<&str> = message.split_whitespace().collect();
    let mut line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    // Last, since leaving out characters can put it together.
    let key = endpoint.key.as_ref().map_or("", |key| key.reveal().trim());
    if !key.is_empty() {
        line = line.replace(key, "***");
    }
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests;
