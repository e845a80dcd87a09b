//! The versions of the extension's SQL that a library serves. A new package replaces the library for every session that
//! loads it from then on; the SQL of a database changes only with ALTER EXTENSION ... UPDATE.

use crate::error::{Error, Result};

/// The version of this library.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// The oldest version of the extension's SQL that this library serves. A release raises it when its functions take
/// other arguments, or need other tables, than the SQL of that version has; the changelog then says so.
pub const OLDEST: &str = "0.1.0";

/// Fails where this library does not serve the database's version of the SQL.
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

/// The result of comparing the version of a database's SQL with this library and with the installed files.
#[derive(Debug, PartialEq, Eq)]
pub enum VersionMatch {
    /// All have the same version.
    Same,
    /// The SQL is older than the library: ALTER EXTENSION ... UPDATE was not run.
    SqlOlder,
    /// This later version is installed, but the session has loaded the library of the version before.
    LibraryOlder(String),
}

/// Compares a database's SQL with this library and with `installed`, the version that CREATE EXTENSION would take;
/// `None` where its files are missing.
#[must_use]
pub fn compare_with_installed(sql: &str, installed: Option<&str>) -> VersionMatch {
    compare_versions(sql, installed, OWN)
}

fn compare_versions(sql: &str, installed: Option<&str>, own: &str) -> VersionMatch {
    match installed {
        Some(installed) if number(installed) > number(own) => VersionMatch::LibraryOlder(installed.to_owned()),
        _ if number(sql) < number(own) => VersionMatch::SqlOlder,
        _ => VersionMatch::Same,
    }
}

/// The parts of a version, to be compared. A part that is not a number is larger than any number, so that an unknown
/// version counts as newer.
fn number(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(u64::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_versions_are_refused() {
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
    fn missing_update_is_detected() {
        let match_of = |sql, installed| compare_versions(sql, installed, "0.10.2");
        assert_eq!(match_of("0.10.2", Some("0.10.2")), VersionMatch::Same);
        // The installed files are missing, or are older than the library.
        assert_eq!(
            (match_of("0.10.2", None), match_of("0.10.2", Some("0.9.0"))),
            (VersionMatch::Same, VersionMatch::Same)
        );
        assert_eq!(match_of("0.9.0", Some("0.10.2")), VersionMatch::SqlOlder);
        assert_eq!(match_of("0.10.2", Some("0.10.10")), VersionMatch::LibraryOlder("0.10.10".to_owned()));
        assert_eq!(match_of("0.9.0", Some("1.0.0")), VersionMatch::LibraryOlder("1.0.0".to_owned()));
    }

    #[test]
    fn all_files_name_the_same_version() {
        let meta: serde_json::Value = serde_json::from_str(include_str!("../META.json")).unwrap();
        assert_eq!([&meta["version"], &meta["provides"]["chatbot_sync"]["version"]], [OWN, OWN]);
    }
}
