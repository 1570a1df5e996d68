//! Code samples: the example request of an operation, for curl, JavaScript, Go and Python.

use serde_json::{Value, json};

use super::operation::Samples;

/// Where the node of the examples is.
const NODE: &str = "https://node.example";

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET, POST …
    pub method: String,
    /// The path, filled in.
    pub path: String,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// The JSON body, if there is one.
    pub body: Option<Value>,
}

/// The samples of a request.
pub fn of(request: &Request) -> Samples {
    [
        ("Shell", "curl", curl(request)),
        ("JavaScript", "JavaScript", javascript(request)),
        ("Go", "Go", go(request)),
        ("Python", "Python", python(request)),
    ]
    .into_iter()
    .map(|(lang, label, source)| json!({ "lang": lang, "label": label, "source": source }))
    .collect()
}

fn curl(request: &Request) -> String {
    let Request { method, path, headers, body } = request;
    let mut lines = vec![format!("curl -X {method} '{NODE}{path}'")];
    lines.extend(headers.iter().map(|(name, value)| format!("-H '{name}: {value}'")));
    if let Some(body) = body {
        lines.push(format!("-d '{}'", body.to_string().replace('\'', "'\\''")));
    }
    lines.join(" \\\n  ")
}

fn javascript(request: &Request) -> String {
    let Request { method, path, headers, body } = request;
    let fields: Vec<String> =
        headers.iter().map(|(name, value)| format!("    {}: {},", json!(name), json!(value))).collect();
    let mut source =
        format!("const answer = await fetch({}, {{\n  method: \"{method}\",\n", json!(url(path)));
    if !fields.is_empty() {
        source += &format!("  headers: {{\n{}\n  }},\n", fields.join("\n"));
    }
    if let Some(body) = body {
        source += &format!("  body: JSON.stringify({}),\n", indented(body, "  "));
    }
    source + "});\nconsole.log(answer.status, await answer.text());"
}

fn go(request: &Request) -> String {
    let Request { method, path, headers, body } = request;
    let (import, reader) = match body {
        Some(body) => ("\n\t\"strings\"", format!("strings.NewReader(`{body}`)")),
        None => ("", "nil".to_owned()),
    };
    let fields: String = headers
        .iter()
        .map(|(name, value)| format!("\trequest.Header.Set({}, {})\n", json!(name), json!(value)))
        .collect();
    format!(
        "package main\n\nimport (\n\t\"fmt\"\n\t\"io\"\n\t\"net/http\"{import}\n)\n\nfunc main() {{\n\
         \trequest, err := http.NewRequest(\"{method}\", {}, {reader})\n\
         \tif err != nil {{\n\t\tpanic(err)\n\t}}\n{fields}\
         \tanswer, err := http.DefaultClient.Do(request)\n\
         \tif err != nil {{\n\t\tpanic(err)\n\t}}\n\tdefer answer.Body.Close()\n\
         \ttext, _ := io.ReadAll(answer.Body)\n\tfmt.Println(answer.StatusCode, string(text))\n}}",
        json!(url(path))
    )
}

fn python(request: &Request) -> String {
    let Request { method, path, headers, body } = request;
    let fields: Vec<String> =
        headers.iter().map(|(name, value)| format!("        {}: {},", json!(name), json!(value))).collect();
    let mut source = format!(
        "import urllib.request\n\nrequest = urllib.request.Request(\n    {},\n    method=\"{method}\",\n",
        json!(url(path))
    );
    if !fields.is_empty() {
        source += &format!("    headers={{\n{}\n    }},\n", fields.join("\n"));
    }
    if let Some(body) = body {
        // The text as a literal: JSON's null, true and false are no Python.
        source += &format!("    data={}.encode(),\n", json!(body.to_string()));
    }
    source
        + ")\nwith urllib.request.urlopen(request) as answer:\n    print(answer.status, answer.read().decode())"
}

fn url(path: &str) -> String {
    format!("{NODE}{path}")
}

fn indented(body: &Value, by: &str) -> String {
    let text = serde_json::to_string_pretty(body).unwrap_or_default();
    text.replace('\n', &format!("\n{by}"))
}
