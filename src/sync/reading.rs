//! What is made of a source's content without Postgres, and so can be made on any thread: its chunks, and the language and
//! the words of each.

use crate::error::Result;
use crate::search::lexicon::{WordReader, Words};
use crate::text::analyzer::language::{Languages, detect_chunks};
use crate::text::chunk::Params;
use crate::text::content::{ChunkedContent, Content};
use crate::text::title::with_title;

/// The chunks of a source's content.
pub struct CutContent {
    /// The chunks.
    pub chunked: ChunkedContent,
    /// Their languages, where these were to be detected and the content says none.
    pub languages: Option<Languages>,
}

/// Cuts a content into chunks and, if asked to, detects their languages.
pub fn cut(content: &Content, params: &Params, detects: bool) -> Result<CutContent> {
    let chunked = content.chunk(params)?;
    let texts = chunked.texts();
    let detects = detects && texts.iter().all(|(lang, _)| lang.is_none());
    let languages = detects.then(|| detect_chunks(&texts.iter().map(|(_, text)| *text).collect::<Vec<_>>()));
    drop(texts);
    Ok(CutContent { chunked, languages })
}

/// Reads the words of some chunks, each given by its place. Those of a chunk without a reader are read elsewhere.
pub fn words(chunked: &ChunkedContent, chunks: &[(usize, Option<WordReader>)]) -> Vec<Option<Words>> {
    let texts = chunked.texts();
    let words = |(at, reader): &(usize, Option<WordReader>)| {
        let (lang, text) = texts[*at];
        reader.as_ref().map(|reader| reader.read(&with_title(chunked.title_of(lang), text)))
    };
    chunks.iter().map(words).collect()
}
