//! What a row says of its endpoint.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::Method;
use serde_json::Value;

use super::scene::Stage;

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Anyone,
    /// Anybody; whoever has a session is told more.
    SessionIfAny,
    /// Whoever has a session.
    SignedIn,
    /// Whoever has a session and this permission.
    May(&'static str),
}

/// Whether there is a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// None; one that is sent is not looked at.
    None,
    /// It may be left out.
    Optional,
    /// It must be there.
    Required,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text with a limit of its own.
    Text { longest: usize },
    /// A text as long as the body may be.
    Sealed,
    /// A whole number.
    Integer { least: i64 },
    /// A truth value.
    Bool,
    /// An array of objects.
    Objects,
    /// An array of texts.
    Texts,
}

/// A field of a body.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Where it is: a JSON pointer without the slash at the front, `items/0/nonce`.
    pub place: &'static str,
    pub kind: Kind,
    pub required: bool,
}

impl Field {
    /// As an error names it: `items[0].nonce`.
    pub fn name(&self) -> String {
        let mut name = String::new();
        for part in self.place.split('/') {
            match part.parse::<usize>() {
                Ok(index) => name += &format!("[{index}]"),
                Err(_) if name.is_empty() => name += part,
                Err(_) => name += &format!(".{part}"),
            }
        }
        name
    }

    pub const fn optional(self) -> Self {
        Self { required: false, ..self }
    }

    const fn required(place: &'static str, kind: Kind) -> Self {
        Self { place, kind, required: true }
    }
}

/// The longest text where nothing else is said, in bytes.
pub const LONGEST_TEXT: usize = 4096;

/// A text of any meaning.
pub const fn text(place: &'static str) -> Field {
    short(place, LONGEST_TEXT)
}

/// A text with a limit of its own.
pub const fn short(place: &'static str, longest: usize) -> Field {
    Field::required(place, Kind::Text { longest })
}

/// Ciphertext.
pub const fn sealed(place: &'static str) -> Field {
    Field::required(place, Kind::Sealed)
}

pub const fn integer(place: &'static str, least: i64) -> Field {
    Field::required(place, Kind::Integer { least })
}

pub const fn truth(place: &'static str) -> Field {
    Field::required(place, Kind::Bool).optional()
}

pub const fn objects(place: &'static str) -> Field {
    Field::required(place, Kind::Objects)
}

pub const fn texts(place: &'static str) -> Field {
    Field::required(place, Kind::Texts).optional()
}

/// How a request differs from the good one.
#[derive(Debug, Clone)]
pub enum Change {
    /// A field of the body, by its place.
    Field(&'static str, Value),
    /// A parameter of the path.
    Path(&'static str, String),
    /// A query.
    Query(&'static str),
}

/// A request that breaks a rule of the row's own.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub change: Change,
    pub status: u16,
    pub code: &'static str,
}

/// What a good request needs: the parameters of its path and its body.
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub parameters: Vec<(&'static str, String)>,
    pub body: Value,
}

impl Given {
    pub fn path(mut self, name: &'static str, value: impl ToString) -> Self {
        self.parameters.push((name, value.to_string()));
        self
    }

    pub fn body(self, body: Value) -> Self {
        Self { body, ..self }
    }
}

/// Makes ready what a good request is about.
pub type Prepare = fn(&Stage) -> BoxFuture<'_, Given>;

/// One row of the table.
pub struct Row {
    /// Its number in the description of the API, where it has one.
    pub number: u8,
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub body: Body,
    /// In bytes.
    pub longest_body: usize,
    pub fields: Vec<Field>,
    pub refusals: Vec<Refusal>,
    pub given: Prepare,
    pub status: u16,
    /// The members of the good answer, by the place in it.
    pub shows: Vec<(&'static str, Vec<&'static str>)>,
    /// Whether the good request changes what is stored.
    pub changes: bool,
    /// Whether there is a HEAD beside GET: there is none where GET has effects.
    pub head: bool,
}

/// A row that needs a session, and nothing else unless it says so.
pub fn row(method: Method, path: &'static str) -> Row {
    Row {
        number: 0,
        head: method == Method::GET,
        changes: method != Method::GET,
        method,
        path,
        access: Access::SignedIn,
        body: Body::None,
        longest_body: 64 * 1024,
        fields: Vec::new(),
        refusals: Vec::new(),
        given: |_| async { Given::default() }.boxed(),
        status: 200,
        shows: Vec::new(),
    }
}

impl Row {
    pub fn number(self, number: u8) -> Self {
        Self { number, ..self }
    }

    pub fn anyone(self) -> Self {
        Self { access: Access::Anyone, ..self }
    }

    pub fn session_if_any(self) -> Self {
        Self { access: Access::SessionIfAny, ..self }
    }

    pub fn may(self, permission: &'static str) -> Self {
        Self { access: Access::May(permission), ..self }
    }

    /// A body that must be there, with these fields.
    pub fn body(self, fields: &[Field]) -> Self {
        Self { body: Body::Required, fields: fields.to_vec(), ..self }
    }

    /// A body that may be left out, with these fields.
    pub fn optional_body(self, fields: &[Field]) -> Self {
        Self { body: Body::Optional, fields: fields.to_vec(), ..self }
    }

    pub fn longest_body(self, bytes: usize) -> Self {
        Self { longest_body: bytes, ..self }
    }

    pub fn given(self, given: Prepare) -> Self {
        Self { given, ..self }
    }

    fn refuses(mut self, change: Change, status: u16, code: &'static str) -> Self {
        self.refusals.push(Refusal { change, status, code });
        self
    }

    /// The good request, but for this field, is refused so.
    pub fn refuses_field(self, place: &'static str, value: Value, status: u16, code: &'static str) -> Self {
        self.refuses(Change::Field(place, value), status, code)
    }

    /// The good request, but for this parameter of the path, is refused so.
    pub fn refuses_path(self, name: &'static str, value: &str, status: u16, code: &'static str) -> Self {
        self.refuses(Change::Path(name, value.to_owned()), status, code)
    }

    /// The good request with this query is refused as not valid.
    pub fn refuses_query(self, query: &'static str) -> Self {
        self.refuses(Change::Query(query), 422, "validation_failed")
    }

    /// What the good request is answered with; members of the answer itself. None: no body.
    pub fn answers(self, status: u16, members: &[&'static str]) -> Self {
        let row = Self { status, ..self };
        if members.is_empty() { row } else { row.shows("", members) }
    }

    /// The good request is answered with an empty list.
    pub fn answers_list(self) -> Self {
        self.answers(200, &[]).shows("", &[])
    }

    /// Members of something in the good answer, by its JSON pointer.
    pub fn shows(mut self, place: &'static str, members: &[&'static str]) -> Self {
        self.shows.push((place, members.to_vec()));
        self
    }

    /// The good request changes something stored, or does not, unlike others with its method.
    pub fn changes(self, changes: bool) -> Self {
        Self { changes, ..self }
    }

    /// GET has effects, so there is no HEAD.
    pub fn without_head(self) -> Self {
        Self { head: false, ..self }
    }

    /// As it is called in a failure.
    pub fn name(&self) -> String {
        let number = if self.number == 0 { String::new() } else { format!("({}) ", self.number) };
        format!("{number}{} {}", self.method, self.path)
    }
}
