# Daily commands. `just` without arguments lists them.

default:
    @just --list

# Run a node on ./data.
serve:
    cargo run -- serve

# The two-node story.
demo:
    cargo run -- demo

# How fast a node is here, beside what this machine could do at most.
bench *arguments='all':
    cargo run --release -- bench {{arguments}}

# Everything that is tested.
test:
    cargo test --workspace

# What CI checks besides the tests.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo deny check bans licenses sources
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# All of CI, as it runs.
ci:
    bash .ci/run
