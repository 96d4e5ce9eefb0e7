//! Every sentence of a refused deployment, as CloudFormation's user reads it. The golden files are the review.

use ecr_scan_verifier::domain::finding::{Counts, Finding, FindingStatus, Rating};
use ecr_scan_verifier::domain::judge::judge;
use ecr_scan_verifier::domain::message::{self, Blocked, NotYet};
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::request::{Answer, Reason, Ruling};
use ecr_scan_verifier::domain::scan::{ScanSource, ScanState};

use crate::world::*;

/// What stands in the stack's events.
fn shown(reason: Reason) -> String {
    let answer = Answer::new(&create("app"), &Ruling::Failed(reason));
    let body: serde_json::Value = serde_json::from_str(answer.as_str()).unwrap();
    body["Reason"].as_str().unwrap().to_owned() + "\n"
}

#[test]
fn blocked() {
    let create = create_by_tag("1.4.2");
    let mut gate = create.gate.unwrap();
    gate.policy = Policy::from_words(Some(&["CRITICAL".into(), "HIGH".into()]), None, ["CVE-2020-1".into()]).unwrap();
    let list = [
        in_package(finding("CVE-2024-3094", "CRITICAL"), "xz-utils", "5.6.0", Some("5.6.1")),
        in_package(in_package(finding("CVE-2023-4911", "HIGH"), "glibc", "2.36", None), "glibc-dev", "2.36", None),
    ];
    let counts = Counts::of(list.iter().chain(&[finding("CVE-2", "LOW"), finding("CVE-3", "UNTRIAGED")]));
    let unrated = Counts::of(&[finding("CVE-3", "UNTRIAGED")]);
    let image = child("app", "linux/arm64");
    let found: Vec<Finding> = list.iter().cloned().chain([finding("CVE-2020-1", "HIGH")]).collect();
    let judgement = judge(&found, &gate.policy, "payments-api", at(0));
    let blocked = Blocked {
        gate: &gate,
        image: &image,
        source: ScanSource::Enhanced,
        counts: &counts,
        blocking: 2,
        judgement: Some(&judgement),
        unrated: &unrated,
        also: 1,
    };
    golden("blocked", &shown(message::found_vulnerabilities(&blocked)));

    let many: Vec<Finding> = (0..60).map(|n| in_package(finding(&format!("CVE-2024-{n:04}"), "CRITICAL"), "openssl", "3.0.1", Some("3.0.15"))).collect();
    let counts = Counts::of(&many);
    let image = child("app", "");
    let none = Counts::default();
    let policy = Policy::default();
    let judgement = judge(&many, &policy, "payments-api", at(0));
    let blocked = Blocked { image: &image, counts: &counts, blocking: 60, judgement: Some(&judgement), unrated: &none, also: 0, ..blocked };
    golden("blocked-by-many", &shown(message::found_vulnerabilities(&blocked)));
    golden("blocked-findings-gone", &shown(message::found_vulnerabilities(&Blocked { judgement: None, ..blocked })));
}

#[test]
fn blocked_beyond_severity() {
    let mut gate = create_by_tag("1.4.2").gate.unwrap();
    gate.policy = Policy::parse(
        r#"{"severityThreshold":"HIGH","maxFindings":{"MEDIUM":1},"graceDays":30,"exemptions":[
            {"id":"CVE-2025-1","reason":"not reachable: the parser is never called","until":"2027-12-31"},
            {"id":"CVE-2025-2","reason":"waits for the vendor","until":"2026-06-30"}]}"#,
    )
    .unwrap();
    let young = Finding { first_seen: Some(at(-24 * 3600)), ..finding("CVE-2027-1", "CRITICAL") };
    let found = [
        in_package(finding("CVE-2025-2", "HIGH"), "xz-utils", "5.6.0", Some("5.6.1")),
        finding("CVE-2025-1", "HIGH"),
        young,
        finding("CVE-2025-3", "MEDIUM"),
        finding("CVE-2025-4", "MEDIUM"),
    ];
    let judgement = judge(&found, &gate.policy, "payments-api", at(0));
    let (image, none) = (child("app", ""), Counts::default());
    let blocked = Blocked {
        gate: &gate,
        image: &image,
        source: ScanSource::Enhanced,
        counts: &judgement.counts,
        blocking: 3,
        judgement: Some(&judgement),
        unrated: &none,
        also: 0,
    };
    golden("blocked-beyond-severity", &shown(message::found_vulnerabilities(&blocked)));
}

#[test]
fn timed_out() {
    let request = create_by_tag("1.4.2");
    let image = child("app", "linux/arm64");
    let states = [
        ScanState::NotFound,
        ScanState::Running,
        ScanState::CoveragePending,
        ScanState::LimitExceeded,
        ScanState::FindingsUnavailable,
        ScanState::CountsDisagree,
        ScanState::Unknown("SOMETHING_NEW".into()),
    ];
    let say = |why, listed| shown(message::timed_out(&request, Some((&image, why)), listed));
    let mut text: Vec<String> = states.iter().map(|state| say(NotYet::State(state), None)).collect();
    text.extend([NotYet::Unsettled, NotYet::FindingsGone, NotYet::NoEpss, NotYet::TooOld(at(0))].map(|why| say(why, None)));
    text.push(say(NotYet::State(&ScanState::Running), Some(2)));
    text.push(shown(message::timed_out(&request, None, None)));
    let odd = asking(create_by_tag("1.4.2"), |gate| gate.polling_timeout_s = 61);
    assert!(shown(message::timed_out(&odd, None, None)).starts_with("ECR image scan timed out after 65 seconds."), "as the original counts");
    golden("timed-out", &text.join("---\n"));
}

#[test]
fn unscanned() {
    let gate = create_by_tag("1.4.2").gate.unwrap();
    let states = [ScanState::Failed("The scan failed.".into()), ScanState::Unsupported, ScanState::EligibilityExpired, ScanState::Archived, ScanState::Deleted];
    let text = states.map(|state| shown(message::unscanned(&gate, &child("app", ""), &state)));
    golden("unscanned", &text.join("---\n"));
}

#[test]
fn refused() {
    let gate = create_by_tag("1.4.2").gate.unwrap();
    let old = asking(create_by_tag("1.4.2"), |gate| gate.max_scan_age_s = Some(48 * 3600)).gate.unwrap();
    let abroad = asking(create_by_tag("1.4.2"), |gate| gate.repository.account = "210987654321".into()).gate.unwrap();
    let text = [
        message::start_scan_is_disabled(),
        message::enhanced_is_off(&gate),
        message::image_not_found(&gate),
        message::tag_moved(&gate, &digest("app")),
        message::not_an_image(&gate, "application/vnd.cncf.helm.config.v1+json"),
        message::index_without_images(&gate),
        message::index_too_large(&gate, 41, 40),
        message::foreign_repository(&abroad, "123456789012", "eu-west-1"),
        message::rollback_without_record(&gate),
        message::tag_moved_while_waiting(&gate, &digest("app")),
        message::unusable(&gate, "the manifest is an image and an index at once"),
        message::policy_too_large(&gate, 200_000),
        message::given_up(&gate, "could not read the findings of payments-api: ThrottlingException: Rate exceeded"),
        message::superseded(),
        message::nobody_scans(&gate, &child("app", ""), Some(ScanSource::Basic)),
        message::nobody_scans(&gate, &child("app", ""), Some(ScanSource::Enhanced)),
        message::no_such_platform(&gate, "linux/riscv64", &[child("a", "linux/amd64"), child("b", "")]),
        message::scan_too_old(&old, &child("app", ""), ScanSource::Basic, at(0), at(100 * 3600)),
        message::scan_too_old(&old, &child("app", ""), ScanSource::Enhanced, at(0), at(100 * 3600)),
        message::basic_does_not_say(&gate, &["ignoreUnfixed", "graceDays"]),
        message::outputs_failed(&gate, "could not write s3://logs/scans/findings.json: AccessDenied: no"),
    ];
    golden("refused", &text.map(shown).join("---\n"));
}

#[test]
fn a_suppressed_finding_says_so() {
    let suppressed = Finding { status: FindingStatus::Suppressed, ..Finding::new("CVE-1", Rating::parse(Some("HIGH"))) };
    assert_eq!(message::finding_line(&suppressed), "  HIGH          CVE-1 [suppressed]");
}
