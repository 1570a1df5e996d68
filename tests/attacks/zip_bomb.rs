//! The attacker sends a few kilobytes that unpack to a gigabyte. He would fill the node's memory. What stops him:
//! requests are not unpacked, and answers of other nodes are not asked for packed.

use crate::support::{TestNode, plain_http};

/// A gzip member of stored nothing: small, and as good as a large one for what is shown here.
const GZIP: [u8; 23] =
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 0x05, 0, 0x43, 0xbf, 0xa6, 0xa3, 0x02, 0, 0, 0, 0];

#[tokio::test]
async fn a_packed_body_is_not_unpacked() {
    let node = TestNode::start().await;
    for path in ["/auth/verify", "/federation/inbox"] {
        for encoding in ["gzip", "deflate", "br", "zstd"] {
            let request = plain_http().post(format!("{}{path}", node.process.origin()));
            let request =
                request.header("content-type", "application/json").header("content-encoding", encoding);
            let status = request.body(GZIP.to_vec()).send().await.unwrap().status().as_u16();
            assert!((400..=422).contains(&status), "{path} {encoding}: {status}");
        }
    }
}
