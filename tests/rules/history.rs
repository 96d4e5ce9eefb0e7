//! The history, as a person and a program read it.

use ecr_scan_verifier::cli::Format;
use ecr_scan_verifier::cli::history::{shown, subject};
use ecr_scan_verifier::domain::finding::Counts;
use ecr_scan_verifier::domain::history::{Decision, Subject};
use ecr_scan_verifier::domain::outputs::{Progress, Scanned, Settled};
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::scan::{Facts, ScanSource};

use crate::world::*;

const STACK: &str = "arn:aws:cloudformation:eu-west-1:123456789012:stack/payments/8f9a1c20-2a3b-11f1-8c4d-0ab1c2d3e4f5";

fn decisions() -> Vec<Decision> {
    let policy = at_or_above("HIGH");
    let scanned = |image, counts: &[(&str, u64)]| Scanned {
        image,
        source: ScanSource::Enhanced,
        status: "ACTIVE".into(),
        completed_at: at(50),
        counts: Counts::stated(counts.iter().copied()),
        facts: Facts::new(ScanSource::Enhanced, vec![]).hash().clone(),
    };
    let passed = Decision {
        signed: None,
        at: Some(at(200)),
        stack: STACK.into(),
        logical_id: "Gate".into(),
        request_id: "3a1f8a10".into(),
        repository: "payments-api".into(),
        image: "1.4.3".into(),
        digest: Some(digest("app").to_string()),
        verdict: "PASS".into(),
        why: String::new(),
        policy_hash: Some(policy.hash().to_string()),
        policy: Some(policy.canonical()),
        known: vec![scanned(child("app", ""), &[("MEDIUM", 2)])],
        outputs: Some(Progress { logs: Some(Settled::written("log group scans")), sbom: Some(Settled::not_written("no key")), ..Progress::default() }),
    };
    let index = Decision {
        at: Some(at(100)),
        image: "1.4.2".into(),
        verdict: "BLOCK".into(),
        why: "ECR Image Scan found vulnerabilities.".into(),
        policy: None,
        known: vec![scanned(child("amd", "linux/amd64"), &[]), scanned(child("arm", "linux/arm64"), &[("CRITICAL", 1)])],
        outputs: None,
        ..passed.clone()
    };
    // As little as an unreadable request leaves.
    let refused =
        Decision { at: Some(at(10)), verdict: "REFUSED".into(), why: "unknown".into(), digest: None, policy_hash: None, known: vec![], ..index.clone() };
    vec![passed, index, refused]
}

#[test]
fn a_decision_is_told_with_what_was_known_then() {
    golden("history", &shown("main", &decisions(), Format::Text));
    golden("history-json", &shown("main", &decisions()[..2], Format::Json));
}

#[test]
fn a_history_is_of_a_digest_or_of_a_stack() {
    let digest = digest("app");
    let image = |repository: Option<&str>| Subject::Image { digest: digest.clone(), repository: repository.map(str::to_owned) };
    for (text, expected) in [
        (digest.to_string(), image(None)),
        (format!("team/app@{digest}"), image(Some("team/app"))),
        (format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app@{digest}"), image(Some("team/app"))),
        ("payments".to_owned(), Subject::StackName("payments".into())),
        (STACK.to_owned(), Subject::Stack(STACK.into())),
    ] {
        assert_eq!(subject(&text), Ok(expected), "{text}");
    }
    for (text, says) in [
        ("team/app:1.4.2", "by its tag"),
        ("sha256:short", "is not an image digest"),
        ("arn:aws:ecr:eu-west-1:123456789012:repository/app", "not the ARN of a stack"),
        ("arn:aws:cloudformation:eu-west-1:123456789012:stack/payments", "not the ARN of a stack"),
        ("1payments", "no name of a stack"),
        ("", "no name of a stack"),
    ] {
        let error = subject(text).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn every_decision_says_which_image_and_what_was_known_of_it() {
    let found = |severity| complete(ScanSource::Basic, 50, &[finding("CVE-1", severity)]);
    let ignoring = Policy::from_words(None, Some("HIGH"), ["CVE-1".to_owned()]).unwrap();
    for (answer, request, verdict, known) in [
        (found("LOW"), create("app"), "PASS", Some("LOW: 1")),
        (found("HIGH"), create("app"), "BLOCK", Some("HIGH: 1")),
        (found("HIGH"), asking(create("app"), |gate| gate.policy = ignoring), "PASS", Some("")),
        (found("LOW"), asking(create("app"), |gate| gate.max_scan_age_s = Some(10)), "REFUSED", Some("LOW: 1")),
        (status("FAILED"), create("app"), "UNSCANNED", None),
    ] {
        let mut world = World::default();
        world.scans("app", [answer]);
        world.deploys(request);
        let record = world.recorded.last().expect("a decision");
        assert_eq!((record.verdict.as_str(), record.digest.as_ref()), (verdict, Some(&digest("app"))));
        assert_eq!(record.known.first().map(|scanned| scanned.counts.to_string()).as_deref(), known, "{verdict}");
    }
}

#[test]
fn whoever_is_refused_without_a_look_is_known_by_what_it_waited_for() {
    let mut world = World::default();
    world.scans("app", [status("IN_PROGRESS")]);
    world.deploys(create("app"));
    world.now += 900;
    world.wakes("request-1", ecr_scan_verifier::domain::protocol::wake::By::Sweep);
    let record = world.recorded.last().expect("a decision");
    assert_eq!((record.verdict.as_str(), record.digest.as_ref()), ("TIMED_OUT", Some(&digest("app"))));
}
