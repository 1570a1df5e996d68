//! What is promised in every state, and what has to be possible in some. The second kind shows that the first
//! is not kept by a model in which nothing happens. How a state comes about is not here.

use stateright::Property;

use crate::envelope::{Author, Envelope, Standing};
use crate::sender::Row;
use crate::{Revocation, State};

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
        // The owner has made friends anew. Nothing of before may be left at B.
        Standing::Superseded(by) => state.b.friend.is_none_or(|since| since >= by),
    })
}

fn leased(_: &Revocation, state: &State) -> bool {
    !matches!(state.a.row, Some(Row::Delivering { until, .. }) if state.now > until)
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
    let under_way = state.b.invitation.is_some() || state.b.accept_under_way;
    state.a.friend && state.a.row.is_none() && state.b.friend.is_none() && !under_way
}

fn effect(state: &State, which: impl Fn(&Envelope, bool, bool) -> bool) -> bool {
    state.envelopes.iter().any(|one| one.effect.is_some_and(|effect| which(one, effect.late, effect.spared)))
}

fn stands(state: &State, which: impl Fn(Standing) -> bool) -> bool {
    state.envelopes.iter().any(|envelope| which(envelope.standing))
}

/// The promises, and what has to be possible within the bounds of this model.
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
        Property::sometimes(DELIVERED, |_, state: &State| confirmed(state, |_| true)),
        Property::sometimes(WITHDRAWN, |_, state: &State| stands(state, |one| one == Standing::Withdrawn)),
    ];
    if model.bounds.ticks > 0 {
        properties.extend([
            Property::sometimes(LATE, |_, state: &State| effect(state, |_, late, _| late)),
            Property::sometimes(SURVIVES, |_, state: &State| {
                state.b.friend.is_some() && effect(state, |_, late, spared| late && spared)
            }),
            Property::sometimes(RENEWED, renewed),
            Property::sometimes(REPEATED, repeated),
            Property::sometimes(DROPPED, |_, state: &State| {
                stands(state, |one| one == Standing::DiscardAnswered)
            }),
            Property::sometimes(RELEASED, |_, state: &State| {
                state.used.faults > 0 && state.used.attempts > 1 && confirmed(state, |_| true)
            }),
            Property::sometimes(SUPERSEDED, |_, state: &State| {
                stands(state, |one| matches!(one, Standing::Superseded(_)))
            }),
            Property::sometimes(ONE_SIDED, one_sided),
        ]);
    }
    if model.bounds.devices > 1 {
        properties.push(Property::sometimes(REFUSED, |_, state: &State| {
            state.devices.iter().any(|device| device.refused)
        }));
    }
    properties
}
