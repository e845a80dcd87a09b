//! The models that vectors are made with.

use pgrx::datum::DatumWithOid;
use serde_json::Map;

use crate::embedding::provider::Model;
use crate::error::{Error, Result};
use crate::ids::ModelId;
use crate::pg::store::index_form::IndexForm;
use crate::pg::store::model_figures::has_figures;
use crate::pg::store::{StatementMode, not_null, run, write};
use crate::search::fusion::DEFAULT_TEXT_WEIGHT;
use crate::search::quantization::Quantization;
use crate::source::Jsonb;

/// A model with its id.
#[derive(Debug, Clone)]
pub struct ActiveModel {
    /// The id of its row in `chatbot_sync.model`.
    pub id: ModelId,
    /// Provider, name, dimensions, prefixes and options.
    pub model: Model,
    /// The weight of words in a hybrid search with it, from 0 to 1; similarity has the rest.
    pub text_weight: f32,
    /// The form in which its index has each vector.
    pub quantization: Quantization,
}

impl ActiveModel {
    /// The form in which its vectors are indexed.
    pub fn index_form(&self) -> IndexForm {
        IndexForm { storage: self.model.storage(), dimensions: self.model.dimensions, quantization: self.quantization }
    }
}

/// The columns of [`model_args`], which say what a vector was made with.
const MODEL_COLUMNS: &str = "provider, model, dimensions, shortened, document_prefix, query_prefix, options";

/// Returns the active model, which new vectors are made with; `None` until something was embedded or a model was chosen.
pub fn active_model() -> Result<Option<ActiveModel>> {
    read_model("active", StatementMode::ReadLatest)
}

/// Returns the active model as the calling statement sees it.
pub fn active_model_in_snapshot() -> Result<Option<ActiveModel>> {
    read_model("active", StatementMode::Read)
}

/// Returns the next model, which is to replace the active one; `None`: there is none.
pub fn next_model() -> Result<Option<ActiveModel>> {
    read_model("next", StatementMode::ReadLatest)
}

/// Returns the model with this id; `None` where there is none.
pub fn model_with_id(id: ModelId) -> Result<Option<ActiveModel>> {
    read_model(&format!("id = {id}"), StatementMode::ReadLatest)
}

/// Returns all models that there are rows of.
pub fn all_models() -> Result<Vec<ActiveModel>> {
    read_models("true", StatementMode::ReadLatest)
}

fn read_model(condition: &str, mode: StatementMode) -> Result<Option<ActiveModel>> {
    Ok(read_models(condition, mode)?.pop())
}

fn read_models(condition: &str, mode: StatementMode) -> Result<Vec<ActiveModel>> {
    let figures = if has_figures()? { "text_weight, quantization" } else { "NULL::real, NULL::text" };
    let sql = format!(
        "SELECT id, {MODEL_COLUMNS}, {figures}
        FROM chatbot_sync.model
        WHERE {condition}"
    );
    let found = run(&sql, &[], mode, |rows| {
        rows.map(|row| {
            let model = Model {
                provider: not_null(row.get(2))?,
                name: not_null(row.get(3))?,
                dimensions: usize::try_from(not_null::<i32>(row.get(4))?).unwrap_or(0),
                shortened: not_null(row.get(5))?,
                document_prefix: not_null(row.get(6))?,
                query_prefix: not_null(row.get(7))?,
                options: Map::new(),
            };
            let text_weight = row.get::<f32>(9)?.unwrap_or(DEFAULT_TEXT_WEIGHT);
            let quantization = Quantization::of_model(row.get::<String>(10)?.as_deref());
            let found = ActiveModel { id: not_null(row.get(1))?, model, text_weight, quantization };
            Ok((found, not_null(row.get(8))?))
        })
        .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
    })?;
    let with_options = |(found, options): (ActiveModel, Jsonb)| match serde_json::from_str(options.as_str()) {
        Ok(options) => Ok(ActiveModel { model: Model { options, ..found.model }, ..found }),
        Err(error) => Err(Error::Internal(format!("the options of model {} are no object: {error}", found.id))),
    };
    found.into_iter().map(with_options).collect()
}

fn model_args<'a>(model: &Model) -> Vec<DatumWithOid<'a>> {
    vec![
        model.provider.clone().into(),
        model.name.clone().into(),
        i32::try_from(model.dimensions).unwrap_or(i32::MAX).into(),
        model.shortened.into(),
        model.document_prefix.clone().into(),
        model.query_prefix.clone().into(),
        Jsonb::from(&model.options).into(),
    ]
}

/// Inserts a model, with the weight of words in hybrid searches with it. Does nothing where it is there already, or where
/// another model has become active meanwhile.
pub fn insert_model(model: &Model, active: bool, text_weight: f32) -> Result<()> {
    let (column, value) = if has_figures()? { (", text_weight", ", $9") } else { ("", "") };
    let sql = format!(
        "INSERT INTO chatbot_sync.model ({MODEL_COLUMNS}, active{column})
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8{value})
        ON CONFLICT DO NOTHING"
    );
    let weight = (!column.is_empty()).then(|| text_weight.into());
    let args: Vec<_> = model_args(model).into_iter().chain([active.into()]).chain(weight).collect();
    write(&sql, &args).map(drop)
}

/// The row of a model.
pub struct ModelRow {
    /// The row's id.
    pub id: ModelId,
    /// Whether it is the active model.
    pub active: bool,
}

/// Returns the row of a model, which is inserted if needed.
pub fn find_or_insert(model: &Model, text_weight: f32) -> Result<ModelRow> {
    insert_model(model, false, text_weight)?;
    let sql = format!(
        "SELECT id, active
        FROM chatbot_sync.model
        WHERE ({MODEL_COLUMNS}) = ($1, $2, $3, $4, $5, $6, $7)"
    );
    run(&sql, &model_args(model), StatementMode::Write, |rows| {
        let rows = rows.first();
        Ok(ModelRow { id: not_null(rows.get(1))?, active: not_null(rows.get(2))? })
    })
}

/// Makes a model the active one; no model is the next one then.
pub fn activate_model(id: ModelId) -> Result<()> {
    let sql = "UPDATE chatbot_sync.model
        SET replaced = (SELECT m.id FROM chatbot_sync.model m WHERE m.active)
        WHERE id = $1
            AND NOT active";
    write(sql, &[id.into()])?;
    write("UPDATE chatbot_sync.model SET active = false, next = false WHERE active AND id <> $1", &[id.into()])?;
    write("UPDATE chatbot_sync.model SET active = true, next = false WHERE id = $1", &[id.into()]).map(drop)
}

/// Makes a model the next one, which is to replace the active one; `None`: there is no next one any more.
pub fn set_next_model(id: Option<ModelId>) -> Result<()> {
    write("UPDATE chatbot_sync.model SET next = false WHERE next AND id IS DISTINCT FROM $1", &[id.into()])?;
    write("UPDATE chatbot_sync.model SET next = true WHERE id = $1 AND NOT next", &[id.into()]).map(drop)
}

/// Whether any source has vectors.
pub fn has_vectors() -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM chatbot_sync.source WHERE chunk_count > 0)";
    run(sql, &[], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}

/// Whether a model still has a vector for every chunk: it was active right before the active one, and no source
/// has changed since.
pub fn has_all_vectors(id: ModelId, active: ModelId) -> Result<bool> {
    let sql = "SELECT
            EXISTS (
                SELECT FROM chatbot_sync.model
                WHERE id = $2
                    AND replaced = $1
            )
            AND NOT EXISTS (
                SELECT FROM chatbot_sync.source
                WHERE next_model_id IS NULL
                    OR next_model_id NOT IN ($1, $2)
            )";
    run(sql, &[id.into(), active.into()], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}
