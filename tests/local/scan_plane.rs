//! The scan plane: it stands in front of the local AWS. It plays the scanning half of ECR and of Inspector from scripts, answers for
//! what the local AWS sees less strictly than AWS, does to any other call what a test asks for, checks every answer that goes to
//! CloudFormation, and passes on the rest.
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::local::answers::{Answer, AnswerHost, Asked};
use crate::local::canary;
use crate::local::faults::{Fault, On, Rules};
use crate::local::scans::{Coverage, Findings, Scan, Scanned};
use crate::local::wire::{self, Arrived, Http, Reply, answer};

/// Index and list types, which ECR does not scan.
const INDEXES: [&str; 2] = ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const IMAGES: [&str; 2] = ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
/// DescribeImageScanFindings' `maxResults`: at most 1000, 100 unless told.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;
/// DescribeImages' `imageIds`.
const LARGEST_LIST: usize = 100;
/// ListImageReferrers' `maxResults`.
const REFERRERS_PAGE: usize = 50;
/// ListFindings' list: at most 25, whatever `maxResults` says.
const INSPECTOR_PAGE: usize = 25;

/// One call that went through the plane.
#[derive(Clone, Debug)]
pub struct Call {
    pub account: String,
    pub service: String,
    pub operation: String,
    pub body: Bytes,
    pub at: Instant,
    pub met: Option<String>,
}

impl Call {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registry {
    #[default]
    Basic,
    Enhanced,
}

#[derive(Debug, Default)]
struct Script {
    answers: Vec<Scan>,
    /// Begins when StartImageScan is called.
    after_start: Option<Vec<Scan>>,
    /// The answer that is being paged through, or was last given.
    at: Option<usize>,
    started: bool,
    scanned_lately: bool,
    coverage: Vec<Coverage>,
    coverage_at: usize,
    pushed_at: Option<Timestamp>,
}

impl Script {
    /// The next answer; the last one stays.
    fn next(&mut self) -> Option<(usize, Scan)> {
        let at = self.at.map_or(0, |at| (at + 1).min(self.answers.len().saturating_sub(1)));
        self.at = Some(at);
        self.answers.get(at).map(|scan| (at, scan.clone()))
    }

    fn findings(&self) -> Option<Findings> {
        match self.answers.get(self.at.unwrap_or_default())? {
            Scan::Complete(found) | Scan::Active(found) | Scan::Status(_, Some(found)) => Some(found.clone()),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    scripts: HashMap<Scanned, Script>,
    registries: HashMap<String, Registry>,
    frequencies: HashMap<(String, String), &'static str>,
    in_a_hurry: HashSet<String>,
    answers: AnswerHost,
    calls: Vec<Call>,
    /// Whose the keys are that STS has given out.
    sessions: HashMap<String, String>,
    /// The secret keys and the session tokens that were given out or used, by account.
    secrets: HashMap<String, HashSet<String>>,
    /// What GetDownloadUrlForLayer leads to, by account and digest. Not always what the digest says.
    blobs: HashMap<(String, String), Bytes>,
    /// What AWS Signer has revoked, by account.
    revoked: HashSet<(String, String)>,
    /// The reports that Inspector is to write, by their ids: how often it was asked after one, and what was wanted.
    exports: HashMap<String, (u32, Value)>,
}

#[derive(Debug)]
struct Inner {
    origin: String,
    upstream: OnceLock<String>,
    state: Mutex<State>,
    rules: Rules,
}

/// All accounts' scan plane. `of` is one account's part of it.
#[derive(Clone, Debug)]
pub struct ScanPlane(Arc<Inner>);

impl ScanPlane {
    /// Listens on a free port of 127.0.0.1, on a thread of its own, for as long as the process lives.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port on 127.0.0.1");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let plane = Self(Arc::new(Inner { origin, upstream: OnceLock::new(), state: Mutex::default(), rules: Rules::default() }));
        let serving = plane.clone();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let http = Http::new();
                wire::serve(listener, move |arrived| {
                    let (plane, http) = (serving.clone(), http.clone());
                    async move { plane.handle(arrived, &http).await }
                })
                .await;
            });
        };
        std::thread::Builder::new().name("scan-plane".to_owned()).spawn(serve).expect("a thread");
        plane
    }

    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    pub fn port(&self) -> &str {
        self.0.origin.rsplit(':').next().expect("a port")
    }

    /// Where everything goes that the plane does not answer itself.
    pub fn in_front_of(&self, origin: String) {
        let _ = self.0.upstream.set(origin);
    }

    pub fn of(&self, account: &str) -> Scans {
        Scans { plane: self.clone(), account: account.to_owned() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn upstream(&self) -> &str {
        self.0.upstream.get().expect("the local AWS is there before it is called")
    }

    async fn handle(&self, mut arrived: Arrived, http: &Http) -> Reply {
        if arrived.path() == "/_plane/request" {
            self.state().answers.asked(Asked::new(arrived.json()));
            return Reply::Answer(answer(200, &json!({})));
        }
        if let Some(blob) = arrived.path().strip_prefix("/_plane/blob/") {
            let name = blob.split_once('/').map(|(account, digest)| (account.to_owned(), digest.to_owned())).unwrap_or_default();
            let found = self.state().blobs.get(&name).cloned();
            return Reply::Answer(found.map_or_else(|| arrived.error(404, "NoSuchKey", "There is no such blob"), |blob| Response::new(Full::new(blob))));
        }
        if arrived.operation == "PutAnswer" {
            arrived.service = "answer".to_owned();
            let token = arrived.path().rsplit('/').next().unwrap_or_default().to_owned();
            arrived.account = self.state().answers.account_of(&token).unwrap_or_default();
        }
        let by_role = !is_account(&arrived.account);
        if by_role && !arrived.account.is_empty() {
            arrived.account = self.account_of(&arrived.account, http).await;
        }
        if let Some(token) = arrived.headers.get("x-amz-security-token").and_then(|token| token.to_str().ok()) {
            self.state().secrets.entry(arrived.account.clone()).or_default().insert(token.to_owned());
        }
        let fault = self.0.rules.fault_for(&arrived);
        self.state().calls.push(Call {
            account: arrived.account.clone(),
            service: arrived.service.clone(),
            operation: arrived.operation.clone(),
            body: arrived.body.clone(),
            at: Instant::now(),
            met: fault.as_ref().map(|fault| format!("{fault:?}")),
        });
        match fault {
            Some(fault) => self.meet(fault, &arrived, http).await,
            None => match self.is_denied(&arrived, by_role, http).await {
                Some(denied) => Reply::Answer(denied),
                None => self.carry_out(&arrived, http).await,
            },
        }
    }

    /// Whose a key is that STS has given out, or Lambda.
    async fn account_of(&self, key: &str, http: &Http) -> String {
        if let Some(account) = self.state().sessions.get(key) {
            return account.clone();
        }
        let mut headers = wire::signed_as("000000000000", "sts");
        headers.insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/x-www-form-urlencoded"));
        let body = Bytes::from(format!("Action=GetAccessKeyInfo&Version=2011-06-15&AccessKeyId={key}"));
        let answered = http.send(&hyper::Method::POST, &format!("{}/", self.upstream()), &headers, body).await.expect("the local AWS answers");
        let text = answered.text();
        let account = text.split_once("<Account>").and_then(|(_, rest)| rest.split_once('<')).map(|(account, _)| account.to_owned());
        let account = account.unwrap_or_else(|| panic!("nobody knows the key {key}: {text}"));
        self.state().sessions.insert(key.to_owned(), account.clone());
        account
    }

    /// What the plane answers itself, the local AWS is asked about first: it knows what a role may do.
    async fn is_denied(&self, arrived: &Arrived, by_role: bool, http: &Http) -> Option<Response<Full<Bytes>>> {
        // Of the one it does not know that it is about repositories, and wants it allowed for all that there are. For the other it
        // wants an action that there is not: who may read images (BatchGetImage, which always follows) may list what refers to them.
        let is_misjudged = ["BatchGetRepositoryScanningConfiguration", "ListImageReferrers"].contains(&arrived.operation.as_str());
        if !by_role || is_misjudged || !["ecr", "inspector2"].contains(&arrived.service.as_str()) {
            return None;
        }
        let Reply::Answer(asked) = http.pass_on(arrived, self.upstream()).await else { return None };
        let (head, body) = asked.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let denied = ["AccessDenied", "SignatureDoesNotMatch", "InvalidSignature", "UnrecognizedClient"];
        let is_denied = head.status.as_u16() >= 400 && denied.iter().any(|code| String::from_utf8_lossy(&body).contains(code));
        is_denied.then(|| Response::from_parts(head, Full::new(body)))
    }

    async fn meet(&self, fault: Fault, arrived: &Arrived, http: &Http) -> Reply {
        match fault {
            Fault::Throttle if arrived.service == "s3" => Reply::Answer(arrived.error(503, "SlowDown", "Please reduce your request rate.")),
            Fault::Throttle if arrived.service == "cloudformation" => Reply::Answer(arrived.error(400, "Throttling", "Rate exceeded")),
            Fault::Throttle => Reply::Answer(arrived.error(400, "ThrottlingException", "Rate exceeded")),
            Fault::ServerError => Reply::Answer(arrived.error(500, "InternalServerError", "An error on the server side")),
            Fault::AccessDenied => Reply::Answer(arrived.error(400, "AccessDeniedException", "User is not authorized to perform this operation")),
            Fault::Error { status, code, message } => Reply::Answer(arrived.error(status, code, message)),
            Fault::Says(body) => Reply::Answer(Response::new(Full::new(Bytes::from(body)))),
            Fault::Cut => Reply::Cut,
            Fault::LoseAnswer => {
                self.carry_out(arrived, http).await;
                Reply::Cut
            }
            Fault::Slow(time) => {
                tokio::time::sleep(time).await;
                self.carry_out(arrived, http).await
            }
            Fault::Hold(gate) => {
                gate.pass().await;
                self.carry_out(arrived, http).await
            }
            Fault::HoldAnswer(gate) => {
                let reply = self.carry_out(arrived, http).await;
                gate.pass().await;
                reply
            }
        }
    }

    async fn carry_out(&self, arrived: &Arrived, http: &Http) -> Reply {
        let ecr = Ecr { plane: self, arrived, http };
        Reply::Answer(match (arrived.service.as_str(), arrived.operation.as_str()) {
            ("answer", _) => return self.take_answer(arrived, http).await,
            ("ecr", "PutImage") => match ecr.put_image() {
                Some(refused) => refused,
                None => return http.pass_on(arrived, self.upstream()).await,
            },
            ("ecr", "BatchGetImage") => ecr.batch_get_image().await,
            ("ecr", "ListImageReferrers") => ecr.list_image_referrers().await,
            ("ecr", "GetDownloadUrlForLayer") => ecr.download_url(),
            ("ecr", "DescribeImages") => ecr.describe_images().await,
            ("ecr", "StartImageScan") => ecr.start_image_scan().await,
            ("ecr", "DescribeImageScanFindings") => return ecr.describe_image_scan_findings().await,
            ("ecr", "GetRegistryScanningConfiguration") => ecr.registry_scanning_configuration(),
            ("ecr", "BatchGetRepositoryScanningConfiguration") => ecr.repository_scanning_configuration().await,
            ("sqs", _) if self.state().in_a_hurry.contains(&arrived.account) => {
                let mut hurried = arrived.clone();
                hurried.body = Bytes::from(hurry(arrived.json()).to_string());
                // A changed message takes another signature: the account's own. Stories without hurry prove what a role may send.
                hurried.headers.remove("x-amz-security-token");
                hurried.headers.extend(wire::signed_as(&arrived.account, "sqs"));
                return http.pass_on(&hurried, self.upstream()).await;
            }
            ("sts", "AssumeRole") => return self.assume_role(arrived, http).await,
            ("inspector2", "CreateSbomExport") => self.create_sbom_export(arrived),
            ("inspector2", "GetSbomExport") => return Reply::Answer(self.get_sbom_export(arrived, http).await),
            (_, "GetRevocationStatus") => self.revocation_status(arrived),
            ("inspector2", "ListCoverage") => self.list_coverage(arrived),
            ("inspector2", "ListFindings") => self.list_findings(arrived),
            _ => return http.pass_on(arrived, self.upstream()).await,
        })
    }

    async fn take_answer(&self, arrived: &Arrived, http: &Http) -> Reply {
        let taken = self.state().answers.take(arrived);
        match taken {
            Err(wrong) => Reply::Answer(arrived.error(403, "AnswerIsWrong", &wrong)),
            Ok(()) if arrived.path().starts_with("/_plane/") => Reply::Answer(Response::new(Full::default())),
            Ok(()) => http.pass_on(arrived, self.upstream()).await,
        }
    }

    /// Passed on; what it gives out is remembered, so that it can be looked for where it must not stand.
    async fn assume_role(&self, arrived: &Arrived, http: &Http) -> Reply {
        let Reply::Answer(answered) = http.pass_on(arrived, self.upstream()).await else { return Reply::Cut };
        let (head, body) = answered.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        for name in ["SecretAccessKey", "SessionToken"] {
            let found = text.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<')).map(|(secret, _)| secret.to_owned());
            self.state().secrets.entry(arrived.account.clone()).or_default().extend(found);
        }
        Reply::Answer(Response::from_parts(head, Full::new(body)))
    }

    fn create_sbom_export(&self, arrived: &Arrived) -> Response<Full<Bytes>> {
        let mut state = self.state();
        let id = format!("{:08x}-2222-4222-8222-222222222222", state.exports.len() + 1);
        state.exports.insert(id.clone(), (0, arrived.json()));
        answer(200, &json!({ "reportId": id }))
    }

    /// IN_PROGRESS once, then the file is there.
    async fn get_sbom_export(&self, arrived: &Arrived, http: &Http) -> Response<Full<Bytes>> {
        let id = arrived.json()["reportId"].as_str().unwrap_or_default().to_owned();
        let found = self.state().exports.get_mut(&id).map(|export| {
            export.0 += 1;
            export.clone()
        });
        let Some((asked, wanted)) = found else { return arrived.error(404, "ResourceNotFoundException", "There is no such report") };
        if asked == 1 {
            return answer(200, &json!({ "reportId": id, "status": "IN_PROGRESS" }));
        }
        let to = &wanted["s3Destination"];
        let (bucket, prefix) = (to["bucketName"].as_str().unwrap_or_default(), to["keyPrefix"].as_str().unwrap_or_default());
        let image = &wanted["resourceFilterCriteria"]["resourceId"][0]["value"];
        let sbom = json!({ "bomFormat": "CycloneDX", "specVersion": "1.4", "metadata": { "component": { "name": image } } });
        let url = format!("{}/{bucket}/{prefix}/CYCLONEDX_1_4_outputs_{id}/account={}/report.json", self.upstream(), arrived.account);
        let written = http.send(&hyper::Method::PUT, &url, &wire::signed_as(&arrived.account, "s3"), Bytes::from(sbom.to_string())).await;
        assert!(written.is_ok_and(|written| written.status == 200), "Inspector cannot write to {url}");
        answer(200, &json!({ "reportId": id, "status": "SUCCEEDED", "s3Destination": to, "format": wanted["reportFormat"] }))
    }

    /// Of all that is asked about, what is revoked.
    fn revocation_status(&self, arrived: &Arrived) -> Response<Full<Bytes>> {
        let query = arrived.target.split_once('?').map(|(_, query)| query.replace("%3A", ":").replace("%2F", "/")).unwrap_or_default();
        let state = self.state();
        let is_revoked = |entity: &&str| state.revoked.contains(&(arrived.account.clone(), (*entity).to_owned()));
        let named = ["signatureTimestamp", "platformId", "profileVersionArn", "jobArn", "certificateHashes"];
        if let Some(missing) = named.iter().find(|name| !query.contains(&format!("{name}="))) {
            return arrived.error(400, "ValidationException", &format!("{missing} is missing"));
        }
        let entities: Vec<&str> = query.split('&').filter_map(|pair| pair.split_once('=').map(|(_, value)| value)).filter(is_revoked).collect();
        answer(200, &json!({ "revokedEntities": entities }))
    }

    fn list_coverage(&self, arrived: &Arrived) -> Response<Full<Bytes>> {
        let body = arrived.json();
        let wanted = filter(&body, "resourceId");
        let mut state = self.state();
        let mut covered: Vec<_> = state.scripts.iter_mut().filter(|(image, _)| image.account == arrived.account && admits(&wanted, &image.arn())).collect();
        covered.sort_by_key(|(image, _)| *image);
        let resources: Vec<_> = covered
            .into_iter()
            .filter_map(|(image, script)| {
                let at = script.coverage_at.min(script.coverage.len().checked_sub(1)?);
                script.coverage_at = at + 1;
                Some(script.coverage[at].resource(image))
            })
            .collect();
        answer(200, &json!({ "coveredResources": resources }))
    }

    fn list_findings(&self, arrived: &Arrived) -> Response<Full<Bytes>> {
        let body = arrived.json();
        let (digests, repositories) = (filter(&body, "ecrImageHash"), filter(&body, "ecrImageRepositoryName"));
        let state = self.state();
        let mut images: Vec<_> = state
            .scripts
            .iter()
            .filter(|(image, _)| image.account == arrived.account && admits(&digests, &image.digest) && admits(&repositories, &image.repository))
            .collect();
        images.sort_by_key(|(image, _)| *image);
        let all: Vec<_> = images
            .into_iter()
            .flat_map(|(image, script)| {
                script.findings().map(|found| found.list().iter().map(|finding| finding.inspector(image)).collect::<Vec<_>>()).unwrap_or_default()
            })
            .collect();
        let from: usize = body["nextToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or_default();
        let to = (from + INSPECTOR_PAGE).min(all.len());
        let mut page = json!({ "findings": all.get(from..to).unwrap_or_default() });
        if to < all.len() {
            page["nextToken"] = json!(to.to_string());
        }
        answer(200, &page)
    }
}

fn is_account(key: &str) -> bool {
    key.len() == 12 && key.bytes().all(|byte| byte.is_ascii_digit())
}

/// Waits of more than a second become one second, in one message and in each of a batch.
fn hurry(mut body: Value) -> Value {
    for wait in ["DelaySeconds", "VisibilityTimeout"] {
        if body[wait].as_u64().is_some_and(|seconds| seconds > 1) {
            body[wait] = json!(1);
        }
    }
    if let Some(entries) = body["Entries"].as_array_mut() {
        for entry in entries {
            *entry = hurry(entry.take());
        }
    }
    body
}

/// The EQUALS values of one of Inspector's string filters.
fn filter(body: &Value, name: &str) -> Vec<String> {
    let entries = body["filterCriteria"][name].as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter(|entry| entry["comparison"] == "EQUALS").filter_map(|entry| entry["value"].as_str().map(str::to_owned)).collect()
}

fn admits(wanted: &[String], value: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|one| one == value)
}

/// One call to ECR.
struct Ecr<'a> {
    plane: &'a ScanPlane,
    arrived: &'a Arrived,
    http: &'a Http,
}

/// An image as the local ECR has it.
struct Kept {
    digest: String,
    tags: Vec<String>,
    kind: String,
    detail: Value,
}

type Refused = Response<Full<Bytes>>;

impl Ecr<'_> {
    fn refuse(&self, code: &str, message: &str) -> Refused {
        self.arrived.error(400, code, message)
    }

    fn repository(&self) -> String {
        self.arrived.json()["repositoryName"].as_str().unwrap_or_default().to_owned()
    }

    fn scanned(&self, digest: &str) -> Scanned {
        Scanned { account: self.arrived.account.clone(), repository: self.repository(), digest: digest.to_owned() }
    }

    async fn call(&self, operation: &str, body: &Value) -> Result<Value, Refused> {
        let target = format!("AmazonEC2ContainerRegistry_V20150921.{operation}");
        let called = self.http.aws_json(self.plane.upstream(), &self.arrived.account, "ecr", &target, body).await;
        called.map_err(|why| match why.contains("RepositoryNotFoundException") {
            true => {
                let text = format!("The repository with name '{}' does not exist in the registry with id '{}'", self.repository(), self.arrived.account);
                self.refuse("RepositoryNotFoundException", &text)
            }
            false => self.refuse("ServerException", &why),
        })
    }

    async fn images(&self) -> Result<Vec<Kept>, Refused> {
        let answer = self.call("DescribeImages", &json!({ "repositoryName": self.repository() })).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let details = answer["imageDetails"].as_array().cloned().unwrap_or_default();
        Ok(details
            .into_iter()
            .map(|detail| Kept {
                digest: text(&detail["imageDigest"]),
                tags: detail["imageTags"].as_array().map(|tags| tags.iter().map(text).collect()).unwrap_or_default(),
                kind: text(&detail["imageManifestMediaType"]),
                detail,
            })
            .collect())
    }

    /// ECR's own check, which the local one leaves out: the digest is that of the manifest.
    fn put_image(&self) -> Option<Refused> {
        let body = self.arrived.json();
        let digest = digest_of(body["imageManifest"].as_str().unwrap_or_default());
        let given = body["imageDigest"].as_str()?;
        (given != digest).then(|| self.refuse("ImageDigestDoesNotMatchException", &format!("The digest '{given}' does not match the manifest's, '{digest}'")))
    }

    async fn batch_get_image(&self) -> Refused {
        let body = self.arrived.json();
        let images = match self.images().await {
            Ok(images) => images,
            Err(refused) => return refused,
        };
        let accepted: Option<Vec<&str>> = body["acceptedMediaTypes"].as_array().map(|types| types.iter().filter_map(Value::as_str).collect());
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for id in body["imageIds"].as_array().map(Vec::as_slice).unwrap_or_default() {
            match self.find(id, &images, accepted.as_deref()) {
                Err((code, reason)) => failures.push(json!({ "imageId": id, "failureCode": code, "failureReason": reason })),
                Ok(image) => {
                    let read = self.call("BatchGetImage", &json!({ "repositoryName": self.repository(), "imageIds": [{ "imageDigest": image.digest }] })).await;
                    let read = match read {
                        Ok(read) => read,
                        Err(refused) => return refused,
                    };
                    let mut named = json!({ "imageDigest": image.digest });
                    if !id["imageTag"].is_null() {
                        named["imageTag"] = id["imageTag"].clone();
                    }
                    found.push(json!({
                        "registryId": self.arrived.account, "repositoryName": self.repository(), "imageId": named,
                        "imageManifest": read["images"][0]["imageManifest"], "imageManifestMediaType": image.kind,
                    }));
                }
            }
        }
        answer(200, &json!({ "images": found, "failures": failures }))
    }

    /// Tag and digest together are checked against each other. An index that is not asked for by its type is not found: what ECR does
    /// then is nowhere written, so nobody shall lean on it.
    fn find<'k>(&self, id: &Value, images: &'k [Kept], accepted: Option<&[&str]>) -> Result<&'k Kept, (&'static str, &'static str)> {
        let (digest, tag) = (id["imageDigest"].as_str(), id["imageTag"].as_str());
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(("InvalidImageDigest", "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'"));
        }
        let not_found = ("ImageNotFound", "Requested image not found");
        let image = match (digest, tag) {
            (None, None) => return Err(("MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null")),
            (Some(digest), None) => images.iter().find(|image| image.digest == digest).ok_or(not_found)?,
            (None, Some(tag)) => images.iter().find(|image| image.tags.iter().any(|one| one == tag)).ok_or(not_found)?,
            (Some(digest), Some(tag)) => {
                let tagged = images.iter().find(|image| image.tags.iter().any(|one| one == tag)).ok_or(not_found)?;
                if tagged.digest != digest {
                    return Err(("ImageTagDoesNotMatchDigest", "Requested image tag does not match the requested image digest"));
                }
                tagged
            }
        };
        let accepted = accepted.map_or_else(|| IMAGES.contains(&image.kind.as_str()), |types| types.contains(&image.kind.as_str()));
        if accepted { Ok(image) } else { Err(not_found) }
    }

    /// Those manifests that name the digest as their subject. Whether there is such an image is nobody's question.
    async fn list_image_referrers(&self) -> Refused {
        let body = self.arrived.json();
        let most = body["maxResults"].as_u64().map_or(REFERRERS_PAGE, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let Some(subject) = body["subjectId"]["imageDigest"].as_str().filter(|digest| is_digest(digest) && (1..=REFERRERS_PAGE).contains(&most)) else {
            return self.refuse("InvalidParameterException", "a digest, and at most 50 results");
        };
        let images = match self.images().await {
            Ok(images) => images,
            Err(refused) => return refused,
        };
        let mut referrers = Vec::new();
        for image in images {
            let read = self.call("BatchGetImage", &json!({ "repositoryName": self.repository(), "imageIds": [{ "imageDigest": image.digest }] })).await;
            let text = read.ok().and_then(|read| read["images"][0]["imageManifest"].as_str().map(str::to_owned)).unwrap_or_default();
            let manifest: Value = serde_json::from_str(&text).unwrap_or_default();
            if manifest["subject"]["digest"] == subject {
                let of_config = &manifest["config"]["mediaType"];
                let kind = if manifest["artifactType"].is_string() { &manifest["artifactType"] } else { of_config };
                referrers.push(json!({
                    "digest": image.digest, "mediaType": image.kind, "artifactType": kind, "size": text.len(),
                    "annotations": manifest["annotations"], "artifactStatus": "ACTIVE",
                }));
            }
        }
        let from: usize = body["nextToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or_default();
        let to = (from + most).min(referrers.len());
        let mut page = json!({ "referrers": referrers.get(from..to).unwrap_or_default() });
        if to < referrers.len() {
            page["nextToken"] = json!(to.to_string());
        }
        answer(200, &page)
    }

    fn download_url(&self) -> Refused {
        let digest = self.arrived.json()["layerDigest"].as_str().unwrap_or_default().to_owned();
        if !self.plane.state().blobs.contains_key(&(self.arrived.account.clone(), digest.clone())) {
            return self.refuse("LayersNotFoundException", &format!("The layer with digest '{digest}' does not exist within the repository"));
        }
        let url = format!("{}/_plane/blob/{}/{digest}", self.plane.origin(), self.arrived.account);
        answer(200, &json!({ "downloadUrl": url, "layerDigest": digest }))
    }

    async fn describe_images(&self) -> Refused {
        let body = self.arrived.json();
        let images = match self.images().await {
            Ok(images) => images,
            Err(refused) => return refused,
        };
        let mut details = Vec::new();
        let (named, most, token) = (body["imageIds"].as_array(), body["maxResults"].as_u64(), body["nextToken"].as_str());
        if named.is_some_and(|ids| ids.len() > LARGEST_LIST || most.is_some() || token.is_some()) {
            return self.refuse("InvalidParameterException", "at most 100 images are named, and then there are no pages");
        }
        let most = most.map_or(PAGE, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let from: usize = token.and_then(|token| token.parse().ok()).unwrap_or_default();
        let all: Vec<_> = images.iter().skip(from).take(most).map(|image| json!({ "imageDigest": image.digest })).collect();
        let goes_on = named.is_none() && from + all.len() < images.len();
        for id in named.unwrap_or(&all) {
            let Ok(image) = self.find(id, &images, Some(&[IMAGES, INDEXES].concat())) else {
                let text = format!("The image with imageId {id} does not exist within the repository with name '{}'", self.repository());
                return self.refuse("ImageNotFoundException", &text);
            };
            let mut detail = image.detail.clone();
            if image.tags.is_empty() {
                detail.as_object_mut().expect("an object").remove("imageTags");
            }
            // The local ECR gives the manifest's own type here; an index has none.
            detail.as_object_mut().expect("an object").remove("artifactMediaType");
            let read = self.call("BatchGetImage", &json!({ "repositoryName": self.repository(), "imageIds": [{ "imageDigest": image.digest }] })).await;
            let manifest: Value = read.ok().and_then(|read| serde_json::from_str(read["images"][0]["imageManifest"].as_str()?).ok()).unwrap_or_default();
            if manifest["config"]["mediaType"].is_string() {
                detail["artifactMediaType"] = manifest["config"]["mediaType"].clone();
            }
            if let Some(at) = self.plane.state().scripts.get(&self.scanned(&image.digest)).and_then(|script| script.pushed_at) {
                detail["imagePushedAt"] = json!(at.as_second());
            }
            details.push(detail);
        }
        let mut page = json!({ "imageDetails": details });
        if goes_on {
            page["nextToken"] = json!((from + all.len()).to_string());
        }
        answer(200, &page)
    }

    /// The image that a scan call names.
    async fn image(&self) -> Result<(Scanned, String), Refused> {
        let id = self.arrived.json()["imageId"].clone();
        let images = self.images().await?;
        match self.find(&id, &images, Some(&[IMAGES, INDEXES].concat())) {
            Ok(image) => Ok((self.scanned(&image.digest), image.kind.clone())),
            Err((code, reason)) if code != "ImageNotFound" => Err(self.refuse("InvalidParameterException", reason)),
            Err(_) => {
                let text = format!("The image with imageId {id} does not exist within the repository with name '{}'", self.repository());
                Err(self.refuse("ImageNotFoundException", &text))
            }
        }
    }

    async fn start_image_scan(&self) -> Refused {
        let (image, kind) = match self.image().await {
            Ok(image) => image,
            Err(refused) => return refused,
        };
        let mut state = self.plane.state();
        if state.registries.get(&image.account) == Some(&Registry::Enhanced) {
            return self.refuse("ValidationException", "This feature is disabled");
        }
        if INDEXES.contains(&kind.as_str()) {
            let text = format!("The image type '{kind}' is not supported for the image scan");
            return self.refuse("UnsupportedImageTypeException", &text);
        }
        let script = state.scripts.entry(image.clone()).or_default();
        if script.started || script.scanned_lately {
            return self.refuse("LimitExceededException", "The scan quota per image has been exceeded. Wait and try again.");
        }
        script.started = true;
        (script.answers, script.at) = (script.after_start.take().unwrap_or_else(|| vec![Scan::InProgress]), None);
        answer(
            200,
            &json!({
                "registryId": image.account, "repositoryName": image.repository, "imageId": { "imageDigest": image.digest },
                "imageScanStatus": { "status": "IN_PROGRESS" },
            }),
        )
    }

    async fn describe_image_scan_findings(&self) -> Reply {
        let (image, _) = match self.image().await {
            Ok(image) => image,
            Err(refused) => return Reply::Answer(refused),
        };
        let body = self.arrived.json();
        let most = body["maxResults"].as_u64().map_or(PAGE, |most| usize::try_from(most).unwrap_or(usize::MAX));
        if !(1..=LARGEST_PAGE).contains(&most) {
            return Reply::Answer(self.refuse("InvalidParameterException", "maxResults has to be between 1 and 1000"));
        }
        let not_found = || {
            self.refuse(
                "ScanNotFoundException",
                &format!("Image scan does not exist for the image with '{{imageDigest:'{}'}}' in the repository", image.digest),
            )
        };
        let (scan, at, from, enhanced) = {
            let mut state = self.plane.state();
            let enhanced = state.registries.get(&image.account) == Some(&Registry::Enhanced);
            let Some(script) = state.scripts.get_mut(&image) else { return Reply::Answer(not_found()) };
            // A token names the answer that it goes on with, so that a page is never mixed with a newer answer.
            if let Some(token) = body["nextToken"].as_str() {
                let place = token.split_once('-').and_then(|(at, from)| Some((at.parse::<usize>().ok()?, from.parse::<usize>().ok()?)));
                match place.and_then(|(at, from)| Some((script.answers.get(at)?.clone(), at, from))) {
                    Some((scan, at, from)) => (scan, at, from, enhanced),
                    None => return Reply::Answer(self.refuse("InvalidParameterException", "Invalid nextToken")),
                }
            } else {
                match script.next() {
                    Some((at, scan)) => (scan, at, 0, enhanced),
                    None => return Reply::Answer(not_found()),
                }
            }
        };
        let (status, description, found) = match scan {
            Scan::NotFound => return Reply::Answer(not_found()),
            Scan::Fails(fault) => return Box::pin(self.plane.meet(fault, self.arrived, self.http)).await,
            Scan::Raw(body) => return Reply::Answer(answer(200, &body)),
            Scan::Pending => ("PENDING", "The scan is queued.", None),
            Scan::InProgress => ("IN_PROGRESS", "The scan is running.", None),
            Scan::Complete(found) => ("COMPLETE", "The scan was completed successfully.", Some(found)),
            Scan::Active(found) => ("ACTIVE", "Continuous scan is selected for image.", Some(found)),
            Scan::Failed(why) => ("FAILED", why, None),
            Scan::Unsupported => ("UNSUPPORTED_IMAGE", "The operating system and/or package manager are not supported.", None),
            Scan::Status(status, found) => (status, "", found),
        };
        let mut reply = json!({
            "registryId": image.account, "repositoryName": image.repository, "imageId": { "imageDigest": image.digest },
            "imageScanStatus": { "status": status, "description": description },
        });
        if let Some(found) = found {
            let to = from.saturating_add(most);
            reply["imageScanFindings"] = found.page(&image, enhanced, from, to);
            if to < found.len() {
                reply["nextToken"] = json!(format!("{at}-{to}"));
            }
        }
        Reply::Answer(answer(200, &reply))
    }

    fn registry_scanning_configuration(&self) -> Refused {
        let state = self.plane.state();
        let registry = state.registries.get(&self.arrived.account).copied().unwrap_or_default();
        let (kind, frequency) = match registry {
            Registry::Basic => ("BASIC", "SCAN_ON_PUSH"),
            Registry::Enhanced => ("ENHANCED", "CONTINUOUS_SCAN"),
        };
        let rules = json!([{ "scanFrequency": frequency, "repositoryFilters": [{ "filter": "*", "filterType": "WILDCARD" }] }]);
        answer(200, &json!({ "registryId": self.arrived.account, "scanningConfiguration": { "scanType": kind, "rules": rules } }))
    }

    async fn repository_scanning_configuration(&self) -> Refused {
        let names: Vec<String> = serde_json::from_value(self.arrived.json()["repositoryNames"].clone()).unwrap_or_default();
        let known = match self.call("DescribeRepositories", &json!({})).await {
            Ok(answer) => answer["repositories"].as_array().cloned().unwrap_or_default(),
            Err(refused) => return refused,
        };
        let state = self.plane.state();
        let registry = state.registries.get(&self.arrived.account).copied().unwrap_or_default();
        let usual = if registry == Registry::Enhanced { "CONTINUOUS_SCAN" } else { "SCAN_ON_PUSH" };
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for name in names {
            let arn = format!("arn:aws:ecr:{}:{}:repository/{name}", wire::REGION, self.arrived.account);
            if !known.iter().any(|repository| repository["repositoryName"] == name.as_str()) {
                failures.push(json!({ "repositoryName": name, "failureCode": "REPOSITORY_NOT_FOUND", "failureReason": "The repository does not exist" }));
                continue;
            }
            let frequency = state.frequencies.get(&(self.arrived.account.clone(), name.clone())).copied().unwrap_or(usual);
            found.push(json!({
                "repositoryArn": arn, "repositoryName": name, "scanOnPush": frequency == "SCAN_ON_PUSH", "scanFrequency": frequency,
                "appliedScanFilters": [{ "filter": "*", "filterType": "WILDCARD" }],
            }));
        }
        answer(200, &json!({ "scanningConfigurations": found, "failures": failures }))
    }
}

pub fn digest_of(manifest: &str) -> String {
    let hash = Sha256::digest(manifest.as_bytes());
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// One account's scripts, faults, calls and answers.
#[derive(Clone, Debug)]
pub struct Scans {
    plane: ScanPlane,
    account: String,
}

impl Scans {
    /// Where the functions and the CLI find it.
    pub fn origin(&self) -> &str {
        self.plane.origin()
    }

    /// How the registry scans; basic unless told.
    pub fn registry(&self, registry: Registry) {
        self.plane.state().registries.insert(self.account.clone(), registry);
    }

    /// The effective frequency of a repository: SCAN_ON_PUSH, CONTINUOUS_SCAN or MANUAL.
    pub fn frequency(&self, repository: &str, frequency: &'static str) {
        self.plane.state().frequencies.insert((self.account.clone(), repository.to_owned()), frequency);
    }

    fn script(&self, image: &Scanned, change: impl FnOnce(&mut Script)) {
        change(self.plane.state().scripts.entry(image.clone()).or_default());
    }

    /// What the next reads of this image's scan are told, in order; the last one stays. Replaces what was said before.
    pub fn say(&self, image: &Scanned, answers: impl IntoIterator<Item = Scan>) {
        self.script(image, |script| (script.answers, script.at) = (answers.into_iter().collect(), None));
    }

    /// The same, from the moment at which somebody starts a scan; until then there is none.
    pub fn say_after_start(&self, image: &Scanned, answers: impl IntoIterator<Item = Scan>) {
        self.script(image, |script| script.after_start = Some(answers.into_iter().collect()));
    }

    /// StartImageScan is refused: scanned within the last 24 hours.
    pub fn scanned_lately(&self, image: &Scanned) {
        self.script(image, |script| script.scanned_lately = true);
    }

    pub fn coverage(&self, image: &Scanned, answers: impl IntoIterator<Item = Coverage>) {
        self.script(image, |script| (script.coverage, script.coverage_at) = (answers.into_iter().collect(), 0));
    }

    pub fn pushed_at(&self, image: &Scanned, at: Timestamp) {
        self.script(image, |script| script.pushed_at = Some(at));
    }

    /// Keeps a blob under its digest; says the digest.
    pub fn keep_blob(&self, content: &[u8]) -> String {
        let digest = ecr_scan_verifier::domain::image::ImageDigest::of(content).to_string();
        self.give_for_blob(&digest, content);
        digest
    }

    /// What is given out for a blob from now on, whatever its digest says.
    pub fn give_for_blob(&self, digest: &str, content: &[u8]) {
        self.plane.state().blobs.insert((self.account.clone(), digest.to_owned()), Bytes::copy_from_slice(content));
    }

    /// AWS Signer revokes a job, a profile's version or a certificate.
    pub fn revoke(&self, entity: &str) {
        self.plane.state().revoked.insert((self.account.clone(), entity.to_owned()));
    }

    /// From now on messages that a function delays, and those it puts back, come after a second. What it asked for is in `calls`.
    pub fn hurry(&self) {
        self.plane.state().in_a_hurry.insert(self.account.clone());
    }

    /// A fault for, or a hold on, calls of this operation: `on("PutItem").with(digest).meets(Fault::Throttle)`.
    pub fn on(&self, operation: &'static str) -> On {
        self.plane.0.rules.on(&self.account, operation)
    }

    /// Calls so far, oldest first.
    pub fn calls(&self, operation: &str) -> Vec<Call> {
        self.all_calls().into_iter().filter(|call| call.operation == operation).collect()
    }

    pub fn all_calls(&self) -> Vec<Call> {
        self.plane.state().calls.iter().filter(|call| call.account == self.account).cloned().collect()
    }

    /// What CloudFormation, or a test in its name, asked of functions.
    pub fn requests(&self) -> Vec<Asked> {
        self.plane.state().answers.requests(&self.account)
    }

    /// The secret keys and session tokens that were given out to functions, or used by them.
    pub fn secrets(&self) -> Vec<String> {
        self.plane.state().secrets.get(&self.account).into_iter().flatten().cloned().collect()
    }

    pub fn answers(&self) -> Vec<Answer> {
        self.plane.state().answers.answers(&self.account)
    }

    pub fn take_violations(&self) -> Vec<String> {
        self.plane.state().answers.take_violations(&self.account)
    }

    /// Makes a request known, so that an answer to it can be checked; returns it with its ResponseURL.
    pub fn expect_answer(&self, mut request: Value) -> Asked {
        let token = request["RequestId"].as_str().expect("a RequestId").to_owned();
        let signed = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let signature = format!("{}{:016x}", canary::SIGNATURE, NEXT.fetch_add(1, Ordering::Relaxed));
        request["ResponseURL"] = json!(format!("{}/_plane/answer/{token}?X-Amz-Date={signed}&X-Amz-Signature={signature}", self.plane.origin()));
        let asked = Asked::new(request);
        self.plane.state().answers.asked(asked.clone());
        asked
    }

    /// The answer to this request, once it is there.
    pub async fn answer_to(&self, asked: &Asked, within: Duration) -> Answer {
        let until = Instant::now() + within;
        loop {
            let wrong = self.take_violations();
            assert!(wrong.is_empty(), "a wrong answer:\n{}", wrong.join("\n"));
            if let Some(answer) = self.answers().into_iter().find(|answer| answer.asked.token == asked.token) {
                return answer;
            }
            assert!(Instant::now() < until, "no answer within {within:?} to {:#}", asked.request);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
