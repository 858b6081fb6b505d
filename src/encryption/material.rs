//! The secret part of a key. It is wiped when dropped, and never shown: `Debug` prints its name alone.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The 32 bytes of a key: AES-256 and XSalsa20 both take so many. They stay in one place, whoever holds them: a value that
/// moves is copied, and nobody wipes where it was.
#[derive(Clone)]
pub struct KeyMaterial(Arc<Zeroizing<[u8; 32]>>);

impl KeyMaterial {
    /// A key of these bytes; for tests.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// A key of what is written there; it is the one place where the bytes are.
    pub fn fill<E>(write: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut place = Arc::new(Zeroizing::new([0_u8; 32]));
        let bytes: &mut Zeroizing<[u8; 32]> = Arc::make_mut(&mut place);
        write(bytes)?;
        Ok(Self(place))
    }

    /// A key of these bytes; `None` when there are more or fewer.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let copy = |place: &mut [u8; 32]| {
            (bytes.len() == place.len())
                .then(|| place.copy_from_slice(bytes))
                .ok_or(())
        };
        Self::fill(copy).ok()
    }

    /// The key in base64, as the EncryptionConfiguration holds it; `None` when it is not base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
        Self::from_slice(&bytes)
    }

    /// As the EncryptionConfiguration holds it.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.bytes()))
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
