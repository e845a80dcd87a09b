//! The indexes of a model's chunks: HNSW for vectors and GIN for words.

use std::cell::Cell;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::ids::ModelId;
use crate::pg::runtime::scoped_settings::ScopedSettings;
use crate::pg::runtime::vector::vector_type;
use crate::pg::store::{StatementMode, execute_once, model, not_null, run, write};
use crate::search::quantization::Quantization;

/// Returns the statements that build the indexes which a model lacks; an empty list where it has them all. The last one is
/// ANALYZE, so that statistics say how large chatbots are.
pub fn build_statements(model_id: ModelId, concurrently: bool) -> Result<Vec<String>> {
    let sql = "SELECT kind, name, present
        FROM chatbot_sync.model_index
        WHERE model_id = $1
            AND NOT valid
        ORDER BY kind DESC";
    let missing: Vec<(String, String, bool)> = run(sql, &[model_id.into()], StatementMode::ReadLatest, |rows| {
        rows.map(|row| Ok((not_null(row.get(1))?, not_null(row.get(2))?, not_null(row.get(3))?))).collect()
    })?;
    let how = if concurrently { "CONCURRENTLY " } else { "" };
    let mut statements = Vec::new();
    for (kind, name, present) in missing {
        if present {
            // An attempt that failed has left an invalid index.
            statements.push(format!("DROP INDEX {how}chatbot_sync.{name}"));
        }
        let kind = if kind == "hnsw" {
            let Some(model) = model::model_with_id(model_id)? else { continue };
            format!("hnsw ({}) WITH (ef_construction = 128)", model.index_form().definition()?)
        } else {
            "gin (words)".to_owned()
        };
        statements.push(format!(
            "CREATE INDEX {how}{name}
            ON chatbot_sync.embedding
            USING {kind}
            WHERE model_id OPERATOR(pg_catalog.=) {model_id}"
        ));
    }
    // Searches have used an index of another form until now.
    for name in indexes_of_other_forms(model_id)? {
        statements.push(format!("DROP INDEX {how}chatbot_sync.{name}"));
    }
    if !statements.is_empty() {
        statements.push("ANALYZE chatbot_sync.embedding, chatbot_sync.source".to_owned());
    }
    Ok(statements)
}

/// Returns the names of a model's indexes that are of another form than the one it should have.
fn indexes_of_other_forms(model_id: ModelId) -> Result<Vec<String>> {
    let Some(form) = model::model_with_id(model_id)?.map(|model| model.index_form()) else { return Ok(Vec::new()) };
    let others = Quantization::ALL.into_iter().filter(|other| *other != form.quantization);
    let names: Vec<String> = others.map(|other| form.with(other).index_name(model_id)).collect();
    let sql = "SELECT c.relname::text
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = 'chatbot_sync.embedding'::pg_catalog.regclass
            AND c.relname = ANY ($1)";
    run(sql, &[names.into()], StatementMode::ReadLatest, |rows| rows.map(|row| not_null(row.get(1))).collect())
}

/// Builds the indexes of a model in this transaction; sessions that write vectors wait until it ends.
pub fn build(model_id: ModelId) -> Result<()> {
    build_statements(model_id, false)?.iter().try_for_each(|sql| execute_once(sql))
}

/// Returns the owner of the table of chunks, with whose rights indexes are built.
pub fn table_owner() -> Result<pg_sys::Oid> {
    let sql = "SELECT relowner FROM pg_catalog.pg_class WHERE oid = 'chatbot_sync.embedding'::pg_catalog.regclass";
    run(sql, &[], StatementMode::Read, |rows| not_null(rows.first().get_one()))
}

/// Takes the lock by which one process at a time builds indexes, until the process ends; false where another process has it.
pub fn try_build_lock() -> Result<bool> {
    let sql = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('chatbot_sync index', 0))";
    run(sql, &[], StatementMode::ReadLatest, |rows| not_null(rows.first().get_one()))
}

/// Records why a model's indexes could not be built.
pub fn record_build_error(model_id: ModelId, message: &str) -> Result<()> {
    let sql = "UPDATE chatbot_sync.model SET index_error = $2 WHERE id = $1";
    write(sql, &[model_id.into(), message.into()]).map(drop)
}

/// Returns the phase of an index build as Postgres reports it. Nodes of Citus report it only to their own sessions.
pub fn build_phase() -> Result<String> {
    let sql = "SELECT COALESCE(
            (
                SELECT phase
                FROM pg_catalog.pg_stat_progress_create_index
                WHERE datname = pg_catalog.current_database()
                    AND relid = 'chatbot_sync.embedding'::pg_catalog.regclass
                LIMIT 1
            ),
            CASE WHEN chatbot_sync.is_distributed() THEN 'waiting for nodes' ELSE 'waiting' END
        )";
    run(sql, &[], StatementMode::Read, |rows| not_null(rows.first().get_one()))
}

/// Returns why a model lacks an index; `None` where it has all of them.
pub fn missing_index_reason(model_id: ModelId) -> Result<Option<String>> {
    let sql = "SELECT m.index_error
        FROM chatbot_sync.model_index i
        JOIN chatbot_sync.model m ON m.id = i.model_id
        WHERE m.id = $1
            AND NOT i.valid";
    let reason: Option<Option<String>> = run(sql, &[model_id.into()], StatementMode::ReadLatest, |mut rows| {
        rows.next().map(|row| row.get(1)).transpose()
    })?;
    Ok(reason.map(|reason| reason.unwrap_or_else(|| "its worker was ended".to_owned())))
}

/// Whether HNSW scans iteratively, so that it goes on where a filter left too few rows: with pgvector 0.8 or later.
pub fn has_iterative_scan() -> Result<bool> {
    thread_local!(static ITERATIVE_SCAN: Cell<Option<bool>> = const { Cell::new(None) });
    if let Some(known) = ITERATIVE_SCAN.get() {
        return Ok(known);
    }
    // pgvector's settings exist only after its library is loaded, which this statement does.
    let load = format!("SELECT '[1]'::{}.vector IS NULL", vector_type()?.schema);
    run(&load, &[], StatementMode::Read, |rows| not_null::<bool>(rows.first().get_one()))?;
    let sql = "SELECT pg_catalog.current_setting('hnsw.iterative_scan', true) IS NOT NULL";
    let known = run(sql, &[], StatementMode::Read, |rows| not_null(rows.first().get_one()))?;
    ITERATIVE_SCAN.set(Some(known));
    Ok(known)
}

/// Makes HNSW order by distance, with this `ef_search`, while the result lives.
pub fn hnsw_settings(ef_search: i32) -> Result<ScopedSettings> {
    let ef_search = CString::new(ef_search.to_string()).map_err(|error| Error::Internal(error.to_string()))?;
    // Without enable_sort, even a plan that sorts a few candidates looks so expensive that it would be compiled. One generic
    // plan serves every chatbot and vector: making it each time took a tenth of a search.
    let mut settings: Vec<(&CStr, &CStr)> = vec![
        (c"enable_sort", c"off"),
        (c"jit", c"off"),
        (c"plan_cache_mode", c"force_generic_plan"),
        (c"hnsw.ef_search", &ef_search),
    ];
    if has_iterative_scan()? {
        settings.push((c"hnsw.iterative_scan", c"relaxed_order"));
    }
    Ok(ScopedSettings::new(&settings))
}
