//! A user's devices (`/users/me/devices`).

use reqwest::Method;
use serde::Deserialize;
use vellum_protocol::Timestamp;

use super::error::ClientError;
use super::node_client::NodeClient;
use super::path::segment;

/// A device that has a wrap secret.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// The name that it has chosen for itself.
    pub device_id: String,
    /// When its secret was first made.
    pub created_at: Timestamp,
    /// When it last read its secret, to a day.
    pub last_used_at: Option<Timestamp>,
    /// Whether the session that asks is on it.
    pub current: bool,
}

#[derive(Deserialize)]
struct Devices {
    devices: Vec<Device>,
}

impl NodeClient {
    /// The user's devices, oldest first.
    ///
    /// # Errors
    /// As for every request.
    pub async fn devices(&self) -> Result<Vec<Device>, ClientError> {
        let answer: Devices = self.get("/users/me/devices").await?;
        Ok(answer.devices)
    }

    /// Removes a device's wrap secret: what the device has sealed with it opens no more.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `device_not_found`; otherwise as for every request.
    pub async fn remove_device(&self, device_id: &str) -> Result<(), ClientError> {
        let path = format!("/users/me/devices/{}", segment(device_id));
        self.ask(Method::DELETE, &path, None::<&()>).await.map(drop)
    }
}
