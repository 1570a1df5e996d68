//! What is promised in every state, and what has to be possible in some. The second kind shows that the first
//! is not kept by a model in which nothing happens. How a state comes about is not here.

use stateright::Property;

use crate::envelope::{Author, Effect, Envelope, Standing};
use crate::sender::Row;
use crate::{Bounds, Revocation, State};

/// What the owner was told is so, or was undone by something that the owner knows of.
pub const ACKNOWLEDGED: &str = "no acknowledged change is lost";
/// Data that says it is sealed under the present keys is.
pub const KEYS: &str = "no mixed key state";
/// Applied, or in the list, or the owner does not want it any more.
pub const VISIBLE: &str = "a signed revocation is applied or visible to its owner";
/// The established-at rule.
pub const NEWER: &str = "nothing newer than the revocation is ended";
/// A discard is final.
pub const DISCARDED: &str = "nothing is sent after an answered discard";
/// A node does not speak in a user's name.
pub const SIGNED: &str = "no envelope leaves unsigned";
/// Replays of a request are refused.
pub const NONCE: &str = "no nonce is accepted twice";
/// Only replays are: a stranger cannot use up a nonce.
pub const PROVEN: &str = "a proven request is refused as a replay only after it was accepted";
/// No row waits for an attempt that nobody makes.
pub const LEASED: &str = "no row outlives its lease";
/// The same envelope in another request is recognised.
pub const ONCE: &str = "an envelope is carried out at most once";
/// What the whole way is for. A discard is the owner's own word, so it ends this promise.
pub const LEFT: &str = "a friendship that only B still has is in A's list, or undone";

/// A signature made now would end the friendship of now.
pub const UNASKED: &str = "nobody is asked to sign a revocation for a friend of now";

/// The names of the promises in this module.
pub const PROMISES: [&str; 12] = [
    "ACKNOWLEDGED",
    "KEYS",
    "VISIBLE",
    "NEWER",
    "DISCARDED",
    "SIGNED",
    "NONCE",
    "PROVEN",
    "LEASED",
    "ONCE",
    "LEFT",
    "UNASKED",
];

/// The way from the reset to the other node can be gone to its end.
pub const DELIVERED: &str = "a revocation is confirmed";
/// Also when the envelope is no longer fresh.
pub const LATE: &str = "a late revocation is applied";
/// The established-at rule has something to do.
pub const SURVIVES: &str = "a new friendship survives a late revocation";
/// A window can close, and the row be signed anew and arrive.
pub const RENEWED: &str = "a revocation whose window closed is signed anew and confirmed";
/// An answer can be lost, and the envelope arrive again.
pub const REPEATED: &str = "an envelope arrives in two requests";
/// A discard can be answered while the request is under way.
pub const DROPPED: &str = "a discard is answered";
/// A lease can be over while its attempt goes on, or is forgotten.
pub const RELEASED: &str = "a row whose first attempt was lost is confirmed";
/// An unsigned revocation is void when a new friendship begins.
pub const SUPERSEDED: &str = "a new friendship makes an unsigned revocation void";
/// Known and not wanted: a revocation that is signed after an invitation ends what the invitation becomes,
/// at B alone. `docs/model.md` tells how.
pub const ONE_SIDED: &str = "known: a revocation signed after an invitation leaves a one-sided friendship";
/// Of two devices one comes second.
pub const REFUSED: &str = "a commit is refused";
/// Both a rotation and a registration after a reset can happen while a signature is on its way.
pub const WITHDRAWN: &str = "new keys take a signature back";

fn acknowledged(_: &Revocation, state: &State) -> bool {
    let identity = &state.a.identity;
    let (version, key) = state.told;
    let written = state.a.unwritten.is_some()
        || identity.version > version
        || (identity.version == version && identity.key == key);
    let carried = state.a.row.and_then(Row::envelope);
    let queued = (0..state.envelopes.len()).all(|id| {
        let told = state.envelopes.get(id).is_some_and(|envelope| envelope.standing == Standing::Queued);
        !told || carried == Some(id) || state.a.unwritten.is_some()
    });
    written && queued && !state.breaches.overwritten_unseen
}

fn visible(_: &Revocation, state: &State) -> bool {
    // A later revocation that was applied has ended whatever an earlier one was for.
    let covered = |at| state.envelopes.iter().any(|other| other.effect.is_some() && other.at >= at);
    state.envelopes.iter().all(|envelope| match envelope.standing {
        Standing::Draft | Standing::Void | Standing::Discarded | Standing::DiscardAnswered => true,
        Standing::Queued | Standing::Lapsed | Standing::Withdrawn | Standing::Confirmed => {
            state.a.row.is_some() || covered(envelope.at) || envelope.author == Author::Forger
        }
        // The owner has made friends anew. Should that be undone, nothing of before may be left at B.
        Standing::Superseded => {
            let older = state.b.friend.is_some_and(|since| since <= envelope.at);
            !older || covered(envelope.at) || at_work(state)
        }
    })
}

/// A knows of what B has: as a friendship, as a row of the list, or by an accept that is to come.
fn at_work(state: &State) -> bool {
    state.a.friend || state.a.row.is_some() || state.b.accept_under_way
}

/// B's side alone has a friendship, and nobody at A would see that it has to be ended.
fn left_behind(_: &Revocation, state: &State) -> bool {
    state.b.friend.is_some() && !at_work(state) && state.used.discards == 0
}

fn leased(_: &Revocation, state: &State) -> bool {
    let Some(Row::Delivering { lease, until, .. }) = state.a.row else { return true };
    state.now <= until || state.a.attempt.is_some_and(|attempt| attempt.nonce == lease)
}

fn confirmed(state: &State, which: impl Fn(&Envelope) -> bool) -> bool {
    state.a.row.is_none()
        && state.envelopes.iter().any(|one| one.standing == Standing::Confirmed && which(one))
}

fn renewed(_: &Revocation, state: &State) -> bool {
    let lapsed = |one: &Envelope| one.standing == Standing::Lapsed && one.effect.is_none();
    confirmed(state, |_| true) && state.envelopes.iter().any(lapsed)
}

fn repeated(_: &Revocation, state: &State) -> bool {
    let carrying = |id| {
        let accepted = (0..state.used.attempts).filter(|nonce| state.b.accepted.contains(*nonce));
        accepted.filter(|nonce| state.network.request(*nonce) == Some(id)).count()
    };
    (0..state.envelopes.len()).any(|id| state.b.carried_out.contains(id) && carrying(id) > 1)
}

fn one_sided(_: &Revocation, state: &State) -> bool {
    let under_way = state.a.accept.is_some() || state.b.accept_under_way || state.b.invitation.is_some();
    // Not the first friendship, which began at 0, and not one of the signature's own tick.
    let between =
        |one: &Envelope, ended: Effect| ended.ended.is_some_and(|since| 0 < since && since < one.at);
    let apart = state.a.friend && state.a.row.is_none() && state.b.friend.is_none();
    apart && !under_way && effect(state, between)
}

fn effect(state: &State, which: impl Fn(&Envelope, Effect) -> bool) -> bool {
    state.envelopes.iter().any(|one| one.effect.is_some_and(|effect| which(one, effect)))
}

fn stands(state: &State, standing: Standing) -> bool {
    state.envelopes.iter().any(|envelope| envelope.standing == standing)
}

/// The promises, and what has to be possible.
pub(crate) fn properties(model: &Revocation) -> Vec<Property<Revocation>> {
    let mut properties = vec![
        Property::always(ACKNOWLEDGED, acknowledged),
        Property::always(KEYS, |_, state: &State| !state.a.identity.is_mixed()),
        Property::always(VISIBLE, visible),
        Property::always(NEWER, |_, state: &State| !state.breaches.newer_ended),
        Property::always(DISCARDED, |_, state: &State| !state.breaches.sent_after_discard),
        Property::always(SIGNED, |_, state: &State| !state.breaches.sent_unsigned),
        Property::always(NONCE, |_, state: &State| !state.breaches.accepted_twice),
        Property::always(PROVEN, |_, state: &State| !state.breaches.proven_refused),
        Property::always(LEASED, leased),
        Property::always(ONCE, |_, state: &State| !state.breaches.carried_out_twice),
        Property::always(LEFT, |model, state: &State| !left_behind(model, state)),
        Property::always(UNASKED, |_, state: &State| {
            !(state.a.friend && state.a.row == Some(Row::AwaitingSignature))
        }),
    ];
    properties.extend(possible(&model.bounds));
    properties
}

/// What has to happen somewhere, where the bounds leave room for it.
fn possible(bounds: &Bounds) -> Vec<Property<Revocation>> {
    let (late, again) = (bounds.ticks > 0, bounds.invitations > 0);
    let signed_twice = bounds.ticks >= bounds.window && bounds.envelopes > 1;
    let all = [
        (true, Property::sometimes(DELIVERED, |_, state: &State| confirmed(state, |_| true))),
        (true, Property::sometimes(WITHDRAWN, |_, state: &State| stands(state, Standing::Withdrawn))),
        (late, Property::sometimes(LATE, |_, state: &State| effect(state, |_, effect| effect.late))),
        (
            late && again,
            Property::sometimes(SURVIVES, |_, state: &State| {
                effect(state, |_, effect| effect.late && effect.spared)
            }),
        ),
        (signed_twice, Property::sometimes(RENEWED, renewed)),
        (bounds.attempts > 1, Property::sometimes(REPEATED, repeated)),
        (
            bounds.discards > 0,
            Property::sometimes(DROPPED, |_, state: &State| stands(state, Standing::DiscardAnswered)),
        ),
        (
            bounds.attempts > 1 && bounds.faults > 0,
            Property::sometimes(RELEASED, |_, state: &State| {
                state.used.faults > 0 && state.used.attempts > 1 && confirmed(state, |_| true)
            }),
        ),
        (
            late && again,
            Property::sometimes(SUPERSEDED, |_, state: &State| stands(state, Standing::Superseded)),
        ),
        (again && bounds.ticks > 1, Property::sometimes(ONE_SIDED, one_sided)),
        (
            bounds.devices > 1,
            Property::sometimes(REFUSED, |_, state: &State| {
                state.devices.iter().any(|device| device.refused)
            }),
        ),
    ];
    all.into_iter().filter_map(|(room, property)| room.then_some(property)).collect()
}
