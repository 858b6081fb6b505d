//! Client certificates, written here because rcgen's distinguished names hold each attribute once: a user
//! in two groups needs two organisations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey};
use time::OffsetDateTime;
use yasna::models::{GeneralizedTime, ObjectIdentifier};
use yasna::{DERWriter, Tag};

use crate::Error;
use crate::certificates::{AUTHORITY, validity};

const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const ORGANISATION: &[u64] = &[2, 5, 4, 10];
const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const CLIENT_AUTHENTICATION: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];

/// The certificate of `key` (PEM), signed by `issuer` with ECDSA P-256: `user` is the common name, each
/// group an organisation. The shape is RFC 5280, section 4.1.
pub(crate) fn sign(issuer: &KeyPair, key: &KeyPair, user: &str, groups: &[&str]) -> Result<String, Error> {
    let body = yasna::construct_der(|writer| write_body(writer, key, user, groups));
    let signature = issuer.sign(&body)?;
    let certificate = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&body);
            write_algorithm(writer.next());
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    Ok(pem(&certificate))
}

fn write_body(writer: DERWriter<'_>, key: &KeyPair, user: &str, groups: &[&str]) {
    let (not_before, not_after) = validity();
    writer.write_sequence(|writer| {
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2)); // version 3
        writer.next().write_u64(serial_number());
        write_algorithm(writer.next());
        write_name(writer.next(), AUTHORITY, &[]);
        writer.next().write_sequence(|writer| {
            write_time(writer.next(), not_before);
            write_time(writer.next(), not_after);
        });
        write_name(writer.next(), user, groups);
        writer.next().write_der(&key.subject_public_key_info());
        writer.next().write_tagged(Tag::context(3), |writer| {
            writer.write_sequence(|writer| {
                writer.next().write_sequence(|writer| {
                    writer
                        .next()
                        .write_oid(&ObjectIdentifier::from_slice(EXTENDED_KEY_USAGE));
                    let usages = yasna::construct_der(|writer| {
                        writer.write_sequence(|writer| {
                            writer
                                .next()
                                .write_oid(&ObjectIdentifier::from_slice(CLIENT_AUTHENTICATION));
                        });
                    });
                    writer.next().write_bytes(&usages);
                });
            });
        });
    });
}

fn write_algorithm(writer: DERWriter<'_>) {
    writer.write_sequence(|writer| {
        writer
            .next()
            .write_oid(&ObjectIdentifier::from_slice(ECDSA_WITH_SHA256));
    });
}

fn write_name(writer: DERWriter<'_>, common_name: &str, organisations: &[&str]) {
    let organisations = organisations.iter().map(|name| (ORGANISATION, *name));
    writer.write_sequence(|writer| {
        for (kind, value) in organisations.chain([(COMMON_NAME, common_name)]) {
            writer.next().write_set(|writer| {
                writer.next().write_sequence(|writer| {
                    writer.next().write_oid(&ObjectIdentifier::from_slice(kind));
                    writer.next().write_utf8_string(value);
                });
            });
        }
    });
}

fn write_time(writer: DERWriter<'_>, time: OffsetDateTime) {
    // Go's parser refuses fractions of a second.
    let time = time.replace_nanosecond(0).unwrap_or(time);
    writer.write_generalized_time(&GeneralizedTime::from_datetime(time));
}

/// Unique in this process, which is all that one authority signs for.
fn serial_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (column, character) in text.chars().enumerate() {
        if column > 0 && column % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}
