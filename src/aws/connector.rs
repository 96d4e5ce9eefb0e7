//! What makes all connections of a process: those of the SDK, and those to addresses that were signed in advance. For these it retries,
//! redirects and adds nothing.
//!
//! It speaks HTTP/1.1 and no other, over TLS by ring: no API that we call needs more, and HTTP/2 alone is a tenth of a function
//! (docs/decisions/0021-our-own-connector.md).

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::HttpError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::ErrorKind;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, Client, connect};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

/// How long a connection may take to be made, whatever it is for. How long an answer may take says whoever asks.
pub const CONNECT: Duration = Duration::from_secs(2);

/// There should be one a process, since each reads all root certificates for itself.
pub fn connector() -> SharedHttpConnector {
    let mut tcp = connect::HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let https = HttpsConnectorBuilder::new().with_tls_config(tls()).https_or_http().enable_http1().wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(InTime(https));
    SharedHttpConnector::new(Connector(client))
}

/// With this machine's root certificates. None at all is no error here: it is one of the first call, which has somebody to tell.
fn tls() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    // What the bundle holds besides, and what cannot be read of it, vouches for nobody.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
    config.expect("ring has all of these versions").with_root_certificates(roots).with_no_client_auth()
}

#[derive(Debug)]
struct Connector(Client<InTime<HttpsConnector<connect::HttpConnector>>, SdkBody>);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            let unsendable = |error: HttpError| ConnectorError::user(error.into());
            let response = client.request(request.try_into_http1x().map_err(unsendable)?).await.map_err(what_happened)?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x)).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// The SDK tries again what never arrived, what timed out and what broke off.
fn what_happened(error: legacy::Error) -> ConnectorError {
    let causes = causes_of(&error);
    let is_timeout = |cause: &&(dyn Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
            || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
    };
    if causes.iter().any(is_timeout) {
        return ConnectorError::timeout(error.into());
    }
    let hyper = causes.iter().find_map(|cause| cause.downcast_ref::<hyper::Error>());
    if hyper.is_some_and(hyper::Error::is_user) {
        return ConnectorError::user(error.into());
    }
    if error.is_connect() || hyper.is_some_and(|error| error.is_closed() || error.is_canceled()) || causes.iter().any(|cause| cause.is::<io::Error>()) {
        return ConnectorError::io(error.into());
    }
    let broke_off = hyper.is_some_and(hyper::Error::is_incomplete_message);
    ConnectorError::other(error.into(), broke_off.then_some(ErrorKind::TransientError))
}

/// The error, and what caused it, and what caused that.
fn causes_of<'e>(error: &'e (dyn Error + 'static)) -> Vec<&'e (dyn Error + 'static)> {
    let cause = |error: &&'e (dyn Error + 'static)| -> Option<&'e (dyn Error + 'static)> { (*error).source() };
    std::iter::successors(Some(error), cause).collect()
}

/// A connection, TLS included, that is made in time or not at all.
#[derive(Clone, Debug)]
struct InTime<C>(C);

impl<C, Target> Service<Target> for InTime<C>
where
    C: Service<Target>,
    C::Error: Into<Box<dyn Error + Send + Sync>>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let connecting = tokio::time::timeout(CONNECT, self.0.call(target));
        Box::pin(async move {
            match connecting.await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {} s", CONNECT.as_secs())).into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    /// A server that says this on each connection, once it was asked, and hangs up.
    fn saying(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let _ = connection.read(&mut [0; 1024]);
                let _ = connection.write_all(answer.as_bytes());
            }
        });
        address
    }

    async fn ask(scheme: &str, address: SocketAddr) -> Result<HttpResponse, ConnectorError> {
        let mut request = HttpRequest::new(SdkBody::from("x"));
        request.set_uri(format!("{scheme}://{address}/a%2Fb?c=d%20e")).unwrap();
        connector().call(request).await
    }

    #[tokio::test]
    async fn an_answer_comes_back_whole() {
        let mut answer = ask("http", saying("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nx-kind: y\r\n\r\nno")).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().get("x-kind")), (404, Some("y")));
        let body = http_body_util::BodyExt::collect(answer.take_body()).await.unwrap().to_bytes();
        assert_eq!(body, "no");
    }

    #[tokio::test]
    async fn the_sdk_is_told_what_is_worth_another_try() {
        let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(ask("http", refused).await.unwrap_err().is_io());
        let broke_off = ask("http", saying("")).await.unwrap_err();
        assert_eq!(broke_off.as_other(), Some(ErrorKind::TransientError), "{broke_off:?}");
        let no_http = ask("http", saying("SSH-2.0-OpenSSH\r\n")).await.unwrap_err();
        assert!(no_http.as_other().is_none() && !no_http.is_io(), "{no_http:?}");
        let no_tls = ask("https", saying("HTTP/1.1 200 OK\r\n\r\n")).await.unwrap_err();
        assert!(no_tls.is_io(), "{no_tls:?}");
    }

    #[tokio::test]
    async fn a_connection_that_is_not_made_in_time_is_a_timeout() {
        // It accepts, and never says a word of TLS.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = ask("https", listener.local_addr().unwrap()).await.unwrap_err();
        assert!(silent.is_timeout(), "{silent:?}");
    }
}
