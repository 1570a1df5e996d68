//! Walking: steps one after the other, and what did not hold of them.

#![allow(clippy::print_stdout, reason = "the names of the steps belong to the test's output")]

use std::any::Any;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Mutex;

use futures_util::FutureExt;

use super::cites::Cite;

/// A walk under way.
#[derive(Default)]
pub struct Walk {
    names: Mutex<Vec<&'static str>>,
    failures: Mutex<Vec<String>>,
}

impl Walk {
    /// Takes a step: its name, the sentence that it rests on, and what is done and expected.
    ///
    /// # Panics
    /// When it does not hold; the rest of its stage is left out then.
    pub async fn step<T>(&self, name: &'static str, cites: Cite, act: impl Future<Output = T>) -> T {
        let number = {
            let mut names = self.names.lock().unwrap();
            assert!(!names.contains(&name), "there are two steps with the name {name:?}");
            names.push(name);
            names.len()
        };
        println!("{number:>3}. {name}");
        let source = cites.checked().unwrap_or_else(|missing| self.fail(name, &missing, Box::new(())));
        match AssertUnwindSafe(act).catch_unwind().await {
            Ok(value) => value,
            Err(panic) => self.fail(name, &format!("{}\n    {source}", message(&panic)), panic),
        }
    }

    /// Takes the steps of one stage. Other stages do not depend on it.
    pub async fn stage(&self, steps: impl Future<Output = ()>) {
        let before = self.failures.lock().unwrap().len();
        if let Err(panic) = AssertUnwindSafe(steps).catch_unwind().await {
            let mut failures = self.failures.lock().unwrap();
            if failures.len() == before {
                failures.push(format!("between two steps: {}", message(&panic)));
            }
        }
    }

    /// Ends the walk.
    ///
    /// # Panics
    /// When a step did not hold, or there were fewer than so many.
    pub fn end(self, at_least: usize) {
        let (steps, failures) = (self.names.into_inner().unwrap().len(), self.failures.into_inner().unwrap());
        assert!(failures.is_empty(), "of {steps} steps:\n{}", failures.join("\n"));
        assert!(steps >= at_least, "expected at least {at_least} steps, seen {steps}");
    }

    fn fail(&self, name: &str, why: &str, panic: Box<dyn Any + Send>) -> ! {
        self.failures.lock().unwrap().push(format!("- {name}: {why}"));
        resume_unwind(panic)
    }
}

fn message(panic: &Box<dyn Any + Send>) -> String {
    let fixed = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    fixed.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
