//! Which JSON documents the protocol says to refuse (wire protocol, section 3), decided from the text by
//! a scanner that shares no code with the reader under test.

use std::collections::HashSet;

/// Whether a text, which must be JSON, has one of the things that are refused instead of guessed at: a key
/// twice in one object, `__proto__`, a lone surrogate, a number that no double holds, too many levels.
pub fn must_be_refused(document: &str) -> bool {
    // The keys seen so far of every value that is open; those of arrays stay empty.
    let mut open: Vec<HashSet<String>> = Vec::new();
    let mut rest = document;
    while let Some(first) = rest.chars().next() {
        let (token, after) = rest.split_at(token_length(rest, first));
        rest = after;
        let refused = match first {
            '{' | '[' => {
                open.push(HashSet::new());
                open.len() > 32
            }
            '}' | ']' => open.pop().is_none(),
            '"' => match serde_json::from_str::<String>(token) {
                Ok(key) if rest.trim_start().starts_with(':') => {
                    key == "__proto__" || !open.last_mut().unwrap().insert(key)
                }
                Ok(_) => false,
                // The one thing in a well-formed string that the other reader does not take.
                Err(_) => true,
            },
            '-' | '0'..='9' => no_double_holds(token),
            _ => false,
        };
        if refused {
            return true;
        }
    }
    false
}

fn token_length(rest: &str, first: char) -> usize {
    match first {
        '"' => {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        }
        '-' | '0'..='9' => {
            rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')).unwrap_or(rest.len())
        }
        other => other.len_utf8(),
    }
}

fn no_double_holds(number: &str) -> bool {
    if number.contains(['.', 'e', 'E']) {
        number.parse::<f64>().unwrap().is_infinite()
    } else {
        // What does not even fit 128 bits is larger still.
        number.parse::<i128>().map_or(true, |integer| integer.abs() >= 1 << 53)
    }
}

#[test]
fn the_scanner_itself_tells_what_is_refused_from_what_only_looks_like_it() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let refused = [
        r#"{"a":1,"\u0061":2}"#,
        r#"[{"__proto__" : 1}]"#,
        r#""\ud800""#,
        "9007199254740992",
        "-9007199254740992",
        "1e400",
        &nested(33),
    ];
    let taken = [
        r#"{"a":{"a":1},"b":["a","a","__proto__"]}"#,
        r#""\\ud800""#,
        r#"{"a\"":1,"a":"{[\"9007199254740992"}"#,
        "0.30000000000000004",
        "9007199254740993.0",
        "-9007199254740991",
        "1e-400",
        &nested(32),
        &format!("[{}]", vec!["[]"; 50].join(",")),
    ];
    assert!(refused.iter().all(|text| must_be_refused(text)));
    for text in taken {
        assert!(!must_be_refused(text), "{text}");
    }
}
