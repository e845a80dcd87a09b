//! A source whose content is cut into chunks, on a thread where there is one.

use std::time::Instant;

use crate::error::Result;
use crate::pg::store::source::SourceRow;
use crate::source::SourceInput;
use crate::sync::reading::CutContent;
use crate::threads::pool::Task;

/// A source that a sync has to look at more closely, while its content is cut.
pub struct CuttingSource {
    /// The input of the sync.
    pub input: SourceInput,
    /// The source's row, locked; `None`: there is none.
    pub row: Option<SourceRow>,
    /// When its sync began.
    pub began: Instant,
    /// Its chunks.
    pub cut: Task<Result<CutContent>>,
    /// The first texts, which the embedder has already.
    pub pushed: Pushed,
}

/// Texts that the embedder has.
#[derive(Default)]
pub struct Pushed {
    /// The number that the embedder gave to the first of them.
    pub first: usize,
    /// The texts, in their order.
    pub texts: Vec<String>,
}

impl CuttingSource {
    /// Whether it has to be prepared before any other source.
    pub fn is_next(&self) -> bool {
        !self.pushed.texts.is_empty()
    }
}
