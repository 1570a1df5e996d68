//! `vellum mail …`: emails. Works beside a running node, and without one.

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Value, json};
use vellum_actors::Clock;

use super::{Context, block_on, print};
use crate::doctor;

/// What to do with emails.
#[derive(Debug, Subcommand)]
pub enum MailCommand {
    /// Sends a test email at once, and prints how each step went.
    Test {
        /// The recipient.
        address: String,
    },
}

/// Runs the command.
pub fn run(context: &Context, command: &MailCommand) -> anyhow::Result<()> {
    let MailCommand::Test { address } = command;
    let settings = context.settings()?;
    if settings.mail.smtp_url.is_none() && !settings.data_dir.is_dir() {
        bail!(
            "no mail server is set (mail.smtp_url), and there is no node at {}",
            settings.data_dir.display()
        );
    }
    let sender = doctor::mail_sender(&settings)?;
    let mut steps = Vec::new();
    let sent = block_on(async { Ok(sender.test(address, Clock::system().now(), &mut steps).await) })?;
    let error = sent.as_ref().err().map(ToString::to_string);
    if context.json {
        let steps: Vec<Value> =
            steps.iter().map(|step| json!({ "step": step.about, "says": step.says })).collect();
        print(&json!({ "sent": error.is_none(), "steps": steps, "error": error }).to_string());
    } else {
        if settings.mail.smtp_url.is_none() {
            print("no mail server is set (mail.smtp_url): emails are files");
        }
        for step in &steps {
            print(&format!("{:<11} {}", step.about, step.says));
        }
    }
    match error {
        Some(error) => bail!("the test email was not sent: {error}"),
        None => Ok(()),
    }
}
