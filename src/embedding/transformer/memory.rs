//! Memory that is asked of the kernel directly: files that are mapped, and working memory that goes back as soon as it is
//! dropped, whatever the allocator would keep. Where there is none left it is an error, not the end of the process.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;

/// A number that any bits are a value of, zeros too, so that bytes may be looked at as such numbers.
///
/// # Safety
/// Every pattern of bits is a value of the type.
pub unsafe trait Number: Copy {}

// SAFETY: every pattern of bits is a value.
unsafe impl Number for f32 {}
// SAFETY: as above.
unsafe impl Number for i32 {}
// SAFETY: as above.
unsafe impl Number for u16 {}
// SAFETY: as above.
unsafe impl Number for u8 {}
// SAFETY: as above.
unsafe impl Number for i8 {}

/// Bytes as numbers, in this machine's byte order; none where they are not aligned or no whole number of them.
pub fn view<T: Number>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: every pattern of bits is a value of T.
    let (before, numbers, after) = unsafe { bytes.align_to::<T>() };
    (before.is_empty() && after.is_empty()).then_some(numbers)
}

/// Numbers as bytes, in this machine's byte order.
pub fn bytes_of<T: Number>(numbers: &[T]) -> &[u8] {
    // SAFETY: numbers have no padding, and any byte may be read.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// A mapping of whole pages.
struct Mapping {
    start: *mut libc::c_void,
    bytes: usize,
}

// SAFETY: the pages belong to the mapping alone and go where it goes.
unsafe impl Send for Mapping {}
// SAFETY: through a shared mapping they are only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a file for reading, or zeros for writing where there is none.
    fn new(file: Option<&File>, bytes: usize) -> Result<Self> {
        let (protection, flags, descriptor) = match file {
            Some(file) => (libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        if bytes == 0 {
            return Ok(Self { start: std::ptr::NonNull::<u128>::dangling().as_ptr().cast(), bytes });
        }
        // SAFETY: a new mapping at a place that the kernel chooses touches no memory that is in use.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, descriptor, 0) };
        if start == libc::MAP_FAILED { Err(Error::last_os_error()) } else { Ok(Self { start, bytes }) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: the mapping is this value's own, and what borrows from it is gone.
            unsafe { libc::munmap(self.start, self.bytes) };
        }
    }
}

/// A file, mapped for reading. Its pages are the page cache's, which all processes share.
///
/// Only files that no process truncates may be mapped: a process that reads a page which is gone is ended by SIGBUS.
pub struct MappedFile(Mapping);

impl MappedFile {
    /// Maps the whole of a file.
    pub fn new(file: &File) -> Result<Self> {
        let bytes = usize::try_from(file.metadata()?.len()).map_err(|_| Error::from(ErrorKind::FileTooLarge))?;
        Mapping::new(Some(file), bytes).map(Self)
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping has that many bytes, and lives as long as the borrow.
        unsafe { std::slice::from_raw_parts(self.0.start.cast(), self.0.bytes) }
    }
}

/// Working memory, at first all zero.
pub struct Buffer<T> {
    pages: Mapping,
    count: usize,
    numbers: PhantomData<T>,
}

impl<T: Number> Buffer<T> {
    /// Allocates room for `count` numbers, all zero.
    pub fn new(count: usize) -> Result<Self> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or(ErrorKind::OutOfMemory)?;
        Ok(Self { pages: Mapping::new(None, bytes)?, count, numbers: PhantomData })
    }
}

impl<T: Number> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping has room for the numbers, is aligned to pages, and any bits are numbers.
        unsafe { std::slice::from_raw_parts(self.pages.start.cast(), self.count) }
    }
}

impl<T: Number> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the borrow is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.pages.start.cast(), self.count) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffer, MappedFile, bytes_of, view};

    #[test]
    fn a_buffer_is_zero_at_first_and_keeps_what_is_written() {
        let mut buffer = Buffer::<f32>::new(10_000).unwrap();
        assert!(buffer.iter().all(|x| *x == 0.0));
        buffer[9_999] = 1.5;
        assert_eq!(buffer[9_999], 1.5);
        assert!(Buffer::<u8>::new(0).unwrap().is_empty());
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        assert!(Buffer::<f32>::new(usize::MAX).is_err());
        assert!(Buffer::<u8>::new(usize::MAX / 2).is_err());
    }

    #[test]
    fn a_mapped_file_reads_as_its_bytes() {
        let path = std::env::temp_dir().join(format!("chatbot_sync_mapped_{}", std::process::id()));
        for content in [&b""[..], b"some bytes"] {
            std::fs::write(&path, content).unwrap();
            let mapped = MappedFile::new(&std::fs::File::open(&path).unwrap()).unwrap();
            assert_eq!(&*mapped, content);
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn numbers_and_their_bytes_are_two_views_of_the_same() {
        let numbers = [1.0f32, -2.5];
        assert_eq!(view::<f32>(bytes_of(&numbers)), Some(&numbers[..]));
        assert_eq!(view::<f32>(&bytes_of(&numbers)[1..5]), None);
        assert_eq!(view::<f32>(&bytes_of(&numbers)[..3]), None);
    }
}
