//! The speed at which texts become stored vectors on this server: a moving figure for each model, in `chatbot_sync.model`. It is
//! measured where many texts are embedded anyway, and written by transactions that are about to commit: a statement of the
//! application's writes nothing for it, and none waits for a row of it.

use std::cell::Cell;
use std::time::Instant;

use crate::embedding::provider::Model;
use crate::error::Result;
use crate::ids::ModelId;
use crate::pg::model::local_models::{self, LocalModel, is_local_model};
use crate::pg::model::speedometer::Sample;
use crate::pg::runtime::{threads, transaction};
use crate::pg::store::model::ActiveModel;
use crate::pg::store::model_figures as store;

/// The share of a sample in the moving figure.
const SAMPLE_SHARE: f64 = 0.25;
/// The figure is written when it differs from the stored one by more than this share of it.
const WRITTEN_FROM: f64 = 0.1;

/// The figure of the model that this session embedded with last.
#[derive(Debug, Clone, Copy)]
struct MovingFigure {
    model_id: ModelId,
    rate: f64,
    /// The figure in the table; `None`: it has none.
    stored: Option<f64>,
}

thread_local! {
    static MOVING: Cell<Option<MovingFigure>> = const { Cell::new(None) };
}

/// The text that is embedded to measure: about as long as a chunk, and embedded so many times by each thread.
const SENTENCE: &str = "A refund is paid within ten days after the goods have come back to our warehouse. ";
const SENTENCES: usize = 12;
const TEXTS_PER_THREAD: usize = 2;

/// Bytes of text for which a model in a folder makes vectors in a second, with all threads that this process may use.
pub fn measure(model: &LocalModel) -> Result<f64> {
    let texts = vec![SENTENCE.repeat(SENTENCES); TEXTS_PER_THREAD * threads::count()];
    // Pages that are not in memory yet are read now.
    model.embed(&texts[..1])?;
    let began = Instant::now();
    model.embed(&texts)?;
    let bytes = texts.iter().map(String::len).sum::<usize>();
    Ok(bytes as f64 / began.elapsed().as_secs_f64().max(1e-6))
}

/// Measures a transformer when it is chosen, unless it has a figure. Other models are so quick that most of the time goes
/// into storing, which only a sync can measure.
pub fn measure_at_choice(model_id: ModelId, model: &Model) -> Result<()> {
    if !is_local_model(model) || !store::has_figures()? || store::bytes_per_second(model_id)?.is_some() {
        return Ok(());
    }
    let opened = LocalModel::open(model)?;
    if opened.is_transformer()? { store::set_speed(model_id, measure(&opened)?) } else { Ok(()) }
}

/// Takes a sample into the figure of a model, at the end of a transaction that commits next: the row of the model stays
/// locked for no longer. Where another session has that row locked, a later sample is written.
pub fn record(model: &ActiveModel, sample: Sample) -> Result<()> {
    if !sample.is_telling() || !store::has_figures()? {
        return Ok(());
    }
    let speed_of_session = if is_local_model(&model.model) { local_models::speed_of_session() } else { 1.0 };
    let rate = sample.rate() * speed_of_session;
    let before = match MOVING.get().filter(|figure| figure.model_id == model.id) {
        Some(figure) => figure,
        None => {
            let stored = store::bytes_per_second(model.id)?;
            MovingFigure { model_id: model.id, rate: stored.unwrap_or(rate), stored }
        }
    };
    let mut figure = MovingFigure { rate: before.rate + SAMPLE_SHARE * (rate - before.rate), ..before };
    if figure.stored.is_none_or(|stored| (figure.rate / stored - 1.0).abs() > WRITTEN_FROM)
        && store::try_record_speed(model.id, figure.rate)?
    {
        figure.stored = Some(figure.rate);
    }
    MOVING.set(Some(figure));
    Ok(())
}

/// Like [`record`], for a step of a procedure, which commits next unless a transaction block is the caller's.
pub fn record_in_step(model: impl FnOnce() -> Result<Option<ActiveModel>>, sample: Sample) -> Result<()> {
    if !sample.is_telling() || transaction::is_in_block() {
        return Ok(());
    }
    model()?.map_or(Ok(()), |model| record(&model, sample))
}
