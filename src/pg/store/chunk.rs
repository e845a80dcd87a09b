//! The chunks of sources, with their vectors and words.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiHeapTupleData;

use crate::error::Result;
use crate::ids::ModelId;
use crate::pg::runtime::lexemes::Configuration;
use crate::pg::runtime::tsvector::TsVector;
use crate::pg::runtime::vector::Vector;
use crate::pg::store::model::ActiveModel;
use crate::pg::store::source_key::IS_SOURCE;
use crate::pg::store::{StatementMode, not_null, run, vectors, write};
use crate::source::{Jsonb, SourceInput, SourceKey};
use crate::text::content;
use crate::text::title::with_title;

/// A stored chunk without its vector.
pub struct StoredChunk {
    /// The chunk's number in its source, which it keeps when it moves.
    pub chunk_id: i32,
    /// The chunk's place in the source's text.
    pub place: Place,
    /// The chunk's language; `None` where its source is not translated.
    pub lang: Option<String>,
    /// The chunk's text.
    pub content: String,
    /// The title in the chunk's metadata, which its vector and words were made with where the source's hash says so.
    pub title: Option<String>,
}

impl StoredChunk {
    /// The language and the text: a chunk with the same ones can keep this chunk's vector.
    pub fn text(&self) -> (Option<&str>, &str) {
        (self.lang.as_deref(), &self.content)
    }
}

/// The place of a chunk in its source, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The chunk's position among the chunks of its source, from 0.
    pub index: i32,
    /// The offset of the first character in the source's text.
    pub start: i32,
    /// The offset of the character after the chunk's last one.
    pub end: i32,
}

/// A chunk to be stored.
pub struct NewChunk<'a> {
    /// The position of its source in the list of sources.
    pub source: usize,
    /// A number that no other chunk of the source has.
    pub chunk_id: i32,
    /// The chunk's place in the source's text.
    pub place: Place,
    /// The chunk's language; `None` where its source is not translated.
    pub lang: Option<&'a str>,
    /// The text search configuration that its words are read with.
    pub configuration: &'a Configuration,
    /// The title that goes before its text where its words are read; `None`: there is none.
    pub title: Option<&'a str>,
    /// The chunk's text.
    pub content: &'a str,
    /// The chunk's vector.
    pub vector: Vec<f32>,
}

/// The metadata of a chunk as an expression in SQL, made of its source's: with its language and, where the source has titles
/// in several languages, with the title in that one. `titles` is an object of titles by language, or NULL.
fn chunk_metadata_sql(metadata: &str, lang: &str, titles: &str) -> String {
    format!(
        "CASE
                WHEN {lang} IS NULL THEN {metadata}
                ELSE {metadata} || pg_catalog.jsonb_object(ARRAY['lang', {lang}])
            END
            || CASE
                WHEN {titles} IS NULL THEN '{{}}'::jsonb
                ELSE pg_catalog.jsonb_object(ARRAY['title', COALESCE({titles} ->> {lang}, {titles} ->> '')])
            END"
    )
}

/// Returns the titles of a source by language; `None` where it has one for all languages, or none.
fn titles_of(input: &SourceInput) -> Option<Jsonb> {
    input.content.title()?.by_language().map(Jsonb::from)
}

/// Writes a source's metadata and `enabled` to its chunks.
pub fn update_chunk_attributes(input: &SourceInput) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.embedding
        SET enabled = $5,
            metadata = {}
        WHERE {IS_SOURCE}",
        chunk_metadata_sql("$4::jsonb", "lang", "$6::jsonb")
    );
    let args = [input.metadata.clone().into(), input.enabled.into(), titles_of(input).into()];
    write(&sql, &input.key.args_and(args)).map(drop)
}

/// Makes searches find the chunks of a source, or not find them.
pub fn set_enabled(key: &SourceKey, enabled: bool) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.embedding
        SET enabled = $4
        WHERE {IS_SOURCE}
            AND enabled <> $4"
    );
    write(&sql, &key.args_and([enabled.into()])).map(drop)
}

/// Returns what was embedded of each chunk of a source, with its vector; `None` where there is no such source.
pub fn embedded_texts(key: &SourceKey, model_id: ModelId) -> Result<Option<Vec<(String, Vec<f32>)>>> {
    let sql = format!("SELECT content_hash FROM chatbot_sync.source WHERE {IS_SOURCE}");
    let found: Option<Option<Vec<u8>>> =
        run(&sql, &key.args(), StatementMode::ReadLatest, |mut rows| rows.next().map(|row| row.get(1)).transpose())?;
    let Some(hash) = found.flatten() else { return Ok(None) };
    let had_title = content::had_title(&hash);
    let sql = format!(
        "SELECT content, metadata ->> 'title', {vector}
        FROM chatbot_sync.embedding
        WHERE {IS_SOURCE}
            AND model_id = $4",
        vector = vectors::in_full_precision()?
    );
    run(&sql, &key.args_and([model_id.into()]), StatementMode::ReadLatest, |rows| {
        rows.map(|row| {
            let (text, title, Vector(vector)): (String, Option<String>, Vector) =
                (not_null(row.get(1))?, row.get(2)?, not_null(row.get(3))?);
            let title = title.as_deref().filter(|_| had_title);
            Ok((with_title(title, &text).into_owned(), vector))
        })
        .collect()
    })
    .map(Some)
}

/// The columns of a [`StoredChunk`].
const STORED_COLUMNS: &str = "chunk_id, chunk_index, start_offset, end_offset, lang, content, metadata ->> 'title'";

impl StoredChunk {
    /// Reads the chunk in the first seven columns of a row.
    fn read(row: &SpiHeapTupleData) -> pgrx::spi::Result<Self> {
        Ok(Self {
            chunk_id: not_null(row.get(1))?,
            place: Place { index: not_null(row.get(2))?, start: not_null(row.get(3))?, end: not_null(row.get(4))? },
            lang: row.get(5)?,
            content: not_null(row.get(6))?,
            title: row.get(7)?,
        })
    }
}

/// Returns the chunks of a source, in their order in its text.
pub fn chunks(key: &SourceKey, model_id: ModelId) -> Result<Vec<StoredChunk>> {
    let sql = format!(
        "SELECT {STORED_COLUMNS}
        FROM chatbot_sync.embedding
        WHERE {IS_SOURCE}
            AND model_id = $4
        ORDER BY chunk_index"
    );
    let args = key.args_and([model_id.into()]);
    run(&sql, &args, StatementMode::Write, |rows| rows.map(|row| StoredChunk::read(&row)).collect())
}

/// Returns the chunks of a source for each model that it has vectors of, in their order in its text.
pub fn chunks_by_model(key: &SourceKey) -> Result<BTreeMap<ModelId, Vec<StoredChunk>>> {
    let sql = format!(
        "SELECT {STORED_COLUMNS}, model_id
        FROM chatbot_sync.embedding
        WHERE {IS_SOURCE}
        ORDER BY chunk_index"
    );
    run(&sql, &key.args(), StatementMode::Write, |rows| {
        let mut by_model: BTreeMap<ModelId, Vec<StoredChunk>> = BTreeMap::new();
        for row in rows {
            by_model.entry(not_null(row.get(8))?).or_default().push(StoredChunk::read(&row)?);
        }
        Ok(by_model)
    })
}

/// Returns the languages of a source's chunks, with `None` for chunks without a language.
pub fn languages(key: &SourceKey, model_id: ModelId) -> Result<Vec<Option<String>>> {
    let sql = format!(
        "SELECT DISTINCT lang
        FROM chatbot_sync.embedding
        WHERE {IS_SOURCE}
            AND model_id = $4"
    );
    let args = key.args_and([model_id.into()]);
    run(&sql, &args, StatementMode::ReadLatest, |rows| rows.map(|row| row.get(1)).collect())
}

/// Deletes chunks of a source, by their numbers.
pub fn delete_chunks(key: &SourceKey, model_id: ModelId, chunk_ids: Vec<i32>) -> Result<()> {
    if chunk_ids.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "DELETE FROM chatbot_sync.embedding
        WHERE {IS_SOURCE}
            AND model_id = $4
            AND chunk_id = ANY ($5)"
    );
    write(&sql, &key.args_and([model_id.into(), chunk_ids.into()])).map(drop)
}

/// A chunk that has another place in its source.
pub struct ChunkMove {
    /// The chunk's number in its source.
    pub chunk_id: i32,
    /// The place that it has now.
    pub to: Place,
}

/// The condition that a row of the arguments, `n`, is of a stored chunk, `e`, of the chatbot `$1`.
const IS_CHUNK: &str =
    "(e.source_type, e.source_id, e.model_id, e.chunk_id) = (n.source_type, n.source_id, n.model_id, n.chunk_id)
            AND e.chatbot_id = $1";

/// The arguments for `count` chunks of a source: its chatbot, and arrays of its kind, its id and the model.
fn chunk_args<'a>(key: &SourceKey, model_id: ModelId, count: usize) -> Vec<DatumWithOid<'a>> {
    vec![
        key.chatbot_id.into(),
        vec![key.source_type; count].into(),
        vec![key.source_id; count].into(),
        vec![model_id; count].into(),
    ]
}

/// Moves chunks to other places in their source; their vectors stay as they are.
pub fn move_chunks(key: &SourceKey, model_id: ModelId, moves: &[ChunkMove]) -> Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "UPDATE chatbot_sync.embedding e
        SET chunk_index = n.chunk_index,
            start_offset = n.start_offset,
            end_offset = n.end_offset
        FROM unnest($2::text[], $3::bigint[], $4::int[], $5::int[], $6::int[], $7::int[], $8::int[])
            AS n (source_type, source_id, model_id, chunk_id, chunk_index, start_offset, end_offset)
        WHERE {IS_CHUNK}"
    );
    let column = |of: fn(&ChunkMove) -> i32| moves.iter().map(of).collect::<Vec<i32>>().into();
    let mut args = chunk_args(key, model_id, moves.len());
    args.extend([column(|m| m.chunk_id), column(|m| m.to.index), column(|m| m.to.start), column(|m| m.to.end)]);
    write(&sql, &args).map(drop)
}

/// A stored chunk whose words are read again.
pub struct ChunkToRead<'a> {
    /// The chunk's number in its source.
    pub chunk_id: i32,
    /// The text search configuration that its words are read with.
    pub configuration: &'a Configuration,
    /// Its text, after the title where its source has one.
    pub text: Cow<'a, str>,
}

/// Reads the words of chunks again. A chunk whose words come out the same is not written.
pub fn write_words(key: &SourceKey, model_id: ModelId, chunks: &[ChunkToRead]) -> Result<()> {
    const CHUNKS: usize = 100;
    let sql = format!(
        "UPDATE chatbot_sync.embedding e
        SET words = n.words
        FROM unnest($2::text[], $3::bigint[], $4::int[], $5::int[], $6)
            AS n (source_type, source_id, model_id, chunk_id, words)
        WHERE {IS_CHUNK}
            AND e.words <> n.words"
    );
    chunks.chunks(CHUNKS).try_for_each(|chunks| {
        let ids: Vec<i32> = chunks.iter().map(|chunk| chunk.chunk_id).collect();
        let words: Vec<TsVector> = chunks.iter().map(|chunk| chunk.configuration.words(&chunk.text)).collect();
        let mut args = chunk_args(key, model_id, chunks.len());
        args.extend([ids.into(), words.into()]);
        write(&sql, &args).map(drop)
    })
}

/// Stores chunks with their vectors, in statements of about 200 KB: as fast as COPY, and privileges are checked.
/// `read_words` is asked for the words of each chunk in turn.
pub fn insert_chunks(
    model: &ActiveModel,
    sources: &[&SourceInput],
    chunks: Vec<NewChunk>,
    mut read_words: impl FnMut(&NewChunk) -> Result<TsVector>,
) -> Result<()> {
    const STATEMENT_BYTES: usize = 200 * 1024;
    let storage = model.model.storage();
    // What is the same for all chunks of a source is passed once, and found by the source's position.
    let sql = format!(
        "INSERT INTO chatbot_sync.embedding (
            chatbot_id, source_type, source_id, model_id, enabled, metadata,
            lang, chunk_id, chunk_index, start_offset, end_offset, content, {column}, words
        )
        SELECT
            ($2::bigint[])[n.source],
            ($3::text[])[n.source],
            ($4::bigint[])[n.source],
            $1,
            ($5::boolean[])[n.source],
            {metadata},
            n.lang, n.chunk_id, n.chunk_index, n.start_offset, n.end_offset, n.content, {vector}, n.words
        FROM unnest($7, $8, $9, $10, $11, $12, $13, $14, $15)
            AS n (source, lang, chunk_id, chunk_index, start_offset, end_offset, content, embedding, words)",
        column = vectors::column(storage),
        vector = vectors::as_stored("n.embedding", storage)?,
        metadata = chunk_metadata_sql("($6::jsonb[])[n.source]", "n.lang", "($16::jsonb[])[n.source]")
    );
    let mut chunks = chunks.into_iter().peekable();
    while let Some(first) = chunks.peek().map(|c| c.source) {
        let (mut positions, mut langs, mut words): (Vec<i32>, Vec<Option<String>>, Vec<TsVector>) =
            (vec![], vec![], vec![]);
        let (mut ids, mut indexes, mut starts, mut ends) = (vec![], vec![], vec![], vec![]);
        let (mut contents, mut embeddings): (Vec<String>, Vec<Vector>) = (vec![], vec![]);
        let (mut bytes, mut last) = (0, first);
        while let Some(c) = chunks.next_if(|_| bytes < STATEMENT_BYTES) {
            bytes += c.content.len() + c.vector.len() * size_of::<f32>();
            last = c.source;
            positions.push(i32::try_from(c.source - first + 1).unwrap_or(i32::MAX));
            langs.push(c.lang.map(str::to_owned));
            ids.push(c.chunk_id);
            indexes.push(c.place.index);
            starts.push(c.place.start);
            ends.push(c.place.end);
            contents.push(c.content.to_owned());
            words.push(read_words(&c)?);
            embeddings.push(Vector(c.vector));
        }
        let of = &sources[first..=last];
        let args = [
            model.id.into(),
            of.iter().map(|s| s.key.chatbot_id).collect::<Vec<_>>().into(),
            of.iter().map(|s| s.key.source_type).collect::<Vec<_>>().into(),
            of.iter().map(|s| s.key.source_id).collect::<Vec<_>>().into(),
            of.iter().map(|s| s.enabled).collect::<Vec<_>>().into(),
            of.iter().map(|s| s.metadata.clone()).collect::<Vec<_>>().into(),
            positions.into(),
            langs.into(),
            ids.into(),
            indexes.into(),
            starts.into(),
            ends.into(),
            contents.into(),
            embeddings.into(),
            words.into(),
            of.iter().map(|s| titles_of(s)).collect::<Vec<_>>().into(),
        ];
        write(&sql, &args)?;
    }
    Ok(())
}
