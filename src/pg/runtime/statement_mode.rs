//! Which rows a statement sees, and whether it writes.

/// Which rows a statement sees, and whether it may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatementMode {
    /// It sees the snapshot of the calling statement, as functions that are STABLE must.
    Read,
    /// Like [`Self::Read`], but planned by the statistics and possibly in parallel: a search.
    Scan,
    /// It sees what is committed by now, at READ COMMITTED or while a `LatestSnapshot` lives.
    ReadLatest,
    /// Like [`Self::ReadLatest`], and it may write and lock.
    Write,
}
