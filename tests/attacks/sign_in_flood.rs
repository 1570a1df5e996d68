//! The attacker knows an address and has a thousand sources, so no limit by client address stops
//! him. He guesses codes, has codes sent to the address until its owner ignores them, and uses up
//! whatever is bounded so that the owner cannot sign in. What stops him: the database counts wrong
//! codes and emails by account, over all sources and nodes. Once the tries of everybody are used
//! up, eight digits count only from networks and browsers that the account knows; and the twenty
//! letters in each email always count, since nobody guesses them.

use futures_util::{StreamExt, stream};
use reqwest::Response;
use reqwest::header::{AUTHORIZATION, COOKIE, ORIGIN, SET_COOKIE};
use serde_json::{Value, json};
use vellum::node::FIRST_ADMINISTRATOR;

use crate::support::{Authenticator, Database, PostOffice, TestNode, plain_http, wait_for};

const ANN: &str = "ann@people.example";
const APP: &str = "https://app.example";
/// The tests speak for any address, as a reverse proxy does.
const PROXY: (&str, &str) = ("VELLUM_HTTP__TRUSTED_PROXIES", "127.0.0.1/32");
const HOME: &str = "203.0.113.5";
const ABROAD: &str = "198.51.100.7";

/// Somebody at an address, perhaps with a cookie.
struct Client<'n> {
    node: &'n TestNode,
    ip: String,
    cookie: Option<String>,
}

impl<'n> Client<'n> {
    fn at(node: &'n TestNode, ip: impl Into<String>) -> Self {
        Self { node, ip: ip.into(), cookie: None }
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        let request = plain_http().post(format!("{}{path}", self.node.process.origin())).json(body);
        let request = request.header("x-forwarded-for", &self.ip);
        let request = match &self.cookie {
            Some(cookie) => request.header(COOKIE, cookie),
            None => request,
        };
        request.send().await.unwrap()
    }

    async fn ask_for_code(&self, email: &str) -> (u16, String) {
        let answer = self.post("/auth/verify", &json!({ "email": email })).await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn enter(&self, email: &str, code: &str) -> Response {
        self.post("/auth/sessions", &json!({ "method": "otp", "email": email, "token": code })).await
    }

    async fn tries(&self, code: &str) -> u16 {
        self.enter(ANN, code).await.status().as_u16()
    }
}

/// The two forms of a code.
#[derive(Debug, PartialEq)]
struct Code {
    digits: String,
    letters: String,
}

fn read(email: &str) -> Code {
    let line = |length: usize, of: fn(u8) -> bool| {
        email.lines().find(|line| line.len() == length && line.bytes().all(of)).map(str::to_owned)
    };
    Code {
        digits: line(8, |byte| byte.is_ascii_digit()).expect("eight digits alone on a line"),
        letters: line(20, |byte| byte.is_ascii_alphabetic()).expect("twenty letters alone on a line"),
    }
}

/// The codes in the emails to an address so far, the oldest first.
fn codes(node: &TestNode, email: &str) -> Vec<Code> {
    let emails = node.process.letters().into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    emails.filter(|text| text.contains(&format!("To: {email}"))).map(|text| read(&text)).collect()
}

async fn code_for(node: &TestNode) -> Code {
    let known = codes(node, ANN).len();
    assert_eq!(Client::at(node, HOME).ask_for_code(ANN).await.0, 201);
    let what = format!("email number {} comes", known + 1);
    wait_for(&what, || async { codes(node, ANN) }, |codes| codes.len() > known).await.pop().unwrap()
}

/// Codes of eight digits that are none of these.
fn wrong<'c>(right: &'c [Code], count: usize) -> impl Iterator<Item = String> + 'c {
    let all = (0..100_000_000).map(|n| format!("{n:08}"));
    all.filter(|guess| right.iter().all(|code| code.digits != *guess)).take(count)
}

fn source(n: usize) -> String {
    format!("10.{}.{}.7", n / 250, n % 250)
}

fn device_cookie(answer: &Response) -> String {
    let mut cookies = answer.headers().get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap());
    let cookie =
        cookies.find(|cookie| cookie.starts_with("auth_device=")).expect("a device cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Lax", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie} lacks {part}");
    }
    assert!(!cookie.contains("Secure"), "the test's node is not on https: {cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sources_guess_nothing_flood_nobody_and_cannot_lock_the_owner_out() {
    let mut node = TestNode::start_with(&[PROXY, ("VELLUM_AUTH__EMAILS_AT_ONCE", "4")]).await;
    node.user("ann").await;
    // The owner has signed in from home, in a browser.
    let first = code_for(&node).await;
    let signed_in = Client::at(&node, HOME).enter(ANN, &first.digits).await;
    assert_eq!(signed_in.status(), 201);
    let cookie = device_cookie(&signed_in);

    let asked = stream::iter(0..1000)
        .map(|n| {
            let node = &node;
            async move { Client::at(node, source(n)).ask_for_code(ANN).await }
        })
        .buffer_unordered(20);
    let asked: Vec<_> = asked.collect().await;
    assert!(asked.iter().all(|answer| *answer == (201, String::new())), "all get the same answer");
    // A node that stops sends what it has taken; so none can come later. And the bounds outlive it.
    node.process.stop().await.unwrap();
    let codes = codes(&node, ANN);
    assert_eq!(codes.len(), 4, "one for the owner, and three of the thousand");
    node.process.start().await.unwrap();

    let guesses: Vec<String> = wrong(&codes, 1000).collect();
    let guessed = stream::iter(guesses.iter().enumerate())
        .map(|(n, guess)| {
            let node = &node;
            async move { Client::at(node, source(n)).enter(ANN, guess).await }
        })
        .buffer_unordered(20);
    let refused: Vec<Value> = guessed
        .then(|answer| async move {
            assert_eq!(answer.status(), 401);
            let mut problem: Value = answer.json().await.unwrap();
            problem.as_object_mut().unwrap().remove("instance");
            problem
        })
        .collect()
        .await;
    assert!(refused.iter().all(|problem| *problem == refused[0]), "used-up tries look like a wrong code");
    assert_eq!(Database::of(&node).await.count_wrong_codes(ANN).await, 200, "the rest was not even compared");

    // The right digits count no more, from a thousand sources.
    let newest = &codes[3];
    let answer = Client::at(&node, source(17)).enter(ANN, &newest.digits).await;
    assert_eq!(answer.status(), 401, "the right digits from an unknown source");
    let mut problem: Value = answer.json().await.unwrap();
    problem.as_object_mut().unwrap().remove("instance");
    assert_eq!(problem, refused[0]);

    // The owner is not locked out: at home, with the browser anywhere, and with the letters
    // anywhere.
    assert_eq!(Client::at(&node, "203.0.113.250").tries(&newest.digits).await, 201, "from the known network");
    let mut browser = Client::at(&node, ABROAD);
    browser.cookie = Some(cookie.clone());
    let answer = browser.enter(ANN, &codes[2].digits).await;
    assert_eq!(answer.status(), 201, "from the known browser");
    assert_eq!(device_cookie(&answer), cookie, "the browser keeps its cookie");
    assert_eq!(Client::at(&node, "192.0.2.1").tries(&codes[1].letters).await, 201, "with the letters");
}

#[tokio::test]
async fn two_hundred_wrong_codes_are_counted_over_all_sources_and_codes() {
    let node = TestNode::start_with(&[PROXY]).await;
    node.user("ann").await;
    let mut codes = vec![code_for(&node).await];
    for (n, guess) in wrong(&codes, 199).enumerate() {
        assert_eq!(Client::at(&node, source(n)).tries(&guess).await, 401);
    }
    codes.push(code_for(&node).await);
    let guess = wrong(&codes, 300).last().unwrap();
    let stranger = |n| Client::at(&node, format!("192.0.{n}.1"));
    assert_eq!(Client::at(&node, ABROAD).tries(&guess).await, 401, "the two hundredth");
    assert_eq!(stranger(1).tries(&codes[1].digits).await, 401, "a new code brings no new tries");
    assert_eq!(stranger(2).tries(&codes[0].digits).await, 401);
    // The letters: in lower case, in groups, and each code once.
    let grouped: Vec<&str> =
        codes[1].letters.as_bytes().chunks(5).map(|chunk| std::str::from_utf8(chunk).unwrap()).collect();
    let typed = format!(" {} ", grouped.join(" - ").to_lowercase());
    assert_eq!(stranger(3).tries(&typed).await, 201);
    assert_eq!(stranger(4).tries(&codes[1].letters).await, 401, "it was used");
    assert_eq!(stranger(4).tries(&codes[1].digits).await, 401, "both forms were");
    let wrong_letters = "Q".repeat(20);
    for _ in 0..10 {
        assert_eq!(stranger(5).tries(&wrong_letters).await, 401);
    }
    assert_eq!(Database::of(&node).await.count_wrong_codes(ANN).await, 200, "letters use up no tries");
    assert_eq!(stranger(3).tries(&codes[0].digits).await, 201, "that network is known by now");
}

#[tokio::test]
async fn the_last_of_two_hundred_tries_may_still_be_the_owners() {
    let node = TestNode::start_with(&[PROXY]).await;
    node.user("ann").await;
    let code = [code_for(&node).await];
    for (n, guess) in wrong(&code, 199).enumerate() {
        assert_eq!(Client::at(&node, source(n)).tries(&guess).await, 401);
    }
    assert_eq!(Client::at(&node, ABROAD).tries(&code[0].digits).await, 201);
}

#[tokio::test]
async fn known_sources_have_five_tries_each_and_fifty_in_all() {
    let settings = [PROXY, ("VELLUM_AUTH__EMAILS_AT_ONCE", "100"), ("VELLUM_AUTH__WRONG_CODES_PER_DAY", "1")];
    let node = TestNode::start_with(&settings).await;
    node.user("ann").await;
    let home = |n| Client::at(&node, format!("203.0.{n}.5"));
    let mut cookie = None;
    for n in 0..12 {
        let signed_in = home(n).enter(ANN, &code_for(&node).await.letters).await;
        assert_eq!(signed_in.status(), 201);
        cookie = Some(device_cookie(&signed_in));
    }
    let codes = [code_for(&node).await, code_for(&node).await, code_for(&node).await];
    let guess = wrong(&codes, 1).next().unwrap();
    assert_eq!(Client::at(&node, ABROAD).tries(&guess).await, 401, "the one try of everybody");
    for _ in 0..5 {
        assert_eq!(home(0).tries(&guess).await, 401);
    }
    assert_eq!(home(0).tries(&codes[0].digits).await, 401, "its five are used up");
    let mut browser = home(0);
    browser.cookie = cookie;
    assert_eq!(browser.tries(&codes[0].digits).await, 201, "the browser there has five of its own");
    for n in 1..10 {
        for _ in 0..5 {
            assert_eq!(home(n).tries(&guess).await, 401);
        }
    }
    assert_eq!(home(11).tries(&codes[1].digits).await, 401, "fifty in all are used up");
    assert_eq!(home(11).tries(&codes[1].letters).await, 201);
    assert_eq!(Database::of(&node).await.count_wrong_codes(ANN).await, 51);
}

#[tokio::test]
async fn a_sign_in_with_a_passkey_makes_its_network_and_browser_known() {
    let settings = [PROXY, ("VELLUM_HTTP__CLIENT_ORIGINS", APP), ("VELLUM_AUTH__WRONG_CODES_PER_DAY", "1")];
    let node = TestNode::start_with(&settings).await;
    let ann = node.person("ann").await;
    let bearer = format!("Bearer {}", ann.client.token().unwrap().expose());
    let post = async |path: &str, ticket: &str, bearer: Option<&str>, body: &Value| {
        let url = format!("{}/auth/passkeys/{path}", node.process.origin());
        let request = plain_http().post(url).header(ORIGIN, APP).header("x-forwarded-for", HOME);
        let request = request.header(COOKIE, ticket);
        let request = match bearer {
            Some(bearer) => request.header(AUTHORIZATION, bearer),
            None => request,
        };
        let answer = request.json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer
    };
    let ticket_of = |answer: &Response| {
        let cookies = answer.headers().get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap());
        let ticket = cookies.into_iter().find(|cookie| cookie.starts_with("passkey_challenge=")).unwrap();
        ticket.split(';').next().unwrap().to_owned()
    };
    let mut device = Authenticator::at(APP);
    let begun = post("register/options", "", Some(&bearer), &json!({})).await;
    let ticket = ticket_of(&begun);
    let made = device.create(&begun.json().await.unwrap());
    post("register/verify", &ticket, Some(&bearer), &made).await;
    let begun = post("authenticate/options", "", None, &json!({})).await;
    let ticket = ticket_of(&begun);
    let signed = device.get(&begun.json().await.unwrap());
    let signed_in = post("authenticate/verify", &ticket, None, &signed).await;
    let cookie = device_cookie(&signed_in);

    let codes = [code_for(&node).await, code_for(&node).await];
    let guess = wrong(&codes, 1).next().unwrap();
    assert_eq!(Client::at(&node, ABROAD).tries(&guess).await, 401, "the one try of everybody");
    assert_eq!(Client::at(&node, ABROAD).tries(&codes[0].digits).await, 401);
    assert_eq!(Client::at(&node, HOME).tries(&codes[0].digits).await, 201, "from the network");
    let mut browser = Client::at(&node, ABROAD);
    browser.cookie = Some(cookie);
    assert_eq!(browser.tries(&codes[1].digits).await, 201, "with the browser");
}

#[tokio::test]
async fn an_address_gets_two_emails_at_once_whether_it_has_an_account_or_not() {
    let mut node = TestNode::start_with(&[PROXY, ("VELLUM_AUTH__REGISTRATION", "open")]).await;
    node.user("ann").await;
    let new = "new@people.example";
    for n in 0..6 {
        for email in [ANN, new] {
            let answer = Client::at(&node, source(n)).ask_for_code(email).await;
            assert_eq!(answer, (201, String::new()), "{email}, request {n}");
        }
    }
    node.process.stop().await.unwrap();
    let of_both = [codes(&node, ANN), codes(&node, new)];
    assert_eq!(of_both.each_ref().map(Vec::len), [2, 2], "emails");
    node.process.start().await.unwrap();
    // What was refused made no codes either, so those in the mailbox still work.
    for (email, codes) in [ANN, new].into_iter().zip(&of_both) {
        for code in codes {
            assert_eq!(Client::at(&node, HOME).enter(email, &code.digits).await.status(), 201, "{email}");
        }
    }
}

#[tokio::test]
async fn after_two_emails_there_is_one_each_interval() {
    let node = TestNode::start_with(&[PROXY, ("VELLUM_AUTH__EMAIL_INTERVAL_SECONDS", "2")]).await;
    node.user("ann").await;
    let begun = std::time::Instant::now();
    let ask = || async {
        Client::at(&node, HOME).ask_for_code(ANN).await;
        codes(&node, ANN).len()
    };
    wait_for("a fifth email comes", ask, |emails| *emails >= 5).await;
    assert!(begun.elapsed().as_secs() >= 5, "three intervals after the first two: {:?}", begun.elapsed());
}

#[tokio::test]
async fn ipv6_sources_count_by_three_networks() {
    let settings = [PROXY, ("VELLUM_LIMITS__ENABLED", "true"), ("VELLUM_LIMITS__SIGN_IN_PER_MINUTE", "2")];
    let node = TestNode::start_with(&settings).await;
    let ask = async |ip: String| Client::at(&node, ip).ask_for_code("nobody@people.example").await.0;
    // A /56 is what differs in the last two digits of the fourth group, a /48 in all of it.
    let mut taken = 0;
    for site in 0..4 {
        for network in 0..4 {
            for host in 1..=2 {
                assert_eq!(ask(format!("2001:db8:1:{site}{network:02x}::{host}")).await, 201);
                taken += 1;
            }
            let third = ask(format!("2001:db8:1:{site}{network:02x}::3")).await;
            assert_eq!(third, 429, "the /64 is used up");
        }
        assert_eq!(ask(format!("2001:db8:1:{site}ff::1")).await, 429, "the /56 is used up");
    }
    assert_eq!(taken, 32);
    assert_eq!(ask("2001:db8:1:ff00::1".to_owned()).await, 429, "the /48 is used up");
    assert_eq!(ask("2001:db8:2::1".to_owned()).await, 201, "another /48 is not");
    assert_eq!(ask("192.0.2.1".to_owned()).await, 201);
}

#[tokio::test]
async fn no_email_goes_to_localhost_by_smtp() {
    let office = PostOffice::open().await;
    let mut node = TestNode::start_with(&[PROXY, ("VELLUM_MAIL__SMTP_URL", &office.url())]).await;
    node.user("ann").await;
    for email in [FIRST_ADMINISTRATOR, "Admin@LocalHost", ANN] {
        assert_eq!(Client::at(&node, HOME).ask_for_code(email).await, (201, String::new()));
    }
    node.process.stop().await.unwrap();
    let sent = office.letters();
    assert!(sent.len() == 1 && sent[0].contains("To: ann@people.example"), "{sent:?}");
    assert!(node.process.letters().is_empty(), "nor is it left in a file");
    let log = std::fs::read_to_string(node.process.log_path()).unwrap();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("email not sent")).collect();
    assert_eq!(told.len(), 2, "{log}");
    let has_code = |line: &&str| {
        line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
            (word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_digit()))
                || (word.len() == 20 && word.bytes().all(|byte| byte.is_ascii_uppercase()))
        })
    };
    assert!(!told.iter().any(has_code), "{told:?}");
}
