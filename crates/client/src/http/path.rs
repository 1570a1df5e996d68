//! Texts as parts of a path.

/// Percent-encodes a text, once, so that it is one segment of a path: `@` becomes `%40`, `:` becomes `%3A`
/// (wire protocol, section 1).
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn a_handle_is_one_segment() {
        assert_eq!(segment("bob@b.example:8443"), "bob%40b.example%3A8443");
        assert_eq!(segment("a/b?c#d%é"), "a%2Fb%3Fc%23d%25%C3%A9");
    }
}
