//! Checks of the vectors in a response.

use crate::error::{Fault, FaultKind};

/// The checks that the vectors of a response have to pass.
#[derive(Debug, Clone, Copy)]
pub struct ResponseChecks {
    /// The length that vectors must have; 0: any length, but the same for all.
    pub dimensions: usize,
    /// Whether the provider promises vectors of length 1, so that others are errors.
    pub unit: bool,
    /// Whether vectors are scaled to length 1.
    pub normalise: bool,
}

impl ResponseChecks {
    /// Returns the vector, scaled to length 1 if that is asked for, or what is wrong with it.
    pub fn check(&self, mut vector: Vec<f32>, dimensions: usize) -> Result<Vec<f32>, String> {
        if vector.len() != dimensions {
            return Err(format!("a vector of {} dimensions, expected {dimensions}", vector.len()));
        }
        if !vector.iter().all(|x| x.is_finite()) {
            return Err("a vector with a number that is not finite".to_owned());
        }
        let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if length == 0.0 {
            return Err("a vector of zeros".to_owned());
        }
        if self.unit && (length - 1.0).abs() > 0.01 {
            return Err(format!("a vector of length {length:.3}, where the model's have length 1"));
        }
        if self.normalise {
            // The provider's numbers have the precision of float4, so the result needs no more.
            #[allow(clippy::cast_possible_truncation)]
            vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
        Ok(vector)
    }
}

/// A fault without provider and model, which the caller fills in.
pub fn bad_answer(message: String) -> Fault {
    Fault { status: Some(200), ..Fault::new(FaultKind::BadAnswer, "", "", message) }
}
