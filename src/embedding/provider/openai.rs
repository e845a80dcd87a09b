//! OpenAI's embeddings API, and the servers that implement it: vLLM, TEI, LM Studio, LocalAI, Together,
//! Mistral and more. Source: the API reference and its OpenAPI description (`POST /embeddings`; at most 2048
//! inputs, 300,000 tokens).

use serde_json::json;

use super::{
    Answer, Endpoint, InputType, Limits, Model, ModelInfo, OptionKind, Provider, Request, ShorterVectors, answer,
    bearer,
};

/// OpenAI, at api.openai.com.
pub struct OpenAi;

/// Returns what is documented about OpenAI's models, which Azure has too.
pub fn known(model: &str) -> Option<ModelInfo> {
    match model {
        "text-embedding-3-small" => Some(ModelInfo { dimensions: 1536, shorter: ShorterVectors::From(1) }),
        "text-embedding-3-large" => Some(ModelInfo { dimensions: 3072, shorter: ShorterVectors::From(1) }),
        "text-embedding-ada-002" => Some(ModelInfo { dimensions: 1536, shorter: ShorterVectors::No }),
        _ => None,
    }
}

/// OpenAI's limits of one request.
pub const LIMITS: Limits = Limits { inputs: 2048, bytes: 300_000 };

impl Provider for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn default_url(&self) -> Option<&'static str> {
        Some("https://api.openai.com/v1")
    }

    fn key_variables(&self) -> &'static [&'static str] {
        &["OPENAI_API_KEY"]
    }

    fn limits(&self, _model: &str) -> Limits {
        LIMITS
    }

    fn known(&self, model: &str) -> Option<ModelInfo> {
        known(model)
    }

    fn promises_unit(&self, model: &Model) -> bool {
        !model.shortened && known(&model.name).is_some()
    }

    fn normalise(&self, model: &Model) -> bool {
        model.shortened
    }

    fn encode(&self, endpoint: &Endpoint, model: &Model, _: InputType, texts: &[&str]) -> Request {
        let mut body = json!({"model": model.name, "input": texts, "encoding_format": "base64"});
        if let Some(dimensions) = model.asked() {
            body["dimensions"] = dimensions.into();
        }
        Request::json(format!("{}/embeddings", endpoint.url), bearer(endpoint), &body)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, String> {
        answer::openai(body)
    }
}

/// Any other server that implements this API.
pub struct Compatible;

impl Provider for Compatible {
    fn name(&self) -> &'static str {
        "openai_compatible"
    }

    fn default_url(&self) -> Option<&'static str> {
        None
    }

    fn key_variables(&self) -> &'static [&'static str] {
        &[]
    }

    fn needs_key(&self) -> bool {
        false
    }

    fn limits(&self, _model: &str) -> Limits {
        LIMITS
    }

    fn options(&self) -> &'static [(&'static str, OptionKind)] {
        &[
            ("encoding_format", OptionKind::OneOf(&["float", "base64"])),
            ("dimensions_field", OptionKind::OneOf(&["dimensions", "output_dimension"])),
            ("max_inputs", OptionKind::Count),
        ]
    }

    fn promises_unit(&self, _model: &Model) -> bool {
        false
    }

    fn encode(&self, endpoint: &Endpoint, model: &Model, _: InputType, texts: &[&str]) -> Request {
        let mut body = json!({"model": model.name, "input": texts});
        // Not every server accepts these fields, so they are sent only where they are configured.
        if let Some(format) = model.option("encoding_format") {
            body["encoding_format"] = format.into();
        }
        if let Some(dimensions) = model.asked() {
            body[model.option("dimensions_field").unwrap_or("dimensions")] = dimensions.into();
        }
        Request::json(format!("{}/embeddings", endpoint.url), bearer(endpoint), &body)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, String> {
        answer::openai(body)
    }
}
