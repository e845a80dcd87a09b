//! The public SQL functions, all in one file, as they stand in one schema: each turns its arguments into Rust types and
//! calls the module that does the work.
//! No function is STRICT, so that a NULL argument raises an error that names it.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{Uuid, name};

use crate::embedding::provider::InputType;
use crate::error::Error;
use crate::ids::ChatbotId;
use crate::pg::maintenance::{reembed, verify};
use crate::pg::runtime::catalog_types::{Name, Regclass};
use crate::pg::runtime::encoding::Text;
use crate::pg::runtime::vector::Vector;
use crate::pg::runtime::{arguments, settings};
use crate::pg::{host, model, queue, search, session, source_types, store, sync};
use crate::source::Jsonb;
use crate::text::chunk::chunk;

/// Chunks, embeds and stores a text as one source; returns how many chunks it has and how many of them kept their vectors.
#[pg_extern]
fn chatbot_embed_source(
    chatbot_id: Option<i64>,
    source_type: Option<Text>,
    source_id: Option<i64>,
    content: Option<Text>,
    metadata: default!(Option<Jsonb>, "'{}'"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(status, String),
            name!(chatbot_id, i64),
            name!(source_type, String),
            name!(source_id, i64),
            name!(chunks_created, i32),
            name!(embeddings_count, i32),
            name!(embeddings_reused, i32),
            name!(truncated, bool),
        ),
    >,
    ErrorReport,
> {
    let key = source_types::check_source_key(chatbot_id, source_type.as_deref(), source_id)?;
    let content = &*arguments::required("content", content)?;
    let done = sync::embed_source(key, content, arguments::check_metadata(metadata)?)?;
    Ok(TableIterator::once((
        "success".to_owned(),
        key.chatbot_id.0,
        key.source_type.to_string(),
        key.source_id,
        done.chunks,
        done.chunks,
        done.reused,
        done.truncated,
    )))
}

/// Deletes a source with its vectors and jobs; the status is `not_found` where there is no such source.
#[pg_extern]
fn chatbot_delete_source(
    chatbot_id: Option<i64>,
    source_type: Option<Text>,
    source_id: Option<i64>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(status, String),
            name!(chatbot_id, i64),
            name!(source_type, String),
            name!(source_id, i64),
            name!(deleted_count, i64),
        ),
    >,
    ErrorReport,
> {
    let key = source_types::check_source_key(chatbot_id, source_type.as_deref(), source_id)?;
    let deleted = store::delete::delete_source(&key)?;
    let status = if deleted.is_some() { "success" } else { "not_found" };
    Ok(TableIterator::once((
        status.to_owned(),
        key.chatbot_id.0,
        key.source_type.to_string(),
        key.source_id,
        deleted.unwrap_or(0),
    )))
}

/// Deletes the sources, vectors, jobs and sessions of a chatbot.
#[pg_extern]
fn chatbot_cleanup(
    chatbot_id: Option<i64>,
) -> Result<
    TableIterator<
        'static,
        (name!(status, String), name!(chatbot_id, i64), name!(embeddings_deleted, i64), name!(sessions_deleted, i64)),
    >,
    ErrorReport,
> {
    let chatbot_id = arguments::check_chatbot_id(chatbot_id)?;
    let (embeddings, sessions) = store::delete::delete_chatbot(chatbot_id)?;
    Ok(TableIterator::once(("success".to_owned(), chatbot_id.0, embeddings, sessions)))
}

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
    Ok(host::attach(host::Attach {
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
    Ok(host::attach(host::Attach {
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
        ..host::Attach::default()
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

/// Adds a kind of source; returns false where there is one of that name.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn chatbot_add_source_type(name: Option<Text>) -> Result<bool, ErrorReport> {
    Ok(source_types::add(name.as_deref())?)
}

/// Drops a kind of source that nothing is of.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn chatbot_drop_source_type(name: Option<Text>) -> Result<(), ErrorReport> {
    Ok(source_types::drop(name.as_deref())?)
}

/// Queues the content of a source without a host table for a worker to embed; returns the job's id.
#[pg_extern]
fn chatbot_enqueue_source(
    chatbot_id: Option<i64>,
    source_type: Option<Text>,
    source_id: Option<i64>,
    content: Option<Text>,
    metadata: default!(Option<Jsonb>, "'{}'"),
    priority: default!(Option<i32>, "0"),
) -> Result<i64, ErrorReport> {
    let key = source_types::check_source_key(chatbot_id, source_type.as_deref(), source_id)?;
    let (content, metadata) = (arguments::required("content", content)?, arguments::check_metadata(metadata)?);
    Ok(queue::enqueue(key, &content, metadata, arguments::required("priority", priority)?)?.0)
}

/// Makes sources in error pending again and returns how many; a NULL argument matches every source.
#[pg_extern]
fn chatbot_retry(
    chatbot_id: default!(Option<i64>, "NULL"),
    source_type: default!(Option<Text>, "NULL"),
    source_id: default!(Option<i64>, "NULL"),
) -> Result<i64, ErrorReport> {
    let source_type =
        source_type.map(|given| source_types::check_source_type("source_type", Some(&given))).transpose()?;
    Ok(queue::retry(chatbot_id.map(ChatbotId), source_type, source_id)?)
}

/// Estimates what a sync would send to the provider: of one host table, or of all where `relation` is NULL.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn chatbot_estimate(
    relation: default!(Option<Regclass>, "NULL"),
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

/// Chooses the model that vectors are made with and returns its id.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn chatbot_set_model(
    provider: Option<Text>,
    model: Option<Text>,
    dimensions: default!(Option<i32>, "NULL"),
    document_prefix: default!(Option<Text>, "NULL"),
    query_prefix: default!(Option<Text>, "NULL"),
    options: default!(Option<Jsonb>, "'{}'"),
) -> Result<i32, ErrorReport> {
    let choice = model::ModelArguments {
        provider: provider.as_deref(),
        model: model.as_deref(),
        dimensions,
        document_prefix: document_prefix.as_deref(),
        query_prefix: query_prefix.as_deref(),
        options,
    };
    Ok(model::choose_model(choice)?.0)
}

/// Returns the vector of a text, made with the active model.
#[pg_extern(stable)]
fn chatbot_embed(
    content: Option<Text>,
    input_type: default!(Option<Text>, "'document'"),
) -> Result<Vector, ErrorReport> {
    let content = &*arguments::required("content", content)?;
    let input = match arguments::one_of("input_type", input_type.as_deref(), &model::INPUT_TYPES)? {
        "query" => InputType::Query,
        _ => InputType::Document,
    };
    Ok(Vector(model::embed_one(&model::active_or_built_in()?, input, content)?))
}

/// Returns the chunks that a text would be cut into; a NULL parameter takes the value of its setting.
#[pg_extern(stable)]
fn chatbot_chunk(
    content: Option<Text>,
    chunk_size: default!(Option<i32>, "NULL"),
    chunk_overlap: default!(Option<i32>, "NULL"),
    max_chunks: default!(Option<i32>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (name!(chunk_index, i32), name!(start_offset, i32), name!(end_offset, i32), name!(content, String)),
    >,
    ErrorReport,
> {
    let content = &*arguments::required("content", content)?;
    let params = settings::chunk_params(chunk_size, chunk_overlap, max_chunks)?;
    let rows: Vec<_> = chunk(content, &params)
        .chunks
        .iter()
        .zip(0..)
        .map(|(c, at)| (at, sync::int(c.start_char), sync::int(c.end_char), content[c.start..c.end].to_owned()))
        .map(|(at, start, end, text)| Ok((at, start?, end?, text)))
        .collect::<Result<_, Error>>()?;
    Ok(TableIterator::new(rows))
}

/// Returns the chunks of a chatbot that match a query best, best first.
#[pg_extern(stable)]
fn chatbot_search(
    chatbot_id: Option<i64>,
    query: Option<Text>,
    max_results: default!(Option<i32>, "5"),
    source_types: default!(Option<Vec<Option<String>>>, "NULL"),
    metadata_filter: default!(Option<Jsonb>, "NULL"),
    min_similarity: default!(Option<f32>, "NULL"),
    mode: default!(Option<Text>, "'hybrid'"),
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
    let question = search::SearchArguments {
        chatbot_id,
        query: query.as_deref(),
        max_results,
        source_types,
        metadata_filter,
        min_similarity,
        mode: mode.as_deref(),
    };
    Ok(TableIterator::new(search::search(question)?.into_iter().map(search::SearchResult::into_row)))
}

/// Opens a session, which is a conversation with a chatbot, and returns its id.
#[pg_extern]
fn chatbot_session_open(
    chatbot_id: Option<i64>,
    metadata: default!(Option<Jsonb>, "'{}'"),
) -> Result<Uuid, ErrorReport> {
    Ok(session::open(arguments::check_chatbot_id(chatbot_id)?, arguments::check_metadata(metadata)?)?)
}

/// Adds a message to an open session and returns the message's id.
#[pg_extern]
fn chatbot_session_add_message(
    session_id: Option<Uuid>,
    role: Option<Text>,
    content: Option<Text>,
    metadata: default!(Option<Jsonb>, "'{}'"),
) -> Result<i64, ErrorReport> {
    let session_id = arguments::required("session_id", session_id)?;
    let role = arguments::one_of("role", role.as_deref(), &session::ROLES)?;
    Ok(session::add_message(
        session_id,
        role,
        &arguments::required("content", content)?,
        arguments::check_metadata(metadata)?,
    )?)
}

/// Returns the latest `max_messages` messages of a session, oldest first; all of them where it is NULL.
#[pg_extern(stable)]
fn chatbot_session_messages(
    session_id: Option<Uuid>,
    max_messages: default!(Option<i32>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(message_id, i64),
            name!(role, String),
            name!(content, String),
            name!(metadata, Jsonb),
            name!(created_at, TimestampWithTimeZone),
        ),
    >,
    ErrorReport,
> {
    let messages = session::messages(arguments::required("session_id", session_id)?, max_messages)?;
    Ok(TableIterator::new(messages))
}

/// Closes a session; returns false where it is not open.
#[pg_extern]
fn chatbot_session_close(session_id: Option<Uuid>) -> Result<bool, ErrorReport> {
    Ok(session::close(arguments::required("session_id", session_id)?)?)
}
