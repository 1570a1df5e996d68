//! One-time codes by letter.

use secrecy::SecretString;
use vellum_actors::sign_in::{self, Device};
use vellum_actors::{Clock, Error};

use crate::support::{Site, T0, Wire};

async fn site() -> (Site, Clock) {
    let clock = Clock::steered(T0);
    (Site::start_without_delivery("a.example", &clock, &Wire::default()).await, clock)
}

async fn enter(site: &Site, email: &str, code: &str) -> Result<(), Error> {
    let code = SecretString::from(code.to_owned());
    sign_in::sign_in_with_code(&site.node, email, &code, Device::default()).await.map(|_| ())
}

async fn code_by_letter(site: &Site, email: &str) -> String {
    sign_in::request_code(&site.node, email).await.unwrap();
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
async fn five_wrong_codes_use_up_the_right_one() {
    let (site, _) = site().await;
    site.account("alice").await;
    let code = code_by_letter(&site, "alice@mail.example").await;
    for _ in 0..5 {
        assert!(matches!(enter(&site, "alice@mail.example", &wrong(&code)).await, Err(Error::WrongCode)));
    }
    assert!(matches!(enter(&site, "alice@mail.example", &code).await, Err(Error::WrongCode)));
    let code = code_by_letter(&site, "alice@mail.example").await;
    enter(&site, "alice@mail.example", &code).await.expect("a new letter helps");
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
    sign_in::request_code(&site.node, "stranger@mail.example").await.unwrap();
    assert!(site.letters.lock().unwrap().is_empty());
    let refused = enter(&site, "stranger@mail.example", "12345678").await;
    assert!(matches!(refused, Err(Error::WrongCode)));
}
