//! Google Gemini. Source: its API reference (`POST /v1beta/models/{model}:batchEmbedContents`; at most 100 texts).

use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Floats, parse, token_count};
use super::azure::percent_encode;
use super::{Answer, Endpoint, InputType, Limits, Model, ModelInfo, Provider, Request, ShorterVectors};

/// Google Gemini, at generativelanguage.googleapis.com.
pub struct Gemini;

/// The model that takes the purpose of a text as `taskType`; later models take it as a prefix of the text.
const TASK_TYPED: &str = "gemini-embedding-001";

#[derive(Deserialize)]
struct Body {
    embeddings: Vec<Item>,
    #[serde(default, rename = "usageMetadata")]
    usage: Value,
}

#[derive(Deserialize)]
struct Item {
    values: Floats,
}

impl Provider for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn default_url(&self) -> Option<&'static str> {
        Some("https://generativelanguage.googleapis.com")
    }

    fn key_variables(&self) -> &'static [&'static str] {
        &["GOOGLE_API_KEY", "GEMINI_API_KEY"]
    }

    fn limits(&self, _model: &str) -> Limits {
        Limits { inputs: 100, bytes: 2_000_000 }
    }

    fn known(&self, model: &str) -> Option<ModelInfo> {
        let known = ModelInfo { dimensions: 3072, shorter: ShorterVectors::From(128) };
        [TASK_TYPED, "gemini-embedding-2"].contains(&model).then_some(known)
    }

    fn prefixes(&self, model: &str) -> (&'static str, &'static str) {
        if model.starts_with("gemini-embedding-2") {
            ("title: none | text: ", "task: search result | query: ")
        } else {
            ("", "")
        }
    }

    fn promises_unit(&self, model: &Model) -> bool {
        !model.shortened && model.name == TASK_TYPED
    }

    fn normalise(&self, model: &Model) -> bool {
        model.shortened
    }

    fn encode(&self, endpoint: &Endpoint, model: &Model, input: InputType, texts: &[&str]) -> Request {
        let task = match input {
            InputType::Document => "RETRIEVAL_DOCUMENT",
            InputType::Query => "RETRIEVAL_QUERY",
        };
        let request = |text: &&str| -> Value {
            let mut one = json!({"model": format!("models/{}", model.name), "content": {"parts": [{"text": text}]}});
            if model.name == TASK_TYPED {
                one["taskType"] = task.into();
            }
            if let Some(dimensions) = model.asked() {
                one["outputDimensionality"] = dimensions.into();
            }
            one
        };
        let url = format!("{}/v1beta/models/{}:batchEmbedContents", endpoint.url, percent_encode(&model.name));
        let headers = endpoint.key.iter().map(|key| ("x-goog-api-key", key.clone())).collect();
        Request::json(url, headers, &json!({"requests": texts.iter().map(request).collect::<Vec<_>>()}))
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, String> {
        let body: Body = parse(body)?;
        let tokens = token_count(&body.usage["promptTokenCount"]);
        Ok(Answer::in_order(body.embeddings.into_iter().map(|e| e.values), tokens))
    }
}
