//! The requests that a row makes necessary, each with the answer that it must get.

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderName};
use serde_json::{Value, json};

use super::row::{Access, Body, Change, Field, Given, Kind, LONGEST_TEXT, Row};
use crate::support::Person;

/// A request, ready to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    /// With its query.
    pub path: String,
    /// Who it says that is asking.
    pub proof: Option<(HeaderName, String)>,
    pub body: Vec<u8>,
}

/// A request that is refused.
#[derive(Debug)]
pub struct Case {
    /// What is wrong with it.
    pub what: String,
    pub request: Request,
    pub status: u16,
    pub code: &'static str,
    /// Fields that the answer must name.
    pub fields: Vec<String>,
}

/// The good request of a row.
pub fn good(row: &Row, given: &Given, me: &Person) -> Request {
    let body = if given.body.is_null() { Vec::new() } else { given.body.to_string().into_bytes() };
    let proof = (row.access != Access::Anyone).then(|| bearer(me));
    Request { method: row.method.clone(), path: path_of(row, &given.parameters), proof, body }
}

fn bearer(person: &Person) -> (HeaderName, String) {
    (AUTHORIZATION, format!("Bearer {}", person.client.token().unwrap().expose()))
}

fn path_of(row: &Row, parameters: &[(&'static str, String)]) -> String {
    parameters
        .iter()
        .fold(row.path.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value))
}

/// Every request of a row that has to be refused.
pub fn refused(row: &Row, given: &Given, good: &Request, me: &Person, powerless: &Person) -> Vec<Case> {
    let make = Making { row, given, good };
    let mut cases = make.without_leave(me, powerless);
    if row.body != Body::None {
        cases.extend(make.no_objects());
        cases.push(make.too_long_a_body());
    }
    cases.extend(make.empty_object());
    cases.extend(row.fields.iter().flat_map(|field| make.spoilt_field(field)));
    cases.extend(row.refusals.iter().map(|refusal| {
        let request = make.changed(&refusal.change);
        let what = format!("{:?}", refusal.change).chars().take(120).collect();
        Case { what, request, status: refusal.status, code: refusal.code, fields: Vec::new() }
    }));
    cases
}

struct Making<'a> {
    row: &'a Row,
    given: &'a Given,
    good: &'a Request,
}

impl Making<'_> {
    fn without_leave(&self, me: &Person, powerless: &Person) -> Vec<Case> {
        let by = |what: &str, proof: Option<(HeaderName, String)>, status, code| {
            let request = Request { proof, ..self.good.clone() };
            Case { what: what.into(), request, status, code, fields: Vec::new() }
        };
        if matches!(self.row.access, Access::Anyone | Access::SessionIfAny) {
            return Vec::new();
        }
        let unknown = || Some((AUTHORIZATION, format!("Bearer {}", "0".repeat(64))));
        let password = || Some((AUTHORIZATION, "Basic YWRtaW46YWRtaW4=".to_owned()));
        let mut cases = vec![
            by("no session", None, 401, "unauthorized"),
            by("an unknown session", unknown(), 401, "unauthorized"),
            by("a password", password(), 401, "unauthorized"),
        ];
        if self.row.method != Method::GET {
            let cookie = format!("auth_session={}", me.client.token().unwrap().expose());
            cases.push(by("a cookie without an origin", Some((COOKIE, cookie)), 403, "forbidden"));
        }
        if let Access::May(permission) = self.row.access {
            let what = format!("without {permission}");
            cases.push(by(&what, Some(bearer(powerless)), 403, "forbidden"));
        }
        cases
    }

    fn with_body(&self, what: String, body: impl Into<Vec<u8>>, fields: Vec<String>) -> Case {
        let request = Request { body: body.into(), ..self.good.clone() };
        Case { what, request, status: 422, code: "validation_failed", fields }
    }

    fn no_objects(&self) -> Vec<Case> {
        let mut bodies: Vec<(&str, Vec<u8>)> = vec![
            ("an array", b"[]".to_vec()),
            ("a list of the good body", format!("[{}]", self.given.body).into_bytes()),
            ("a string", b"\"text\"".to_vec()),
            ("a number", b"7".to_vec()),
            ("true", b"true".to_vec()),
            ("null", b"null".to_vec()),
            ("no JSON", b"{\"a\": }".to_vec()),
            ("half of JSON", b"{\"a\": 1".to_vec()),
            ("a form", b"a=1&b=2".to_vec()),
            ("not UTF-8 at all", vec![0xff, 0xfe, 0x00]),
            ("not UTF-8 in a text", b"{\"a\": \"\xc3\x28\"}".to_vec()),
            ("half a surrogate pair", b"{\"a\": \"\\ud800\"}".to_vec()),
            ("nested without end", [b"{\"a\":".to_vec(), b"[".repeat(10_000)].concat()),
        ];
        if self.row.body == Body::Required {
            bodies.push(("nothing", Vec::new()));
        }
        let case = |(what, body): (&str, Vec<u8>)| {
            self.with_body(format!("the body is {what}"), body, vec!["body".to_owned()])
        };
        bodies.into_iter().map(case).collect()
    }

    fn too_long_a_body(&self) -> Case {
        let mut body = self.good.body.clone();
        if body.is_empty() {
            body = b"{}".to_vec();
        }
        body.resize(self.row.longest_body + 1, b' ');
        let what = "a body over the limit".to_owned();
        Case { status: 413, code: "body_too_large", ..self.with_body(what, body, Vec::new()) }
    }

    /// Everything that is missing has to be named at once.
    fn empty_object(&self) -> Option<Case> {
        let missing = self.row.fields.iter().filter(|field| field.required && !field.place.contains('/'));
        let missing: Vec<String> = missing.map(Field::name).collect();
        (!missing.is_empty()).then(|| self.with_body("an empty object".into(), "{}", missing))
    }

    fn spoilt_field(&self, field: &Field) -> Vec<Case> {
        let name = field.name();
        let with = |what: String, value: Option<Value>, named: &str| {
            let body = changed(&self.given.body, field.place, value).to_string();
            self.with_body(format!("{name}: {what}"), body, vec![named.to_owned()])
        };
        let mut cases = Vec::new();
        if field.required {
            cases.push(with("left out".into(), None, &name));
            cases.push(with("null".into(), Some(Value::Null), &name));
        }
        for value in wrong_types(field.kind) {
            cases.push(with(format!("{value}"), Some(value), &name));
        }
        match field.kind {
            Kind::Text { longest } => {
                cases.push(with(
                    format!("{} bytes", longest + 1),
                    Some(json!("x".repeat(longest + 1))),
                    &name,
                ));
                cases.push(with("with U+0000".into(), Some(json!("a\0b")), &name));
            }
            Kind::Sealed => cases.push(with("with U+0000".into(), Some(json!("a\0b")), &name)),
            Kind::Integer { least } => {
                for number in [json!(least - 1), json!(u64::MAX), json!(1e300)] {
                    cases.push(with(format!("{number}"), Some(number), &name));
                }
            }
            Kind::Objects => {
                cases.push(with("of numbers".into(), Some(json!([7])), &format!("{name}[0]")));
                cases.push(with("of arrays".into(), Some(json!([[]])), &format!("{name}[0]")));
                cases.push(with("of nothing".into(), Some(json!([null])), &format!("{name}[0]")));
            }
            Kind::Texts => {
                let long = "x".repeat(LONGEST_TEXT + 1);
                for member in [json!(7), json!(null), json!([]), json!({}), json!(long), json!("a\0b")] {
                    let what = member.to_string().chars().take(20).collect::<String>();
                    cases.push(with(format!("of {what}"), Some(json!([member])), &name));
                }
            }
            Kind::Bool => {}
        }
        cases
    }

    fn changed(&self, change: &Change) -> Request {
        let mut request = self.good.clone();
        match change {
            Change::Field(place, value) => {
                request.body = changed(&self.given.body, place, Some(value.clone())).to_string().into_bytes();
            }
            Change::Path(name, value) => {
                let mut parameters = self.given.parameters.clone();
                parameters.retain(|(other, _)| other != name);
                parameters.push((*name, value.clone()));
                request.path = path_of(self.row, &parameters);
            }
            Change::Query(query) => request.path = format!("{}?{query}", request.path),
        }
        request
    }
}

/// Every kind of JSON that a field does not take.
fn wrong_types(kind: Kind) -> Vec<Value> {
    let all = [json!(true), json!(7), json!(1.5), json!("text"), json!([]), json!({})];
    let taken: &[usize] = match kind {
        Kind::Bool => &[0],
        Kind::Integer { .. } => &[1],
        Kind::Text { .. } | Kind::Sealed => &[3],
        Kind::Objects | Kind::Texts => &[4],
    };
    let wrong = all.into_iter().enumerate().filter(|(index, _)| !taken.contains(index));
    wrong.map(|(_, value)| value).collect()
}

/// A body with another value at a place, or with none.
fn changed(body: &Value, place: &str, value: Option<Value>) -> Value {
    let mut body = if body.is_null() { json!({}) } else { body.clone() };
    let (parent, name) = place.rsplit_once('/').unwrap_or(("", place));
    let pointer = if parent.is_empty() { String::new() } else { format!("/{parent}") };
    let holder = body.pointer_mut(&pointer).unwrap_or_else(|| panic!("the good body has no {parent}"));
    let holder = holder.as_object_mut().unwrap();
    match value {
        Some(value) => holder.insert(name.to_owned(), value),
        None => holder.remove(name),
    };
    body
}
