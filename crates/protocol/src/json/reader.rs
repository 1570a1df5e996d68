//! The strict reader. One pass, bounded depth, no panic on any input.

use super::{DEEPEST, Json, JsonError, JsonObject, LARGEST_EXACT, MOST_VALUES};

pub(super) fn read(text: &[u8]) -> Result<Json, JsonError> {
    let mut reader = Reader { text, at: 0, values: 0 };
    reader.skip_space();
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.at < text.len() { Err(reader.not_json("something follows the document")) } else { Ok(value) }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    values: usize,
}

impl Reader<'_> {
    fn not_json(&self, what: &'static str) -> JsonError {
        JsonError::NotJson { at: self.at, what }
    }

    fn refused(&self, what: &'static str) -> JsonError {
        JsonError::Refused { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes the byte if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(self.refused("more than 100,000 values"));
        }
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", Json::Bool(true)),
            Some(b'f') => self.word(b"false", Json::Bool(false)),
            Some(b'n') => self.word(b"null", Json::Null),
            Some(_) => Err(self.not_json("no value begins like this")),
            None => Err(self.not_json("the document ends too early")),
        }
    }

    fn word(&mut self, word: &[u8], value: Json) -> Result<Json, JsonError> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.not_json("an unknown word"))
        }
    }

    fn enter(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > DEEPEST {
            return Err(self.refused("more than 32 levels"));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.enter(depth)?;
        let mut members = Vec::new();
        if self.take(b']') {
            return Ok(Json::Array(members));
        }
        loop {
            members.push(self.value(depth)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Json::Array(members));
            }
            if !self.take(b',') {
                return Err(self.not_json("a comma or ] is missing"));
            }
            self.skip_space();
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.enter(depth)?;
        let mut object = JsonObject::new();
        if self.take(b'}') {
            return Ok(Json::Object(object));
        }
        loop {
            self.member(&mut object, depth)?;
            self.skip_space();
            if self.take(b'}') {
                return Ok(Json::Object(object));
            }
            if !self.take(b',') {
                return Err(self.not_json("a comma or } is missing"));
            }
            self.skip_space();
        }
    }

    fn member(&mut self, object: &mut JsonObject, depth: usize) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.not_json("a key is missing"));
        }
        let key = self.string()?;
        self.skip_space();
        if !self.take(b':') {
            return Err(self.not_json("a colon is missing"));
        }
        self.skip_space();
        let value = self.value(depth)?;
        if key == "__proto__" {
            return Err(self.refused("the key __proto__, which other implementations drop silently"));
        }
        match object.insert(key, value) {
            None => Ok(()),
            Some(_) => Err(self.refused("the same key twice in one object")),
        }
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') && !self.digits() {
            return Err(self.not_json("a digit is missing"));
        }
        if matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.not_json("a number begins with a superfluous zero"));
        }
        let mut integer = true;
        if self.take(b'.') {
            integer = false;
            if !self.digits() {
                return Err(self.not_json("a digit is missing after the point"));
            }
        }
        if self.take(b'e') || self.take(b'E') {
            integer = false;
            if !self.take(b'+') {
                self.take(b'-');
            }
            if !self.digits() {
                return Err(self.not_json("a digit is missing in the exponent"));
            }
        }
        // Only ASCII digits, signs, point and e were taken, all of which the standard library reads.
        let text =
            std::str::from_utf8(&self.text[start..self.at]).map_err(|_| self.not_json("not a number"))?;
        let number: f64 = text.parse().map_err(|_| self.not_json("not a number"))?;
        if !number.is_finite() {
            return Err(self.refused("a number too large for a double"));
        }
        if integer && number.abs() > LARGEST_EXACT {
            return Err(self.refused("an integer that a double does not hold exactly"));
        }
        Ok(Json::Number(number))
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at > start
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut decoded = String::new();
        loop {
            decoded.push_str(self.plain_part()?);
            if self.take(b'"') {
                return Ok(decoded);
            }
            if self.take(b'\\') {
                decoded.push(self.escape()?);
            } else if self.peek().is_some() {
                return Err(self.not_json("a raw control character in a string"));
            } else {
                return Err(self.not_json("a string does not end"));
            }
        }
    }

    /// The part of a string up to the next quote, backslash or control character.
    fn plain_part(&mut self) -> Result<&str, JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
        std::str::from_utf8(&self.text[start..self.at])
            .map_err(|_| JsonError::NotJson { at: start, what: "a string is not UTF-8" })
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let escaped = self.peek().ok_or(self.not_json("a string does not end"))?;
        self.at += 1;
        Ok(match escaped {
            b'"' | b'\\' | b'/' => char::from(escaped),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(self.not_json("an unknown escape")),
        })
    }

    /// What follows `\u`: one code unit, or two that make a surrogate pair.
    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let unit = self.code_unit()?;
        if !(0xd800..=0xdfff).contains(&unit) {
            return char::from_u32(unit).ok_or(self.refused("a lone surrogate"));
        }
        let paired = unit < 0xdc00 && self.text[self.at..].starts_with(b"\\u");
        if !paired {
            return Err(self.refused("a lone surrogate"));
        }
        self.at += 2;
        let low = self.code_unit()?;
        if !(0xdc00..=0xdfff).contains(&low) {
            return Err(self.refused("a lone surrogate"));
        }
        char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00))
            .ok_or(self.refused("a lone surrogate"))
    }

    fn code_unit(&mut self) -> Result<u32, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit * 16 + digit.ok_or(self.not_json("four hexadecimal digits are missing"))?;
            self.at += 1;
        }
        Ok(unit)
    }
}
