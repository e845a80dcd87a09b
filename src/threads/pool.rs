//! Pure work beside the thread that wants its results. Tasks are started ahead, and threads take them in that order. The
//! caller does a task itself where no thread has begun it, so without threads each is done when its result is wanted.

use std::cell::{Cell, OnceCell};
use std::collections::VecDeque;
use std::io::{PipeReader, PipeWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use crate::error::{Error, Result};
use crate::threads::signals::BlockedSignals;

/// Bytes of text that wait before a thread is started for them: less is done sooner than a thread begins.
const BYTES_FOR_A_THREAD: usize = 16 * 1024;

/// Threads that do the tasks of one caller. They are started when there is work for them; after the pool is dropped, each
/// ends as soon as its task does.
pub struct Pool {
    shared: Arc<Shared>,
    most: usize,
    started: Cell<usize>,
    /// What threads write to when a task is done that the caller waits for.
    pipe: OnceCell<(PipeReader, Arc<PipeWriter>)>,
}

/// What the caller and its threads share.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    /// Whether the caller waits for a task that a thread has begun.
    awaited: AtomicBool,
}

#[derive(Default)]
struct Queue {
    /// Tasks in the order in which they were started. A task that was dropped is gone, and the caller may have done one itself.
    jobs: VecDeque<Weak<dyn Job>>,
    /// Threads that wait for a task.
    idle: usize,
    closed: bool,
}

/// A task that was started. If this is dropped before a thread has begun the task, it is never done.
pub struct Task<T>(Arc<Slot<T>>);

struct Slot<T> {
    state: Mutex<State<T>>,
    bytes: usize,
}

enum State<T> {
    Waiting(Box<dyn FnOnce() -> T + Send>),
    Running,
    Done(T),
    Failed,
}

trait Job: Send + Sync {
    /// Does the task, unless it has been begun.
    fn run(&self);

    /// The bytes of text that wait for it; `None`: it has been begun.
    fn waiting_bytes(&self) -> Option<usize>;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send> Job for Slot<T> {
    fn run(&self) {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Running) {
            State::Waiting(work) => {
                drop(state);
                let done = catch_unwind(AssertUnwindSafe(work)).map_or(State::Failed, State::Done);
                *lock(&self.state) = done;
            }
            begun => *state = begun,
        }
    }

    fn waiting_bytes(&self) -> Option<usize> {
        matches!(*lock(&self.state), State::Waiting(_)).then_some(self.bytes)
    }
}

impl Pool {
    /// Prepares a pool of up to `threads` threads beside the caller's own; 0: the caller does everything.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self { shared: Arc::default(), most: threads, started: Cell::new(0), pipe: OnceCell::new() }
    }

    /// Whether there may be threads beside the caller's own.
    #[must_use]
    pub fn has_threads(&self) -> bool {
        self.most > 0
    }

    /// Starts a task over so many bytes of text.
    pub fn start<T: Send + 'static>(&self, bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Task<T> {
        let slot = Arc::new(Slot { state: Mutex::new(State::Waiting(Box::new(work))), bytes });
        let job: Arc<dyn Job> = slot.clone();
        let (idle, needs_thread) = {
            let mut queue = lock(&self.shared.queue);
            queue.drop_begun();
            queue.jobs.push_back(Arc::downgrade(&job));
            let needs_thread =
                queue.idle == 0 && self.started.get() < self.most && queue.waiting_bytes() >= BYTES_FOR_A_THREAD;
            (queue.idle, needs_thread)
        };
        if idle > 0 {
            self.shared.more.notify_one();
        }
        if needs_thread {
            self.start_thread();
        }
        Task(slot)
    }

    /// Does the first task that neither a thread nor the caller has begun, and returns whether there was one. A caller that
    /// waits for a provider calls this meanwhile.
    pub fn run_one(&self) -> bool {
        let job = lock(&self.shared.queue).next();
        job.is_some_and(|job| {
            job.run();
            true
        })
    }

    /// Returns the result of a task. `wait` waits until the pipe has a byte, or less long, and takes it.
    pub fn finish<T: Send>(&self, task: Task<T>, wait: impl Fn(&PipeReader)) -> Result<T> {
        let slot = task.0;
        loop {
            slot.run();
            // Said before looking, so that a thread that ends in between writes to the pipe.
            self.shared.awaited.store(true, Ordering::SeqCst);
            let mut state = lock(&slot.state);
            match std::mem::replace(&mut *state, State::Failed) {
                State::Done(result) => return Ok(result),
                State::Failed => return Err(Error::Internal("a thread has failed".to_owned())),
                begun => *state = begun,
            }
            drop(state);
            if !self.run_one()
                && let Some((wake, _)) = self.pipe.get()
            {
                wait(wake);
            }
        }
    }

    /// Starts another thread. Where that is impossible the caller does all tasks.
    fn start_thread(&self) {
        if self.pipe.get().is_none() {
            let Ok((wake, waker)) = std::io::pipe() else { return };
            let _ = self.pipe.set((wake, Arc::new(waker)));
        }
        let Some((_, waker)) = self.pipe.get() else { return };
        let waker = waker.clone();
        let _blocked = BlockedSignals::new();
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("chatbot_sync".to_owned());
        if thread.spawn(move || shared.run(&waker)).is_ok() {
            self.started.set(self.started.get() + 1);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.closed = true;
        queue.jobs.clear();
        drop(queue);
        self.shared.more.notify_all();
    }
}

impl Queue {
    fn drop_begun(&mut self) {
        while self.jobs.front().is_some_and(|job| job.upgrade().is_none_or(|job| job.waiting_bytes().is_none())) {
            self.jobs.pop_front();
        }
    }

    fn waiting_bytes(&self) -> usize {
        self.jobs.iter().filter_map(Weak::upgrade).filter_map(|job| job.waiting_bytes()).sum()
    }

    fn next(&mut self) -> Option<Arc<dyn Job>> {
        self.drop_begun();
        self.jobs.pop_front()?.upgrade()
    }
}

impl Shared {
    /// The body of a thread: does tasks until the pool is dropped.
    fn run(&self, mut waker: &PipeWriter) {
        loop {
            let mut queue = lock(&self.queue);
            let job = loop {
                if queue.closed {
                    return;
                }
                if let Some(job) = queue.next() {
                    break job;
                }
                queue.idle += 1;
                queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
            };
            drop(queue);
            job.run();
            drop(job);
            if self.awaited.swap(false, Ordering::SeqCst) {
                let _ = waker.write(&[1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Read;
    use std::sync::mpsc::{Receiver, channel, sync_channel};
    use std::thread::{ThreadId, current};

    use super::*;

    fn read(mut pipe: &PipeReader) {
        let _ = pipe.read(&mut [0; 16]).unwrap();
    }

    /// A task that has begun and goes on until the receiver is dropped.
    fn blocking(pool: &Pool) -> (Task<ThreadId>, Receiver<()>) {
        let (begun, begins) = channel();
        let (held, until) = sync_channel::<()>(0);
        let task = pool.start(BYTES_FOR_A_THREAD, move || {
            begun.send(()).unwrap();
            let _ = held.send(());
            current().id()
        });
        begins.recv().unwrap();
        (task, until)
    }

    #[test]
    fn without_threads_the_caller_does_each_task_when_its_result_is_wanted() {
        let pool = Pool::new(0);
        let tasks: Vec<Task<(usize, ThreadId)>> =
            (0..3).map(|at| pool.start(1 << 20, move || (at, current().id()))).collect();
        for (at, task) in tasks.into_iter().enumerate() {
            assert_eq!(pool.finish(task, read).unwrap(), (at, current().id()));
        }
        assert!(!pool.run_one());
    }

    #[test]
    fn a_thread_does_what_waits_and_the_caller_what_no_thread_has_begun() {
        let pool = Pool::new(1);
        let (first, until) = blocking(&pool);
        let second = pool.start(BYTES_FOR_A_THREAD, || current().id());
        assert_eq!(pool.finish(second, read).unwrap(), current().id());
        drop(until);
        assert_ne!(pool.finish(first, read).unwrap(), current().id());
    }

    #[test]
    fn little_work_starts_no_thread() {
        let pool = Pool::new(1);
        let task = pool.start(BYTES_FOR_A_THREAD - 1, || current().id());
        assert_eq!(pool.started.get(), 0);
        assert_eq!(pool.finish(task, read).unwrap(), current().id());
    }

    #[test]
    fn threads_are_no_more_than_was_said() {
        let pool = Pool::new(2);
        let tasks: Vec<Task<ThreadId>> = (0..200).map(|_| pool.start(BYTES_FOR_A_THREAD, || current().id())).collect();
        let ids: HashSet<ThreadId> = tasks.into_iter().map(|task| pool.finish(task, read).unwrap()).collect();
        assert!(pool.started.get() <= 2 && ids.len() <= 3, "{ids:?}");
    }

    #[test]
    fn a_dropped_task_is_not_done() {
        let pool = Pool::new(0);
        let (sender, receiver) = channel();
        drop(pool.start(1, move || sender.send(()).unwrap()));
        assert!(!pool.run_one());
        assert!(receiver.recv().is_err());
    }

    #[test]
    fn a_panic_is_the_error_of_its_task_alone() {
        let pool = Pool::new(1);
        let failing = pool.start(1, || panic!("of the test"));
        let other = pool.start(1, || 7);
        let failed: Result<()> = pool.finish(failing, read);
        assert!(failed.is_err());
        assert_eq!(pool.finish(other, read).unwrap(), 7);
    }

    #[test]
    fn a_dropped_pool_ends_its_threads() {
        let pool = Pool::new(1);
        let (task, until) = blocking(&pool);
        let shared = Arc::downgrade(&pool.shared);
        drop((task, pool));
        drop(until);
        while shared.upgrade().is_some() {
            std::thread::yield_now();
        }
    }
}
