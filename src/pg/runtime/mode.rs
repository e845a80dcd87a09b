//! How a statement reads: with the snapshot of its caller, or what is committed by now; and whether it writes.

/// What a statement sees and may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// What the calling statement sees: for functions that are STABLE.
    Read,
    /// As [`Self::Read`], planned by the statistics, for several processes: a search.
    Scan,
    /// At READ COMMITTED what is committed by now.
    ReadNow,
    /// As [`Self::ReadNow`], and may write and lock.
    Write,
}
