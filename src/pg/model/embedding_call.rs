//! Requests to a provider from within a backend. Threads of the extension send them, with every signal blocked, and never
//! call into Postgres; the backend's own thread waits on its latch and answers interrupts. A call that ends early, for
//! whatever reason, closes every socket.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{PipeReader, PipeWriter, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use crate::embedding::batch::{Batch, Batcher, ResponseChecks, RetryPolicy, TextResult, Usage};
use crate::embedding::provider::{Answer, Endpoint, InputType, Limits, Model, Provider};
use crate::embedding::transport::{Http, request_embeddings};
use crate::error::{Error, Fault, FaultKind, Result};
use crate::pg::model::{speedometer, throttle};
use crate::pg::runtime::{enabled, latch, log_line, provider_settings, settings};
use crate::threads::signals::BlockedSignals;

/// The number of requests for each thread that are handed out ahead, so that no thread idles while the
/// backend stores results.
const REQUESTS_AHEAD: usize = 4;
/// The interval at which a worker that waits for a provider checks whether it has to yield to DDL.
const YIELD_CHECK_INTERVAL: Duration = Duration::from_secs(1);

thread_local! {
    static YIELD_CHECK: Cell<Option<fn() -> bool>> = const { Cell::new(None) };
    static YIELDED: Cell<bool> = const { Cell::new(false) };
}

/// Sets a check that runs once a second while a call waits: when it returns true, the call ends with an error.
/// `None`: no check.
pub fn set_yield_check(check: Option<fn() -> bool>) {
    YIELD_CHECK.set(check);
}

/// Returns whether a call has ended because another session wants to copy or drop the database, and resets that.
pub fn has_yielded_to_ddl() -> bool {
    YIELDED.take()
}

/// Runs the check: whether this worker has to yield to DDL. [`has_yielded_to_ddl`] then returns true too. To be called once a
/// second.
pub fn run_yield_check() -> bool {
    let yields = YIELD_CHECK.get().is_some_and(|check| check());
    if yields {
        YIELDED.set(true);
    }
    yields
}

/// The context that all requests of a call share.
struct RequestContext {
    http: Arc<Http>,
    provider: &'static (dyn Provider + Sync),
    endpoint: Endpoint,
    model: Model,
    input: InputType,
    deadline: Instant,
}

/// The result of one request.
pub struct BatchResult {
    /// The numbers of the texts that were in it.
    pub range: Range<usize>,
    /// The texts that are finished, each with its vector or its fault.
    pub texts: Vec<TextResult>,
    /// The requests, inputs and tokens that were used.
    pub usage: Usage,
    /// The number of a text that was longer than the model takes, and the number of parts that it was embedded in.
    pub in_parts: Option<(usize, usize)>,
}

/// The most texts of a request.
pub fn texts_a_request(provider: &dyn Provider, model: &Model) -> usize {
    model.max_inputs().unwrap_or_else(|| provider.limits(&model.name).inputs).min(settings::batch_size())
}

/// Texts on their way to a provider. If it is dropped before done() is called, every request ends.
pub struct EmbeddingCall {
    batcher: Batcher,
    texts: BTreeMap<usize, String>,
    pushed: usize,
    most_in_flight: usize,
    flushed: bool,
    /// The fault of the last request that the provider throttled, unless one has succeeded since.
    throttled: Option<Fault>,
    pool: RequestThreads,
    client: ConnectionCache,
}

impl EmbeddingCall {
    /// Prepares a call; no connection is opened before the first request.
    pub fn new(
        provider: &'static (dyn Provider + Sync),
        model: &Model,
        input: InputType,
        max_attempts: u32,
    ) -> Result<Self> {
        enabled::require_enabled()?;
        let endpoint = provider_settings::endpoint(provider)?;
        let deadline = Instant::now() + settings::sync_timeout();
        let (inputs, Limits { bytes, .. }) = (texts_a_request(provider, model), provider.limits(&model.name));
        let expected = ResponseChecks {
            dimensions: model.dimensions,
            unit: provider.promises_unit(model),
            normalise: provider.normalise(model),
        };
        let retry_policy = RetryPolicy { max_attempts, deadline };
        let mut batcher = Batcher::new(Limits { inputs, bytes }, expected, retry_policy);
        if let Some(wait) = throttle::remaining_wait(provider.name()) {
            let until = Instant::now() + wait;
            if until >= deadline {
                let message = "another session was asked to wait";
                return Err(Fault::new(FaultKind::Throttled, provider.name(), &model.name, message).into());
            }
            batcher.pause(until);
        }
        let client = ConnectionCache::take()?;
        let http = client.http.clone();
        let pool =
            RequestThreads::new(RequestContext { http, provider, endpoint, model: model.clone(), input, deadline })?;
        let most_in_flight = settings::max_parallel_requests();
        Ok(Self {
            batcher,
            texts: BTreeMap::new(),
            pushed: 0,
            most_in_flight,
            flushed: false,
            throttled: None,
            pool,
            client,
        })
    }

    /// Adds a text and returns its number, from 0.
    pub fn push(&mut self, text: String) -> Result<usize> {
        let at = self.pushed;
        self.pushed += 1;
        self.flushed = false;
        self.batcher.push(text.len(), Instant::now());
        self.texts.insert(at, text);
        self.send()?;
        Ok(at)
    }

    /// Sends the texts that were pushed, without waiting for more of them to fill a request.
    pub fn flush(&mut self) -> Result<()> {
        self.flushed = true;
        self.batcher.flush(Instant::now());
        self.send()
    }

    /// Whether another text would be sent soon. Each thread has its next requests waiting, so that none idles while the
    /// backend chunks or stores.
    pub fn wants_more(&self) -> bool {
        self.batcher.waiting() + self.batcher.in_flight() < REQUESTS_AHEAD * self.most_in_flight
    }

    /// Waits until a request has ended, more texts are wanted, or all are finished. An error ends the whole call. `work` is
    /// done as long as it says that it did something, and no longer than until an answer has come.
    pub fn wait(&mut self, work: &dyn Fn() -> bool) -> Result<Vec<BatchResult>> {
        let mut answered = Vec::new();
        loop {
            while let Ok(outcome) = self.pool.outcomes.try_recv() {
                self.log(&outcome);
                answered.push(self.accept_outcome(outcome)?);
            }
            self.send()?;
            if !answered.is_empty() || self.batcher.is_done() || (!self.flushed && self.wants_more()) {
                return Ok(answered);
            }
            if Instant::now() >= self.batcher.deadline() {
                return Err(self.fault(FaultKind::TimedOut, "chatbot_sync.sync_timeout is over").into());
            }
            let mut until =
                self.batcher.wake_at().map_or(self.batcher.deadline(), |at| at.min(self.batcher.deadline()));
            if run_yield_check() {
                return Err(self.fault(FaultKind::TimedOut, "the database is needed").into());
            }
            if YIELD_CHECK.get().is_some() {
                until = until.min(Instant::now() + YIELD_CHECK_INTERVAL);
            }
            if work() {
                pgrx::check_for_interrupts!();
            } else {
                self.pool.wait(until);
            }
        }
    }

    /// Ends the call and keeps its connections for the next one.
    pub fn done(self) {
        self.client.keep();
    }

    /// Hands the outcome of a request to the batcher, and returns the texts that are finished by it.
    fn accept_outcome(&mut self, RequestOutcome { batch, result, .. }: RequestOutcome) -> Result<BatchResult> {
        let range = batch.range.clone();
        let throttled = matches!(&result, Err(f) if f.kind == FaultKind::Throttled);
        match &result {
            Ok(_) => self.throttled = None,
            Err(fault) if throttled => self.throttled = Some(fault.clone()),
            Err(_) => {}
        }
        let parts = result.as_ref().map_or(0, |answer| answer.parts);
        let in_parts = (parts > 0).then_some((range.start, parts));
        let wait = result.as_ref().err().and_then(|f| f.retry_after);
        let done = self.batcher.done(batch, result, Instant::now(), jitter());
        if throttled {
            throttle::publish(self.pool.context.provider.name(), wait);
        }
        let (mut texts, usage) = done.map_err(|fault| self.named(fault))?;
        for (at, outcome) in &mut texts {
            let text = self.texts.remove(at);
            if outcome.is_ok() {
                speedometer::count_embedded(text.iter());
            }
            if let Err(fault) = outcome {
                *fault = self.named(fault.clone());
            }
        }
        Ok(BatchResult { range, texts, usage, in_parts })
    }

    fn log(&self, RequestOutcome { batch, result, elapsed }: &RequestOutcome) {
        log_line::debug_line("answered", || {
            let RequestContext { provider, model, .. } = &*self.pool.context;
            let (name, model, inputs) = (provider.name(), log_line::quoted_value(&model.name), batch.range.len());
            let outcome = match result {
                Ok(_) => "ok".to_owned(),
                Err(Fault { kind, status: Some(status), .. }) => format!("{kind:?} http_status={status}"),
                Err(fault) => format!("{:?}", fault.kind),
            };
            format!("provider={name} model={model} inputs={inputs} ms={} outcome={outcome}", elapsed.as_millis())
        });
    }

    /// Writes the provider and the model into a fault, since the code that finds the fault does not know them.
    fn named(&self, fault: Fault) -> Fault {
        // Time ran out because the provider asked to wait: that is the fault to report.
        let fault = self.throttled.clone().filter(|_| fault.kind == FaultKind::TimedOut).unwrap_or(fault);
        let RequestContext { provider, model, .. } = &*self.pool.context;
        Fault { provider: provider.name().to_owned(), model: model.name.clone(), ..fault }
    }

    fn fault(&self, kind: FaultKind, message: &str) -> Fault {
        self.named(Fault::new(kind, "", "", message))
    }

    fn send(&mut self) -> Result<()> {
        while self.batcher.in_flight() < REQUESTS_AHEAD * self.most_in_flight {
            let Some(batch) = self.batcher.next(Instant::now()) else { break };
            let texts = self.texts.range(batch.range.clone()).map(|(_, text)| text.clone()).collect();
            self.pool.send(Request { batch, texts }, self.most_in_flight)?;
        }
        Ok(())
    }
}

/// The backend's HTTP client with its open connections. It is shut down on drop, unless keep() puts it back.
struct ConnectionCache {
    http: Arc<Http>,
    kept: bool,
}

thread_local! {
    static IDLE: RefCell<Option<Arc<Http>>> = const { RefCell::new(None) };
}

impl ConnectionCache {
    fn take() -> Result<Self> {
        let config = settings::http_config();
        let idle = IDLE.take().filter(|http| *http.config() == config);
        let http = match idle {
            Some(http) => http,
            None => Arc::new(Http::new(&config)?),
        };
        Ok(Self { http, kept: false })
    }

    fn keep(mut self) {
        self.kept = true;
        IDLE.set(Some(self.http.clone()));
    }
}

impl Drop for ConnectionCache {
    fn drop(&mut self) {
        if !self.kept {
            self.http.shutdown();
        }
    }
}

/// A request that a thread is to send.
struct Request {
    batch: Batch,
    texts: Vec<String>,
}

/// The outcome of a request.
struct RequestOutcome {
    batch: Batch,
    result: std::result::Result<Answer, Fault>,
    elapsed: Duration,
}

type RequestQueue = Mutex<Receiver<Request>>;

/// The threads of one call. After it is dropped, each thread ends as soon as its current request does.
struct RequestThreads {
    context: Arc<RequestContext>,
    requests: Sender<Request>,
    queue: Arc<RequestQueue>,
    finished: Sender<RequestOutcome>,
    outcomes: Receiver<RequestOutcome>,
    wake: PipeReader,
    waker: Arc<PipeWriter>,
    threads: usize,
    sent: usize,
}

impl RequestThreads {
    fn new(context: RequestContext) -> Result<Self> {
        let (requests, queue) = channel();
        let (finished, outcomes) = channel();
        let (wake, waker) = std::io::pipe().map_err(thread_error)?;
        let (context, queue, waker) = (Arc::new(context), Arc::new(Mutex::new(queue)), Arc::new(waker));
        Ok(Self { context, requests, queue, finished, outcomes, wake, waker, threads: 0, sent: 0 })
    }

    /// Hands a request to the threads, and starts another thread while there are fewer than `most`, and fewer than requests.
    fn send(&mut self, request: Request, most: usize) -> Result<()> {
        self.sent += 1;
        if self.threads < most.min(self.sent) {
            let (context, queue) = (self.context.clone(), self.queue.clone());
            let (finished, waker) = (self.finished.clone(), self.waker.clone());
            let _blocked = BlockedSignals::new();
            let thread = std::thread::Builder::new().name("chatbot_sync".to_owned());
            thread.spawn(move || run_request_thread(&context, &queue, &finished, &waker)).map_err(thread_error)?;
            self.threads += 1;
        }
        self.requests.send(request).map_err(|_| Error::Internal("no thread asks a provider".to_owned()))
    }

    /// Waits for an outcome or an instant. The outcome is in the channel.
    fn wait(&self, until: Instant) {
        latch::wait(&self.wake, until);
    }
}

fn thread_error(error: std::io::Error) -> Error {
    Error::Internal(format!("a thread cannot be started: {error}"))
}

/// The body of a thread: takes requests until there are none, sends each, and reports its outcome. Never
/// calls into Postgres.
fn run_request_thread(
    context: &RequestContext,
    queue: &RequestQueue,
    finished: &Sender<RequestOutcome>,
    waker: &PipeWriter,
) {
    loop {
        let taken = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
        let Ok(Request { batch, texts }) = taken else { return };
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let RequestContext { http, provider, endpoint, model, input, deadline } = context;
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = batch.timeout(left).max(Duration::from_millis(1));
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| {
            request_embeddings(&**http, *provider, endpoint, model, *input, &texts, timeout)
        }));
        let result = result.unwrap_or_else(|_| {
            Err(Fault::new(FaultKind::Unreachable, provider.name(), &model.name, "the HTTP client failed"))
        });
        if finished.send(RequestOutcome { batch, result, elapsed: began.elapsed() }).is_err() {
            return;
        }
        let mut waker = waker;
        let _ = waker.write(&[1]);
    }
}

/// Returns a number from 0 to 1 that differs between backends, to spread their retries; it is no secret.
pub fn jitter() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    f64::from(now.subsec_nanos() % 1009) / 1009.0
}
