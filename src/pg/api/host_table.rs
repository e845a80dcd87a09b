//! Host tables: attached and detached, estimated and verified.

use pgrx::name;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::pg::host;
use crate::pg::maintenance::{reembed, verify};
use crate::pg::runtime::catalog_types::{Name, Regclass};
use crate::pg::runtime::encoding::Text;

/// Attaches a table: its rows become sources, and its triggers keep them in step from now on.
// One argument for each column that a host table can have; SQL callers pass them by name.
#[allow(clippy::too_many_arguments)]
#[pg_extern(name = "chatbot_attach")]
#[search_path(pg_catalog, pg_temp)]
fn chatbot_attach_with_condition(
    relation: Option<Regclass>,
    source_type: Option<Text>,
    id_column: default!(Option<Name>, "'id'"),
    chatbot_column: default!(Option<Name>, "'chatbot_id'"),
    content_column: default!(Option<Name>, "'content'"),
    metadata_columns: default!(Option<Vec<Option<Name>>>, "'{}'"),
    enabled_column: default!(Option<Name>, "NULL"),
    status_column: default!(Option<Name>, "NULL"),
    processed_column: default!(Option<Name>, "NULL"),
    error_column: default!(Option<Name>, "NULL"),
    mode: default!(Option<Text>, "'sync'"),
    on_error: default!(Option<Text>, "'mark'"),
    content_format: default!(Option<Text>, "'text'"),
    title_column: default!(Option<Name>, "NULL"),
    content_columns: default!(Option<Vec<Option<Name>>>, "NULL"),
    condition: default!(Option<Text>, "NULL"),
    chatbot_id: default!(Option<i64>, "NULL"),
    content_formats: default!(Option<Vec<Option<String>>>, "NULL"),
) -> Result<(), ErrorReport> {
    let content_formats = content_formats.as_ref().map(|all| all.iter().map(Option::as_deref).collect());
    Ok(host::attach(host::AttachArguments {
        relation,
        source_type: source_type.as_deref(),
        id: id_column,
        chatbot: chatbot_column,
        content: content_column,
        metadata: metadata_columns,
        enabled: enabled_column,
        status: status_column,
        processed: processed_column,
        error: error_column,
        mode: mode.as_deref(),
        on_error: on_error.as_deref(),
        content_format: content_format.as_deref(),
        title: title_column,
        contents: content_columns,
        condition: condition.as_deref(),
        chatbot_id,
        content_formats,
    })?)
}

/// The function that the SQL of version 0.2.0 declares.
#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn chatbot_attach(
    relation: Option<Regclass>,
    source_type: Option<Text>,
    id_column: Option<Name>,
    chatbot_column: Option<Name>,
    content_column: Option<Name>,
    metadata_columns: Option<Vec<Option<Name>>>,
    enabled_column: Option<Name>,
    status_column: Option<Name>,
    processed_column: Option<Name>,
    error_column: Option<Name>,
    mode: Option<Text>,
    on_error: Option<Text>,
    content_format: Option<Text>,
) -> Result<(), ErrorReport> {
    Ok(host::attach(host::AttachArguments {
        relation,
        source_type: source_type.as_deref(),
        id: id_column,
        chatbot: chatbot_column,
        content: content_column,
        metadata: metadata_columns,
        enabled: enabled_column,
        status: status_column,
        processed: processed_column,
        error: error_column,
        mode: mode.as_deref(),
        on_error: on_error.as_deref(),
        content_format: content_format.as_deref(),
        ..host::AttachArguments::default()
    })?)
}

/// Attaches a table of chatbots: deleting one of its rows deletes everything that belongs to the chatbot.
#[pg_extern]
#[search_path(pg_catalog, pg_temp)]
fn chatbot_attach_chatbots(
    relation: Option<Regclass>,
    id_column: default!(Option<Name>, "'id'"),
) -> Result<(), ErrorReport> {
    Ok(host::attach_chatbots(relation, id_column)?)
}

/// Detaches a table, from all chatbots or from one: drops its triggers, and with `delete_embeddings` deletes its sources.
#[pg_extern(name = "chatbot_detach")]
#[search_path(pg_catalog, pg_temp)]
fn chatbot_detach_from_chatbot(
    relation: Option<Regclass>,
    delete_embeddings: default!(Option<bool>, "false"),
    chatbot_id: default!(Option<i64>, "NULL"),
) -> Result<(), ErrorReport> {
    Ok(host::detach(relation, delete_embeddings, chatbot_id)?)
}

/// The function that the SQL of version 0.2.0 declares.
#[pg_extern(sql = false)]
fn chatbot_detach(relation: Option<Regclass>, delete_embeddings: Option<bool>) -> Result<(), ErrorReport> {
    Ok(host::detach(relation, delete_embeddings, None)?)
}

/// Estimates what a sync would send to the provider, and the seconds that it would take: of one host table, or of all where
/// `relation` is NULL.
#[pg_extern(name = "chatbot_estimate", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn chatbot_estimate_with_seconds(
    relation: default!(Option<Regclass>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(sources, i64),
            name!(chunks, i64),
            name!(chunks_to_embed, i64),
            name!(tokens, i64),
            name!(seconds, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    let e = reembed::estimate(relation)?;
    Ok(TableIterator::once((e.sources, e.chunks, e.to_embed, e.tokens, e.seconds)))
}

/// The function that the SQL of version 0.2.0 declares.
#[pg_extern(sql = false)]
fn chatbot_estimate(
    relation: Option<Regclass>,
) -> Result<
    TableIterator<'static, (name!(sources, i64), name!(chunks, i64), name!(chunks_to_embed, i64), name!(tokens, i64))>,
    ErrorReport,
> {
    let e = reembed::estimate(relation)?;
    Ok(TableIterator::once((e.sources, e.chunks, e.to_embed, e.tokens)))
}

/// Compares what is stored with what should be, and returns one row for each problem.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn chatbot_verify() -> Result<
    TableIterator<
        'static,
        (
            name!(problem, String),
            name!(chatbot_id, i64),
            name!(source_type, String),
            name!(source_id, i64),
            name!(detail, String),
        ),
    >,
    ErrorReport,
> {
    let row = |p: verify::Problem| {
        (p.problem.to_owned(), p.key.chatbot_id.0, p.key.source_type.to_string(), p.key.source_id, p.detail)
    };
    Ok(TableIterator::new(verify::verify()?.into_iter().map(row)))
}
