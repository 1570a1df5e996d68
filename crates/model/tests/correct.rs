//! With every rule in place, all promises hold in every state within the bounds, and everything that has
//! to be possible is.

use std::time::Instant;

use stateright::{Checker, Expectation, Model};
use vellum_model::{Bounds, Defect, Revocation};

/// Looks at every state, and tells how many there were.
fn explore(name: &str, bounds: Bounds) {
    let model = Revocation { bounds, defect: Defect::None };
    let began = Instant::now();
    let checker = model.checker().spawn_dfs().join();
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    println!("{name}: {states} states, {steps} steps, {:.1} s", began.elapsed().as_secs_f32());
    let found = checker.discoveries();
    for property in model.properties() {
        let path = found.get(property.name);
        match property.expectation {
            Expectation::Always => {
                let actions = path.map(|path| path.clone().into_actions());
                assert!(path.is_none(), "broken: {}, by {actions:#?}", property.name);
            }
            _ => assert!(path.is_some(), "never happens: {}", property.name),
        }
    }
    assert!(checker.is_done());
}

#[test]
fn every_order_of_events_on_the_way_of_a_revocation_keeps_the_promises() {
    explore("delivery", Bounds::delivery());
}

#[test]
fn two_people_who_become_friends_again_and_again_keep_the_promises() {
    explore("friendship", Bounds::friendship());
}

#[test]
fn two_devices_that_change_one_identity_keep_the_promises() {
    explore("identity", Bounds::identity());
}

#[test]
#[ignore = "millions of states; run it with --release"]
fn more_of_everything_on_the_way_keeps_the_promises() {
    explore("large delivery", Bounds::large_delivery());
}

#[test]
#[ignore = "millions of states; run it with --release"]
fn two_devices_while_a_revocation_is_delivered_keep_the_promises() {
    explore("large identity", Bounds::large_identity());
}
