//! Models in folders: choosing one, importing it, and texts to vectors. What is done to files is done by a thread that
//! knows nothing of Postgres, while the backend's own thread answers interrupts.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::io::{PipeReader, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use serde_json::{Map, Value};

use crate::embedding::local;
use crate::embedding::provider::{self, LOCAL, Model, OptionKind};
use crate::embedding::transformer::description::{self, Description};
use crate::embedding::transformer::encoder::Workspace;
use crate::embedding::transformer::folder::{Folder, check_name};
use crate::embedding::transformer::frozen::{Frozen, Header, Model as FrozenModel, Precision};
use crate::embedding::transformer::import::Plan;
use crate::embedding::transformer::kernels::Kernels;
use crate::embedding::transformer::memory::MappedFile;
use crate::embedding::transformer::store::{ModelFile, Store};
use crate::embedding::transformer::threads::{Caller, PACK};
use crate::embedding::transformer::{self};
use crate::error::local_model::{Problem, Result as ModelResult};
use crate::error::{Error, Fault, FaultKind, Result};
use crate::pg::model::embedding_call;
use crate::pg::model::model_arguments::ModelArguments;
use crate::pg::runtime::{latch, settings, threads};
use crate::search::fusion::DEFAULT_TEXT_WEIGHT;
use crate::search::text_weight::text_weight_of_transformer;
use crate::threads::signals::BlockedSignals;

/// Texts that are embedded together: some seconds' work, after which a worker stores and a session shows how far it is.
pub const TEXTS: usize = 64;
/// Sources that are embedded and stored together.
const SOURCES: usize = 8;
/// The interval at which a worker that computes checks whether it has to yield to DDL, and the longest wait.
const YIELD_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Models whose files a session keeps mapped: the one that answers, and the one that is to follow.
const KEPT: usize = 2;

/// The option that says how weights are stored.
const PRECISION: &str = "precision";
/// The option that says which state of the folder vectors are made with. It is found where it is not given.
const SHA256: &str = "sha256";
const OPTIONS: [(&str, OptionKind); 2] =
    [(PRECISION, OptionKind::OneOf(&["float", "int8"])), (SHA256, OptionKind::Text)];

/// Whether a model's numbers are in a folder, and not built in or a provider's.
pub fn is_local_model(model: &Model) -> bool {
    model.provider == LOCAL && local::find(&model.name).is_none()
}

/// The number of sources that are embedded and stored together: with a model in a folder few, so that what is done is soon
/// stored and seen.
pub fn limit_batch(model: &Model, most: usize) -> usize {
    if is_local_model(model) { most.min(SOURCES) } else { most }
}

/// The file of a model that was chosen before.
fn file_of(model: &Model) -> ModelFile {
    let option = |name: &str| model.options.get(name).and_then(Value::as_str);
    ModelFile {
        name: model.name.clone(),
        digest: option(SHA256).unwrap_or_default().to_owned(),
        precision: if option(PRECISION) == Some("int8") { Precision::Int8 } else { Precision::Float },
    }
}

/// The folder with models.
fn models_folder() -> PathBuf {
    if let Some(folder) = settings::local_models() {
        return folder;
    }
    let mut path = [0; pg_sys::MAXPGPATH as usize];
    // SAFETY: Postgres writes a path of at most that many bytes, with its zero.
    let share = unsafe {
        pg_sys::get_share_path((&raw const pg_sys::my_exec_path).cast(), path.as_mut_ptr());
        CStr::from_ptr(path.as_ptr())
    };
    PathBuf::from(share.to_string_lossy().into_owned()).join("chatbot_sync/models")
}

/// The directory of imported files: below the data directory, so that a base backup has them.
fn store() -> Store {
    // SAFETY: set when the server started, never changed since.
    let data = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    Store::new(PathBuf::from(data.to_string_lossy().into_owned()).join("chatbot_sync"))
}

/// Imports the folder of this name, and returns its model, as `chatbot_set_model()` chooses it. The import takes about a second
/// for each 100 MB.
pub fn choose(
    name: &str,
    dimensions: Option<usize>,
    choice: &ModelArguments,
    options: &Map<String, Value>,
) -> Result<Model> {
    provider::check_options(&OPTIONS, options)?;
    if let Err(problem) = check_name(name) {
        return Err(Error::invalid(
            "model",
            problem,
            format!("{}, or the name of a folder", local::MODELS.map(|model| model.name).join(", ")),
        ));
    }
    let precision =
        if options.get(PRECISION).is_some_and(|p| p == "int8") { Precision::Int8 } else { Precision::Float };
    let expected = options.get(SHA256).and_then(Value::as_str).map(str::to_owned);
    let (file, description) = import(name, precision, expected)?;
    if let Some(n) = dimensions.filter(|n| *n != description.dimensions()) {
        return Err(Error::invalid("dimensions", n, description.dimensions().to_string()));
    }
    // A precision that is the default is not written down, so that a model that asks for it is the same one.
    let mut options = Map::new();
    if precision == Precision::Int8 {
        options.insert(PRECISION.to_owned(), "int8".into());
    }
    options.insert(SHA256.to_owned(), file.digest.into());
    Ok(Model {
        provider: LOCAL.to_owned(),
        name: name.to_owned(),
        dimensions: description.dimensions(),
        shortened: false,
        document_prefix: choice.document_prefix.unwrap_or(&description.document_prefix).to_owned(),
        query_prefix: choice.query_prefix.unwrap_or(&description.query_prefix).to_owned(),
        options,
    })
}

/// Imports the folder of this name, unless its file is there and whole. With a digest only the state of the folder
/// that has it.
fn import(name: &str, precision: Precision, expected: Option<String>) -> Result<(ModelFile, Description)> {
    let (models, store, folder) = (models_folder(), store(), name.to_owned());
    let imported = run_detached(move |stop| -> ModelResult<_> {
        let plan = Plan::new(Folder::open(&models, &folder)?, &folder, stop)?;
        if let Some(expected) = expected.filter(|expected| *expected != plan.digest) {
            return Err(Problem::Malformed(format!(
                "its folder has the SHA-256 {}, and vectors were made with {expected}",
                plan.digest
            )));
        }
        let file = ModelFile { name: folder, digest: plan.digest.clone(), precision };
        store.import(&file, &plan, stop)?;
        Ok((file, plan.description().clone()))
    })?;
    imported.map_err(|problem| to_error(name, problem))
}

/// Removes the imported file of a model. Sessions that have it mapped go on with it.
pub fn remove(model: &Model) -> Result<()> {
    if !is_local_model(model) {
        return Ok(());
    }
    store().remove(&file_of(model)).map_err(|problem| to_error(&model.name, problem))
}

/// The result of comparing a model's folder with what was imported of it.
pub enum FolderState {
    /// The folder is as it was imported.
    AsImported,
    /// The folder has other files, or files with another content.
    Changed,
}

/// Compares a model's folder with what its vectors are made with. Reads the whole of it where its files look newer.
pub fn folder_state(model: &Model) -> Result<FolderState> {
    let (models, store, file) = (models_folder(), store(), file_of(model));
    let compared = run_detached(move |stop| -> ModelResult<_> {
        let folder = Folder::open(&models, &file.name)?;
        if let Some(mapped) = store.open(&file)? {
            let files = description::read(&folder, &file.name)?.files;
            if folder.stamp(&files)? == Header::read(&mapped)?.stamp {
                return Ok(FolderState::AsImported);
            }
        }
        let is_same = Plan::new(folder, &file.name, stop)?.digest == file.digest;
        Ok(if is_same { FolderState::AsImported } else { FolderState::Changed })
    })?;
    compared.map_err(|problem| to_error(&model.name, problem))
}

fn to_error(name: &str, problem: Problem) -> Error {
    match problem {
        // An interrupt has its own error: this was a worker that had to leave.
        Problem::Stopped => Fault::new(FaultKind::TimedOut, LOCAL, name, "the database is needed").into(),
        problem => Error::LocalModel { name: name.to_owned(), problem },
    }
}

/// A model from a folder, mapped.
pub struct LocalModel {
    name: String,
    mapped: Rc<MappedFile>,
}

/// The file of a model, mapped by this session.
struct MappedModel {
    file: ModelFile,
    mapped: Rc<MappedFile>,
}

thread_local! {
    /// The models that this session has mapped, those mapped last first.
    static MAPPED: RefCell<Vec<MappedModel>> = const { RefCell::new(Vec::new()) };
}

impl LocalModel {
    /// Bytes of its file.
    pub fn bytes(&self) -> usize {
        self.mapped.len()
    }

    /// Maps a model's file. Where it is not there, as on a server that a dump was restored on, the folder is imported.
    pub fn open(model: &Model) -> Result<Self> {
        let file = file_of(model);
        let name = model.name.clone();
        if file.digest.is_empty() {
            // Built into a later version.
            return Err(Error::ModelUnknown { provider: model.provider.clone(), model: name });
        }
        let kept =
            MAPPED.with_borrow(|kept| kept.iter().find(|kept| kept.file == file).map(|kept| kept.mapped.clone()));
        if let Some(mapped) = kept {
            return Ok(Self { name, mapped });
        }
        let open = || store().open(&file).map_err(|problem| to_error(&name, problem));
        let mapped = match open()? {
            Some(mapped) => mapped,
            None => {
                import(&name, file.precision, Some(file.digest.clone()))?;
                open()?.ok_or_else(|| to_error(&name, Problem::Missing("its imported file".to_owned())))?
            }
        };
        let mapped = Rc::new(mapped);
        MAPPED.with_borrow_mut(|kept| {
            kept.insert(0, MappedModel { file, mapped: mapped.clone() });
            kept.truncate(KEPT);
        });
        Ok(Self { name, mapped })
    }

    /// Whether it is a transformer; a static model is as quick as one that is built in.
    pub fn is_transformer(&self) -> Result<bool> {
        Ok(self.working_bytes()? > 0)
    }

    /// Bytes that a statement computes in, which go back at its end; 0 for a static model.
    pub fn working_bytes(&self) -> Result<usize> {
        let frozen = Frozen::open(&self.mapped).map_err(|problem| to_error(&self.name, problem))?;
        let most = frozen.header.description.max_tokens;
        Ok(match frozen.model {
            FrozenModel::Transformer(encoder) => threads::count() * Workspace::bytes(&encoder.shape, most.max(PACK)),
            FrozenModel::Static(_) => 0,
        })
    }

    /// The vector of each text, prefixes put before them already.
    pub fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let caller = Backend { checked: Cell::new(Instant::now()) };
        let embedded = Frozen::open(&self.mapped)
            .and_then(|frozen| transformer::embed(&frozen, Kernels::best(), texts, threads::count(), &caller));
        embedded.map_err(|problem| to_error(&self.name, problem))
    }
}

/// Returns the speed of a session, which shares its threads with no worker, divided by that of this process.
pub fn speed_of_session() -> f64 {
    settings::local_threads().max(1) as f64 / threads::count() as f64
}

/// Returns the weight of words in hybrid searches with a model in a folder.
pub fn text_weight(model: &Model) -> Result<f32> {
    let opened = LocalModel::open(model)?;
    Ok(if opened.is_transformer()? { text_weight_of_transformer(&model.name) } else { DEFAULT_TEXT_WEIGHT })
}

/// The backend's own thread.
struct Backend {
    /// The time of the last yield check.
    checked: Cell<Instant>,
}

impl Caller for Backend {
    fn stops(&self) -> bool {
        pgrx::check_for_interrupts!();
        if self.checked.get().elapsed() < YIELD_CHECK_INTERVAL {
            return false;
        }
        self.checked.set(Instant::now());
        embedding_call::run_yield_check()
    }

    fn wait(&self, pipe: &PipeReader) {
        latch::wait(pipe, Instant::now() + YIELD_CHECK_INTERVAL);
    }
}

/// Tells a thread to stop when its caller leaves, however it does.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs something on a thread with every signal blocked, and waits for it. An interrupt ends the wait at once: the thread
/// is told to stop, and ends when it notices.
fn run_detached<T: Send + 'static>(work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static) -> Result<T> {
    let no_thread = |error: std::io::Error| Error::Internal(format!("a thread cannot be started: {error}"));
    let (wake, mut waker) = std::io::pipe().map_err(no_thread)?;
    let (sender, receiver) = channel();
    let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
    let stopped = stop.0.clone();
    let blocked = BlockedSignals::new();
    let thread = std::thread::Builder::new().name("chatbot_sync".to_owned());
    let started = thread.spawn(move || {
        // Dropped last, which wakes the caller also where the work panics.
        let _ = sender.send(work(&|| stopped.load(Ordering::Relaxed)));
        let _ = waker.write(&[1]);
    });
    drop(blocked);
    started.map_err(no_thread)?;
    loop {
        match receiver.try_recv() {
            Ok(outcome) => return Ok(outcome),
            Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                return Err(Error::Internal("the thread that was to import a model failed".to_owned()));
            }
            Err(std::sync::mpsc::TryRecvError::Empty) => latch::wait(&wake, Instant::now() + YIELD_CHECK_INTERVAL),
        }
    }
}
