//! Certificates whose time has come, made from the keys that are in use.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: u64 = 24 * 3600;

fn dated(params: &mut CertificateParams, begun: u64, left: i64) {
    let now = u64::try_from(Timestamp::now().as_second()).unwrap();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now - begun * DAY);
    params.not_after = epoch + Duration::from_secs(now.saturating_add_signed(left * i64::try_from(DAY).unwrap()));
}

/// An authority of the same name as another.
fn of_its_name(pem: &str) -> CertificateParams {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    let name = parsed.subject().iter_common_name().next().unwrap().as_str().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// The same with a certificate that ended yesterday, of the same authority.
pub fn expired(material: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let issuer =
        Issuer::from_ca_cert_pem(&material["ca.crt"], KeyPair::from_pem(&material["ca.key"]).unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = [
        "cloison-webhook.cloison-system.svc",
        "cloison-webhook.cloison-system.svc.cluster.local",
    ];
    let mut params = CertificateParams::new(names.map(str::to_owned)).unwrap();
    dated(&mut params, 90, -1);
    let mut aged = material.clone();
    aged.insert("tls.crt".to_owned(), params.signed_by(&key, &issuer).unwrap().pem());
    aged.insert("tls.key".to_owned(), key.serialize_pem());
    aged
}

/// The same with an authority of the same name and key that has 60 days left of 365.
pub fn authority(material: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let key = KeyPair::from_pem(&material["ca.key"]).unwrap();
    let mut params = of_its_name(&material["ca.crt"]);
    dated(&mut params, 305, 60);
    let mut aged = material.clone();
    aged.insert("ca.crt".to_owned(), params.self_signed(&key).unwrap().pem());
    aged
}

/// How many days a certificate lasts yet.
pub fn days_left(material: &BTreeMap<String, String>, part: &str) -> i64 {
    let Some(pem) = material.get(part) else { return 0 };
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    (parsed.validity().not_after.timestamp() - Timestamp::now().as_second()) / i64::try_from(DAY).unwrap()
}

/// How many certificates a bundle has.
pub fn number(bundle: &str) -> usize {
    bundle.matches("BEGIN CERTIFICATE").count()
}
