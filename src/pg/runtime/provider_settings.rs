//! The settings of providers: where data is sent, and with which key. Only a superuser can change them.

use std::ffi::CStr;
use std::os::unix::fs::MetadataExt;

use pgrx::guc::{GucContext, GucFlags, GucRegistry};

use crate::embedding::provider::{Endpoint, Provider, Secret, check_url};
use crate::error::{Error, Result};
use crate::pg::runtime::settings::{TextSetting, text_value};

/// The settings of one provider, which only a superuser can change.
struct ProviderSettings {
    provider: &'static str,
    url_name: &'static CStr,
    url: TextSetting,
    key_name: &'static CStr,
    key: TextSetting,
    key_file_name: &'static CStr,
    key_file: TextSetting,
}

/// Makes a C string of a literal. The compiler evaluates it, and fails unless the only zero byte is at the end.
#[allow(clippy::panic)]
const fn c_string(name: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(name.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("no zero at the end of a name"),
    }
}

macro_rules! provider_settings {
    ($($provider:literal)*) => {
        [$(ProviderSettings {
            provider: $provider,
            url_name: c_string(concat!("chatbot_sync.", $provider, "_url\0")),
            url: TextSetting::new(None),
            key_name: c_string(concat!("chatbot_sync.", $provider, "_api_key\0")),
            key: TextSetting::new(None),
            key_file_name: c_string(concat!("chatbot_sync.", $provider, "_api_key_file\0")),
            key_file: TextSetting::new(None),
        }),*]
    };
}

static PROVIDERS: [ProviderSettings; 7] =
    provider_settings!("openai" "openai_compatible" "azure" "ollama" "cohere" "voyage" "gemini");

/// Defines the settings.
pub fn define() {
    let secret = GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL;
    let text = |name, short, long, setting, flags| {
        GucRegistry::define_string_guc(name, short, long, setting, GucContext::Suset, flags);
    };
    for p in &PROVIDERS {
        let url = c"http or https, without user and password. Only a superuser chooses where data goes.";
        text(p.url_name, c"Address of the provider.", url, &p.url, GucFlags::SUPERUSER_ONLY);
        let key = c"Better kept in a file: see the setting whose name ends in _api_key_file.";
        text(p.key_name, c"Key for the provider.", key, &p.key, secret);
        let file = c"Read anew for each call. Nobody but its owner may read it.";
        text(
            p.key_file_name,
            c"File that holds the key for the provider.",
            file,
            &p.key_file,
            GucFlags::SUPERUSER_ONLY,
        );
    }
}

/// Returns a provider's address and key. The key is that of the setting, else of the file, else of the server's environment.
/// Fails where the address is missing, or a key that the provider needs.
pub fn endpoint(provider: &dyn Provider) -> Result<Endpoint> {
    let settings = PROVIDERS
        .iter()
        .find(|p| p.provider == provider.name())
        .ok_or_else(|| Error::Internal(format!("provider {} has no settings", provider.name())))?;
    let url_name = settings.url_name.to_str().unwrap_or("chatbot_sync.url");
    let url = text_value(&settings.url).or_else(|| provider.default_url().map(str::to_owned)).ok_or_else(|| {
        let hint = format!("A superuser runs: ALTER SYSTEM SET {url_name} = 'https://...'; SELECT pg_reload_conf();");
        Error::NotConfigured {
            message: format!("provider {} has no address: {url_name} is not set", provider.name()),
            hint,
        }
    })?;
    let key = match text_value(&settings.key) {
        Some(key) => Some(Secret::new(key)),
        None => match text_value(&settings.key_file) {
            Some(path) => Some(read_key(&path)?),
            None => provider.key_variables().iter().find_map(|v| std::env::var(v).ok()).map(Secret::new),
        },
    };
    if key.is_none() && provider.needs_key() {
        let file = settings.key_file_name.to_string_lossy();
        let hint = format!("A superuser runs: ALTER SYSTEM SET {file} = '/path/to/file'; SELECT pg_reload_conf();");
        return Err(Error::NotConfigured { message: format!("provider {} has no key", provider.name()), hint });
    }
    Ok(Endpoint { url: check_url(url_name, &url)?, key })
}

/// Reads a key from a file. Fails if any user but its owner can read it; where root owns it, its group may, too, as Postgres
/// allows for TLS keys.
fn read_key(path: &str) -> Result<Secret> {
    let refuse = |message: String, hint: &str| Error::NotConfigured { message, hint: hint.to_owned() };
    let hint = "The server's own user has to be able to read it, and nobody else: chmod 600.";
    let unreadable = |error: std::io::Error| refuse(format!("the key file {path} cannot be read: {error}"), hint);
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    let open = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if !metadata.is_file() || metadata.mode() & open != 0 {
        return Err(refuse(format!("the key file {path} may be read by others, or is no file"), hint));
    }
    let key = std::fs::read_to_string(path).map_err(unreadable)?;
    match key.trim() {
        "" => Err(refuse(format!("the key file {path} is empty"), "It holds the key and nothing else.")),
        key if key.chars().all(|c| c.is_ascii_graphic()) => Ok(Secret::new(key)),
        _ => Err(refuse(format!("the key file {path} holds more than a key"), "It holds the key and nothing else.")),
    }
}
