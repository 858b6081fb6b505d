//! Opening: from sealed keys to keys, each compared with its commitment.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::iter;

use age::Decryptor;
use age::armor::ArmoredReader;
use zeroize::Zeroizing;

use super::{Identity, Refusal, commitment, living};
use crate::api::key_ring::{EncryptionKeyRingSpec, RingKey};
use crate::encryption::KeyMaterial;

/// Keys by their number.
pub type Opened = BTreeMap<i64, KeyMaterial>;

/// Why one key does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is nothing for this identity.
    #[error("is not sealed for this identity")]
    NotSealed,
    /// age refuses it.
    #[error("does not open: what is sealed was changed or cut, or is for another identity")]
    Unreadable,
    /// Something else than a key was sealed.
    #[error("opens, and is no key of 32 bytes in base64")]
    NoKey,
    /// Another key was sealed.
    #[error("opens, and is not the key that was minted: it differs from its commitment")]
    Mismatch,
}

/// Opens one key.
fn open_key(key: &RingKey, identity: &Identity) -> Result<KeyMaterial, Fault> {
    let wrap = key.wraps.iter().find(|wrap| wrap.recipient == *identity.recipient());
    let sealed = wrap.ok_or(Fault::NotSealed)?.sealed.as_bytes();
    let text = decrypt(sealed, identity).ok_or(Fault::Unreadable)?;
    let text = std::str::from_utf8(&text).map_err(|_| Fault::NoKey)?;
    let material = KeyMaterial::from_base64(text.trim_end()).ok_or(Fault::NoKey)?;
    if commitment(key.id, &key.name, key.provider, &material) != key.commitment {
        return Err(Fault::Mismatch);
    }
    Ok(material)
}

/// With room from the start: what is read into an empty buffer passes through the stack.
fn decrypt(sealed: &[u8], identity: &Identity) -> Option<Zeroizing<Vec<u8>>> {
    let decryptor = Decryptor::new_buffered(ArmoredReader::new(sealed)).ok()?;
    let mut opened = decryptor.decrypt(iter::once(identity.secret() as _)).ok()?;
    let mut text = Zeroizing::new(Vec::with_capacity(256));
    opened.read_to_end(&mut text).ok()?;
    Some(text)
}

/// Every key that lives, with what became of opening it.
pub fn inspect<'a>(
    ring: &'a EncryptionKeyRingSpec,
    identity: &Identity,
) -> Vec<(&'a RingKey, Result<KeyMaterial, Fault>)> {
    living(ring).map(|key| (key, open_key(key, identity))).collect()
}

/// Every key that lives; or the first that does not open. A holder that cannot open all of them seals none for others.
pub fn open(ring: &EncryptionKeyRingSpec, identity: &Identity) -> Result<Opened, Refusal> {
    let opened = |(key, opened): (&RingKey, Result<KeyMaterial, Fault>)| match opened {
        Ok(material) => Ok((key.id, material)),
        Err(fault) => Err(Refusal::Closed {
            name: key.name.to_string(),
            fault,
        }),
    };
    inspect(ring, identity).into_iter().map(opened).collect()
}
