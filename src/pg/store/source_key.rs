//! The key of a source in statements: its columns, the conditions by which rows are found, and the arguments.

use std::collections::{BTreeMap, HashSet};

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiHeapTupleData;

use crate::error::Result;
use crate::ids::ChatbotId;
use crate::pg::store::{Rows, not_null, write};
use crate::source::SourceKey;

/// The condition that a row belongs to the source whose key is in the first three arguments: [`SourceKey::args`].
pub const IS_SOURCE: &str = "chatbot_id = $1 AND source_type = $2 AND source_id = $3";

/// The keys in the first three arguments, an array for each column, as the table `k`: [`key_array_args`].
// An unnest() of several arrays is syntax and not a function that is looked up: no search_path matters to it.
pub const KEYS: &str = "unnest($1::bigint[], $2::text[], $3::bigint[]) AS k (chatbot_id, source_type, source_id)";

/// The order of a walk through sources, which [`after_key`] continues.
pub const ORDER_BY_KEY: &str = "ORDER BY chatbot_id, source_type, source_id";

/// The condition that rows of two tables, given by their aliases, belong to the same source.
pub fn same_source(one: &str, other: &str) -> String {
    format!(
        "({one}.chatbot_id, {one}.source_type, {one}.source_id) = ({other}.chatbot_id, {other}.source_type, {other}.source_id)"
    )
}

impl SourceKey {
    /// The key as three arguments of a statement.
    pub fn args<'a>(&self) -> Vec<DatumWithOid<'a>> {
        vec![self.chatbot_id.into(), self.source_type.into(), self.source_id.into()]
    }

    /// The key as three arguments of a statement, and further ones.
    pub fn args_and<'a>(&self, more: impl IntoIterator<Item = DatumWithOid<'a>>) -> Vec<DatumWithOid<'a>> {
        self.args().into_iter().chain(more).collect()
    }
}

/// The arguments for keys: an array for each of the three columns.
pub fn key_array_args(keys: &[SourceKey]) -> [DatumWithOid<'static>; 3] {
    [
        keys.iter().map(|k| k.chatbot_id).collect::<Vec<_>>().into(),
        keys.iter().map(|k| k.source_type).collect::<Vec<_>>().into(),
        keys.iter().map(|k| k.source_id).collect::<Vec<_>>().into(),
    ]
}

/// The arguments for keys of one chatbot: an array for each of the three columns, and then the chatbot's id.
pub fn chatbot_key_args(chatbot_id: ChatbotId, keys: &[SourceKey]) -> [DatumWithOid<'static>; 4] {
    let [chatbots, types, sources] = key_array_args(keys);
    [chatbots, types, sources, chatbot_id.into()]
}

/// Groups items by chatbot: with Citus, a statement that names one chatbot is a single task on one node.
pub fn by_chatbot<T>(
    items: impl IntoIterator<Item = T>,
    chatbot_id: impl Fn(&T) -> ChatbotId,
) -> BTreeMap<ChatbotId, Vec<T>> {
    let mut groups: BTreeMap<ChatbotId, Vec<T>> = BTreeMap::new();
    for item in items {
        groups.entry(chatbot_id(&item)).or_default().push(item);
    }
    groups
}

/// Runs a statement once for each chatbot, with the arguments of [`chatbot_key_args`], and returns the number of rows
/// that were written.
pub fn write_by_chatbot(sql: &str, keys: &[SourceKey]) -> Result<i64> {
    by_chatbot(keys.iter().copied(), |key| key.chatbot_id)
        .into_iter()
        .map(|(chatbot_id, keys)| write(sql, &chatbot_key_args(chatbot_id, &keys)))
        .sum()
}

/// Returns the condition by which a walk through sources in the order of their keys goes on after one, with its arguments,
/// the first of which is `$number`; an empty condition for `None`. It is not written as `$n IS NULL OR ...`, by which a
/// generic plan would read all sources before that key each time.
pub fn after_key(after: Option<SourceKey>, number: usize) -> (String, Vec<DatumWithOid<'static>>) {
    let Some(key) = after else { return (String::new(), Vec::new()) };
    let [chatbot, source_type, source] = [number, number + 1, number + 2];
    (
        format!("AND (chatbot_id, source_type, source_id) > (${chatbot}, ${source_type}, ${source})"),
        vec![key.chatbot_id.into(), key.source_type.into(), key.source_id.into()],
    )
}

/// Reads the key in the first three columns of a row.
pub fn read_key(row: &SpiHeapTupleData) -> pgrx::spi::Result<SourceKey> {
    Ok(SourceKey {
        chatbot_id: not_null(row.get(1))?,
        source_type: not_null(row.get(2))?,
        source_id: not_null(row.get(3))?,
    })
}

/// Reads the keys in the first three columns of rows.
pub fn read_keys(rows: Rows) -> pgrx::spi::Result<HashSet<SourceKey>> {
    rows.map(|row| read_key(&row)).collect()
}
