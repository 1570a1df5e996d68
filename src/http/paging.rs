//! Parts of listings: `page` and `limit` of those that are made of pages, `limit` and `offset` of
//! those that are whole unless a part is asked for.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::error::QueryPayloadError;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::QueryConfig;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value};

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

/// How many rows a list has in all, where the answer is the list itself.
pub const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

/// Which part of a list is asked for: all of it, unless the query says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// 1 to 1000 rows; `None` for all.
    limit: Option<usize>,
    /// So many rows come before them.
    offset: usize,
}

#[derive(Deserialize)]
struct RawSlice {
    limit: Option<String>,
    offset: Option<String>,
}

impl Slice {
    /// The most rows that can be asked for.
    pub const MOST: usize = 1000;
    /// The most rows that can be left out.
    pub const FURTHEST: usize = 1_000_000;

    fn read(raw: &RawSlice) -> Result<Self, Problem> {
        let mut errors = Vec::new();
        let mut number = |name: &str, text: &Option<String>, range: std::ops::RangeInclusive<usize>| {
            let text = text.as_deref()?;
            let number = text.parse().ok().filter(|number| range.contains(number));
            if number.is_none() {
                let message = format!("must be an integer from {} to {}", range.start(), range.end());
                errors.push(FieldError { field: name.to_owned(), message });
            }
            number
        };
        let limit = number("limit", &raw.limit, 1..=Self::MOST);
        let offset = number("offset", &raw.offset, 0..=Self::FURTHEST).unwrap_or_default();
        if errors.is_empty() { Ok(Self { limit, offset }) } else { Err(Problem::validation(errors)) }
    }

    fn of<T>(self, rows: &[T], view: impl Fn(&T) -> Value) -> Value {
        rows.iter().skip(self.offset).take(self.limit.unwrap_or(usize::MAX)).map(view).collect()
    }

    /// Answers with an object: the part under this name, and `total`.
    pub fn answer<T>(self, name: &str, rows: &[T], view: impl Fn(&T) -> Value) -> HttpResponse {
        let members = [(name.to_owned(), self.of(rows, view)), ("total".to_owned(), rows.len().into())];
        super::private(&Map::from_iter(members))
    }

    /// Answers with the part itself, and the number of all rows in a header field.
    pub fn answer_bare<T>(self, rows: &[T], view: impl Fn(&T) -> Value) -> HttpResponse {
        let mut answer = super::private(&self.of(rows, view));
        answer.headers_mut().insert(TOTAL_COUNT, HeaderValue::from(rows.len()));
        answer
    }
}

impl FromRequest for Slice {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let raw =
            web::Query::<RawSlice>::from_query(request.query_string()).map_err(|error| not_valid(&error));
        ready(raw.and_then(|raw| Self::read(&raw)))
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
