//! Refusals as gRPC's statuses, and the time that a caller gives.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::refusal::Refusal;

/// The metadata by which gRPC's own retries are held back, in milliseconds.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// A refusal in gRPC's words. One that may be tried again says when: as `google.rpc.RetryInfo`, and as the pushback
/// that clients' retries keep to by themselves.
pub fn status_of(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::BadRequest(_) | Refusal::UnsupportedMedia(_) => Code::InvalidArgument,
        Refusal::NotFound(_) => Code::NotFound,
        Refusal::TooLarge { .. } => Code::ResourceExhausted,
        Refusal::WrongMethod { .. } | Refusal::NotImplemented(_) => Code::Unimplemented,
        Refusal::Overloaded { .. } | Refusal::NotReady(_) => Code::Unavailable,
        Refusal::TimedOut { .. } => Code::DeadlineExceeded,
        Refusal::Failed(_) => Code::Internal,
    };
    let wait = match refusal {
        // Less invites everybody at once.
        Refusal::Overloaded { retry_after } => (*retry_after).max(Duration::from_millis(10)),
        Refusal::NotReady(_) => Duration::from_secs(1),
        _ => return Status::new(code, refusal.to_string()),
    };
    let details = ErrorDetails::with_retry_info(Some(wait));
    let mut status = Status::with_error_details(code, refusal.to_string(), details);
    if let Ok(text) = wait.as_millis().to_string().parse() {
        status.metadata_mut().insert(PUSHBACK, text);
    }
    status
}

/// `grpc-timeout`: up to eight digits and a unit.
pub fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_digits_and_a_unit() {
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for wrong in ["", "m", "1", "-1m", "123456789m", "1é"] {
            assert_eq!(timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn who_may_try_again_is_told_when() {
        let status = status_of(&Refusal::Overloaded { retry_after: Duration::from_millis(250) });
        assert_eq!(status.code(), Code::Unavailable);
        let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(told, Some(Duration::from_millis(250)));
        assert_eq!(status.metadata().get(PUSHBACK).map(|value| value.as_bytes()), Some(&b"250"[..]));
        assert!(status_of(&Refusal::NotFound(String::new())).get_details_retry_info().is_none());
    }
}
