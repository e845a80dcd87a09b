//! Settings: how we run. What the vectors mean is in `chatbot_sync.model`.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::chunk::{MAX_CHUNK_SIZE, MAX_CHUNKS, Params};
use crate::error::Result;

static CHUNK_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1000);
static CHUNK_OVERLAP: GucSetting<i32> = GucSetting::<i32>::new(200);
static MAX_CHUNKS_A_SOURCE: GucSetting<i32> = GucSetting::<i32>::new(100);

/// Makes the settings known to Postgres.
pub fn define() {
    let int = |name, short, long, setting, least, most: usize| {
        let most = i32::try_from(most).unwrap_or(i32::MAX);
        GucRegistry::define_int_guc(name, short, long, setting, least, most, GucContext::Userset, GucFlags::default());
    };
    int(
        c"chatbot_sync.chunk_size",
        c"Longest chunk, in characters.",
        c"Takes effect on a source when it is embedded next.",
        &CHUNK_SIZE,
        1,
        MAX_CHUNK_SIZE,
    );
    int(
        c"chatbot_sync.chunk_overlap",
        c"How much of the text before a chunk is repeated at its start at most, in characters.",
        c"Has to be less than chatbot_sync.chunk_size.",
        &CHUNK_OVERLAP,
        0,
        MAX_CHUNK_SIZE - 1,
    );
    int(
        c"chatbot_sync.max_chunks",
        c"Most chunks of a source; what comes after them is not embedded, with a warning.",
        c"Takes effect on a source when it is embedded next.",
        &MAX_CHUNKS_A_SOURCE,
        1,
        MAX_CHUNKS,
    );
}

/// How to cut, by the settings; an argument comes before its setting.
pub fn chunk_params(size: Option<i32>, overlap: Option<i32>, max_chunks: Option<i32>) -> Result<Params> {
    Params::checked(
        size.unwrap_or_else(|| CHUNK_SIZE.get()).into(),
        overlap.unwrap_or_else(|| CHUNK_OVERLAP.get()).into(),
        max_chunks.unwrap_or_else(|| MAX_CHUNKS_A_SOURCE.get()).into(),
    )
}
