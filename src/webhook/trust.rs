//! Whether API servers will trust what somebody else's Secret makes the webhook serve, by the rules that they share with others:
//! a chain to an authority of the bundle, the Service's name, and nothing that has ended.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};

use super::keys::{ders, lasts};

/// `bundle` and `chain` in PEM, the certificate of the server first in its chain. `Err` says why not, in the same words at any
/// time.
pub fn is_trusted(chain: &str, bundle: &str, name: &str, now: Timestamp) -> Result<(), String> {
    let all = ders(bundle);
    if all.is_empty() {
        return Err(
            "ca.crt is missing or has no certificate: take an issuer that fills it in, such as one of kind CA"
                .to_owned(),
        );
    }
    let mut authorities = RootCertStore::empty();
    // The verifier asks an authority for its name and its key alone; API servers ask when it ends, too.
    authorities.add_parsable_certificates(all.into_iter().filter(|der| lasts(der).is_some_and(|it| it.holds(now))));
    if authorities.is_empty() {
        return Err("no authority in ca.crt is valid now: renew it".to_owned());
    }
    let chain = ders(chain);
    let Some((server, between)) = chain.split_first() else {
        return Err("tls.crt is missing or has no certificate".to_owned());
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider).build();
    let verifier = verifier.map_err(|error| format!("ca.crt: {error}"))?;
    let wanted = ServerName::try_from(name.to_owned()).map_err(|error| format!("{name}: {error}"))?;
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let verified = verifier.verify_server_cert(server, between, &wanted, &[], at);
    verified.map(drop).map_err(|error| said(&error, name))
}

/// Without the moment, which would make a new line in the log of each look.
fn said(error: &Error, name: &str) -> String {
    use CertificateError as Why;
    let Error::InvalidCertificate(why) = error else {
        return format!("tls.crt: {error}");
    };
    match why {
        Why::Expired | Why::ExpiredContext { .. } => "tls.crt, or what signed it, has ended: renew it".to_owned(),
        Why::NotValidYet | Why::NotValidYetContext { .. } => {
            "tls.crt, or what signed it, is not valid yet: look at the clocks".to_owned()
        }
        Why::NotValidForName | Why::NotValidForNameContext { .. } => {
            format!("tls.crt is not for {name}: add it to the names of the certificate")
        }
        Why::UnknownIssuer | Why::BadSignature => {
            "tls.crt is signed by no authority of ca.crt, or without that of the configuration's bundle".to_owned()
        }
        other => format!("tls.crt: {other:?}"),
    }
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
        // One that signed itself.
        let alone = params(&[NAME], false)
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .pem();

        let lasting = |from: i32, until: i32| {
            let mut params = params(&[NAME], false);
            (params.not_before, params.not_after) = (date_time_ymd(from, 3, 1), date_time_ymd(until, 4, 1));
            params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().pem()
        };

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
            (
                issued(&["else.svc"]),
                root.clone(),
                in_time,
                "is not for cloison-webhook",
            ),
            (issued(&[NAME]), other, in_time, "signed by no authority"),
            (leaf_below, root.clone(), in_time, "signed by no authority"),
            (lasting(2030, 2030), root.clone(), in_time, "has ended"),
            (
                lasting(2030, 2030),
                root.clone(),
                "2030-02-01T00:00:00Z",
                "not valid yet",
            ),
            (
                lasting(2030, 2040),
                root.clone(),
                "2031-06-01T00:00:00Z",
                "no authority in ca.crt is valid now",
            ),
            (
                issued(&[NAME]),
                root,
                "2029-06-01T00:00:00Z",
                "no authority in ca.crt is valid now",
            ),
        ] {
            let told = said(&chain, &bundle, time).unwrap_err();
            assert!(told.contains(why), "{why}: {told}");
            let later = said(&chain, &bundle, &time.replace("T00", "T01")).unwrap_err();
            assert_eq!(later, told, "it is said once in a log");
        }
    }
}
