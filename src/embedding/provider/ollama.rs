//! Ollama's own API. Source: its `docs/api.md` (`POST /api/embed`). Its vectors always have length 1,
//! also when shortened.

use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Floats, parse, token_count};
use super::{Answer, Endpoint, InputType, Limits, Model, OptionKind, Provider, Request, bearer};

/// An Ollama server of one's own, or ollama.com with a key.
pub struct Ollama;

#[derive(Deserialize)]
struct Body {
    embeddings: Vec<Floats>,
    #[serde(default)]
    prompt_eval_count: Value,
}

impl Provider for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn default_url(&self) -> Option<&'static str> {
        Some("http://127.0.0.1:11434")
    }

    fn key_variables(&self) -> &'static [&'static str] {
        &["OLLAMA_API_KEY"]
    }

    fn needs_key(&self) -> bool {
        false
    }

    fn limits(&self, _model: &str) -> Limits {
        // Ollama documents no limits; these keep a request short enough for a small machine to answer in time.
        Limits { inputs: 2048, bytes: 300_000 }
    }

    fn prefixes(&self, model: &str) -> (&'static str, &'static str) {
        // The prefixes that the models' own pages document.
        match model.split(':').next() {
            Some("nomic-embed-text") => ("search_document: ", "search_query: "),
            Some("embeddinggemma") => ("title: none | text: ", "task: search result | query: "),
            Some("mxbai-embed-large") => ("", "Represent this sentence for searching relevant passages: "),
            _ => ("", ""),
        }
    }

    fn options(&self) -> &'static [(&'static str, OptionKind)] {
        &[("keep_alive", OptionKind::Text), ("num_ctx", OptionKind::Count), ("truncate", OptionKind::Boolean)]
    }

    fn promises_unit(&self, _model: &Model) -> bool {
        true
    }

    fn encode(&self, endpoint: &Endpoint, model: &Model, _: InputType, texts: &[&str]) -> Request {
        let mut body = json!({"model": model.name, "input": texts});
        for field in ["keep_alive", "truncate"] {
            if let Some(value) = model.options.get(field) {
                body[field] = value.clone();
            }
        }
        if let Some(size) = model.options.get("num_ctx") {
            body["options"] = json!({"num_ctx": size});
        }
        if let Some(dimensions) = model.asked() {
            body["dimensions"] = dimensions.into();
        }
        Request::json(format!("{}/api/embed", endpoint.url), bearer(endpoint), &body)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, String> {
        let body: Body = parse(body)?;
        Ok(Answer::in_order(body.embeddings, token_count(&body.prompt_eval_count)))
    }
}
