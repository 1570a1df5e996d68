//! Each rule is needed: without it, a promise is broken, and it is the expected one.

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};
use vellum_model::{Bounds, Defect, Revocation, properties};

/// Looks until this promise is broken, and shows by which steps.
fn breaks(defect: Defect, bounds: Bounds, promise: &'static str) {
    let began = Instant::now();
    let looked_for = HasDiscoveries::AllOf(BTreeSet::from([promise]));
    let checker = Revocation { bounds, defect }.checker().finish_when(looked_for).spawn_bfs().join();
    let found = checker.discovery(promise);
    let path = found.unwrap_or_else(|| panic!("{defect:?} does not break: {promise}"));
    let (states, time) = (checker.unique_state_count(), began.elapsed().as_secs_f32());
    println!("{defect:?} breaks \"{promise}\" ({states} states, {time:.1} s):");
    for action in path.into_actions() {
        println!("    {action:?}");
    }
}

#[test]
fn a_revocation_that_does_not_look_at_the_beginning_ends_a_newer_friendship() {
    breaks(Defect::ApplyWithoutEstablishedAt, Bounds::delivery(), properties::NEWER);
}

#[test]
fn a_nonce_remembered_before_the_signature_is_used_up_by_a_stranger() {
    breaks(Defect::NonceBeforeSignature, Bounds::delivery(), properties::PROVEN);
}

#[test]
fn two_commits_without_a_comparison_mix_two_keys() {
    breaks(Defect::NoCompareAndSwap, Bounds::identity(), properties::KEYS);
    breaks(Defect::NoCompareAndSwap, Bounds::identity(), properties::ACKNOWLEDGED);
}

#[test]
fn a_discard_that_does_not_stop_the_attempt_is_answered_too_early() {
    breaks(Defect::SendWithoutRecheckAfterDiscard, Bounds::delivery(), properties::DISCARDED);
}

#[test]
fn a_lease_without_an_end_keeps_its_row_for_ever() {
    breaks(Defect::LeaseWithoutExpiry, Bounds::delivery(), properties::LEASED);
}

#[test]
fn an_answer_before_the_commit_loses_what_was_answered() {
    breaks(Defect::AckBeforeCommit, Bounds::delivery(), properties::ACKNOWLEDGED);
    breaks(Defect::AckBeforeCommit, Bounds::delivery(), properties::VISIBLE);
}

#[test]
fn a_flush_that_does_not_verify_sends_what_nobody_signed() {
    breaks(Defect::QueueWithoutVerifying, Bounds::delivery(), properties::SIGNED);
}

#[test]
fn an_outcome_that_does_not_name_its_lease_removes_a_newer_revocation() {
    breaks(Defect::OutcomeWithoutLease, Bounds::delivery(), properties::VISIBLE);
}

#[test]
fn nonces_in_memory_are_accepted_again_after_a_crash() {
    breaks(Defect::NoncesInMemory, Bounds::delivery(), properties::NONCE);
}

#[test]
fn envelopes_that_are_not_remembered_are_carried_out_again() {
    breaks(Defect::NoEnvelopeMemory, Bounds::delivery(), properties::ONCE);
}

#[test]
fn a_version_that_begins_anew_at_a_reset_lets_a_stale_device_in() {
    breaks(Defect::VersionRestartsAtReset, Bounds::identity(), properties::KEYS);
    breaks(Defect::VersionRestartsAtReset, Bounds::identity(), properties::ACKNOWLEDGED);
}

#[test]
fn keys_that_take_no_version_of_their_own_are_overwritten_unseen() {
    breaks(Defect::RegistrationKeepsVersion, Bounds::identity(), properties::KEYS);
    breaks(Defect::RegistrationKeepsVersion, Bounds::identity(), properties::ACKNOWLEDGED);
}
