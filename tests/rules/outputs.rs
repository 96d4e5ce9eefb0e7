//! What is written once a request is answered: never before, never by somebody who decides, and each of it once.

use ecr_scan_verifier::domain::head::EventCounts;
use ecr_scan_verifier::domain::outputs::{Layout, Log, LogsTo, Outputs, SbomFormat, SbomTo};
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::protocol::scan::Hints;
use ecr_scan_verifier::domain::protocol::{ExportState, Outcome};
use ecr_scan_verifier::domain::request::{AskedScan, OnBlock, Request};
use ecr_scan_verifier::domain::scan::ScanSource;
use jiff::SignedDuration;

use crate::world::*;

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:mine";

fn to_bucket() -> LogsTo {
    LogsTo::S3 { bucket: "logs".into(), prefix: "scans/".into() }
}

fn to_group() -> LogsTo {
    LogsTo::CloudWatch { group: "/scans".into() }
}

fn outputs(logs: Option<LogsTo>, sbom: bool) -> Outputs {
    let sbom = sbom.then(|| SbomTo { format: SbomFormat::CycloneDx14, bucket: "sboms".into(), prefix: "mine/".into(), key_arn: "key".into() });
    Outputs { role_arn: "role".into(), logs, layout: Layout::Tag, sbom, topic_arn: Some(TOPIC.into()), function_logs: None, strict: false }
}

fn wanting(request: Request, outputs: Outputs) -> Request {
    asking(request, |gate| gate.outputs = Some(outputs))
}

/// Two findings, one of them ignored, in an image that a tag names.
fn world() -> World {
    let mut world = World { now: 1000, ..World::default() };
    world.tags.insert("1.4.2".into(), ecr_scan_verifier::domain::protocol::Resolved::Image(digest("app")));
    let bad = in_package(finding("CVE-2024-3094", "CRITICAL"), "xz-utils", "5.6.0", None);
    world.scans("app", [complete(ScanSource::Basic, 50, &[bad, finding("CVE-2023-1", "HIGH"), finding("CVE-2022-2", "UNDEFINED")])]);
    world
}

fn by_tag(outputs: Outputs) -> Request {
    let request = asking(create_by_tag("1.4.2"), |gate| {
        gate.policy = Policy::from_words(Some(&["CRITICAL".into()]), None, ["CVE-2023-1".to_owned(), "CVE-1999-1".to_owned()]).unwrap();
    });
    wanting(request, outputs)
}

fn shown(world: &World) -> String {
    let log = |log: &Log| match log {
        Log::Stream { group, stream, events, at } => format!("stream {group} {stream} at {at}\n{}\n", events.join("\n~~~\n")),
        Log::Object { bucket, key, content_type, body, digest } => format!("object s3://{bucket}/{key} {content_type} {digest}\n{body}\n"),
    };
    let message = |(topic, message): &(String, ecr_scan_verifier::domain::outputs::Message)| {
        let body: serde_json::Value = serde_json::from_str(&message.body).unwrap();
        assert_eq!(body["default"], body["email"]);
        let https: serde_json::Value = serde_json::from_str(body["https"].as_str().unwrap()).unwrap();
        let form = (&https["version"], &https["source"], &https["content"]["title"]);
        assert_eq!(form, (&"1.0".into(), &"custom".into(), &"Ecr Scan Verifier - Vulnerability Alert".into()));
        format!(
            "message to {topic} {:?}\n{}\n--- https ---\n{}\n",
            message.attributes,
            body["default"].as_str().unwrap(),
            https["content"]["description"].as_str().unwrap()
        )
    };
    world.logs.iter().map(log).chain(world.published.iter().map(message)).collect::<Vec<_>>().join("=====\n")
}

#[test]
fn logs_and_messages_are_those_of_the_original_construct() {
    for (name, wanted) in [
        ("outputs-bucket", outputs(Some(to_bucket()), false)),
        ("outputs-streams", outputs(Some(to_group()), false)),
        ("outputs-function-log", outputs(None, false)),
        ("outputs-by-digest", Outputs { layout: Layout::Digest, ..outputs(Some(to_bucket()), false) }),
    ] {
        let mut world = world();
        world.deploys(by_tag(wanted));
        assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
        assert!(world.logs.is_empty() && world.published.is_empty(), "not before somebody is asked to");
        assert_eq!(world.to_write, [("request-1".to_owned(), SignedDuration::ZERO)]);
        world.writes("request-1");
        golden(name, &shown(&world));
    }
}

#[test]
fn the_message_names_the_log_of_the_function_that_has_decided() {
    let usual = "/aws/lambda/ecr-scan-verifier-demo-on-deploy";
    for (chosen, waits, named) in [
        (Some(usual), false, usual),
        (Some(usual), true, "/aws/lambda/ecr-scan-verifier-demo-on-scan"),
        (None, true, "/aws/lambda/ecr-scan-verifier-demo-on-scan"),
        (Some("/mine"), true, "/mine"),
    ] {
        let mut world = World { now: 200, ..world() };
        let answers = world.scans.remove(&digest("app")).unwrap();
        if waits {
            world.scans("app", [status("PENDING")]);
        } else {
            world.scans.insert(digest("app"), answers.clone());
        }
        world.deploys(by_tag(Outputs { function_logs: chosen.map(str::to_owned), ..outputs(None, false) }));
        if waits {
            world.scans.insert(digest("app"), answers);
            world.scan_ends("app");
        }
        world.writes("request-1");
        assert!(world.published[0].1.body.contains(&format!("Log Group: {named}\\n")), "{chosen:?} {waits}: {}", world.published[0].1.body);
    }
}

#[test]
fn they_come_after_the_answer_and_before_the_mark() {
    let mut world = world();
    world.deploys(by_tag(outputs(Some(to_bucket()), false)));
    let place = |name: &str| world.did.iter().position(|did| did == name).unwrap();
    assert!(place("Put") < place("SendOutputs") && place("SendOutputs") < place("MarkAnswered"), "{:?}", world.did);
}

#[test]
fn what_blocks_nothing_writes_its_logs_and_sends_no_message() {
    let mut world = world();
    world.scans("app", [complete(ScanSource::Basic, 50, &[])]);
    world.deploys(by_tag(outputs(Some(to_group()), false)));
    assert_eq!(world.verdict(), "SUCCESS PASS");
    world.writes("request-1");
    assert!(shown(&world).contains("No vulnerabilities found.") && world.published.is_empty());
}

#[test]
fn what_is_let_through_all_the_same_is_told() {
    let mut world = world();
    world.deploys(asking(by_tag(outputs(None, false)), |gate| gate.on_block = OnBlock::Warn));
    assert_eq!(world.verdict(), "SUCCESS BLOCK");
    world.writes("request-1");
    let message = &world.published[0].1.body;
    assert!(
        message.contains("ECR Image Scan found vulnerabilities.") && message.contains("CRITICAL: 1, UNDEFINED: 1"),
        "the ignored one is not counted: {message}"
    );
}

#[test]
fn the_same_request_is_told_once() {
    let mut world = world();
    world.deploys(by_tag(outputs(Some(to_bucket()), false)));
    for _ in 0..3 {
        world.writes("request-1");
    }
    assert_eq!((world.published.len(), world.logs.len()), (1, 2));
    world.deploys(by_tag(outputs(Some(to_bucket()), false)));
    world.writes("request-1");
    assert_eq!(world.published.len(), 1, "nor when CloudFormation's request is delivered again");
}

#[test]
fn two_at_once_do_not_both_write() {
    let mut world = world();
    world.deploys(by_tag(outputs(Some(to_bucket()), false)));
    world.writing_until = at(world.now + 5);
    assert!(matches!(world.writes("request-1"), Outcome::Redeliver(_)), "the other one may die over it");
    assert!(world.logs.is_empty());
    world.now += 5;
    world.writes("request-1");
    assert_eq!(world.published.len(), 1);
}

#[test]
fn what_fails_comes_again_and_keeps_nothing_else_from_being_written() {
    for (broken, logs, published) in [("WriteLogs", 0, 1), ("Publish", 2, 0)] {
        let mut world = world();
        world.deploys(by_tag(outputs(Some(to_bucket()), false)));
        world.broken.push((broken, true));
        assert!(matches!(world.writes("request-1"), Outcome::Redeliver(_)), "{broken}");
        assert_eq!((world.logs.len(), world.published.len()), (logs, published), "{broken}");
        world.broken.clear();
        assert!(matches!(world.writes("request-1"), Outcome::Done(_)), "{broken}");
        assert_eq!((world.logs.len(), world.published.len()), (2, 1), "{broken}");
    }
}

#[test]
fn a_rollback_that_is_let_through_or_refused_by_its_findings_tells_nobody() {
    for (suppress, on_block, verdict) in [
        (true, OnBlock::Warn, "SUCCESS ROLLBACK"),
        (false, OnBlock::Warn, "SUCCESS BLOCK"),
        (false, OnBlock::Fail, "FAILED ECR Image Scan found vulnerabilities."),
    ] {
        let mut world = World { rolling_back: true, ..world() };
        world.scan_ends("app");
        world.is_image("app");
        let request = asking(wanting(update("app"), outputs(None, false)), |gate| (gate.suppress_on_rollback, gate.on_block) = (suppress, on_block));
        world.deploys(request);
        assert_eq!(world.verdict(), verdict);
        world.writes("update-app");
        assert!(world.published.is_empty(), "{suppress} {on_block:?}");
    }
}

#[test]
fn a_rollback_tells_nobody() {
    let mut world = world();
    world.rolling_back = true;
    world.deploys(wanting(update("app"), outputs(Some(to_bucket()), false)));
    assert_eq!(world.verdict(), "SUCCESS ROLLBACK");
    world.writes("update-app");
    assert!(world.published.is_empty() && world.logs.is_empty());
}

/// An image that Inspector has scanned, under a gate that wants its SBOM.
fn inspected() -> World {
    let mut world = World { registry: ScanSource::Enhanced, now: 1000, ..world() };
    world.scans("app", [complete(ScanSource::Enhanced, 50, &[])]);
    let counts = EventCounts { at: at(60), critical: 0, high: 0, medium: 0, total: 0 };
    world.scan_with("app", Hints { counts: Some(counts), must_look: true, ..Hints::default() });
    world.deploys(asking(by_tag(outputs(Some(to_bucket()), true)), |gate| gate.scan = AskedScan::Enhanced));
    assert_eq!(world.verdict(), "SUCCESS PASS");
    world
}

#[test]
fn an_sbom_is_asked_after_until_it_is_there_and_put_beside_the_logs() {
    let mut world = inspected();
    world.to_write.clear();
    world.writes("request-1");
    let image = repository().image_arn(&digest("app"));
    assert_eq!(world.exports, [(image, "mine/sbom-exports/payments-api/request-1".to_owned())], "of exactly this image, to a place of its own");
    let mut waits = Vec::new();
    while let Some((_, after)) = world.to_write.pop() {
        waits.push(after.as_secs());
        world.now += after.as_secs();
        if world.now > 1070 {
            world.export = ExportState::Succeeded;
        }
        world.writes("request-1");
    }
    assert_eq!(waits, [5, 10, 20, 30, 30]);
    assert_eq!(world.placed, [("logs".to_owned(), "scans/payments-api_1.4.2/2027-01-15T08:16:40.000Z/sbom.cyclonedx.json".to_owned())]);
    assert_eq!((world.exports.len(), world.logs.len()), (1, 2), "nothing is written twice");
}

#[test]
fn an_sbom_that_does_not_come_is_given_up_and_says_why() {
    for (state, empty, says) in [
        (ExportState::Running, false, "SBOM export timed out after 300 seconds."),
        (ExportState::Failed, false, "SBOM export failed. Filter criteria: {\"resourceId\""),
        (ExportState::Cancelled, false, "SBOM export was cancelled."),
        (
            ExportState::Succeeded,
            true,
            "SBOM export succeeded but no file found in S3 under prefix: mine/sbom-exports/payments-api/request-1. Inspector writes one only",
        ),
    ] {
        let mut world = inspected();
        world.to_write.clear();
        (world.export, world.export_is_empty) = (state, empty);
        world.writes("request-1");
        while let Some((_, after)) = world.to_write.pop() {
            world.now += after.as_secs();
            world.writes("request-1");
        }
        let sbom = world.requests["request-1"].progress.sbom.clone().unwrap();
        assert!(!sbom.is_written && sbom.what.starts_with(says), "{sbom:?}");
        assert!(world.now <= 1000 + 335 && world.placed.is_empty());
    }
}

#[test]
fn without_a_bucket_for_logs_an_sbom_goes_into_its_own() {
    let mut world = World { registry: ScanSource::Enhanced, now: 1000, export: ExportState::Succeeded, ..world() };
    world.scans("app", [complete(ScanSource::Enhanced, 50, &[])]);
    let counts = EventCounts { at: at(60), critical: 0, high: 0, medium: 0, total: 0 };
    world.scan_with("app", Hints { counts: Some(counts), must_look: true, ..Hints::default() });
    world.deploys(asking(by_tag(outputs(Some(to_group()), true)), |gate| gate.scan = AskedScan::Enhanced));
    world.writes("request-1");
    world.writes("request-1");
    assert_eq!(world.placed, [("sboms".to_owned(), "mine/payments-api_1.4.2/2027-01-15T08:16:40.000Z/sbom.cyclonedx.json".to_owned())]);
}

#[test]
fn of_an_index_each_image_is_told_and_the_first_ones_sbom_is_taken() {
    let mut world = World { registry: ScanSource::Enhanced, now: 1000, ..World::default() };
    let children = vec![child("amd", "linux/amd64"), child("arm", "linux/arm64")];
    world.tags.insert("1.4.2".into(), ecr_scan_verifier::domain::protocol::Resolved::Index(digest("index"), children));
    for (image, critical) in [("amd", 0), ("arm", 1)] {
        let found: Vec<_> = (0..critical).map(|_| finding("CVE-2024-3094", "CRITICAL")).collect();
        world.scans(image, [complete(ScanSource::Enhanced, 50, &found)]);
        let counts = EventCounts { at: at(60), critical, high: 0, medium: 0, total: critical };
        world.scan_with(image, Hints { counts: Some(counts), must_look: true, ..Hints::default() });
    }
    world.deploys(asking(by_tag(outputs(Some(to_bucket()), true)), |gate| gate.scan = AskedScan::Enhanced));
    world.writes("request-1");
    golden("outputs-index", &shown(&world));
    assert_eq!(world.exports[0].0, repository().image_arn(&digest("amd")));
}

#[test]
fn basic_scanning_has_no_sbom() {
    let mut world = world();
    world.deploys(by_tag(outputs(None, true)));
    world.writes("request-1");
    assert!(world.exports.is_empty());
    assert_eq!(
        world.requests["request-1"].progress.sbom.as_ref().map(|sbom| sbom.what.as_str()),
        Some("SBOM export is only available with Enhanced scanning. Skipping SBOM generation.")
    );
}

fn strict(sbom: bool) -> Request {
    let outputs = Outputs { strict: true, ..outputs(Some(to_bucket()), sbom) };
    asking(by_tag(outputs), |gate| gate.on_block = OnBlock::Warn)
}

#[test]
fn strict_outputs_are_written_before_the_answer() {
    let mut world = World { now: 200, ..world() };
    world.deploys(strict(false));
    assert!(world.sent.is_empty() && world.waits(&strict(false)), "{:?}", world.sent);
    assert_eq!(world.to_write.len(), 1);
    world.writes("request-1");
    assert_eq!((world.logs.len(), world.verdict()), (2, "SUCCESS BLOCK".to_owned()));
    let told = world.requests["request-1"].told.clone().unwrap();
    assert!(told.has_waited, "on-scan has decided, so the summary is in its log");
    world.writes("request-1");
    assert_eq!((world.logs.len(), world.published.len(), world.sent.len()), (2, 1, 1), "nothing of it twice");
}

#[test]
fn a_strict_gate_waits_for_no_message() {
    let mut world = World { now: 200, ..world() };
    world.deploys(strict(false));
    world.broken.push(("Publish", true));
    world.writes("request-1");
    world.timer_rings();
    assert_eq!(world.verdict(), "SUCCESS BLOCK");
}

#[test]
fn what_is_found_while_strict_outputs_are_written_is_told_too() {
    let mut world = World { registry: ScanSource::Enhanced, now: 200, ..world() };
    let counts = |critical| Some(EventCounts { at: at(60), critical, high: 0, medium: 0, total: critical });
    world.scans("app", [complete(ScanSource::Enhanced, 50, &[])]);
    world.scan_with("app", Hints { counts: counts(0), must_look: true, ..Hints::default() });
    world.deploys(asking(strict(true), |gate| (gate.scan, gate.on_block) = (AskedScan::Enhanced, OnBlock::Fail)));
    world.writes("request-1");
    assert!(world.sent.is_empty() && world.published.is_empty(), "Inspector still writes its SBOM");
    world.now += 30;
    world.scans("app", [complete(ScanSource::Enhanced, 210, &[finding("CVE-1", "CRITICAL")])]);
    world.scan_with("app", Hints { counts: counts(1), must_look: true, ..Hints::default() });
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
    world.writes("request-1");
    assert_eq!(world.published.len(), 1);
}

#[test]
fn findings_that_are_gone_or_cannot_be_read_keep_nothing_else_from_being_written() {
    let mut world = world();
    world.deploys(by_tag(outputs(Some(to_bucket()), false)));
    world.broken.push(("ReadFacts", true));
    assert!(matches!(world.writes("request-1"), Outcome::Redeliver(_)));
    assert_eq!((world.logs.len(), world.published.len()), (0, 1));
    world.broken.clear();
    world.facts.clear();
    world.writes("request-1");
    assert!(world.logs.is_empty() && !world.requests["request-1"].progress.logs.clone().unwrap().is_written, "no list is not an empty one");
}

#[test]
fn an_image_that_nobody_can_scan_has_a_summary_that_says_so() {
    let mut world = world();
    world.scans("app", [status("UNSUPPORTED_IMAGE")]);
    let allow = ecr_scan_verifier::domain::request::OnUnscanned::Allow;
    world.deploys(asking(by_tag(outputs(Some(to_group()), false)), |gate| gate.on_unscanned = allow));
    assert_eq!(world.verdict(), "SUCCESS UNSCANNED");
    world.writes("request-1");
    assert!(shown(&world).contains("No scan result.\n\n--- Verdict ---\nUNSCANNED\n"), "{}", shown(&world));
}

#[test]
fn strict_outputs_that_cannot_be_written_let_nothing_through() {
    let mut world = World { now: 200, ..world() };
    world.deploys(strict(false));
    world.broken.push(("WriteLogs", true));
    world.writes("request-1");
    while world.waits(&strict(false)) {
        world.timer_rings();
    }
    assert!(world.verdict().starts_with("FAILED payments-api:1.4.2 may pass, but `strictOutputs`"), "{}", world.verdict());
    assert_ne!(world.requests["request-1"].told.as_ref().map(|told| told.decided_at), Some(at(world.now)), "nobody is told anew");
    assert!(world.to_write.len() > 10, "each timer has asked for them again");

    // What was mended in time is let through.
    let mut world = World { now: 200, ..self::world() };
    world.deploys(strict(false));
    world.broken.push(("WriteLogs", true));
    world.writes("request-1");
    world.broken.clear();
    world.writes("request-1");
    assert_eq!(world.verdict(), "SUCCESS BLOCK");
}

#[test]
fn a_strict_sbom_that_does_not_come_refuses_the_deployment() {
    let mut world = World { registry: ScanSource::Enhanced, now: 200, ..world() };
    world.scans("app", [complete(ScanSource::Enhanced, 50, &[])]);
    let counts = EventCounts { at: at(60), critical: 0, high: 0, medium: 0, total: 0 };
    world.scan_with("app", Hints { counts: Some(counts), must_look: true, ..Hints::default() });
    world.export = ExportState::Failed;
    world.deploys(asking(strict(true), |gate| gate.scan = AskedScan::Enhanced));
    while let Some((_, after)) = world.to_write.pop() {
        world.now += after.as_secs();
        world.writes("request-1");
    }
    let reason = world.answered().1.to_string();
    assert!(reason.contains("SBOM export failed. Filter criteria"), "{reason}");
}

#[test]
fn strict_outputs_of_a_request_that_waited_for_its_scan_are_written_when_it_is_judged() {
    let mut world = World { now: 200, ..world() };
    let answers = world.scans.remove(&digest("app")).unwrap();
    world.scans("app", [status("PENDING")]);
    world.deploys(strict(false));
    world.scans.insert(digest("app"), answers);
    world.now += 10;
    world.scan_ends("app");
    assert!(world.sent.is_empty() && world.to_write.len() == 1, "judged, and asked for its outputs");
    world.writes("request-1");
    assert_eq!((world.logs.len(), world.verdict()), (2, "SUCCESS BLOCK".to_owned()));
}

#[test]
fn what_blocks_is_refused_at_once_and_a_rollback_waits_for_no_output() {
    let mut world = World { now: 200, ..world() };
    world.deploys(asking(strict(false), |gate| gate.on_block = OnBlock::Fail));
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
    let mut world = World { now: 200, ..self::world() };
    world.rolling_back = true;
    world.deploys(wanting(update("app"), Outputs { strict: true, ..outputs(Some(to_bucket()), false) }));
    assert_eq!(world.verdict(), "SUCCESS ROLLBACK");
}
