//! Any bytes, read and written canonically by the node's own code and by a second implementation: `serde_json` reads, and
//! what is below writes, after the table in section 3 of `docs/wire-protocol.md`. They must agree on what is JSON, but for
//! what the protocol says to refuse, and on every byte of its canonical form.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use vellum_protocol::Json;

#[path = "../../crates/protocol/tests/refusal.rs"]
mod refusal;

fuzz_target!(|bytes: &[u8]| {
    let theirs = std::str::from_utf8(bytes).ok().and_then(|text| serde_json::from_str::<Value>(text).ok());
    match (Json::parse(bytes), theirs) {
        (Ok(ours), Some(theirs)) => {
            let mut expected = String::new();
            write(&theirs, &mut expected);
            let canonical = ours.canonical();
            assert_eq!(canonical, expected);
            // Large numbers that were written with an exponent are digits now, which the protocol does not take.
            match Json::parse(canonical.as_bytes()) {
                Ok(again) => assert_eq!(again.canonical(), canonical),
                Err(error) => assert!(refusal::must_be_refused(&canonical), "not read again: {error}"),
            }
            assert!(!refusal::must_be_refused(std::str::from_utf8(bytes).unwrap()), "it had to be refused");
        }
        (Ok(ours), None) => panic!("only we read {ours:?}"),
        (Err(error), Some(_)) => {
            let text = std::str::from_utf8(bytes).unwrap();
            assert!(refusal::must_be_refused(text), "only we refuse it: {error}");
        }
        (Err(_), None) => {}
    }
});

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => write_number(number.as_f64().expect("numbers are doubles"), out),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_cached_key(|(key, _)| {
                (index(key).map_or(u64::MAX, u64::from), key.encode_utf16().collect::<Vec<u16>>())
            });
            out.push('{');
            for (at, (key, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_text(key, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
    }
}

/// Keys that are array indices come first.
fn index(key: &str) -> Option<u32> {
    let number: u32 = key.parse().ok()?;
    (number != u32::MAX && number.to_string() == key).then_some(number)
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// As ECMAScript writes numbers, from the shortest digits that Rust's own formatting finds.
fn write_number(number: f64, out: &mut String) {
    let shortest = nearest(number.abs());
    let (digits, exponent) = shortest.split_once('e').expect("an exponent");
    let digits = digits.replace('.', "");
    let exponent: i32 = exponent.parse().expect("a number");
    if number == 0.0 {
        out.push('0');
        return;
    }
    if number < 0.0 {
        out.push('-');
    }
    let count = i32::try_from(digits.len()).expect("at most 17");
    let point = exponent + 1;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    match point {
        _ if count <= point && point <= 21 => out.push_str(&format!("{digits}{}", zeros(point - count))),
        1..=21 => {
            let (whole, fraction) = digits.split_at(usize::try_from(point).expect("positive"));
            out.push_str(&format!("{whole}.{fraction}"));
        }
        -5..=0 => out.push_str(&format!("0.{}{digits}", zeros(-point))),
        _ => {
            let (first, rest) = digits.split_at(1);
            let dot = if rest.is_empty() { "" } else { "." };
            out.push_str(&format!("{first}{dot}{rest}e{exponent:+}"));
        }
    }
}

/// Of the texts with the fewest digits that are read as this number, the nearest, and the even one of two that are
/// equally near. Rust's shortest form is not always that one; its form with as many digits, rounded, is.
fn nearest(number: f64) -> String {
    let shortest = format!("{number:e}");
    let decimals = shortest
        .split('e')
        .next()
        .and_then(|digits| digits.split_once('.'))
        .map_or(0, |(_, fraction)| fraction.len());
    let rounded = format!("{number:.decimals$e}");
    if rounded.parse() == Ok(number) { rounded } else { shortest }
}
