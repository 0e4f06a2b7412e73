//! A network between a zone and global that can be cut.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards a loopback port to another, while it is up.
pub(crate) struct Link {
    pub(crate) address: String,
    up: Arc<watch::Sender<bool>>,
}

impl Link {
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (target, up) = (target.to_owned(), Arc::new(watch::Sender::new(true)));
        let gate = up.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if *gate.borrow() {
                    tokio::spawn(forward(stream, target.clone(), gate.subscribe()));
                }
            }
        });
        Self { address, up }
    }

    /// Connections break, and new ones too.
    pub(crate) fn cut(&self) {
        self.up.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.up.send_replace(true);
    }
}

async fn forward(mut near: TcpStream, target: String, mut up: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = up.wait_for(|up| !up) => {}
    }
}
