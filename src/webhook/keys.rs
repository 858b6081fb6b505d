//! The Secret's content: read without trust, and made anew. What is to be made is decided by
//! [`crate::admission::certificates`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::trust::is_trusted;
use crate::admission::certificates::{
    AUTHORITY_LIFE, Authority, CERTIFICATE_LIFE, Certificate, SKEW, Step, Stored, Validity,
};
use crate::api::names;

/// The bundle of authorities, the newest first.
const BUNDLE: &str = "ca.crt";
/// The key of the newest.
const AUTHORITY_KEY: &str = "ca.key";
/// What is served.
const CERTIFICATE: &str = "tls.crt";
/// Its key.
const KEY: &str = "tls.key";

/// Why a key or a certificate cannot be used. Never says what is in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A part cannot be read.
    #[error("{part} cannot be read: {why}")]
    Unreadable {
        /// The key in the Secret.
        part: &'static str,
        /// Why.
        why: String,
    },
    /// Nothing could be made.
    #[error("a certificate could not be made: {0}")]
    NotMade(#[from] rcgen::Error),
}

/// What the Secret holds, as text. No `Debug`: it would print keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Material {
    bundle: String,
    authority_key: String,
    certificate: String,
    key: String,
}

impl Material {
    /// Reads a Secret's data; what is missing or no text is empty.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Self {
        let text = |part: &str| {
            let bytes = data.get(part).map(|bytes| bytes.0.clone()).unwrap_or_default();
            String::from_utf8(bytes).unwrap_or_default()
        };
        Self {
            bundle: text(BUNDLE),
            authority_key: text(AUTHORITY_KEY),
            certificate: text(CERTIFICATE),
            key: text(KEY),
        }
    }

    /// As a Secret's data.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let parts = [
            (BUNDLE, &self.bundle),
            (AUTHORITY_KEY, &self.authority_key),
            (CERTIFICATE, &self.certificate),
            (KEY, &self.key),
        ];
        let bytes = |text: &String| ByteString(text.as_bytes().to_vec());
        parts.map(|(part, text)| (part.to_owned(), bytes(text))).into()
    }

    /// The authorities that API servers are to trust.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What it is worth.
    pub fn stored(&self, names: &[String]) -> Stored {
        let authorities = ders(&self.bundle);
        let known: Vec<Authority> = authorities.iter().filter_map(|der| authority(der)).collect();
        let signs = authorities.first().is_some_and(|der| signs(der, &self.authority_key));
        Stored {
            certificate: self.certificate(&authorities, names),
            signs,
            authorities: known,
        }
    }

    fn certificate(&self, authorities: &[CertificateDer<'_>], names: &[String]) -> Option<Certificate> {
        let der = ders(&self.certificate).into_iter().next()?;
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let signed_by = |authority: &&CertificateDer<'_>| {
            let Ok((_, authority)) = X509Certificate::from_der(authority) else {
                return false;
            };
            parsed.issuer() == authority.subject() && parsed.verify_signature(Some(authority.public_key())).is_ok()
        };
        Some(Certificate {
            issuer: authorities.iter().find(signed_by).map(|der| fingerprint(der)),
            validity: validity(&parsed)?,
            is_ours: covers(&parsed, names) && self.server().is_ok(),
        })
    }

    /// Whether API servers that have this bundle will trust it for the first of the names; why not.
    pub fn is_trusted(&self, bundle: &str, names: &[String], now: Timestamp) -> Result<(), String> {
        let name = names.first().map(String::as_str).unwrap_or_default();
        is_trusted(&self.certificate, bundle, name, now)
    }

    /// When what is served ends.
    pub fn expiry(&self) -> Option<Timestamp> {
        Some(lasts(ders(&self.certificate).first()?)?.until)
    }

    /// How the server presents itself; also proves that key and certificate belong together.
    pub fn server(&self) -> Result<Arc<ServerConfig>, KeyError> {
        let unreadable = |part: &'static str| move |why: String| KeyError::Unreadable { part, why };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect();
        let chain = chain.map_err(|why| unreadable(CERTIFICATE)(why.to_string()))?;
        if chain.is_empty() {
            return Err(unreadable(CERTIFICATE)("it has no certificate in PEM".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes());
        // The parser's words could quote what it read.
        let key = key.map_err(|_| unreadable(KEY)("it has no private key in PEM".to_owned()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| unreadable(CERTIFICATE)(why.to_string()))?;
        let config = builder.with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.map_err(|why| unreadable(CERTIFICATE)(why.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// What comes after a step.
    pub fn after(&self, step: Step, names: &[String], now: Timestamp) -> Result<Self, KeyError> {
        match step {
            Step::Keep => Ok(self.clone()),
            Step::Begin => {
                let (bundle, authority_key) = new_authority(now)?;
                let begun = Self {
                    bundle,
                    authority_key,
                    ..Self::default()
                };
                begun.issued(names, now)
            }
            Step::AddAuthority => {
                let (new, authority_key) = new_authority(now)?;
                // The serving certificate must stay trusted; what is older than its issuer is of no use.
                let old: Vec<String> = self.pems().into_iter().take(2).collect();
                Ok(Self {
                    bundle: format!("{new}{}", old.concat()),
                    authority_key,
                    ..self.clone()
                })
            }
            Step::Issue => self.issued(names, now),
            Step::DropOld => Ok(Self {
                bundle: self.pems().into_iter().next().unwrap_or_default(),
                ..self.clone()
            }),
        }
    }

    /// The certificates of the bundle, each in PEM.
    fn pems(&self) -> Vec<String> {
        const END: &str = "-----END CERTIFICATE-----";
        let parts = self.bundle.split_inclusive(END).map(str::trim);
        parts
            .filter(|part| part.ends_with(END))
            .map(|part| format!("{part}\n"))
            .collect()
    }

    fn issued(&self, names: &[String], now: Timestamp) -> Result<Self, KeyError> {
        let newest = self.pems().into_iter().next().unwrap_or_default();
        let issuer = Issuer::from_ca_cert_pem(&newest, KeyPair::from_pem(&self.authority_key)?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named(names::WEBHOOK_ACCOUNT);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        dated(&mut params, now - SKEW, now + CERTIFICATE_LIFE);
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            ..self.clone()
        })
    }
}

/// An authority and its key, in PEM. Its name has the moment in it: two of one name would be taken for each other.
fn new_authority(now: Timestamp) -> Result<(String, String), KeyError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("{} {now}", names::WEBHOOK_ACCOUNT));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    dated(&mut params, now - SKEW, now + AUTHORITY_LIFE);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn dated(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default());
    (params.not_before, params.not_after) = (epoch + since(from), epoch + since(until));
}

/// The certificates in a text.
pub fn ders(pem: impl AsRef<[u8]>) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_ref())
        .filter_map(Result::ok)
        .collect()
}

/// The fingerprints of a bundle.
pub fn fingerprints(bundle: &[u8]) -> Vec<String> {
    ders(bundle).iter().map(|der| fingerprint(der)).collect()
}

/// How long each certificate of a bundle is valid.
pub fn authorities(bundle: &[u8]) -> Vec<Validity> {
    ders(bundle).iter().filter_map(|der| lasts(der)).collect()
}

/// How long a certificate is valid.
pub fn lasts(der: &[u8]) -> Option<Validity> {
    validity(&X509Certificate::from_der(der).ok()?.1)
}

fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().fold(String::new(), |mut hex, byte| {
        use std::fmt::Write as _;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn authority(der: &CertificateDer<'_>) -> Option<Authority> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(Authority {
        fingerprint: fingerprint(der),
        validity: validity(&parsed).filter(|_| parsed.is_ca())?,
    })
}

fn validity(parsed: &X509Certificate<'_>) -> Option<Validity> {
    let moment = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some(Validity {
        from: moment(parsed.validity().not_before)?,
        until: moment(parsed.validity().not_after)?,
    })
}

/// Whether a key is that of an authority.
fn signs(authority: &CertificateDer<'_>, key: &str) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(authority) else {
        return false;
    };
    let key = KeyPair::from_pem(key).ok();
    key.is_some_and(|key| parsed.public_key().subject_public_key.data.as_ref() == key.public_key_raw())
}

fn covers(parsed: &X509Certificate<'_>, names: &[String]) -> bool {
    let found = parsed.subject_alternative_name().ok().flatten();
    let has = |name: &String| {
        let general = found
            .as_ref()
            .map(|found| found.value.general_names.as_slice())
            .unwrap_or_default();
        general
            .iter()
            .any(|known| matches!(known, GeneralName::DNSName(known) if known == name))
    };
    names.iter().all(has)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;
    use crate::admission::certificates::{Trusted, next};

    fn names() -> Vec<String> {
        vec!["cloison-webhook.cloison-system.svc".to_owned()]
    }

    fn at(hours: i64) -> Timestamp {
        let start: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        start + k8s_openapi::jiff::SignedDuration::from_hours(hours)
    }

    fn step(material: &Material, hours: i64) -> Step {
        let trusted = Trusted::These(fingerprints(material.bundle().as_bytes()));
        next(&material.stored(&names()), &trusted, at(hours))
    }

    #[test]
    fn what_is_made_is_what_is_read() {
        let made = Material::default().after(Step::Begin, &names(), at(0)).unwrap();
        assert!(Material::read(&made.data()) == made);
        let stored = made.stored(&names());
        assert_eq!((stored.authorities.len(), stored.signs), (1, true));
        let certificate = stored.certificate.unwrap();
        assert_eq!(certificate.issuer.as_ref(), Some(&stored.authorities[0].fingerprint));
        assert!(certificate.is_ours);
        assert_eq!(step(&made, 1), Step::Keep);
        assert!(
            !made.stored(&["other.svc".to_owned()]).certificate.unwrap().is_ours,
            "of another name"
        );
    }

    #[test]
    fn a_rotation_walks_through_its_two_phases() {
        let mut material = Material::default().after(Step::Begin, &names(), at(0)).unwrap();
        material = material.after(Step::Issue, &names(), at(240 * 24)).unwrap();
        let mut walked = Vec::new();
        for hours in 244 * 24..244 * 24 + 6 {
            let step = step(&material, hours);
            walked.push(step);
            material = material.after(step, &names(), at(hours)).unwrap();
        }
        assert_eq!(
            walked,
            [
                Step::AddAuthority,
                Step::Issue,
                Step::DropOld,
                Step::Keep,
                Step::Keep,
                Step::Keep
            ]
        );
        assert_eq!(fingerprints(material.bundle().as_bytes()).len(), 1);
    }

    #[test]
    fn what_is_broken_is_named_and_made_anew_and_no_key_is_told() {
        type Change = fn(&mut Material, &Material);
        let made = Material::default().after(Step::Begin, &names(), at(0)).unwrap();
        let other = Material::default().after(Step::Begin, &names(), at(0)).unwrap();
        let cases: [(&str, Change, Step); 6] = [
            (
                "a certificate that is none",
                |m, _| m.certificate = "hunter2".to_owned(),
                Step::Issue,
            ),
            ("another's key", |m, other| m.key = other.key.clone(), Step::Issue),
            ("a key that is none", |m, _| m.key = "hunter2".to_owned(), Step::Issue),
            (
                "another's authority",
                |m, other| m.bundle = other.bundle.clone(),
                Step::Begin,
            ),
            ("no authority", |m, _| m.bundle = String::new(), Step::Begin),
            (
                "another's authority key",
                |m, other| m.authority_key = other.authority_key.clone(),
                Step::AddAuthority,
            ),
        ];
        for (what, change, expected) in cases {
            let mut broken = made.clone();
            change(&mut broken, &other);
            assert_eq!(step(&broken, 1), expected, "{what}");
            let mended = broken.after(expected, &names(), at(1)).unwrap();
            assert_ne!(step(&mended, 1), Step::Begin, "{what}");
            if let Err(error) = broken.server() {
                assert!(!error.to_string().contains("hunter2"), "{error}");
            }
        }
    }
}
