//! Models, vectors and searches.

use pgrx::name;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::embedding::provider::InputType;
use crate::pg::runtime::arguments;
use crate::pg::runtime::encoding::Text;
use crate::pg::runtime::vector::Vector;
use crate::pg::{model, search};
use crate::source::Jsonb;

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
    let arguments = search::SearchArguments {
        chatbot_id,
        query: query.as_deref(),
        max_results,
        source_types,
        metadata_filter,
        min_similarity,
        mode: mode.as_deref(),
    };
    Ok(TableIterator::new(search::search(arguments)?.into_iter().map(search::SearchResult::into_row)))
}
