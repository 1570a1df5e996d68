//! Characters that no text from outside may have (wire protocol, section 3).
//!
//! Control characters are U+0000 to U+001F and U+007F to U+009F. PostgreSQL keeps no U+0000, and
//! terminals and logs obey some of the others. An identifier or data with one of them is refused;
//! names and the words of a peer, which are only shown, lose them. Those lose as well what turns
//! the direction of the text around it (U+202A to U+202E, U+2066 to U+2069). Lone surrogates never
//! arrive: the JSON readers refuse them.

/// Whether a text has control characters.
#[must_use]
pub fn has_control_characters(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// A text to be shown: without control characters and what turns its direction. A tab or a line
/// break becomes a space; spaces at the ends go.
#[must_use]
pub fn without_control_characters(text: &str) -> String {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let spaced = text.chars().map(|c| if matches!(c, '\t' | '\n' | '\r') { ' ' } else { c });
    let kept: String = spaced.filter(|c| !c.is_control() && !turns(*c)).collect();
    kept.trim().to_owned()
}
