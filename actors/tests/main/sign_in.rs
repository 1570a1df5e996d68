//! One-time codes by letter.

use secrecy::SecretString;
use vellum_actors::sign_in::{self, Device};
use vellum_actors::{Clock, Error, housekeeping, mail_queue};
use vellum_store::{code_emails, sign_in_codes, wrong_codes};

use crate::support::{Site, T0, Wire};

const HOUR: i64 = 3_600_000;

async fn site() -> (Site, Clock) {
    let clock = Clock::steered(T0);
    (Site::start_without_delivery("a.example", &clock, &Wire::default()).await, clock)
}

async fn enter(site: &Site, email: &str, code: &str) -> Result<(), Error> {
    let code = SecretString::from(code.to_owned());
    sign_in::sign_in_with_code(&site.node, email, &code, Device::default()).await.map(|_| ())
}

/// Asks for a code, and has the email that waits then sent.
async fn ask_for_code(site: &Site, email: &str) {
    sign_in::request_code(&site.node, email).await.unwrap();
    mail_queue::send_due(&site.node).await.unwrap();
}

async fn code_by_letter(site: &Site, email: &str) -> String {
    ask_for_code(site, email).await;
    site.letters.lock().unwrap().last().unwrap().1.clone()
}

fn wrong(code: &str) -> String {
    let first = if code.starts_with('0') { '1' } else { '0' };
    format!("{first}{}", &code[1..])
}

#[actix::test]
async fn the_code_in_the_letter_signs_in_once() {
    let (site, _) = site().await;
    site.account("alice").await;
    let code = code_by_letter(&site, "Alice@Mail.example").await;
    enter(&site, "alice@mail.example", &code).await.unwrap();
    assert!(matches!(enter(&site, "alice@mail.example", &code).await, Err(Error::WrongCode)));
}

#[actix::test]
async fn two_hundred_wrong_codes_use_up_a_day() {
    let (site, clock) = site().await;
    site.account("alice").await;
    let code = code_by_letter(&site, "alice@mail.example").await;
    for _ in 0..200 {
        assert!(matches!(enter(&site, "alice@mail.example", &wrong(&code)).await, Err(Error::WrongCode)));
    }
    assert!(matches!(enter(&site, "alice@mail.example", &code).await, Err(Error::WrongCode)));
    // Counts are kept by the hour.
    clock.advance(24 * HOUR - 1);
    let code = code_by_letter(&site, "alice@mail.example").await;
    assert!(matches!(enter(&site, "alice@mail.example", &code).await, Err(Error::WrongCode)), "within 24 h");
    clock.advance(HOUR + 1);
    let code = code_by_letter(&site, "alice@mail.example").await;
    enter(&site, "alice@mail.example", &code).await.expect("25 h later all tries are there again");
}

#[actix::test]
async fn two_emails_at_once_then_one_each_quarter_of_an_hour() {
    let (site, clock) = site().await;
    site.account("alice").await;
    let sent = async || {
        ask_for_code(&site, "alice@mail.example").await;
        site.letters.lock().unwrap().len()
    };
    assert_eq!([sent().await, sent().await, sent().await], [1, 2, 2]);
    let newest = site.letters.lock().unwrap().last().unwrap().1.clone();
    clock.advance(sign_in::CODE_MILLIS - 1);
    assert_eq!(sent().await, 2);
    enter(&site, "alice@mail.example", &newest).await.expect("requests that send nothing void nothing");
    clock.advance(1);
    assert_eq!([sent().await, sent().await], [3, 3]);
    clock.advance(2 * sign_in::CODE_MILLIS);
    assert_eq!([sent().await, sent().await, sent().await], [4, 5, 5]);
}

#[actix::test]
async fn what_strangers_leave_behind_is_bounded_and_goes_with_time() {
    let (site, clock) = site().await;
    site.account("alice").await;
    for n in 0..50 {
        let email = format!("nobody{n}@mail.example");
        sign_in::request_code(&site.node, &email).await.unwrap();
        assert!(matches!(enter(&site, &email, "12345678").await, Err(Error::WrongCode)));
    }
    let rows = async || {
        let mut conn = site.node.store.read().await.unwrap();
        let mut left = 0;
        for n in 0..50 {
            let email = format!("nobody{n}@mail.example");
            left += sign_in_codes::live(&mut conn, &email, T0).await.unwrap().len();
            // Their counts are under names that they share, of which there is a fixed number.
            assert!(code_emails::full_at(&mut conn, &email).await.unwrap().is_none());
            assert!(wrong_codes::spent(&mut conn, &email, T0).await.unwrap().is_empty());
        }
        left
    };
    assert_eq!(rows().await, 50);
    // Rows are purged an hour after they ended.
    clock.advance(sign_in::CODE_MILLIS + HOUR);
    housekeeping::sweep(&site.node).await.unwrap();
    assert_eq!(rows().await, 0);
}

#[actix::test]
async fn a_code_is_over_after_a_quarter_of_an_hour() {
    let (site, clock) = site().await;
    site.account("alice").await;
    let code = code_by_letter(&site, "alice@mail.example").await;
    clock.advance(sign_in::CODE_MILLIS);
    assert!(matches!(enter(&site, "alice@mail.example", &code).await, Err(Error::WrongCode)));
}

#[actix::test]
async fn somebody_without_an_account_gets_no_letter_and_no_account() {
    let (site, _) = site().await;
    ask_for_code(&site, "stranger@mail.example").await;
    assert!(site.letters.lock().unwrap().is_empty());
    let refused = enter(&site, "stranger@mail.example", "12345678").await;
    assert!(matches!(refused, Err(Error::WrongCode)));
}

#[actix::test]
async fn a_clock_that_is_ahead_for_a_moment_takes_no_email_that_waits() {
    let (site, clock) = site().await;
    site.account("alice").await;
    sign_in::request_code(&site.node, "alice@mail.example").await.unwrap();
    clock.set_forward(40 * 24 * HOUR);
    mail_queue::send_due(&site.node).await.unwrap();
    assert!(site.letters.lock().unwrap().is_empty(), "its time seems to be over");
    clock.set_forward(-40 * 24 * HOUR);
    mail_queue::send_due(&site.node).await.unwrap();
    assert_eq!(site.letters.lock().unwrap().len(), 1, "it goes when the clock is right again");
}

#[actix::test]
async fn every_wrong_code_is_one_write_whether_a_code_is_live_or_not() {
    let (site, clock) = site().await;
    site.account("alice").await;
    let writes = async |email: &str, account: &str| {
        assert!(matches!(enter(&site, email, "12345678").await, Err(Error::WrongCode)));
        let mut conn = site.node.store.read().await.unwrap();
        let now = clock.now();
        let tries = async |conn: &mut _, name: &str| -> u32 {
            wrong_codes::spent(conn, name, now).await.unwrap().iter().map(|spent| spent.tries).sum()
        };
        let counted = tries(&mut conn, account).await;
        (counted, tries(&mut conn, &format!("uncounted {account}")).await)
    };
    let alice = "alice@mail.example";
    assert_eq!(writes(alice, alice).await, (0, 1), "no code was asked for");
    ask_for_code(&site, alice).await;
    assert_eq!(writes(alice, alice).await, (1, 1), "a code is live");
    clock.advance(sign_in::CODE_MILLIS);
    assert_eq!(writes(alice, alice).await, (1, 2), "it is over");
}

#[actix::test]
async fn who_mistypes_at_home_still_signs_in_elsewhere_with_the_same_browser() {
    let (site, _) = site().await;
    site.account("alice").await;
    let email = "alice@mail.example";
    let try_code = async |ip: &str, has_cookie: bool, code: &str| {
        let cookie = has_cookie.then(|| SecretString::from("her browser"));
        let device = Device { ip: Some(ip.to_owned()), cookie, ..Device::default() };
        let code = SecretString::from(code.to_owned());
        sign_in::sign_in_with_code(&site.node, email, &code, device).await.map(drop)
    };
    let (home, elsewhere) = ("192.0.2.1", "198.51.100.1");
    let code = code_by_letter(&site, email).await;
    try_code(home, true, &code).await.expect("both are known from now on");
    let code = code_by_letter(&site, email).await;
    for _ in 0..200 {
        assert!(try_code(elsewhere, false, &wrong(&code)).await.is_err(), "strangers use up the day's tries");
    }
    for _ in 0..5 {
        assert!(try_code(home, true, &wrong(&code)).await.is_err(), "she uses up those of her network");
    }
    try_code(elsewhere, true, &code).await.expect("those of her browser are left");
}
