//! The precision in which the vectors of a model are stored: the option `storage` of `chatbot_set_model()`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::embedding::provider::Model;
use crate::error::{Error, Result};

/// The name of the option.
pub const STORAGE: &str = "storage";
/// The value of the option for [`Storage::Half`].
const HALF: &str = "half";

/// The precision in which vectors are stored, compared and indexed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    /// As the model made them: four bytes a dimension.
    #[default]
    Full,
    /// Rounded to half precision: two bytes a dimension.
    Half,
}

impl Storage {
    /// Takes the option out of those that were given, so that what is left is the provider's own. Full precision where it
    /// is not given.
    pub fn take_option(options: &mut Map<String, Value>) -> Result<Self> {
        match options.remove(STORAGE) {
            None => Ok(Self::Full),
            Some(Value::String(value)) if value == "full" => Ok(Self::Full),
            Some(Value::String(value)) if value == HALF => Ok(Self::Half),
            Some(value) => Err(Error::invalid(
                "options",
                format!("{{\"{STORAGE}\": {value}}}"),
                format!("\"{STORAGE}\" to be one of full, {HALF}"),
            )),
        }
    }

    /// The bytes of a stored vector.
    pub fn vector_bytes(self, dimensions: usize) -> usize {
        /// The length word and the number of dimensions.
        const HEADER: usize = 8;
        let of_number = match self {
            Self::Full => size_of::<f32>(),
            Self::Half => size_of::<u16>(),
        };
        HEADER + of_number * dimensions
    }
}

impl Model {
    /// The precision in which its vectors are stored.
    pub fn storage(&self) -> Storage {
        if self.options.get(STORAGE).is_some_and(|value| value == HALF) { Storage::Half } else { Storage::Full }
    }

    /// The same model with vectors in this precision. Full precision is not written down, so that a model which asks for it
    /// is the one that does not.
    #[must_use]
    pub fn with_storage(mut self, storage: Storage) -> Self {
        self.options.remove(STORAGE);
        if storage == Storage::Half {
            self.options.insert(STORAGE.to_owned(), HALF.into());
        }
        self
    }

    /// Whether the vectors of another model are this one's, but for their precision.
    pub fn has_vectors_of(&self, other: &Self) -> bool {
        self.clone().with_storage(Storage::Full) == other.clone().with_storage(Storage::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn storage_is_taken_out_of_the_options() {
        let mut given = options(&json!({"storage": "half", "max_inputs": 3}));
        assert_eq!(Storage::take_option(&mut given).unwrap(), Storage::Half);
        assert_eq!(given, options(&json!({"max_inputs": 3})));
        assert_eq!(Storage::take_option(&mut given).unwrap(), Storage::Full);
        assert_eq!(Storage::take_option(&mut options(&json!({"storage": "full"}))).unwrap(), Storage::Full);
    }

    #[test]
    fn unknown_storage_is_refused() {
        for value in [json!("double"), json!(2), json!(null)] {
            let error = Storage::take_option(&mut options(&json!({"storage": value}))).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("options is {{\"storage\": {value}}}, expected \"storage\" to be one of full, half")
            );
        }
    }
}
