//! The extension's settings but those of providers, all in one place as the reference lists them. The model is not a setting: it is in `chatbot_sync.model`, since the stored vectors depend on it.

use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::embedding::transport::HttpConfig;
use crate::error::Result;
use crate::text::chunk::{MAX_CHUNK_SIZE, MAX_CHUNKS, Params};

/// A setting whose value is text.
pub type TextSetting = GucSetting<Option<CString>>;

static CHUNK_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1000);
static CHUNK_OVERLAP: GucSetting<i32> = GucSetting::<i32>::new(200);
static MAX_CHUNKS_A_SOURCE: GucSetting<i32> = GucSetting::<i32>::new(100);
static SYNC_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static BATCH_SIZE: GucSetting<i32> = GucSetting::<i32>::new(100);
static MAX_PARALLEL_REQUESTS: GucSetting<i32> = GucSetting::<i32>::new(4);
static MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(3);
static RETRY_DELAY: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static MAX_RESPONSE_BYTES: GucSetting<i32> = GucSetting::<i32>::new(64 << 20);
static MAX_RESULTS_PER_SOURCE: GucSetting<i32> = GucSetting::<i32>::new(0);
static LOG_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(30 * 24 * 60);
static EXACT_SEARCH_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static TEXT_SEARCH_CONFIG: TextSetting = TextSetting::new(Some(c"auto"));
static NAPTIME: GucSetting<i32> = GucSetting::<i32>::new(60);
static MAX_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(4);
static WORKERS_PER_DATABASE: GucSetting<i32> = GucSetting::<i32>::new(2);
static DATABASES: TextSetting = TextSetting::new(None);
static PROXY: TextSetting = TextSetting::new(None);
static LOCAL_MODELS: TextSetting = TextSetting::new(None);
static LOCAL_THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);

/// Defines the settings.
pub fn define() {
    let int = |name, short, long, setting, least, most: usize, flags| {
        let most = i32::try_from(most).unwrap_or(i32::MAX);
        GucRegistry::define_int_guc(name, short, long, setting, least, most, GucContext::Userset, flags);
    };
    let (plain, ms) = (GucFlags::default(), GucFlags::UNIT_MS);
    int(
        c"chatbot_sync.chunk_size",
        c"Longest chunk, in characters.",
        c"Takes effect on a source when it is embedded next.",
        &CHUNK_SIZE,
        1,
        MAX_CHUNK_SIZE,
        plain,
    );
    int(
        c"chatbot_sync.chunk_overlap",
        c"How much of the text before a chunk is repeated at its start at most, in characters.",
        c"Has to be less than chatbot_sync.chunk_size.",
        &CHUNK_OVERLAP,
        0,
        MAX_CHUNK_SIZE - 1,
        plain,
    );
    int(
        c"chatbot_sync.max_chunks",
        c"Most chunks of a source; what comes after them is not embedded, with a warning.",
        c"Takes effect on a source when it is embedded next.",
        &MAX_CHUNKS_A_SOURCE,
        1,
        MAX_CHUNKS,
        plain,
    );
    int(
        c"chatbot_sync.sync_timeout",
        c"How long a statement waits for a provider in all.",
        c"Its transaction is open meanwhile. Attempts and waits that a provider asks for count.",
        &SYNC_TIMEOUT,
        1,
        i32::MAX as usize,
        ms,
    );
    int(
        c"chatbot_sync.connect_timeout",
        c"How long a connection to a provider may take.",
        c"DNS, TCP and TLS.",
        &CONNECT_TIMEOUT,
        1,
        i32::MAX as usize,
        ms,
    );
    int(
        c"chatbot_sync.batch_size",
        c"Most texts in one request.",
        c"The provider's own limits apply too.",
        &BATCH_SIZE,
        1,
        2048,
        plain,
    );
    int(
        c"chatbot_sync.max_parallel_requests",
        c"Most requests of a statement at the same time.",
        c"Each has a thread and a connection.",
        &MAX_PARALLEL_REQUESTS,
        1,
        64,
        plain,
    );
    int(
        c"chatbot_sync.max_attempts",
        c"How often a request is sent, or a source of the queue tried, that a provider fails to answer.",
        c"Waits that a provider asks for with status 429 are no attempts.",
        &MAX_ATTEMPTS,
        1,
        20,
        plain,
    );
    int(
        c"chatbot_sync.retry_delay",
        c"How long a source of the queue waits for its second attempt, doubled for each further one.",
        c"A half more or less, so that many do not come back together.",
        &RETRY_DELAY,
        1,
        i32::MAX as usize,
        ms,
    );
    GucRegistry::define_int_guc(
        c"chatbot_sync.max_response_bytes",
        c"Most bytes of an answer, decompressed.",
        c"A longer one is refused while it arrives.",
        &MAX_RESPONSE_BYTES,
        1024,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_BYTE,
    );
    GucRegistry::define_int_guc(
        c"chatbot_sync.log_retention",
        c"How long rows of chatbot_sync.sync_log are kept.",
        c"-1: for ever. 0: none are made.",
        &LOG_RETENTION,
        -1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MIN,
    );
    int(
        c"chatbot_sync.max_results_per_source",
        c"Most answers of a search that are chunks of one source.",
        c"0: no limit.",
        &MAX_RESULTS_PER_SOURCE,
        0,
        1000,
        plain,
    );
    int(
        c"chatbot_sync.exact_search_limit",
        c"Chunks of a chatbot up to which a search reads all of them, whatever indexes there are.",
        c"Beyond it HNSW is faster, where chatbot_create_index() made one.",
        &EXACT_SEARCH_LIMIT,
        0,
        i32::MAX as usize,
        plain,
    );
    GucRegistry::define_string_guc(
        c"chatbot_sync.text_search_config",
        c"Text search configuration of sources that do not say their language.",
        c"auto: by the language that is detected. Takes effect on a source when it is embedded next.",
        &TEXT_SEARCH_CONFIG,
        GucContext::Userset,
        plain,
    );
    let of_workers = |name, short, long, setting, most, flags| {
        GucRegistry::define_int_guc(name, short, long, setting, 1, most, GucContext::Sighup, flags);
    };
    of_workers(
        c"chatbot_sync.naptime",
        c"How often every database is looked at, whether or not a commit asked for it.",
        c"A commit, and a time that something is due, wake the workers anyway.",
        &NAPTIME,
        i32::MAX / 1000,
        GucFlags::UNIT_S,
    );
    of_workers(
        c"chatbot_sync.max_workers",
        c"Most workers at the same time.",
        c"They count among max_worker_processes, as the launcher does.",
        &MAX_WORKERS,
        1024,
        plain,
    );
    of_workers(
        c"chatbot_sync.workers_per_database",
        c"Most workers of one database at the same time.",
        c"A further one comes where one has more than it can do soon.",
        &WORKERS_PER_DATABASE,
        1024,
        plain,
    );
    GucRegistry::define_string_guc(
        c"chatbot_sync.databases",
        c"Names of the databases that have workers, separated by commas.",
        c"All by default.",
        &DATABASES,
        GucContext::Sighup,
        plain,
    );
    let secret = GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL;
    let text = |name, short, long, setting, flags| {
        GucRegistry::define_string_guc(name, short, long, setting, GucContext::Suset, flags);
    };
    text(
        c"chatbot_sync.proxy",
        c"Address of an HTTP proxy.",
        c"None by default, whatever the environment says.",
        &PROXY,
        secret,
    );
    text(
        c"chatbot_sync.local_models",
        c"Folder with a folder for each model that can be named with the provider local.",
        c"By default chatbot_sync/models below the server's share directory. Only a superuser chooses which files are read.",
        &LOCAL_MODELS,
        GucFlags::SUPERUSER_ONLY,
    );
    int(
        c"chatbot_sync.local_threads",
        c"Threads that a statement, its own included, or all workers of a database together compute on.",
        c"Texts are cut and read on them, and models compute. 0: half of the machine's cores. 1: no thread is made.",
        &LOCAL_THREADS,
        0,
        1024,
        plain,
    );
}

/// Returns the parameters of the chunker: each argument or, where it is `None`, its setting. Fails where they do
/// not fit together.
pub fn chunk_params(size: Option<i32>, overlap: Option<i32>, max_chunks: Option<i32>) -> Result<Params> {
    Params::checked(
        size.unwrap_or_else(|| CHUNK_SIZE.get()).into(),
        overlap.unwrap_or_else(|| CHUNK_OVERLAP.get()).into(),
        max_chunks.unwrap_or_else(|| MAX_CHUNKS_A_SOURCE.get()).into(),
    )
}

/// `chatbot_sync.sync_timeout`: how long a statement waits for a provider in all.
pub fn sync_timeout() -> Duration {
    milliseconds(&SYNC_TIMEOUT)
}

/// `chatbot_sync.batch_size`: the largest number of texts in one request.
pub fn batch_size() -> usize {
    positive_count(&BATCH_SIZE)
}

/// `chatbot_sync.max_parallel_requests`: the largest number of requests that a statement has running.
pub fn max_parallel_requests() -> usize {
    positive_count(&MAX_PARALLEL_REQUESTS)
}

/// `chatbot_sync.max_attempts`: how often a request is sent, or a source of the queue tried.
pub fn max_attempts() -> u32 {
    u32::try_from(MAX_ATTEMPTS.get()).unwrap_or(1)
}

/// `chatbot_sync.max_results_per_source`: how many chunks of one source a search returns; `None`: no limit.
pub fn max_results_per_source() -> Option<usize> {
    usize::try_from(MAX_RESULTS_PER_SOURCE.get()).ok().filter(|&most| most > 0)
}

/// `chatbot_sync.log_retention`: how long rows of sync_log are kept; zero: none are made; `None`: for ever.
pub fn log_retention() -> Option<Duration> {
    u64::try_from(LOG_RETENTION.get()).ok().map(|minutes| Duration::from_secs(60 * minutes))
}

/// `chatbot_sync.exact_search_limit`: the number of chunks up to which a search reads all chunks of the chatbot.
pub fn exact_search_limit() -> i32 {
    EXACT_SEARCH_LIMIT.get()
}

/// The text search configuration of sources that do not say their language, or `auto`.
pub fn text_search_config() -> String {
    text_value(&TEXT_SEARCH_CONFIG).unwrap_or_else(|| "auto".to_owned())
}

/// `chatbot_sync.naptime`: how long the launcher sleeps at most.
pub fn naptime() -> Duration {
    Duration::from_secs(u64::try_from(NAPTIME.get()).unwrap_or(1))
}

/// `chatbot_sync.max_workers`: the largest number of workers in the cluster.
pub fn max_workers() -> usize {
    positive_count(&MAX_WORKERS)
}

/// `chatbot_sync.workers_per_database`: the largest number of workers of one database.
pub fn workers_per_database() -> usize {
    positive_count(&WORKERS_PER_DATABASE)
}

/// `chatbot_sync.databases`: the names of the databases that have workers; `None`: all have.
pub fn databases() -> Option<Vec<String>> {
    Some(text_value(&DATABASES)?.split(',').map(|name| name.trim().to_owned()).collect())
}

/// Whether the transaction is REPEATABLE READ or SERIALIZABLE.
#[allow(unsafe_code)]
pub fn sees_only_its_snapshot() -> bool {
    // SAFETY: a number of this backend's transaction.
    unsafe { pgrx::pg_sys::XactIsoLevel >= pgrx::pg_sys::XACT_REPEATABLE_READ.cast_signed() }
}

/// `chatbot_sync.retry_delay`: the wait before a queued source's second attempt.
pub fn retry_delay() -> Duration {
    milliseconds(&RETRY_DELAY)
}

/// `chatbot_sync.local_models`: the folder with models; `None` where it is the one below the server's share directory.
pub fn local_models() -> Option<PathBuf> {
    text_value(&LOCAL_MODELS).map(PathBuf::from)
}

/// `chatbot_sync.local_threads`: the number of threads that a statement computes on.
pub fn local_threads() -> usize {
    match LOCAL_THREADS.get() {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1),
        _ => positive_count(&LOCAL_THREADS),
    }
}

/// Returns the configuration of the HTTP client.
pub fn http_config() -> HttpConfig {
    HttpConfig {
        connect_timeout: milliseconds(&CONNECT_TIMEOUT),
        max_response_bytes: u64::try_from(MAX_RESPONSE_BYTES.get()).unwrap_or(u64::MAX),
        proxy: text_value(&PROXY),
    }
}

/// The value of a setting; `None` where it is empty or not set.
pub fn text_value(setting: &TextSetting) -> Option<String> {
    setting.get().map(|s| s.to_string_lossy().into_owned()).filter(|s| !s.is_empty())
}

fn milliseconds(setting: &GucSetting<i32>) -> Duration {
    Duration::from_millis(u64::try_from(setting.get()).unwrap_or(0))
}

fn positive_count(setting: &GucSetting<i32>) -> usize {
    usize::try_from(setting.get()).unwrap_or(1)
}
