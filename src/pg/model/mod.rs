//! The model that vectors are made with: which one it is, choosing another, and turning texts into vectors.
//!
//! - `embedding_call`: requests to a provider, on threads of the extension
//! - `local_call`: texts on their way through a built-in model, on threads of the extension
//! - `local_models`: models in folders: choosing, importing and mapping them, and embedding with them
//! - `model_arguments`: the arguments of `chatbot_set_model()`
//! - `requests`: embeds the texts of many sources while a worker does something else
//! - `speed`: how fast texts become stored vectors: a figure of each model
//! - `speedometer`: counts what a session embeds, and how long it takes
//! - `throttle`: a provider's request to wait, shared by all sessions

pub mod embedding_call;
mod local_call;
#[allow(unsafe_code)]
pub mod local_models;
mod model_arguments;
pub mod requests;
pub mod speed;
pub mod speedometer;
pub mod throttle;

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::embedding::batch::Usage;
use crate::embedding::local::{self, StaticModel};
use crate::embedding::provider::{self, InputType, LOCAL, Model};
use crate::embedding::storage::Storage;
use crate::error::{Error, Fault, FaultKind, Result};
use crate::ids::ModelId;
use crate::pg::model::embedding_call::{BatchResult, EmbeddingCall};
use crate::pg::model::local_call::LocalCall;
use crate::pg::model::local_models::LocalModel;
use crate::pg::runtime::{arguments, settings, threads};
use crate::pg::store::LatestSnapshot;
use crate::pg::store::model as store;
use crate::pg::store::model::ActiveModel;
use crate::pg::store::vectors;

use crate::search::fusion::DEFAULT_TEXT_WEIGHT;
use crate::threads::pool::Pool;

pub use crate::pg::model::model_arguments::ModelArguments;

/// The values of `input_type`: a text that is to be found, or one that is searched for.
pub const INPUT_TYPES: [&str; 2] = ["document", "query"];
/// The largest number of dimensions of pgvector's `vector`.
const MAX_DIMENSIONS: usize = 16_000;

/// The active model, made a built-in one where there is none yet.
pub fn active_or_insert_built_in() -> Result<ActiveModel> {
    if let Some(model) = store::active_model()? {
        return Ok(model);
    }
    let model = built_in(local::MODELS[0]);
    store::insert_model(&model, true, text_weight(&model)?)?;
    store::active_model()?.ok_or_else(|| Error::Internal("no model is active".to_owned()))
}

/// The active model, or a built-in one where there is none yet: a reader makes no row.
pub fn active_or_built_in() -> Result<Model> {
    Ok(store::active_model_in_snapshot()?.map_or_else(|| built_in(local::MODELS[0]), |active| active.model))
}

fn built_in(model: &StaticModel) -> Model {
    Model {
        provider: LOCAL.to_owned(),
        name: model.name.to_owned(),
        dimensions: model.dimensions(),
        shortened: false,
        document_prefix: String::new(),
        query_prefix: String::new(),
        options: Map::new(),
    }
}

/// What words count for in hybrid searches with a model that is chosen now.
fn text_weight(model: &Model) -> Result<f32> {
    if local_models::is_local_model(model) { local_models::text_weight(model) } else { Ok(DEFAULT_TEXT_WEIGHT) }
}

/// Turns texts into vectors: by the built-in model, by a provider, or from vectors that were made before.
pub struct Embedder {
    model: Model,
    input: InputType,
    attempts: u32,
    /// Threads for pure work: the built-in models', and what the caller has beside.
    pool: Rc<Pool>,
    route: Route,
}

enum Route {
    /// No text was pushed yet.
    None,
    Local(LocalCall),
    /// A model from a folder, and the texts that it has not embedded yet, prefixes put before them already.
    Folder {
        model: LocalModel,
        texts: Vec<String>,
        embedded: usize,
    },
    EmbeddingCall(Box<EmbeddingCall>),
    /// Vectors that were made before, by their text; the texts that are asked for; and the number of those
    /// that were answered.
    Prefetched {
        made: HashMap<String, (Vec<f32>, Usage)>,
        asked: Vec<String>,
        answered: usize,
        in_parts: HashMap<String, usize>,
    },
}

impl Embedder {
    /// Prepares to embed with a model; no request is sent yet. A model in a folder takes all threads by itself.
    pub fn new(model: &Model, input: InputType) -> Self {
        let pool = Rc::new(if local_models::is_local_model(model) { Pool::new(0) } else { threads::pool() });
        Self { model: model.clone(), input, attempts: settings::max_attempts(), pool, route: Route::None }
    }

    /// Like [`Self::new`], but sends each request only once, for a caller that retries by itself.
    pub fn once(model: &Model, input: InputType) -> Self {
        Self { attempts: 1, ..Self::new(model, input) }
    }

    /// Uses vectors that were made before and sends no request: a text without such a vector
    /// fails with [`FaultKind::Outdated`].
    pub fn prefetched(
        model: &Model,
        made: HashMap<String, (Vec<f32>, Usage)>,
        in_parts: HashMap<String, usize>,
    ) -> Self {
        let route = Route::Prefetched { made, in_parts, asked: Vec::new(), answered: 0 };
        Self { route, ..Self::new(model, InputType::Document) }
    }

    /// The threads that it uses. A caller's tasks are done while it waits for a provider, too.
    pub fn pool(&self) -> Rc<Pool> {
        self.pool.clone()
    }

    /// The most texts of a request to a provider; `None` where no provider is asked.
    pub fn texts_a_request(&self) -> Option<usize> {
        let remote = matches!(self.route, Route::None | Route::EmbeddingCall(_)) && self.model.provider != LOCAL;
        let provider = if remote { provider::find_provider(&self.model.provider).ok()? } else { return None };
        Some(embedding_call::texts_a_request(provider, &self.model))
    }

    /// Adds a text and returns its number, from 0.
    pub fn push(&mut self, text: &str) -> Result<usize> {
        if let Route::None = self.route {
            self.route = if local_models::is_local_model(&self.model) {
                Route::Folder { model: LocalModel::open(&self.model)?, texts: Vec::new(), embedded: 0 }
            } else if self.model.provider == LOCAL {
                let Some(model) = local::find(&self.model.name) else {
                    let Model { provider, name, .. } = self.model.clone();
                    return Err(Error::ModelUnknown { provider, model: name });
                };
                Route::Local(LocalCall::new(model, self.pool.clone()))
            } else {
                let provider = provider::find_provider(&self.model.provider)?;
                Route::EmbeddingCall(Box::new(EmbeddingCall::new(provider, &self.model, self.input, self.attempts)?))
            };
        }
        let prefix = match self.input {
            InputType::Document => &self.model.document_prefix,
            InputType::Query => &self.model.query_prefix,
        };
        match &mut self.route {
            Route::EmbeddingCall(remote) => remote.push(format!("{prefix}{text}")),
            Route::Folder { texts, embedded, .. } => {
                texts.push(format!("{prefix}{text}"));
                Ok(*embedded + texts.len() - 1)
            }
            Route::Local(local) => Ok(local.push(text.to_owned())),
            Route::Prefetched { asked, answered, .. } => {
                asked.push(text.to_owned());
                Ok(*answered + asked.len() - 1)
            }
            Route::None => Err(Error::Internal("a text has no way to a vector".to_owned())),
        }
    }

    /// Whether another text would be embedded soon; otherwise it would only wait in memory.
    pub fn wants_more(&self) -> bool {
        /// The number of texts that are looked up before they are stored.
        const TEXTS: usize = 200;
        match &self.route {
            Route::None => true,
            Route::Folder { texts, .. } => texts.len() < local_models::TEXTS,
            Route::Local(local) => local.wants_more(),
            Route::Prefetched { asked: texts, .. } => texts.len() < TEXTS,
            Route::EmbeddingCall(remote) => remote.wants_more(),
        }
    }

    /// Sends the texts that were pushed, without waiting for more of them to fill a request.
    pub fn flush(&mut self) -> Result<()> {
        match &mut self.route {
            Route::EmbeddingCall(remote) => remote.flush(),
            _ => Ok(()),
        }
    }

    /// Waits until some texts are finished, more are wanted, or all are finished. After an error no other text will be.
    pub fn wait(&mut self) -> Result<Vec<BatchResult>> {
        match &mut self.route {
            Route::None => Ok(Vec::new()),
            Route::EmbeddingCall(remote) => remote.wait(&|| self.pool.run_one()),
            Route::Prefetched { made, in_parts, asked, answered } => {
                let from = *answered;
                *answered += asked.len();
                let answer = |(at, text): (usize, String)| {
                    // Copied and not removed, since a text may occur twice. Its usage is counted only once.
                    let (vector, usage) = match made.get_mut(&text) {
                        Some((vector, usage)) => (Ok(vector.clone()), std::mem::take(usage)),
                        None => (
                            Err(Fault::new(FaultKind::Outdated, &self.model.provider, &self.model.name, "")),
                            Usage::default(),
                        ),
                    };
                    let in_parts = in_parts.get(&text).map(|&parts| (at, parts));
                    BatchResult { range: at..at + 1, texts: vec![(at, vector)], usage, in_parts }
                };
                Ok((from..).zip(asked.drain(..)).map(answer).collect())
            }
            Route::Local(local) => local.wait(),
            Route::Folder { model, texts, embedded } => {
                let range = *embedded..*embedded + texts.len();
                let vectors = model.embed(texts)?;
                speedometer::count_embedded(texts.iter());
                texts.clear();
                *embedded = range.end;
                let texts = range.clone().zip(vectors.into_iter().map(Ok)).collect();
                Ok(vec![BatchResult { range, texts, usage: Usage::default(), in_parts: None }])
            }
        }
    }

    /// Ends after all texts are finished, and keeps the connections for the next call.
    pub fn done(self) {
        if let Route::EmbeddingCall(remote) = self.route {
            remote.done();
        }
    }
}

/// The message about a text that is longer than a model takes.
pub fn long_text_message(subject: &str, model: &str, parts: usize) -> String {
    format!(
        "{subject} is longer than model {model} takes: it is embedded in {parts} parts, and its vector is their mean"
    )
}

/// The share of a text that a model knows, from 0 to 1; 1 for a model of a provider, whose pieces are not known here.
pub fn known_share(model: &Model, text: &str) -> f32 {
    let built_in = if model.provider == LOCAL { local::find(&model.name) } else { None };
    built_in.map_or(1.0, |built_in| built_in.known_share(text))
}

/// What the row of a source says that has such chunks, given by their places.
pub fn chunks_in_parts(chunks: &[usize], model: &str) -> String {
    let places: Vec<String> = BTreeSet::from_iter(chunks).into_iter().map(usize::to_string).collect();
    let (chunks, are) = if places.len() == 1 { ("chunk", "is") } else { ("chunks", "are") };
    format!(
        "{chunks} {} {are} longer than model {model} takes: embedded in parts, each vector is the mean of its parts",
        places.join(", ")
    )
}

/// Returns the vector of one text.
pub fn embed_one(model: &Model, input: InputType, text: &str) -> Result<Vec<f32>> {
    let mut embedder = Embedder::new(model, input);
    embedder.push(text)?;
    embedder.flush()?;
    loop {
        let Some(answered) = embedder.wait()?.into_iter().find(|answered| !answered.texts.is_empty()) else { continue };
        if let Some((_, parts)) = answered.in_parts {
            pgrx::notice!("{}", long_text_message("the text", &model.name, parts));
        }
        if let Some((_, outcome)) = answered.texts.into_iter().next() {
            let vector = outcome?;
            embedder.done();
            return Ok(vector);
        }
    }
}

/// Chooses a model and returns its id. If there are vectors of another model, that one stays active until chatbot_reembed()
/// has given this one all of its own.
pub fn choose_model(choice: ModelArguments) -> Result<ModelId> {
    let model = check_arguments(choice)?;
    vectors::require_column(model.storage())?;
    // A worker may have written since how fast a model is: at REPEATABLE READ that is no conflict.
    let _latest = LatestSnapshot::new();
    let before = store::active_model()?;
    let store::ModelRow { id, active } = store::find_or_insert(&model, text_weight(&model)?)?;
    speed::measure_at_choice(id, &model)?;
    if active {
        store::set_next_model(None)?;
        return Ok(id);
    }
    let bytes = |model: &Model| model.storage().vector_bytes(model.dimensions);
    match before {
        Some(before) if store::has_vectors()? && !store::has_all_vectors(id, before.id)? => {
            vectors::set_row_layout(bytes(&model), bytes(&model).max(bytes(&before.model)))?;
            store::set_next_model(Some(id))?;
            let (as_before, vectors) = if before.model.name == model.name {
                (" as it was chosen before", "its vectors".to_owned())
            } else {
                ("", format!("the vectors of {}", model.name))
            };
            let name = before.model.name;
            pgrx::notice!("model {name} answers{as_before} until CALL chatbot_reembed(); has made {vectors}");
        }
        _ => {
            vectors::set_row_layout(bytes(&model), bytes(&model))?;
            store::activate_model(id)?;
        }
    }
    Ok(id)
}

fn check_arguments(mut choice: ModelArguments) -> Result<Model> {
    let provider = arguments::one_of("provider", choice.provider, &provider::provider_names())?;
    let name = arguments::required("model", choice.model)?.trim();
    let options = arguments::check_metadata(choice.options.take())?;
    let mut options: Map<String, Value> = serde_json::from_str(options.as_str())
        .map_err(|error| Error::invalid("options", format!("no JSON object ({error})"), "an object"))?;
    let dimensions = match choice.dimensions.map(usize::try_from) {
        None => None,
        Some(Ok(n)) if (1..=MAX_DIMENSIONS).contains(&n) => Some(n),
        Some(_) => {
            let got = choice.dimensions.unwrap_or_default();
            return Err(Error::invalid("dimensions", got, format!("1 to {MAX_DIMENSIONS}")));
        }
    };
    let storage = Storage::take_option(&mut options)?;
    let model = if provider == LOCAL {
        check_local_arguments(name, dimensions, &choice, &options)?
    } else {
        check_provider_arguments(provider::find_provider(provider)?, name, dimensions, &choice, options)?
    };
    Ok(model.with_storage(storage))
}

fn check_provider_arguments(
    provider: &dyn provider::Provider,
    name: &str,
    dimensions: Option<usize>,
    choice: &ModelArguments,
    options: Map<String, Value>,
) -> Result<Model> {
    if name.is_empty() {
        return Err(Error::invalid("model", "empty", "the name of a model"));
    }
    provider::check_options(provider.options(), &options)?;
    let known = provider.known(name);
    if let Some(expected) = known.zip(dimensions).and_then(|(known, n)| known.check_dimensions(n)) {
        return Err(Error::invalid("dimensions", dimensions.unwrap_or_default(), expected));
    }
    let (document, query) = provider.prefixes(name);
    let own = known.map(|k| k.dimensions);
    let mut model = Model {
        provider: provider.name().to_owned(),
        name: name.to_owned(),
        dimensions: dimensions.or(own).unwrap_or(0),
        shortened: dimensions.is_some() && dimensions != own,
        document_prefix: choice.document_prefix.unwrap_or(document).to_owned(),
        query_prefix: choice.query_prefix.unwrap_or(query).to_owned(),
        options,
    };
    if model.dimensions == 0 {
        // The length of its vectors is not known in advance, so the provider is asked for one.
        model.dimensions = embed_one(&model, InputType::Document, "How long is a vector?")?.len();
    }
    Ok(model)
}

fn check_local_arguments(
    name: &str,
    dimensions: Option<usize>,
    choice: &ModelArguments,
    options: &Map<String, Value>,
) -> Result<Model> {
    let Some(model) = local::find(name) else {
        return local_models::choose(name, dimensions, choice, options);
    };
    provider::check_options(&[], options)?;
    if let Some(n) = dimensions.filter(|n| *n != model.dimensions()) {
        return Err(Error::invalid("dimensions", n, model.dimensions().to_string()));
    }
    for (name, prefix) in [("document_prefix", choice.document_prefix), ("query_prefix", choice.query_prefix)] {
        if let Some(prefix) = prefix.filter(|p| !p.is_empty()) {
            return Err(Error::invalid(name, format!("\"{prefix}\""), "none: the built-in models have no prefixes"));
        }
    }
    Ok(built_in(model))
}
