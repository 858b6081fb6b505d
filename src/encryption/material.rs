//! The secret part of a key. It is wiped when dropped, and never shown: `Debug` prints its name alone.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The 32 bytes of a key: AES-256 and XSalsa20 both take so many.
#[derive(Clone)]
pub struct KeyMaterial(Zeroizing<[u8; 32]>);

impl KeyMaterial {
    /// A key of these bytes. Entropy is the caller's: they come from the operating system, or from a test.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key in base64, as the EncryptionConfiguration holds it; `None` when it is not base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
        Some(Self::new(bytes.as_slice().try_into().ok()?))
    }

    /// As the EncryptionConfiguration holds it.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.0))
    }

    /// The bytes, for wrapping and for the commitment.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyMaterial(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_printed_and_reads_back() {
        let key = KeyMaterial::new([7; 32]);
        assert_eq!(format!("{key:?}"), "KeyMaterial(…)");
        let again = KeyMaterial::from_base64(&key.to_base64()).map(|key| *key.bytes());
        assert_eq!(again, Some([7; 32]));
        assert!(KeyMaterial::from_base64("c2hvcnQ=").is_none(), "shorter than a key");
    }
}
