//! The reading of words of stored chunks: by which version of the analyzer, and by which text search configurations.

use crate::error::Result;
use crate::pg::runtime::lexemes::Configuration;
use crate::pg::store::{StatementMode, not_null, run};

/// The version of the code that reads words. Raise it when it reads them differently, so that those of older sources
/// are read again.
pub const WORDS_VERSION: i32 = 3;
/// The version of words that the analyzer read before Vietnamese ones had both their forms: a query's words are read alike.
pub const FOLDED_VERSION: i32 = 2;
/// The version of words that were read before the version was stored: by the parser of Postgres.
pub const PARSER_VERSION: i32 = 1;
/// The version of words that were read before a configuration was changed: by the analyzer or the parser.
pub const UNKNOWN_VERSION: i32 = 0;

/// The way in which the words of a source's chunks were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordsRead {
    /// The [`WORDS_VERSION`] of that time; [`UNKNOWN_VERSION`] where a configuration was changed since.
    pub version: i32,
    /// The text search configurations that were used.
    pub configurations: Vec<String>,
    /// The language of most of them, as in `Reading::lang`.
    pub lang: Option<String>,
    /// The language that the metadata said then.
    pub said: Option<String>,
}

impl WordsRead {
    /// Splits the version off the end of `chatbot_sync.source.chunking`: what stays in `chunking` is how the
    /// text was chunked.
    pub fn new(
        chunking: &mut Option<Vec<i32>>,
        configurations: Vec<String>,
        lang: Option<String>,
        said: Option<String>,
    ) -> Self {
        const NUMBERS_OF_CUT: usize = 5;
        let rest = chunking.as_mut().filter(|numbers| numbers.len() > NUMBERS_OF_CUT);
        let version = rest.and_then(|numbers| numbers.split_off(NUMBERS_OF_CUT).first().copied());
        Self { version: version.unwrap_or(PARSER_VERSION), configurations, lang, said }
    }
}

/// Finds a text search configuration by its name; `None` where there is none. The name may be qualified, with quotes or
/// without, and without them in any case, as Postgres reads a `regconfig`; a name that is written as given goes first.
pub fn find_configuration(name: &str) -> Result<Option<Configuration>> {
    let sql = "SELECT q.qualified, c.oid
        FROM pg_catalog.pg_ts_config c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace
        CROSS JOIN LATERAL (
            SELECT
                pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.cfgname) AS qualified,
                ARRAY[
                    c.cfgname,
                    pg_catalog.quote_ident(c.cfgname),
                    n.nspname || '.' || c.cfgname,
                    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.cfgname)
                ] AS names
        ) AS q
        WHERE $1 = ANY (q.names)
            OR pg_catalog.lower($1) = ANY (q.names)
        ORDER BY $1 = ANY (q.names) DESC, n.nspname = 'pg_catalog' DESC, q.qualified
        LIMIT 1";
    run(sql, &[name.into()], StatementMode::Read, |mut rows| {
        rows.next().map(|row| Ok(Configuration { name: not_null(row.get(1))?, id: not_null(row.get(2))? })).transpose()
    })
}
