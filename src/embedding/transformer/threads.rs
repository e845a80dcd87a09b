//! Many texts on some threads. They are sorted by length and packed whole, so that no time goes into padding. Threads of
//! ours have every signal blocked and know nothing of Postgres; the thread that calls waits for them, or does the work
//! itself where one is enough.

use std::io::{PipeReader, PipeWriter, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, Scope};

use super::encoder::{Encoder, Workspace};
use super::kernels::Kernels;
use crate::error::local_model::{Problem, Result};
use crate::threads::signals::BlockedSignals;

/// Tokens that are computed together. More would take more memory, and less would read the weights more often.
pub const PACK: usize = 512;

/// The tasks of the calling thread beside computing.
pub trait Caller {
    /// Whether to stop. Asked every few milliseconds while the calling thread computes.
    fn stops(&self) -> bool;

    /// Waits until the pipe has a byte, or less long, and takes it.
    fn wait(&self, pipe: &PipeReader);
}

/// Texts, by their numbers, that are computed together: longest first, so that a long one is not what is waited for last.
fn pack(texts: &[Vec<u32>]) -> Vec<Vec<usize>> {
    let mut by_length: Vec<usize> = (0..texts.len()).filter(|text| !texts[*text].is_empty()).collect();
    by_length.sort_by_key(|text| std::cmp::Reverse(texts[*text].len()));
    let mut packs: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for text in by_length {
        tokens += texts[text].len();
        match packs.last_mut() {
            Some(pack) if tokens <= PACK => pack.push(text),
            _ => {
                tokens = texts[text].len();
                packs.push(vec![text]);
            }
        }
    }
    packs
}

/// The work that threads share.
struct Work<'a> {
    encoder: &'a Encoder<'a>,
    kernels: Kernels,
    texts: &'a [Vec<u32>],
    packs: Vec<Vec<usize>>,
    next: AtomicUsize,
    /// Vectors by their texts' numbers, or why there are none.
    done: Mutex<Result<Vec<Vec<f32>>>>,
}

/// The vector of each text; that of a text without tokens is zero.
pub fn encode(
    encoder: &Encoder,
    kernels: Kernels,
    texts: &[Vec<u32>],
    threads: usize,
    caller: &dyn Caller,
) -> Result<Vec<Vec<f32>>> {
    let packs = pack(texts);
    let threads = threads.min(packs.len());
    let done = Mutex::new(Ok(vec![vec![0.0; encoder.shape.width]; texts.len()]));
    let work = Work { encoder, kernels, texts, packs, next: AtomicUsize::new(0), done };
    if threads > 1 {
        work.share(threads, caller)?;
    } else {
        work.run(&|| caller.stops());
    }
    work.done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Tells the threads to stop when the call ends, however it ends.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Counts a thread out and wakes the calling one when the thread ends, however it ends.
struct Ending<'a> {
    running: &'a AtomicUsize,
    pipe: &'a PipeWriter,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Release);
        let mut pipe = self.pipe;
        let _ = pipe.write(&[1]);
    }
}

impl Work<'_> {
    /// Takes packs until there is none.
    fn run(&self, stop: &dyn Fn() -> bool) {
        if let Err(problem) = self.run_packs(stop) {
            *self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Err(problem);
        }
    }

    fn run_packs(&self, stop: &dyn Fn() -> bool) -> Result<()> {
        let mut room: Option<(usize, Workspace)> = None;
        loop {
            let Some(pack) = self.packs.get(self.next.fetch_add(1, Ordering::Relaxed)) else { return Ok(()) };
            let texts: Vec<&[u32]> = pack.iter().map(|text| self.texts[*text].as_slice()).collect();
            let tokens = texts.iter().map(|text| text.len()).sum();
            let workspace = match &mut room {
                Some((most, workspace)) if *most >= tokens => workspace,
                _ => &mut room.insert((tokens, Workspace::new(&self.encoder.shape, tokens)?)).1,
            };
            let vectors = self.encoder.encode(self.kernels, &texts, workspace, stop)?;
            if let Ok(done) = &mut *self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
                for (text, vector) in pack.iter().zip(vectors) {
                    done[*text] = vector;
                }
            }
        }
    }

    /// Lets threads do it, and waits for them.
    fn share(&self, threads: usize, caller: &dyn Caller) -> Result<()> {
        let failed = |error: std::io::Error| Problem::OutOfMemory(format!("a thread cannot be started: {error}"));
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        let (stop, running) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let _stop = StopOnDrop(&stop);
            for _ in 0..threads {
                self.start(scope, &stop, &running, &writer).map_err(failed)?;
            }
            while running.load(Ordering::Acquire) > 0 {
                caller.wait(&reader);
                if caller.stops() {
                    return Err(Problem::Stopped);
                }
            }
            Ok(())
        })
    }

    fn start<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        stop: &'s AtomicBool,
        running: &'s AtomicUsize,
        pipe: &'s PipeWriter,
    ) -> std::io::Result<()> {
        let _blocked = BlockedSignals::new();
        running.fetch_add(1, Ordering::Relaxed);
        let ending = Ending { running, pipe };
        let thread = Builder::new().name("chatbot_sync".to_owned());
        let started = thread.spawn_scoped(scope, move || {
            let _ending = ending;
            self.run(&|| stop.load(Ordering::Relaxed));
        });
        started.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_whole_texts_by_length() {
        let texts: Vec<Vec<u32>> = [100, 300, 200, 600, 12, 0].iter().map(|length| vec![7; *length]).collect();
        assert_eq!(pack(&texts), vec![vec![3], vec![1, 2], vec![0, 4]]);
    }
}
