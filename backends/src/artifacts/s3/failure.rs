//! What an S3 service says, as errors of the seam: what was attempted, at which key, and what to do about it.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::Inner;
use crate::artifacts::ArtifactError;

/// What was attempted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Put,
    Read,
    LookUp,
    List,
    Remove,
}

impl Verb {
    /// As in "failed to … artifact at …".
    fn with_article(self) -> &'static str {
        match self {
            Verb::Put => "put the",
            Verb::Read => "read the",
            Verb::LookUp => "look up the",
            Verb::List => "list the folder of an",
            Verb::Remove => "remove the",
        }
    }

    /// As in "failed to … an artifact".
    fn alone(self) -> &'static str {
        match self {
            Verb::Put => "put",
            Verb::Read => "read",
            Verb::LookUp => "look up",
            Verb::List => "list",
            Verb::Remove => "remove",
        }
    }
}

/// Why a request failed, as far as we tell reasons apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The object isn't there.
    Missing,
    OutOfRange,
    NoBucket,
    Denied,
    /// The keys that we sign with aren't known, or have passed.
    BadCredentials,
    /// No keys to sign with were found.
    NoCredentials,
    WrongRegion,
    /// The clocks are too far apart for signatures.
    ClockSkew,
    /// No answer within the limit, or one that says to come back later.
    Away,
    /// The service refuses for a reason of its own.
    Refused,
}

impl Reason {
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Reason
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let SdkError::ServiceError(answered) = error else {
            let text = chain(error);
            let lacks_keys = text.contains("credentials provider") || text.contains("CredentialsNotLoaded");
            let is_ours = matches!(error, SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_));
            return if is_ours && lacks_keys { Reason::NoCredentials } else { Reason::Away };
        };
        match answered.err().code().unwrap_or("") {
            "NoSuchKey" | "NotFound" => Reason::Missing,
            "NoSuchBucket" => Reason::NoBucket,
            "InvalidRange" => Reason::OutOfRange,
            "AccessDenied" | "AllAccessDisabled" => Reason::Denied,
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" => Reason::BadCredentials,
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
                Reason::WrongRegion
            }
            "RequestTimeTooSkewed" => Reason::ClockSkew,
            "SlowDown" | "RequestTimeout" | "ServiceUnavailable" | "InternalError" => Reason::Away,
            // Without a body there is no code: answers to HEAD, and those of proxies.
            _ => match answered.raw().status().as_u16() {
                404 => Reason::Missing,
                416 => Reason::OutOfRange,
                403 => Reason::Denied,
                401 => Reason::BadCredentials,
                301 | 307 => Reason::WrongRegion,
                408 | 429 | 500.. => Reason::Away,
                _ => Reason::Refused,
            },
        }
    }

    fn kind(self) -> io::ErrorKind {
        match self {
            Reason::NoBucket | Reason::Missing => io::ErrorKind::NotFound,
            Reason::Denied | Reason::BadCredentials | Reason::NoCredentials => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        }
    }
}

/// An answer with its reason in words and the next step.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
struct Refusal {
    words: String,
    source: Box<dyn Error + Send + Sync>,
}

/// No answer, and from where.
#[derive(Debug, thiserror::Error)]
#[error("no usable answer about `{place}`")]
struct NoAnswer {
    place: String,
    source: Box<dyn Error + Send + Sync>,
}

impl Inner {
    /// The error of a request about `key`.
    pub(super) fn failed(
        &self,
        verb: Verb,
        key: &str,
        reason: Reason,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> ArtifactError {
        let place = format!("s3://{}/{key}", self.bucket);
        let source = source.into();
        if reason == Reason::Away {
            return ArtifactError::Unavailable { verb: verb.alone(), source: Box::new(NoAnswer { place, source }) };
        }
        let refusal = Refusal { words: self.words(reason), source };
        let source = io::Error::new(reason.kind(), refusal);
        ArtifactError::Io { verb: verb.with_article(), path: PathBuf::from(place), source }
    }

    fn words(&self, reason: Reason) -> String {
        let bucket = &self.bucket;
        match reason {
            Reason::NoBucket => format!(
                "there is no bucket `{bucket}`; make it with `aws s3 mb s3://{bucket}`, or correct its name in the \
                 address of the artifacts"
            ),
            Reason::Denied => format!(
                "access to the bucket `{bucket}` is denied; allow these keys `s3:ListBucket` on it, and \
                 `s3:GetObject`, `s3:PutObject`, `s3:DeleteObject` and `s3:AbortMultipartUpload` on its objects"
            ),
            Reason::BadCredentials => "the service doesn't accept our keys; check `AWS_ACCESS_KEY_ID`, \
                                       `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`"
                .to_owned(),
            Reason::NoCredentials => "there are no keys to sign requests with; set `AWS_ACCESS_KEY_ID` and \
                                      `AWS_SECRET_ACCESS_KEY`"
                .to_owned(),
            Reason::WrongRegion => {
                format!("the bucket `{bucket}` is in another region; set `AWS_REGION` to the bucket's")
            }
            Reason::ClockSkew => "the clocks of this machine and of the service differ too much for a signature; \
                                  set this machine's clock"
                .to_owned(),
            Reason::Missing => "there is no such object".to_owned(),
            Reason::OutOfRange => "the object is shorter than the range".to_owned(),
            Reason::Away | Reason::Refused => "the service refuses the request".to_owned(),
        }
    }
}

/// An error and all that caused it, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
