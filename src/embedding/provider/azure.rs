//! Azure OpenAI: OpenAI's protocol at the address of a resource; the model's name is that of a deployment. Source:
//! Microsoft's API reference, version v1 (`POST {resource}/openai/v1/embeddings`, header `api-key`).

use serde_json::json;

use super::{Answer, Endpoint, InputType, Limits, Model, ModelInfo, OptionKind, Provider, Request, answer, openai};

/// Azure OpenAI, at `https://RESOURCE.openai.azure.com`.
pub struct Azure;

impl Provider for Azure {
    fn name(&self) -> &'static str {
        "azure"
    }

    fn default_url(&self) -> Option<&'static str> {
        None
    }

    fn key_variables(&self) -> &'static [&'static str] {
        &["AZURE_OPENAI_API_KEY"]
    }

    fn limits(&self, _model: &str) -> Limits {
        openai::LIMITS
    }

    fn known(&self, model: &str) -> Option<ModelInfo> {
        openai::known(model)
    }

    fn options(&self) -> &'static [(&'static str, OptionKind)] {
        &[("api_version", OptionKind::Text)]
    }

    fn promises_unit(&self, model: &Model) -> bool {
        !model.shortened && openai::known(&model.name).is_some()
    }

    fn normalise(&self, model: &Model) -> bool {
        model.shortened
    }

    fn encode(&self, endpoint: &Endpoint, model: &Model, _: InputType, texts: &[&str]) -> Request {
        let mut body = json!({"model": model.name, "input": texts, "encoding_format": "base64"});
        if let Some(dimensions) = model.asked() {
            body["dimensions"] = dimensions.into();
        }
        // With the option `api_version` the older form of the address is used, which contains the deployment.
        let url = match model.option("api_version") {
            Some(version) => {
                let (name, version) = (percent_encode(&model.name), percent_encode(version));
                format!("{}/openai/deployments/{name}/embeddings?api-version={version}", endpoint.url)
            }
            None => format!("{}/openai/v1/embeddings", endpoint.url),
        };
        let headers = endpoint.key.iter().map(|key| ("api-key", key.clone())).collect();
        Request::json(url, headers, &body)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, String> {
        answer::openai(body)
    }
}

/// Percent-encodes a name as a part of an address (RFC 3986: everything but unreserved characters).
pub fn percent_encode(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
