//! Figures of models: how fast texts become vectors.

use crate::error::Result;
use crate::ids::ModelId;
use crate::pg::store::vectors::has_column;
use crate::pg::store::{LatestSnapshot, StatementMode, lock_with_retry, run, write};

/// Whether models have figures and a quantization: in an older version of the SQL they have none.
pub fn has_figures() -> Result<bool> {
    has_column(c"model", c"bytes_per_second")
}

/// Bytes of text that one session turns into stored vectors in a second; `None` where it is not known.
pub fn bytes_per_second(model_id: ModelId) -> Result<Option<f64>> {
    if !has_figures()? {
        return Ok(None);
    }
    let sql = "SELECT bytes_per_second::double precision FROM chatbot_sync.model WHERE id = $1";
    run(sql, &[model_id.into()], StatementMode::ReadLatest, |mut rows| rows.next().map_or(Ok(None), |row| row.get(1)))
}

/// Writes how fast a model is, unless another session has its row locked; returns whether it did. At REPEATABLE READ, too,
/// no other session's figure makes it fail.
pub fn try_record_speed(model_id: ModelId, bytes_per_second: f64) -> Result<bool> {
    let _latest = LatestSnapshot::new();
    let sql = "UPDATE chatbot_sync.model
        SET bytes_per_second = $2
        WHERE id = (
            SELECT id
            FROM chatbot_sync.model
            WHERE id = $1
            FOR NO KEY UPDATE SKIP LOCKED
        )";
    let args = [model_id.into(), bytes_per_second.into()];
    Ok(lock_with_retry(|| write(sql, &args))? > 0)
}

/// Writes how fast a model is, in a transaction that has written its row already.
pub fn set_speed(model_id: ModelId, bytes_per_second: f64) -> Result<()> {
    let sql = "UPDATE chatbot_sync.model SET bytes_per_second = $2 WHERE id = $1";
    write(sql, &[model_id.into(), bytes_per_second.into()]).map(drop)
}
