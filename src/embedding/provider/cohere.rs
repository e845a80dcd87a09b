//! Cohere. Source: its API reference, version 2 (`POST /v2/embed`; at most 96 texts).

use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Floats, parse, token_count};
use super::{
    Answer, Endpoint, InputType, Limits, Model, ModelInfo, OptionKind, Provider, Request, ShorterVectors, bearer,
};

/// Cohere, at api.cohere.com.
pub struct Cohere;

#[derive(Deserialize)]
struct Body {
    embeddings: Embeddings,
    #[serde(default)]
    meta: Value,
}

#[derive(Deserialize)]
struct Embeddings {
    float: Vec<Floats>,
}

impl Provider for Cohere {
    fn name(&self) -> &'static str {
        "cohere"
    }

    fn default_url(&self) -> Option<&'static str> {
        Some("https://api.cohere.com")
    }

    fn key_variables(&self) -> &'static [&'static str] {
        &["CO_API_KEY", "COHERE_API_KEY"]
    }

    fn limits(&self, _model: &str) -> Limits {
        Limits { inputs: 96, bytes: 500_000 }
    }

    fn known(&self, model: &str) -> Option<ModelInfo> {
        match model {
            "embed-v4.0" => {
                Some(ModelInfo { dimensions: 1536, shorter: ShorterVectors::OneOf(&[256, 512, 1024, 1536]) })
            }
            "embed-english-v3.0" | "embed-multilingual-v3.0" => {
                Some(ModelInfo { dimensions: 1024, shorter: ShorterVectors::No })
            }
            "embed-english-light-v3.0" | "embed-multilingual-light-v3.0" => {
                Some(ModelInfo { dimensions: 384, shorter: ShorterVectors::No })
            }
            _ => None,
        }
    }

    fn options(&self) -> &'static [(&'static str, OptionKind)] {
        &[("truncate", OptionKind::OneOf(&["NONE", "START", "END"]))]
    }

    fn promises_unit(&self, _model: &Model) -> bool {
        false
    }

    fn normalise(&self, _model: &Model) -> bool {
        true
    }

    fn encode(&self, endpoint: &Endpoint, model: &Model, input: InputType, texts: &[&str]) -> Request {
        let input_type = match input {
            InputType::Document => "search_document",
            InputType::Query => "search_query",
        };
        let mut body =
            json!({"model": model.name, "texts": texts, "input_type": input_type, "embedding_types": ["float"]});
        if let Some(dimensions) = model.asked() {
            body["output_dimension"] = dimensions.into();
        }
        if let Some(truncate) = model.option("truncate") {
            body["truncate"] = truncate.into();
        }
        Request::json(format!("{}/v2/embed", endpoint.url), bearer(endpoint), &body)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, String> {
        let body: Body = parse(body)?;
        let tokens = token_count(&body.meta["billed_units"]["input_tokens"]);
        Ok(Answer::in_order(body.embeddings.float, tokens))
    }
}
