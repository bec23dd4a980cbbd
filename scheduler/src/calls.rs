//! Store calls don't last for ever: after [`STORE_CALL_MS`] their outcome counts as unknown.

use std::time::Duration;

use gristmill_backends::state::StateError;
use gristmill_protocol::limits::STORE_CALL_MS;

/// What a call answers, if it does in time.
pub(crate) async fn in_time<T>(
    verb: &'static str,
    call: impl Future<Output = Result<T, StateError>>,
) -> Result<T, StateError> {
    within(verb, Duration::from_millis(STORE_CALL_MS), call).await
}

/// What a call answers, if it does within a time of its own.
pub(crate) async fn within<T>(
    verb: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, StateError>>,
) -> Result<T, StateError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(elapsed) => Err(StateError::Unavailable { verb, source: Box::new(elapsed) }),
    }
}
