//! Where the rows are tried: a node, a peer, and people of whom every row gets new ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Client;
use serde_json::{Value, json};
use vellum::node::FIRST_ADMINISTRATOR;
use vellum_client::http::Method;
use vellum_protocol::Handle;

use super::row::{Access, Given, Row};
use crate::support::{Database, Peer, PeerUser, Person, TestNode};

/// The longest body of a blob and of a rotation on this node, in bytes.
pub const LONGEST_UPLOAD: usize = 200_000;

/// A node with everything around it.
pub struct Scene {
    pub node: TestNode,
    pub peer: Peer,
    pub database: Database,
    /// Takes a new connection for every request: one that was refused in its middle is not used again.
    pub http: Client,
    /// Somebody with a session and no role: no permission at all.
    pub powerless: Person,
    people: AtomicUsize,
}

impl Scene {
    pub async fn set() -> Arc<Self> {
        let longest = LONGEST_UPLOAD.to_string();
        // Only the scene's own peer is spoken with. A node of another test that still tries to reach the port
        // which this one was given would change what is stored.
        let settings =
            [("VELLUM_HTTP__LONGEST_UPLOAD", longest.as_str()), ("VELLUM_FEDERATION__MODE", "allow_list")];
        let mut node = TestNode::prepared(&settings);
        let peer = Peer::start().await;
        node.process.run(&["db", "migrate"]).await.unwrap();
        // The second is where nobody is.
        for domain in [peer.domain().as_str(), "localhost:1"] {
            node.process.run(&["peer", "allow", domain]).await.unwrap();
        }
        node.process.start().await.unwrap();
        let database = Database::of(&node).await;
        let powerless = node.person("powerless").await;
        database.take_roles(&powerless).await;
        let http = Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(0).build().unwrap();
        Arc::new(Self { node, peer, database, http, powerless, people: AtomicUsize::new(0) })
    }

    fn new_name(&self) -> String {
        format!("person{}", self.people.fetch_add(1, Ordering::Relaxed))
    }

    async fn administrator(&self) -> Person {
        let mut client = self.node.client();
        client.set_token(Some(self.node.token(FIRST_ADMINISTRATOR).await));
        Person::new(client)
    }
}

/// The scene, with the person who calls one row.
pub struct Stage {
    pub scene: Arc<Scene>,
    pub me: Person,
    pub email: String,
}

impl Stage {
    /// A new person for this row: an administrator where others may not call it.
    pub async fn of(scene: &Arc<Scene>, row: &Row) -> Self {
        let administrates = ["users:", "roles:", "permissions:", "system:"];
        let administrator = matches!(row.access, Access::May(permission)
            if administrates.iter().any(|what| permission.starts_with(what)));
        let (me, email) = if administrator {
            (scene.administrator().await, FIRST_ADMINISTRATOR.to_owned())
        } else {
            let name = scene.new_name();
            (scene.node.person(&name).await, format!("{name}@people.example"))
        };
        Self { scene: Arc::clone(scene), me, email }
    }

    /// Somebody else on the node.
    pub async fn somebody(&self) -> Person {
        self.scene.node.person(&self.scene.new_name()).await
    }

    /// Somebody else on the node, who is a friend.
    pub async fn friend(&self) -> Person {
        let friend = self.somebody().await;
        self.me.befriend(&friend).await;
        friend
    }

    /// Somebody on the peer, who is a friend.
    pub async fn friend_elsewhere(&self) -> PeerUser {
        let friend = self.scene.peer.user(&self.scene.new_name());
        self.scene.peer.invite(&friend, &self.me.handle()).await;
        self.me.accept(&friend.handle).await;
        friend
    }

    /// Somebody on the peer whom a revocation waits for.
    pub async fn revoked(&self) -> Handle {
        let handle = self.friend_elsewhere().await.handle;
        self.me.client.remove_friend(&handle, None).await.unwrap();
        handle
    }

    /// Makes a request that has to succeed, and gives its answer.
    pub async fn done(&self, who: &Person, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = who.ask(method, path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// The id of a collection of mine.
    pub async fn collection(&self) -> String {
        let list = self.done(&self.me, Method::GET, "/library/collections", Value::Null).await;
        list[0]["id"].as_str().unwrap().to_owned()
    }

    /// A passkey of mine.
    pub async fn passkey(&self) -> String {
        let credential = format!("credential-of-{}", self.me.handle().alias());
        self.scene.database.add_passkey(&self.me, &credential).await;
        credential
    }

    /// A passkey of mine with something in its slot.
    pub async fn slot(&self) -> String {
        let credential = self.passkey().await;
        let slot = json!({ "credentialId": credential, "wrappedKm": "AgE=", "slotSignature": "c2ln" });
        self.done(&self.me, Method::POST, "/users/me/wrapped-keys", slot).await;
        credential
    }

    /// A device of mine, as a parameter of a path.
    pub async fn device(&self) -> Given {
        let path = "/users/me/devices/device-1/wrap-secret";
        self.done(&self.me, Method::GET, path, Value::Null).await;
        Given::default().path("deviceId", "device-1")
    }

    /// The id of a share of `from`'s with `to`, who are friends on the node: on `from`'s side.
    pub async fn share(&self, from: &Person, to: &Person) -> String {
        let body =
            json!({ "recipientHandle": to.handle(), "resourceType": "collection", "resourceId": "c1" });
        let share = self.done(from, Method::POST, "/sharing", body).await;
        share["id"].as_str().unwrap().to_owned()
    }

    /// The id of a collection that a friend on the node has shared with me.
    pub async fn shared_collection(&self) -> String {
        let friend = self.friend().await;
        let list = self.done(&friend, Method::GET, "/library/collections", Value::Null).await;
        let id = list[0]["id"].as_str().unwrap().to_owned();
        let body = json!({
            "recipientHandle": self.me.handle(), "resourceType": "collection", "resourceId": id,
        });
        self.done(&friend, Method::POST, "/sharing", body).await;
        id
    }

    /// The id of a share of a friend's with me, on my side.
    pub async fn incoming_share(&self) -> String {
        let friend = self.friend().await;
        self.share(&friend, &self.me).await;
        let list = self.done(&self.me, Method::GET, "/sharing/incoming", Value::Null).await;
        list["shares"][0]["id"].as_str().unwrap().to_owned()
    }

    /// The id of a message of mine that waits, since an operator lets its peer's messages wait.
    pub async fn queued_row(&self) -> String {
        self.scene.database.add_waiting_message(&self.me).await
    }

    /// The domain of a node that was met once.
    pub async fn known_peer(&self) -> String {
        let domain = format!("{}.example", self.scene.new_name());
        self.scene.database.add_peer(&domain, "gL3OkVPjqTX8MSm/U2Yj3LzEhrbpKdKQ6KP1tpdBHsA=").await;
        domain
    }

    /// The id of somebody's invitation to me.
    pub async fn invitation(&self) -> String {
        let other = self.somebody().await;
        other.invite(&self.me.handle()).await;
        self.me.invitation_from(&other.handle()).await.id
    }
}
