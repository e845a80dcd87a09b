//! How the words of texts are read: a text search configuration for each language.

use std::cell::RefCell;
use std::collections::HashMap;

use super::guc;
use super::jsonb::Jsonb;
use super::store::search;
use super::store::source::SourceRow;
use super::sync::Item;
use crate::error::{Error, Result};
use crate::search::bm25;

/// Text search configurations by language, looked up once each.
pub struct Configurations {
    default: String,
    known: RefCell<HashMap<String, Option<String>>>,
}

impl Configurations {
    /// With the one that the settings name.
    pub fn new() -> Result<Self> {
        let name = guc::text_search_config();
        let default = search::configuration(&name)?.ok_or_else(|| {
            let expected = "the name of a text search configuration";
            Error::invalid("chatbot_sync.text_search_config", format!("\"{name}\""), expected)
        })?;
        Ok(Self { default, known: RefCell::default() })
    }

    /// Whether a source's words were read as they would be now. Of a translated one each text says its language itself.
    pub fn were(&self, row: &SourceRow, item: &Item) -> bool {
        item.content.is_translated()
            || row.configurations.is_empty()
            || self.of(None, &item.metadata).is_ok_and(|name| row.configurations == [name])
    }

    /// Of a text in this language, or else in the one that the metadata's lang names, or nobody knows.
    pub fn of(&self, lang: Option<&str>, metadata: &Jsonb) -> Result<String> {
        let said = || metadata.text("lang");
        let Some(lang) = lang.map(str::to_owned).or_else(said) else { return Ok(self.default.clone()) };
        if let Some(known) = self.known.borrow().get(&lang) {
            return Ok(known.clone().unwrap_or_else(|| self.default.clone()));
        }
        let found = match search::configuration(&lang)? {
            Some(found) => Some(found),
            None => bm25::configuration(&lang).map(search::configuration).transpose()?.flatten(),
        };
        self.known.borrow_mut().insert(lang, found.clone());
        Ok(found.unwrap_or_else(|| self.default.clone()))
    }
}
