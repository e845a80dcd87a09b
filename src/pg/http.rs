//! Requests from within a backend. Threads of ours send them, with every signal blocked, and never call into Postgres;
//! the backend's own thread waits on its latch and answers interrupts. Leaving early, for whatever reason, closes every
//! socket.

use std::cell::RefCell;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use pgrx::pg_sys;

use super::{guc, throttle};
use crate::batch::{Batch, Expected, Patience, Usage, Work};
use crate::error::{Error, Fault, FaultKind, Result};
use crate::provider::{Answer, Endpoint, InputType, Limits, Model, Provider};
use crate::transport::{Http, ask};

/// What is asked, for the threads.
struct Question {
    http: Arc<Http>,
    provider: &'static (dyn Provider + Sync),
    endpoint: Endpoint,
    model: Model,
    input: InputType,
    texts: Vec<String>,
    deadline: Instant,
}

/// The vectors of texts, in their order, and what they took.
pub fn embed(
    provider: &'static (dyn Provider + Sync),
    model: &Model,
    input: InputType,
    texts: Vec<String>,
) -> Result<(Vec<Vec<f32>>, Usage)> {
    if texts.is_empty() {
        return Ok((Vec::new(), Usage::default()));
    }
    let endpoint = guc::endpoint(provider)?;
    let now = Instant::now();
    let deadline = now + guc::sync_timeout();
    let Limits { inputs, bytes } = provider.limits(&model.name);
    let inputs = model.max_inputs().unwrap_or(inputs).min(guc::batch_size());
    let lengths: Vec<usize> = texts.iter().map(String::len).collect();
    let expected = Expected {
        dimensions: model.dimensions,
        unit: provider.promises_unit(model),
        normalise: provider.normalise(model),
    };
    let patience = Patience { max_attempts: guc::max_attempts(), deadline };
    let mut batch = Batch::new(&lengths, Limits { inputs, bytes }, expected, patience, now);

    let client = Client::take()?;
    let question =
        Question { http: client.http.clone(), provider, endpoint, model: model.clone(), input, texts, deadline };
    drive(&mut batch, question, provider.name(), &model.name)?;
    client.keep();
    let usage = batch.usage;
    Ok((batch.into_vectors(), usage))
}

/// Sends and waits until every text has its vector.
fn drive(batch: &mut Batch, question: Question, provider: &str, model: &str) -> Result<()> {
    let fault = |kind, message: &str| Fault {
        kind,
        provider: provider.to_owned(),
        model: model.to_owned(),
        status: None,
        message: message.to_owned(),
        retry_after: None,
        input: None,
        subject: None,
    };
    if let Some(wait) = throttle::wait(provider) {
        let until = Instant::now() + wait;
        if until >= batch.deadline() {
            return Err(fault(FaultKind::Throttled, "another session was asked to wait").into());
        }
        batch.pause(until);
    }
    let threads = guc::max_parallel_requests().min(batch.waiting());
    let pool = Pool::start(Arc::new(question), threads)?;
    loop {
        while let Some(work) = batch.next(Instant::now()) {
            pool.send(work)?;
        }
        if batch.is_done() {
            return Ok(());
        }
        let until = batch.wake_at().map_or(batch.deadline(), |at| at.min(batch.deadline()));
        pool.wait(until);
        while let Some((work, outcome)) = pool.received() {
            let asked_to_wait = matches!(&outcome, Err(f) if f.kind == FaultKind::Throttled);
            let wait = outcome.as_ref().err().and_then(|f| f.retry_after);
            let done = batch.done(work, outcome, Instant::now(), jitter());
            if asked_to_wait {
                throttle::publish(provider, wait);
            }
            done.map_err(|f| Fault { provider: provider.to_owned(), model: model.to_owned(), ..f })?;
        }
        if Instant::now() >= batch.deadline() {
            return Err(fault(FaultKind::TimedOut, "chatbot_sync.sync_timeout is over").into());
        }
    }
}

/// The backend's HTTP client, with its kept connections. Unless it is put back it is shut down.
struct Client {
    http: Arc<Http>,
    kept: bool,
}

thread_local! {
    static IDLE: RefCell<Option<Arc<Http>>> = const { RefCell::new(None) };
}

impl Client {
    fn take() -> Result<Self> {
        let config = guc::http_config();
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

impl Drop for Client {
    fn drop(&mut self) {
        if !self.kept {
            self.http.shutdown();
        }
    }
}

type Outcome = (Work, std::result::Result<Answer, Fault>);

/// The threads of one call. They end when it is dropped, or as soon as their request does.
struct Pool {
    work: Sender<Work>,
    outcomes: Receiver<Outcome>,
    wake: PipeReader,
}

impl Pool {
    fn start(question: Arc<Question>, threads: usize) -> Result<Self> {
        let system = |error: std::io::Error| Error::Internal(format!("a thread cannot be started: {error}"));
        let (work, queue) = channel();
        let (answers, outcomes) = channel();
        let (wake, waker) = std::io::pipe().map_err(system)?;
        let (queue, waker) = (Arc::new(Mutex::new(queue)), Arc::new(waker));
        let _blocked = BlockedSignals::new();
        for _ in 0..threads {
            let (question, queue, answers, waker) = (question.clone(), queue.clone(), answers.clone(), waker.clone());
            let thread = std::thread::Builder::new().name("chatbot_sync".to_owned());
            thread.spawn(move || serve(&question, &queue, &answers, &waker)).map_err(system)?;
        }
        Ok(Self { work, outcomes, wake })
    }

    fn send(&self, work: Work) -> Result<()> {
        self.work.send(work).map_err(|_| Error::Internal("no thread is left to ask a provider".to_owned()))
    }

    fn received(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }

    /// Waits for an outcome or an instant; a cancel, a timeout or a shutdown ends it with its own error.
    #[allow(unsafe_code)]
    fn wait(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up: waking a little late is better than asking again and again within the same millisecond.
        let millis = i64::try_from(left.as_millis()).unwrap_or(i64::MAX).saturating_add(1);
        let events =
            pg_sys::WL_LATCH_SET | pg_sys::WL_SOCKET_READABLE | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        // SAFETY: the latch is this backend's own and the descriptor is open as long as self is.
        let woken = unsafe {
            let woken = pg_sys::WaitLatchOrSocket(
                pg_sys::MyLatch,
                events.cast_signed(),
                self.wake.as_raw_fd(),
                millis,
                pg_sys::PG_WAIT_EXTENSION,
            );
            pg_sys::ResetLatch(pg_sys::MyLatch);
            woken
        };
        pgrx::check_for_interrupts!();
        if woken & pg_sys::WL_SOCKET_READABLE.cast_signed() != 0 {
            // There is at least a byte, so this does not block; what it says is in the channel.
            let _ = (&self.wake).read(&mut [0; 256]);
        }
    }
}

/// A thread: takes work until there is none, asks, tells. Calls nothing of Postgres.
fn serve(question: &Question, queue: &Mutex<Receiver<Work>>, answers: &Sender<Outcome>, waker: &PipeWriter) {
    loop {
        let Ok(work) = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv() else { return };
        let q = question;
        let texts: Vec<&str> = q.texts[work.range.clone()].iter().map(String::as_str).collect();
        let left = q.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let asked =
            catch_unwind(AssertUnwindSafe(|| ask(&*q.http, q.provider, &q.endpoint, &q.model, q.input, &texts, left)));
        let outcome = asked.unwrap_or_else(|_| {
            Err(Fault {
                kind: FaultKind::Unreachable,
                provider: q.provider.name().to_owned(),
                model: q.model.name.clone(),
                status: None,
                message: "the HTTP client failed".to_owned(),
                retry_after: None,
                input: None,
                subject: None,
            })
        });
        if answers.send((work, outcome)).is_err() {
            return;
        }
        let mut waker = waker;
        let _ = waker.write(&[1]);
    }
}

/// Every signal is blocked while this lives: threads that are started meanwhile leave all of them to the main thread.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    #[allow(unsafe_code)]
    fn new() -> Self {
        // SAFETY: both sets are initialised by the calls before they are read; only this thread's mask changes.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for BlockedSignals {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the mask is the one that was in force before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// 0 to 1, different in each backend: for spreading attempts, not for secrets.
fn jitter() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    f64::from(now.subsec_nanos() % 1009) / 1009.0
}
