//! How the words of texts are read: a text search configuration for each language.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use crate::error::{Error, Result};
use crate::pg::runtime::settings;
use crate::pg::store::search;
use crate::search::bm25;
use crate::source::Jsonb;

/// Changes when the words of a text are read differently, so that those of older sources are read anew.
pub const WORDS_VERSION: i32 = 1;
/// Of words that were read before the version was stored.
const FIRST_VERSION: i32 = 1;
/// What words are read with where the configuration that the settings name does not exist.
const FALLBACK: &str = "pg_catalog.simple";

/// How the words of a source's chunks were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordsRead {
    /// The [`WORDS_VERSION`] of that time; 0 where a configuration was changed since.
    pub version: i32,
    /// The text search configurations.
    pub configurations: Vec<String>,
}

impl WordsRead {
    /// Takes the version off the end of what `chatbot_sync.source.chunking` holds: what stays is how the text was cut.
    pub fn split_off(chunking: &mut Option<Vec<i32>>, configurations: Vec<String>) -> Self {
        const NUMBERS_OF_CUT: usize = 5;
        let rest = chunking.as_mut().filter(|numbers| numbers.len() > NUMBERS_OF_CUT);
        let version = rest.and_then(|numbers| numbers.split_off(NUMBERS_OF_CUT).first().copied());
        Self { version: version.unwrap_or(FIRST_VERSION), configurations }
    }
}

/// Text search configurations by language, looked up once each.
pub struct Configurations {
    default: String,
    known: RefCell<HashMap<String, Option<String>>>,
}

impl Configurations {
    /// With the one that the settings name, which has to exist.
    pub fn new() -> Result<Self> {
        let missing = |name| {
            let expected = "the name of a text search configuration";
            Error::invalid("chatbot_sync.text_search_config", format!("\"{name}\""), expected)
        };
        Self::with_default()?.map_err(missing)
    }

    /// With the one that the settings name. Where it was dropped or renamed, words are read with `simple`, and a WARNING
    /// says so: that is no reason to fail the statements of an application.
    pub fn or_fallback() -> Result<Self> {
        Ok(Self::with_default()?.unwrap_or_else(|name| {
            pgrx::warning!(
                "text search configuration \"{name}\" does not exist: words are read with simple (chatbot_sync.text_search_config)"
            );
            Self::with(FALLBACK.to_owned())
        }))
    }

    /// As [`Self::or_fallback`], for what only looks.
    pub fn or_silent_fallback() -> Result<Self> {
        Ok(Self::with_default()?.unwrap_or_else(|_| Self::with(FALLBACK.to_owned())))
    }

    fn with(default: String) -> Self {
        Self { default, known: RefCell::default() }
    }

    /// The name of the one that does not exist is the error.
    fn with_default() -> Result<Result<Self, String>> {
        let name = settings::text_search_config();
        Ok(search::configuration(&name)?.map(Self::with).ok_or(name))
    }

    /// Whether a source's words would be read as they were: the languages are those of its chunks, `None` for chunks that
    /// have none of their own.
    pub fn are_current(&self, read: &WordsRead, languages: &[Option<String>], metadata: &Jsonb) -> Result<bool> {
        if languages.is_empty() || read.configurations.is_empty() {
            return Ok(true);
        }
        let would = languages.iter().map(|lang| self.of(lang.as_deref(), metadata)).collect::<Result<BTreeSet<_>>>()?;
        Ok(read.version == WORDS_VERSION && would.iter().eq(read.configurations.iter().collect::<BTreeSet<_>>()))
    }

    /// Of a text in this language, or else in the one that the metadata's `lang` names, or in none that is known.
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
