//! What is random: identities, keys, and the seals of keys. [`crate::encryption::ring`] takes them as arguments.

use std::str::FromStr;

use crate::api::text::{AgeRecipient, Armored};
use crate::encryption::KeyMaterial;
use crate::encryption::ring::Identity;

/// A new identity; `None` never happens but for a fault in the age library, which then would not read what it wrote.
pub fn new_identity() -> Option<Identity> {
    let secret = age::x25519::Identity::generate().to_string();
    Identity::parse(age::secrecy::ExposeSecret::expose_secret(&secret))
}

/// A new key, from the operating system.
pub fn new_material() -> Result<KeyMaterial, getrandom::Error> {
    KeyMaterial::fill(|bytes| getrandom::fill(bytes))
}

/// Seals a key for a recipient: an armored age file, which `age -d -i IDENTITY` opens. What it says when it fails is one
/// line without the key.
pub fn seal(recipient: &AgeRecipient, material: &KeyMaterial) -> Result<Armored, String> {
    let to = age::x25519::Recipient::from_str(recipient)
        .map_err(|why| format!("it is no age X25519 recipient ({why}); age-keygen makes one"))?;
    let sealed = age::encrypt_and_armor(&to, material.to_base64().as_bytes()).map_err(|why| why.to_string())?;
    Ok(Armored(sealed))
}
