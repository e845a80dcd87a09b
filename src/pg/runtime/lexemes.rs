//! Tokens to lexemes, by the dictionaries of a text search configuration, as Postgres' own `to_tsvector()` asks them. What
//! they answer is kept for the session, since most words of a text are words of the one before.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::{FromDatum, IntoDatum, pg_sys};

use crate::pg::runtime::memory::Scratch;
use crate::pg::runtime::tsvector::TsVector;
use crate::search::tsvector::{Term, encode};
use crate::text::analyzer::{Casing, Kind, Token, Tokens, analyze, fold};

/// A text search configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Its qualified name.
    pub name: String,
    /// The configuration's oid in `pg_ts_config`.
    pub id: pg_sys::Oid,
}

/// The parser whose token types dictionaries are chosen by here. Texts of a configuration with another one are read by that.
const DEFAULT_PARSER: u32 = 3722;
/// Words whose lexemes are kept, of all configurations together: some megabytes.
const MAX_WORDS: usize = 40_000;

/// What dictionaries say of a word: its lexemes, without accents, of the word and of its form without accents. None is
/// a stop word.
type Lexemes = Rc<[Box<str>]>;

#[derive(Default)]
struct Cache {
    generation: u64,
    count: usize,
    words: HashMap<pg_sys::Oid, HashMap<String, Lexemes>>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
    /// Counts changes of configurations and dictionaries.
    static GENERATION: Cell<u64> = const { Cell::new(0) };
}

impl Configuration {
    fn casing(&self) -> Casing {
        // Postgres has one for Turkish; others made from it have names that say so.
        if self.name.rsplit('.').next().is_some_and(|name| name.contains("turkish")) {
            Casing::Turkic
        } else {
            Casing::Root
        }
    }

    fn has_default_parser(&self) -> bool {
        // SAFETY: an entry of Postgres' cache, read at once; a configuration that is gone is an error.
        unsafe { (*pg_sys::lookup_ts_config_cache(self.id)).prsId.to_u32() == DEFAULT_PARSER }
    }

    /// How texts become tokens; `None`: the configuration has a parser of its own.
    pub fn tokens_casing(&self) -> Option<Casing> {
        self.has_default_parser().then(|| self.casing())
    }

    /// The words of a text.
    pub fn words(&self, text: &str) -> TsVector {
        match self.tokens_casing() {
            Some(casing) => self.words_of_tokens(&analyze(text, casing)),
            None => self.words_by_parser(text),
        }
    }

    /// The words of a text whose tokens are known, as far as [`Self::tokens_casing`] says how they are made.
    pub fn words_with_tokens(&self, text: &str, tokens: &Tokens) -> TsVector {
        if self.has_default_parser() { self.words_of_tokens(tokens) } else { self.words_by_parser(text) }
    }

    fn words_of_tokens(&self, tokens: &Tokens) -> TsVector {
        self.remember(tokens.iter());
        CACHE.with_borrow(|cache| {
            let known = cache.words.get(&self.id);
            let mut lexemes: Vec<(&[u8], usize)> = Vec::new();
            let mut folded = Vec::new();
            for token in tokens.iter() {
                match token.kind {
                    Kind::Word => {
                        let found = known.and_then(|known| known.get(token.text));
                        let found = found.into_iter().flat_map(|found| found.iter());
                        lexemes.extend(found.map(|lexeme| (lexeme.as_bytes(), token.position)));
                    }
                    Kind::Verbatim | Kind::Last | Kind::Single => match fold(token.text) {
                        std::borrow::Cow::Borrowed(text) => lexemes.push((text.as_bytes(), token.position)),
                        std::borrow::Cow::Owned(text) => folded.push((text, token.position)),
                    },
                }
            }
            lexemes.extend(folded.iter().map(|(text, position)| (text.as_bytes(), *position)));
            TsVector(encode(lexemes))
        })
    }

    /// What each token of a query may be in the index, in the order of the text; none of it is a stop word. The tokens are
    /// the same for all configurations.
    pub fn terms(&self, query: &str) -> Vec<Vec<Term>> {
        let tokens = analyze(query, self.casing());
        self.remember(tokens.iter());
        CACHE.with_borrow(|cache| {
            let known = cache.words.get(&self.id);
            let terms = |token: Token| match token.kind {
                Kind::Word => {
                    let found = known.and_then(|known| known.get(token.text));
                    found.map_or_else(Vec::new, |found| found.iter().map(|lexeme| Term::lexeme(&**lexeme)).collect())
                }
                Kind::Verbatim => vec![Term::lexeme(fold(token.text))],
                Kind::Single => vec![Term::prefix(fold(token.text))],
                Kind::Last => Vec::new(),
            };
            tokens.iter().filter(|token| token.kind != Kind::Last).map(terms).collect()
        })
    }

    /// Looks up the lexemes of all words that are not kept yet, and keeps them.
    fn remember<'a>(&self, tokens: impl Iterator<Item = Token<'a>> + Clone) {
        watch();
        let mut missing: Vec<&str> = CACHE.with_borrow_mut(|cache| {
            if cache.generation != GENERATION.get() || cache.count > MAX_WORDS {
                *cache = Cache { generation: GENERATION.get(), ..Cache::default() };
            }
            let known = cache.words.entry(self.id).or_default();
            let words = tokens.filter(|token| token.kind == Kind::Word).map(|token| token.text);
            words.filter(|word| !known.contains_key(*word)).collect()
        });
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return;
        }
        let mut scratch = Scratch::new();
        let mut found = Vec::with_capacity(missing.len());
        for word in missing {
            found.push((word.to_owned(), self.look_up(word)));
            scratch.reset();
        }
        CACHE.with_borrow_mut(|cache| {
            cache.count += found.len();
            cache.words.entry(self.id).or_default().extend(found);
        });
    }

    fn look_up(&self, word: &str) -> Lexemes {
        let mut lexemes: Vec<Box<str>> = Vec::new();
        let mut add = |found: Vec<String>| {
            for lexeme in found {
                let lexeme = fold(&lexeme);
                if !lexemes.iter().any(|known| **known == *lexeme) {
                    lexemes.push(lexeme.into());
                }
            }
        };
        // A stop word with its accents is one without them, too; but not the other way round.
        let exact = self.lexize(word).unwrap_or_default();
        if !exact.is_empty() {
            add(exact);
            let folded = fold(word);
            if folded != word {
                add(self.lexize(&folded).unwrap_or_default());
            }
        }
        lexemes.into()
    }

    /// The lexemes of one token, as the first dictionary has them that knows it; none where none does.
    fn lexize(&self, token: &str) -> Option<Vec<String>> {
        // SAFETY: the entry of a configuration in Postgres' cache: an array of dictionaries for each token type. A
        // dictionary may read the catalog, which may make the entry anew: the list is copied first.
        let dictionaries: Vec<pg_sys::Oid> = unsafe {
            let entry = pg_sys::lookup_ts_config_cache(self.id);
            let types = usize::try_from((*entry).lenmap).unwrap_or(0);
            let token_type = token_type(token);
            if token_type >= types {
                return None;
            }
            let list = &*(*entry).map.add(token_type);
            let count = usize::try_from(list.len).unwrap_or(0);
            if count == 0 {
                return None;
            }
            std::slice::from_raw_parts(list.dictIds, count).to_vec()
        };
        let mut token = token.to_owned();
        for id in dictionaries {
            let found = ask(id, &token)?;
            match found {
                Answer::Unknown => {}
                Answer::Replaced(by) => token = by,
                Answer::Lexemes(lexemes) => return Some(lexemes),
            }
        }
        None
    }

    /// The words of a text as the configuration's own parser finds them.
    fn words_by_parser(&self, text: &str) -> TsVector {
        let _scratch = Scratch::new();
        // SAFETY: to_tsvector(regconfig, text), which answers a tsvector and never NULL.
        unsafe {
            let args = [Some(self.id.into()), text.into_datum()];
            let words = pgrx::direct_function_call_as_datum(pg_sys::to_tsvector_byid, &args);
            words.and_then(|words| TsVector::from_datum(words, false)).unwrap_or_else(|| TsVector(encode(Vec::new())))
        }
    }
}

/// The type that Postgres' default parser gives a token: `asciiword`, `word`, `numword` or `uint`.
fn token_type(token: &str) -> usize {
    let (mut letters, mut digits) = (false, false);
    for c in token.bytes() {
        if c.is_ascii_digit() { digits = true } else { letters = true }
    }
    match (letters, digits) {
        (true, true) => 3,
        (false, true) => 22,
        _ if token.is_ascii() => 1,
        _ => 2,
    }
}

enum Answer {
    /// Another dictionary may know the token.
    Unknown,
    /// A filtering dictionary has the next ones asked for this.
    Replaced(String),
    /// None: a stop word.
    Lexemes(Vec<String>),
}

/// Asks a dictionary for a token.
fn ask(dictionary: pg_sys::Oid, token: &str) -> Option<Answer> {
    // SAFETY: a dictionary's lexize function takes its data, a text with its length, and a state for phrases; it answers an
    // array that ends with a NULL lexeme, or NULL. A dictionary of phrases is asked again with the end said, as ts_lexize()
    // does. The answer is in the current memory context, which is the caller's scratch.
    unsafe {
        let entry = pg_sys::lookup_ts_dictionary_cache(dictionary);
        let mut state = pg_sys::DictSubState { isend: false, getnext: false, private_state: std::ptr::null_mut() };
        let length = i32::try_from(token.len()).ok()?;
        let call = |state: &mut pg_sys::DictSubState| {
            let text = pg_sys::Datum::from(token.as_ptr().cast_mut());
            let state = pg_sys::Datum::from(std::ptr::from_mut(state));
            let data = pg_sys::Datum::from((*entry).dictData);
            let collation = pg_sys::InvalidOid;
            pg_sys::FunctionCall4Coll(&raw mut (*entry).lexize, collation, data, text, length.into(), state)
                .cast_mut_ptr::<pg_sys::TSLexeme>()
        };
        let mut found = call(&mut state);
        if state.getnext {
            state.isend = true;
            let last = call(&mut state);
            if !last.is_null() {
                found = last;
            }
        }
        if found.is_null() {
            return Some(Answer::Unknown);
        }
        let mut lexemes = Vec::new();
        while !(*found).lexeme.is_null() {
            let lexeme = CStr::from_ptr((*found).lexeme).to_string_lossy().into_owned();
            if u32::from((*found).flags) & pg_sys::TSL_FILTER != 0 {
                return Some(Answer::Replaced(lexeme));
            }
            lexemes.push(lexeme);
            found = found.add(1);
        }
        Some(Answer::Lexemes(lexemes))
    }
}

fn watch() {
    #[pgrx::pg_guard]
    unsafe extern "C-unwind" fn forget(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
        GENERATION.set(GENERATION.get() + 1);
    }
    thread_local!(static WATCHING: Cell<bool> = const { Cell::new(false) });
    if !WATCHING.replace(true) {
        use pg_sys::SysCacheIdentifier as Id;
        for cache in [Id::TSCONFIGOID, Id::TSCONFIGMAP, Id::TSDICTOID, Id::TSTEMPLATEOID] {
            // SAFETY: the callback only counts in a cell of this thread, and backends have one thread that calls Postgres.
            unsafe { pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(forget), pg_sys::Datum::null()) };
        }
    }
}
