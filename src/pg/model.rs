//! The model that vectors are made with, and texts to vectors.

use super::store::{self, ModelRow};
use crate::error::{Error, Result};
use crate::provider::local;

/// What a text is embedded as.
pub const INPUT_TYPES: [&str; 2] = ["document", "query"];

/// The active model, made the built-in one where there is none yet.
pub fn for_writing() -> Result<ModelRow> {
    if let Some(model) = store::active_model()? {
        return Ok(model);
    }
    store::insert_first_model("local", local::NAME, i32::try_from(local::DIMENSIONS).unwrap_or(i32::MAX))?;
    store::active_model()?.ok_or_else(|| Error::Internal("no model is active".to_owned()))
}

/// The active model, or the built-in one where there is none yet: a reader makes no row.
pub fn for_reading() -> Result<ModelRow> {
    let first = || ModelRow { id: 0, provider: "local".to_owned(), model: local::NAME.to_owned() };
    Ok(store::active_model()?.unwrap_or_else(first))
}

/// The vectors of texts, in their order.
pub fn embed(model: &ModelRow, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    if (model.provider.as_str(), model.model.as_str()) != ("local", local::NAME) {
        return Err(Error::ModelUnknown { provider: model.provider.clone(), model: model.model.clone() });
    }
    let embed = |text: &&str| {
        pgrx::check_for_interrupts!();
        local::embed(text)
    };
    Ok(texts.iter().map(embed).collect())
}

/// The vector of one text.
pub fn embed_one(model: &ModelRow, text: &str) -> Result<Vec<f32>> {
    embed(model, &[text])?.pop().ok_or_else(|| Error::Internal("a text has no vector".to_owned()))
}
