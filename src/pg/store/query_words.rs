//! The words of a query, read as the words of the chatbot's sources were.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::error::Result;
use crate::pg::runtime::lexemes::Configuration;
use crate::pg::store::search::Scope;
use crate::pg::store::text_search::{FOLDED_VERSION, PARSER_VERSION, UNKNOWN_VERSION, WORDS_VERSION};
use crate::pg::store::{StatementMode, not_null, run, statistics};
use crate::search::term::{Term, Word};
use crate::search::words::{Alternatives, alternatives, by_form, own_form, positions};

/// The characters that separated words when Postgres' parser read them, as arguments of translate().
const SEPARATORS: &str = "'-_/\\.:@#', '        '";

/// The number of a query's words that are searched for; further ones are ignored.
const MAX_QUERY_WORDS: usize = 64;
/// Languages that the texts which are found are read in: each word of them is looked up in each.
const MAX_LANGUAGES: usize = 3;
/// Sources of a large chatbot whose languages a query is read in, besides those that are common in all chatbots.
const SAMPLED_SOURCES: i64 = 1_000;

/// The text search configurations by which the words of a chatbot's sources were read.
struct StoredConfigurations {
    /// The text search configurations of words that the extension's analyzer read.
    by_analyzer: Vec<Configuration>,
    /// The text search configurations of words that Postgres' parser read, as long as these are not read again.
    by_parser: Vec<Configuration>,
    /// The number of sources that each was used for, by its name; of a large chatbot among its first ones.
    sources: HashMap<String, i64>,
}

/// Returns how the words of the chatbot's sources were read. For a `large` chatbot that is what Postgres' statistics say of
/// all chatbots, and how those of its first sources were read.
fn stored_configurations(scope: &Scope, large: bool) -> Result<StoredConfigurations> {
    let table = &scope.tables.source;
    let limit = if large { format!("LIMIT {SAMPLED_SOURCES}") } else { String::new() };
    let sql = format!(
        "SELECT c.name, s.version, pg_catalog.count(*)
        FROM (
            SELECT text_search_configs, COALESCE(chunking[6], {PARSER_VERSION}) AS version
            FROM {table}
            WHERE chatbot_id = $1
                AND enabled
                AND chunk_count > 0
            {limit}
        ) AS s, LATERAL pg_catalog.unnest(s.text_search_configs) AS c (name)
        GROUP BY c.name, s.version"
    );
    let mut sources: HashMap<String, i64> = HashMap::new();
    let mut names: Vec<(String, i32)> = run(&sql, &[scope.filter.chatbot_id.into()], StatementMode::Scan, |rows| {
        rows.map(|row| {
            let name: String = not_null(row.get(1))?;
            *sources.entry(name.clone()).or_default() += not_null::<i64>(row.get(3))?;
            Ok((name, not_null(row.get(2))?))
        })
        .collect()
    })?;
    if large {
        let common = statistics::common_elements(table, c"text_search_configs");
        let are_current = statistics::arrays(table, c"chunking").is_some_and(|chunkings| {
            let is_current = |numbers: &[i32]| numbers.get(5) == Some(&WORDS_VERSION);
            chunkings.iter().all(|numbers| is_current(numbers))
        });
        let version = if are_current { WORDS_VERSION } else { UNKNOWN_VERSION };
        names.extend(common.into_iter().map(|name| (name, version)));
    }
    let sql = "SELECT q.name, q.oid
        FROM (
            SELECT cfgnamespace::pg_catalog.regnamespace || '.' || pg_catalog.quote_ident(cfgname) AS name, oid
            FROM pg_catalog.pg_ts_config
        ) AS q
        WHERE q.name = ANY ($1)
        ORDER BY q.name";
    let all: Vec<String> = names.iter().map(|(name, _)| name.clone()).collect();
    let found: Vec<Configuration> = run(sql, &[all.into()], StatementMode::Read, |rows| {
        rows.map(|row| Ok(Configuration { name: not_null(row.get(1))?, id: not_null(row.get(2))? })).collect()
    })?;
    let with_version = |versions: &[i32]| {
        let is_used = |configuration: &&Configuration| {
            let mut used = names.iter().filter(|(name, _)| *name == configuration.name);
            used.any(|(_, of)| versions.contains(of) || *of == UNKNOWN_VERSION)
        };
        found.iter().filter(is_used).cloned().collect()
    };
    Ok(StoredConfigurations {
        by_analyzer: with_version(&[FOLDED_VERSION, WORDS_VERSION]),
        by_parser: with_version(&[PARSER_VERSION]),
        sources,
    })
}

/// The words of a query, as the chatbot's sources may have them.
#[derive(Default)]
pub struct QueryWords {
    /// Each word as the terms that it may be in the index: in all languages that the chatbot has, and in none.
    pub words: Vec<Word>,
    /// The text search configurations by which texts that are found are read, at most [`MAX_LANGUAGES`]: first those of
    /// languages in which the query has the most stop words, then those that most sources have.
    pub configurations: Vec<Configuration>,
}

/// Returns the words of a query.
pub fn query_words(scope: &Scope, query: &str, large: bool) -> Result<QueryWords> {
    let StoredConfigurations { by_analyzer, by_parser, sources } = stored_configurations(scope, large)?;
    if by_analyzer.is_empty() && by_parser.is_empty() {
        return Ok(QueryWords::default());
    }
    let mut read: Vec<_> = by_analyzer.iter().map(|configuration| configuration.terms(query)).collect();
    read.push(own_form(query));
    let mut words = alternatives(&read);
    let sql = format!(
        "SELECT DISTINCT u.lexeme
        FROM pg_catalog.unnest($1::oid[]) AS c (id)
        CROSS JOIN LATERAL pg_catalog.unnest(
            pg_catalog.to_tsvector(c.id::pg_catalog.regconfig, pg_catalog.translate($2, {SEPARATORS}))
        ) AS u
        ORDER BY 1"
    );
    if !by_parser.is_empty() {
        let ids: Vec<pgrx::pg_sys::Oid> = by_parser.iter().map(|c| c.id).collect();
        let lexemes: Vec<String> = run(&sql, &[ids.into(), query.into()], StatementMode::Read, |rows| {
            rows.map(|row| not_null(row.get(1))).collect()
        })?;
        let known: Vec<Term> = words.iter().flat_map(|word| &word.terms).cloned().collect();
        let others = lexemes.into_iter().map(Term::lexeme).filter(|term| !known.contains(term));
        words.extend(others.map(|term| Alternatives { terms: vec![term], token: None }));
    }
    words.truncate(MAX_QUERY_WORDS);
    let stop_words = |terms: &[Vec<Term>]| terms.iter().filter(|terms| terms.is_empty()).count();
    let mut configurations: Vec<(usize, Configuration)> =
        read.iter().map(|terms| stop_words(terms)).zip(by_analyzer).collect();
    configurations.sort_by_key(|(stop_words, configuration)| {
        Reverse((*stop_words, sources.get(&configuration.name).copied().unwrap_or(0)))
    });
    configurations.truncate(MAX_LANGUAGES);
    let configurations = configurations.into_iter().map(|(_, configuration)| configuration).collect();
    Ok(QueryWords { words: by_form(words, &positions(query)), configurations })
}
