//! What no function can beat on this machine: the calls of a known verdict, made by nothing but TLS. It opens the table's connection with one
//! read, then for each event reads, writes, answers and marks, with texts that are ready made. No SDK, no signature, no runtime, no JSON.
use std::env::var;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Sends a request and reads its answer, head and body.
fn exchange(stream: &mut dyn Stream, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("it is open");
    stream.flush().expect("it is open");
    let (mut answer, mut some) = (Vec::new(), [0; 16 << 10]);
    loop {
        let read = stream.read(&mut some).expect("it is open");
        if read == 0 {
            std::process::exit(0);
        }
        answer.extend_from_slice(&some[..read]);
        let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        let length: usize = value(&text, "content-length").parse().expect("a length");
        if answer.len() >= head + 4 + length {
            return String::from_utf8_lossy(&answer).into_owned();
        }
    }
}

fn value<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).expect("a header")
}

fn open(config: &Arc<ClientConfig>, origin: &str) -> Box<dyn Stream> {
    let socket = TcpStream::connect(origin).expect("somebody listens");
    socket.set_nodelay(true).expect("a socket");
    let name = ServerName::try_from("localhost").expect("a name");
    Box::new(StreamOwned::new(ClientConnection::new(Arc::clone(config), name).expect("a client"), socket))
}

fn main() {
    let origin = |name: &str| var(name).expect("it is set").trim_start_matches("https://").to_owned();
    let (runtime, table, answers) = (origin("AWS_LAMBDA_RUNTIME_API"), origin("AWS_ENDPOINT_URL_DYNAMODB"), origin("TEST_ANSWER_ORIGIN"));
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_file_iter(origin("SSL_CERT_FILE")).expect("a bundle").flatten());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("TLS").with_root_certificates(roots).with_no_client_auth();
    let config = Arc::new(config);
    let call = |operation: &str, body: &str| {
        let target = format!("X-Amz-Target: DynamoDB_20120810.{operation}\r\nX-Bench-Floor: 1");
        format!("POST / HTTP/1.1\r\nHost: {table}\r\n{target}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let answer = format!("PUT /answer/floor HTTP/1.1\r\nHost: {answers}\r\nContent-Length: 700\r\n\r\n{}", "a".repeat(700));
    let (read, write, mark) = (call("GetItem", "{}"), call("TransactWriteItems", &"w".repeat(6000)), call("UpdateItem", &"m".repeat(500)));
    let mut lambda = TcpStream::connect(&runtime).expect("Lambda listens");
    lambda.set_nodelay(true).expect("a socket");
    let mut dynamo = open(&config, &table);
    exchange(&mut *dynamo, &read);
    let mut s3: Option<Box<dyn Stream>> = None;
    loop {
        let event = exchange(&mut lambda, &format!("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {runtime}\r\n\r\n"));
        let id = value(&event, "lambda-runtime-aws-request-id");
        exchange(&mut *dynamo, &read);
        exchange(&mut *dynamo, &write);
        exchange(&mut **s3.get_or_insert_with(|| open(&config, &answers)), &answer);
        exchange(&mut *dynamo, &mark);
        exchange(&mut lambda, &format!("POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: {runtime}\r\nContent-Length: 4\r\n\r\nnull"));
    }
}
