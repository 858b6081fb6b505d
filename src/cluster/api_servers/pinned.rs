//! A connection that leads to one API server and to no other.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use http::header::{AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{AccountToken, Address, Error, within};
use crate::encryption::{Reading, Scrape};

/// To connect, and to agree on TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// One TCP and TLS connection to one API server, on which all requests go, in the name of the token's account.
pub struct PinnedApiServer {
    address: Address,
    client: Client,
    connection: JoinHandle<()>,
}

impl PinnedApiServer {
    /// Connects. `config` gives the cluster's authority and nothing else: none of its credentials is presented, and
    /// TLS is verified whatever it says.
    pub async fn connect(config: &Config, address: Address, token: Arc<AccountToken>) -> Result<Self, Error> {
        let (sender, connection) = dial(config, &address).await?;
        let service = Pinned {
            sender: Arc::new(Mutex::new(sender)),
            host: HeaderValue::from_str(&address.to_string())
                .map_err(|_| Error::Unusable(format!("{address} is not a host")))?,
            token,
        };
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a pinned connection ended");
            }
        });
        Ok(Self {
            client: Client::new(service, config.default_namespace.clone()),
            address,
            connection,
        })
    }

    /// Where it leads.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The connection, for requests that have a deadline of their own.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Sends one request, with a deadline for the whole answer. `what` is for the error.
    pub async fn ask<T>(
        &self,
        what: &'static str,
        request: impl AsyncFnOnce(Client) -> Result<T, kube::Error>,
    ) -> Result<T, Error> {
        within(what, request(self.client.clone())).await
    }

    /// Reads `/metrics` line by line: the text of a busy API server is tens of megabytes.
    pub async fn metrics(&self) -> Result<Scrape, Error> {
        let request = Request::get("/metrics")
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        let read = async {
            let mut scrape = Scrape::default();
            let mut lines = self.client.request_stream(request).await?.lines();
            let broken = |source| Error::Connection {
                what: "metrics",
                source,
            };
            while let Some(line) = lines.try_next().await.map_err(broken)? {
                scrape.read(&line);
            }
            Ok::<_, Error>(scrape)
        };
        within("metrics", read).await
    }

    /// [`PinnedApiServer::metrics`], with a refusal told from a failure.
    pub async fn read(&self) -> Reading {
        match self.metrics().await {
            Ok(scrape) => Reading::Seen(scrape),
            Err(error) if error.is_refusal() => Reading::Hidden(error.to_string()),
            Err(error) => Reading::Failed(error.to_string()),
        }
    }
}

impl Drop for PinnedApiServer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl fmt::Debug for PinnedApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedApiServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

type Connection = http1::Connection<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>, Body>;

async fn dial(config: &Config, address: &Address) -> Result<(SendRequest<Body>, Connection), Error> {
    let mut config = config.clone();
    config.auth_info = kube::config::AuthInfo::default();
    config.accept_invalid_certs = false;
    let tls = Arc::new(config.rustls_client_config()?);
    let name = config.tls_server_name.as_deref().unwrap_or(address.server_name());
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| Error::Unusable(format!("{name} cannot be the name in a certificate")))?;
    let handshake = async {
        let failed = |what| move |source| Error::Connection { what, source };
        let tcp = TcpStream::connect((address.host.as_str(), address.port))
            .await
            .map_err(failed("connect"))?;
        tcp.set_nodelay(true).map_err(failed("connect"))?;
        let tls = TlsConnector::from(tls)
            .connect(name, tcp)
            .await
            .map_err(failed("tls"))?;
        Ok(http1::handshake(TokioIo::new(tls)).await?)
    };
    match timeout(CONNECT_TIMEOUT, handshake).await {
        Ok(done) => done,
        Err(_) => Err(Error::Timeout("connect")),
    }
}

/// The connection as kube's client wants it.
struct Pinned {
    sender: Arc<Mutex<SendRequest<Body>>>,
    host: HeaderValue,
    token: Arc<AccountToken>,
}

impl tower::Service<Request<Body>> for Pinned {
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let sender = self.sender.clone();
        let host = self.host.clone();
        let token = self.token.header();
        Box::pin(async move {
            request.headers_mut().insert(HOST, host);
            request.headers_mut().insert(AUTHORIZATION, token?);
            // Also the name of the field manager where a request gives none.
            let agent = HeaderValue::from_static(concat!("cloison-canary/", env!("CARGO_PKG_VERSION")));
            request.headers_mut().insert(USER_AGENT, agent);
            let answer = {
                // HTTP/1.1 carries one exchange at a time; the next waits in `ready` until this one was read.
                let mut sender = sender.lock().await;
                sender.ready().await?;
                sender.send_request(request)
            };
            Ok(answer.await?)
        })
    }
}
