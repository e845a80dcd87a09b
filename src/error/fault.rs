//! Faults of providers, and whether another attempt is worth while.

/// The way in which a request to a provider failed; [`Self::retry_class`] says what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// No connection could be made: DNS, TCP or TLS failed.
    Unreachable,
    /// There was no response within the timeout.
    TimedOut,
    /// HTTP 5xx, 408, 425: the provider's own failure.
    Server,
    /// HTTP 429: too many requests or tokens for now.
    Throttled,
    /// The quota of the plan is used up, or a bill is unpaid: waiting for minutes does not help.
    Quota,
    /// HTTP 401, 403, 407: the key is refused.
    Unauthorized,
    /// HTTP 404, 405: the model or the address is unknown.
    NotFound,
    /// HTTP 3xx: the address has moved. Redirects are not followed, since the key would go to the new address.
    Redirect,
    /// Another 4xx: the provider refuses one of the texts, or this many at once.
    Refused,
    /// A text, or the request as a whole, is longer than the model takes.
    TooLong,
    /// The model cannot give vectors of the length that was asked for.
    Dimensions,
    /// The connection broke while a request was sent or its response was read.
    Disconnected,
    /// The response is malformed, or its vectors have the wrong length or number.
    BadAnswer,
    /// The response is larger than `chatbot_sync.max_response_bytes`.
    AnswerTooLarge,
    /// The worker holds no vector for this text, because the source or its settings changed while its
    /// texts were embedded.
    Outdated,
}

/// The consequence of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClass {
    /// The request is tried again, as often as the retry policy says.
    Transient,
    /// The request is sent again after the wait that the provider asks for; it does not count as an attempt.
    Throttled,
    /// One of several texts may be the reason: the request is split to find it.
    Input,
    /// The request is not tried again: a setting, a key or the text has to be changed first.
    Permanent,
}

impl FaultKind {
    /// Returns what follows from a fault of this kind.
    pub fn retry_class(self) -> RetryClass {
        match self {
            Self::Unreachable | Self::Disconnected | Self::Server | Self::BadAnswer => RetryClass::Transient,
            Self::Throttled => RetryClass::Throttled,
            Self::Refused | Self::TooLong | Self::AnswerTooLarge | Self::TimedOut => RetryClass::Input,
            Self::Quota | Self::Unauthorized | Self::NotFound | Self::Redirect | Self::Dimensions | Self::Outdated => {
                RetryClass::Permanent
            }
        }
    }
}

/// A failed request, with what a message to the user needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of fault, which decides whether the request is tried again.
    pub kind: FaultKind,
    /// The provider's name.
    pub provider: String,
    /// The model that was asked for.
    pub model: String,
    /// The HTTP status; `None` where no response came.
    pub status: Option<u16>,
    /// The provider's message, or the HTTP client's: one line, with the key replaced by `***`.
    pub message: String,
    /// The wait that the provider asks for; `None` where it does not say.
    pub retry_after: Option<std::time::Duration>,
    /// The text that is to blame, as messages name it; `None` where it is not known.
    pub subject: Option<String>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { provider, model, .. } = self;
        let at = self.subject.as_ref().map_or(String::new(), |subject| format!(" at {subject}"));
        match self.kind {
            FaultKind::Unreachable => write!(f, "provider {provider} cannot be reached"),
            FaultKind::TimedOut => write!(f, "provider {provider} did not answer in time{at}"),
            FaultKind::Server => write!(f, "provider {provider} failed{at}"),
            FaultKind::Disconnected => write!(f, "provider {provider} closed the connection{at}"),
            FaultKind::TooLong => {
                let subject = self.subject.as_deref().unwrap_or("a text");
                write!(f, "provider {provider} refuses {subject}, which is longer than model {model} takes")
            }
            FaultKind::Dimensions => {
                write!(f, "model {model} of provider {provider} gives no vectors of the length that was asked for")
            }
            FaultKind::Throttled => write!(f, "provider {provider} is asked too much at once"),
            FaultKind::Quota => write!(f, "the quota at provider {provider} is used up"),
            FaultKind::Unauthorized => write!(f, "provider {provider} refuses the key"),
            FaultKind::NotFound => write!(f, "provider {provider} knows no model {model} at its address"),
            FaultKind::Redirect => write!(f, "provider {provider} is at another address"),
            FaultKind::Refused => {
                write!(f, "provider {provider} refuses {}", self.subject.as_deref().unwrap_or("a text"))
            }
            FaultKind::BadAnswer => write!(f, "provider {provider} gave an answer that cannot be right{at}"),
            FaultKind::Outdated => write!(f, "{} was changed meanwhile", self.subject.as_deref().unwrap_or("a text")),
            FaultKind::AnswerTooLarge => write!(f, "provider {provider} gave an answer that is too large{at}"),
        }
    }
}

impl Fault {
    /// A fault with a message only: no status, no wait, no text to blame.
    pub fn new(kind: FaultKind, provider: &str, model: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            provider: provider.to_owned(),
            model: model.to_owned(),
            status: None,
            message: message.into(),
            retry_after: None,
            subject: None,
        }
    }

    /// The error's detail: model, HTTP status and the provider's message.
    pub fn detail(&self) -> String {
        let mut detail = format!("Model {}", self.model);
        if let Some(status) = self.status {
            detail += &format!(", HTTP status {status}");
        }
        if !self.message.is_empty() {
            detail += &format!(": {}", self.message);
        }
        detail
    }
}
