//! Tokens to lexemes, by the dictionaries of a text search configuration, as Postgres' own `to_tsvector()` asks them. What
//! they answer is kept for the session, since most words of a text are words of the one before.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Arc;

use pgrx::{FromDatum, IntoDatum, pg_sys};

use crate::pg::runtime::memory::Scratch;
use crate::pg::runtime::tsvector::TsVector;
use crate::search::lexicon::{Lexemes, Lexicon, WordReader, Words};
use crate::search::term::Term;
use crate::search::tsvector::encode;
use crate::text::analyzer::{Casing, Kind, Token, analyze, fold, forms};

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

#[derive(Default)]
struct Cache {
    generation: u64,
    count: usize,
    lexicons: HashMap<pg_sys::Oid, Arc<Lexicon>>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
    /// Counts changes of configurations and dictionaries.
    static GENERATION: Cell<u64> = const { Cell::new(0) };
}

impl Configuration {
    /// Returns which letters are the same in upper and lower case.
    pub fn casing(&self) -> Casing {
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

    /// Reads words as this configuration does, on any thread; `None`: it has a parser of its own, and only Postgres does.
    pub fn reader(&self) -> Option<WordReader> {
        self.has_default_parser().then(|| WordReader { casing: self.casing(), lexicon: self.lexicon() })
    }

    /// The words of a text.
    pub fn words(&self, text: &str) -> TsVector {
        self.words_of_text(text, self.reader().map(|reader| reader.read(text)))
    }

    /// The words of a text that a [`Self::reader`] has read, if there is one.
    pub fn words_of_text(&self, text: &str, read: Option<Words>) -> TsVector {
        let Some(mut words) = read else { return self.words_by_parser(text) };
        words.look_up(|word| self.lexemes(word));
        TsVector(words.to_tsvector())
    }

    /// What each token of a query may be in the index, in the order of the text; none of it is a stop word. The tokens are
    /// the same for all configurations.
    pub fn terms(&self, query: &str) -> Vec<Vec<Term>> {
        let tokens = analyze(query, self.casing());
        let terms = |token: Token| match token.kind {
            Kind::Word => self.lexemes(token.text).iter().map(|lexeme| Term::lexeme(&**lexeme)).collect(),
            Kind::Verbatim | Kind::Pair => vec![Term::lexeme(token.lexeme())],
            Kind::Single => vec![Term::prefix(token.lexeme())],
            Kind::Last => Vec::new(),
        };
        tokens.iter().filter(|token| token.kind != Kind::Last).map(terms).collect()
    }

    /// What the dictionaries have answered so far.
    fn lexicon(&self) -> Arc<Lexicon> {
        watch();
        CACHE.with_borrow_mut(|cache| {
            if cache.generation != GENERATION.get() || cache.count > MAX_WORDS {
                *cache = Cache { generation: GENERATION.get(), ..Cache::default() };
            }
            cache.lexicons.entry(self.id).or_default().clone()
        })
    }

    /// The lexemes of a word. The dictionaries are asked where they were not before.
    pub fn lexemes(&self, word: &str) -> Lexemes {
        let lexicon = self.lexicon();
        lexicon.get(word).unwrap_or_else(|| {
            let _scratch = Scratch::new();
            let lexemes = self.look_up(word);
            lexicon.insert(word.to_owned(), lexemes.clone());
            CACHE.with_borrow_mut(|cache| cache.count += 1);
            lexemes
        })
    }

    fn look_up(&self, word: &str) -> Lexemes {
        let mut lexemes: Vec<Box<str>> = Vec::new();
        let mut add = |found: Vec<String>| {
            for lexeme in found.iter().flat_map(|lexeme| forms(lexeme)) {
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
