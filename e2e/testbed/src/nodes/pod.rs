//! The network of one pod: it listens, and it tries connections, on a thread of its own inside its network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::namespace::{NetworkNamespace, refused};
use crate::Error;

/// What a pod listens on, in both families.
#[derive(Clone, Debug, Default)]
pub struct Listens {
    /// TCP ports; what comes is sent back.
    pub tcp: Vec<u16>,
    /// UDP ports; what comes is sent back.
    pub udp: Vec<u16>,
}

/// One try to reach something that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// A connection to an address and port.
    Tcp(SocketAddr),
    /// A datagram to an address and port, and the answer.
    Udp(SocketAddr),
}

/// What came of a [`Probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It got through, there and back.
    Passed,
    /// Nothing came back in time: what a dropped packet looks like.
    Silent,
    /// Something else, such as a port that nobody listens on or an address without a route.
    Failed(String),
}

type Order = (Vec<Probe>, Duration, oneshot::Sender<Vec<Outcome>>);

/// A pod of [`Nodes`](super::Nodes) that others can reach and that can try to reach others.
#[derive(Debug)]
pub struct PodNetwork {
    name: String,
    addresses: (Ipv4Addr, Ipv6Addr),
    orders: mpsc::UnboundedSender<Order>,
    namespace: NetworkNamespace,
}

impl PodNetwork {
    /// The interface of the namespace is up and has its addresses.
    pub(super) fn start(
        name: String,
        addresses: (Ipv4Addr, Ipv6Addr),
        namespace: NetworkNamespace,
        listens: Listens,
    ) -> Result<Self, Error> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (ready, started) = std::sync::mpsc::channel();
        let door = namespace.door()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let failed = |error: io::Error| refused(&name, format!("it cannot listen: {error}"));
        let runtime = runtime.map_err(failed)?;
        std::thread::spawn(move || {
            let entered = door.enter();
            let open = entered.is_ok();
            let _ = ready.send(entered.map(|()| runtime.block_on(listen(&listens))));
            if open {
                runtime.block_on(obey(inbox));
            }
        });
        let listening = started.recv().map_err(|_| refused(&name, "its thread ended"))??;
        listening.map_err(failed)?;
        Ok(Self {
            name,
            addresses,
            orders,
            namespace,
        })
    }

    /// `namespace/name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> Ipv4Addr {
        self.addresses.0
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        self.addresses.1
    }

    /// Both addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.addresses.0.into(), self.addresses.1.into()]
    }

    /// Tries all at the same time, from new source ports; the outcomes in the order of the probes.
    ///
    /// An answer between namespaces of one machine takes microseconds, so a tenth of a second of `patience` tells a
    /// dropped packet from a slow one.
    pub async fn probe(&self, probes: Vec<Probe>, patience: Duration) -> Result<Vec<Outcome>, Error> {
        let gone = || refused(&self.name, "its thread ended");
        let (reply, outcomes) = oneshot::channel();
        self.orders.send((probes, patience, reply)).map_err(|_| gone())?;
        outcomes.await.map_err(|_| gone())
    }

    /// A connection of this pod that stays open, to be used from anywhere. Blocks for at most `patience`, and so do its
    /// reads.
    pub fn connect(&self, to: SocketAddr, patience: Duration) -> Result<std::net::TcpStream, Error> {
        let connect = || {
            let stream = std::net::TcpStream::connect_timeout(&to, patience)?;
            stream.set_read_timeout(Some(patience))?;
            Ok(stream)
        };
        let connected: io::Result<_> = self.namespace.inside(connect)?;
        connected.map_err(|error| refused(&self.name, format!("no connection to {to}: {error}")))
    }
}

/// Binds everything and leaves the serving to tasks of this thread's runtime.
async fn listen(listens: &Listens) -> io::Result<()> {
    // An IPv6 socket on the unspecified address takes IPv4 as well.
    let at = |port: &u16| SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
    for port in &listens.tcp {
        let listener = TcpListener::bind(at(port)).await?;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
    }
    for port in &listens.udp {
        let socket = UdpSocket::bind(at(port)).await?;
        tokio::spawn(async move {
            let mut buffer = [0; 16];
            loop {
                // An ICMP error about an earlier answer comes out of either call and concerns nobody.
                if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                    let _ = socket.send_to(&buffer[..length], from).await;
                }
            }
        });
    }
    Ok(())
}

/// Until the last sender is gone.
async fn obey(mut inbox: mpsc::UnboundedReceiver<Order>) {
    while let Some((probes, patience, reply)) = inbox.recv().await {
        tokio::spawn(async move {
            let outcomes = probes.into_iter().map(|probe| attempt(probe, patience));
            let _ = reply.send(join_all(outcomes).await);
        });
    }
}

async fn attempt(probe: Probe, patience: Duration) -> Outcome {
    let tried = match probe {
        Probe::Tcp(to) => timeout(patience, async { TcpStream::connect(to).await.map(drop) }).await,
        Probe::Udp(to) => timeout(patience, echo(to)).await,
    };
    match tried {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Silent,
    }
}

async fn echo(to: SocketAddr) -> io::Result<()> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    socket.send(b"?").await?;
    socket.recv(&mut [0; 16]).await.map(drop)
}
