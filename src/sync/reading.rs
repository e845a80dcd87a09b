//! What is made of a source's content without Postgres, and so can be made on any thread: its chunks, the language of each,
//! and the tokens of their words.

use crate::error::Result;
use crate::text::analyzer::language::{Languages, detect_chunks};
use crate::text::analyzer::{Casing, Tokens, analyze};
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

/// The tokens of some chunks, each given by its place and how its language has letters in upper and lower case. Those of a
/// chunk without a casing are not asked for.
pub fn tokens(chunked: &ChunkedContent, chunks: &[(usize, Option<Casing>)]) -> Vec<Tokens> {
    let texts = chunked.texts();
    let tokens = |&(at, casing): &(usize, Option<Casing>)| {
        let (lang, text) = texts[at];
        casing.map_or_else(Tokens::default, |casing| analyze(&with_title(chunked.title_of(lang), text), casing))
    };
    chunks.iter().map(tokens).collect()
}
