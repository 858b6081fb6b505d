//! Requests by hand, of which an API server would send none.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::scene::Webhook;

async fn connect(address: SocketAddrV4, authority: &str) -> TlsStream<TcpStream> {
    handshake(address, authority)
        .await
        .expect("a certificate that is trusted")
}

/// Connects as an API server does that trusts this bundle.
pub async fn handshake(address: SocketAddrV4, authority: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("cloison-webhook.cloison-system.svc").unwrap();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn answer(stream: &mut TlsStream<TcpStream>) -> (u16, String) {
    let mut bytes = Vec::new();
    // A server that closes without saying so in TLS has still answered.
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await;
    read.expect("an answer in time").ok();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Posts bytes.
pub async fn post(webhook: &Webhook, authority: &str, body: &[u8]) -> (u16, String) {
    let mut stream = connect(webhook.address, authority).await;
    let head = format!(
        "POST /review HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may answer before it has read all of it.
    let _ = stream.write_all(body).await;
    answer(&mut stream).await
}

/// A connection that is kept from one request to the next, as an API server keeps it.
pub struct Kept(TlsStream<TcpStream>);

impl Kept {
    pub async fn open(webhook: &Webhook, authority: &str) -> Self {
        Self(connect(webhook.address, authority).await)
    }

    /// Posts what is no review; returns the head of the answer. Fails when the connection is over.
    pub async fn post(&mut self) -> Result<String, String> {
        let request = "POST /review HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}";
        self.0
            .write_all(request.as_bytes())
            .await
            .map_err(|error| error.to_string())?;
        let mut text = String::new();
        loop {
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .and_then(|length| length.parse().ok());
                if body.len() == length.unwrap_or(usize::MAX) {
                    return Ok(head.to_owned());
                }
            }
            let mut bytes = [0; 4096];
            match self.0.read(&mut bytes).await {
                Ok(number) if number > 0 => text.push_str(&String::from_utf8_lossy(&bytes[..number])),
                over => return Err(format!("{over:?} after {text:?}")),
            }
        }
    }
}

/// Posts half of what it says, and waits.
pub async fn half(address: SocketAddrV4, authority: String) -> (u16, String) {
    let mut stream = connect(address, &authority).await;
    let head = "POST /review HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    answer(&mut stream).await
}
