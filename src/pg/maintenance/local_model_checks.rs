//! Internal SQL functions about models in folders: chatbot_doctor() checks them, chatbot_drop_model() removes a file.

use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{name, pg_extern};

use crate::embedding::provider::Model;
use crate::embedding::storage::Storage;
use crate::embedding::transformer::kernels::Kernels;
use crate::error::Error;
use crate::ids::ModelId;
use crate::pg::model::local_models::{self, FolderState, LocalModel, is_local_model};
use crate::pg::model::speed;
use crate::pg::runtime::doctor::DoctorRow;
use crate::pg::runtime::{sql_error, threads};
use crate::pg::store::model as store;

/// Bytes of an English chunk of the default size.
const CHUNK: f64 = 1000.0;
/// Slower than this, a document of 100 chunks makes its statement wait noticeably.
const SLOW: f64 = 200.0;

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

/// Returns the rows of chatbot_doctor() for models in folders: of the one that answers, and of the one that is to follow.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.check_local_models()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_check_local_models() -> Result<
    TableIterator<
        'static,
        (name!(check_name, String), name!(status, String), name!(detail, String), name!(hint, Option<String>)),
    >,
    ErrorReport,
> {
    let mut rows = Vec::new();
    for used in [store::active_model()?, store::next_model()?].into_iter().flatten() {
        if is_local_model(&used.model) {
            rows.extend(check(&used.model).into_iter().map(|row| row.into_columns("local model")));
        }
    }
    Ok(TableIterator::new(rows))
}

fn check(model: &Model) -> Vec<DoctorRow> {
    let measured = match measure(model) {
        Ok(Measured { shared, working, rate }) => DoctorRow {
            status: "ok",
            detail: format!(
                "{} is imported: {shared:.0} MB that all sessions share, and up to {working:.0} MB for a statement while it computes; {}, {}, {rate:.*} chunks a second",
                model.name,
                Kernels::best().name(),
                match threads::count() {
                    1 => "1 thread".to_owned(),
                    threads => format!("{threads} threads"),
                },
                usize::from(rate < 10.0),
            ),
            hint: (rate < SLOW).then(|| {
                format!(
                    "In mode sync a document of 100 chunks takes {:.1} s of its transaction; with chatbot_attach(mode => 'async') a worker does it.",
                    100.0 / rate
                )
            }),
        },
        Err(error) => DoctorRow {
            status: "error",
            detail: sql_error::one_line_message(&error),
            hint: sql_error::hint(&error),
        },
    };
    let set = format!("SELECT chatbot_set_model('local', '{}');", model.name.replace('\'', "''"));
    let folder = match local_models::folder_state(model) {
        Ok(FolderState::AsImported) => None,
        Ok(FolderState::Changed) => Some(DoctorRow {
            status: "warning",
            detail: format!(
                "the folder of {} was changed since its vectors were made, which go on with what was imported",
                model.name
            ),
            hint: Some(format!("{set} CALL chatbot_reembed();")),
        }),
        Err(error) => Some(DoctorRow {
            status: "warning",
            detail: format!(
                "{}: what was imported serves, and cannot be imported again",
                sql_error::one_line_message(&error)
            ),
            hint: Some("A server that a dump is restored on needs the folder, too.".to_owned()),
        }),
    };
    std::iter::once(measured).chain(folder).collect()
}

/// The memory that a model takes, and its speed.
struct Measured {
    /// Megabytes of the imported file.
    shared: f64,
    /// Megabytes that a statement computes in.
    working: f64,
    /// Chunks a second.
    rate: f64,
}

fn measure(model: &Model) -> Result<Measured, Error> {
    let opened = LocalModel::open(model)?;
    Ok(Measured {
        shared: opened.bytes() as f64 / 1e6,
        working: opened.working_bytes()? as f64 / 1e6,
        rate: speed::measure(&opened)? / CHUNK,
    })
}
