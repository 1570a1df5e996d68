//! The `page` and `limit` of a listing.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::error::QueryPayloadError;
use actix_web::web::QueryConfig;
use actix_web::{FromRequest, HttpRequest, web};
use serde::Deserialize;

use super::error::{FieldError, Problem};

/// Which part of a listing is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    /// From 1 on.
    pub page: u32,
    /// 1 to 100; 25 unless said otherwise.
    pub limit: u32,
    /// What is searched for; empty for everything.
    pub query: String,
}

#[derive(Deserialize)]
struct Raw {
    page: Option<String>,
    limit: Option<String>,
    q: Option<String>,
}

/// The longest text to search for.
const LONGEST_QUERY: usize = 200;

impl Paging {
    /// How many rows come before the page.
    #[must_use]
    pub fn offset(&self) -> u32 {
        (self.page - 1).saturating_mul(self.limit)
    }

    fn read(raw: Raw) -> Result<Self, Problem> {
        let mut errors = Vec::new();
        let mut number = |name: &str, text: Option<String>, default: u32, most: u32| {
            let Some(text) = text else { return default };
            text.parse().ok().filter(|number| (1..=most).contains(number)).unwrap_or_else(|| {
                let message = format!("must be an integer from 1 to {most}");
                errors.push(FieldError { field: name.to_owned(), message });
                default
            })
        };
        let (page, limit) = (number("page", raw.page, 1, 1_000_000), number("limit", raw.limit, 25, 100));
        let query = raw.q.unwrap_or_default();
        if query.chars().count() > LONGEST_QUERY {
            let message = format!("must have at most {LONGEST_QUERY} characters");
            errors.push(FieldError { field: "q".into(), message });
        }
        if query.contains('\0') {
            errors.push(FieldError { field: "q".into(), message: "must not contain U+0000".into() });
        }
        if errors.is_empty() { Ok(Self { page, limit, query }) } else { Err(Problem::validation(errors)) }
    }
}

impl FromRequest for Paging {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let raw = web::Query::<Raw>::from_query(request.query_string()).map_err(|error| not_valid(&error));
        ready(raw.and_then(|raw| Self::read(raw.into_inner())))
    }
}

/// How a query that cannot be read, such as one with a parameter twice, is refused wherever there is one.
#[must_use]
pub fn query_config() -> QueryConfig {
    QueryConfig::default().error_handler(|error, _| not_valid(&error).into())
}

fn not_valid(error: &QueryPayloadError) -> Problem {
    Problem::validation(vec![FieldError { field: "query".into(), message: error.to_string() }])
}
