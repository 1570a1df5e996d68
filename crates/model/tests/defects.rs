//! Each rule is needed: without it a promise is broken, and it is the expected one. The shortest way there is
//! printed.

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};
use vellum_model::{Bounds, Defect, Revocation, properties};

/// Longer ways than this are not looked for.
const LONGEST: usize = 20;

/// Looks for the shortest way to break this promise, and shows it.
fn breaks(defect: Defect, bounds: Bounds, promise: &'static str) {
    let model = Revocation { bounds, defect };
    let began = Instant::now();
    let steps = (1..=LONGEST).find_map(|depth| shortest(model, promise, depth));
    let steps = steps.unwrap_or_else(|| panic!("{defect:?} does not break: {promise}"));
    println!(
        "{defect:?} breaks \"{promise}\" in {} steps ({:.1} s):",
        steps.len(),
        began.elapsed().as_secs_f32()
    );
    for step in &steps {
        println!("    {step}");
    }
    // The rule, and not the promise, is what makes the difference: the same steps break nothing with it.
    let whole = Revocation { bounds, defect: Defect::None };
    let state = replay(whole, &steps);
    let holds = whole.property(promise).condition;
    assert!(state.is_none_or(|state| holds(&whole, &state)), "{promise} is broken without {defect:?}, too");
}

/// The steps of a way of at most `depth` states, if there is one.
fn shortest(model: Revocation, promise: &'static str, depth: usize) -> Option<Vec<String>> {
    // The checker takes the depth as a number of states that it does not reach any more.
    let looked_for = HasDiscoveries::AllOf(BTreeSet::from([promise]));
    let checker = model.checker().target_max_depth(depth + 1).finish_when(looked_for);
    let path = checker.spawn_bfs().join().discovery(promise)?;
    Some(path.into_actions().iter().map(|action| format!("{action:?}")).collect())
}

/// Where these steps lead; `None` if one of them is not possible.
fn replay(model: Revocation, steps: &[String]) -> Option<vellum_model::State> {
    steps.iter().try_fold(model.init_states().pop()?, |state, step| {
        let named = |(action, _): &(_, _)| format!("{action:?}") == *step;
        model.next_steps(&state).into_iter().find(named).map(|(_, next)| next)
    })
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
    breaks(Defect::AckBeforeCommit, Bounds::delivery(), properties::LEFT);
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

#[test]
fn an_undone_accept_that_forgets_what_it_voided_leaves_a_friendship_behind() {
    breaks(Defect::AcceptForgetsWhatItVoided, Bounds::delivery(), properties::LEFT);
}

#[test]
fn a_window_that_closes_for_a_friend_asks_to_end_the_friendship() {
    breaks(Defect::FriendAwaitsSignature, Bounds::delivery(), properties::UNASKED);
}

/// A promise that no mistake can break would say nothing, and so would a mistake that nobody tries.
#[test]
fn every_promise_and_every_mistake_is_tried() {
    let tried = include_str!("defects.rs");
    for defect in Defect::ALL {
        assert!(tried.contains(&format!("breaks(Defect::{defect:?}, ")), "{defect:?} is not tried");
    }
    for name in properties::PROMISES {
        assert!(tried.contains(&format!("properties::{name})")), "nothing breaks {name}");
    }
}
