//! The document's part on device wrap secrets.

use super::operation::Operation;
use super::shape::{Shape, key, number, object, success, text, time, truth};

const TAG: &str = "Device wrap secrets";

/// The name that a device has chosen for itself.
pub fn device_id() -> Shape {
    text("a1b2c3d4-phone").matching("^[A-Za-z0-9-]{8,64}$")
}

pub fn list_devices() -> Operation {
    let device = object(vec![
        ("deviceId", device_id()),
        ("createdAt", time()),
        ("lastUsedAt", time().or_null().described("when its secret was last read, within a day")),
        (
            "current",
            truth(true).described("the device that the session named at sign-in or read a secret for"),
        ),
    ]);
    Operation::new(TAG, "listDevices", "Your devices", "Every device with a wrap secret, oldest first.")
        .signed_in()
        .answer_list("The devices.", "devices", device.named("Device"))
}

pub fn remove_device() -> Operation {
    Operation::new(
        TAG,
        "removeDevice",
        "Remove a device",
        "Its wrap secret is gone: what the device has sealed with it opens no more. Its sessions stay.",
    )
    .signed_in()
    .path("deviceId", "as the list names it", device_id())
    .empty_answer(204, "It is gone.")
    .refused(404, &["device_not_found"])
}

pub fn wrap_secret() -> Operation {
    Operation::new(
        TAG,
        "wrapSecret",
        "A device's wrap secret",
        "32 random bytes that a device seals its seed with: made at the first call, the same at every later one. At most 100 devices a user.",
    )
    .signed_in()
    .path("deviceId", "chosen by the device", device_id())
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
