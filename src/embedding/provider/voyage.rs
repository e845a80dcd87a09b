//! Voyage AI. Source: its API reference (`POST /v1/embeddings`; at most 1000 texts, tokens by model).

use serde_json::json;

use super::{
    Answer, Endpoint, InputType, Limits, Model, ModelInfo, OptionKind, Provider, Request, ShorterVectors, answer,
    bearer,
};

/// Voyage AI, at api.voyageai.com.
pub struct Voyage;

impl Provider for Voyage {
    fn name(&self) -> &'static str {
        "voyage"
    }

    fn default_url(&self) -> Option<&'static str> {
        Some("https://api.voyageai.com/v1")
    }

    fn key_variables(&self) -> &'static [&'static str] {
        &["VOYAGE_API_KEY"]
    }

    fn limits(&self, model: &str) -> Limits {
        let bytes = match model {
            "voyage-4-lite" | "voyage-3.5-lite" => 1_000_000,
            "voyage-4" | "voyage-3.5" => 320_000,
            _ => 120_000,
        };
        Limits { inputs: 1000, bytes }
    }

    fn known(&self, model: &str) -> Option<ModelInfo> {
        match model {
            "voyage-4-large" | "voyage-4" | "voyage-4-lite" | "voyage-3-large" | "voyage-3.5" | "voyage-3.5-lite"
            | "voyage-code-3" => {
                Some(ModelInfo { dimensions: 1024, shorter: ShorterVectors::OneOf(&[256, 512, 1024, 2048]) })
            }
            "voyage-finance-2" | "voyage-law-2" | "voyage-3" => {
                Some(ModelInfo { dimensions: 1024, shorter: ShorterVectors::No })
            }
            "voyage-3-lite" => Some(ModelInfo { dimensions: 512, shorter: ShorterVectors::No }),
            _ => None,
        }
    }

    fn options(&self) -> &'static [(&'static str, OptionKind)] {
        &[("truncation", OptionKind::Boolean)]
    }

    fn promises_unit(&self, model: &Model) -> bool {
        !model.shortened
    }

    fn normalise(&self, model: &Model) -> bool {
        model.shortened
    }

    fn encode(&self, endpoint: &Endpoint, model: &Model, input: InputType, texts: &[&str]) -> Request {
        let input_type = match input {
            InputType::Document => "document",
            InputType::Query => "query",
        };
        let mut body =
            json!({"model": model.name, "input": texts, "input_type": input_type, "encoding_format": "base64"});
        if let Some(dimensions) = model.asked() {
            body["output_dimension"] = dimensions.into();
        }
        if let Some(truncation) = model.options.get("truncation") {
            body["truncation"] = truncation.clone();
        }
        Request::json(format!("{}/embeddings", endpoint.url), bearer(endpoint), &body)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, String> {
        answer::openai(body)
    }
}
