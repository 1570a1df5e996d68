//! A browser with a page of the client in it: it keeps cookies, says which origin its page has, and
//! knows nothing of Vellum.

use std::collections::BTreeMap;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, ORIGIN, SET_COOKIE};
use reqwest::{Client as Http, Method};
use serde_json::Value;

use super::members::{Kind, expect_members, text};
use crate::support::{TestNode, plain_http};

/// Where the client's page comes from. The node is told so.
pub const PAGE: &str = "https://app.example";

/// One browser.
pub struct Browser {
    http: Http,
    node: String,
    cookies: BTreeMap<String, String>,
    /// Sent in place of cookies where it is set, as a client that is no browser does.
    pub bearer: Option<String>,
    /// The origin of the page that asks.
    pub page: String,
}

/// What was answered.
pub struct Answer {
    request: String,
    pub status: u16,
    pub headers: HeaderMap,
    body: Vec<u8>,
}

impl Browser {
    /// A fresh one, with the client's page.
    pub fn at(node: &TestNode) -> Self {
        let (node, page) = (node.process.origin(), PAGE.to_owned());
        Self { http: plain_http(), node, cookies: BTreeMap::new(), bearer: None, page }
    }

    /// A client that is no browser, with a session.
    pub fn with_bearer(node: &TestNode, token: &str) -> Self {
        Self { bearer: Some(token.to_owned()), ..Self::at(node) }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&mut self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    /// A POST without a body.
    pub async fn post_nothing(&mut self, path: &str) -> Answer {
        self.send(Method::POST, path, None).await
    }

    pub async fn put(&mut self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub async fn patch(&mut self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// A DELETE without a body.
    pub async fn delete(&mut self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    pub async fn delete_with(&mut self, path: &str, body: Value) -> Answer {
        self.send(Method::DELETE, path, Some(body)).await
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let asked = format!("{method} {path}");
        let mut request = self.http.request(method, format!("{}{path}", self.node));
        // The client and the node are different hosts of one site.
        request = request.header(ORIGIN, &self.page).header("sec-fetch-site", "same-site");
        if let Some(token) = &self.bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        } else if !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, is)| format!("{name}={is}")).collect();
            request = request.header(COOKIE, cookies.join("; "));
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        if self.bearer.is_none() {
            self.keep_cookies(&headers);
        }
        Answer { request: asked, status, headers, body: answer.bytes().await.unwrap().to_vec() }
    }

    fn keep_cookies(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() || cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

impl Answer {
    /// The body, where the status is the expected one.
    #[track_caller]
    pub fn body(self, status: u16) -> Value {
        let body = String::from_utf8_lossy(&self.body);
        assert!(
            self.status == status,
            "{}: expected the status {status}, seen {}: {body}",
            self.request,
            self.status
        );
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}: expected JSON, seen {body:?}", self.request))
    }

    /// Fails unless it has this status and no body.
    #[track_caller]
    pub fn empty(self, status: u16) {
        let (seen, body) = (self.status, String::from_utf8_lossy(&self.body));
        assert!(
            seen == status && body.is_empty(),
            "{}: expected the status {status} and no body, seen {seen}: {body:?}",
            self.request
        );
    }

    /// Fails unless it is a refusal with this status; gives its code.
    #[track_caller]
    pub fn refused(self, status: u16) -> String {
        let kind = self.headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default().to_owned());
        let body = self.body(status);
        assert_eq!(kind.as_deref(), Some("application/problem+json"), "the type of a refusal");
        expect_members(&body, &[("message", Kind::Text)]);
        assert!(!text(&body, "message").is_empty(), "expected words in `message`, seen {body}");
        text(&body, "code")
    }

    /// The header that sets a cookie of this name.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let cookies = self.headers.get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap());
        let mut named = cookies.filter(|cookie| cookie.starts_with(&format!("{name}=")));
        named.next().map(str::to_owned)
    }
}
