//! The parts of a frozen file on their way to the disk.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

use super::folder::hexadecimal;
use super::frozen::{ALIGNMENT, PAGE};
use super::safetensors::{ReadAt, Tensor, Tensors};
use crate::error::local_model::{Problem, Result};

/// Bytes of a table that are copied at a time.
const BLOCK: usize = 1 << 20;
/// Bytes after which what was written is forced to the disk: a part at a time takes short waits, which a cancel can come
/// between, where all at the end would take a long one.
const SYNC_EVERY: u64 = 16 << 20;

/// Writes one part after another, each aligned.
pub struct PartWriter<'a> {
    file: &'a File,
    stop: &'a dyn Fn() -> bool,
    at: u64,
    synced: u64,
    hash: Sha256,
}

impl<'a> PartWriter<'a> {
    /// Starts to write at the second page of a file.
    pub fn new(mut file: &'a File, stop: &'a dyn Fn() -> bool) -> Result<Self> {
        let at = PAGE as u64;
        file.seek(SeekFrom::Start(at)).map_err(|error| Problem::of_file("the imported file", &error))?;
        Ok(Self { file, stop, at, synced: at, hash: Sha256::new() })
    }

    /// A whole part.
    pub fn put(&mut self, part: &[u8]) -> Result<()> {
        for block in part.chunks(BLOCK) {
            self.write(block)?;
        }
        self.align()
    }

    /// A tensor as it is.
    pub fn copy<S: ReadAt>(&mut self, tensors: &Tensors<S>, tensor: &Tensor) -> Result<()> {
        let mut block = vec![0; BLOCK];
        let mut from = 0;
        while from < tensor.byte_count() {
            let count = usize::try_from(tensor.byte_count() - from).unwrap_or(BLOCK).min(BLOCK);
            tensors.read(tensor, from, &mut block[..count])?;
            self.write(&block[..count])?;
            from += count as u64;
        }
        self.align()
    }

    fn align(&mut self) -> Result<()> {
        let padding = self.at.next_multiple_of(ALIGNMENT as u64) - self.at;
        self.write(&[0; ALIGNMENT][..padding as usize])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if (self.stop)() {
            return Err(Problem::Stopped);
        }
        let mut file = self.file;
        let failed = |error| Problem::of_file("the imported file", &error);
        file.write_all(bytes).map_err(failed)?;
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        if self.at - self.synced >= SYNC_EVERY {
            file.sync_data().map_err(failed)?;
            self.synced = self.at;
        }
        Ok(())
    }

    /// The file's length and the digest of its parts.
    pub fn finish(self) -> Result<(u64, String)> {
        Ok((self.at, hexadecimal(&self.hash.finalize())))
    }
}
