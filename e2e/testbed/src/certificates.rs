//! One certificate authority per control plane, and everything that it signs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::{Error, client_certificate};

/// The common name of the authority.
pub(crate) const AUTHORITY: &str = "cloison-testbed";

/// The first address of the service range, which the `kubernetes` Service always gets.
pub(crate) const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The names under which in-cluster clients reach an API server, whatever its address.
const API_SERVER_NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// The authority that every process and client of one control plane trusts.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// A key with its certificate, PEM. No `Debug`: it would print the key.
#[derive(Clone)]
pub(crate) struct Certified {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Where a [`Certified`] was written.
#[derive(Clone, Debug)]
pub(crate) struct CertifiedFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes the authority, and the key pair that signs ServiceAccount tokens, in `folder`.
    pub(crate) fn create(folder: PathBuf) -> Result<Self, Error> {
        let mut params = named(AUTHORITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Self { issuer, folder };
        write(&authority.file(), authority.pem().as_bytes())?;
        let tokens = KeyPair::generate()?;
        write(&authority.token_key_file(), tokens.serialize_pem().as_bytes())?;
        write(&authority.token_public_key_file(), tokens.public_key_pem().as_bytes())?;
        Ok(authority)
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    pub(crate) fn token_key_file(&self) -> PathBuf {
        self.folder.join("service-account.key")
    }

    pub(crate) fn token_public_key_file(&self) -> PathBuf {
        self.folder.join("service-account.pub")
    }

    /// A client certificate: the API server reads the user from the common name and the groups from the
    /// organisations.
    pub(crate) fn client(&self, user: &str, groups: &[&str]) -> Result<Certified, Error> {
        let key = KeyPair::generate()?;
        let certificate = client_certificate::sign(self.issuer.key(), &key, user, groups)?;
        Ok(Certified {
            certificate,
            key: key.serialize_pem(),
        })
    }

    pub(crate) fn api_server(&self, address: Ipv4Addr) -> Result<Certified, Error> {
        let mut params = named("kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = addresses(&[address, Ipv4Addr::LOCALHOST, SERVICE_ADDRESS]);
        for name in API_SERVER_NAMES {
            params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
        }
        self.sign(params)
    }

    /// etcd's certificate is a client certificate too: its JSON gateway dials its own gRPC port with it.
    pub(crate) fn etcd(&self, address: Ipv4Addr) -> Result<Certified, Error> {
        let mut params = named("etcd");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = addresses(&[address, Ipv4Addr::LOCALHOST]);
        self.sign(params)
    }

    /// Writes `NAME.crt` and `NAME.key`.
    pub(crate) fn write(&self, name: &str, certified: &Certified) -> Result<CertifiedFiles, Error> {
        let files = CertifiedFiles {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        };
        write(&files.certificate, certified.certificate.as_bytes())?;
        write(&files.key, certified.key.as_bytes())?;
        Ok(files)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Certified, Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Certified {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    (params.not_before, params.not_after) = validity();
    params
}

/// An hour back for clocks that disagree; ten days for a demo that someone leaves open.
pub(crate) fn validity() -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - Duration::hours(1), now + Duration::days(10))
}

fn addresses(addresses: &[Ipv4Addr]) -> Vec<SanType> {
    addresses
        .iter()
        .map(|address| SanType::IpAddress(IpAddr::V4(*address)))
        .collect()
}

/// Writes a file that only we can read: helm and kubectl complain about any other kubeconfig.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(Error::file(path))?;
    std::io::Write::write_all(&mut file, content).map_err(Error::file(path))
}
