//! The form of a model's index of vectors: what is indexed, with which operators, under which name.

use serde::{Deserialize, Serialize};

use crate::embedding::storage::Storage;
use crate::error::Result;
use crate::ids::ModelId;
use crate::pg::runtime::vector::vector_type;
use crate::pg::store::vectors;
use crate::search::quantization::Quantization;

/// pgvector's limit for an index of `vector`. Longer vectors are indexed as `halfvec`, up to twice as many dimensions.
const MAX_VECTOR_INDEX_DIMENSIONS: usize = 2000;

/// The form in which a model's vectors are indexed. What a coordinator of Citus with an older library does not say has its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexForm {
    /// The precision of the stored vectors.
    #[serde(default)]
    pub storage: Storage,
    /// The number of their dimensions.
    pub dimensions: usize,
    /// The form in which the index has them.
    #[serde(default)]
    pub quantization: Quantization,
}

impl IndexForm {
    /// The same vectors, with another index.
    pub fn with(self, quantization: Quantization) -> Self {
        Self { quantization, ..self }
    }

    /// The name of the index of a model.
    pub fn index_name(self, model_id: ModelId) -> String {
        format!("{}_{model_id}", self.quantization.index_prefix())
    }

    /// The type by which vectors are compared, and its operators' class.
    fn indexed_type(self) -> &'static str {
        let as_halves = self.storage == Storage::Half
            || self.quantization == Quantization::Half
            || self.dimensions > MAX_VECTOR_INDEX_DIMENSIONS;
        if as_halves { "halfvec" } else { "vector" }
    }

    /// The indexed expression of a stored vector.
    fn expression_of_stored(self) -> Result<String> {
        self.expression(vectors::column(self.storage))
    }

    fn expression(self, vector: &str) -> Result<String> {
        let (schema, dimensions) = (vector_type()?.schema, self.dimensions);
        Ok(match self.quantization {
            Quantization::Binary => {
                format!("({schema}.binary_quantize({vector})::pg_catalog.bit({dimensions}))")
            }
            Quantization::None | Quantization::Half => {
                format!("({vector}::{schema}.{}({dimensions}))", self.indexed_type())
            }
        })
    }

    /// The indexed expression and its operator class, as CREATE INDEX takes them.
    pub fn definition(self) -> Result<String> {
        let class = match self.quantization {
            Quantization::Binary => "bit_hamming_ops".to_owned(),
            Quantization::None | Quantization::Half => format!("{}_cosine_ops", self.indexed_type()),
        };
        Ok(format!("{} {}.{class}", self.expression_of_stored()?, vector_type()?.schema))
    }

    /// The distance to a vector in SQL by which the index orders.
    pub fn distance(self, vector: &str) -> Result<String> {
        let operator = match self.quantization {
            Quantization::Binary => "<~>",
            Quantization::None | Quantization::Half => "<=>",
        };
        let (stored, schema) = (self.expression_of_stored()?, vector_type()?.schema);
        Ok(format!("{stored} OPERATOR({schema}.{operator}) {}", self.expression(vector)?))
    }
}
