//! Times: milliseconds for computing, and the texts that are signed (wire protocol, section 4).
//!
//! A timestamp in an envelope is signed as text, so the text is kept exactly as written; it is never
//! formatted anew. Nothing here reads a clock.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How far a timestamp may be from the receiver's clock, in milliseconds (wire protocol, section 4).
pub const FRESHNESS_MILLIS: i64 = 300_000;

/// A time: milliseconds since 1970 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// This much later (or earlier); stays at the end of time instead of passing it.
    #[must_use]
    pub fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this time; negative if it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `YYYY-MM-DDTHH:MM:SS.mmmZ`. Times outside the years 0 to 9999 are shown as the nearest inside.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        const YEAR_0: i64 = -62_167_219_200_000;
        const YEAR_9999_END: i64 = 253_402_300_799_999;
        let millis = self.0.clamp(YEAR_0, YEAR_9999_END);
        let nanos = i128::from(millis) * 1_000_000;
        let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (date, time) = (at.date(), at.time());
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.millisecond()
        )
    }
}

/// Whether a time is within 300 s of now, before or after (wire protocol, section 4).
#[must_use]
pub fn is_fresh(at: UnixMillis, now: UnixMillis) -> bool {
    now.since(at).unsigned_abs() <= FRESHNESS_MILLIS.unsigned_abs()
}

/// A text that is not a time with a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time with seconds and a zone, such as 2026-11-23T10:00:00.000Z")]
pub struct TimestampError;

/// A time as somebody wrote it, and what it means.
#[derive(Clone, PartialEq, Eq)]
pub struct Timestamp {
    text: String,
    instant: UnixMillis,
}

impl Timestamp {
    /// Reads RFC 3339: date, `T`, seconds, any number of fraction digits, `Z` or an offset. Digits beyond
    /// milliseconds do not count.
    ///
    /// # Errors
    /// [`TimestampError`] for every other text, also for some that lenient date parsers take.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let bytes = text.as_bytes();
        let strict = bytes.get(10) == Some(&b'T')
            && bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b':' | b'.' | b'T' | b'Z'))
            // A leap second has no place in milliseconds since 1970.
            && bytes.get(17..19) != Some(b"60");
        if !strict {
            return Err(TimestampError);
        }
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TimestampError)?;
        let millis = at.unix_timestamp_nanos().div_euclid(1_000_000);
        let instant = UnixMillis(i64::try_from(millis).map_err(|_| TimestampError)?);
        Ok(Self { text: text.to_owned(), instant })
    }

    /// The text that clients write for this time.
    #[must_use]
    pub fn at(instant: UnixMillis) -> Self {
        Self { text: instant.to_rfc3339(), instant }
    }

    /// The text exactly as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it means.
    #[must_use]
    pub fn instant(&self) -> UnixMillis {
        self.instant
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}
