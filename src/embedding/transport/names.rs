//! A DNS resolver with a cache. ureq resolves the host before each request, even when a connection is open, and each
//! lookup starts a thread.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::uri::Authority;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The time for which an address is kept: shorter than the TTL of most providers (60 s and more), so that a host that moves
/// is soon found.
const CACHE_TIME: Duration = Duration::from_secs(30);

/// Keeps what another resolver found.
#[derive(Debug, Default)]
pub struct CachingResolver<R = DefaultResolver> {
    resolver: R,
    known: Mutex<HashMap<(bool, Authority), (Instant, ResolvedSocketAddrs)>>,
}

impl<R: Resolver> Resolver for CachingResolver<R> {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let Some(authority) = uri.authority() else { return self.resolver.resolve(uri, config, timeout) };
        // The scheme is part of the key, since it decides the port where the address names none.
        let key = (uri.scheme_str() == Some("https"), authority.clone());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((at, addresses)) = known
            && at.elapsed() < CACHE_TIME
        {
            return Ok(addresses);
        }
        let addresses = self.resolver.resolve(uri, config, timeout)?;
        let found = (Instant::now(), addresses.clone());
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found);
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Resolves every host except "nowhere", and counts the lookups.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl Resolver for Counting {
        fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let nth = u8::try_from(self.0.fetch_add(1, Ordering::Relaxed)).unwrap();
            if uri.host() == Some("nowhere") {
                return Err(ureq::Error::HostNotFound);
            }
            let mut found = self.empty();
            found.push(([10, 0, 0, nth], 80).into());
            Ok(found)
        }
    }

    #[test]
    fn a_known_host_is_not_resolved_again() {
        let names = CachingResolver::<Counting>::default();
        let config = ureq::Agent::config_builder().build();
        let find = |uri: &'static str| {
            let found = names.resolve(&Uri::from_static(uri), &config, NextTimeout::default());
            found.map(|found| found[0].ip().to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(find("http://a/v1").as_deref(), Ok("10.0.0.0"));
        assert_eq!(find("http://a/v2").as_deref(), Ok("10.0.0.0"));
        assert_eq!(find("https://a/v1").as_deref(), Ok("10.0.0.1"), "another port");
        assert_eq!(find("http://a:81/v1").as_deref(), Ok("10.0.0.2"), "another port");
        assert!(find("http://nowhere/").is_err() && find("http://nowhere/").is_err());
        assert_eq!(find("http://b/").as_deref(), Ok("10.0.0.5"), "what was not found is looked for again");
    }
}
