//! How sources were chunked and their words read.

use pgrx::datum::DatumWithOid;

use crate::error::Result;
use crate::pg::store::chunk::{StoredChunk, chunks, languages, read_words};
use crate::pg::store::configurations::Configurations;
use crate::pg::store::source::{self, BY_KEY, SAID_LANG, after_key, has_languages, key};
use crate::pg::store::text_search::{WORDS_VERSION, WordsRead};
use crate::pg::store::{StatementMode, not_null, run, write};
use crate::source::{Jsonb, SourceKey};
use crate::text::content;
use crate::text::title::with_title;

/// How one source was chunked and its words read.
pub struct StoredReading {
    /// The source's key.
    pub key: SourceKey,
    /// The host table that has its content; `None`: its caller had it.
    pub host: Option<i32>,
    /// The numbers of `chatbot_sync.source.chunking`, without the version of its words; `None`: it was never embedded.
    pub cut: Option<Vec<i32>>,
    /// How its words were read.
    pub words: WordsRead,
    /// The languages of its chunks, with `None` for chunks without a language.
    pub languages: Vec<Option<String>>,
    /// Whether its vectors and words were made with a title.
    pub had_title: bool,
    /// The member `lang` of its metadata, or an empty object.
    pub metadata: Jsonb,
}

fn columns() -> Result<String> {
    let lang = if has_languages()? { "lang" } else { "NULL::text" };
    Ok(format!(
        "chatbot_id, source_type, source_id, host, chunking, text_search_configs,
            CASE WHEN metadata ? 'lang' THEN pg_catalog.jsonb_build_object('lang', metadata -> 'lang') ELSE '{{}}' END,
            model_id, {lang}, {SAID_LANG}, content_hash"
    ))
}

/// A source as it is read, with the id of its model.
type Row = (StoredReading, Option<i32>);

fn stored(row: &pgrx::spi::SpiHeapTupleData) -> pgrx::spi::Result<Row> {
    let mut cut: Option<Vec<i32>> = row.get(5)?;
    let words = WordsRead::new(&mut cut, not_null(row.get(6))?, row.get(9)?, row.get(10)?);
    let reading = StoredReading {
        key: key(row)?,
        host: row.get(4)?,
        cut,
        words,
        languages: vec![None],
        had_title: content::had_title(&row.get::<Vec<u8>>(11)?.unwrap_or_default()),
        metadata: not_null(row.get(7))?,
    };
    Ok((reading, row.get(8)?))
}

/// Returns the next sources of a host table, in the order of their keys.
pub fn of_host(host: i32, after: Option<SourceKey>, limit: i64) -> Result<Vec<StoredReading>> {
    let (beyond, key_args) = after_key(after, 3);
    let columns = columns()?;
    let sql = format!("SELECT {columns} FROM chatbot_sync.source WHERE host = $1{beyond} {BY_KEY} $2");
    let args: Vec<_> = [host.into(), limit.into()].into_iter().chain(key_args).collect();
    let found: Vec<_> = run(&sql, &args, StatementMode::Read, |rows| rows.map(|row| stored(&row)).collect())?;
    found.into_iter().map(with_languages).collect()
}

fn with_languages((mut reading, model_id): Row) -> Result<StoredReading> {
    // Value 2 in the last number says that the content is translated: only then do chunks have languages.
    let translated = reading.cut.as_ref().and_then(|cut| cut.last()).is_some_and(|how| how & 2 != 0);
    if let (true, Some(model_id)) = (translated, model_id) {
        reading.languages = languages(&reading.key, model_id)?;
    }
    Ok(reading)
}

/// Returns the next sources that searches find, in the order of their keys: those of host tables that are synced, since
/// others are synced again anyway, and those without a host table that have chunks.
pub fn next_searchable_sources(
    chatbot_id: Option<i64>,
    after: Option<SourceKey>,
    limit: i64,
) -> Result<Vec<StoredReading>> {
    let mut args = vec![limit.into()];
    let of_chatbot = if chatbot_id.is_some() { " AND chatbot_id = $2" } else { "" };
    args.extend(chatbot_id.map(DatumWithOid::from));
    let (beyond, key_args) = after_key(after, args.len() + 1);
    args.extend(key_args);
    let columns = columns()?;
    let sql = format!(
        "SELECT {columns} FROM chatbot_sync.source
        WHERE enabled AND CASE WHEN host IS NULL THEN chunk_count > 0 ELSE status = 'synced' END{of_chatbot}{beyond}
        {BY_KEY} $1"
    );
    let found: Vec<_> = run(&sql, &args, StatementMode::ReadLatest, |rows| rows.map(|row| stored(&row)).collect())?;
    found.into_iter().map(with_languages).collect()
}

/// Returns one source; `None` where there is no such source.
pub fn read_one(key: &SourceKey) -> Result<Option<StoredReading>> {
    let columns = columns()?;
    let sql = format!(
        "SELECT {columns} FROM chatbot_sync.source WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3"
    );
    let found =
        run(&sql, &key.args(), StatementMode::ReadLatest, |mut rows| rows.next().map(|row| stored(&row)).transpose())?;
    found.map(with_languages).transpose()
}

/// Reads the words of a source's chunks again, from the chunks themselves, for the vectors of every model.
pub fn reread_words(stored: &StoredReading, words: &Configurations) -> Result<()> {
    let key = &stored.key;
    // Locks the source, so that a sync that is running comes before or after.
    source::read(key, &Jsonb::empty(), true)?;
    let sql = "SELECT DISTINCT model_id FROM chatbot_sync.embedding
        WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3";
    let models: Vec<i32> =
        run(sql, &key.args(), StatementMode::ReadLatest, |rows| rows.map(|row| not_null(row.get(1))).collect())?;
    let (mut configurations, mut lang): (Vec<String>, _) = (Vec::new(), None);
    for model_id in models {
        let chunks = chunks(key, model_id)?;
        let texts: Vec<(Option<&str>, &str)> = chunks.iter().map(StoredChunk::text).collect();
        let reading = words.read(&stored.metadata, &texts)?;
        let read = chunks.iter().zip(&reading.of_chunks).map(|(chunk, how)| {
            let title = chunk.title.as_deref().filter(|_| stored.had_title);
            (chunk.chunk_id, how, with_title(title, &chunk.content))
        });
        read_words(key, model_id, &read.collect::<Vec<_>>())?;
        let names = reading.names().into_iter().filter(|name| !configurations.contains(name));
        configurations.extend(names.collect::<Vec<_>>());
        lang = reading.lang;
    }
    let mut args = key.args_and([configurations.into(), WORDS_VERSION.into()]);
    let mut of_lang = "";
    if has_languages()? {
        of_lang = ", lang = $6";
        args.push(lang.into());
    }
    let sql = format!(
        "UPDATE chatbot_sync.source SET text_search_configs = $4, chunking[6] = $5{of_lang}
        WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3"
    );
    write(&sql, &args).map(drop)
}
