//! The prompts that are put before a document and before a query.

use serde_json::Value;

use super::settings::{object, text};
use crate::embedding::transformer::folder::Folder;
use crate::error::local_model::{Result, malformed};

const ENGLISH_QUERY: &str = "Represent this sentence for searching relevant passages: ";
const CHINESE_QUERY: &str = "为这个句子生成表示以用于检索相关文章：";

/// Models whose cards ask for prefixes that their folders do not have: how a name begins, and what comes before a document
/// and a query.
const CARDS: [(&str, &str, &str); 9] = [
    ("e5-", "passage: ", "query: "),
    ("multilingual-e5-", "passage: ", "query: "),
    ("bge-small-en", "", ENGLISH_QUERY),
    ("bge-base-en", "", ENGLISH_QUERY),
    ("bge-large-en", "", ENGLISH_QUERY),
    ("bge-small-zh", "", CHINESE_QUERY),
    ("bge-base-zh", "", CHINESE_QUERY),
    ("bge-large-zh", "", CHINESE_QUERY),
    ("snowflake-arctic-embed", "", ENGLISH_QUERY),
];

/// The prefixes for documents and for queries: the folder's prompts, or else those of the model's card.
pub fn read(folder: &Folder, name: &str) -> Result<(String, String)> {
    let settings = object(folder, "config_sentence_transformers.json")?.unwrap_or_default();
    let prompts = match settings.get("prompts") {
        None | Some(Value::Null) => Default::default(),
        Some(Value::Object(prompts)) => prompts.clone(),
        Some(other) => return malformed(format!("the prompts are {other}, expected an object")),
    };
    let default = match text(&settings, "default_prompt_name")? {
        Some(name) => text(&prompts, name)?,
        None => None,
    };
    let of_folder = |names: [&str; 2]| -> Result<Option<String>> {
        for name in names {
            if let Some(prompt) = text(&prompts, name)? {
                return Ok(Some(prompt.to_owned()));
            }
        }
        Ok(default.map(str::to_owned))
    };
    let (document, query) = (of_folder(["document", "passage"])?, of_folder(["query", "search_query"])?);
    // Newer folders name prompts for both that are empty, which says nothing.
    if document.as_deref().unwrap_or("").is_empty() && query.as_deref().unwrap_or("").is_empty() {
        let (document, query) = of_card(name);
        return Ok((document.to_owned(), query.to_owned()));
    }
    Ok((document.unwrap_or_default(), query.unwrap_or_default()))
}

fn of_card(name: &str) -> (&'static str, &'static str) {
    let name = name.to_lowercase();
    // It wants a task's description before a query, which only the user knows.
    if name.ends_with("-instruct") {
        return ("", "");
    }
    let card = CARDS.iter().find(|(start, ..)| name.starts_with(start));
    card.map_or(("", ""), |(_, document, query)| (document, query))
}
