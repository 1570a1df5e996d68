//! Shapes of JSON: a schema and an example that fits it, made together so that they cannot part.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

/// What a value looks like.
#[derive(Debug, Clone)]
pub struct Shape {
    schema: Value,
    example: Value,
    /// May be left out of the object that it is a member of.
    optional: bool,
    /// Shapes with names of their own that this one refers to.
    named: BTreeMap<&'static str, Value>,
}

impl Shape {
    fn new(schema: Value, example: Value) -> Self {
        Self { schema, example, optional: false, named: BTreeMap::new() }
    }

    fn with(mut self, keyword: &str, value: Value) -> Self {
        self.schema[keyword] = value;
        self
    }

    /// A text of at most so many characters.
    pub fn up_to(self, most: usize) -> Self {
        self.with("maxLength", json!(most))
    }

    /// A text of at least so many characters.
    pub fn at_least(self, least: usize) -> Self {
        self.with("minLength", json!(least))
    }

    /// A text that matches (ECMA-262).
    pub fn matching(self, pattern: &str) -> Self {
        self.with("pattern", json!(pattern))
    }

    /// A text of a format that JSON Schema has a name for.
    pub fn in_format(self, format: &str) -> Self {
        self.with("format", json!(format))
    }

    /// A number not below this one.
    pub fn from(self, least: i64) -> Self {
        self.with("minimum", json!(least))
    }

    /// A number not above this one.
    pub fn to(self, most: i64) -> Self {
        self.with("maximum", json!(most))
    }

    /// A list of at most so many members.
    pub fn of_at_most(self, most: usize) -> Self {
        self.with("maxItems", json!(most))
    }

    /// What it means.
    pub fn described(mut self, description: &str) -> Self {
        if self.schema.get("$ref").is_some() {
            self.schema = json!({ "allOf": [self.schema] });
        }
        self.with("description", json!(description))
    }

    /// May be null.
    pub fn or_null(mut self) -> Self {
        match self.schema.get("type").cloned() {
            Some(Value::String(kind)) => {
                self.schema["type"] = json!([kind, "null"]);
                if let Some(Value::Array(words)) = self.schema.get_mut("enum") {
                    words.push(Value::Null);
                }
            }
            _ => self.schema = json!({ "oneOf": [self.schema, { "type": "null" }] }),
        }
        self
    }

    /// May be null, and is in the example.
    pub fn here_null(mut self) -> Self {
        self = self.or_null();
        self.example = Value::Null;
        self
    }

    /// A member that a request may leave out or set to null.
    pub fn optional(mut self) -> Self {
        self = self.or_null();
        self.optional = true;
        self
    }

    /// A member that is not always there, and never null.
    pub fn at_times(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Gives the shape a name that the document lists it under.
    pub fn named(mut self, name: &'static str) -> Self {
        let schema =
            std::mem::replace(&mut self.schema, json!({ "$ref": format!("#/components/schemas/{name}") }));
        self.named.insert(name, schema);
        self
    }

    /// The object with more members.
    pub fn and(mut self, members: Vec<(&str, Shape)>) -> Self {
        for (name, member) in members {
            self.named.extend(member.named);
            self.schema["properties"][name] = member.schema;
            self.example[name] = member.example;
            if !member.optional
                && let Some(Value::Array(required)) = self.schema.get_mut("required")
            {
                required.push(json!(name));
            }
        }
        self
    }

    /// A value of this shape.
    pub fn example(&self) -> &Value {
        &self.example
    }

    /// The shape as the document has it.
    pub fn schema(&self) -> RefOr<Schema> {
        read_schema(&self.schema)
    }

    /// The shapes that it refers to.
    pub fn components(&self) -> impl Iterator<Item = (&'static str, RefOr<Schema>)> {
        self.named.iter().map(|(name, schema)| (*name, read_schema(schema)))
    }
}

/// utoipa's form of a schema made here.
pub fn read_schema(schema: &Value) -> RefOr<Schema> {
    #[expect(clippy::expect_used, reason = "shapes use keywords that utoipa knows; a test reads them all")]
    serde_json::from_value(schema.clone()).expect("a schema")
}

/// Any text.
pub fn text(example: &str) -> Shape {
    Shape::new(json!({ "type": "string" }), json!(example))
}

/// A text of fixed words.
pub fn word(words: &[&str]) -> Shape {
    Shape::new(json!({ "type": "string", "enum": words }), json!(words[0]))
}

/// A whole number.
pub fn number(example: i64) -> Shape {
    Shape::new(json!({ "type": "integer" }), json!(example))
}

/// True or false.
pub fn truth(example: bool) -> Shape {
    Shape::new(json!({ "type": "boolean" }), json!(example))
}

/// Always null: a field that existing clients read and that nothing fills here.
pub fn null() -> Shape {
    Shape::new(json!({ "type": "null" }), Value::Null)
}

/// A list; the example has one member.
pub fn list(member: Shape) -> Shape {
    let Shape { schema, example, named, .. } = member;
    Shape {
        schema: json!({ "type": "array", "items": schema }),
        example: json!([example]),
        optional: false,
        named,
    }
}

/// An object. Members that the document does not name are ignored in requests.
pub fn object(members: Vec<(&str, Shape)>) -> Shape {
    let schema = json!({ "type": "object", "properties": {}, "required": [] });
    Shape::new(schema, Value::Object(Map::new())).and(members)
}

/// An object whose members are not listed here: WebAuthn's own.
pub fn foreign_object(example: Value) -> Shape {
    Shape::new(json!({ "type": "object" }), example)
}

/// A time as every answer shows it.
pub fn time() -> Shape {
    text("2026-11-23T10:00:00.000Z").in_format("date-time").described("RFC 3339, in UTC, with milliseconds")
}

/// An id that the node has made.
pub fn id() -> Shape {
    text("019ab0c1-7c2e-7d33-9a55-3f0b8f6f9e21")
}

/// A public key.
pub fn key(example: &str) -> Shape {
    text(example).matching("^[A-Za-z0-9+/]{43}=$").described("base64 of 32 bytes")
}

/// An Ed25519 public key.
pub fn signing_key() -> Shape {
    key("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
}

/// An X25519 public key.
pub fn encryption_key() -> Shape {
    key("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=")
}

/// A handle.
pub fn handle(example: &str) -> Shape {
    text(example).up_to(320).described("alias@domain")
}

/// A version of a user's keys.
pub fn km_version() -> Shape {
    number(1).from(1).described("the version of the keys; raised by every rotation")
}

/// `{success: true}`.
pub fn success() -> Shape {
    object(vec![("success", truth(true).with("enum", json!([true])))])
}
