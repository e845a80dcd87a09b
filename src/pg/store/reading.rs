//! The readings of sources: how they were chunked and their words read.

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiHeapTupleData;

use crate::error::Result;
use crate::ids::{ChatbotId, HostId, ModelId};
use crate::pg::store::chunk::{ChunkToRead, StoredChunk, chunks_by_model, languages, write_words};
use crate::pg::store::configurations::Configurations;
use crate::pg::store::source::{self, RowLock, SAID_LANG, has_languages};
use crate::pg::store::source_key::{IS_SOURCE, ORDER_BY_KEY, after_key, read_key};
use crate::pg::store::text_search::{WORDS_VERSION, WordsRead};
use crate::pg::store::{StatementMode, not_null, run, write};
use crate::source::{Jsonb, SourceKey};
use crate::text::content;
use crate::text::title::with_title;

/// The way in which one source was chunked and its words were read.
pub struct StoredReading {
    /// The source's key.
    pub key: SourceKey,
    /// The host table that has its content; `None`: its caller had it.
    pub host: Option<HostId>,
    /// The numbers of `chatbot_sync.source.chunking`, without the version of its words; `None`: it was never embedded.
    pub chunking: Option<Vec<i32>>,
    /// The way in which its words were read.
    pub words: WordsRead,
    /// The languages of its chunks, with `None` for chunks without a language.
    pub languages: Vec<Option<String>>,
    /// Whether its vectors and words were made with a title.
    pub had_title: bool,
    /// The member `lang` of its metadata, or an empty object.
    pub metadata: Jsonb,
}

/// The columns of [`StoredReading`] and its model, as [`read_row`] reads them.
fn columns_sql() -> Result<String> {
    let lang = if has_languages()? { "lang" } else { "NULL::text" };
    Ok(format!(
        "chatbot_id,
            source_type,
            source_id,
            host,
            chunking,
            text_search_configs,
            CASE WHEN metadata ? 'lang' THEN pg_catalog.jsonb_build_object('lang', metadata -> 'lang') ELSE '{{}}' END,
            model_id,
            {lang},
            {SAID_LANG},
            content_hash"
    ))
}

/// A source as it is read, without the languages of its chunks, and the id of its model.
struct ReadSource {
    reading: StoredReading,
    model_id: Option<ModelId>,
}

impl ReadSource {
    fn read(row: &SpiHeapTupleData) -> pgrx::spi::Result<Self> {
        let mut chunking: Option<Vec<i32>> = row.get(5)?;
        let words = WordsRead::new(&mut chunking, not_null(row.get(6))?, row.get(9)?, row.get(10)?);
        let reading = StoredReading {
            key: read_key(row)?,
            host: row.get(4)?,
            chunking,
            words,
            languages: vec![None],
            had_title: content::had_title(&row.get::<Vec<u8>>(11)?.unwrap_or_default()),
            metadata: not_null(row.get(7))?,
        };
        Ok(Self { reading, model_id: row.get(8)? })
    }

    /// Reads the languages of its chunks.
    fn with_languages(self) -> Result<StoredReading> {
        let Self { mut reading, model_id } = self;
        // Value 2 in the last number says that the content is translated: only then do chunks have languages.
        let translated = reading.chunking.as_ref().and_then(|numbers| numbers.last()).is_some_and(|how| how & 2 != 0);
        if let (true, Some(model_id)) = (translated, model_id) {
            reading.languages = languages(&reading.key, model_id)?;
        }
        Ok(reading)
    }
}

fn read_sources(sql: &str, args: &[DatumWithOid], mode: StatementMode) -> Result<Vec<StoredReading>> {
    let found: Vec<ReadSource> = run(sql, args, mode, |rows| rows.map(|row| ReadSource::read(&row)).collect())?;
    found.into_iter().map(ReadSource::with_languages).collect()
}

/// Returns the next sources of a host table, in the order of their keys.
pub fn readings_of_host(host: HostId, after: Option<SourceKey>, limit: i64) -> Result<Vec<StoredReading>> {
    let (beyond, key_args) = after_key(after, 3);
    let sql = format!(
        "SELECT
            {columns}
        FROM chatbot_sync.source
        WHERE host = $1 {beyond}
        {ORDER_BY_KEY}
        LIMIT $2",
        columns = columns_sql()?
    );
    let args: Vec<_> = [host.into(), limit.into()].into_iter().chain(key_args).collect();
    read_sources(&sql, &args, StatementMode::Read)
}

/// Returns the next sources that searches find, in the order of their keys: those of host tables that are synced, since
/// others are synced again anyway, and those without a host table that have chunks.
pub fn next_searchable_sources(
    chatbot_id: Option<ChatbotId>,
    after: Option<SourceKey>,
    limit: i64,
) -> Result<Vec<StoredReading>> {
    let mut args = vec![limit.into()];
    let of_chatbot = if chatbot_id.is_some() { "AND chatbot_id = $2" } else { "" };
    args.extend(chatbot_id.map(DatumWithOid::from));
    let (beyond, key_args) = after_key(after, args.len() + 1);
    args.extend(key_args);
    let sql = format!(
        "SELECT
            {columns}
        FROM chatbot_sync.source
        WHERE enabled
            AND CASE WHEN host IS NULL THEN chunk_count > 0 ELSE status = 'synced' END {of_chatbot} {beyond}
        {ORDER_BY_KEY}
        LIMIT $1",
        columns = columns_sql()?
    );
    read_sources(&sql, &args, StatementMode::ReadLatest)
}

/// Returns one source; `None` where there is no such source.
pub fn reading_of_source(key: &SourceKey) -> Result<Option<StoredReading>> {
    let sql = format!(
        "SELECT
            {columns}
        FROM chatbot_sync.source
        WHERE {IS_SOURCE}",
        columns = columns_sql()?
    );
    Ok(read_sources(&sql, &key.args(), StatementMode::ReadLatest)?.pop())
}

/// Reads the words of a source's chunks again, from the chunks themselves, for the vectors of every model.
pub fn reread_words(stored: &StoredReading, words: &Configurations) -> Result<()> {
    let key = &stored.key;
    // Locks the source, so that a sync that is running comes before or after.
    source::read_row(key, &Jsonb::empty(), RowLock::ForSync)?;
    let (mut configurations, mut lang): (Vec<String>, _) = (Vec::new(), None);
    for (model_id, chunks) in chunks_by_model(key)? {
        let texts: Vec<(Option<&str>, &str)> = chunks.iter().map(StoredChunk::text).collect();
        let reading = words.read(&stored.metadata, &texts, None)?;
        let to_read = chunks.iter().zip(&reading.of_chunks).map(|(chunk, configuration)| {
            let title = chunk.title.as_deref().filter(|_| stored.had_title);
            ChunkToRead { chunk_id: chunk.chunk_id, configuration, text: with_title(title, &chunk.content) }
        });
        write_words(key, model_id, &to_read.collect::<Vec<_>>())?;
        let names = reading.names().into_iter().filter(|name| !configurations.contains(name));
        configurations.extend(names.collect::<Vec<_>>());
        lang = reading.lang;
    }
    let mut args = key.args_and([configurations.into(), WORDS_VERSION.into()]);
    let mut set_lang = "";
    if has_languages()? {
        set_lang = ",\n            lang = $6";
        args.push(lang.into());
    }
    let sql = format!(
        "UPDATE chatbot_sync.source
        SET text_search_configs = $4,
            chunking[6] = $5{set_lang}
        WHERE {IS_SOURCE}"
    );
    write(&sql, &args).map(drop)
}
