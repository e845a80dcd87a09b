//! What an index has of each vector: the whole, a half, or a bit a dimension.

use serde::{Deserialize, Serialize};

/// How the vectors in a model's index are quantized.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quantization {
    /// As they are stored, or as halves where pgvector's index takes no vectors of their length.
    #[default]
    None,
    /// In half precision.
    Half,
    /// The sign of each dimension. The index compares bits, and its candidates are ordered by the stored vectors.
    Binary,
}

impl Quantization {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Half, Self::Binary];

    /// The quantization that a row of `chatbot_sync.model` names; `None` of an index that was made before there was a choice.
    pub fn of_model(name: Option<&str>) -> Self {
        match name {
            Some("half") => Self::Half,
            Some("binary") => Self::Binary,
            _ => Self::None,
        }
    }

    /// The beginning of the index's name, which ends with the model's id.
    pub fn index_prefix(self) -> &'static str {
        match self {
            Self::None => "embedding_hnsw",
            Self::Half => "embedding_hnsw_half",
            Self::Binary => "embedding_hnsw_binary",
        }
    }

    /// The number of candidates that the index is asked for, so that the best `results` are among them: see bench/README.md.
    pub fn candidates(self, results: i64) -> i64 {
        /// Candidates by bits for each result, and the most that an index can return.
        const OF_BITS: i64 = 4;
        const MOST: i64 = 1000;
        match self {
            Self::None | Self::Half => results,
            Self::Binary => results.max((results * OF_BITS).min(MOST)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_get_more_candidates_than_vectors() {
        assert_eq!(Quantization::None.candidates(50), 50);
        assert_eq!(Quantization::Half.candidates(50), 50);
        assert_eq!(Quantization::Binary.candidates(50), 200);
        // As many as an index can return, and never fewer than there are to be results.
        assert_eq!(Quantization::Binary.candidates(400), 1000);
        assert_eq!(Quantization::Binary.candidates(1200), 1200);
    }
}
