//! A walk of an existing client through two nodes and a played peer, step by step.
//!
//! What a step expects comes from the sentence that it cites, and never from what a node answered.
//! The documents are part of the test: a step whose sentence is no longer there fails.

mod browser;
mod cites;
mod client;
mod devices;
mod friends;
mod identity;
mod members;
mod passkeys;
mod peers;
mod reset;
mod roles;
mod rotation;
mod sealed;
mod sessions;
mod shares;
mod sign_in;
mod start;
mod transfer;
mod walk;

use browser::Browser;
use cites::{clients, wire};
use client::{Client, Scene};
use members::Kind::{Flag, List, Number, Object, Text, TextOrNull, Time, TimeOrNull};
use members::{expect, expect_members, list, text};
use walk::Walk;

/// An existing client does at least so many different things.
const STEPS: usize = 72;

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_client_gets_through_a_node_as_it_is() {
    let scene = Scene::set().await;
    let walk = Walk::default();
    walk.stage(sign_in::stage(&walk, &scene)).await;
    walk.stage(start::stage(&walk, &scene)).await;
    walk.stage(identity::stage(&walk, &scene)).await;
    walk.stage(devices::stage(&walk, &scene)).await;
    walk.stage(sealed::stage(&walk, &scene)).await;
    walk.stage(passkeys::stage(&walk, &scene)).await;
    walk.stage(rotation::stage(&walk, &scene)).await;
    walk.stage(transfer::stage(&walk, &scene)).await;
    walk.stage(sessions::stage(&walk, &scene)).await;
    walk.stage(friends::stage(&walk, &scene)).await;
    walk.stage(shares::stage(&walk, &scene)).await;
    walk.stage(peers::stage(&walk, &scene)).await;
    walk.stage(reset::stage(&walk, &scene)).await;
    walk.stage(roles::stage(&walk, &scene)).await;
    walk.end(STEPS);
}
