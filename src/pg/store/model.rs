//! What vectors are made with.

use pgrx::datum::DatumWithOid;
use serde_json::Map;

use super::{Mode, one, run, write};
use crate::error::{Error, Result};
use crate::pg::jsonb::Jsonb;
use crate::provider::Model;

/// The model that new vectors are made with.
#[derive(Debug, Clone)]
pub struct ActiveModel {
    /// Its row's id.
    pub id: i32,
    /// What it is.
    pub model: Model,
}

/// The model that new vectors are made with; none as long as nothing was embedded and no model was set.
pub fn active_model() -> Result<Option<ActiveModel>> {
    let sql = "SELECT id, provider, model, dimensions, shortened, document_prefix, query_prefix, options::text
        FROM chatbot_sync.model WHERE active";
    let found = run(sql, &[], Mode::Read, |mut rows| match rows.next() {
        Some(row) => {
            let model = Model {
                provider: one(row.get(2))?,
                name: one(row.get(3))?,
                dimensions: usize::try_from(one::<i32>(row.get(4))?).unwrap_or(0),
                shortened: one(row.get(5))?,
                document_prefix: one(row.get(6))?,
                query_prefix: one(row.get(7))?,
                options: Map::new(),
            };
            Ok(Some((one::<i32>(row.get(1))?, model, one::<String>(row.get(8))?)))
        }
        None => Ok(None),
    })?;
    found
        .map(|(id, model, options)| match serde_json::from_str(&options) {
            Ok(options) => Ok(ActiveModel { id, model: Model { options, ..model } }),
            Err(error) => Err(Error::Internal(format!("the options of model {id} are no object: {error}"))),
        })
        .transpose()
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

/// Makes a model's row. Does nothing where there is one, or where another became the active one meanwhile.
pub fn insert_model(model: &Model, active: bool) -> Result<()> {
    let sql = "INSERT INTO chatbot_sync.model
            (provider, model, dimensions, shortened, document_prefix, query_prefix, options, active)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    let args: Vec<_> = model_args(model).into_iter().chain([active.into()]).collect();
    write(sql, &args).map(drop)
}

/// Makes a model the active one: its id.
pub fn activate_model(model: &Model) -> Result<i32> {
    insert_model(model, false)?;
    let same = "(provider, model, dimensions, shortened, document_prefix, query_prefix, options)
        = ($1, $2, $3, $4, $5, $6, $7)";
    let args = model_args(model);
    write(&format!("UPDATE chatbot_sync.model SET active = false WHERE active AND NOT {same}"), &args)?;
    let sql = format!("UPDATE chatbot_sync.model SET active = true WHERE {same} RETURNING id");
    run(&sql, &args, Mode::Write, |rows| one(rows.first().get_one()))
}

/// Another model that vectors were made with, as (provider, model); none where there are no other vectors.
pub fn model_in_use(model: &Model) -> Result<Option<(String, String)>> {
    let sql = "SELECT m.provider, m.model FROM chatbot_sync.model m
        WHERE (provider, model, dimensions, shortened, document_prefix, query_prefix, options)
                <> ($1, $2, $3, $4, $5, $6, $7)
            AND EXISTS (SELECT FROM chatbot_sync.source s WHERE s.model_id = m.id AND s.chunk_count > 0)";
    run(sql, &model_args(model), Mode::Write, |mut rows| match rows.next() {
        Some(row) => Ok(Some((one(row.get(1))?, one(row.get(2))?))),
        None => Ok(None),
    })
}

/// Vectors in the row itself, or beside it where they would not fit into a page. Takes a lock only where that changes.
pub fn set_vector_storage(in_line: bool) -> Result<()> {
    let sql = "SELECT attstorage = 'p' FROM pg_catalog.pg_attribute
        WHERE attrelid = 'chatbot_sync.embedding'::pg_catalog.regclass AND attname = 'embedding'";
    if run(sql, &[], Mode::Write, |rows| one::<bool>(rows.first().get_one()))? == in_line {
        return Ok(());
    }
    let storage = if in_line { "PLAIN" } else { "EXTERNAL" };
    write(&format!("ALTER TABLE chatbot_sync.embedding ALTER COLUMN embedding SET STORAGE {storage}"), &[]).map(drop)
}
