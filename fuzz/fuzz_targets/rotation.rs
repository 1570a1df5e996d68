//! The body of a rotation, as bytes. What is taken is a JSON object in which nothing is named twice and no version is
//! below the first; what is not is the client's mistake, said with a 4xx.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use vellum::http::read_rotation;

fuzz_target!(|bytes: &[u8]| {
    match read_rotation(bytes) {
        Ok(commit) => {
            let body: Value = serde_json::from_slice(bytes).expect("what is taken is JSON");
            let body = body.as_object().expect("and an object");
            assert_eq!(body["signingKey"].as_str().map(str::is_empty), Some(false));
            let blobs: HashSet<&str> = commit.blobs.iter().map(|blob| blob.blob_type.as_str()).collect();
            assert_eq!(blobs.len(), commit.blobs.len(), "a blob is named twice");
            let sent = body.get("blobs").and_then(Value::as_array).map_or(0, Vec::len);
            assert_eq!(commit.blobs.len(), sent, "every blob is taken or all are refused");
            let collections: HashSet<&str> = commit.collections.iter().map(|item| item.id.as_str()).collect();
            assert_eq!(collections.len(), commit.collections.len(), "a collection is named twice");
        }
        Err(status) => assert!((400..500).contains(&status), "{status}"),
    }
});
