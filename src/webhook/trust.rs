//! Whether API servers will trust what somebody else's Secret makes the webhook serve: looked at as they do, with the bundle
//! as the only authorities and the Service's name as the server's.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

/// `bundle` and `chain` in PEM, the certificate of the server first in its chain. `Err` says why not.
pub fn is_trusted(chain: &str, bundle: &str, name: &str, now: Timestamp) -> Result<(), String> {
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(certificates(bundle));
    if authorities.is_empty() {
        return Err(
            "ca.crt is missing or has no certificate: take an issuer that fills it in, such as one of kind CA"
                .to_owned(),
        );
    }
    let chain = certificates(chain);
    let Some((server, between)) = chain.split_first() else {
        return Err("tls.crt is missing or has no certificate".to_owned());
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider).build();
    let verifier = verifier.map_err(|error| format!("ca.crt: {error}"))?;
    let wanted = ServerName::try_from(name.to_owned()).map_err(|error| format!("{name}: {error}"))?;
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let verified = verifier.verify_server_cert(server, between, &wanted, &[], at);
    verified.map_err(|error| format!("tls.crt for {name} by ca.crt: {error}"))?;
    Ok(())
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .filter_map(Result::ok)
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    const NAME: &str = "cloison-webhook.cloison-system.svc";

    fn params(names: &[&str], authority: bool) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2031, 1, 1));
        if authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name = rcgen::DistinguishedName::new();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, "an authority");
        }
        params
    }

    #[test]
    fn what_api_servers_would_not_trust_is_told() {
        let key = KeyPair::generate().unwrap();
        let root = params(&[], true).self_signed(&key).unwrap().pem();
        let issuer = Issuer::from_ca_cert_pem(&root, key).unwrap();
        let issued = |names: &[&str]| {
            let leaf = params(names, false).signed_by(&KeyPair::generate().unwrap(), &issuer);
            leaf.unwrap().pem()
        };
        let between_key = KeyPair::generate().unwrap();
        let mut between = params(&[], true);
        between
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "between");
        let between = between.signed_by(&between_key, &issuer).unwrap().pem();
        let below = Issuer::from_ca_cert_pem(&between, between_key).unwrap();
        let leaf_below = params(&[NAME], false).signed_by(&KeyPair::generate().unwrap(), &below);
        let leaf_below = leaf_below.unwrap().pem();
        let other = params(&[], true)
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .pem();
        // One that signed itself, as cert-manager's issuer of kind SelfSigned makes it.
        let alone = params(&[NAME], false)
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .pem();

        let at = |time: &str| -> Timestamp { time.parse().unwrap() };
        let said = |chain: &str, bundle: &str, time: &str| is_trusted(chain, bundle, NAME, at(time));
        let in_time = "2030-06-01T00:00:00Z";
        for (chain, bundle) in [
            (issued(&[NAME]), root.clone()),
            (issued(&["else.svc", NAME]), format!("{other}{root}")),
            (format!("{leaf_below}{between}"), root.clone()),
            (alone.clone(), alone.clone()),
        ] {
            assert_eq!(said(&chain, &bundle, in_time), Ok(()));
        }
        for (chain, bundle, time, why) in [
            (issued(&[NAME]), String::new(), in_time, "ca.crt is missing"),
            (issued(&[NAME]), "hello".to_owned(), in_time, "ca.crt is missing"),
            (String::new(), root.clone(), in_time, "tls.crt is missing"),
            (issued(&["else.svc"]), root.clone(), in_time, "not valid for name"),
            (issued(&[NAME]), other, in_time, "BadSignature"),
            (leaf_below, root.clone(), in_time, "UnknownIssuer"),
            (issued(&[NAME]), root.clone(), "2031-06-01T00:00:00Z", "expired"),
            (issued(&[NAME]), root, "2029-06-01T00:00:00Z", "not valid yet"),
        ] {
            let told = said(&chain, &bundle, time).unwrap_err();
            assert!(told.contains(why), "{why}: {told}");
        }
    }
}
