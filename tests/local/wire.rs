//! HTTP as the local AWS needs it: a server, a client, and what an AWS request says about itself.
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

pub const REGION: &str = "eu-west-1";

/// One request as it came in, body and all.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub account: String,
    pub service: String,
    pub operation: String,
}

/// What became of a request. `Cut` closes the connection without an answer.
pub enum Reply {
    Answer(Response<Full<Bytes>>),
    Cut,
}

#[derive(Debug, thiserror::Error)]
#[error("the connection was cut on purpose")]
pub struct CutOnPurpose;

impl Arrived {
    pub async fn read(request: Request<Incoming>) -> Result<Self, hyper::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let target = head.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let (account, service) = credential(header(AUTHORIZATION.as_str()), &target);
        let operation = operation(&head.method, &target, header("x-amz-target"), &service, &body);
        Ok(Self { method: head.method, target, headers: head.headers, body, account, service, operation })
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether path or body hold this text.
    pub fn holds(&self, text: &str) -> bool {
        self.target.contains(text) || self.body.windows(text.len().max(1)).any(|part| part == text.as_bytes())
    }

    /// An error in the form which this service's clients understand.
    pub fn error(&self, status: u16, code: &str, message: &str) -> Response<Full<Bytes>> {
        let xml = match self.service.as_str() {
            "cloudformation" | "sns" | "sts" | "iam" => {
                format!(
                    "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>local</RequestId></ErrorResponse>"
                )
            }
            "s3" => format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message><RequestId>local</RequestId></Error>"),
            _ => {
                let mut answer = answer(status, &json!({ "__type": code, "message": message }));
                if let Ok(code) = HeaderValue::from_str(code) {
                    answer.headers_mut().insert("x-amzn-errortype", code);
                }
                return answer;
            }
        };
        let mut answer = Response::new(Full::new(Bytes::from(xml)));
        *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        answer
    }
}

pub fn answer(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    answer
}

/// Account and service, from the credential scope of the signature: `Credential=ACCOUNT/DATE/REGION/SERVICE/aws4_request`. Our access
/// keys are account ids.
fn credential(authorization: &str, target: &str) -> (String, String) {
    let signed = authorization.split_once("Credential=").map(|(_, rest)| rest.replace("%2F", "/"));
    let presigned = || target.split_once("X-Amz-Credential=").map(|(_, rest)| rest.replace("%2F", "/"));
    let scope = signed.or_else(presigned).unwrap_or_default();
    let mut parts = scope.split(['/', ',', '&']);
    let account = parts.next().unwrap_or_default().to_owned();
    (account, parts.nth(2).unwrap_or_default().to_owned())
}

fn operation(method: &Method, target: &str, x_amz_target: &str, service: &str, body: &[u8]) -> String {
    if let Some((_, operation)) = x_amz_target.rsplit_once('.') {
        return operation.to_owned();
    }
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        (_, "/coverage/list") => return "ListCoverage".to_owned(),
        (_, "/findings/list") => return "ListFindings".to_owned(),
        (_, "/sbomexport/create") => return "CreateSbomExport".to_owned(),
        (&Method::GET, "/revocations") => return "GetRevocationStatus".to_owned(),
        (_, "/sbomexport/get") => return "GetSbomExport".to_owned(),
        (&Method::PUT, p) if p.starts_with("/_ministack/cfn-response/") || p.starts_with("/_plane/answer/") => return "PutAnswer".to_owned(),
        (_, p) if p.ends_with("/invocations") => return "Invoke".to_owned(),
        _ => {}
    }
    if let Some(action) = String::from_utf8_lossy(body).split('&').find_map(|pair| pair.strip_prefix("Action=").map(str::to_owned)) {
        return action;
    }
    match (service, method.as_str()) {
        ("s3", "GET") => "GetObject",
        ("s3", "PUT") => "PutObject",
        ("s3", "HEAD") => "HeadObject",
        ("s3", "DELETE") => "DeleteObject",
        (_, method) => return format!("{method} {path}"),
    }
    .to_owned()
}

/// A client for plain HTTP. It belongs to the runtime in which it is used first.
#[derive(Clone, Debug)]
pub struct Http(Client<HttpConnector, Full<Bytes>>);

/// The answer to a call that was made by hand.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answered {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.text()))
    }
}

impl Http {
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    pub async fn send(&self, method: &Method, url: &str, headers: &HeaderMap, body: Bytes) -> Result<Answered, hyper_util::client::legacy::Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.parse().unwrap_or_else(|e| panic!("{url}: {e}"));
        *request.headers_mut() = headers.clone();
        let (head, body) = self.0.request(request).await?.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Ok(Answered { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// Sends a request on as it came, to another host.
    pub async fn pass_on(&self, arrived: &Arrived, origin: &str) -> Reply {
        let mut headers = arrived.headers.clone();
        for hop in [CONTENT_LENGTH, TRANSFER_ENCODING, hyper::header::CONNECTION, hyper::header::EXPECT] {
            headers.remove(hop);
        }
        match self.send(&arrived.method, &format!("{origin}{}", arrived.target), &headers, arrived.body.clone()).await {
            Err(_) => Reply::Cut,
            Ok(answered) => {
                let mut answer = Response::new(Full::new(answered.body));
                *answer.status_mut() = StatusCode::from_u16(answered.status).expect("a status");
                *answer.headers_mut() = answered.headers;
                // A HEAD's length is that of the body which it does not have.
                let without = if arrived.method == Method::HEAD { &[TRANSFER_ENCODING][..] } else { &[TRANSFER_ENCODING, CONTENT_LENGTH][..] };
                for name in without.iter().chain(&[hyper::header::CONNECTION]) {
                    answer.headers_mut().remove(name);
                }
                Reply::Answer(answer)
            }
        }
    }

    /// Calls an AWS operation of the JSON protocols, as this account. The local AWS checks no signature; it wants to see whose it is.
    pub async fn aws_json(&self, origin: &str, account: &str, service: &str, target: &str, body: &Value) -> Result<Value, String> {
        let mut headers = signed_as(account, service);
        headers.insert("x-amz-target", HeaderValue::from_str(target).expect("a target"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        let answered = self.send(&Method::POST, origin, &headers, Bytes::from(body.to_string())).await.map_err(|e| format!("{target}: {e:?}"))?;
        if answered.status == 200 { Ok(answered.json()) } else { Err(format!("{target}: {} {}", answered.status, answered.text())) }
    }
}

pub fn signed_as(account: &str, service: &str) -> HeaderMap {
    let signature = format!("AWS4-HMAC-SHA256 Credential={account}/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0");
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&signature).expect("a header"))])
}

/// Serves until the listener's runtime ends.
pub async fn serve<F, R>(listener: tokio::net::TcpListener, handle: F)
where
    F: Fn(Arrived) -> R + Clone + Send + 'static,
    R: Future<Output = Reply> + Send + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let handle = handle.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let handle = handle.clone();
                async move {
                    let arrived = Arrived::read(request).await.map_err(|_| CutOnPurpose)?;
                    match handle(arrived).await {
                        Reply::Answer(answer) => Ok::<_, CutOnPurpose>(answer),
                        Reply::Cut => Err(CutOnPurpose),
                    }
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
