//! Static models in Model2Vec's layout: a text's vector is the mean of its tokens' vectors, each with its weight.

use super::kernels::Kernels;
use super::weights::Table;
use crate::error::local_model::{Result, malformed};

/// A static model whose numbers are in a mapped file.
pub struct StaticModel<'a> {
    /// Vectors, which tokens may share.
    pub vectors: Table<'a>,
    /// Each token's weight.
    pub weights: &'a [f32],
    /// Each token's vector.
    pub rows: &'a [i32],
    /// The token of what is not in the vocabulary, which counts as nothing.
    pub unknown: Option<u32>,
}

impl StaticModel<'_> {
    /// The vector of a text: all zero where it has no known token.
    pub fn encode(&self, kernels: Kernels, tokens: &[u32], most: usize) -> Result<Vec<f32>> {
        let width = self.vectors.width;
        let (mut sum, mut scratch) = (vec![0f32; width], vec![0f32; width]);
        let mut count = 0;
        for token in tokens.iter().filter(|token| Some(**token) != self.unknown).take(most) {
            let at = *token as usize;
            let row = self.rows.get(at).and_then(|row| usize::try_from(*row).ok());
            let (Some(row), Some(weight)) = (row.filter(|row| *row < self.vectors.rows()), self.weights.get(at)) else {
                return malformed(format!("token {token} has no vector: there are {}", self.vectors.rows()));
            };
            for (sum, x) in sum.iter_mut().zip(self.vectors.row(kernels, row, &mut scratch)) {
                *sum += weight * x;
            }
            count += 1;
        }
        if count > 0 {
            sum.iter_mut().for_each(|x| *x /= count as f32);
        }
        Ok(sum)
    }
}
