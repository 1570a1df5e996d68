//! The document's part on `/users/me/preferences`.

use super::operation::Operation;
use super::shape::{Shape, object, text, word};

const TAG: &str = "Preferences";

fn preferences() -> Shape {
    object(vec![("language", text("en-US")), ("unitSystem", word(&["metric", "imperial"]))])
        .named("Preferences")
}

pub fn read() -> Operation {
    Operation::new(TAG, "preferences", "Your preferences", "`en-US` and `metric` until you choose.")
        .signed_in()
        .answer(200, "The preferences.", preferences())
}

pub fn change() -> Operation {
    let language = text("es-ES")
        .matching("^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")
        .up_to(35)
        .described("a language tag (BCP 47)");
    Operation::new(
        TAG,
        "changePreferences",
        "Change your preferences",
        "What is left out stays. Letters come in this language, where there are texts in it.",
    )
    .signed_in()
    .body(object(vec![
        ("language", language.optional()),
        ("unitSystem", word(&["metric", "imperial"]).optional()),
    ]))
    .answer(200, "The preferences.", preferences())
}
