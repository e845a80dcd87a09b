//! Sources of function calls, chunks and kinds of source.

use pgrx::name;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;
use crate::ids::ChatbotId;
use crate::pg::runtime::encoding::Text;
use crate::pg::runtime::{arguments, settings};
use crate::pg::{queue, source_types, store, sync};
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
    let deleted = store::delete::delete_chatbot(chatbot_id)?;
    Ok(TableIterator::once(("success".to_owned(), chatbot_id.0, deleted.embeddings, deleted.sessions)))
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
        source_type.map(|name| source_types::check_source_type("source_type", Some(&name))).transpose()?;
    Ok(queue::retry(chatbot_id.map(ChatbotId), source_type, source_id)?)
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
        .map(|(c, at)| (at, sync::sql_int(c.start_char), sync::sql_int(c.end_char), content[c.start..c.end].to_owned()))
        .map(|(at, start, end, text)| Ok((at, start?, end?, text)))
        .collect::<Result<_, Error>>()?;
    Ok(TableIterator::new(rows))
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
