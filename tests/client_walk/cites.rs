//! Where a step's expectation is written down.

/// A sentence of a document of this repository.
#[derive(Clone, Copy)]
pub struct Cite {
    document: &'static str,
    text: &'static str,
    sentence: &'static str,
}

/// Cites the wire protocol.
pub fn wire(sentence: &'static str) -> Cite {
    let text = include_str!("../../docs/wire-protocol.md");
    Cite { document: "docs/wire-protocol.md", text, sentence }
}

/// Cites what existing clients rely on.
pub fn clients(sentence: &'static str) -> Cite {
    let text = include_str!("../../docs/existing-clients.md");
    Cite { document: "docs/existing-clients.md", text, sentence }
}

impl Cite {
    /// The document and the sentence.
    ///
    /// # Errors
    /// When the sentence is not in the document word for word. Line breaks do not count.
    pub fn checked(self) -> Result<String, String> {
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let Self { document, text, sentence } = self;
        if sentence.len() > 20 && one_line(text).contains(&one_line(sentence)) {
            Ok(format!("{document}: \"{sentence}\""))
        } else {
            Err(format!("{document} does not say: \"{sentence}\""))
        }
    }
}
