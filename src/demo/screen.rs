//! How the story is shown: a line a step with what was sent and what came back; colour where there is a
//! terminal, plain text where not, one JSON object a line for programs.

use std::io::IsTerminal;

use serde_json::json;

use super::story::{Step, Story, Told};

/// Standard output, and how to write on it.
pub(super) struct Screen {
    colour: bool,
    json: bool,
}

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

impl Screen {
    pub fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none();
        Self { colour: wanted && std::io::stdout().is_terminal(), json }
    }

    pub fn title(&self, story: &Story) {
        if !self.json {
            let [alice, bob] = story.domains();
            self.line(&format!(
                "{} and {}: two nodes on this machine\n",
                self.paint(BOLD, &alice),
                self.paint(BOLD, &bob)
            ));
        }
    }

    pub fn step(&self, number: usize, step: Step, told: &Told) {
        if self.json {
            let line = json!({ "step": number, "title": step.title(), "sent": told.sent, "received": told.received, "held": true });
            self.line(&line.to_string());
            return;
        }
        let check = self.paint(GREEN, "ok");
        self.line(&format!("{number:>2}. {}  {check}", self.paint(BOLD, step.title())));
        self.line(&format!("    {} {}", self.paint(DIM, "sent"), told.sent));
        self.line(&format!("    {} {}", self.paint(DIM, "got "), told.received));
    }

    pub fn end(&self) {
        if !self.json {
            self.line(&format!("\n{} every step was checked and held.", self.paint(GREEN, "Done:")));
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }

    #[expect(
        clippy::print_stdout,
        clippy::unused_self,
        reason = "showing the story is what the command is for"
    )]
    fn line(&self, text: &str) {
        println!("{text}");
    }
}
