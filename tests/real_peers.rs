//! What peers that exist do, and what becomes of messages meanwhile: they are away for long, they fetch
//! documents for each message, and their nodes cannot be asked now and then.

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use vellum_client::http::{Direction, Invitation, InvitationDelivery, Method, RevocationState};
use vellum_protocol::{Handle, MessageType};

use crate::drain::{MANY_INVITATIONS, with_pending};
use crate::metrics::{scrape, value};
use crate::support::{Documents, Mood, Peer, Person, TestNode, fields, now, plain_http, wait_for};

/// A first pause of an hour, as after many failures.
const LONG_PAUSES: [(&str, &str); 3] = [
    ("VELLUM_FEDERATION__RETRY_FIRST_MS", "3600000"),
    ("VELLUM_FEDERATION__RETRY_RANDOMIZATION", "0"),
    ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "30000"),
];
/// A third of the 290 s for which a message to an ordinary peer is sent.
const LONGEST_PAUSE_MILLIS: i64 = 97_000;

fn away() -> Mood {
    Mood::Answers(503, String::new())
}

/// The pause before the next attempt with somebody's only pending revocation.
async fn pause(person: &Person) -> i64 {
    let row = wait_for(
        "an attempt has failed",
        || async { person.pending().await.remove(0) },
        |row| row.attempts > 0 && row.next_attempt_at.is_some(),
    )
    .await;
    row.next_attempt_at.unwrap().instant().since(row.last_attempt_at.unwrap().instant())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_signature_earns_a_probe_soon_also_after_a_long_pause() {
    let node = TestNode::start_with(&LONG_PAUSES).await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let (bob, carl) = (peer.friend_of(&ann, "bob").await, peer.friend_of(&ann, "carl").await);
    for friend in [&bob, &carl] {
        ann.client.remove_friend(&friend.handle, None).await.unwrap();
    }
    peer.set_mood(away());
    let result = ann.flush(std::slice::from_ref(&bob.handle)).await.remove(0);
    assert!(!result.delivered && result.attempts == Some(1), "{result:?}");
    peer.set_mood(Mood::Well);
    let result = ann.flush(std::slice::from_ref(&bob.handle)).await.remove(0);
    assert!(result.delivered, "the peer is back: {result:?}");
    peer.set_mood(away());
    ann.flush(std::slice::from_ref(&carl.handle)).await;
    peer.set_mood(Mood::Well);
    // Anything newly signed, not only a flush.
    let invitation = ann.invite(&peer.user("dora").handle).await;
    assert_eq!(invitation.delivery, Some(InvitationDelivery::Delivered), "{invitation:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_while_a_probe_is_under_way_has_one_soon_after_that_has_failed() {
    let settings = [LONG_PAUSES[0], LONG_PAUSES[1], ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300")];
    let node = TestNode::start_with(&settings).await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let (bob, carl) = (peer.friend_of(&ann, "bob").await, peer.friend_of(&ann, "carl").await);
    for friend in [&bob, &carl] {
        ann.client.remove_friend(&friend.handle, None).await.unwrap();
    }
    let of = async |handle: &Handle| {
        ann.pending().await.into_iter().find(|row| row.peer_handle == *handle).unwrap()
    };
    // One that has failed gets one probe at a time.
    peer.set_mood(away());
    ann.flush(std::slice::from_ref(&bob.handle)).await;
    wait_for("an attempt has failed", || of(&bob.handle), |seen| seen.attempts == 1).await;
    peer.set_mood(Mood::Hangs);
    ann.flush(std::slice::from_ref(&bob.handle)).await;
    let state = || async { of(&bob.handle).await.state };
    wait_for("a probe is under way", || async { state().await }, |seen| *seen == RevocationState::Delivering)
        .await;
    ann.flush(std::slice::from_ref(&carl.handle)).await;
    peer.set_mood(Mood::Well);
    let failed = wait_for("the probe has failed", || of(&bob.handle), |row| row.attempts == 1).await;
    if let Some(carls) = ann.pending().await.into_iter().find(|row| row.peer_handle == carl.handle) {
        let failed_at = failed.last_attempt_at.unwrap().instant();
        let waits = carls.next_attempt_at.map(|at| at.instant().since(failed_at));
        assert!(waits.is_none_or(|waits| waits <= 10_000), "it waits for {waits:?} ms");
    }
    wait_for(
        "it is delivered",
        || ann.pending(),
        |seen| seen.iter().all(|row| row.peer_handle != carl.handle),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_an_earlier_signature_is_not_the_answer_to_a_fresh_one() {
    let settings = [LONG_PAUSES[0], LONG_PAUSES[1], ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "6000")];
    let node = TestNode::start_with(&settings).await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.friend_of(&ann, "bob").await;
    ann.client.remove_friend(&bob.handle, None).await.unwrap();
    peer.set_mood(Mood::Answers(400, r#"{"message":"not today"}"#.to_owned()));
    let result = ann.flush(std::slice::from_ref(&bob.handle)).await.remove(0);
    assert!(result.error.is_some_and(|error| error.contains("not today")));
    node.process.run(&["queue", "pause"]).await.unwrap();
    let result = ann.flush(std::slice::from_ref(&bob.handle)).await.remove(0);
    let expected = (Some(0), Some("queued: not attempted yet"));
    assert_eq!((result.attempts, result.error.as_deref()), expected, "nobody has been asked");
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn no_pause_outlasts_the_window_of_what_waits() {
    use crate::clocks::AT_THE_NEXT_LOOK;
    use crate::support::{Steered, wait_for_up_to};
    let steered = Steered::start(&LONG_PAUSES).await;
    let (ann, peer) = (steered.node.person("ann").await, Peer::start().await);
    let bob = peer.friend_of(&ann, "bob").await;
    peer.set_mood(away());
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    let longest = pause(&ann).await;
    assert!((1..=LONGEST_PAUSE_MILLIS).contains(&longest), "{longest} ms");
    peer.set_mood(Mood::Well);
    steered.after(LONGEST_PAUSE_MILLIS + 1000);
    let what = "it is delivered without a new signature";
    wait_for_up_to(AT_THE_NEXT_LOOK, what, || ann.pending(), |seen| seen.is_empty()).await;
    let sent = peer.received_of(MessageType::RelationshipRevoke);
    assert_eq!(sent.first(), sent.last(), "the same envelope");
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_takes_no_more_than_half_of_what_is_left_of_the_window() {
    use crate::clocks::AT_THE_NEXT_LOOK;
    use crate::support::{Steered, wait_for_up_to};
    let steered = Steered::start(&LONG_PAUSES).await;
    let (ann, peer) = (steered.node.person("ann").await, Peer::start().await);
    let bob = peer.friend_of(&ann, "bob").await;
    peer.set_mood(away());
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    pause(&ann).await;
    // Of its 290 s less than 90 are left.
    steered.after(200_000);
    let tried_again = |rows: &Vec<vellum_client::http::PendingRevocation>| {
        rows[0].attempts == 2 && rows[0].next_attempt_at.is_some()
    };
    let rows = wait_for_up_to(AT_THE_NEXT_LOOK, "it is tried again", || ann.pending(), tried_again).await;
    let row = rows.into_iter().next().unwrap();
    let (last, next) = (row.last_attempt_at.unwrap().instant(), row.next_attempt_at.unwrap().instant());
    let left = row.expires_at.unwrap().instant().since(last);
    assert!((0..90_000).contains(&left), "{left} ms were left");
    assert!((1..=left / 2).contains(&next.since(last)), "{} ms, of {left} ms", next.since(last));
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn at_a_peer_with_the_capability_its_longer_window_counts_for_revocations_alone() {
    use crate::clocks::{AT_THE_NEXT_LOOK, durable_peer};
    use crate::support::{Steered, wait_for_up_to};
    let steered = Steered::start(&LONG_PAUSES).await;
    let (ann, peer) = (steered.node.person("ann").await, durable_peer().await);
    let (bob, carl) = (peer.friend_of(&ann, "bob").await, peer.user("carl"));
    peer.set_mood(away());
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    assert_eq!(pause(&ann).await, 3_600_000, "a week is left");
    let invitation = ann.invite(&carl.handle).await;
    assert_eq!(invitation.delivery, Some(InvitationDelivery::Queued), "{invitation:?}");
    peer.set_mood(Mood::Well);
    steered.after(LONGEST_PAUSE_MILLIS + 1000);
    let what = "the invitation is delivered: the peer was not left alone for an hour";
    let delivered = |seen: &Invitation| seen.delivery == Some(InvitationDelivery::Delivered);
    wait_for_up_to(AT_THE_NEXT_LOOK, what, || only_invitation(&ann), delivered).await;
}

/// A node with its limits, and without those on what users here do.
fn limited() -> Vec<(&'static str, &'static str)> {
    let mut settings = MANY_INVITATIONS.to_vec();
    settings.extend([
        ("VELLUM_LIMITS__ENABLED", "true"),
        ("VELLUM_LIMITS__INVITES_PER_MINUTE", "1000"),
        ("VELLUM_LIMITS__LOOKUPS_PER_PEER_PER_MINUTE", "1000"),
        ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "20000"),
    ]);
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn of_25_revocations_at_once_to_a_peer_that_fetches_three_documents_for_each_none_is_refused() {
    let node = TestNode::start_with(&limited()).await;
    let peers = [Peer::start().await];
    let (ann, handles) = with_pending(&node, &peers, 25).await;
    // It was met long ago.
    let mut node = node;
    node.process.stop().await.unwrap();
    node.process.start().await.unwrap();
    peers[0].set_mood(Mood::FetchesAll);
    let results = ann.flush(&handles.concat()).await;
    assert!(results.len() == 25 && results.iter().all(|result| result.delivered), "{results:?}");
    assert_eq!(peers[0].refused_without_documents(), 0, "our documents were there for each");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_330_invitations_to_a_peer_that_fetches_three_documents_for_each_none_vanishes() {
    const INVITED: usize = 330;
    let node = TestNode::start_with(&limited()).await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    peer.set_mood(Mood::FetchesAll);
    let invited: Vec<_> = (0..INVITED).map(|n| peer.user(&format!("user{n}")).handle).collect();
    stream::iter(&invited).for_each_concurrent(8, |handle| async { drop(ann.invite(handle).await) }).await;
    let undelivered = || async {
        let open = ann.client.invitations(Direction::Outgoing).await.unwrap();
        assert_eq!(open.len(), INVITED, "each is listed");
        let is_not = |invitation: &&Invitation| invitation.delivery != Some(InvitationDelivery::Delivered);
        open.iter().filter(is_not).count()
    };
    wait_for("all are delivered", || async { undelivered().await }, |seen| *seen == 0).await;
    assert_eq!(peer.refused_without_documents(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_peer_has_an_allowance_of_its_own_for_documents_and_it_has_an_end() {
    let node = TestNode::start_with(&[
        ("VELLUM_LIMITS__ENABLED", "true"),
        ("VELLUM_LIMITS__DOCUMENTS_PER_MINUTE", "2"),
        ("VELLUM_LIMITS__DOCUMENTS_PER_PEER_PER_MINUTE", "5"),
    ])
    .await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let url = format!("{}/.well-known/user/ann", node.process.origin());
    let fetched = || async {
        let mut answered = 0;
        while plain_http().get(&url).send().await.unwrap().status() == 200 {
            answered += 1;
        }
        answered
    };
    assert!((2..=3).contains(&fetched().await), "a stranger");
    let envelope = peer.request(ann.handle().domain(), &json!({}).try_into().unwrap());
    let mut forged = envelope;
    forged.signature = Some(vellum_protocol::base64::encode(&[7; 64]));
    assert_eq!(forged.post().await.0, 401);
    assert!(fetched().await <= 1, "who only names a peer is a stranger");
    peer.invite(&peer.user("bob"), &ann.handle()).await;
    assert!((5..=7).contains(&fetched().await), "from where a peer has signed a request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_fails_for_a_passing_reason_is_no_final_refusal() {
    let node = TestNode::start().await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    for (documents, status) in [
        (Documents::Broken, 503),
        (Documents::Refused(500), 503),
        (Documents::Refused(502), 503),
        (Documents::Refused(503), 503),
        (Documents::Refused(429), 429),
    ] {
        peer.set_documents(documents);
        let from = peer.user(&format!("user{status}"));
        let kind = MessageType::FriendInvite;
        let envelope = from.signer.envelope(kind, &ann.handle(), Default::default(), now(), &mut rand::rng());
        let request = peer.request(ann.handle().domain(), &envelope.to_json());
        let answer = request.post_for_answer().await;
        let waits = answer.headers().contains_key("retry-after");
        assert_eq!((answer.status().as_u16(), waits), (status, true), "{documents:?}");
        peer.set_documents(Documents::Shown);
        assert_eq!(peer.send(&envelope).await.0, 202, "the same message is taken later ({documents:?})");
        let id = ann.invitation_from(&from.handle).await.id;
        ann.ask(Method::DELETE, &format!("/friends/invitations/{id}"), Value::Null).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_to_come_again_comes_again() {
    for status in [429, 503] {
        let node = TestNode::start_with(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300")]).await;
        let (ann, peer) = (node.person("ann").await, Peer::start().await);
        let later = json!({ "message": "the node of this user was asked too often; try again later" });
        peer.set_mood(Mood::Answers(status, later.to_string()));
        let bob = peer.user("bob");
        ann.invite(&bob.handle).await;
        let waits = wait_for(
            "the reason is shown",
            || only_invitation(&ann),
            |invitation| invitation.delivery_error.is_some(),
        )
        .await;
        assert_eq!(waits.delivery, Some(InvitationDelivery::Queued), "{status}: {waits:?}");
        peer.set_mood(Mood::Well);
        wait_for(
            "it is delivered",
            || async { only_invitation(&ann).await.delivery },
            |delivery| *delivery == Some(InvitationDelivery::Delivered),
        )
        .await;
    }
}

/// The only invitation that somebody has made.
async fn only_invitation(person: &Person) -> Invitation {
    let mut open = person.client.invitations(Direction::Outgoing).await.unwrap();
    assert_eq!(open.len(), 1, "{open:?}");
    open.remove(0)
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_could_not_be_delivered_stays_visible_with_its_reason() {
    use crate::clocks::AT_THE_NEXT_LOOK;
    use crate::support::{Steered, wait_for_up_to};
    let steered = Steered::start(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300")]).await;
    let strict = TestNode::start_with(&[("VELLUM_INVITATIONS__PER_SERVER", "1")]).await;
    let (ann, amy) = (steered.node.person("ann").await, steered.node.person("amy").await);
    let ben = strict.person("ben").await;
    amy.invite(&ben.handle()).await;
    ben.invitation_from(&amy.handle()).await;
    ann.invite(&ben.handle()).await;
    let waits = wait_for(
        "the bound is told",
        || only_invitation(&ann),
        |invitation| invitation.delivery_error.is_some(),
    )
    .await;
    assert_eq!(waits.delivery_error.as_deref(), Some("refused (400): Too many invitations"));
    assert_eq!(waits.delivery, Some(InvitationDelivery::Queued));

    // Its window closes.
    steered.after(300_000);
    let given_up = |seen: &Invitation| seen.delivery == Some(InvitationDelivery::Failed);
    let failed = wait_for_up_to(AT_THE_NEXT_LOOK, "it is given up", || only_invitation(&ann), given_up).await;
    assert!(failed.delivery_error.is_some_and(|reason| reason.contains("Too many invitations")));
    steered.after(0);

    // It can be made again, and withdrawn.
    let again = ann.invite(&ben.handle()).await;
    assert_ne!(again.id, failed.id);
    ann.client.cancel_invitation(&again.id).await.unwrap();
    assert!(ann.client.invitations(Direction::Outgoing).await.unwrap().is_empty());
    let id = ben.invitation_from(&amy.handle()).await.id;
    ben.ask(Method::DELETE, &format!("/friends/invitations/{id}"), Value::Null).await;
    ann.invite(&ben.handle()).await;
    ben.invitation_from(&ann.handle()).await;
    wait_for(
        "it is delivered",
        || only_invitation(&ann),
        |seen| seen.delivery == Some(InvitationDelivery::Delivered),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_is_refused_when_nobody_waits_any_more_stays_and_is_no_invitation() {
    let node = TestNode::start_with(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300")]).await;
    let (mut ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.user("bob");
    peer.set_mood(away());
    ann.invite(&bob.handle).await;
    peer.set_mood(Mood::Answers(400, json!({ "message": "Recipient not found" }).to_string()));
    let failed = wait_for(
        "it is refused",
        || only_invitation(&ann),
        |invitation| invitation.delivery == Some(InvitationDelivery::Failed),
    )
    .await;
    assert_eq!(failed.delivery_error.as_deref(), Some("refused (400): Recipient not found"));
    // Told at once, it needs no note.
    let (carl, patient) = (peer.user("carl"), TestNode::start().await);
    let dan = patient.person("dan").await;
    let mut signed = fields(&dan.signer().invite(&carl.handle, now(), &mut rand::rng()));
    signed["handle"] = json!(carl.handle);
    let (status, problem) = dan.ask(Method::POST, "/friends/invite", signed).await;
    assert_eq!((status, &problem["code"]), (400, &json!("user_not_found")), "{problem}");
    assert!(dan.client.invitations(Direction::Outgoing).await.unwrap().is_empty());

    // Bob's own invitation crosses nothing, and there is nobody to tell of an end.
    peer.set_mood(Mood::Well);
    peer.invite(&bob, &ann.handle()).await;
    assert!(ann.friends().await.is_empty(), "nobody has taken hers");
    let id = ann.invitation_from(&bob.handle).await.id;
    ann.ask(Method::DELETE, &format!("/friends/invitations/{id}"), Value::Null).await;
    only_invitation(&ann).await;
    ann.client.reset_identity().await.unwrap();
    ann.new_keys().await;
    assert!(ann.pending().await.is_empty(), "it has reached nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_envelopes_are_counted_by_reason_and_told_in_the_log() {
    let node = TestNode::start_with(&[("VELLUM_LOG__FILTER", "info,vellum_actors::inbox=debug")]).await;
    let series = |reason: &str| format!("vellum_envelopes_refused_total{{reason=\"{reason}\"}}");
    let begun = scrape(&node).await;
    assert!(begun.contains("# HELP vellum_envelopes_refused_total "), "{begun}");
    for reason in
        ["server_authentication", "stale", "recipient_unknown", "too_many_invitations", "unavailable"]
    {
        assert_eq!(value(&begun, &series(reason)), Some(0.0), "{reason} is there from the start");
    }
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.user("bob");
    let kind = MessageType::FriendInvite;
    let old = now().plus_millis(-301_000);
    let stale = bob.signer.envelope(kind, &ann.handle(), Default::default(), old, &mut rand::rng());
    assert_eq!(peer.send(&stale).await.0, 400);
    let nobody = format!("nobody@{}", node.process.domain()).parse().unwrap();
    assert_eq!(peer.try_invite(&bob, &nobody).await.0, 400);
    let counted = scrape(&node).await;
    for reason in ["stale", "recipient_unknown"] {
        assert_eq!(value(&counted, &series(reason)), Some(1.0), "{reason}");
    }
    let log = std::fs::read_to_string(node.process.log_path()).unwrap();
    for words in ["Message timestamp outside acceptable skew", "Recipient not found"] {
        let told = log.lines().any(|line| line.contains("envelope refused") && line.contains(words));
        assert!(told, "{words:?} is not in the log:\n{log}");
    }
}
