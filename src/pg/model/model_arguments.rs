//! The arguments of `chatbot_set_model()`.

use crate::source::Jsonb;

/// The arguments of a call of `chatbot_set_model()`, not checked yet.
pub struct ModelArguments<'a> {
    /// The provider's name.
    pub provider: Option<&'a str>,
    /// The model's name at the provider.
    pub model: Option<&'a str>,
    /// `None`: the number that the model has by itself.
    pub dimensions: Option<i32>,
    /// `None`: the prefix that the provider's documentation recommends.
    pub document_prefix: Option<&'a str>,
    /// `None`: the prefix that the provider's documentation recommends.
    pub query_prefix: Option<&'a str>,
    /// Options of the provider, a JSON object.
    pub options: Option<Jsonb>,
}
