//! The chunks nearest to a vector.

use super::{Mode, one, run};
use crate::error::Result;
use crate::pg::jsonb::Jsonb;
use crate::pg::vector::{Vector, vector_type};

/// One answer of a search.
pub struct Found {
    /// `document` or `link`.
    pub source_type: String,
    /// The host row's id.
    pub source_id: i64,
    /// Place in the source.
    pub chunk_index: i32,
    /// The chunk's text.
    pub content: String,
    /// Cosine similarity.
    pub similarity: f32,
    /// The source's metadata.
    pub metadata: Jsonb,
}

/// What a search is restricted to.
pub struct Filter {
    /// The tenant.
    pub chatbot_id: i64,
    /// None: all.
    pub source_types: Option<Vec<String>>,
    /// What a source's metadata has to contain.
    pub metadata: Option<Jsonb>,
    /// The least cosine similarity.
    pub min_similarity: Option<f32>,
}

/// The chunks nearest to a vector, best first, by an exact scan of the chatbot's.
pub fn nearest(filter: Filter, model_id: i32, query: Vec<f32>, limit: i64) -> Result<Vec<Found>> {
    // A text without a known word has the zero vector, which is near to nothing: its distance is NaN, sorted last.
    let sql = format!(
        "SELECT source_type, source_id, chunk_index, content, (1 - distance)::real, metadata
        FROM (
            SELECT source_type, source_id, chunk_index, content, metadata, embedding OPERATOR({}.<=>) $3 AS distance
            FROM chatbot_sync.embedding
            WHERE chatbot_id = $1 AND model_id = $2 AND enabled
                AND ($5 IS NULL OR source_type = ANY ($5)) AND ($6 IS NULL OR metadata @> $6)
            ORDER BY distance LIMIT $4
        ) AS n
        WHERE distance <> 'NaN' AND ($7 IS NULL OR 1 - distance >= $7)
        ORDER BY distance, source_type, source_id, chunk_index",
        vector_type()?.schema
    );
    let args = [
        filter.chatbot_id.into(),
        model_id.into(),
        Vector(query).into(),
        limit.into(),
        filter.source_types.into(),
        filter.metadata.into(),
        filter.min_similarity.into(),
    ];
    run(&sql, &args, Mode::Read, |rows| {
        rows.map(|row| {
            Ok(Found {
                source_type: one(row.get(1))?,
                source_id: one(row.get(2))?,
                chunk_index: one(row.get(3))?,
                content: one(row.get(4))?,
                similarity: one(row.get(5))?,
                metadata: one(row.get(6))?,
            })
        })
        .collect()
    })
}
