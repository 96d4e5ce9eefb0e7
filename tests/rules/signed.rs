//! Deployments whose image has to be signed.

use ecr_scan_verifier::domain::alert::NoticeKind;
use ecr_scan_verifier::domain::history::Decision;
use ecr_scan_verifier::domain::outputs::{Layout, Log, LogsTo, Outputs};
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::protocol::deploy::Deploy;
use ecr_scan_verifier::domain::protocol::scan::Hints;
use ecr_scan_verifier::domain::protocol::wake::By;
use ecr_scan_verifier::domain::protocol::{Outcome, Resolved};
use ecr_scan_verifier::domain::request::{AskedScan, Gate, Glass, Request, RequestKind};
use ecr_scan_verifier::domain::scan::ScanSource;
use ecr_scan_verifier::domain::signature::asked::OnUnsigned;

use crate::world::Signatures::*;
use crate::world::*;

fn signed(request: Request) -> Request {
    asking(request, |gate| gate.signatures = asked_to_be_signed(OnUnsigned::Fail))
}

fn or_warned(request: Request) -> Request {
    asking(request, |gate| gate.signatures = asked_to_be_signed(OnUnsigned::Warn))
}

fn signature_only(request: Request) -> Request {
    asking(signed(request), |gate| gate.scan = AskedScan::SignatureOnly)
}

/// An image that was pushed so long ago that nobody signs it any more, and whose scan blocks nothing.
fn scanned(image: &str) -> World {
    let mut world = World::default();
    world.scans(image, [complete(ScanSource::Basic, 50, &[])]);
    world.scan_ends(image);
    world.is_image(image);
    world.did.clear();
    world
}

fn pushed(mut world: World, image: &str, at_second: i64) -> World {
    world.heads.get_mut(&digest(image)).expect("it has a row").pushed_at = Some(at(at_second));
    world
}

fn old(image: &str) -> World {
    pushed(scanned(image), image, -1000)
}

#[test]
fn a_signed_image_passes_and_an_unsigned_one_is_refused_before_its_scan_is_looked_at() {
    for (signatures, says) in [
        (Good, "SUCCESS PASS"),
        (None, "FAILED Signature verification failed for image: payments-api:"),
        (OfAnotherKey, "FAILED Signature verification failed for image: payments-api:"),
        (Denied, "FAILED Signature verification failed for image: payments-api:"),
    ] {
        let mut world = old("app");
        world.signatures("app", [signatures]);
        world.deploys(signed(create("app")));
        assert!(world.verdict().starts_with(says), "{signatures:?}: {}", world.verdict());
        assert_eq!(world.rows.is_empty(), signatures != Good);
    }
    // Without a scan too: there is nothing to wait for.
    let mut world = World { heads: old("app").heads, ..World::default() };
    world.heads.get_mut(&digest("app")).unwrap().result = Option::None;
    world.deploys(signed(create("app")));
    assert!(world.verdict().starts_with("FAILED Signature verification failed"), "{}", world.verdict());
    assert!(!world.did.contains(&"Look".to_owned()), "{:?}", world.did);
}

#[test]
fn what_a_known_verdict_of_a_signed_image_costs() {
    let mut world = scanned("app");
    world.signatures("app", [Good]);
    assert_eq!(world.deploys(signed(create("app"))), Outcome::Done("PASS".into()));
    assert_eq!(world.did, ["ReadHeads", "Verify", "Record", "Put", "MarkAnswered"]);
    let record = world.recorded[0].signed.as_ref().expect("it is recorded");
    assert!(record.verified && record.kind == "COSIGN" && record.images[0].digest == digest("app"));
}

#[test]
fn a_refusal_says_the_originals_lines_then_whose_signature_is_missing_and_what_to_do() {
    let mut world = old("app");
    world.signatures("app", [OfAnotherKey]);
    world.deploys(signed(create("app")));
    let (_, reason) = world.answered();
    golden("unsigned", reason.as_str().unwrap());

    let mut world = old("app");
    world.signatures("app", [Denied]);
    world.deploys(signed(create("app")));
    golden("unchecked", world.answered().1.as_str().unwrap());
}

#[test]
fn a_signature_that_is_good_does_not_excuse_a_finding() {
    let mut world = World::default();
    world.scans("app", [complete(ScanSource::Basic, 50, &[finding("CVE-1", "CRITICAL")])]);
    world.scan_ends("app");
    world.is_image("app");
    world.signatures("app", [Good]);
    world.deploys(signed(create("app")));
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
}

#[test]
fn fail_on_unsigned_false_forgives_what_is_not_signed_and_never_what_could_not_be_checked() {
    for (signatures, passes) in [(None, true), (OfAnotherKey, true), (Good, true), (CouldNotCheck, false), (Broken, false), (Denied, false)] {
        let mut world = old("app");
        world.signatures("app", [signatures]);
        let request = or_warned(create("app"));
        world.deploys(request.clone());
        while world.waits(&request) {
            world.timer_rings();
        }
        assert_eq!(world.answered().0, if passes { "SUCCESS" } else { "FAILED" }, "{signatures:?}");
        if passes {
            assert_eq!(world.verdict(), "SUCCESS PASS", "what it says of the scan stays what it is");
            assert_eq!(world.recorded[0].signed.as_ref().unwrap().verified, signatures == Good);
        }
    }
}

#[test]
fn fail_on_unsigned_false_goes_on_to_the_scan() {
    let mut world = World::default();
    world.scans("app", [complete(ScanSource::Basic, 50, &[finding("CVE-1", "CRITICAL")])]);
    world.scan_ends("app");
    world.deploys(or_warned(create("app")));
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
}

#[test]
fn what_was_pushed_a_moment_ago_may_still_be_signed() {
    let mut world = pushed(scanned("app"), "app", 95);
    let request = signed(create("app"));
    assert_eq!(world.deploys(request.clone()), Outcome::Done(format!("waits for a signature of {}", digest("app"))));
    assert!(world.waits(&request) && world.sent.is_empty());
    // Registered, then looked at once more: it may have been signed in between.
    let place = |name: &str| world.did.iter().rposition(|did| did == name).unwrap();
    assert!(place("Register") < place("Verify"), "{:?}", world.did);

    // Its signature comes, and its event.
    world.signatures("app", [Good]);
    world.did.clear();
    world.scan_with("app", Hints { signed: true, can_wait: true, looked_again: u32::MAX, ..Hints::default() });
    assert_eq!(world.verdict(), "SUCCESS PASS");
    assert!(!world.did.contains(&"Look".to_owned()), "a signature is no reason to ask the scanner: {:?}", world.did);
}

#[test]
fn a_signature_wakes_who_waits_for_it_where_no_scan_was_ever_looked_at() {
    let mut world = World::default();
    let request = signature_only(create("app"));
    world.deploys(request.clone());
    assert!(world.waits(&request));
    world.signatures("app", [Good]);
    world.scan_with("app", Hints { signed: true, can_wait: true, looked_again: u32::MAX, ..Hints::default() });
    assert_eq!(world.verdict(), "SUCCESS PASS");
    assert!(world.heads.is_empty(), "nobody has looked for a scan");
}

#[test]
fn nobody_waits_for_a_signature_longer_than_one_takes() {
    let mut world = pushed(scanned("app"), "app", 95);
    let request = signed(create("app"));
    world.deploys(request.clone());
    let mut looked = 0;
    while world.waits(&request) {
        world.timer_rings();
        looked += 1;
    }
    assert!(world.verdict().starts_with("FAILED Signature verification failed"), "{}", world.verdict());
    assert!((95 + 120..95 + 120 + 61).contains(&world.now), "{} s, {looked} looks", world.now);
}

#[test]
fn a_signature_that_comes_between_the_look_and_the_registration_is_not_missed() {
    let mut world = pushed(scanned("app"), "app", 95);
    world.signatures("app", [None, Good]);
    world.deploys(signed(create("app")));
    assert_eq!(world.verdict(), "SUCCESS PASS");
}

#[test]
fn what_could_not_be_checked_waits_as_long_as_there_is_time_and_is_refused_then() {
    for signatures in [CouldNotCheck, Broken] {
        let mut world = old("app");
        world.signatures("app", [signatures]);
        let request = signed(create("app"));
        world.deploys(request.clone());
        while world.waits(&request) {
            world.timer_rings();
        }
        assert_eq!(world.now, 100 + 840, "{signatures:?}");
        let reason = world.answered().1.as_str().unwrap().to_owned();
        assert!(reason.contains("could not be checked for a signature by") && !reason.contains("is not signed by"), "{reason}");

        // It can be checked again before that.
        let mut world = old("app");
        world.signatures("app", [signatures, signatures, Good]);
        world.deploys(request.clone());
        world.timer_rings();
        assert_eq!(world.verdict(), "SUCCESS PASS");
    }
}

#[test]
fn a_scan_and_a_signature_are_waited_for_together() {
    let mut world = World::default();
    let request = signed(create("app"));
    world.deploys(request.clone());
    assert!(world.waits(&request));
    // The signature comes first, then the scan ends.
    world.signatures("app", [Good]);
    world.scan_with("app", Hints { signed: true, can_wait: true, looked_again: u32::MAX, ..Hints::default() });
    assert!(world.waits(&request), "there is no scan yet");
    world.scans("app", [complete(ScanSource::Basic, 102, &[])]);
    world.scan_ends("app");
    assert_eq!(world.verdict(), "SUCCESS PASS");

    // The other way round; and a finding is refused without waiting for a signature.
    for (findings, waits) in [(vec![], true), (vec![finding("CVE-1", "CRITICAL")], false)] {
        let mut world = World::default();
        world.deploys(request.clone());
        world.scans("app", [complete(ScanSource::Basic, 102, &findings)]);
        world.scan_ends("app");
        assert_eq!(world.waits(&request), waits, "{findings:?}");
        world.signatures("app", [Good]);
        world.scan_with("app", Hints { signed: true, can_wait: true, looked_again: u32::MAX, ..Hints::default() });
        assert_eq!(world.answered().0 == "SUCCESS", waits);
    }
}

#[test]
fn signature_only_asks_for_no_scan() {
    let mut world = World::default();
    world.signatures("app", [Good]);
    world.deploys(signature_only(create("app")));
    assert_eq!(world.verdict(), "SUCCESS PASS");
    assert_eq!(world.answered().1["ScannedAt"], "");
    assert!(!world.did.iter().any(|did| ["Look", "LookAgain", "StartScan"].contains(&did.as_str())), "{:?}", world.did);
    assert!(world.recorded[0].admitted.as_ref().unwrap().policy.is_none(), "later findings are no objection of this gate");

    // A block by a scan that somebody else asked for is not this gate's.
    let mut world = World::default();
    world.scans("app", [complete(ScanSource::Basic, 50, &[finding("CVE-1", "CRITICAL")])]);
    world.scan_ends("app");
    world.is_image("app");
    world.signatures("app", [Good]);
    world.deploys(signature_only(create("app")));
    assert_eq!(world.verdict(), "SUCCESS PASS");

    let mut world = old("app");
    world.deploys(signature_only(create("app")));
    assert!(world.verdict().starts_with("FAILED Signature verification failed"), "{}", world.verdict());
}

#[test]
fn an_image_that_is_not_there_is_not_taken_for_unsigned() {
    let mut world = World::default();
    world.signatures("app", [NoImage]);
    world.deploys(asking(signature_only(create("app")), |gate| gate.signatures = asked_to_be_signed(OnUnsigned::Warn)));
    let says = world.verdict();
    assert!(says.contains("does not exist in ECR"), "{says}");
}

fn index(children: &[&str]) -> World {
    let mut world = World::default();
    for image in children {
        world.scans(image, [complete(ScanSource::Basic, 50, &[])]);
        world.scan_ends(image);
    }
    let children = children.iter().map(|image| child(image, &format!("linux/{image}"))).collect();
    world.tags.insert("1.4.2".into(), Resolved::Index(digest("index"), children));
    world.now = 1000;
    world.did.clear();
    world
}

/// Asked so late that nobody signs it any more, as nobody knows when it was pushed.
fn late(request: Request) -> Request {
    Request { asked_at: at(500), ..request }
}

#[test]
fn an_index_is_signed_itself_or_each_of_its_images_is() {
    for (of_index, of_arm, of_amd, passes, names) in [
        (Good, None, None, true, ""),
        (None, Good, Good, true, ""),
        (OfAnotherKey, Good, Good, true, ""),
        (CouldNotCheck, Good, Good, true, ""),
        (None, Good, None, false, "(linux/amd)"),
        (None, None, Good, false, "is not signed by"),
        (None, None, None, false, "is not signed by"),
        (Denied, None, None, false, "could not be checked"),
        (Denied, Good, None, false, "could not be checked"),
        (None, Good, Denied, false, "could not be checked"),
    ] {
        let mut world = index(&["arm", "amd"]);
        world.signatures("index", [of_index]).signatures("arm", [of_arm]).signatures("amd", [of_amd]);
        world.deploys(late(signed(create_by_tag("1.4.2"))));
        assert_eq!(world.answered().0, if passes { "SUCCESS" } else { "FAILED" }, "{of_index:?} {of_arm:?} {of_amd:?}");
        let text = world.answered().1.to_string();
        assert!(text.contains(names), "{text}");
    }
}

#[test]
fn an_index_whose_signature_could_not_be_checked_is_not_forgiven_for_its_images() {
    for of_arm in [None, Good] {
        let mut world = index(&["arm", "amd"]);
        world.signatures("index", [Denied]).signatures("arm", [of_arm]).signatures("amd", [None]);
        world.deploys(late(or_warned(create_by_tag("1.4.2"))));
        assert_eq!(world.answered().0, "FAILED", "{of_arm:?}");
    }
}

#[test]
fn only_the_images_that_count_have_to_be_signed() {
    let mut world = index(&["arm", "amd"]);
    world.signatures("arm", [Good]);
    world.deploys(late(asking(signed(create_by_tag("1.4.2")), |gate| gate.platforms = vec!["linux/arm".into()])));
    assert_eq!(world.verdict(), "SUCCESS PASS");
}

#[test]
fn a_signature_of_one_image_of_an_index_wakes_who_waits_for_the_index() {
    let mut world = index(&["arm", "amd"]);
    world.now = 100;
    world.signatures("arm", [Good]);
    let request = signed(create_by_tag("1.4.2"));
    world.deploys(request.clone());
    assert!(world.waits(&request));
    world.signatures("amd", [Good]);
    world.scan_with("amd", Hints { signed: true, can_wait: true, looked_again: u32::MAX, ..Hints::default() });
    assert_eq!(world.verdict(), "SUCCESS PASS");
}

#[test]
fn the_digest_that_was_verified_is_the_one_that_is_deployed() {
    let mut world = pushed(scanned("app"), "app", 95);
    world.tags.insert("1.4.2".into(), Resolved::Image(digest("app")));
    let request = signed(create_by_tag("1.4.2"));
    world.deploys(request.clone());
    assert!(world.waits(&request));
    world.signatures("app", [Good]).signatures("other", [Good]);
    world.tags.insert("1.4.2".into(), Resolved::Image(digest("other")));
    world.wakes(&request.request_id, By::News);
    assert!(world.verdict().contains("the tag was moved while this deployment waited") || world.verdict().contains("does not name"), "{}", world.verdict());
}

#[test]
fn a_rollback_is_not_held_up_for_a_signature() {
    let mut world = old("app");
    world.rolling_back = true;
    world.deploys(signed(update("app")));
    assert_eq!(world.verdict(), "SUCCESS ROLLBACK");
    assert_eq!(world.recorded[0].signed, Option::None, "nothing of it was decided by a signature");

    // `suppressErrorOnRollback: false` asks for one in a rollback too, and for one that is there.
    let mut world = pushed(scanned("app"), "app", 95);
    world.rolling_back = true;
    let request = asking(signed(update("app")), |gate| gate.suppress_on_rollback = false);
    world.deploys(request.clone());
    assert!(!world.waits(&request));
    assert!(world.verdict().starts_with("FAILED Signature verification failed"), "{}", world.verdict());
}

#[test]
fn an_update_that_is_no_rollback_is_refused() {
    let mut world = old("app");
    world.deploys(signed(update("app")));
    assert!(world.verdict().starts_with("FAILED Signature verification failed"), "{}", world.verdict());
    assert!(world.did.contains(&"ReadStack".to_owned()));
}

#[test]
fn broken_glass_lets_an_unsigned_image_in_and_is_recorded_as_that() {
    let mut world = old("app");
    let request = signed(create("app"));
    world.glass = Some(Glass {
        stack_id: request.stack_id.clone(),
        repository: repository(),
        digest: digest("app"),
        reason: "the signing service is down, INC-7".into(),
        until: at(10_000),
    });
    world.deploys(request);
    assert_eq!(world.verdict(), "SUCCESS BREAK_GLASS");
    assert!(!world.recorded[0].signed.as_ref().unwrap().verified);
    assert!(world.glass.is_none());
}

fn with_outputs(gate: &mut Gate, logs: Option<LogsTo>, layout: Layout) {
    gate.outputs = Some(Outputs {
        role_arn: "arn:aws:iam::123456789012:role/ecr-scan-verifier/x".into(),
        logs,
        layout,
        topic_arn: Some("topic".into()),
        ..Outputs::default()
    });
}

#[test]
fn what_became_of_the_signature_is_written_and_told_whatever_it_was() {
    let s3 = || Some(LogsTo::S3 { bucket: "bucket".into(), prefix: "logs/".into() });
    let streams = || Some(LogsTo::CloudWatch { group: "group".into() });
    let mut said = Vec::new();
    for (what, signatures, layout, warned, logs) in [
        ("good", Good, Layout::Tag, false, s3()),
        ("good, by digest", Good, Layout::Digest, false, s3()),
        ("refused", OfAnotherKey, Layout::Tag, false, streams()),
        ("refused, by digest", OfAnotherKey, Layout::Digest, false, streams()),
        ("let through", None, Layout::Tag, true, s3()),
        ("let through, in the function's log", None, Layout::Tag, true, Option::None),
    ] {
        let mut world = old("app");
        world.tags.insert("1.4.2".into(), Resolved::Image(digest("app")));
        world.signatures("app", [signatures]);
        let request = asking(if warned { or_warned(create_by_tag("1.4.2")) } else { signed(create_by_tag("1.4.2")) }, |gate| with_outputs(gate, logs, layout));
        world.deploys(request.clone());
        world.writes(&request.request_id);
        said.push(format!("=== {what}"));
        for log in &world.logs {
            said.push(match log {
                Log::Stream { group, stream, events, .. } => format!("{group} {stream}\n{}", events.join("\n")),
                Log::Object { bucket, key, body, .. } if key.contains("signature") => format!("s3://{bucket}/{key}\n{body}"),
                Log::Object { bucket, key, .. } => format!("s3://{bucket}/{key}"),
            });
        }
        for (_, message) in &world.published {
            let body: serde_json::Value = serde_json::from_str(&message.body).unwrap();
            let chat: serde_json::Value = serde_json::from_str(body["https"].as_str().unwrap()).unwrap();
            said.push(format!("message {:?}\n{}\n{}", message.attributes, chat["content"]["title"], body["default"].as_str().unwrap()));
        }
        let published = world.published.len();
        world.writes(&request.request_id);
        assert_eq!(world.published.len(), published, "told once");
    }
    golden("signature-outputs", &said.join("\n"));
}

#[test]
fn a_log_that_cannot_be_written_is_no_matter_of_the_signature() {
    let mut world = old("app");
    world.signatures("app", [Good]);
    let request = asking(signed(create("app")), |gate| with_outputs(gate, Some(LogsTo::CloudWatch { group: "group".into() }), Layout::Tag));
    world.broken.push(("WriteLogs", true));
    world.deploys(request.clone());
    world.writes(&request.request_id);
    assert_eq!(world.verdict(), "SUCCESS PASS");
    assert!(world.published.is_empty());
}

#[test]
fn the_pipelines_topic_hears_of_what_was_refused_or_let_through_for_its_signature() {
    let mut said = Vec::new();
    for (signatures, request) in [(OfAnotherKey, signed(create("app"))), (None, or_warned(create("app"))), (Good, signed(create("app")))] {
        let mut world = old("app");
        world.alerting.topic_arn = Some("pipelines".into());
        world.signatures("app", [signatures]);
        world.deploys(request.clone());
        world.tells(&request.request_id);
        if signatures == Good {
            assert!(world.told.is_empty());
            continue;
        }
        let [(NoticeKind::SignatureFailed, message)] = world.told.as_slice() else { panic!("{:?}", world.told) };
        let body: serde_json::Value = serde_json::from_str(&message.body).unwrap();
        said.push(format!("{}\n{:?}\n{}", message.subject.as_ref().unwrap(), message.attributes, body["default"].as_str().unwrap()));
    }
    // Where it is the gate's own topic too, that one has heard it.
    let mut world = old("app");
    world.alerting.topic_arn = Some("topic".into());
    let request = asking(signed(create("app")), |gate| with_outputs(gate, Option::None, Layout::Tag));
    world.deploys(request.clone());
    world.tells(&request.request_id);
    assert!(world.told.is_empty());
    golden("alerts_of_signatures", &said.join("\n----\n"));
}

#[test]
fn a_check_says_what_a_deployment_would_be_told() {
    let check = |world: &mut World, request: Request| match world.drive(Deploy::checking(request.gate, request.named, home(), Policy::default(), at(world.now)))
    {
        Outcome::Checked(checked) => {
            (checked.verdict.word(), checked.may_deploy, checked.message.clone(), checked.retry_after_seconds, checked.signature.clone())
        }
        other => panic!("{other:?}"),
    };
    let mut world = old("app");
    world.signatures("app", [Good]);
    let (verdict, may_deploy, _, _, signature) = check(&mut world, signed(create("app")));
    assert!(verdict == "PASS" && may_deploy && signature.unwrap().verified);

    let mut world = old("app");
    let (verdict, may_deploy, message, retry, signature) = check(&mut world, signed(create("app")));
    assert!(verdict == "SIGNATURE_FAILED" && !may_deploy && retry.is_none() && !signature.unwrap().verified, "{verdict} {message}");
    assert!(message.contains("it has no signature"), "{message}");

    // Who asks again and again is not told to wait for ever.
    let mut world = scanned("app");
    assert_eq!(check(&mut world, signed(create("app"))).0, "SIGNATURE_FAILED", "nobody knows when it was pushed");

    let mut world = pushed(scanned("app"), "app", 95);
    let (verdict, may_deploy, message, retry, _) = check(&mut world, signed(create("app")));
    assert!(verdict == "PENDING" && !may_deploy && retry.is_some(), "{verdict}");
    assert!(message.contains("is not signed as asked yet"), "{message}");
    assert!(world.requests.is_empty() && world.recorded.is_empty());

    let mut world = World::default();
    world.signatures("app", [Good]);
    let (verdict, _, message, ..) = check(&mut world, signature_only(create("app")));
    assert!(verdict == "PASS" && message.contains("it is signed as asked"), "{message}");
}

#[test]
fn a_row_of_history_says_who_had_signed_it() {
    let mut world = old("app");
    world.signatures("app", [OfAnotherKey]);
    world.deploys(signed(create("app")));
    let decision = Decision { repository: "payments-api".into(), signed: world.recorded[0].signed.clone(), ..Decision::default() };
    let text = ecr_scan_verifier::cli::history::shown("demo", &[decision], ecr_scan_verifier::cli::Format::Text);
    assert!(text.contains("signature    payments-api@sha256:") && text.contains("is not signed by the KMS key"), "{text}");
}

#[test]
fn a_delete_asks_for_no_signature() {
    let mut world = World::default();
    world.signatures("app", [Denied]);
    world.deploys(Request { kind: RequestKind::Delete, ..signed(create("app")) });
    assert_eq!(world.answered().0, "SUCCESS");
    assert!(!world.did.contains(&"Verify".to_owned()));
}

#[test]
fn a_signature_that_is_waited_for_leaves_the_scan_of_the_image_alone() {
    let mut world = pushed(scanned("app"), "app", 95);
    world.deploys(signature_only(create("app")));
    assert!(world.look_again.is_empty() && world.started.is_empty());
}
