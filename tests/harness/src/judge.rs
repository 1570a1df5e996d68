//! Compares the world with what it must look like, once nothing is under way.

use std::collections::BTreeMap;

use anyhow::Context;
use futures_util::future::join_all;
use serde_json::Value;
use vellum_client::http::{Method, PendingRevocation};

use crate::acts::Scene;
use crate::chronicle::Expected;
use crate::ledger::Invariant;

/// What somebody's node shows of their relationships.
#[derive(Debug, Default)]
struct Shown {
    handle: String,
    friends: Vec<String>,
    pending: Vec<PendingRevocation>,
    incoming: Vec<(String, String)>,
    lost: bool,
}

impl Shown {
    fn has_friend(&self, other: &Self) -> bool {
        self.friends.contains(&other.handle)
    }

    fn pending_for(&self, other: &Self) -> Option<&PendingRevocation> {
        self.pending.iter().find(|row| row.peer_handle.as_str() == other.handle)
    }
}

/// Judges everybody for themselves, then every pair that had to do with each other.
///
/// # Errors
/// When a node does not answer, although nothing is wrong any more.
pub async fn judge(scene: &Scene<'_>, hurried: bool) -> anyhow::Result<()> {
    let looking = scene.people.iter().enumerate().map(|(index, _)| look(scene, index));
    let shown: BTreeMap<usize, Shown> = join_all(looking)
        .await
        .into_iter()
        .collect::<anyhow::Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    for (one, other) in scene.chronicle.pairs() {
        if let (Some(a), Some(b)) = (shown.get(&one), shown.get(&other)) {
            if a.lost || b.lost {
                scene.world.ledger.count("not judged", "their node has lost what they had done");
                continue;
            }
            judge_pair(scene, (one, a), (other, b), hurried);
        }
    }
    Ok(())
}

async fn look(scene: &Scene<'_>, index: usize) -> anyhow::Result<Option<(usize, Shown)>> {
    let Some(mut person) = scene.person(index).await else { return Ok(None) };
    let mut shown = Shown { handle: person.handle.to_string(), lost: person.lost, ..Shown::default() };
    if person.lost {
        return Ok(Some((index, shown)));
    }
    person.look_again(scene.world).await.with_context(|| format!("p{index}, at the end"))?;
    person.check_sessions(scene.world).await;
    let friends = person.client.friends().await?;
    shown.friends = friends.into_iter().map(|friend| friend.friend_handle.to_string()).collect();
    shown.pending = person.client.pending_revocations().await?;
    let (_, incoming) = person.client.request_json(Method::GET, "/sharing/incoming", None).await?;
    let text = |share: &Value, name: &str| share[name].as_str().unwrap_or_default().to_owned();
    let shares = incoming["shares"].as_array().into_iter().flatten();
    shown.incoming = shares.map(|share| (text(share, "senderHandle"), text(share, "resourceId"))).collect();
    Ok(Some((index, shown)))
}

fn judge_pair(scene: &Scene<'_>, (one, a): (usize, &Shown), (other, b): (usize, &Shown), hurried: bool) {
    let ledger = &scene.world.ledger;
    let words = || {
        let row = |shown: Option<&PendingRevocation>| shown.map(|row| (row.state, row.last_error.clone()));
        format!(
            "p{one} has p{other} as a friend: {}, and pending: {:?}; p{other} has p{one} as a friend: {}, and pending: {:?}",
            a.has_friend(b),
            row(a.pending_for(b)),
            b.has_friend(a),
            row(b.pending_for(a))
        )
    };
    match scene.chronicle.expected(one, other, hurried) {
        Expected::Friends { after_end } => {
            let invariant = if after_end { Invariant::NewerSurvives } else { Invariant::NothingLost };
            let friends = a.has_friend(b) && b.has_friend(a);
            ledger.check(invariant, friends, || {
                format!("the two are friends since the last thing they did; {}", words())
            });
        }
        Expected::Ended { by, discarded } => {
            let (ender, ended) = if by == one { (a, b) } else { (b, a) };
            ledger.check(Invariant::NothingLost, !ender.has_friend(ended), || {
                format!("p{by} has ended the friendship; {}", words())
            });
            if discarded {
                ledger.count("not judged", "the revocation was discarded");
            } else {
                let told = !ended.has_friend(ender) || ender.pending_for(ended).is_some();
                ledger.check(Invariant::RevocationsAppliedOrVisible, told, || {
                    format!("p{by} has ended the friendship; {}", words())
                });
            }
        }
        Expected::Agreement => {
            if a.pending_for(b).is_some() || b.pending_for(a).is_some() {
                ledger.count("not judged", "a revocation waits for its owner");
            } else {
                ledger.check(Invariant::Symmetric, a.has_friend(b) == b.has_friend(a), words);
            }
        }
        Expected::Anything(why) => ledger.count("not judged", why),
    }
    for (from, to, owner, holder) in [(one, other, a, b), (other, one, b, a)] {
        for resource in scene.chronicle.shares(from, to).into_iter().filter(|_| !hurried) {
            let arrived = holder.incoming.iter().any(|(peer, id)| *peer == owner.handle && *id == resource);
            ledger.check(Invariant::NothingLost, arrived, || {
                format!("p{from} has shared {resource} with p{to}, who has {:?}", holder.incoming)
            });
        }
    }
}
