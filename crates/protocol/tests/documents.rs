//! Documents for property tests.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::Value;

/// Any single value that is not refused.
fn leaves() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
}

/// Any document that is not refused.
pub fn documents() -> impl Strategy<Value = Value> {
    leaves().prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map("[0-9]{1,10}|[a-z]{0,3}|\\PC{0,4}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Objects with some of these members, each as it should be or anything else.
pub fn objects_like(good: Value) -> impl Strategy<Value = Value> {
    let members: Vec<_> = good.as_object().unwrap().clone().into_iter().collect();
    let fates: Vec<_> = members
        .into_iter()
        .map(|(name, value)| {
            prop_oneof![
                8 => Just(Some((name.clone(), value))),
                1 => Just(None),
                1 => documents().prop_map(move |other| Some((name.clone(), other))),
            ]
        })
        .collect();
    fates.prop_map(|members| Value::Object(members.into_iter().flatten().collect()))
}

/// The same document with the members of every object in another order and with white space.
pub fn shuffled(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .rev()
                .map(|(key, value)| format!(" {} :\n{}", Value::from(key.as_str()), shuffled(value)))
                .collect();
            format!("{{{}\t}}", members.join(" ,"))
        }
        Value::Array(members) => {
            format!("[ {} ]", members.iter().map(shuffled).collect::<Vec<_>>().join(" , "))
        }
        other => other.to_string(),
    }
}

/// A text with one character removed, doubled, or replaced by one that means something in JSON.
pub fn damaged(text: &str, place: usize, by: Option<char>) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let place = place % characters.len();
    match by {
        None => {
            characters.remove(place);
        }
        Some('=') => characters.insert(place, characters[place]),
        Some(other) => characters[place] = other,
    }
    characters.into_iter().collect()
}
