//! The directory of imported files, which only the server writes. A file's name has the digest of the folder that it was
//! made of, so that vectors of two states of a folder are never mixed.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use super::folder::check_name;
use super::frozen::{Frozen, Precision, VERSION};
use super::import::Plan;
use super::memory::MappedFile;
use crate::embedding::tokenizer::FrozenTokenizer;
use crate::error::local_model::{Problem, Result, malformed};

/// The interval at which a process that waits for another one's import checks whether it is done.
const POLL: Duration = Duration::from_millis(20);
/// Characters of a digest in a file's name.
const DIGEST: usize = 16;

/// Which model a file is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// The folder's name.
    pub name: String,
    /// The digest of the folder's files.
    pub digest: String,
    /// The precision in which the weights of linear layers are stored.
    pub precision: Precision,
}

impl ModelFile {
    /// Its name without the version of the format.
    fn stem(&self) -> Result<String> {
        if let Err(problem) = check_name(&self.name) {
            return malformed(format!("its name is {problem}"));
        }
        let digest = match self.digest.get(..DIGEST) {
            Some(digest) if self.digest.bytes().all(|byte| byte.is_ascii_hexdigit()) => digest,
            _ => return malformed("the digest of the model's folder is no SHA-256"),
        };
        let precision = match self.precision {
            Precision::Float => "float",
            Precision::Int8 => "int8",
        };
        Ok(format!("{}.{digest}.{precision}.v", self.name))
    }
}

/// The directory below the data directory that holds the frozen models.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// A directory that need not be there yet.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Returns the path that a model's file has or will have.
    pub fn path(&self, model: &ModelFile) -> Result<PathBuf> {
        Ok(self.directory.join(format!("{}{VERSION}", model.stem()?)))
    }

    /// Maps a model's file; none where the model is not imported, or by another version of this extension.
    pub fn open(&self, model: &ModelFile) -> Result<Option<MappedFile>> {
        let path = self.path(model)?;
        let failed = |error| Problem::of_file(path.display(), &error);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mapped = MappedFile::new(&file).map_err(failed)?;
        let frozen = Frozen::open(&mapped)?;
        if frozen.header.digest != model.digest {
            return Err(Problem::Damaged("it is of another folder".to_owned()));
        }
        // The tokenizer's layout has a version of its own, and the first page is what was written.
        let is_current = FrozenTokenizer::open(frozen.tokenizer).is_ok();
        drop(frozen);
        Ok(is_current.then_some(mapped))
    }

    /// Imports a model, unless its whole file is there already. One process at a time does; the others look every few
    /// milliseconds whether it is done, or whether they are to stop.
    pub fn import(&self, model: &ModelFile, plan: &Plan, stop: &dyn Fn() -> bool) -> Result<()> {
        let path = self.path(model)?;
        let failed = |error| Problem::of_file(self.directory.display(), &error);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(failed)?;
        let _lock = self.lock(stop)?;
        if self.is_whole(model) {
            return Ok(());
        }
        // Whoever left such a file behind has no lock any more.
        self.remove_files(|name| name.ends_with(".tmp"))?;
        let temporary = path.with_extension("tmp");
        let written = self.write(&temporary, model, plan, stop).and_then(|()| {
            std::fs::rename(&temporary, &path).map_err(failed)?;
            File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(failed)
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
            return written;
        }
        let stem = model.stem()?;
        let current = format!("{stem}{VERSION}");
        self.remove_files(|name| name.starts_with(&stem) && name != current)
    }

    fn write(&self, path: &PathBuf, model: &ModelFile, plan: &Plan, stop: &dyn Fn() -> bool) -> Result<()> {
        let options = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).clone();
        let file = options.open(path).map_err(|error| Problem::of_file(path.display(), &error))?;
        let header = plan.write(model.precision, &file, stop)?;
        if header.digest != model.digest {
            return malformed("the folder was changed while it was imported");
        }
        let mapped = MappedFile::new(&file).map_err(|error| Problem::of_file(path.display(), &error))?;
        Frozen::open(&mapped).map(drop)
    }

    /// Whether a model's file is there and is what was written.
    fn is_whole(&self, model: &ModelFile) -> bool {
        let Ok(Some(mapped)) = self.open(model) else { return false };
        Frozen::open(&mapped).is_ok_and(|frozen| frozen.header.verify(&mapped).is_ok())
    }

    /// Removes a model's files. Processes that have them mapped go on with them.
    pub fn remove(&self, model: &ModelFile) -> Result<()> {
        let stem = model.stem()?;
        self.remove_files(|name| name.starts_with(&stem))
    }

    fn remove_files(&self, is_to_go: impl Fn(&str) -> bool) -> Result<()> {
        let failed = |error| Problem::of_file(self.directory.display(), &error);
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().is_some_and(&is_to_go) {
                std::fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The lock of the importing process. It goes with the file, which goes with the process at the latest.
    fn lock(&self, stop: &dyn Fn() -> bool) -> Result<File> {
        let path = self.directory.join("lock");
        let failed = |error| Problem::of_file(path.display(), &error);
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
        let file = options.open(&path).map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            if stop() {
                return Err(Problem::Stopped);
            }
            std::thread::sleep(POLL);
        }
    }
}
