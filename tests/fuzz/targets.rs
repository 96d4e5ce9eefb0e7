//! What is done with bytes from outside, one function a target: they go in by the door that production uses, and whatever comes out has
//! to keep its promise. Two drive them: libFuzzer (`fuzz_targets/`), which makes the bytes up, and `tests/rules/fuzzed.rs`, which has kept some.
//!
//! Nothing here may panic by itself on any input: a panic is a finding.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ecr_scan_verifier::cli::Format;
use ecr_scan_verifier::cli::judge::judge_file;
use ecr_scan_verifier::cli::named::Named;
use ecr_scan_verifier::cli::read_event;
use ecr_scan_verifier::domain::alert::AlertOptions;
use ecr_scan_verifier::domain::finding::{Counts, Rating};
use ecr_scan_verifier::domain::image::{ImageDigest, ImageRef, Repository, sha256_hex};
use ecr_scan_verifier::domain::judge::judge;
use ecr_scan_verifier::domain::manifest::{self, Manifest};
use ecr_scan_verifier::domain::page;
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::request::{ANSWER_BYTES, Answer, Data, Named as NamedInTemplate, Reason, Request, RequestKind, Ruling, physical_id};
use ecr_scan_verifier::domain::response_url::{ResponseUrl, is_of_s3, plain_host};
use ecr_scan_verifier::domain::scan::{self, Answered, Facts, FactsHash, Report, ScanSource, ScanState, Standing, leaves_open, understand};
use ecr_scan_verifier::domain::signature::artifact::{self, Found, FoundBy, Signature};
use ecr_scan_verifier::domain::signature::certificate::Certificate;
use ecr_scan_verifier::domain::signature::key::{Algorithm, CosignKey, Hash, PublicKey};
use ecr_scan_verifier::domain::signature::notation::{Scheme, Subject};
use ecr_scan_verifier::domain::signature::signer::{RevocationAnswer, certificate_hashes};
use ecr_scan_verifier::domain::signature::trust::{Root, Rule, Signer, Trust};
use ecr_scan_verifier::domain::signature::verdict::{By, Verdict};
use ecr_scan_verifier::domain::signature::verify::Verification;
use ecr_scan_verifier::domain::signature::{LARGEST_SIGNATURE, MOST_SIGNATURES, chain, say};
use ecr_scan_verifier::events::deployment::properties::{GateProperties, properties_hash};
use ecr_scan_verifier::events::deployment::{self, Kind};
use ecr_scan_verifier::events::{About, Event, read, read_body, read_slice, sqs, tick};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

const MANIFEST: &[u8] = include_bytes!("trust/manifest.json");
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const PROFILE: &str = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/web";
/// It is put where a secret belongs, and may come out nowhere.
const SECRET: &str = "X-Amz-Signature=5ec4e7-0f-nobody";
/// Where a sentence for people ends at the latest. Some lie in logs, and all fit into one answer.
const LONGEST_SENTENCE: usize = 2000;

fn now() -> Timestamp {
    "2026-11-24T09:00:00Z".parse().unwrap()
}

// Signatures.

/// A manifest about an image, a zero byte, and the blob that comes when its layers are fetched.
pub fn signature_manifest(bytes: &[u8]) {
    let (manifest, blob) = split(bytes, 0);
    let digest = ImageDigest::of(manifest);
    for by in [FoundBy::Tag, FoundBy::Referrer] {
        assert!(matches!(artifact::read(manifest, &ImageDigest::of(b"another"), by), Found::Unusable(_)), "another manifest than was asked for");
        match artifact::read(manifest, &digest, by) {
            Found::Wanted(all) => {
                assert!((1..=MOST_SIGNATURES).contains(&all.len()));
                for wanted in all {
                    assert!(wanted.size <= LARGEST_SIGNATURE as u64);
                    verify(wanted.holds(blob.to_vec()));
                }
            }
            Found::Unusable(signature) => assert!(!verify(signature)),
            Found::NotASignature => {}
        }
    }
}

/// The annotation with the signature, a new line, and the payload.
pub fn cosign_classic(bytes: &[u8]) {
    let (signature, payload) = split(bytes, b'\n');
    let annotations = BTreeMap::from([(SIGNATURE.to_owned(), String::from_utf8_lossy(signature).into_owned())]);
    verify(Signature::Cosign { payload: payload.to_vec(), annotations });
}

pub fn cosign_bundle(bytes: &[u8]) {
    verify(Signature::Bundle(bytes.to_vec()));
}

pub fn notation_jws(bytes: &[u8]) {
    verify(Signature::Jws(bytes.to_vec()));
}

pub fn notation_cose(bytes: &[u8]) {
    verify(Signature::Cose(bytes.to_vec()));
}

pub fn certificate(bytes: &[u8]) {
    let root = Root::from_der(bytes);
    match Certificate::read(bytes) {
        Ok(certificate) => {
            assert!(root.is_ok_and(|root| root.is(&certificate)));
            assert_eq!(certificate.fingerprint(), sha256_hex(bytes));
            assert!(!certificate.describe().contains(char::is_control));
            assert!(Certificate::read(&[bytes, &[0]].concat()).is_err(), "something follows its end");
            certificate.signed(&certificate);
        }
        Err(error) => {
            assert!(root.is_err());
            is_a_sentence(&error.to_string());
        }
    }
}

/// Certificates as DER, one after the other, the signer's first.
pub fn certificate_chain(bytes: &[u8]) {
    let ders = one_after_the_other(bytes);
    let Ok(certificates) = chain::read(&ders) else { return };
    let hangs_together = chain::check(&certificates);
    if hangs_together.is_ok() {
        assert!(certificates.windows(2).all(|pair| pair[1].signed(&pair[0]) && pair[0].issuer == pair[1].subject));
        assert!(certificates.last().is_some_and(|root| root.signed(root)));
    }
    if chain::valid_at(&certificates, now()).is_ok() {
        assert!(certificates.iter().all(|certificate| (certificate.not_before..=certificate.not_after).contains(&now())));
    }
    assert_eq!(certificate_hashes(&ders).map(|hashes| hashes.len()), Ok(ders.len()));
}

/// As KMS gives it.
pub fn public_key(bytes: &[u8]) {
    let names = ["ECDSA_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_512", "ED25519_SHA_512", "RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PSS_SHA_512", "SM2DSA"];
    match CosignKey::from_kms(bytes, &names) {
        Ok(key) => {
            assert_eq!(key.key.id.0, sha256_hex(bytes));
            assert_eq!(STANDARD.decode(key.hint()).map(|digest| digest.len()), Ok(32));
            assert_eq!(PublicKey::from_der(bytes), Ok(key.key.clone()));
            for how in [Algorithm::Ecdsa(Hash::Sha256), Algorithm::EcdsaFixed(Hash::Sha512), Algorithm::RsaPss(Hash::Sha256), Algorithm::Ed25519] {
                key.key.signed(how, b"a message", bytes);
            }
        }
        Err(error) => is_a_sentence(&error.to_string()),
    }
}

/// As in a template, or a file of `--key`.
pub fn pem_key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match CosignKey::from_pem(text) {
        Ok(key) => assert!(!key.algorithms.is_empty()),
        Err(error) => is_a_sentence(&error.to_string()),
    }
}

/// As in a template, or a file of `--trusted-root`.
pub fn trusted_roots(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Root::from_pem(text) {
        Ok(roots) => assert!(!roots.is_empty()),
        Err(error) => is_a_sentence(&error.to_string()),
    }
}

/// The identities of AWS Signer that a template trusts, one a line.
pub fn signer_profiles(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let identities: Vec<String> = text.lines().map(str::to_owned).collect();
    match Signer::aws_signer("AWS Signer", "aws", &identities, &[]) {
        Ok(_) => assert!(!identities.iter().any(|one| one.trim() == "*"), "anybody is nobody to trust"),
        Err(error) => is_a_sentence(&error.to_string()),
    }
}

// Images.

/// A manifest as ECR gives it, under what ECR may call it.
pub fn image_manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for word in [None, Some(MANIFEST_TYPE), Some("application/vnd.docker.distribution.manifest.list.v2+json"), Some("text/plain")] {
        if let Ok(Manifest::Index(entries)) = manifest::read(text, word) {
            assert!(entries.iter().all(|entry| entry.digest.as_str().parse() == Ok(entry.digest.clone())));
            assert!(text.contains("manifests") || text.contains('\\') || entries.is_empty(), "images that nobody named");
        }
    }
    let tags = [text.to_owned()];
    if manifest::subject_of_tag(text).is_some() {
        assert!(!manifest::may_be_an_image(&tags, Some(MANIFEST_TYPE), None), "a signature is no image");
    }
    if manifest::is_plainly_an_image(&tags, Some(text), Some(text)) {
        assert!(manifest::may_be_an_image(&tags, Some(text), Some(text)));
    }
}

/// An image as a person types it.
pub fn named_image(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(named) = Named::parse(text) {
        assert!(named.repository.as_ref().is_none_or(|name| !name.is_empty()));
        assert_eq!(ImageRef::parse(&named.image.to_string()).is_ok(), !matches!(&named.image, ImageRef::Tag(tag) if tag.starts_with("sha256:")));
    }
    if let Ok(repository) = text.parse::<Repository>() {
        assert_eq!(repository.arn(), text);
        let digest = ImageDigest::of(bytes);
        assert_eq!(Repository::and_digest(&repository.image_arn(&digest)), Some((repository, digest)));
    }
}

// Events.

/// An event of ECR, through the door of every function.
pub fn ecr_event(bytes: &[u8]) {
    event(bytes);
}

/// An event of Inspector, through the same door.
pub fn inspector_event(bytes: &[u8]) {
    event(bytes);
}

fn event(bytes: &[u8]) {
    let event = match read_slice(bytes) {
        Ok(event) => event,
        Err(error) => return is_a_sentence(&error.to_string()),
    };
    if let Some(About { digest, repository, .. }) = event.about() {
        assert_eq!(digest.as_str().parse(), Ok(digest.clone()));
        assert!(event.home().is_some_and(|home| home == (&repository.account, &repository.region)));
        // An account that was blotted out is another account's, and no ARN that we would ask anybody about.
        assert!(
            repository.arn().parse::<Repository>().is_ok_and(|read| read == *repository)
                || repository.account.parse::<u64>().is_err()
                || repository.account.len() != 12
        );
    }
    if let Event::Ignored { why, .. } = &event {
        is_a_sentence(why);
    }
}

/// A request of CloudFormation, up to the answer that a refusal would get.
pub fn deployment(bytes: &[u8]) {
    let Ok(Value::Object(mut members)) = serde_json::from_slice(bytes) else { return };
    if members.contains_key("ResponseURL") {
        let url = format!("https://cloudformation-custom-resource-response-euwest1.s3.eu-west-1.amazonaws.com/x?{SECRET}");
        members.insert("ResponseURL".to_owned(), url.into());
    }
    let event = Value::Object(members);
    let Ok(Event::DeploymentRequested(request)) = read(&event) else { return };
    assert!(!format!("{request:?}").contains(SECRET));
    // One without a place for an answer has none that could be wrong.
    assert_eq!(request.answer_to(None).is_ok(), request.response_url.is_some());
    let glance = request.glance();
    let refusal = match request.gate() {
        Ok(gate) => {
            is_a_gate(&gate);
            format!("{gate:?}")
        }
        Err(error) => error.to_string(),
    };
    let named = NamedInTemplate { repository: glance.repository.unwrap_or_default(), image: request.property("imageTag").unwrap_or_default().to_owned() };
    answers_fit(&asked(&request, named), &refusal);
}

/// As `handlers/deploy.rs` has it, which needs more than the pure part.
fn asked(request: &deployment::Request, named: NamedInTemplate) -> Request {
    let addr = request.properties.get("addr").and_then(Value::as_str);
    Request {
        kind: RequestKind::Create,
        request_id: request.request_id.clone(),
        stack_id: request.stack_id.clone(),
        logical_id: request.logical_id.clone(),
        physical_id: physical_id(addr, &request.stack_id, &request.logical_id),
        properties_hash: properties_hash(&request.properties),
        old_properties_hash: if let Kind::Update { old_properties } = &request.kind { Some(properties_hash(old_properties)) } else { None },
        asked_at: now(),
        gate: Err(String::new()),
        named,
    }
}

/// CloudFormation takes no more, and waits for an hour where it was given more.
fn answers_fit(request: &Request, refusal: &str) {
    // These three are CloudFormation's own, and it keeps them short.
    if [&request.stack_id, &request.request_id, &request.logical_id].iter().map(|id| json_len(id)).sum::<usize>() > 1500 {
        return;
    }
    let list = refusal.split(' ').map(str::to_owned).collect();
    let reason = Reason { opening: refusal.to_owned(), list, of: u64::MAX, closing: refusal.to_owned() };
    for ruling in [Ruling::Failed(reason), Ruling::Success(None), Ruling::Success(Some(Data::unknown_image(&request.named, None)))] {
        let answer = Answer::new(request, &ruling);
        assert!(answer.as_str().len() <= ANSWER_BYTES, "{} bytes", answer.as_str().len());
        let body: Value = serde_json::from_str(answer.as_str()).expect("an answer is JSON");
        assert_eq!(body["RequestId"], request.request_id.as_str());
        assert_eq!(answer.reason().is_some(), matches!(ruling, Ruling::Failed(_)));
    }
}

/// What a template or a `check` says of a gate.
pub fn gate_properties(bytes: &[u8]) {
    let Ok(Value::Object(properties)) = serde_json::from_slice::<Value>(bytes) else { return };
    let turned: Map<String, Value> = properties.iter().rev().map(|(name, value)| (name.clone(), value.clone())).collect();
    assert_eq!(properties_hash(&properties), properties_hash(&turned));
    let Ok(Event::CheckRequested(check)) = read(&json!({ "check": properties })) else { panic!("an object is a check") };
    assert_eq!(check.gate(), GateProperties::parse(&properties));
    check.image();
    match check.gate() {
        Ok(gate) => is_a_gate(&gate),
        Err(error) => drop(error.to_string()),
    }
}

fn is_a_gate(gate: &GateProperties) {
    has_one_text(&gate.policy);
    assert!((1..=3480).contains(&gate.polling_timeout_s), "it would outlast CloudFormation's patience");
    assert!(gate.repository.as_ref().is_none_or(|repository| repository.name == gate.repository_name));
    if let (ImageRef::Digest(named), Some(known)) = (&gate.image, &gate.image_digest) {
        assert_eq!(named, known);
    }
    assert!(gate.outputs.as_ref().is_none_or(|outputs| outputs.role_arn.contains(":role/ecr-scan-verifier/")), "a role that on-scan could not take over");
}

/// Our own message to ourselves.
pub fn own_message(bytes: &[u8]) {
    if let Ok(Event::Ours(ours)) = read_slice(bytes) {
        assert_eq!(read_slice(ours.to_json().as_bytes()), Ok(Event::Ours(ours)));
    }
}

/// The body of a message in a queue, and what is shown of it.
pub fn queue_message(bytes: &[u8]) {
    if let Ok(event) = read_body(bytes) {
        assert!(!matches!(event, Event::DeploymentGivenUp { .. }) || read_slice(bytes).is_err(), "a record of a failure is no request");
    }
    let (kind, _) = read_event::kind_and_subject(bytes);
    assert_eq!(kind == "unreadable", read_body(bytes).is_err());
}

/// What wakes on-sweep.
pub fn sweep_tick(bytes: &[u8]) {
    let Ok(event) = serde_json::from_slice::<Value>(bytes) else { return };
    match tick::read(&event) {
        Ok(tick::Tick::Backfill(request)) => assert_eq!(request.resource_type, tick::BACKFILL),
        Ok(tick::Tick::Minute | tick::Tick::Day) => assert!(event.get("RequestType").is_none_or(Value::is_null), "CloudFormation waits for an answer"),
        Err(error) => is_a_sentence(&error.to_string()),
    }
}

/// A file of `read-event`: one event, or a queue's batch.
pub fn saved_event(bytes: &[u8]) {
    for as_json in [false, true] {
        let outcome = read_event::read_event(bytes, as_json);
        assert_eq!(outcome.exit == 0, outcome.stderr.is_empty());
        assert!(!outcome.stdout.is_empty() || outcome.exit == 1);
        assert!(!as_json || outcome.stdout.is_empty() || serde_json::from_str::<Value>(&outcome.stdout).is_ok());
    }
    let Ok(input) = serde_json::from_slice(bytes) else { return };
    if let Some(Ok(events)) = sqs::read_batch(&input) {
        assert_eq!(Some(events.len()), input["Records"].as_array().map(Vec::len), "a message is lost");
    }
}

/// Where CloudFormation, or S3, wants something sent, or fetched.
pub fn response_url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let url = ResponseUrl::from(text.to_owned());
    assert_eq!(format!("{url:?}"), "ResponseUrl(***)");
    url.signed_at();
    url.is_of_another_region("eu-west-1");
    match url.check(None) {
        Ok(()) => {
            let rest = text.strip_prefix("https://cloudformation-custom-resource-response-").expect("CloudFormation's own bucket");
            let host = &rest[..rest.find(['/', '?', ':']).unwrap_or(rest.len())];
            assert!(host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-'), "{host}");
            assert!([".amazonaws.com", ".amazonaws.com.cn", ".gov", ".uk", ".amazonaws.eu"].iter().any(|end| host.ends_with(end)), "{host}");
            assert!(!text.contains(['@', '#', '\\', ' ']) || text[text.find('/').unwrap_or(0)..].contains('@'));
            assert!(url.host().is_some_and(is_of_s3));
        }
        Err(error) => assert!(text.len() < 20 || !error.to_string().contains(text)),
    }
    if let Ok(Some(host)) = plain_host(text, None)
        && is_of_s3(host)
    {
        assert!(text.starts_with("https://") && !host.contains(['@', '/', '\\', ':']));
    }
}

// Policies, findings, options.

/// A policy as JSON, or the canonical text that is stored.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Policy::parse(text) {
        Ok(policy) => {
            has_one_text(&policy);
            judges(&policy);
        }
        Err(error) => drop(error.to_string()),
    }
}

fn has_one_text(policy: &Policy) {
    let text = policy.canonical();
    let read = Policy::parse(&text).expect("the text of a policy is a policy");
    assert_eq!((&read, read.canonical(), read.hash()), (policy, text, policy.hash()));
}

/// What always blocks does, whatever else the policy says.
fn judges(policy: &Policy) {
    use ecr_scan_verifier::domain::finding::{Finding, Rating};
    let findings: Vec<Finding> = policy.block_always.iter().take(3).map(|id| Finding::new(id, Rating::Undefined)).collect();
    assert_eq!(judge(&findings, policy, "team/app", now()).blocks(), !findings.is_empty());
}

/// Findings as they are stored.
pub fn stored_facts(bytes: &[u8]) {
    assert!(Facts::from_bytes(bytes, &FactsHash::from(sha256_hex(b"others"))).is_err());
    let Ok(facts) = Facts::from_bytes(bytes, &FactsHash::from(sha256_hex(bytes))) else { return };
    let mut written = Vec::new();
    facts.write_to(&mut written).expect("memory takes everything");
    let again = Facts::from_bytes(&written, &FactsHash::from(sha256_hex(&written))).expect("what was written can be read");
    assert_eq!(again.findings(), facts.findings());
    let counts = Counts::of(facts.findings());
    assert_eq!(counts.total(), facts.findings().len() as u64);
    for policy in policies() {
        let judgement = judge(facts.findings(), &policy, "team/app", now());
        assert!(!judgement.blocks() || facts.findings().iter().any(|finding| finding.counts()), "nothing blocks that nobody found");
    }
}

/// A page of findings, as ECR sends it; beside it another reader that keeps everything.
pub fn findings_page(bytes: &[u8]) {
    let (Ok(page), Ok(whole)) = (page::read(bytes), serde_json::from_slice::<Value>(bytes)) else { return };
    let listed = |list: &str| whole["imageScanFindings"][list].as_array().map(Vec::as_slice).unwrap_or_default();
    let all = listed("enhancedFindings").iter().chain(listed("findings"));
    let ratings: Vec<Rating> = all.map(|finding| Rating::parse(finding["severity"].as_str())).collect();
    assert!(page.report.findings.iter().map(|finding| &finding.severity).eq(&ratings), "a finding is lost, or less than it was");
    assert_eq!(page.report.more, page.next.is_some());
    keeps_its_promises(&page.report);
}

/// The scanner's answer about an image.
pub fn scan_report(bytes: &[u8]) {
    if let Ok(report) = serde_json::from_slice::<Report>(bytes) {
        keeps_its_promises(&report);
    }
}

fn keeps_its_promises(report: &Report) {
    for source in [ScanSource::Basic, ScanSource::Enhanced] {
        let what = Answered::Findings(report.clone());
        leaves_open(source, &what);
        if let Some(counts) = &report.stated_counts {
            // Of what is stated nothing is left out; too large to be a number is still a lot.
            assert!(counts.total() > 0 || counts.is_empty());
            assert!(policies().iter().all(|policy| policy.blocking_in(counts) <= counts.total()));
        }
        let reading = understand(scan::Answer { source, what, coverage: None, pushed_at: None, read_at: now() });
        assert!(!reading.state.word().is_empty() || matches!(reading.state, ScanState::Unknown(_)));
        if reading.state.standing() == Standing::Complete {
            assert!(report.listed && !report.more && report.completed_at.is_some(), "half an answer is no result");
            assert!(matches!(report.status.as_deref(), Some("COMPLETE" | "ACTIVE")));
            assert!(!reading.counts_disagree());
            assert_eq!(reading.facts.map(|facts| facts.findings().len()), Some(report.findings.len()), "a finding is lost");
        }
    }
    if let Ok(both) = report.clone().followed_by(report.clone()) {
        assert_eq!(both.findings.len(), 2 * report.findings.len());
    }
}

/// A file of `judge`.
pub fn findings_file(bytes: &[u8]) {
    for policy in policies() {
        let [text, json] = [Format::Text, Format::Json].map(|format| judge_file(bytes, &policy, "team/app", now(), format));
        assert_eq!((text.exit, &text.stderr), (json.exit, &json.stderr));
        match text.exit {
            1 => assert!(text.stdout.is_empty() && !text.stderr.is_empty()),
            0 | 2 | 3 => {
                let report: Value = serde_json::from_str(&json.stdout).expect("a report is JSON");
                assert_eq!(report["verdict"] == "PASS", text.exit == 0);
                assert_eq!(report["scanState"] == "COMPLETE", text.exit == 0 || text.exit == 2 && report["scanState"] == "COMPLETE");
            }
            other => panic!("exit code {other} is not defined"),
        }
    }
}

fn policies() -> [Policy; 3] {
    [
        r#"{}"#,
        r#"{"severityThreshold":"LOW","ignoreFindings":["CVE-1"],"maxFindings":{"LOW":2},"exemptions":[{"id":"CVE-2","reason":"x","until":"2027-01-01"}]}"#,
        r#"{"severity":["HIGH","UNDEFINED"],"ignoreUnfixed":true,"graceDays":7,"exploit":{"epss":0.1,"exploitAvailable":true}}"#,
    ]
    .map(|text| Policy::parse(text).unwrap())
}

/// What the pipeline is told about alerts.
pub fn alert_options(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if AlertOptions::parse(text).is_ok() {
        assert!(matches!(serde_json::from_str(text), Ok(Value::Object(_) | Value::Array(_))));
    }
}

// What several of them need.

/// Everybody who has made a seed, any of whom would do; AWS Signer has revoked nothing. Whether that verifies it.
pub fn verify(signature: Signature) -> bool {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    let trust = TRUST.get_or_init(|| {
        let roots = |pem| Root::from_pem(pem).unwrap();
        let end = "-----END PUBLIC KEY-----\n";
        let keys = include_str!("trust/cosign.pem").split_inclusive(end).map(|pem| Signer::cosign("Cosign", CosignKey::from_pem(pem).unwrap()));
        let mut signers: Vec<Signer> = keys.collect();
        signers.push(Signer::authority("ours", Scheme::X509, roots(include_str!("trust/signers.pem"))).unwrap());
        signers.push(Signer::authority("an authority", Scheme::SigningAuthority, roots(include_str!("trust/authority.pem"))).unwrap());
        signers.push(Signer::aws_signer("AWS Signer", "aws", &[PROFILE.to_owned()], &roots(include_str!("trust/aws_signer.pem"))).unwrap());
        Trust::new(Rule::AnyOf, signers).unwrap()
    });
    let subject = Subject::of(MANIFEST, MANIFEST_TYPE);
    let is_by_aws_signer = |verdict: &Verdict| matches!(verdict, Verdict::Verified(all) if all.iter().any(|one| matches!(one.by, By::Profile { .. })));
    let mut verification = Verification::begin(trust, &subject, std::slice::from_ref(&signature), now());
    assert!(!is_by_aws_signer(&verification.verdict()), "AWS Signer has the last word");
    while verification.question().is_some() {
        verification.hear(RevocationAnswer::Revoked(Vec::new()));
    }
    let verdict = verification.verdict();
    if verdict.is_verified() {
        assert!(is_about(&signature, &subject.digest), "verified, and about something else");
    }
    is_said(&verdict);
    verdict.is_verified()
}

fn is_said(verdict: &Verdict) {
    let said = say::verdict("team/app@sha256:0", verdict);
    let signers = said.lines().count();
    assert!(said.len() <= signers.max(1) * LONGEST_SENTENCE, "{} bytes", said.len());
    let kept = serde_json::to_string(verdict).expect("a verdict can be kept");
    assert_eq!(serde_json::from_str::<Verdict>(&kept).expect("and read"), *verdict);
}

/// Whether the signed part names this image, as another reader would find it.
fn is_about(signature: &Signature, digest: &ImageDigest) -> bool {
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let named = |payload: Value| payload["targetArtifact"]["digest"] == digest.as_str();
    match signature {
        Signature::Cosign { payload, .. } => json(payload)["critical"]["image"]["docker-manifest-digest"] == digest.as_str(),
        Signature::Bundle(bytes) => {
            let statement = json(&STANDARD.decode(json(bytes)["dsseEnvelope"]["payload"].as_str().unwrap_or_default()).unwrap_or_default());
            let subjects = statement["subject"].as_array().cloned().unwrap_or_default();
            subjects.iter().any(|subject| subject["digest"]["sha256"].as_str().is_some_and(|hex| digest.as_str().strip_prefix("sha256:") == Some(hex)))
        }
        Signature::Jws(bytes) => named(json(&URL_SAFE_NO_PAD.decode(json(bytes)["payload"].as_str().unwrap_or_default()).unwrap_or_default())),
        Signature::Cose(bytes) => bytes.windows(digest.as_str().len()).any(|part| part == digest.as_str().as_bytes()),
        Signature::Unusable { .. } => false,
    }
}

fn is_a_sentence(text: &str) {
    assert!(!text.is_empty() && text.len() <= LONGEST_SENTENCE, "{} bytes", text.len());
}

fn split(bytes: &[u8], at: u8) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == at).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

/// Takes values of DER apart by the two bytes of their length, which all certificates have; what is left over is the last one.
fn one_after_the_other(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let [0x30, 0x82, high, low, ..] = bytes {
        let end = 4 + usize::from(u16::from_be_bytes([*high, *low]));
        let Some((one, rest)) = bytes.split_at_checked(end) else { break };
        all.push(one.to_vec());
        bytes = rest;
    }
    if !bytes.is_empty() {
        all.push(bytes.to_vec());
    }
    all
}

fn json_len(text: &str) -> usize {
    Value::from(text).to_string().len()
}

/// A target: bytes in, a panic where a promise was broken.
pub type Target = fn(&[u8]);

macro_rules! all {
    ($($name:ident),+ $(,)?) => {
        /// By name, as their folders of seeds and their files in `fuzz_targets/` are called.
        pub const ALL: &[(&str, Target)] = &[$((stringify!($name), $name)),+];
    };
}

all![
    alert_options,
    certificate,
    certificate_chain,
    cosign_bundle,
    cosign_classic,
    deployment,
    ecr_event,
    findings_file,
    findings_page,
    gate_properties,
    image_manifest,
    inspector_event,
    named_image,
    notation_cose,
    notation_jws,
    own_message,
    pem_key,
    policy,
    public_key,
    queue_message,
    response_url,
    saved_event,
    scan_report,
    signature_manifest,
    signer_profiles,
    stored_facts,
    sweep_tick,
    trusted_roots,
];
