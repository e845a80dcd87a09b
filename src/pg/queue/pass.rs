//! In which order jobs are claimed: by priority, a batch from a few chatbots at a time, each chatbot's jobs oldest first.
//!
//! A job that is done stays in the table and its indexes while any session holds a snapshot that is older, and a claim that
//! begins at the front of the queue reads all of those. So a session goes through the queue in passes: it remembers where
//! it is and continues from there, and begins again at the front when nothing is left beyond. A job that appears behind the
//! pass, because its transaction was long or its chatbot was through, is found by the next pass, which begins after
//! [`REFRESH`] at the latest. A job of a higher priority is looked for before each claim. Looks at the front of the queue
//! may take a tenth of the time: [`LOOK_SHARE`].

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::ids::{ChatbotId, HostId};
use crate::pg::store::due_job::{self, DueJob, QueuePosition};

/// Chatbots that share a batch.
const CHATBOTS: usize = 4;
/// A pass that is older begins again at the front of the queue.
const REFRESH: Duration = Duration::from_secs(5);
/// Looks at the front of the queue are made while they take at most this part of the time.
const LOOK_SHARE: u32 = 10;

thread_local! {
    static PASS: RefCell<Option<Pass>> = const { RefCell::new(None) };
    /// The chatbot that was served last, after which the next pass begins.
    static LAST_SERVED: Cell<ChatbotId> = const { Cell::new(ChatbotId(0)) };
}

/// The place of a session in the queue.
#[derive(Clone)]
struct Pass {
    began: Instant,
    /// The time that looks at the front of the queue have taken, which read jobs again that are done.
    looking: Duration,
    priority: i32,
    /// The chatbot after which the pass began; it ends with it.
    first: ChatbotId,
    /// The chatbot after which the next one is looked for; `None` where all were served once.
    after: Option<ChatbotId>,
    /// Whether the search for chatbots has begun again at the lowest id.
    wrapped: bool,
    /// Chatbots that were served and may have more, in the order in which they are served again.
    waiting: VecDeque<ChatbotId>,
    /// The position up to which each of them was served.
    positions: HashMap<ChatbotId, QueuePosition>,
}

/// Forgets the session's place: the next claim begins at the front of the queue.
pub fn restart() {
    PASS.set(None);
}

/// Returns and locks due jobs of at most `most` sources. Returns no job where the queue has only those of the `excluded` host
/// tables and those that other sessions have locked.
pub fn next_jobs(most: usize, excluded: &[HostId]) -> Result<Vec<DueJob>> {
    let mut pass = PASS.take();
    let mut at_front = false;
    if let Some(current) = &mut pass
        && current.is_overtaken(excluded)?
    {
        pass = None;
    }
    loop {
        let mut current = match pass.take() {
            Some(pass) => pass,
            None if at_front => return Ok(Vec::new()),
            None => {
                at_front = true;
                match Pass::begin(None, excluded)? {
                    Some(pass) => pass,
                    None => return Ok(Vec::new()),
                }
            }
        };
        let jobs = current.next_jobs(most, excluded)?;
        if !jobs.is_empty() {
            PASS.set(Some(current));
            return Ok(jobs);
        }
        pass = Pass::begin(Some(&current), excluded)?;
    }
}

impl Pass {
    /// Begins at the front of the queue, or at the next priority below that of a pass that is through; `None` where no job is
    /// due there.
    fn begin(through: Option<&Self>, excluded: &[HostId]) -> Result<Option<Self>> {
        let looked = Instant::now();
        let Some(priority) = due_job::top_priority(through.map(|pass| pass.priority), excluded)? else {
            return Ok(None);
        };
        let (began, looking) = match through {
            Some(pass) => (pass.began, pass.looking),
            None => (looked, looked.elapsed()),
        };
        let first = LAST_SERVED.get();
        Ok(Some(Self {
            began,
            looking,
            priority,
            first,
            after: Some(first),
            wrapped: false,
            waiting: VecDeque::new(),
            positions: HashMap::new(),
        }))
    }

    /// Whether the pass is to begin again at the front: it is old, or a job of a higher priority is due.
    fn is_overtaken(&mut self, excluded: &[HostId]) -> Result<bool> {
        let age = self.began.elapsed();
        if age < self.looking * (LOOK_SHARE - 1) {
            return Ok(false);
        }
        if age >= REFRESH {
            return Ok(true);
        }
        let looked = Instant::now();
        let overtaken = due_job::is_higher_due(self.priority, excluded)?;
        self.looking += looked.elapsed();
        Ok(overtaken)
    }

    /// Returns the next jobs of this priority; none where it is through.
    fn next_jobs(&mut self, most: usize, excluded: &[HostId]) -> Result<Vec<DueJob>> {
        loop {
            let chatbots = self.next_chatbots(CHATBOTS.min(most), excluded)?;
            if chatbots.is_empty() {
                return Ok(Vec::new());
            }
            let before = self.clone_positions(&chatbots);
            let mut picked: Vec<DueJob> = Vec::new();
            for (at, &chatbot) in chatbots.iter().enumerate() {
                let share = (most - picked.len()).div_ceil(chatbots.len() - at);
                picked.extend(self.pick(chatbot, share, excluded)?);
            }
            // A source that failed is tried again alone: it may be the one that makes its request fail.
            if picked.first().is_some_and(|job| job.attempts > 0) {
                picked.truncate(1);
                self.put_back(&chatbots, before, &picked[0]);
            } else {
                picked.retain(|job| job.attempts == 0);
            }
            if let Some(last) = chatbots.last() {
                LAST_SERVED.set(*last);
            }
            if !picked.is_empty() {
                return Ok(picked);
            }
        }
    }

    /// Returns the chatbots whose turn it is: those that this pass has not served yet, and then those that may have more.
    fn next_chatbots(&mut self, count: usize, excluded: &[HostId]) -> Result<Vec<ChatbotId>> {
        let mut chatbots = Vec::new();
        while let (true, Some(after)) = (chatbots.len() < count, self.after) {
            let last = self.wrapped.then_some(self.first);
            self.after = due_job::next_chatbot(self.priority, after, last, excluded)?;
            match self.after {
                Some(chatbot) => chatbots.push(chatbot),
                None if !self.wrapped => (self.after, self.wrapped) = (Some(ChatbotId(i64::MIN)), true),
                None => {}
            }
        }
        let more = (count - chatbots.len()).min(self.waiting.len());
        chatbots.extend(self.waiting.drain(..more));
        Ok(chatbots)
    }

    /// Returns the next jobs of a chatbot, at most `share`. Where there are as many, it has another turn.
    fn pick(&mut self, chatbot: ChatbotId, share: usize, excluded: &[HostId]) -> Result<Vec<DueJob>> {
        let position = self.positions.get(&chatbot).copied();
        let jobs =
            due_job::lock_due_jobs(chatbot, self.priority, position, i32::try_from(share).unwrap_or(1), excluded)?;
        if let Some(last) = jobs.last() {
            self.positions.insert(chatbot, last.position);
        }
        if jobs.len() == share {
            self.waiting.push_back(chatbot);
        }
        Ok(jobs)
    }

    fn clone_positions(&self, chatbots: &[ChatbotId]) -> HashMap<ChatbotId, QueuePosition> {
        chatbots.iter().filter_map(|chatbot| Some((*chatbot, *self.positions.get(chatbot)?))).collect()
    }

    /// Takes only one of the jobs that were picked: the others are as if they had not been.
    fn put_back(&mut self, chatbots: &[ChatbotId], mut before: HashMap<ChatbotId, QueuePosition>, taken: &DueJob) {
        self.waiting.retain(|chatbot| !chatbots.contains(chatbot));
        for &chatbot in chatbots.iter().rev() {
            let position =
                if chatbot == taken.source.chatbot_id { Some(taken.position) } else { before.remove(&chatbot) };
            match position {
                Some(position) => drop(self.positions.insert(chatbot, position)),
                None => drop(self.positions.remove(&chatbot)),
            }
            self.waiting.push_front(chatbot);
        }
    }
}
