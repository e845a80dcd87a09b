//! Internal SQL functions about models in folders: chatbot_doctor() checks them, chatbot_drop_model() removes a file.

use std::time::Instant;

use pgrx::iter::TableIterator;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;

use crate::embedding::provider::Model;
use crate::embedding::storage::Storage;
use crate::embedding::transformer::kernels::Kernels;
use crate::error::Error;
use crate::ids::ModelId;
use crate::pg::model::local_models::{self, FolderState, LocalModel, is_local_model};
use crate::pg::runtime::sql_error;
use crate::pg::store::model as store;

/// A text of about the length of a chunk, which the speed is measured with.
const SAMPLE: &str = "A refund is paid within ten days after the goods have come back to our warehouse. ";
/// How often it stands in a chunk, and chunks that are embedded to measure.
const REPEATED: usize = 12;
const CHUNKS: usize = 4;

/// Removes the imported file of a model, unless another row of this database has the same one.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.drop_model_file(model_id int) RETURNS void
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_drop_model_file(model_id: Option<i32>) -> Result<(), ErrorReport> {
    let models = store::all_models()?;
    let Some(dropped) = models.iter().find(|model| Some(model.id) == model_id.map(ModelId)) else { return Ok(()) };
    let file = |model: &Model| {
        let Model { name, options, .. } = model.clone().with_storage(Storage::Full);
        (name, options)
    };
    let is_shared = models.iter().any(|other| other.id != dropped.id && file(&other.model) == file(&dropped.model));
    if !is_shared {
        local_models::remove(&dropped.model)?;
    }
    Ok(())
}

/// Rows of chatbot_doctor(): check_name, status, detail, hint.
type Rows = Result<TableIterator<'static, (String, String, String, Option<String>)>, ErrorReport>;

/// Returns the rows of chatbot_doctor() for models in folders: of the one that answers, and of the one that is to follow.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.check_local_models()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_check_local_models() -> Rows {
    let mut said = Vec::new();
    for used in [store::active_model()?, store::next_model()?].into_iter().flatten() {
        if is_local_model(&used.model) {
            for (status, detail, hint) in check(&used.model) {
                said.push(("local model".to_owned(), status.to_owned(), detail, hint));
            }
        }
    }
    Ok(TableIterator::new(said))
}

type Said = (&'static str, String, Option<String>);

fn check(model: &Model) -> Vec<Said> {
    let mut said = vec![match measure(model) {
        Ok((megabytes, rate)) => (
            "ok",
            format!(
                "{} is imported: {megabytes:.0} MB that all sessions share; {}, {} threads, {rate:.*} chunks a second",
                model.name,
                Kernels::best().name(),
                local_models::threads(),
                usize::from(rate < 10.0),
            ),
            (rate < 100.0).then(|| {
                format!(
                    "In mode sync a document of 100 chunks takes {:.0} s of its transaction; with chatbot_attach(mode => 'async') a worker does it.",
                    100.0 / rate
                )
            }),
        ),
        Err(error) => ("error", sql_error::one_line_message(&error), sql_error::hint(&error)),
    }];
    let set = format!("SELECT chatbot_set_model('local', '{}');", model.name.replace('\'', "''"));
    match local_models::folder_state(model) {
        Ok(FolderState::AsImported) => {}
        Ok(FolderState::Changed) => said.push((
            "warning",
            format!(
                "the folder of {} was changed since its vectors were made, which go on with what was imported",
                model.name
            ),
            Some(format!("{set} CALL chatbot_reembed();")),
        )),
        Err(error) => said.push((
            "warning",
            format!("{}: what was imported serves, and cannot be imported again", sql_error::one_line_message(&error)),
            Some("A server that a dump is restored on needs the folder, too.".to_owned()),
        )),
    }
    said
}

/// Megabytes of the imported file, and chunks a second.
fn measure(model: &Model) -> Result<(f64, f64), Error> {
    let opened = LocalModel::open(model)?;
    let texts = vec![SAMPLE.repeat(REPEATED); CHUNKS];
    // Pages that are not in memory yet are read now.
    opened.embed(&texts[..1])?;
    let began = Instant::now();
    opened.embed(&texts)?;
    let rate = CHUNKS as f64 / began.elapsed().as_secs_f64().max(1e-6);
    Ok((opened.bytes() as f64 / 1e6, rate))
}
