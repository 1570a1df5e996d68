//! `vellum doctor`: looks at everything that operators trip over, and says what to do.

use anyhow::bail;
use serde_json::{Value, json};

use super::{Context, block_on, print};
use crate::doctor::{self, Finding, Severity};

/// Runs the command.
pub fn run(context: &Context) -> anyhow::Result<()> {
    let settings = context.settings()?;
    let findings = block_on(async { Ok(doctor::examine(&settings).await) })?;
    if context.json {
        print(&json!(findings.iter().map(view).collect::<Vec<Value>>()).to_string());
    } else {
        for finding in &findings {
            let Finding { about, severity, says, advice } = finding;
            print(&format!("{severity:<9} {about:<12} {says}"));
            if let Some(advice) = advice {
                print(&format!("{:<22} -> {advice}", ""));
            }
        }
    }
    let broken = findings.iter().filter(|finding| finding.severity == Severity::Broken).count();
    if broken > 0 {
        bail!("{broken} things are broken");
    }
    Ok(())
}

fn view(finding: &Finding) -> Value {
    json!({
        "about": finding.about,
        "severity": finding.severity.to_string(),
        "says": finding.says,
        "advice": finding.advice,
    })
}
