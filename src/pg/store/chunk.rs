//! The chunks of sources, with their vectors and words.

use std::borrow::Cow;

use crate::error::Result;
use crate::pg::runtime::lexemes::Configuration;
use crate::pg::runtime::tsvector::TsVector;
use crate::pg::runtime::vector::Vector;
use crate::pg::store::{StatementMode, not_null, run, write};
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
    /// What goes before its text where its words are read.
    pub title: Option<&'a str>,
    /// The chunk's text.
    pub content: &'a str,
    /// The chunk's vector.
    pub vector: Vec<f32>,
}

/// The metadata of a chunk, in SQL, of its source's: with its language, and with the title of that language where the source
/// has several, as an object by language that is not NULL then.
fn metadata_sql(metadata: &str, lang: &str, titles: &str) -> String {
    format!(
        "CASE WHEN {lang} IS NULL THEN {metadata}
            ELSE {metadata} || pg_catalog.jsonb_object(ARRAY['lang', {lang}]) END
        || CASE WHEN {titles} IS NULL THEN '{{}}'::jsonb
            ELSE pg_catalog.jsonb_object(ARRAY['title', COALESCE({titles} ->> {lang}, {titles} ->> '')]) END"
    )
}

/// The titles of a source by language, where it has several.
fn titles_of(item: &SourceInput) -> Option<Jsonb> {
    item.content.title()?.by_language().map(Jsonb::from)
}

/// Writes a source's metadata and `enabled` to its chunks.
pub fn update_chunk_attributes(item: &SourceInput) -> Result<()> {
    let sql = format!(
        "UPDATE chatbot_sync.embedding SET enabled = $5, metadata = {}
        WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3",
        metadata_sql("$4::jsonb", "lang", "$6::jsonb")
    );
    let args = [item.metadata.clone().into(), item.enabled.into(), titles_of(item).into()];
    write(&sql, &item.key.args_and(args)).map(drop)
}

/// What was embedded of each chunk of a source, with its vector; none where there is no such source.
pub fn vectors(key: &SourceKey, model_id: i32) -> Result<Option<Vec<(String, Vec<f32>)>>> {
    let sql =
        "SELECT content_hash FROM chatbot_sync.source WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3";
    let found: Option<Option<Vec<u8>>> =
        run(sql, &key.args(), StatementMode::ReadLatest, |mut rows| rows.next().map(|row| row.get(1)).transpose())?;
    let Some(hash) = found.flatten() else { return Ok(None) };
    let had_title = content::had_title(&hash);
    let sql = "SELECT content, metadata ->> 'title', embedding FROM chatbot_sync.embedding
        WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3 AND model_id = $4";
    run(sql, &key.args_and([model_id.into()]), StatementMode::ReadLatest, |rows| {
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

/// Returns the chunks of a source, in their order in its text.
pub fn chunks(key: &SourceKey, model_id: i32) -> Result<Vec<StoredChunk>> {
    let sql = "SELECT chunk_id, chunk_index, start_offset, end_offset, lang, content, metadata ->> 'title'
        FROM chatbot_sync.embedding
        WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3 AND model_id = $4 ORDER BY chunk_index";
    run(sql, &key.args_and([model_id.into()]), StatementMode::Write, |rows| {
        rows.map(|row| {
            Ok(StoredChunk {
                chunk_id: not_null(row.get(1))?,
                place: Place { index: not_null(row.get(2))?, start: not_null(row.get(3))?, end: not_null(row.get(4))? },
                lang: row.get(5)?,
                content: not_null(row.get(6))?,
                title: row.get(7)?,
            })
        })
        .collect()
    })
}

/// Returns the languages of a source's chunks, with `None` for chunks without a language.
pub fn languages(key: &SourceKey, model_id: i32) -> Result<Vec<Option<String>>> {
    let sql = "SELECT DISTINCT lang FROM chatbot_sync.embedding
        WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3 AND model_id = $4";
    run(sql, &key.args_and([model_id.into()]), StatementMode::ReadLatest, |rows| rows.map(|row| row.get(1)).collect())
}

/// Deletes chunks of a source, by their numbers.
pub fn delete_chunks(key: &SourceKey, model_id: i32, chunk_ids: Vec<i32>) -> Result<()> {
    if chunk_ids.is_empty() {
        return Ok(());
    }
    let sql = "DELETE FROM chatbot_sync.embedding WHERE chatbot_id = $1 AND source_type = $2 AND source_id = $3
        AND model_id = $4 AND chunk_id = ANY ($5)";
    write(sql, &key.args_and([model_id.into(), chunk_ids.into()])).map(drop)
}

/// Moves chunks to other places in their source; their vectors stay as they are.
pub fn move_chunks(key: &SourceKey, model_id: i32, moves: &[(i32, Place)]) -> Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let sql = "UPDATE chatbot_sync.embedding e
        SET chunk_index = m.chunk_index, start_offset = m.start_offset, end_offset = m.end_offset
        FROM unnest($2::text[], $3::bigint[], $4::int[], $5::int[], $6::int[], $7::int[], $8::int[])
            AS m (source_type, source_id, model_id, chunk_id, chunk_index, start_offset, end_offset)
        WHERE (e.source_type, e.source_id, e.model_id, e.chunk_id) = (m.source_type, m.source_id, m.model_id, m.chunk_id)
            AND e.chatbot_id = $1";
    let column = |of: fn(&(i32, Place)) -> i32| moves.iter().map(of).collect::<Vec<i32>>().into();
    let args = [
        key.chatbot_id.into(),
        vec![key.source_type.to_owned(); moves.len()].into(),
        vec![key.source_id; moves.len()].into(),
        vec![model_id; moves.len()].into(),
        column(|m| m.0),
        column(|m| m.1.index),
        column(|m| m.1.start),
        column(|m| m.1.end),
    ];
    write(sql, &args).map(drop)
}

/// Reads the words of chunks anew: which chunk, how, and its text, with the title before it where the source has one. Those that come out the same are not written.
pub fn read_words(key: &SourceKey, model_id: i32, chunks: &[(i32, &Configuration, Cow<str>)]) -> Result<()> {
    const CHUNKS: usize = 100;
    let sql = "UPDATE chatbot_sync.embedding e SET words = n.words
        FROM unnest($2::text[], $3::bigint[], $4::int[], $5::int[], $6)
            AS n (source_type, source_id, model_id, chunk_id, words)
        WHERE (e.source_type, e.source_id, e.model_id, e.chunk_id) = (n.source_type, n.source_id, n.model_id, n.chunk_id)
            AND e.chatbot_id = $1 AND e.words <> n.words";
    chunks.chunks(CHUNKS).try_for_each(|chunks| {
        let ids: Vec<i32> = chunks.iter().map(|(id, _, _)| *id).collect();
        let words: Vec<TsVector> = chunks.iter().map(|(_, how, text)| how.words(text)).collect();
        let args = [
            key.chatbot_id.into(),
            vec![key.source_type.to_owned(); chunks.len()].into(),
            vec![key.source_id; chunks.len()].into(),
            vec![model_id; chunks.len()].into(),
            ids.into(),
            words.into(),
        ];
        write(sql, &args).map(drop)
    })
}

/// Stores chunks with their vectors, in statements of about 200 KB: as fast as COPY, and privileges are checked.
pub fn insert_chunks(model_id: i32, sources: &[&SourceInput], chunks: Vec<NewChunk>) -> Result<()> {
    const STATEMENT_BYTES: usize = 200 * 1024;
    let sql = format!(
        "INSERT INTO chatbot_sync.embedding (chatbot_id, source_type, source_id, model_id, enabled, metadata,
            lang, chunk_id, chunk_index, start_offset, end_offset, content, embedding, words)
        SELECT ($2::bigint[])[n.source], ($3::text[])[n.source], ($4::bigint[])[n.source], $1, ($5::boolean[])[n.source],
            {metadata},
            n.lang, n.chunk_id, n.chunk_index, n.start_offset, n.end_offset, n.content, n.embedding,
            n.words
        FROM unnest($7, $8, $9, $10, $11, $12, $13, $14, $15)
            AS n (source, lang, chunk_id, chunk_index, start_offset, end_offset, content, embedding, words)",
        metadata = metadata_sql("($6::jsonb[])[n.source]", "n.lang", "($16::jsonb[])[n.source]")
    );
    let mut chunks = chunks.into_iter().peekable();
    while let Some(first) = chunks.peek().map(|c| c.source) {
        let (mut source, mut langs) = (vec![], vec![]);
        let mut words: Vec<TsVector> = vec![];
        let (mut ids, mut indexes, mut starts, mut ends) = (vec![], vec![], vec![], vec![]);
        let (mut contents, mut vectors): (Vec<String>, Vec<Vector>) = (vec![], vec![]);
        let (mut bytes, mut last) = (0, first);
        while let Some(c) = chunks.next_if(|_| bytes < STATEMENT_BYTES) {
            bytes += c.content.len() + c.vector.len() * size_of::<f32>();
            last = c.source;
            source.push(i32::try_from(c.source - first + 1).unwrap_or(i32::MAX));
            langs.push(c.lang.map(str::to_owned));
            ids.push(c.chunk_id);
            indexes.push(c.place.index);
            starts.push(c.place.start);
            ends.push(c.place.end);
            contents.push(c.content.to_owned());
            words.push(c.configuration.words(&with_title(c.title, c.content)));
            vectors.push(Vector(c.vector));
        }
        let of = &sources[first..=last];
        write(
            &sql,
            &[
                model_id.into(),
                of.iter().map(|s| s.key.chatbot_id).collect::<Vec<_>>().into(),
                of.iter().map(|s| s.key.source_type.to_owned()).collect::<Vec<_>>().into(),
                of.iter().map(|s| s.key.source_id).collect::<Vec<_>>().into(),
                of.iter().map(|s| s.enabled).collect::<Vec<_>>().into(),
                of.iter().map(|s| s.metadata.clone()).collect::<Vec<_>>().into(),
                source.into(),
                langs.into(),
                ids.into(),
                indexes.into(),
                starts.into(),
                ends.into(),
                contents.into(),
                vectors.into(),
                words.into(),
                of.iter().map(|s| titles_of(s)).collect::<Vec<_>>().into(),
            ],
        )?;
    }
    Ok(())
}
