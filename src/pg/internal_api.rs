//! SQL functions that only the extension's own SQL calls, in one file, as they stand in one schema: the steps of its
//! procedures, and what its event triggers run.
//!
//! Where a function's name here is not its name in SQL, it is the name that it had in a released version: the C symbol that
//! the SQL of that version declares is made of it.

use pgrx::name;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::embedding::local;
use crate::embedding::provider::LOCAL;
use crate::error::Error;
use crate::ids::{ChatbotId, HostId, ModelId};
use crate::pg::maintenance::{reembed, refresh};
use crate::pg::runtime::catalog_types::Regclass;
use crate::pg::runtime::{arguments, enabled, rollback_usage, transaction, version, wake};
use crate::pg::store::{self, log};
use crate::pg::{host, queue, search, sync, worker};
use crate::source::{Jsonb, SourceKey};

/// Returns the key after which a step begins; `None` for the first step.
fn key_after(
    chatbot_id: Option<i64>,
    source_type: Option<&str>,
    source_id: Option<i64>,
) -> Result<Option<SourceKey>, Error> {
    chatbot_id.map(|_| arguments::stored_source_key(chatbot_id, source_type, source_id)).transpose()
}

/// Returns the key of the last source of a step as three columns: all NULL where the step had none.
fn key_columns(last: Option<SourceKey>) -> (Option<i64>, Option<String>, Option<i64>) {
    let source_type = last.map(|key| key.source_type.to_string());
    (last.map(|key| key.chatbot_id.0), source_type, last.map(|key| key.source_id))
}

/// A step of chatbot_process_queue(): claims up to `most` sources that are due (NULL: a full batch) and returns how many.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.queue_claim(most int) RETURNS int
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_queue_claim(most: Option<i32>) -> Result<i32, ErrorReport> {
    let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(0));
    Ok(sync::sql_int(queue::step_claim(most)?)?)
}

/// A step of chatbot_process_queue(): requests the vectors of the claimed sources from the provider.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.queue_embed() RETURNS void
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_queue_embed() {
    queue::step_embed();
}

/// A step of chatbot_process_queue(): stores the vectors.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.queue_store() RETURNS void
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_queue_store() -> Result<(), ErrorReport> {
    Ok(queue::step_store()?)
}

/// A step of chatbot_process_queue(): writes the status to the rows of host tables.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.queue_write_status() RETURNS void
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_queue_tell() -> Result<(), ErrorReport> {
    Ok(queue::step_write_status()?)
}

/// Deletes up to `most` rows of the log that are past their retention, and returns how many.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.purge_log_batch(most int) RETURNS int
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_purge_log_batch(most: Option<i32>) -> Result<i32, ErrorReport> {
    Ok(log::purge(arguments::required("most", most)?)?)
}

/// Calls `follow`, unless the library and the SQL of this database do not fit together. Between the installation of a new
/// library and ALTER EXTENSION ... UPDATE, no DDL of users may fail because of the extension; statements on attached tables
/// report what is to be done.
fn if_version_fits(follow: impl FnOnce() -> Result<(), Error>) -> Result<(), ErrorReport> {
    if version::check().is_err() { Ok(()) } else { Ok(follow()?) }
}

/// Follows ALTER TABLE; called by an event trigger.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.follow_alter_table(relation regclass) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_table_altered(relation: Option<Regclass>) -> Result<(), ErrorReport> {
    if_version_fits(|| {
        let relation = arguments::required("relation", relation)?.0;
        host::on_altered(relation)?;
        host::warn_of_hidden_rows(relation)
    })
}

/// Records that a statement rewrites a table; called by an event trigger.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.note_table_rewrite(relation regclass, reason int) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_note_table_rewrite(relation: Option<Regclass>, reason: Option<i32>) -> Result<(), ErrorReport> {
    host::note_rewrite(arguments::required("relation", relation)?.0, arguments::required("reason", reason)?);
    Ok(())
}

/// Follows a statement that rewrote tables or altered types; called by an event trigger.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.reconcile_rewritten_tables(types oid[]) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_reconcile_rewritten_tables(types: Option<Vec<pg_sys::Oid>>) -> Result<(), ErrorReport> {
    if_version_fits(|| host::on_rewritten(arguments::required("types", types)?))
}

/// Follows the creation of the extension's triggers by a restore; called by an event trigger.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.follow_restored_triggers(relation regclass) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_triggers_restored(relation: Option<Regclass>) -> Result<(), ErrorReport> {
    if_version_fits(|| host::on_restored(arguments::required("relation", relation)?.0))
}

/// Follows DROP TABLE; called by an event trigger.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.delete_sources_of_dropped_tables(hosts int[]) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_tables_dropped(hosts: Option<Vec<i32>>) -> Result<(), ErrorReport> {
    if_version_fits(|| {
        host::on_dropped(&arguments::required("hosts", hosts)?.into_iter().map(HostId).collect::<Vec<_>>())
    })
}

/// Registers the rows of host tables that are no sources yet as pending ones.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.register_existing_rows() RETURNS void
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_adopt() -> Result<(), ErrorReport> {
    Ok(host::register_all_existing_rows()?)
}

/// A step of chatbot_sync_all(): syncs one batch of sources that are pending or in error.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.sync_batch(chatbot_id bigint, batch int, after_chatbot_id bigint,
    after_source_type text, after_source_id bigint)
RETURNS TABLE (taken bigint, synced bigint, failed bigint, last_chatbot_id bigint, last_source_type text,
    last_source_id bigint, stopped text)
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_sync_batch(
    chatbot_id: Option<i64>,
    batch: Option<i32>,
    after_chatbot_id: Option<i64>,
    after_source_type: Option<&str>,
    after_source_id: Option<i64>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(taken, i64),
            name!(synced, i64),
            name!(failed, i64),
            name!(last_chatbot_id, Option<i64>),
            name!(last_source_type, Option<String>),
            name!(last_source_id, Option<i64>),
            name!(stopped, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let after = key_after(after_chatbot_id, after_source_type, after_source_id)?;
    let host::BatchOutcome { taken, synced, failed, last, stopped } =
        host::sync_batch(chatbot_id.map(ChatbotId), batch, after)?;
    let (chatbot, source_type, source) = key_columns(last);
    Ok(TableIterator::once((taken, synced, failed, chatbot, source_type, source, stopped)))
}

/// A step of chatbot_sync_all(refresh => true): compares one batch of sources with the session's settings.
#[pg_extern(
    sql = "CREATE FUNCTION chatbot_sync.refresh_batch(chatbot_id bigint, after_chatbot_id bigint, after_source_type text,
    after_source_id bigint)
RETURNS TABLE (looked_at bigint, marked bigint, words_read bigint, cut_by_hand bigint, last_chatbot_id bigint,
    last_source_type text, last_source_id bigint)
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn chatbot_sync_refresh_batch(
    chatbot_id: Option<i64>,
    after_chatbot_id: Option<i64>,
    after_source_type: Option<&str>,
    after_source_id: Option<i64>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(looked_at, i64),
            name!(marked, i64),
            name!(words_read, i64),
            name!(cut_by_hand, i64),
            name!(last_chatbot_id, Option<i64>),
            name!(last_source_type, Option<String>),
            name!(last_source_id, Option<i64>),
        ),
    >,
    ErrorReport,
> {
    let after = key_after(after_chatbot_id, after_source_type, after_source_id)?;
    let refresh::RefreshStep { looked_at, last, marked, words_read, cut_by_hand } =
        refresh::step(chatbot_id.map(ChatbotId), after)?;
    let (chatbot, source_type, source) = key_columns(last);
    Ok(TableIterator::once((looked_at, marked, words_read, cut_by_hand, chatbot, source_type, source)))
}

/// Counts the sources that differ from what the calling session's settings would make of them: those of host tables and, of
/// sources without one, those with other words and those with other chunks.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.count_outdated_sources()
RETURNS TABLE (of_tables bigint, words_by_hand bigint, cut_by_hand bigint)
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_count_outdated_sources() -> Result<
    TableIterator<'static, (name!(of_tables, i64), name!(words_by_hand, i64), name!(cut_by_hand, i64))>,
    ErrorReport,
> {
    let refresh::RefreshStep { marked, words_read, cut_by_hand, .. } = refresh::count()?;
    Ok(TableIterator::once((marked, words_read, cut_by_hand)))
}

/// The languages that a built-in model knows, by their ISO 639-1 codes; NULL for other models.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.model_languages(provider text, model text) RETURNS text[]
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_model_languages(provider: Option<&str>, model: Option<&str>) -> Option<Vec<String>> {
    let built_in = if provider == Some(LOCAL) { local::find(model?) } else { None };
    built_in.map(|model| model.languages.iter().map(|lang| (*lang).to_owned()).collect())
}

/// Reads the words of one source's chunks again, from the stored texts.
#[pg_extern(
    sql = "CREATE FUNCTION chatbot_sync.reread_words(chatbot_id bigint, source_type text, source_id bigint) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn chatbot_sync_read_words_anew(
    chatbot_id: Option<i64>,
    source_type: Option<&str>,
    source_id: Option<i64>,
) -> Result<(), ErrorReport> {
    Ok(refresh::read_words(&arguments::stored_source_key(chatbot_id, source_type, source_id)?)?)
}

/// Whether the calling procedure cannot commit: it was called after BEGIN, or by a function.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.in_transaction_block() RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_in_transaction_block() -> bool {
    transaction::is_in_block()
}

/// Checks whether the library and the SQL of this database fit together, as a row of chatbot_doctor().
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.check_version()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_check_version() -> Result<
    TableIterator<
        'static,
        (name!(check_name, String), name!(status, String), name!(detail, String), name!(hint, Option<String>)),
    >,
    ErrorReport,
> {
    Ok(TableIterator::once(version::doctor_row()?.into_columns("version")))
}

/// Whether this session may embed: `chatbot_sync.enabled` is on, and ALTER DATABASE does not say off.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.is_enabled() RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_is_enabled() -> bool {
    enabled::is_enabled()
}

/// Whether the library is preloaded, without which there are no workers.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.is_preloaded() RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_is_preloaded() -> bool {
    wake::is_preloaded()
}

/// Whether the launcher could not start a worker, since all of max_worker_processes are in use.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.lacks_worker_process() RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_lacks_worker_process() -> bool {
    wake::lacks_process()
}

/// Returns what syncs used whose transaction rolled back, by model and SQLSTATE.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.rolled_back()
RETURNS TABLE (model_id int, error_code text, syncs bigint, requests bigint, inputs bigint, tokens bigint)
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_rolled_back() -> TableIterator<
    'static,
    (
        name!(model_id, i32),
        name!(error_code, String),
        name!(syncs, i64),
        name!(requests, i64),
        name!(inputs, i64),
        name!(tokens, i64),
    ),
> {
    let bigint = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    TableIterator::new(rollback_usage::sums().into_iter().map(move |sum| {
        let usage = sum.usage;
        (
            sum.model_id.0,
            sum.sqlstate(),
            bigint(sum.syncs),
            bigint(usage.requests),
            bigint(usage.inputs),
            bigint(usage.tokens),
        )
    }))
}

/// The first step of chatbot_reembed(): forgets the sources that were refused in an earlier call.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.reembed_begin(skip_errors boolean) RETURNS void
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_reembed_begin(skip_errors: Option<bool>) -> Result<(), ErrorReport> {
    Ok(reembed::begin(skip_errors)?)
}

/// A step of chatbot_reembed(): embeds one batch of sources with the next model; returns no row where there is
/// no next model.
#[pg_extern(
    sql = "CREATE FUNCTION chatbot_sync.reembed_batch(batch int, after_chatbot_id bigint, after_source_type text,
    after_source_id bigint)
RETURNS TABLE (taken bigint, last_chatbot_id bigint, last_source_type text, last_source_id bigint, sources bigint,
    not_whole bigint)
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn chatbot_sync_reembed_batch(
    batch: Option<i32>,
    after_chatbot_id: Option<i64>,
    after_source_type: Option<&str>,
    after_source_id: Option<i64>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(taken, i64),
            name!(last_chatbot_id, Option<i64>),
            name!(last_source_type, Option<String>),
            name!(last_source_id, Option<i64>),
            name!(sources, i64),
            name!(not_whole, i64),
        ),
    >,
    ErrorReport,
> {
    let after = key_after(after_chatbot_id, after_source_type, after_source_id)?;
    let row = reembed::batch(batch, after)?.map(|step| {
        let (chatbot, source_type, source) = key_columns(step.last);
        (step.taken, chatbot, source_type, source, step.progress.sources, step.progress.incomplete)
    });
    Ok(TableIterator::new(row))
}

/// The last step of chatbot_reembed(): makes the next model the active one; false where it still lacks vectors.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.activate_next_model() RETURNS boolean
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_swap_model() -> Result<bool, ErrorReport> {
    Ok(reembed::swap()?)
}

/// Builds the indexes of a model in this transaction, which keeps writers waiting: for chatbot_create_index(concurrent =>
/// false) and chatbot_repair().
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.build_indexes(model_id int) RETURNS void
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_index_build(model_id: Option<i32>) -> Result<(), ErrorReport> {
    Ok(store::index::build(ModelId(arguments::required("model_id", model_id)?))?)
}

/// A step of chatbot_create_index(): starts the worker that builds the indexes.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.start_index_build(model_id int) RETURNS void
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_index_start(model_id: Option<i32>) -> Result<(), ErrorReport> {
    Ok(worker::index::start(ModelId(arguments::required("model_id", model_id)?))?)
}

/// A step of chatbot_create_index(): waits up to 100 ms and returns what the worker does; NULL once the indexes are built.
#[pg_extern(sql = "CREATE FUNCTION chatbot_sync.wait_for_index_build() RETURNS text
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_index_step() -> Result<Option<String>, ErrorReport> {
    Ok(worker::index::step()?)
}

/// The part of chatbot_search() that runs on the node with the chatbot's shards, where Citus distributes the tables.
#[pg_extern(sql = "
CREATE FUNCTION chatbot_sync.search_in(embedding oid, source oid, question jsonb, metadata_filter jsonb, vector real[])
RETURNS TABLE (source_type text, source_id bigint, chunk_index int, content text, similarity real, score real, metadata jsonb)
LANGUAGE c STABLE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn chatbot_sync_search_in(
    embedding: Option<pg_sys::Oid>,
    source: Option<pg_sys::Oid>,
    question: Option<Jsonb>,
    metadata_filter: Option<Jsonb>,
    vector: Option<Vec<f32>>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(source_type, String),
            name!(source_id, i64),
            name!(chunk_index, i32),
            name!(content, String),
            name!(similarity, Option<f32>),
            name!(score, f32),
            name!(metadata, Jsonb),
        ),
    >,
    ErrorReport,
> {
    let shards = search::Shards {
        embedding: arguments::required("embedding", embedding)?,
        source: arguments::required("source", source)?,
    };
    let request = arguments::required("question", question)?;
    let results = search::search_shards(shards, &request, metadata_filter, vector)?;
    Ok(TableIterator::new(results.into_iter().map(search::SearchResult::into_row)))
}
