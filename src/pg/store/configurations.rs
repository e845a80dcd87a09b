//! Which text search configuration reads a text: by the language that is said or detected, or as the settings name it.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use crate::error::{Error, Result};
use crate::pg::runtime::lexemes::Configuration;
use crate::pg::runtime::settings;
use crate::pg::store::source;
use crate::pg::store::text_search::{self, WORDS_VERSION, WordsRead};
use crate::source::Jsonb;
use crate::text::analyzer::language::{Languages, UNDETERMINED, configuration, detect_chunks};

/// The value of `chatbot_sync.text_search_config` that has languages detected.
const AUTO: &str = "auto";

/// The configuration of languages that Postgres has no other for, and of words where the one that the settings name
/// does not exist.
const SIMPLE: &str = "simple";

/// Text search configurations by language, looked up once each.
pub struct Configurations {
    /// The configuration of texts that do not say their language; `None`: it is detected.
    named: Option<Configuration>,
    simple: Configuration,
    known: RefCell<HashMap<String, Option<Configuration>>>,
    /// Whether the table of sources has their languages. That of an older version of the SQL has not.
    stores_languages: bool,
}

/// How the words of a source are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The language of most of it: said, or detected, `und` where that failed. None where a setting names the configuration.
    pub lang: Option<String>,
    /// The configuration of each chunk.
    pub of_chunks: Vec<Configuration>,
}

impl Reading {
    /// The names of the configurations, each once.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for Configuration { name, .. } in &self.of_chunks {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Whether chunks that are kept may have been read otherwise. The language of a short one depends on those beside it.
    pub fn differs(&self, read: &WordsRead) -> bool {
        let names = self.names();
        names.len() > 1 || read.version != WORDS_VERSION || read.configurations != names
    }
}

impl Configurations {
    /// Reads the settings. Fails where the configuration that they name does not exist.
    pub fn new() -> Result<Self> {
        let missing = |name| {
            let expected = "auto, or the name of a text search configuration";
            Error::invalid("chatbot_sync.text_search_config", format!("\"{name}\""), expected)
        };
        Self::by_settings()?.map_err(missing)
    }

    /// Reads the settings. Where the configuration that they name was dropped or renamed, words are read with `simple`, and a
    /// WARNING says so: that is no reason to fail the statements of an application.
    pub fn or_fallback() -> Result<Self> {
        Self::by_settings()?.or_else(|name| {
            pgrx::warning!(
                "text search configuration \"{name}\" does not exist: words are read with simple (chatbot_sync.text_search_config)"
            );
            Self::with_simple()
        })
    }

    /// Reads the settings as [`Self::or_fallback`] does, without a WARNING: for callers that write nothing.
    pub fn or_silent_fallback() -> Result<Self> {
        Self::by_settings()?.or_else(|_| Self::with_simple())
    }

    /// Reads the settings; the inner error is the name of a configuration that does not exist.
    fn by_settings() -> Result<Result<Self, String>> {
        let name = settings::text_search_config();
        if name == AUTO {
            return Self::with(None).map(Ok);
        }
        Ok(match text_search::find_configuration(&name)? {
            Some(named) => Ok(Self::with(Some(named))?),
            None => Err(name),
        })
    }

    fn with_simple() -> Result<Self> {
        let mut all = Self::with(None)?;
        all.named = Some(all.simple.clone());
        Ok(all)
    }

    fn with(named: Option<Configuration>) -> Result<Self> {
        let missing = || Error::Internal("the text search configuration simple is gone".to_owned());
        let simple = text_search::find_configuration(SIMPLE)?.ok_or_else(missing)?;
        Ok(Self { named, simple, known: RefCell::default(), stores_languages: source::has_languages()? })
    }

    /// Whether the languages of a source with this metadata are detected, unless its texts say them.
    pub fn detects(&self, metadata: &Jsonb) -> bool {
        self.named.is_none() && metadata.text("lang").is_none()
    }

    /// Decides how the words of chunks are read, each with the language that its text says. What texts or the metadata say about
    /// their language is so; else the setting names the configuration, or the language of each chunk is what was detected.
    pub fn read(
        &self,
        metadata: &Jsonb,
        chunks: &[(Option<&str>, &str)],
        detected: Option<Languages>,
    ) -> Result<Reading> {
        let said = metadata.text("lang");
        if said.is_some() || chunks.iter().any(|(lang, _)| lang.is_some()) {
            let langs: Vec<Option<&str>> = chunks.iter().map(|(lang, _)| lang.or(said.as_deref())).collect();
            let lang = said.clone().or_else(|| most_common(&langs).map(str::to_owned));
            let of_chunks = langs.iter().map(|lang| self.of(*lang)).collect::<Result<_>>()?;
            return Ok(Reading { lang, of_chunks });
        }
        if let Some(named) = &self.named {
            return Ok(Reading { lang: None, of_chunks: vec![named.clone(); chunks.len()] });
        }
        let Languages { most, of_chunks } =
            detected.unwrap_or_else(|| detect_chunks(&chunks.iter().map(|(_, text)| *text).collect::<Vec<_>>()));
        let of_chunks = of_chunks.into_iter().map(|lang| self.of(lang)).collect::<Result<_>>()?;
        Ok(Reading { lang: Some(most.unwrap_or(UNDETERMINED).to_owned()), of_chunks })
    }

    /// Whether the words of a source whose text did not change would be read as they were: the languages are those that its
    /// chunks say, `None` for chunks that say none.
    pub fn are_current(&self, read: &WordsRead, languages: &[Option<String>], metadata: &Jsonb) -> Result<bool> {
        if languages.is_empty() || read.configurations.is_empty() {
            return Ok(true);
        }
        let said = metadata.text("lang");
        if read.version != WORDS_VERSION || read.said != said {
            return Ok(false);
        }
        if said.is_none() && languages.iter().all(Option::is_none) {
            let was_detected = if self.stores_languages { read.lang.is_some() } else { self.named.is_none() };
            if was_detected != self.named.is_none() {
                return Ok(false);
            }
            if was_detected {
                // From the same text, the same is detected again.
                return Ok(true);
            }
        }
        let lang = |of_chunk: &Option<String>| of_chunk.clone().or_else(|| said.clone());
        let would = languages.iter().map(|of_chunk| Ok(self.of(lang(of_chunk).as_deref())?.name));
        Ok(would.collect::<Result<BTreeSet<_>>>()? == read.configurations.iter().cloned().collect())
    }

    /// The configuration of a language, by its code or the name of a configuration.
    fn of(&self, lang: Option<&str>) -> Result<Configuration> {
        let default = || self.named.clone().unwrap_or_else(|| self.simple.clone());
        let Some(lang) = lang else { return Ok(default()) };
        if let Some(known) = self.known.borrow().get(lang) {
            return Ok(known.clone().unwrap_or_else(default));
        }
        let found = match text_search::find_configuration(lang)? {
            Some(found) => Some(found),
            None => configuration(lang).map(text_search::find_configuration).transpose()?.flatten(),
        };
        self.known.borrow_mut().insert(lang.to_owned(), found.clone());
        Ok(found.unwrap_or_else(default))
    }
}

fn most_common<'a>(langs: &[Option<&'a str>]) -> Option<&'a str> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for lang in langs.iter().flatten() {
        *counts.entry(lang).or_default() += 1;
    }
    counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(a.0))).map(|(lang, _)| lang)
}
