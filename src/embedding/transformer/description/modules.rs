//! `modules.json`: what comes after the network.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::network::Network;
use super::settings::{flag, object, text};
use crate::embedding::transformer::folder::Folder;
use crate::error::local_model::{Result, malformed, unsupported};

/// The way in which the vectors of a text's tokens become that of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pooling {
    /// The mean of the tokens' vectors.
    Mean,
    /// The first one.
    Cls,
    /// The largest number of each dimension.
    Max,
}

/// The ways of pooling that are published, by their names in `config.json`, and ours for those that are implemented.
const POOLINGS: [(&str, &str, Option<Pooling>); 6] = [
    ("mean", "pooling_mode_mean_tokens", Some(Pooling::Mean)),
    ("cls", "pooling_mode_cls_token", Some(Pooling::Cls)),
    ("max", "pooling_mode_max_tokens", Some(Pooling::Max)),
    ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", None),
    ("weightedmean", "pooling_mode_weightedmean_tokens", None),
    ("lasttoken", "pooling_mode_lasttoken", None),
];

/// The modules that come after the network.
pub struct Modules {
    pub pooling: Pooling,
    pub normalise: bool,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    r#type: String,
}

/// Reads a `modules.json`; where there is none the vectors are means, as sentence-transformers has it. Adds the files of
/// modules that are read.
pub fn read(folder: &Folder, network: &Network, files: &mut Vec<String>) -> Result<Modules> {
    let mut found = Modules { pooling: Pooling::Mean, normalise: false };
    let Some(content) = folder.settings("modules.json")? else { return Ok(found) };
    let modules: Vec<Module> = match serde_json::from_slice(&content) {
        Ok(modules) => modules,
        Err(error) => return malformed(format!("modules.json has no list of modules: {error}")),
    };
    let expected = match network {
        Network::Transformer(_) => "Transformer",
        Network::Static(_) => "StaticEmbedding",
    };
    for (number, Module { path, r#type }) in modules.iter().enumerate() {
        // The package's name has changed, the class' has not.
        let kind = r#type.rsplit('.').next().unwrap_or_default();
        match kind {
            kind if number == 0 && kind == expected => {
                if !path.is_empty() && path != "." {
                    return unsupported(format!(
                        "modules.json has the network in {path}, expected it in the folder itself"
                    ));
                }
            }
            _ if number == 0 => {
                return unsupported(format!("modules.json begins with {type}, expected {expected}", type = r#type));
            }
            "Pooling" if number == 1 && expected == "Transformer" => {
                check_path(path)?;
                let file = format!("{path}/config.json");
                let Some(config) = object(folder, &file)? else {
                    return malformed(format!("{} is missing", folder.describe(&file)));
                };
                found.pooling = read_pooling(&config, network.dimensions())?;
                files.push(file);
            }
            "Normalize" => found.normalise = true,
            _ => return unsupported(format!("modules.json has the module {}, which is not supported", r#type)),
        }
    }
    Ok(found)
}

/// Refuses a module's path that leads out of the folder.
fn check_path(path: &str) -> Result<()> {
    match crate::embedding::transformer::folder::check_name(path) {
        Ok(()) => Ok(()),
        Err(_) => malformed(format!("modules.json has the path {path:?}, expected the name of one folder")),
    }
}

fn read_pooling(config: &Map<String, Value>, dimensions: usize) -> Result<Pooling> {
    if let Some(other) = config.get("word_embedding_dimension")
        && other.as_u64() != Some(dimensions as u64)
    {
        return malformed(format!("the pooling is for {other} dimensions, and the network has {dimensions}"));
    }
    if config.get("include_prompt") == Some(&Value::Bool(false)) {
        return unsupported("the pooling leaves out prompts (include_prompt is false), which is not supported");
    }
    let mut chosen = Vec::new();
    for (name, setting, pooling) in POOLINGS {
        if flag(config, setting)? || text(config, "pooling_mode")? == Some(name) {
            chosen.push((name, pooling));
        }
    }
    match chosen[..] {
        [(_, Some(pooling))] => Ok(pooling),
        [] => unsupported("the pooling is none of mean, cls and max"),
        _ => {
            let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
            unsupported(format!("the pooling is {}, expected one of mean, cls and max", names.join(" and ")))
        }
    }
}
