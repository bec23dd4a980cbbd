//! Who vouches for a version: ed25519 signatures, the keys that make them, and which keys are trusted.
//!
//! What is signed is the digest of the model's bytes with the model's name and the version's number, so a
//! signature fits one version of one model and nothing else. It is detached: the bytes stay as they were. A model
//! that gets another name has to be signed again, since whoever signed vouched for the old one.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ed25519_dalek::{Signer as _, VerifyingKey};
use gristmill_protocol::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::fact::VersionRef;
use crate::model_log::VersionView;

/// What stands before the digits of a public key.
const PUBLIC: &str = "ed25519:";
/// What stands before the digits in a key file.
const SECRET: &str = "gristmill-ed25519-secret:";
/// What every signed message begins with, so that a signature of ours never fits a message of another kind.
const CONTEXT: &[u8] = b"gristmill model version 1\0";
/// Bytes of a key file that are read at the most; one has 90.
const KEY_FILE_BYTES_MAX: u64 = 1_024;

/// Who may vouch for a model, as text `ed25519:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// A signature of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    pub key: PublicKey,
    /// The name that was signed.
    pub name: String,
    /// 128 hexadecimal digits.
    pub signature: String,
}

/// A secret key. It never shows itself.
pub struct Signer(ed25519_dalek::SigningKey);

/// Which versions may be loaded.
#[derive(Clone, Debug, Default)]
pub struct TrustPolicy {
    /// Whether a version without a good signature of one of `keys` is refused.
    pub require_signatures: bool,
    pub keys: Vec<PublicKey>,
}

/// A version that isn't trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    #[error("version {} of model `{}` isn't signed", .of.version, .of.name)]
    Unsigned { of: VersionRef },
    #[error("version {} of model `{}` isn't signed by a trusted key", .of.version, .of.name)]
    UnknownKey { of: VersionRef, signed_by: Vec<PublicKey> },
    #[error("a signature of version {} of model `{}` doesn't fit its bytes, name and number", .of.version, .of.name)]
    Forged { of: VersionRef, key: PublicKey },
}

/// A key that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("`{text}` isn't a public key (`ed25519:` and 64 hexadecimal digits)")]
    BadPublicKey { text: String },
    #[error("others may read the secret key `{path}`")]
    Exposed { path: PathBuf },
    #[error("`{path}` isn't a key file of `gristmill registry keygen`")]
    BadKeyFile { path: PathBuf },
    #[error("failed to {verb} the key file `{path}`")]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("the system gave no random bytes for a key")]
    NoRandomness { source: getrandom::Error },
}

impl TrustError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            TrustError::Unsigned { .. } => Some("sign it with a trusted key".to_owned()),
            TrustError::UnknownKey { signed_by, .. } => {
                let keys: Vec<String> = signed_by.iter().map(PublicKey::to_string).collect();
                Some(format!("it is signed by {}; trust that key, or sign with another", keys.join(", ")))
            }
            TrustError::Forged { .. } => Some("`gristmill registry verify` lists all damage".to_owned()),
        }
    }
}

impl KeyError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            KeyError::Exposed { path } => Some(format!("`chmod 600 {}`", path.display())),
            _ => None,
        }
    }
}

/// The bytes that are signed.
fn message(name: &str, version: u64, model: Digest) -> Vec<u8> {
    let len = (name.len() as u64).to_be_bytes();
    [CONTEXT, &len, name.as_bytes(), &version.to_be_bytes(), model.as_bytes()].concat()
}

impl Signer {
    /// A new key from the system's random bytes.
    pub fn generate() -> Result<Signer, KeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|source| KeyError::NoRandomness { source })?;
        Ok(Signer::from_seed(seed))
    }

    /// The key of these 32 secret bytes.
    pub fn from_seed(seed: [u8; 32]) -> Signer {
        Signer(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// Writes the key to a new file that the owner alone can read.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        let failed = |source| KeyError::Io { verb: "write", path: path.to_owned(), source };
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(failed)?;
        let text = format!("{SECRET}{}\n", to_hex(self.0.as_bytes()));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// Reads a key file; refuses one that others than its owner may read.
    pub fn load(path: &Path) -> Result<Signer, KeyError> {
        let failed = |source| KeyError::Io { verb: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // Asked of the open file: what is read is what was looked at.
            if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
                return Err(KeyError::Exposed { path: path.to_owned() });
            }
        }
        let mut text = String::new();
        file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        let seed = text.trim_end().strip_prefix(SECRET).and_then(from_hex);
        seed.map(Signer::from_seed).ok_or(KeyError::BadKeyFile { path: path.to_owned() })
    }

    /// The key that others check with.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a version.
    pub fn sign(&self, name: &str, version: u64, model: Digest) -> Signature {
        let signature = self.0.sign(&message(name, version, model));
        Signature { key: self.public_key(), name: name.to_owned(), signature: to_hex(&signature.to_bytes()) }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public_key())
    }
}

impl Signature {
    /// Whether it fits this version of the model whose name was signed.
    pub fn fits(&self, version: u64, model: Digest) -> bool {
        let Some(bytes) = from_hex(&self.signature) else { return false };
        let Ok(key) = VerifyingKey::from_bytes(&self.key.0) else { return false };
        let signature = ed25519_dalek::Signature::from_bytes(&bytes);
        // Strictly: neither a weak key nor a second form of the same signature passes.
        key.verify_strict(&message(&self.name, version, model), &signature).is_ok()
    }
}

impl TrustPolicy {
    /// Refuses a version that isn't trusted. A signature that is there but doesn't fit is refused in any case.
    pub fn check(&self, name: &str, version: &VersionView) -> Result<(), TrustError> {
        let of = || VersionRef { name: name.to_owned(), version: version.version };
        if let Some(forged) = version.signatures.iter().find(|known| !known.fits(version.version, version.new.model)) {
            return Err(TrustError::Forged { of: of(), key: forged.key });
        }
        let mut ours = version.signatures.iter().filter(|known| known.name == name).peekable();
        if !self.require_signatures {
            return Ok(());
        }
        if ours.peek().is_none() {
            return Err(TrustError::Unsigned { of: of() });
        }
        let signed_by: Vec<PublicKey> = ours.map(|known| known.key).collect();
        if signed_by.iter().any(|key| self.keys.contains(key)) {
            return Ok(());
        }
        Err(TrustError::UnknownKey { of: of(), signed_by })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", to_hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PublicKey, KeyError> {
        let bytes = text.strip_prefix(PUBLIC).and_then(from_hex);
        bytes
            .filter(|bytes| VerifyingKey::from_bytes(bytes).is_ok())
            .map(PublicKey)
            .ok_or_else(|| KeyError::BadPublicKey { text: text.chars().take(80).collect() })
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of exactly as many lower-case hexadecimal digits as they need.
fn from_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    if text.len() != 2 * BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signer(seed: u8) -> Signer {
        Signer::from_seed([seed; 32])
    }

    proptest! {
        // Signing without optimization takes its time.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn a_signature_fits_one_version_alone(
            name in "[a-z]{1,8}", other in "[a-z]{1,8}", version in 1u64..1_000, bytes: [u8; 32],
        ) {
            let model = Digest::from_bytes(bytes);
            let signature = signer(1).sign(&name, version, model);
            prop_assert!(signature.fits(version, model));
            prop_assert!(!signature.fits(version + 1, model));
            prop_assert!(!signature.fits(version, Digest::of(&bytes)));
            let renamed = Signature { name: other.clone(), ..signature.clone() };
            prop_assert_eq!(renamed.fits(version, model), other == name);
            let claimed = Signature { key: signer(2).public_key(), ..signature };
            prop_assert!(!claimed.fits(version, model));
        }

        #[test]
        fn no_text_is_a_key_by_chance(text in "\\PC{0,80}") {
            prop_assert!(text.parse::<PublicKey>().is_err());
            let prefixed = format!("ed25519:{text}");
            prop_assert!(prefixed.parse::<PublicKey>().is_err());
        }
    }

    #[test]
    fn a_public_key_parses_what_it_prints() {
        let key = signer(3).public_key();
        assert_eq!(key.to_string().parse::<PublicKey>().expect("it is one"), key);
    }

    #[test]
    fn a_key_file_holds_the_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("release.key");
        let signer = Signer::generate().expect("random bytes");
        signer.save(&path).expect("written");
        let loaded = Signer::load(&path).expect("read");
        assert_eq!(loaded.public_key(), signer.public_key());
        assert!(matches!(signer.save(&path), Err(KeyError::Io { .. })), "no key is overwritten");
        assert!(!format!("{signer:?}").contains(&to_hex(signer.0.as_bytes())), "it never shows itself");
        std::fs::write(&path, "nothing").expect("written");
        assert!(matches!(Signer::load(&path), Err(KeyError::BadKeyFile { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("release.key");
        signer(4).save(&path).expect("written");
        for mode in [0o640, 0o604, 0o620, 0o644] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("changed");
            assert!(matches!(Signer::load(&path), Err(KeyError::Exposed { .. })), "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed");
        Signer::load(&path).expect("its owner's alone");
    }
}
