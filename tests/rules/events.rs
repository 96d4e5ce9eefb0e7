//! Every file in `events/` is read as what its name promises, nothing that is malformed is read as anything, and no input
//! makes us panic or print a ResponseURL.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use ecr_scan_verifier::cli::read_event::{kind_and_subject, read_event};
use ecr_scan_verifier::domain::image::{ImageDigest, ImageRef, Repository};
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::request::{AskedScan, OnBlock, OnUnscanned};
use ecr_scan_verifier::domain::response_url::ResponseUrl;
use ecr_scan_verifier::events::check::Check;
use ecr_scan_verifier::events::deployment::properties::{GateProperties, properties_hash};
use ecr_scan_verifier::events::deployment::{Kind, Request};
use ecr_scan_verifier::events::ours::Ours;
use ecr_scan_verifier::events::{About, Counts, Event, Manifest, UnreadableEvent, read, read_slice, sqs};
use proptest::prelude::*;
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/events");

const APP: &str = "sha256:5c5100a3fff8617e2ef03b67c05c43c1378b868ca47b805ad55023fd087e479a";
const OLD_APP: &str = "sha256:953a77a33290ca5cdf0ddeb5875305cc792cf107197d687cf35b01b6ef575bd3";
const DOCKER_APP: &str = "sha256:3b004c01c88df8c2d523602531948e52351cd28cc9ee6e527228d6e1ec02fa6c";
const INDEX: &str = "sha256:9555f244c96cff1d2aaeec43cc6bb226d166a5642c92c485570cd0c73a3487fb";
const CHILD: &str = "sha256:d0b54e459701b063701821bf1f8209f55087d3a5e261484a25ae5ef2bbc15aa1";
const ATTESTATION_CHILD: &str = "sha256:813a89a296973e35545cfa74fe3efd172a7d19443c97c625d699e9737229b0a2";
const COSIGN: &str = "sha256:dc00e6bc915e6c7a6528a95ff95bac41a355c5676499f885a44935f2c65aca3b";
const NOTATION: &str = "sha256:2c32c63bd13e1d5bc52f86dc4d39de79f8fcba50c261b9e616b0d53ec63c6e23";
const BUNDLE: &str = "sha256:e0e620ef1c1ae6a346ae4f0df6d3b8adb1c69534b19cbe52feeb00dc2614c73f";
const CHART: &str = "sha256:13970d477f4fec646960d8d71b42d27acf932ce9b4688ceb6396861912ab35b0";
const ADDR: &str = "c8f2a5b1d3e4f60718293a4b5c6d7e8f9012345678";

/// What a file in `events/` holds.
enum Holds {
    This(Box<Event>),
    /// Ignored, for a reason that holds these words.
    Ignored(&'static str),
    /// Unreadable, with a complaint that holds these words.
    Unreadable(&'static str),
    /// A queue's batch.
    Batch(Vec<Holds>),
    /// A request, and what its gate asks for or why it is refused.
    Request(Box<dyn Fn(&Request)>),
    /// A question asked directly, and what its gate asks for or why it is refused.
    Check(Box<dyn Fn(&Check)>),
}
use Holds::{Batch, Ignored, This, Unreadable};

fn about(digest: &str, tags: &[&str]) -> About {
    About {
        digest: digest.parse().unwrap(),
        repository: "arn:aws:ecr:eu-west-1:123456789012:repository/team/web-app".parse().unwrap(),
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        at: Some("2026-03-14T09:26:53Z".parse().unwrap()),
    }
}

fn this(event: Event) -> Holds {
    This(Box::new(event))
}

fn in_repository(arn: &str, about: About) -> About {
    About { repository: arn.parse().unwrap(), ..about }
}

fn pushed(about: About, manifest: Manifest) -> Holds {
    this(Event::ImagePushed { about, manifest })
}

fn artifact(about: About, subject: Option<&str>, media_type: Option<&str>) -> Holds {
    this(Event::ArtifactPushed { about, subject: subject.map(digest), media_type: media_type.map(str::to_owned) })
}

fn basic(about: About, status: &str, counts: Option<&[(&str, u64)]>) -> Holds {
    this(Event::BasicScanEnded { about, status: status.into(), counts: counts.map(by_severity) })
}

fn enhanced(about: About, counts: &[(&str, u64)]) -> Holds {
    this(Event::EnhancedScanEnded { about, status: "INITIAL_SCAN_COMPLETE".into(), counts: Some(by_severity(counts)) })
}

fn finding(about: About, status: &str, severity: &str, id: &str, vulnerability: &str) -> Holds {
    let finding = format!("arn:aws:inspector2:eu-west-1:123456789012:finding/{id}");
    this(Event::FindingChanged { about, finding, status: status.into(), severity: Some(severity.into()), vulnerability: Some(vulnerability.into()) })
}

fn coverage(status: &str, reason: &str) -> Holds {
    this(Event::CoverageChanged { about: about(APP, &[]), status: status.into(), reason: Some(reason.into()) })
}

fn request(check: impl Fn(&Request) + 'static) -> Holds {
    Holds::Request(Box::new(check))
}

fn check(check: impl Fn(&Check) + 'static) -> Holds {
    Holds::Check(Box::new(check))
}

/// CloudFormation makes text of numbers and booleans, wherever they stand.
fn as_cloudformation(value: &Value) -> Value {
    match value {
        Value::Bool(_) | Value::Number(_) => Value::String(value.to_string()),
        Value::Array(list) => list.iter().map(as_cloudformation).collect(),
        Value::Object(members) => Value::Object(members.iter().map(|(name, value)| (name.clone(), as_cloudformation(value))).collect()),
        Value::String(_) | Value::Null => value.clone(),
    }
}

fn members(words: &[&str]) -> Policy {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Policy::from_words(Some(&words), None, []).unwrap()
}

fn by_severity(counts: &[(&str, u64)]) -> Counts {
    counts.iter().map(|&(severity, n)| (severity.to_owned(), n)).collect()
}

fn digest(text: &str) -> ImageDigest {
    text.parse().unwrap()
}

/// The gate that most of the sample requests ask for.
fn gate(tag: &str, digest_at_synth: Option<&str>) -> GateProperties {
    GateProperties {
        signatures: None,
        repository_name: "team/web-app".into(),
        repository: Some(about(APP, &[]).repository),
        image: ImageRef::parse(tag).unwrap(),
        image_digest: digest_at_synth.map(digest),
        scan: AskedScan::Enhanced,
        policy: members(&["CRITICAL", "HIGH"]),
        platforms: vec![],
        max_scan_age_s: None,
        on_unscanned: OnUnscanned::Block,
        on_block: OnBlock::Fail,
        suppress_error_on_rollback: true,
        polling_timeout_s: 840,
        outputs: None,
    }
}

fn samples() -> BTreeMap<&'static str, Holds> {
    const IMAGE_CONFIG: Option<&str> = Some("application/vnd.oci.image.config.v1+json");
    const NOTARY: Option<&str> = Some("application/vnd.cncf.notary.signature");
    let tag_of = |kind: &str| format!("sha256-{}{kind}", &APP[7..]);
    let app = || about(APP, &["1.4.2"]);
    let neither = "neither an event with `detail-type`, nor a CloudFormation request, nor a `check`";
    let id = "c5a0d5a75889f353116863db75c7d657";
    BTreeMap::from([
        ("image-pushed.json", pushed(app(), Manifest::Image)),
        ("image-pushed-without-media-types.json", pushed(about(APP, &["latest"]), Manifest::NotSaid)),
        ("image-pushed-docker-v2.json", pushed(about(DOCKER_APP, &["1.4.2-docker"]), Manifest::Image)),
        ("image-pushed-index.json", pushed(about(INDEX, &["1.4.2"]), Manifest::Index)),
        ("image-pushed-untagged.json", pushed(about(CHILD, &[]), Manifest::Image)),
        ("image-pushed-without-tag-member.json", pushed(about(CHILD, &[]), Manifest::Image)),
        // Nothing in the event tells it from an image; its index does.
        ("image-pushed-attestation-child.json", pushed(about(ATTESTATION_CHILD, &[]), Manifest::Image)),
        ("image-pushed-in-china.json", pushed(in_repository("arn:aws-cn:ecr:cn-north-1:123456789012:repository/team/web-app", app()), Manifest::Image)),
        ("image-pushed-in-another-account.json", pushed(in_repository("arn:aws:ecr:eu-west-1:210987654321:repository/team/web-app", app()), Manifest::Image)),
        ("image-deleted.json", this(Event::ImageDeleted { about: app() })),
        ("image-archived.json", this(Event::ImageArchived { about: about(APP, &[]) })),
        ("image-restored.json", this(Event::ImageRestored { about: about(APP, &[]) })),
        ("image-replicated.json", this(Event::ImageReplicated { about: app() })),
        ("artifact-pushed-cosign-signature.json", artifact(about(COSIGN, &[&tag_of(".sig")]), Some(APP), IMAGE_CONFIG)),
        ("artifact-pushed-cosign-attestation.json", artifact(about(COSIGN, &[&tag_of(".att")]), Some(APP), IMAGE_CONFIG)),
        ("artifact-pushed-cosign-sbom.json", artifact(about(COSIGN, &[&tag_of(".sbom")]), Some(APP), IMAGE_CONFIG)),
        ("artifact-pushed-replicated-signature.json", artifact(about(COSIGN, &[&tag_of(".sig")]), Some(APP), None)),
        ("artifact-pushed-index-of-referrers.json", artifact(about(INDEX, &[&tag_of("")]), Some(APP), None)),
        ("artifact-pushed-notation-signature.json", artifact(about(NOTATION, &[]), None, NOTARY)),
        ("artifact-pushed-as-artifact-action.json", artifact(about(NOTATION, &[]), None, NOTARY)),
        ("artifact-pushed-as-referrer-action.json", artifact(about(NOTATION, &[]), None, NOTARY)),
        ("artifact-pushed-sigstore-bundle.json", artifact(about(BUNDLE, &[]), None, Some("application/vnd.dev.sigstore.bundle.v0.3+json"))),
        (
            "artifact-pushed-helm-chart.json",
            artifact(
                in_repository("arn:aws:ecr:eu-west-1:123456789012:repository/charts/web-app", about(CHART, &["0.3.0"])),
                None,
                Some("application/vnd.cncf.helm.config.v1+json"),
            ),
        ),
        ("basic-scan-complete-findings.json", basic(app(), "COMPLETE", Some(&[("CRITICAL", 10), ("MEDIUM", 9)]))),
        ("basic-scan-complete-no-findings.json", basic(app(), "COMPLETE", None)),
        ("basic-scan-complete-empty-counts.json", basic(app(), "COMPLETE", Some(&[]))),
        (
            "basic-scan-complete-all-severities.json",
            basic(
                about(APP, &["1.4.2", "latest"]),
                "COMPLETE",
                Some(&[("CRITICAL", 1), ("HIGH", 4), ("MEDIUM", 9), ("LOW", 21), ("INFORMATIONAL", 30), ("UNDEFINED", 2)]),
            ),
        ),
        ("basic-scan-complete-untagged.json", basic(about(CHILD, &[]), "COMPLETE", Some(&[("HIGH", 2)]))),
        ("basic-scan-failed.json", basic(app(), "FAILED", None)),
        ("enhanced-scan-complete-findings.json", enhanced(app(), &[("CRITICAL", 7), ("HIGH", 61), ("MEDIUM", 62), ("TOTAL", 158)])),
        ("enhanced-scan-complete-no-findings.json", enhanced(app(), &[("CRITICAL", 0), ("HIGH", 0), ("MEDIUM", 0), ("TOTAL", 0)])),
        ("enhanced-scan-complete-untagged-child.json", enhanced(about(CHILD, &[]), &[("CRITICAL", 0), ("HIGH", 2), ("MEDIUM", 3), ("TOTAL", 9)])),
        ("finding-active.json", finding(app(), "ACTIVE", "MEDIUM", id, "CVE-2026-10001")),
        ("finding-active-legacy-dates.json", finding(app(), "ACTIVE", "MEDIUM", id, "CVE-2026-10001")),
        (
            "finding-active-critical-exploit.json",
            finding(about(APP, &["1.4.2", "latest"]), "ACTIVE", "CRITICAL", "99ebb389e447aa3f532c2344094d1efd", "CVE-2026-10002"),
        ),
        ("finding-closed.json", finding(app(), "CLOSED", "MEDIUM", id, "CVE-2026-10001")),
        ("finding-suppressed.json", finding(app(), "SUPPRESSED", "MEDIUM", id, "CVE-2026-10001")),
        // The envelope is the administrator's, 123456789012; the image is the member's.
        (
            "finding-of-a-member-account.json",
            finding(in_repository("arn:aws:ecr:eu-west-1:210987654321:repository/team/web-app", app()), "ACTIVE", "MEDIUM", id, "CVE-2026-10001"),
        ),
        ("coverage-active.json", coverage("ACTIVE", "SUCCESSFUL")),
        ("coverage-pending.json", coverage("ACTIVE", "PENDING_INITIAL_SCAN")),
        ("coverage-inactive-image-archived.json", coverage("INACTIVE", "IMAGE_ARCHIVED")),
        ("coverage-inactive-image-size-exceeded.json", coverage("INACTIVE", "IMAGE_SIZE_EXCEEDED")),
        ("coverage-inactive-scan-eligibility-expired.json", coverage("INACTIVE", "SCAN_ELIGIBILITY_EXPIRED")),
        ("coverage-inactive-scan-frequency-scan-on-push.json", coverage("INACTIVE", "SCAN_FREQUENCY_SCAN_ON_PUSH")),
        ("coverage-inactive-unsupported-media-type.json", coverage("INACTIVE", "UNSUPPORTED_MEDIA_TYPE")),
        ("coverage-inactive-unsupported-os.json", coverage("INACTIVE", "UNSUPPORTED_OS")),
        ("ignored-push-failed.json", Ignored("its result is `FAILURE`")),
        ("ignored-signature-deleted.json", Ignored("a signature, attestation or another artifact was deleted")),
        ("ignored-signature-restored.json", Ignored("`UPDATE_STORAGE_CLASS` of a signature")),
        ("ignored-sbom-restored.json", Ignored("`UPDATE_STORAGE_CLASS` of a signature")),
        ("ignored-replication-failed.json", Ignored("its result is `FAILED`")),
        ("ignored-pull-through-cache-success.json", Ignored("a pull-through cache")),
        ("ignored-pull-through-cache-failed.json", Ignored("a pull-through cache")),
        ("ignored-scan-resource-change.json", Ignored("scan frequencies of repositories changed")),
        ("ignored-scan-of-an-ec2-instance.json", Ignored("a scan of `i-0a1b2c3d4e5f60718`")),
        ("ignored-scan-of-a-lambda-function.json", Ignored("a scan of `arn:aws:lambda:eu-west-1:123456789012:function:thumbnails:$LATEST`")),
        ("ignored-finding-on-an-ec2-instance.json", Ignored("type `AWS_EC2_INSTANCE`")),
        ("ignored-coverage-of-an-ec2-instance.json", Ignored("coverage of `i-0a1b2c3d4e5f60718`")),
        ("ignored-api-call.json", Ignored("`AWS API Call via CloudTrail` of aws.ecr")),
        ("ignored-event-of-another-source.json", Ignored("an event of `com.example.registry`")),
        (
            // The construct's tests hold the same file against what it synthesizes.
            "deploy-create.json",
            request(|request| {
                assert_eq!((&request.kind, request.resource_type.as_str()), (&Kind::Create, "Custom::EcrScanVerifier"));
                let gate = request.gate().unwrap();
                assert_eq!((gate.repository_name.as_str(), gate.image.to_string().as_str()), ("payments-api", "1.4.2"));
                assert_eq!(gate.policy, Policy { ignore_findings: ["CVE-2022-0563".to_owned()].into(), ..members(&["CRITICAL", "HIGH"]) });
            }),
        ),
        (
            "deploy-create-by-digest.json",
            request(|request| {
                assert_eq!((&request.kind, &request.physical_id), (&Kind::Create, &None));
                assert_eq!(request.gate().unwrap(), gate(APP, None));
                assert_eq!((request.request_id.as_str(), request.logical_id.as_str()), ("d9aa1057-73f6-480f-85bb-c2e932c60d6e", "WebAppGate"));
                assert_eq!(request.stack_id, "arn:aws:cloudformation:eu-west-1:123456789012:stack/web-app/8f9a1c20-1d2e-11f1-9a3b-0a1b2c3d4e5f");
                assert_eq!(request.home(), Some(("123456789012", "eu-west-1")));
                assert_eq!(signed(request), Some("2026-03-14T09:26:53Z".into()));
            }),
        ),
        (
            "deploy-create-basic-threshold.json",
            request(|request| {
                let expected = GateProperties {
                    scan: AskedScan::Basic { start_scan: true },
                    policy: Policy::from_words(None, Some("HIGH"), ["CVE-2026-10001".to_owned()]).unwrap(),
                    platforms: vec![],
                    max_scan_age_s: None,
                    on_unscanned: OnUnscanned::Block,
                    on_block: OnBlock::Warn,
                    polling_timeout_s: 1800,
                    ..gate("latest", None)
                };
                assert_eq!(request.gate().unwrap(), expected);
            }),
        ),
        ("deploy-create-signed-the-old-way.json", request(|request| assert_eq!(signed(request), Some("2026-03-14T09:26:53Z".into())))),
        (
            // The construct's tests hold this one too against what it synthesizes.
            "deploy-create-full-policy.json",
            request(|request| {
                let gate = request.gate().unwrap();
                assert_eq!((gate.policy.exemptions.len(), gate.policy.max_findings.len(), gate.policy.grace_days), (2, 3, Some(14)));
                assert!(gate.policy.ignore_unfixed && gate.policy.only_exploited && gate.policy.block_always.contains("CVE-2021-44228"));
                assert_eq!((gate.platforms.len(), gate.max_scan_age_s, gate.on_unscanned), (2, Some(604_800), OnUnscanned::Warn));
            }),
        ),
        (
            "deploy-create-with-an-unknown-property.json",
            request(|request| assert!(request.gate().unwrap_err().to_string().contains("does not know the property `encoding`"))),
        ),
        (
            "deploy-create-without-properties.json",
            request(|request| assert!(request.gate().unwrap_err().to_string().starts_with("addr and repositoryName are required."))),
        ),
        (
            "deploy-create-without-response-url.json",
            request(|request| {
                assert_eq!((&request.response_url, request.gate().unwrap()), (&None, gate("1.4.2", None)));
                assert!(request.answer_to(None).unwrap_err().to_string().contains("no ResponseURL"));
            }),
        ),
        ("deploy-update.json", request(|request| assert_update(request, (("1.4.1", OLD_APP), ("1.4.2", APP))))),
        ("deploy-update-in-a-rollback.json", request(|request| assert_update(request, (("1.4.2", APP), ("1.4.1", OLD_APP))))),
        ("deploy-delete.json", request(|request| assert_eq!((&request.kind, request.physical_id.as_deref()), (&Kind::Delete, Some(ADDR))))),
        (
            "deploy-delete-with-nonsense-properties.json",
            request(|request| {
                assert_eq!((&request.kind, &request.physical_id, request.properties.len()), (&Kind::Delete, &None, 0));
                assert!(request.answer_to(None).is_ok());
            }),
        ),
        ("batch-of-one-push.json", Batch(vec![pushed(app(), Manifest::Image)])),
        (
            "batch-of-three.json",
            Batch(vec![
                basic(app(), "COMPLETE", Some(&[("CRITICAL", 10), ("MEDIUM", 9)])),
                finding(app(), "ACTIVE", "MEDIUM", id, "CVE-2026-10001"),
                coverage("INACTIVE", "UNSUPPORTED_OS"),
            ]),
        ),
        (
            "batch-with-two-malformed-records.json",
            Batch(vec![
                pushed(app(), Manifest::Image),
                Unreadable("no image digest"),
                enhanced(app(), &[("CRITICAL", 7), ("HIGH", 61), ("MEDIUM", 62), ("TOTAL", 158)]),
                Unreadable("not JSON"),
            ]),
        ),
        (
            "check.json",
            check(|check| {
                let asked = check.gate().unwrap();
                let sample = sample_value("check.json");
                let as_a_gate = sample["check"].as_object().unwrap().iter().map(|(name, value)| (name.clone(), as_cloudformation(value)));
                assert_eq!(asked, GateProperties::parse(&as_a_gate.collect()).unwrap(), "numbers and booleans mean what they mean as text");
                assert_eq!((asked.on_block, asked.max_scan_age_s, asked.policy.max_findings.len()), (OnBlock::Warn, Some(604_800), 1));
            }),
        ),
        (
            "check-with-an-unknown-property.json",
            check(|check| assert!(check.gate().unwrap_err().to_string().contains("does not know the property `severityTreshold`"))),
        ),
        ("malformed-check-with-a-policy-beside-it.json", Unreadable("`severityThreshold` stands beside `check`")),
        ("message-timer.json", this(Event::Ours(Ours::Timer { request_id: "d9aa1057-73f6-480f-85bb-c2e932c60d6e".into(), n: 3 }))),
        ("message-look-again.json", this(Event::Ours(Ours::LookAgain { digest: digest(APP), repository: about(APP, &[]).repository, n: 2, request_id: None }))),
        (
            "message-look-again-for-a-request.json",
            this(Event::Ours(Ours::LookAgain {
                digest: digest(APP),
                repository: about(APP, &[]).repository,
                n: 1,
                request_id: Some("d9aa1057-73f6-480f-85bb-c2e932c60d6e".into()),
            })),
        ),
        ("message-announce.json", this(Event::Ours(Ours::Announce { digest: digest(APP), repository: about(APP, &[]).repository }))),
        ("message-notice.json", this(Event::Ours(Ours::Notice { request_id: "d9aa1057-73f6-480f-85bb-c2e932c60d6e".into() }))),
        ("message-outputs.json", this(Event::Ours(Ours::Outputs { request_id: "d9aa1057-73f6-480f-85bb-c2e932c60d6e".into() }))),
        (
            "message-rest-of-read.json",
            this(Event::Ours(Ours::RestOfRead { digest: digest(APP), repository: about(APP, &[]).repository, token: "examplePageToken".into() })),
        ),
        ("malformed-push-without-digest.json", Unreadable("`detail.image-digest` is missing")),
        ("malformed-push-with-a-short-digest.json", Unreadable("`detail.image-digest` is `sha256:5c51")),
        ("malformed-push-without-repository.json", Unreadable("`detail.repository-name` is missing")),
        ("malformed-push-without-account.json", Unreadable("`account` is missing")),
        ("malformed-push-without-detail.json", Unreadable("`detail` is missing")),
        ("malformed-scan-without-status.json", Unreadable("`detail.scan-status` is missing")),
        ("malformed-scan-with-a-negative-count.json", Unreadable("`detail.finding-severity-counts.CRITICAL` is `-1`")),
        ("malformed-scan-with-a-count-as-text.json", Unreadable("`detail.finding-severity-counts.CRITICAL` is the text `10`")),
        ("malformed-scan-with-a-list-of-counts.json", Unreadable("`detail.finding-severity-counts` is a list")),
        ("malformed-enhanced-scan-without-digest.json", Unreadable("`detail.image-digest` is missing")),
        ("malformed-enhanced-scan-of-a-bad-arn.json", Unreadable("`detail.repository-name` is `arn:aws:s3:")),
        ("malformed-finding-without-an-image.json", Unreadable("`detail.resources[0].id` is `arn:aws:ecr:")),
        ("malformed-coverage-without-status.json", Unreadable("`detail.scanStatus` is missing")),
        ("malformed-event-pattern.json", Unreadable("it is an event pattern")),
        ("malformed-list-of-events.json", Unreadable("it is a list")),
        ("malformed-answer-to-cloudformation.json", Unreadable("it is an answer to CloudFormation")),
        ("malformed-request-of-an-unknown-type.json", Unreadable("`RequestType` is `Recreate`")),
        ("malformed-request-without-request-id.json", Unreadable("`RequestId` is missing")),
        ("malformed-sns-records.json", Unreadable("`Records` come from `aws:sns`")),
        ("malformed-sns-notification.json", Unreadable("it is an SNS notification")),
        ("malformed-message-of-a-later-version.json", Unreadable("`v` is not 1")),
        // What the registry holds, for whoever reads manifests. No event looks like one.
        ("manifest-attestation.json", Unreadable(neither)),
        ("manifest-cosign-tag-signature.json", Unreadable(neither)),
        ("manifest-index-with-attestations.json", Unreadable(neither)),
        ("manifest-notation-signature.json", Unreadable(neither)),
        ("manifest-sigstore-bundle.json", Unreadable(neither)),
    ])
}

fn signed(request: &Request) -> Option<String> {
    request.response_url.as_ref()?.signed_at().map(|at| at.to_string())
}

fn assert_update(request: &Request, (from, to): ((&str, &str), (&str, &str))) {
    let Kind::Update { old_properties } = &request.kind else { panic!("{:?} is no Update", request.kind) };
    assert_eq!(GateProperties::parse(old_properties).unwrap(), gate(from.0, Some(from.1)));
    assert_eq!(request.gate().unwrap(), gate(to.0, Some(to.1)));
    assert_eq!(request.physical_id.as_deref(), Some(ADDR));
    assert_ne!(properties_hash(old_properties), properties_hash(&request.properties));
}

fn assert_holds(file: &str, read: &Result<Event, UnreadableEvent>, holds: &Holds) {
    match (read, holds) {
        (Ok(event), This(expected)) => assert_eq!(event, &**expected, "{file}"),
        (Ok(Event::Ignored { why, glance }), Ignored(words)) => {
            assert!(why.contains(words), "{file}: {why}");
            assert_eq!((glance.account.as_deref(), glance.region.as_deref()), (Some("123456789012"), Some("eu-west-1")), "{file}");
        }
        (Ok(Event::DeploymentRequested(request)), Holds::Request(check)) => check(request),
        (Ok(Event::CheckRequested(asked)), Holds::Check(check)) => check(asked),
        (Err(error), Unreadable(words)) => assert!(error.to_string().contains(words), "{file}: {error}"),
        (read, _) => panic!("{file} was read as {read:?}"),
    }
}

fn sample(file: &str) -> Vec<u8> {
    fs::read(format!("{FOLDER}/{file}")).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn sample_value(file: &str) -> Value {
    serde_json::from_slice(&sample(file)).unwrap()
}

#[test]
fn every_sample_is_read_as_what_its_name_promises() {
    for (file, holds) in samples() {
        match (sqs::read_batch(&sample_value(file)), &holds) {
            (None, _) => assert_holds(file, &read_slice(&sample(file)), &holds),
            (Some(Ok(records)), Batch(expected)) => {
                assert_eq!(records.len(), expected.len(), "{file}");
                records.iter().zip(expected).for_each(|(record, holds)| assert_holds(file, record, holds));
            }
            (Some(Err(error)), _) => assert_holds(file, &Err(error), &holds),
            (Some(Ok(_)), _) => panic!("{file} was read as a batch"),
        }
    }
}

#[test]
fn every_file_in_the_folder_is_in_the_table() {
    let files: BTreeSet<String> = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let table: BTreeSet<String> = samples().into_keys().map(str::to_owned).collect();
    assert_eq!(files, table);
}

#[test]
fn a_name_promises_the_kind() {
    for file in samples().into_keys() {
        let report = read_event(&sample(file), true);
        let kind = serde_json::from_str::<Value>(&report.stdout).map(|report| report["kind"].as_str().unwrap_or("batch").to_owned());
        let promised = match file.split('-').next().unwrap() {
            "artifact" => "artifact-pushed",
            "check" | "check.json" => "check-requested",
            "basic" => "basic-scan-ended",
            "batch" => "batch",
            "coverage" => "coverage-changed",
            "deploy" => "deployment-requested",
            "enhanced" => "enhanced-scan-ended",
            "finding" => "finding-changed",
            "ignored" | "message" => "ignored",
            "image" => &file.trim_end_matches(".json").split('-').take(2).collect::<Vec<_>>().join("-"),
            "malformed" | "manifest" => {
                assert!(kind.is_err() && report.exit == 1, "{file}");
                continue;
            }
            other => panic!("{file}: what does `{other}` promise?"),
        };
        assert_eq!(kind.unwrap(), promised, "{file}");
    }
}

/// A sample with one member changed, or with one more at the end of a list.
fn changed(file: &str, pointer: &str, value: Value) -> Value {
    let mut sample = sample_value(file);
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    let parent = sample.pointer_mut(parent).unwrap();
    match parent {
        Value::Object(members) => {
            members.insert(member.to_owned(), value);
        }
        Value::Array(list) => match list.get_mut(member.parse::<usize>().unwrap()) {
            Some(place) => *place = value,
            None => list.push(value),
        },
        other => panic!("{pointer} of {file} is inside {other}"),
    }
    sample
}

#[test]
fn what_is_malformed_is_unreadable_and_the_member_is_named() {
    let (push, scan, first) = ("image-pushed.json", "basic-scan-complete-findings.json", "enhanced-scan-complete-no-findings.json");
    let (found, covered) = ("finding-active.json", "coverage-active.json");
    for (file, pointer, value, complaint) in [
        (push, "/source", json!(null), "`source` is missing"),
        (push, "/source", json!(7), "`source` is a number, expected text"),
        (push, "/detail", json!("{}"), "`detail` is text, expected an object"),
        (push, "/detail/action-type", json!(""), "`detail.action-type` is empty"),
        (push, "/detail/image-digest", json!(""), "`detail.image-digest` is empty"),
        (push, "/detail/image-digest", json!(APP.to_uppercase()), "no image digest"),
        (push, "/detail/image-digest", json!([APP]), "`detail.image-digest` is a list, expected text"),
        (push, "/detail/image-tag", json!(["1.4.2"]), "`detail.image-tag` is a list, expected text"),
        (push, "/detail/result", json!(true), "`detail.result` is a boolean"),
        (push, "/detail/artifact-media-type", json!({}), "`detail.artifact-media-type` is an object"),
        (push, "/detail/repository-name", json!("team/web app"), "makes no ARN"),
        (push, "/detail/repository-name", json!("team/web-app:1.4.2"), "makes no ARN"),
        (push, "/region", json!(null), "`region` is missing"),
        (push, "/detail-type", json!(7), "its `detail-type` is no text"),
        ("image-archived.json", "/detail/target-storage-class", json!(null), "`detail.target-storage-class` is missing"),
        (scan, "/detail/scan-status", json!(""), "`detail.scan-status` is empty"),
        (scan, "/detail/scan-status", json!(["COMPLETE"]), "`detail.scan-status` is a list"),
        (scan, "/detail/image-tags", json!("1.4.2"), "`detail.image-tags` is text, expected a list"),
        (scan, "/detail/image-tags/0", json!(7), "`detail.image-tags[0]` is a number"),
        (scan, "/detail/finding-severity-counts/CRITICAL", json!(1.5), "is `1.5`, expected a whole number"),
        (scan, "/detail/finding-severity-counts/CRITICAL", json!(null), "CRITICAL` is null"),
        (scan, "/detail/finding-severity-counts", json!("none"), "is text, expected counts by severity"),
        (first, "/detail/repository-name", json!(null), "`detail.repository-name` is missing"),
        (found, "/detail/findingArn", json!(null), "`detail.findingArn` is missing"),
        (found, "/detail/status", json!(null), "`detail.status` is missing"),
        (found, "/detail/resources", json!("web-app"), "`detail.resources` is text, expected a list"),
        (found, "/detail/resources/0", json!("web-app"), "`detail.resources[0]` is text, expected an object"),
        (found, "/detail/resources/0/id", json!(null), "`detail.resources[0].id` is missing"),
        (covered, "/resources", json!([]), "`resources` names nothing"),
        (covered, "/resources/0", json!("arn:aws:ecr:eu-west-1:123456789012:repository/team/web-app/sha256:5c51"), "no ARN of an image"),
        (covered, "/detail/scanStatus/statusCodeValue", json!(null), "`detail.scanStatus.statusCodeValue` is missing"),
        ("deploy-update.json", "/StackId", json!(null), "`StackId` is missing"),
        ("deploy-update.json", "/LogicalResourceId", json!(7), "`LogicalResourceId` is a number"),
        ("deploy-update.json", "/RequestType", json!("create"), "`RequestType` is `create`"),
        ("message-timer.json", "/n", json!(null), "`n` is missing"),
        ("message-timer.json", "/n", json!(-1), "`n` is `-1`"),
        ("message-timer.json", "/n", json!(4_294_967_296_u64), "`n` is too large"),
        ("message-timer.json", "/kind", json!("alarm"), "`kind` is `alarm`"),
        ("message-timer.json", "/requestId", json!(""), "`requestId` is empty"),
        ("message-look-again.json", "/repository", json!("team/web-app"), "`repository` is `team/web-app`"),
        ("message-rest-of-read.json", "/token", json!(null), "`token` is missing"),
    ] {
        let read = read(&changed(file, pointer, value.clone()));
        let error = read.expect_err(&format!("{file} with {pointer} = {value}")).to_string();
        assert!(error.contains(complaint), "{file} with {pointer} = {value}: {error}");
    }
}

#[test]
fn what_nothing_hangs_on_fails_no_event() {
    let (push, scan, found) = ("image-pushed.json", "basic-scan-complete-findings.json", "finding-active.json");
    for (file, pointer, value) in [
        (push, "/id", json!(null)),
        (push, "/version", json!(7)),
        (push, "/resources", json!(null)),
        (push, "/detail/result", json!(null)),
        (scan, "/resources", json!("arn:aws:ecr:eu-west-1:123456789012:repository/team/web-app")),
        (found, "/account", json!(null)),
        (found, "/resources", json!(null)),
        (found, "/detail/updatedAt", json!(7)),
        (found, "/detail/firstObservedAt", json!("yesterday")),
        (found, "/detail/packageVulnerabilityDetails/vulnerablePackages", json!(null)),
        (found, "/detail/resources/0/region", json!("N/A")),
        (found, "/detail/resources/0/type", json!(null)),
        (scan, "/detail/image-tags/1", json!("")),
        (scan, "/detail/image-tags/1", json!("1.4.2")),
        ("enhanced-scan-complete-findings.json", "/resources/0", json!("i-0a1b2c3d4e5f60718")),
    ] {
        assert_eq!(read(&changed(file, pointer, value.clone())), read(&sample_value(file)), "{file} with {pointer} = {value}");
    }
    // The envelope names the image too; the tags are then not known.
    let event = read(&changed(found, "/detail/resources", json!(null))).unwrap();
    assert_eq!(event.about(), Some(&about(APP, &[])));
    for time in [json!(null), json!("Wed Sep 04 16:55:38.411 UTC 2024"), json!(1_773_480_413)] {
        let event = read(&changed(found, "/time", time.clone())).unwrap();
        assert_eq!(event.about().unwrap().at, None, "{time}");
    }
}

#[test]
fn what_aws_may_yet_say_is_kept_or_ignored_but_never_clean() {
    let status = |event: Result<Event, UnreadableEvent>| match event.unwrap() {
        Event::BasicScanEnded { status, .. } | Event::EnhancedScanEnded { status, .. } | Event::CoverageChanged { status, .. } => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status(read(&changed("basic-scan-failed.json", "/detail/scan-status", json!("PARTLY")))), "PARTLY");
    assert_eq!(status(read(&changed("enhanced-scan-complete-no-findings.json", "/detail/scan-status", json!("RESCANNED")))), "RESCANNED");
    assert_eq!(status(read(&changed("coverage-active.json", "/detail/scanStatus", json!({ "statusCode": "PAUSED" })))), "PAUSED");
    for (file, pointer, value, words) in [
        ("image-pushed.json", "/detail/action-type", json!("TAG"), "the action `TAG`"),
        ("image-archived.json", "/detail/target-storage-class", json!("DEEP_FREEZE"), "the storage class `DEEP_FREEZE`"),
        ("image-pushed.json", "/detail-type", json!("ECR Image Signing"), "`ECR Image Signing` of aws.ecr"),
        ("finding-active.json", "/detail-type", json!("Inspector2 Weather"), "`Inspector2 Weather` of aws.inspector2"),
        ("coverage-active.json", "/resources/0", json!("arn:aws:ecr:eu-west-1:123456789012:repository/team/web-app"), "which is no image"),
    ] {
        assert_holds(file, &read(&changed(file, pointer, value)), &Ignored(words));
    }
}

#[test]
fn an_artifact_is_told_by_its_tag_or_its_media_types() {
    let of = |suffix: &str| format!("sha256-{}{suffix}", &APP[7..]);
    for (tag, manifest, artifact, is_artifact) in [
        ("1.4.2", "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json", false),
        ("1.4.2", "application/vnd.oci.image.manifest.v1+json", "Application/Vnd.OCI.Image.Config.v1+JSON; charset=utf-8", false),
        ("1.4.2", "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.container.image.v1+json", false),
        ("1.4.2", "application/vnd.docker.distribution.manifest.list.v2+json", "", false),
        ("1.4.2", "application/vnd.docker.distribution.manifest.v1+prettyjws", "", false),
        ("release.sig", "", "", false),
        ("sha256-5c51.sig", "", "", false),
        (&of(".sigstore"), "", "", false),
        (&of(""), "application/vnd.oci.image.manifest.v1+json", "", false),
        (&of(".sig"), "", "", true),
        (&of(".att"), "", "application/vnd.oci.image.config.v1+json", true),
        (&of(""), "application/vnd.oci.image.index.v1+json", "", true),
        ("1.4.2", "application/vnd.oci.image.manifest.v1+json", "application/vnd.wasm.config.v0+json", true),
        ("1.4.2", "application/vnd.oci.artifact.manifest.v1+json", "", true),
        ("1.4.2", "application/vnd.cncf.oras.artifact.manifest.v1+json", "", true),
    ] {
        let mut push = changed("image-pushed.json", "/detail/image-tag", json!(tag));
        push["detail"]["manifest-media-type"] = json!(manifest);
        push["detail"]["artifact-media-type"] = json!(artifact);
        assert_eq!(read(&push).unwrap().kind() == "artifact-pushed", is_artifact, "{tag}, {manifest}, {artifact}");
    }
}

#[test]
fn a_repository_is_the_events_own_account_and_region_unless_an_arn_says_more() {
    let scan = "basic-scan-complete-findings.json";
    let arn = |partition: &str| format!("arn:{partition}:ecr:eu-west-1:123456789012:repository/team/web-app");
    for (pointer, value, expected) in [
        ("/resources/0", json!(arn("aws-new")), arn("aws-new")),
        ("/resources/0", json!("arn:aws-new:ecr:eu-west-1:123456789012:repository/other"), arn("aws")),
        ("/detail/repository-name", json!(arn("aws-new")), arn("aws-new")),
        ("/account", json!(null), arn("aws")),
        ("/region", json!(null), arn("aws")),
        ("/account", json!("210987654321"), arn("aws").replace("123456789012", "210987654321")),
    ] {
        let event = read(&changed(scan, pointer, value.clone())).unwrap();
        assert_eq!(event.about().unwrap().repository.arn(), expected, "{pointer} = {value}");
    }
}

#[test]
fn an_event_is_at_home_where_its_image_or_its_stack_is() {
    for (file, home) in [
        ("image-pushed.json", Some(("123456789012", "eu-west-1"))),
        ("image-pushed-in-china.json", Some(("123456789012", "cn-north-1"))),
        ("image-pushed-in-another-account.json", Some(("210987654321", "eu-west-1"))),
        ("finding-of-a-member-account.json", Some(("210987654321", "eu-west-1"))),
        ("ignored-scan-of-an-ec2-instance.json", Some(("123456789012", "eu-west-1"))),
        ("deploy-delete.json", Some(("123456789012", "eu-west-1"))),
        ("message-look-again.json", None),
    ] {
        assert_eq!(read_slice(&sample(file)).unwrap().home(), home, "{file}");
    }
    assert_eq!(read(&changed("deploy-delete.json", "/StackId", json!("web-app"))).unwrap().home(), None);
}

#[test]
fn a_request_is_readable_while_it_can_be_answered() {
    for file in ["deploy-create-by-digest.json", "deploy-update.json", "deploy-delete.json"] {
        for (pointer, value) in [
            ("/ResourceProperties", json!(null)),
            ("/ResourceProperties", json!("nonsense")),
            ("/ResourceProperties", json!([1, 2])),
            ("/OldResourceProperties", json!(7)),
            ("/PhysicalResourceId", json!(null)),
            ("/PhysicalResourceId", json!(["x"])),
            ("/ResourceType", json!(null)),
            ("/ServiceToken", json!({})),
        ] {
            let read = read(&changed(file, pointer, value.clone()));
            let Ok(Event::DeploymentRequested(request)) = read else { panic!("{file} with {pointer} = {value}: {read:?}") };
            assert!(request.answer_to(None).is_ok(), "{file} with {pointer} = {value}");
        }
    }
}

#[test]
fn our_messages_are_read_as_they_were_written() {
    for file in [
        "message-timer.json",
        "message-look-again.json",
        "message-look-again-for-a-request.json",
        "message-outputs.json",
        "message-rest-of-read.json",
        "message-announce.json",
        "message-notice.json",
    ] {
        let Event::Ours(ours) = read_slice(&sample(file)).unwrap() else { panic!("{file}") };
        assert_eq!(serde_json::from_str::<Value>(&ours.to_json()).unwrap(), sample_value(file));
    }
    // What a later version adds is passed over.
    assert_eq!(read(&changed("message-timer.json", "/since", json!("2026"))), read(&sample_value("message-timer.json")));
}

fn as_json(input: &[u8]) -> (Value, u8) {
    let outcome = read_event(input, true);
    (serde_json::from_str(&outcome.stdout).unwrap(), outcome.exit)
}

#[test]
fn read_event_tells_what_it_understood() {
    let members = ["account", "digest", "kind", "region", "repository", "tag", "tags", "why"];
    for (file, expected) in [
        (
            "basic-scan-complete-all-severities.json",
            json!({ "kind": "basic-scan-ended", "digest": APP, "repository": "team/web-app", "tag": "1.4.2", "tags": ["1.4.2", "latest"],
                "account": "123456789012", "region": "eu-west-1", "why": null }),
        ),
        (
            "enhanced-scan-complete-untagged-child.json",
            json!({ "kind": "enhanced-scan-ended", "digest": CHILD, "repository": "team/web-app", "tag": null, "tags": [],
                "account": "123456789012", "region": "eu-west-1", "why": null }),
        ),
        (
            "finding-of-a-member-account.json",
            json!({ "kind": "finding-changed", "digest": APP, "repository": "team/web-app", "tag": "1.4.2", "tags": ["1.4.2"],
                "account": "210987654321", "region": "eu-west-1", "why": null }),
        ),
        (
            "ignored-replication-failed.json",
            json!({ "kind": "ignored", "digest": APP, "repository": "team/web-app", "tag": "1.4.2", "tags": ["1.4.2"],
                "account": "123456789012", "region": "eu-west-1", "why": "its result is `FAILED`, so nothing has changed in the repository" }),
        ),
        (
            "deploy-create-by-digest.json",
            json!({ "kind": "deployment-requested", "digest": APP, "repository": "team/web-app", "tag": null, "tags": [],
                "account": "123456789012", "region": "eu-west-1", "why": null }),
        ),
        (
            "deploy-update.json",
            json!({ "kind": "deployment-requested", "digest": APP, "repository": "team/web-app", "tag": "1.4.2", "tags": ["1.4.2"],
                "account": "123456789012", "region": "eu-west-1", "why": null }),
        ),
        (
            "deploy-delete-with-nonsense-properties.json",
            json!({ "kind": "deployment-requested", "digest": null, "repository": null, "tag": null, "tags": [],
                "account": "123456789012", "region": "eu-west-1", "why": null }),
        ),
        (
            "deploy-create-without-response-url.json",
            json!({ "kind": "deployment-requested", "digest": null, "repository": "team/web-app", "tag": "1.4.2", "tags": ["1.4.2"],
                "account": "123456789012", "region": "eu-west-1", "why": "the request has no ResponseURL, so there is nowhere to send an answer" }),
        ),
        (
            "message-look-again.json",
            json!({ "kind": "ignored", "digest": APP, "repository": "team/web-app", "tag": null, "tags": [],
                "account": "123456789012", "region": "eu-west-1", "why": "a note of this pipeline to itself (`look-again`), not an event of AWS" }),
        ),
    ] {
        assert_eq!(as_json(&sample(file)), (expected.clone(), 0), "{file}");
        assert_eq!(expected.as_object().unwrap().keys().collect::<Vec<_>>(), members);
    }
}

#[test]
fn read_event_says_when_a_request_would_be_refused() {
    let without_tag = {
        let mut request = sample_value("deploy-create-by-digest.json");
        request["ResourceProperties"].as_object_mut().unwrap().remove("imageTag");
        request
    };
    assert_eq!(as_json(without_tag.to_string().as_bytes()).0["tag"], "latest");
    let (report, exit) = as_json(&sample("deploy-create-with-an-unknown-property.json"));
    assert_eq!((report["why"].as_str().unwrap().starts_with("it would be refused: this version"), exit), (true, 0));
    let foreign = changed("deploy-create-by-digest.json", "/ResponseURL", json!("https://evil.example/secret"));
    assert_eq!(as_json(foreign.to_string().as_bytes()).0["why"], "the ResponseURL leads to a host where CloudFormation takes no answers, so none is sent");
}

#[test]
fn read_event_in_text_is_for_a_person() {
    let report = read_event(&sample("basic-scan-complete-no-findings.json"), false);
    assert_eq!(
        report.stdout,
        format!(
            "basic-scan-ended\n  digest        {APP}\n  repository    team/web-app\n  tags          1.4.2\n  account       123456789012\n  region        eu-west-1\n  \
             status        COMPLETE\n  counts        not stated, which is not the same as none\n"
        )
    );
    let odd = changed("image-pushed.json", "/detail/image-tag", json!("\u{1b}[2Jclean\n  why"));
    let report = read_event(odd.to_string().as_bytes(), false).stdout;
    assert!(report.contains(r"  tags          \u{1b}[2Jclean\n  why") && !report.contains('\u{1b}'), "{report}");
}

#[test]
fn what_read_event_cannot_read_is_one_line_and_exit_1() {
    for (input, complaint) in [
        ("", "this is not JSON: it is empty"),
        (" \n", "this is not JSON: it is empty"),
        ("{", "this is not JSON"),
        (r#"{"detail-type":"ECR Image Action"} trailing"#, "this is not JSON"),
        ("[]", "it is a list"),
        ("null", "it is no object"),
        ("{}", "nor a CloudFormation request"),
        (r#"{"source":"aws.ecr","detail":{}}"#, "its `detail-type` is missing"),
        (r#"{"detailType":"ECR Image Scan"}"#, "its `detail-type` is missing"),
        (r#"{"source":["aws.ecr"]}"#, "it is an event pattern"),
        (r#"{"Records":{}}"#, "its `Records` are not a queue's"),
        (r#"{"Records":[{"s3":{},"eventSource":"aws:s3"}]}"#, "its `Records` come from `aws:s3`"),
        (r#"{"Messages":[]}"#, "`aws sqs receive-message`"),
        (r#"{"requestPayload":{}}"#, "Lambda's record of a failed call"),
        (r#"{"imageScanStatus":{"status":"COMPLETE"}}"#, "`ecr-scan-verifier judge`"),
        (r#"{"RequestType":"Create"}"#, "`RequestId` is missing"),
    ] {
        for as_json in [false, true] {
            let outcome = read_event(input.as_bytes(), as_json);
            assert_eq!((outcome.exit, outcome.stdout.as_str(), outcome.stderr.lines().count()), (1, "", 1), "{input}");
            assert!(outcome.stderr.starts_with("read-event: ") && outcome.stderr.contains(complaint), "{input}: {}", outcome.stderr);
        }
    }
    let deep = "[".repeat(100_000);
    assert_eq!(read_event(deep.as_bytes(), true).exit, 1);
    assert_eq!(read_event(b"\xff\xfe{\0}\0", true).exit, 1);
}

#[test]
fn a_mark_that_windows_puts_in_front_is_no_part_of_an_event() {
    assert_eq!(read_event(&[b"\xef\xbb\xbf", sample("image-pushed.json").as_slice()].concat(), true), read_event(&sample("image-pushed.json"), true));
}

#[test]
fn a_batch_is_answered_record_by_record() {
    let (report, exit) = as_json(&sample("batch-of-three.json"));
    let kinds = |report: &Value| report["records"].as_array().unwrap().iter().map(|record| record["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!((kinds(&report), exit), (vec!["basic-scan-ended".into(), "finding-changed".into(), "coverage-changed".into()], 0));

    let file = "batch-with-two-malformed-records.json";
    let (report, exit) = as_json(&sample(file));
    assert_eq!((kinds(&report), exit), (vec!["image-pushed".into(), "unreadable".into(), "enhanced-scan-ended".into(), "unreadable".into()], 1));
    assert_eq!(report["records"][1]["digest"], Value::Null);
    assert!(report["records"][1]["why"].as_str().unwrap().contains("no image digest"));
    let outcome = read_event(&sample(file), false);
    assert!(outcome.stdout.starts_with("record 1: image-pushed\n") && outcome.stdout.contains("record 4: unreadable\n"), "{}", outcome.stdout);
    let complaints: Vec<&str> = outcome.stderr.lines().map(|line| &line[..9]).collect();
    assert_eq!((complaints, outcome.exit), (vec!["record 2:", "record 4:"], 1));

    // Nothing in it is unreadable.
    assert_eq!(as_json(br#"{"Records":[]}"#), (json!({ "records": [] }), 0));
    // A message without its text, in the middle of good ones.
    let body_missing = changed("batch-of-three.json", "/Records/1/body", json!(null));
    let (report, exit) = as_json(body_missing.to_string().as_bytes());
    assert_eq!((kinds(&report)[1].as_str(), exit), ("unreadable", 1));
}

/// JSON of every shape, in which the names that we look for are common.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        ".*",
        Just(APP.to_owned()),
        Just("aws.ecr".to_owned()),
        Just("aws.inspector2".to_owned()),
        Just("ECR Image Action".to_owned()),
        Just("PUSH".to_owned()),
        Just("Create".to_owned()),
        Just("arn:aws:ecr:eu-west-1:123456789012:repository/x".to_owned()),
    ];
    let name = prop_oneof![
        ".*",
        proptest::sample::select(vec![
            "detail-type",
            "source",
            "account",
            "region",
            "resources",
            "detail",
            "image-digest",
            "repository-name",
            "action-type",
            "image-tags",
            "RequestType",
            "RequestId",
            "StackId",
            "LogicalResourceId",
            "ResponseURL",
            "ResourceProperties",
            "Records",
            "body",
            "v",
            "kind",
        ])
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 40, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..8).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Where a value stands inside another: every pointer of it.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let at = format!("{at}/{}", escaped(name));
                pointers(value, &at, all);
                all.push(at);
            }
        }
        Value::Array(list) => {
            for (i, value) in list.iter().enumerate() {
                let at = format!("{at}/{i}");
                pointers(value, &at, all);
                all.push(at);
            }
        }
        _ => {}
    }
}

fn any_sample() -> impl Strategy<Value = Value> {
    proptest::sample::select(samples().into_keys().collect::<Vec<_>>()).prop_map(sample_value)
}

proptest! {
    #[test]
    fn no_json_makes_us_panic(value in any_json()) {
        let _ = read(&value);
        let outcome = read_event(value.to_string().as_bytes(), true);
        prop_assert_eq!(outcome.stdout.is_empty() && outcome.exit == 0, false);
    }

    #[test]
    fn no_bytes_make_us_panic(bytes in any::<Vec<u8>>(), as_json: bool) {
        let outcome = read_event(&bytes, as_json);
        prop_assert_eq!(outcome.exit == 1, !outcome.stderr.is_empty());
    }

    #[test]
    fn no_damage_to_an_event_makes_us_panic_or_hear_of_another_image(mut event in any_sample(), place: proptest::sample::Index, value in any_json()) {
        let before = read(&event).ok().and_then(|event| event.about().map(|about| about.digest.clone()));
        let mut places = Vec::new();
        pointers(&event, "", &mut places);
        prop_assume!(!places.is_empty());
        *event.pointer_mut(&places[place.index(places.len())]).unwrap() = value;
        if let Some(about) = read(&event).ok().as_ref().and_then(Event::about) {
            prop_assert!(before.is_none_or(|before| before == about.digest || about.digest == digest(APP)));
        }
    }

    #[test]
    fn no_response_url_is_ever_printed(place: proptest::sample::Index, value in any_json(), secret in "[a-z]{24}", as_json: bool) {
        let files = ["deploy-create.json", "deploy-create-by-digest.json", "deploy-update.json", "deploy-delete.json"];
        let mut request = sample_value(files[place.index(files.len())]);
        let mut places = Vec::new();
        pointers(&request, "", &mut places);
        *request.pointer_mut(&places[place.index(places.len())]).unwrap() = value;
        for url in [
            format!("https://cloudformation-custom-resource-response-x.s3.amazonaws.com/{secret}?X-Amz-Signature={secret}"),
            format!("https://{secret}.example/"),
            format!("https://{secret}@evil.example/"),
            secret.clone(),
        ] {
            request["ResponseURL"] = json!(url);
            let outcome = read_event(request.to_string().as_bytes(), as_json);
            prop_assert!(!outcome.stdout.contains(&secret) && !outcome.stderr.contains(&secret), "{:?}", outcome);
            let in_a_batch = json!({ "Records": [{ "body": request.to_string() }, { "body": format!("{request}}}") }] });
            let outcome = read_event(in_a_batch.to_string().as_bytes(), as_json);
            prop_assert!(!outcome.stdout.contains(&secret) && !outcome.stderr.contains(&secret), "{:?}", outcome);
            let debug = format!("{:?}", read(&request));
            prop_assert!(!debug.contains(&secret), "{}", debug);
        }
    }

    #[test]
    fn no_text_makes_a_response_url_panic(text in ".*") {
        let url = ResponseUrl::from(text);
        let _ = (url.check(None), url.check(Some("http://127.0.0.1:1")), url.host(), url.signed_at());
    }

    /// Pieces of good and bad addresses in any order: whatever is let through leads to the bucket, however it is read.
    #[test]
    fn whatever_is_accepted_leads_to_the_bucket(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "https", "http", ":", "//", "://", "/", "\\", "@", "?", "#", ".", ":443", ":80", " ", "%40", "%2f", "evil.example", "[::1]",
        "cloudformation-custom-resource-response-", "cloudformation-custom-resource-response-euwest1", "euwest1", ".s3", "s3-eu-west-1", ".s3.eu-west-1",
        ".amazonaws.com", ".amazonaws.com.cn", "amazonaws.com", ".s3.amazonaws.com", "https://cloudformation-custom-resource-response-euwest1",
    ]), 0..9)) {
        let text = pieces.concat();
        let url = ResponseUrl::from(text.clone());
        if url.check(None).is_ok() {
            // As the strictest and the laxest client would cut the host out.
            let rest = text.strip_prefix("https://").unwrap();
            let host = rest.split(['/', '?', '#', '\\', '@', ':', ' ', '%']).next().unwrap();
            prop_assert_eq!(Some(host), url.host());
            prop_assert!(host.starts_with("cloudformation-custom-resource-response-euwest1."), "{}", text);
            prop_assert!(host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"), "{}", text);
            prop_assert!(host.contains(".s3.") || host.contains(".s3-"), "{}", text);
            prop_assert!(!rest.split(['/', '?', '#']).next().unwrap().contains('@'), "{}", text);
        }
    }

    #[test]
    fn the_hash_of_properties_does_not_know_their_order(value in any_json(), token in any_json()) {
        let mut properties = sample_value("deploy-update.json")["ResourceProperties"].as_object().unwrap().clone();
        let plain = properties_hash(&properties);
        properties.insert("ServiceToken".into(), token.clone());
        properties.insert("ServiceTimeout".into(), token);
        prop_assert_eq!(&plain, &properties_hash(&properties));
        let reversed: serde_json::Map<String, Value> = properties.clone().into_iter().rev().collect();
        prop_assert_eq!(&plain, &properties_hash(&reversed));
        prop_assume!(properties.get("imageTag") != Some(&value));
        properties.insert("imageTag".into(), value);
        prop_assert_ne!(plain, properties_hash(&properties));
    }

    #[test]
    fn what_we_write_to_ourselves_we_read(n: u32, request_id in ".{1,40}", token in ".{1,40}", with_request: bool) {
        let repository: Repository = about(APP, &[]).repository;
        for ours in [
            Ours::Timer { request_id: request_id.clone(), n },
            Ours::LookAgain { digest: digest(APP), repository: repository.clone(), n, request_id: with_request.then(|| request_id.clone()) },
            Ours::Outputs { request_id: request_id.clone() },
            Ours::RestOfRead { digest: digest(APP), repository, token },
        ] {
            prop_assert_eq!(read_slice(ours.to_json().as_bytes()), Ok(Event::Ours(ours)));
        }
    }
}

#[test]
fn what_lies_in_a_queue_is_named_without_its_secrets() {
    for (file, kind, subject) in [
        ("image-pushed.json", "image-pushed", format!("team/web-app@{APP}")),
        ("message-rest-of-read.json", "rest-of-read", format!("team/web-app@{APP}")),
        ("message-timer.json", "timer", "request d9aa1057-73f6-480f-85bb-c2e932c60d6e".to_owned()),
        ("deploy-create.json", "deployment-requested", "VerifierGatedemo05C773D6 in payments".to_owned()),
        ("check.json", "check-requested", "team/web-app:1.4.2".to_owned()),
    ] {
        assert_eq!(kind_and_subject(&sample(file)), (kind.to_owned(), subject), "{file}");
    }
    assert_eq!(kind_and_subject(b"{").0, "unreadable");
    for file in samples().into_keys() {
        let (kind, subject) = kind_and_subject(&sample(file));
        let said = format!("{kind} {subject}");
        for secret in ["https://", "X-Amz", "examplePageToken"] {
            assert!(!said.contains(secret), "{file}: {said}");
        }
    }
}
