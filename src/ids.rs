//! Ids of rows in the extension's tables: a type for each kind, so that none is passed where another is meant.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$documentation:meta])* $name:ident($number:ty);)*) => {$(
        $(#[$documentation])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $number);

        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// The id of a chatbot, which the application gives. It is 1 or more.
    ChatbotId(i64);
    /// The id of a model: `chatbot_sync.model.id`.
    ModelId(i32);
    /// The id of an attached host table: `chatbot_sync.host_table.host` and `chatbot_sync.source.host`.
    HostId(i32);
    /// The id of a job of the queue, unique among the jobs of one chatbot: `chatbot_sync.job.id`.
    JobId(i64);
}
