//! A handful of histories of real nodes, and, with the feature `planted-defects`, that known defects are found.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures of a run that passes")]

use std::time::Duration;

use harness::campaign::{Options, Outcome, campaign};

fn options() -> Options {
    Options {
        program: env!("CARGO_BIN_EXE_harness").into(),
        engine: vellum_test_database::engine(),
        seed: 1,
        histories: 4,
        limit: None,
        worlds: 2,
        defect: None,
        shrink: Duration::ZERO,
    }
}

async fn run(options: &Options) -> Outcome {
    campaign(options, |words| println!("{words}")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_histories_break_nothing() {
    let options = options();
    let outcome = run(&options).await;
    println!("{}", outcome.summary);
    if let Some(failure) = &outcome.failure {
        panic!("{}", failure.report(options.engine, &options.defect));
    }
    assert_eq!(outcome.histories, options.histories);
}

/// Each by itself: `cargo test -p harness --features planted-defects --test histories -- found`.
#[cfg(feature = "planted-defects")]
mod planted {
    use harness::ledger::Invariant;

    use super::*;

    /// The defect is found within 200 histories, as what it is.
    async fn found(defect: &str, broken: &[Invariant]) {
        let options = Options { histories: 200, defect: Some(defect.to_owned()), ..options() };
        let outcome = run(&options).await;
        let failure = outcome.failure.expect("a defect that was planted is found");
        println!("{defect}: found in history {} of 200; {:?}", outcome.histories, failure.violations);
        let seen: Vec<_> = failure.violations.iter().map(|violation| violation.invariant).collect();
        assert!(seen.iter().any(|seen| broken.contains(seen)), "{seen:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn keys_that_change_without_compare_and_swap_are_found() {
        found("no-compare-and-swap", &[Invariant::NoMixedKeys]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nonces_that_are_not_checked_are_found() {
        found("no-nonce-check", &[Invariant::NonceOnce]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn revocations_that_end_what_is_newer_are_found() {
        found("no-established-at", &[Invariant::NewerSurvives, Invariant::Symmetric]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn leases_without_an_end_are_found() {
        found("no-lease-expiry", &[Invariant::QueueDrains]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn answers_before_the_commit_are_found() {
        // Also as something that was acknowledged a moment ago and cannot be used yet.
        found("ack-before-commit", &[Invariant::NothingLost, Invariant::NoStrangeRefusal]).await;
    }
}
