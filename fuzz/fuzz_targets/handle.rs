//! Any text, read as an alias, a domain and a handle, by the node's own code and by a second reading of the grammar in
//! section 1 of `docs/wire-protocol.md`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vellum_protocol::{Alias, Domain, Handle};

fuzz_target!(|text: &str| {
    assert_eq!(Alias::parse(text).is_ok(), is_alias(text), "alias {text:?}");
    assert_eq!(Domain::parse(text).is_ok(), is_domain(text), "domain {text:?}");
    let parts: Vec<&str> = text.split('@').collect();
    let expected = matches!(parts[..], [alias, domain] if is_alias(alias) && is_domain(domain));
    let handle = Handle::parse(text);
    assert_eq!(handle.is_ok(), expected, "handle {text:?}");
    if let Ok(handle) = handle {
        assert_eq!(handle.as_str(), text);
        let again = Handle::new(handle.alias().clone(), handle.domain().clone());
        assert_eq!(again, handle);
        let folded = handle.domain().folded();
        assert_eq!(folded, text[parts[0].len() + 1..].to_ascii_lowercase());
        let _ = (handle.domain().port(), handle.domain().host(), handle.domain().is_loopback());
    }
});

fn is_alias(text: &str) -> bool {
    (3..=30).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_domain(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let host = host.as_bytes();
    let port = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    port && host.len() >= 2
        && host[0].is_ascii_alphanumeric()
        && host[host.len() - 1].is_ascii_alphanumeric()
        && host.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(byte))
}
