//! What the document says of one operation: a method of a path.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{
    Operation as Described, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required};

use vellum_actors::trace::HEADER as TRACE_HEADER;

use super::samples;
use super::shape::{Shape, list, number, object, read_schema, text};

/// Whom an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Anyone,
    /// Works for anyone, and tells more to somebody with a session.
    AnyoneOrSignedIn,
    SignedIn,
    /// A session whose roles have this permission.
    Permitted(&'static str),
}

/// An operation.
#[derive(Clone)]
pub struct Operation {
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    description: String,
    access: Access,
    parameters: Vec<(ParameterIn, &'static str, &'static str, Shape, bool)>,
    body: Option<(Shape, bool)>,
    answers: Vec<Answer>,
    refusals: BTreeMap<u16, Vec<&'static str>>,
}

#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    description: &'static str,
    content: Option<(&'static str, Shape)>,
    headers: Vec<(&'static str, &'static str)>,
}

impl Operation {
    /// An operation that anyone may use. `id` is unique; `tag` is its group.
    pub fn new(tag: &'static str, id: &'static str, summary: &'static str, description: &str) -> Self {
        Self {
            id,
            tag,
            summary,
            description: description.to_owned(),
            access: Access::Anyone,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            refusals: BTreeMap::new(),
        }
    }

    /// Under another id: one handler at two paths.
    pub fn called(mut self, id: &'static str) -> Self {
        self.id = id;
        self
    }

    /// Only with a session.
    pub fn signed_in(mut self) -> Self {
        self.access = Access::SignedIn;
        self.refused(401, &["unauthorized"])
    }

    /// With or without a session.
    pub fn perhaps_signed_in(mut self) -> Self {
        self.access = Access::AnyoneOrSignedIn;
        self
    }

    /// Only with a session whose roles have this permission.
    pub fn permitted(mut self, permission: &'static str) -> Self {
        self.access = Access::Permitted(permission);
        self.refused(401, &["unauthorized"]).refused(403, &["forbidden"])
    }

    /// A parameter in the path.
    pub fn path(mut self, name: &'static str, description: &'static str, shape: Shape) -> Self {
        self.parameters.push((ParameterIn::Path, name, description, shape, true));
        self
    }

    /// A parameter in the query, which may be left out.
    pub fn query(mut self, name: &'static str, description: &'static str, shape: Shape) -> Self {
        self.parameters.push((ParameterIn::Query, name, description, shape, false));
        self.refused(422, &["validation_failed"])
    }

    /// `limit` and `offset`.
    fn sliced(self) -> Self {
        let limit = number(100).from(1).to(1000);
        self.query("limit", "so many rows; all unless said otherwise", limit).query(
            "offset",
            "so many rows come before them",
            number(0).from(0).to(1_000_000),
        )
    }

    /// `page` and `limit`.
    pub fn paged(self) -> Self {
        self.query("page", "from 1 on", number(1).from(1).to(1_000_000)).query(
            "limit",
            "rows on a page; 25 unless said otherwise",
            number(25).from(1).to(100),
        )
    }

    /// A header field, which may be left out.
    pub fn header(mut self, name: &'static str, description: &'static str, shape: Shape) -> Self {
        self.parameters.push((ParameterIn::Header, name, description, shape, false));
        self
    }

    /// A header field that must be there.
    pub fn required_header(mut self, name: &'static str, description: &'static str, shape: Shape) -> Self {
        self.parameters.push((ParameterIn::Header, name, description, shape, true));
        self
    }

    /// A JSON body.
    pub fn body(mut self, shape: Shape) -> Self {
        self.body = Some((shape, true));
        self.refused(400, &["body_broken"])
            .refused(408, &["body_too_slow"])
            .refused(413, &["body_too_large", "too_many_values"])
            .refused(415, &["unsupported_media_type"])
            .refused(422, &["validation_failed"])
    }

    /// A JSON body that may be left out.
    pub fn optional_body(self, shape: Shape) -> Self {
        let mut with_body = self.body(shape);
        if let Some((_, required)) = &mut with_body.body {
            *required = false;
        }
        with_body
    }

    /// An answer with JSON.
    pub fn answer(self, status: u16, description: &'static str, shape: Shape) -> Self {
        self.answer_in(status, description, "application/json", shape)
    }

    /// 200 with a list, of which a part may be asked for, in an object that says how many rows
    /// there are.
    pub fn answer_list(self, description: &'static str, name: &str, row: Shape) -> Self {
        let members = vec![(name, list(row)), ("total", number(1).from(0).described("rows in all"))];
        self.sliced().answer(200, description, object(members))
    }

    /// The same where the answer is the list itself.
    pub fn answer_bare_list(self, description: &'static str, row: Shape) -> Self {
        self.sliced().answer(200, description, list(row)).answer_header("X-Total-Count", "rows in all")
    }

    /// An answer with a text of another type.
    pub fn answer_in(
        mut self,
        status: u16,
        description: &'static str,
        media_type: &'static str,
        shape: Shape,
    ) -> Self {
        self.answers.push(Answer {
            status,
            description,
            content: Some((media_type, shape)),
            headers: Vec::new(),
        });
        self
    }

    /// An answer without a body.
    pub fn empty_answer(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push(Answer { status, description, content: None, headers: Vec::new() });
        self
    }

    /// A header field of the answer described last.
    pub fn answer_header(mut self, name: &'static str, description: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push((name, description));
        }
        self
    }

    /// What the operation refuses with: a status and the codes that come with it.
    pub fn refused(mut self, status: u16, codes: &[&'static str]) -> Self {
        let known = self.refusals.entry(status).or_default();
        for code in codes {
            if !known.contains(code) {
                known.push(code);
            }
        }
        self
    }

    /// Falls under a rate limit.
    pub fn limited(self) -> Self {
        self.refused(429, &["too_many_requests"])
    }

    /// What it refuses with as this method: also what every operation may.
    fn all_refusals(&self, method: &str) -> BTreeMap<u16, Vec<&'static str>> {
        let mut all =
            self.clone().refused(500, &["internal"]).refused(503, &["unavailable", "storage_unavailable"]);
        if method != "GET" && matches!(self.access, Access::SignedIn | Access::Permitted(_)) {
            // By cookie, from a page of another origin.
            all = all.refused(403, &["forbidden"]);
        }
        all.refusals
    }

    /// Refusals with one code, under the names that operations refer to them by.
    pub fn shared_refusals(&self, method: &str) -> Vec<(String, Response)> {
        let all = self.all_refusals(method).into_iter();
        let single = all.filter_map(|(status, codes)| match codes.as_slice() {
            [code] => Some((refusal_name(status, code), describe_refusal(status, &codes))),
            _ => None,
        });
        single.collect()
    }

    /// Every shape that has a name.
    pub fn shapes(&self) -> impl Iterator<Item = &Shape> {
        let answers =
            self.answers.iter().filter_map(|answer| answer.content.as_ref().map(|(_, shape)| shape));
        self.body.iter().map(|(shape, _)| shape).chain(answers)
    }

    /// Header fields that a request may have, beside those of sessions and bodies.
    pub fn request_headers(&self) -> impl Iterator<Item = &'static str> {
        let own = self.parameters.iter().filter(|(place, ..)| *place == ParameterIn::Header);
        own.map(|(_, name, ..)| *name).chain([TRACE_HEADER])
    }

    /// Header fields that an answer may have and a page may read.
    pub fn answer_headers(&self) -> impl Iterator<Item = &'static str> {
        let all = self.answers.iter().flat_map(|answer| &answer.headers).map(|(name, _)| *name);
        // Browsers show it to no script.
        all.filter(|name| *name != "Set-Cookie")
    }

    /// utoipa's form of it.
    pub fn describe(&self, method: &str, path: &str) -> Described {
        let samples = samples::of(&self.request(method, path));
        let mut described = OperationBuilder::new()
            .tag(self.tag)
            .operation_id(Some(self.id))
            .summary(Some(self.summary))
            .description(Some(self.full_description()))
            .parameters(Some(self.parameters.iter().map(describe_parameter).chain([trace_parameter()])));
        if let Some((shape, required)) = &self.body {
            let content =
                ContentBuilder::new().schema(Some(shape.schema())).example(Some(shape.example().clone()));
            let required = if *required { Required::True } else { Required::False };
            let body = RequestBodyBuilder::new().content("application/json", content.build());
            described = described.request_body(Some(body.required(Some(required)).build()));
        }
        for answer in &self.answers {
            described = described.response(answer.status.to_string(), describe_answer(answer));
        }
        for (status, codes) in &self.all_refusals(method) {
            let refusal = match codes.as_slice() {
                // Described once, for all operations.
                [code] => RefOr::Ref(Ref::from_response_name(refusal_name(*status, code))),
                codes => RefOr::T(describe_refusal(*status, codes)),
            };
            described = described.response(status.to_string(), refusal);
        }
        if let Some(requirements) = self.security() {
            described = described.securities(Some(requirements));
        }
        let extensions = ExtensionsBuilder::new().add("x-codeSamples", samples).build();
        described.extensions(Some(extensions)).build()
    }

    fn full_description(&self) -> String {
        match self.access {
            Access::Permitted(permission) => {
                format!("{} Needs the permission `{permission}`.", self.description)
            }
            _ => self.description.clone(),
        }
    }

    fn security(&self) -> Option<Vec<SecurityRequirement>> {
        let none: [&str; 0] = [];
        let session =
            vec![SecurityRequirement::new("bearer", none), SecurityRequirement::new("cookie", none)];
        match self.access {
            Access::Anyone => None,
            Access::SignedIn | Access::Permitted(_) => Some(session),
            Access::AnyoneOrSignedIn => {
                Some(session.into_iter().chain([SecurityRequirement::default()]).collect())
            }
        }
    }

    /// The request that the examples add up to.
    fn request(&self, method: &str, path: &str) -> samples::Request {
        let example = |kind: &ParameterIn| {
            let kind = kind.clone();
            self.parameters.iter().filter(move |(found, _, _, _, required)| *found == kind && *required)
        };
        let mut url = path.to_owned();
        for (_, name, _, shape, _) in example(&ParameterIn::Path) {
            let value = shape.example().as_str().unwrap_or_default().replace('@', "%40");
            url = url.replace(&format!("{{{name}}}"), &value);
        }
        let mut headers: Vec<(String, String)> = example(&ParameterIn::Header)
            .map(|(_, name, _, shape, _)| {
                ((*name).to_owned(), shape.example().as_str().unwrap_or_default().to_owned())
            })
            .collect();
        if matches!(self.access, Access::SignedIn | Access::Permitted(_)) {
            headers.push(("Authorization".to_owned(), "Bearer TOKEN".to_owned()));
        }
        let body = self.body.as_ref().map(|(shape, _)| shape.example().clone());
        if body.is_some() {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        samples::Request { method: method.to_owned(), path: url, headers, body }
    }
}

/// What every operation takes: its place in a trace.
fn trace_parameter() -> Parameter {
    let about =
        "the trace that the request is part of (W3C Trace Context); it is in the log, and decides nothing";
    let example = text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
    describe_parameter(&(ParameterIn::Header, TRACE_HEADER, about, example, false))
}

fn describe_parameter(
    (place, name, description, shape, required): &(ParameterIn, &'static str, &'static str, Shape, bool),
) -> Parameter {
    ParameterBuilder::new()
        .name(*name)
        .parameter_in(place.clone())
        .required(if *required { Required::True } else { Required::False })
        .description(Some(*description))
        .schema(Some(shape.schema()))
        .example(Some(shape.example().clone()))
        .build()
}

fn describe_answer(answer: &Answer) -> Response {
    let mut response = ResponseBuilder::new().description(answer.description);
    if let Some((media_type, shape)) = &answer.content {
        let content =
            ContentBuilder::new().schema(Some(shape.schema())).example(Some(shape.example().clone()));
        response = response.content(*media_type, content.build());
    }
    for (name, description) in &answer.headers {
        response = response.header(*name, text_header(description));
    }
    response.build()
}

fn refusal_name(status: u16, code: &str) -> String {
    format!("{code}_{status}")
}

fn describe_refusal(status: u16, codes: &[&str]) -> Response {
    let title = super::problem::title(status);
    let schema = json!({
        "allOf": [
            { "$ref": "#/components/schemas/Problem" },
            { "type": "object", "properties": { "code": { "type": "string", "enum": codes } } },
        ],
    });
    let example = super::problem::example(status, codes.first().copied().unwrap_or_default());
    let content = ContentBuilder::new().schema(Some(read_schema(&schema))).example(Some(example));
    let shown: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let mut response = ResponseBuilder::new()
        .description(format!("{title}: {}", shown.join(", ")))
        .content("application/problem+json", content.build());
    if matches!(status, 429 | 503) {
        response = response.header("Retry-After", text_header("seconds until it is worth trying again"));
    }
    response.build()
}

fn text_header(description: &str) -> Header {
    let mut header = Header::new(text("").schema());
    header.description = Some(description.to_owned());
    header
}

/// The extension's form: a list of samples.
pub type Samples = Vec<Value>;
