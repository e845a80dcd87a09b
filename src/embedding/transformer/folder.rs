//! A folder with a model as it is published: which files of it are read, and the digest of their content.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::local_model::{Problem, Result, malformed};

/// The file of the model's weights.
pub const WEIGHTS: &str = "model.safetensors";
/// The file that describes the model's tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// Files that say how the weights are used. Those in folders of modules are read too.
pub const SETTINGS: [&str; 5] = [
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer_config.json",
];

/// Longest name of a model, in bytes: it becomes part of a file's name.
const MAX_NAME: usize = 128;
/// Longest file of settings.
const MAX_SETTINGS: u64 = 4 << 20;
/// Longest `tokenizer.json`: a vocabulary of a million words.
const MAX_TOKENIZER: u64 = 256 << 20;
/// Bytes that are hashed between two looks at whether to stop.
const BLOCK: usize = 1 << 20;

/// Refuses a name that could be another file than one in the folder of models: what is wrong with it.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("empty")
    } else if name.len() > MAX_NAME {
        Err("too long a name")
    } else if name.starts_with('.') {
        Err("a name that begins with a dot")
    } else if name.contains(['/', '\\']) {
        Err("a name with a slash")
    } else if name.chars().any(char::is_control) {
        Err("a name with a control character")
    } else {
        Ok(())
    }
}

/// A folder with a model.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder of this name among the models.
    pub fn open(models: &Path, name: &str) -> Result<Self> {
        if let Err(problem) = check_name(name) {
            return malformed(format!("its name is {problem}"));
        }
        let path = models.join(name);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Ok(Self { path }),
            Ok(_) => malformed(format!("{} is no folder", path.display())),
            Err(error) => Err(Problem::of_file(path.display(), &error)),
        }
    }

    /// A file of it, for reading; none where it is not there.
    pub fn file(&self, name: &str) -> Result<Option<(File, Metadata)>> {
        let path = self.path.join(name);
        let failed = |error| Problem::of_file(path.display(), &error);
        // Looked at before it is opened: to open a pipe would wait for its writer.
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return malformed(format!("{} is no file", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        Ok(Some((file, metadata)))
    }

    /// Opens the file of the model's weights; fails where the folder has none.
    pub fn weights(&self) -> Result<File> {
        self.file(WEIGHTS)?.map(|(file, _)| file).ok_or_else(|| Problem::Missing(self.describe(WEIGHTS)))
    }

    /// The content of a file of settings; none where it is not there.
    pub fn settings(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.read(name, MAX_SETTINGS)
    }

    /// The content of the tokenizer's file.
    pub fn tokenizer(&self) -> Result<Vec<u8>> {
        self.read(TOKENIZER, MAX_TOKENIZER)?.ok_or_else(|| Problem::Missing(self.describe(TOKENIZER)))
    }

    /// A file's whole name.
    pub fn describe(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some((file, metadata)) = self.file(name)? else { return Ok(None) };
        let mut content = Vec::new();
        let failed = |error| Problem::of_file(self.describe(name), &error);
        file.take(most + 1).read_to_end(&mut content).map_err(failed)?;
        if content.len() as u64 > most {
            return malformed(format!("{} has {} bytes, expected {most} at most", self.describe(name), metadata.len()));
        }
        Ok(Some(content))
    }

    /// The SHA-256 of all that a model is made of, in hexadecimal: the names and contents of these files.
    pub fn digest(&self, files: &[String], stop: &dyn Fn() -> bool) -> Result<String> {
        let mut hash = Sha256::new();
        let mut block = vec![0; BLOCK];
        for name in files {
            let Some((mut file, metadata)) = self.file(name)? else { continue };
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update(metadata.len().to_le_bytes());
            loop {
                if stop() {
                    return Err(Problem::Stopped);
                }
                let count = file.read(&mut block).map_err(|error| Problem::of_file(self.describe(name), &error))?;
                if count == 0 {
                    break;
                }
                hash.update(&block[..count]);
            }
        }
        Ok(hexadecimal(&hash.finalize()))
    }

    /// Returns a text that changes when a file is written or replaced: sizes, times and numbers of the files.
    pub fn stamp(&self, files: &[String]) -> Result<String> {
        let mut stamp = String::new();
        for name in files {
            if let Some((_, metadata)) = self.file(name)? {
                stamp += &format!(
                    "{name} {} {}.{:09} {}\n",
                    metadata.len(),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                    metadata.ino()
                );
            }
        }
        Ok(hexadecimal(&Sha256::digest(stamp)))
    }
}

/// Bytes in hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_one_folder() {
        for name in ["all-MiniLM-L6-v2", "bge-small-en-v1.5", "Modell für uns"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "../etc", "a/b", "a\\b", "/etc", "a\0b", "a\nb", ".hidden", &"a".repeat(129)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_is_not_there_or_no_file_is_said() {
        let models = std::env::temp_dir().join(format!("chatbot_sync_folder_{}", std::process::id()));
        std::fs::create_dir_all(models.join("model/config.json")).unwrap();
        std::fs::write(models.join("file"), "").unwrap();

        assert!(matches!(Folder::open(&models, "other"), Err(Problem::Missing(_))));
        assert!(matches!(Folder::open(&models, "file"), Err(Problem::Malformed(_))));
        let folder = Folder::open(&models, "model").unwrap();
        assert!(matches!(folder.settings("config.json"), Err(Problem::Malformed(_))));
        assert_eq!(folder.settings("modules.json"), Ok(None));
        assert!(matches!(folder.tokenizer(), Err(Problem::Missing(_))));
        assert!(matches!(folder.weights(), Err(Problem::Missing(_))));

        std::fs::remove_dir_all(models).unwrap();
    }

    #[test]
    fn a_digest_is_of_names_and_contents() {
        let models = std::env::temp_dir().join(format!("chatbot_sync_digest_{}", std::process::id()));
        std::fs::create_dir_all(models.join("model")).unwrap();
        let folder = Folder::open(&models, "model").unwrap();
        let files = ["a".to_owned(), "b".to_owned()];
        let digest = |a: &str, b: &str| {
            std::fs::write(models.join("model/a"), a).unwrap();
            std::fs::write(models.join("model/b"), b).unwrap();
            folder.digest(&files, &|| false).unwrap()
        };
        assert_eq!(digest("1", "2"), digest("1", "2"));
        assert_ne!(digest("1", "2"), digest("12", ""));
        assert_ne!(digest("1", "2"), digest("2", "1"));
        assert_eq!(folder.digest(&files, &|| true), Err(Problem::Stopped));
        std::fs::remove_dir_all(models).unwrap();
    }
}
