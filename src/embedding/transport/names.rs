//! Where hosts are. What was found is remembered for a while: a look-up takes a thread of its own, and ureq asks before each
//! request, also where it goes over a connection that is open.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::uri::Authority;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Shorter than what most providers' own servers allow (60 s and more), so that one that moves is soon found again.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Asks another resolver for what it does not remember.
#[derive(Debug, Default)]
pub struct Names<R = DefaultResolver> {
    resolver: R,
    known: Mutex<HashMap<(bool, Authority), (Instant, ResolvedSocketAddrs)>>,
}

impl<R: Resolver> Resolver for Names<R> {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let Some(authority) = uri.authority() else { return self.resolver.resolve(uri, config, timeout) };
        // The scheme decides the port where none is named.
        let key = (uri.scheme_str() == Some("https"), authority.clone());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((at, addresses)) = known
            && at.elapsed() < REMEMBERED
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

    /// Knows every host but "nowhere", and counts.
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
        let names = Names::<Counting>::default();
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
