//! Which versions of the extension's SQL a library serves. A package brings a new library at once, to every session that
//! loads it; the SQL of a database stays until ALTER EXTENSION ... UPDATE is run there.

use crate::error::{Error, Result};

/// This library's.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// The oldest one whose SQL it serves. A release that changes what its functions take or find raises it, and says so in
/// the changelog.
pub const OLDEST: &str = "0.1.0";

/// Fails where a database has another version's SQL than this library serves.
pub fn check(sql: &str) -> Result<()> {
    check_against(sql, OLDEST, OWN)
}

fn check_against(sql: &str, oldest: &str, own: &str) -> Result<()> {
    if number(sql) < number(oldest) {
        return Err(Error::SqlTooOld { sql: sql.to_owned(), library: own.to_owned() });
    }
    if number(sql) > number(own) {
        return Err(Error::LibraryTooOld { sql: sql.to_owned(), library: own.to_owned() });
    }
    Ok(())
}

/// How a database's SQL, which this library serves, stands beside it.
#[derive(Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nothing is to be done.
    Same,
    /// The SQL was not updated.
    SqlOlder,
    /// This version is installed, and the server or the session still has the library from before.
    LibraryOlder(String),
}

/// `installed` is what the files say that CREATE EXTENSION would take.
#[must_use]
pub fn stands(sql: &str, installed: Option<&str>) -> Beside {
    beside(sql, installed, OWN)
}

fn beside(sql: &str, installed: Option<&str>, own: &str) -> Beside {
    match installed {
        Some(installed) if number(installed) > number(own) => Beside::LibraryOlder(installed.to_owned()),
        _ if number(sql) < number(own) => Beside::SqlOlder,
        _ => Beside::Same,
    }
}

/// Major, minor, patch. A part that is no number counts as larger than all, since an unknown version is taken for a newer
/// one.
fn number(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(u64::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfit_version_is_refused() {
        let fits = |sql| check_against(sql, "0.9.0", "0.10.2");
        for sql in ["0.9.0", "0.9.11", "0.10.0", "0.10.2"] {
            assert_eq!(fits(sql), Ok(()), "{sql}");
        }
        for sql in ["0.8.9", "0.1.0", "0.2.30"] {
            assert!(matches!(fits(sql), Err(Error::SqlTooOld { .. })), "{sql}");
        }
        for sql in ["0.10.3", "0.11.0", "1.0.0", "0.10.x"] {
            assert!(matches!(fits(sql), Err(Error::LibraryTooOld { .. })), "{sql}");
        }
        assert_eq!(check(OWN), Ok(()));
        assert_eq!(check(OLDEST), Ok(()));
    }

    #[test]
    fn a_forgotten_update_is_seen() {
        let beside = |sql, installed| beside(sql, installed, "0.10.2");
        assert_eq!(beside("0.10.2", Some("0.10.2")), Beside::Same);
        // The files are gone, or are those from before.
        assert_eq!((beside("0.10.2", None), beside("0.10.2", Some("0.9.0"))), (Beside::Same, Beside::Same));
        assert_eq!(beside("0.9.0", Some("0.10.2")), Beside::SqlOlder);
        assert_eq!(beside("0.10.2", Some("0.10.10")), Beside::LibraryOlder("0.10.10".to_owned()));
        assert_eq!(beside("0.9.0", Some("1.0.0")), Beside::LibraryOlder("1.0.0".to_owned()));
    }

    #[test]
    fn all_files_name_the_same_version() {
        let meta: serde_json::Value = serde_json::from_str(include_str!("../META.json")).unwrap();
        assert_eq!([&meta["version"], &meta["provides"]["chatbot_sync"]["version"]], [OWN, OWN]);
    }
}
