//! The document's part on device wrap secrets.

use super::operation::Operation;
use super::shape::{key, number, object, success, text, truth};

const TAG: &str = "Device wrap secrets";

pub fn wrap_secret() -> Operation {
    Operation::new(
        TAG,
        "wrapSecret",
        "A device's wrap secret",
        "32 random bytes that a device seals its seed with: made at the first call, the same at every later one. At most 100 devices a user.",
    )
    .signed_in()
    .path("deviceId", "chosen by the device", text("a1b2c3d4-phone").matching("^[A-Za-z0-9-]{8,64}$"))
    .answer(200, "The secret.", object(vec![("secret", key("q1Z8J2nqkX4c9b1oYb2o3m7wq0t2d1cC5vJ8m6yX0aE="))]))
    .refused(409, &["too_many_devices"])
    .refused(422, &["validation_failed"])
    .limited()
}

pub fn rotate() -> Operation {
    Operation::new(
        TAG,
        "rotateWrapSecrets",
        "Make every wrap secret anew",
        "All of them or none: what a lost device has sealed opens no more.",
    )
    .signed_in()
    .answer(200, "They are new.", success().and(vec![("ok", truth(true)), ("rotated", number(2).from(0))]))
    .limited()
}
