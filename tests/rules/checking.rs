//! A check: what a deployment would be answered, asked without one. It judges as a gate does and leaves nothing behind.

use std::collections::VecDeque;

use ecr_scan_verifier::domain::check::{Checked, Verdict};
use ecr_scan_verifier::domain::finding::Finding;
use ecr_scan_verifier::domain::image::ImageRef;
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::protocol::deploy::Deploy;
use ecr_scan_verifier::domain::protocol::{Outcome, Resolved};
use ecr_scan_verifier::domain::request::{AskedScan, Gate, Glass, Named, OnBlock, OnUnscanned, Request};
use ecr_scan_verifier::domain::scan::{Answered, Report, ScanSource};
use ecr_scan_verifier::events::{Event, read};

use crate::world::*;

/// What only a deployment does.
const LEAVES_SOMETHING: [&str; 12] =
    ["Record", "Register", "Claim", "Tell", "Put", "MarkAnswered", "SendTimer", "StartScan", "SendOutputs", "ReadGlass", "TakeLease", "CloseDeployments"];

fn checks(world: &mut World, request: &Request) -> Outcome {
    let outcome = world.drive(Deploy::checking(request.gate.clone(), request.named.clone(), home(), Policy::default(), at(world.now)));
    let left = world.did.iter().find(|did| LEAVES_SOMETHING.contains(&did.as_str()));
    assert_eq!(left, None, "a check leaves nothing behind");
    assert!(world.requests.is_empty() && world.rows.is_empty() && world.decided.is_empty());
    outcome
}

fn checked(world: &mut World, request: &Request) -> Checked {
    match checks(world, request) {
        Outcome::Checked(checked) => *checked,
        other => panic!("{other:?}"),
    }
}

fn of_tag(answers: impl IntoIterator<Item = Answered>) -> World {
    let mut world = World::default();
    world.tags.insert("1.4.2".into(), Resolved::Image(digest("app")));
    world.scans("app", answers);
    world
}

fn with(change: impl FnOnce(&mut Gate)) -> Request {
    asking(create_by_tag("1.4.2"), change)
}

#[test]
fn a_check_says_what_a_deployment_would_be_answered() {
    let basic = ScanSource::Basic;
    let found = |severity| complete(basic, 50, &[finding("CVE-1", severity)]);
    let blocks = || found("HIGH");
    let unsupported = || status("UNSUPPORTED_IMAGE");
    let listed = |more| Report { more, status: Some("COMPLETE".into()), completed_at: Some(at(50)), listed: true, ..Report::default() };
    let unscanned_is = |on_unscanned| with(|gate| gate.on_unscanned = on_unscanned);
    let starts = AskedScan::Basic { start_scan: true };
    let elsewhere = "arn:aws:ecr:eu-west-1:999999999999:repository/payments-api".parse().unwrap();
    use Verdict::{Block, Pass, Pending, Refused, Unscanned};
    for (answer, request, verdict, may_deploy) in [
        (found("MEDIUM"), with(|_| {}), Pass, true),
        (blocks(), with(|_| {}), Block, false),
        (blocks(), with(|gate| gate.on_block = OnBlock::Warn), Block, true),
        (blocks(), with(|gate| gate.policy = Policy::from_words(None, Some("HIGH"), ["CVE-1".to_owned()]).unwrap()), Pass, true),
        (unsupported(), unscanned_is(OnUnscanned::Block), Unscanned, false),
        (unsupported(), unscanned_is(OnUnscanned::Warn), Unscanned, true),
        (unsupported(), unscanned_is(OnUnscanned::Allow), Unscanned, true),
        // Neither of these lets through what nobody could look at.
        (status("FAILED"), unscanned_is(OnUnscanned::Allow), Unscanned, false),
        (status("FAILED"), with(|gate| gate.on_block = OnBlock::Warn), Unscanned, false),
        (Answered::NoImage, with(|_| {}), Unscanned, false),
        (Answered::NoScan, with(|gate| gate.on_block = OnBlock::Warn), Pending, false),
        (Answered::NoScan, with(|gate| gate.scan = starts), Pending, false),
        (status("IN_PROGRESS"), unscanned_is(OnUnscanned::Allow), Pending, false),
        (status("SOMETHING_NEW"), with(|_| {}), Pending, false),
        (Answered::Findings(listed(true)), with(|_| {}), Pending, false),
        (Answered::Findings(listed(false)), with(|_| {}), Pass, true),
        (found("LOW"), with(|gate| gate.scan = AskedScan::Enhanced), Refused, false),
        (found("LOW"), with(|gate| gate.repository = elsewhere), Refused, false),
        (found("LOW"), with(|gate| gate.max_scan_age_s = Some(10)), Refused, false),
        (found("LOW"), with(|gate| gate.expected = Some(digest("other"))), Refused, false),
        (found("LOW"), with(|gate| gate.image = ImageRef::Tag("no-such-tag".into())), Refused, false),
    ] {
        let checked = checked(&mut of_tag([answer.clone()]), &request);
        assert_eq!((checked.verdict, checked.may_deploy), (verdict, may_deploy), "{answer:?} for {:?}: {}", request.gate, checked.message);
        assert_eq!(checked.retry_after_seconds.is_some(), verdict == Pending);

        // And the gate, asked for the same, agrees.
        let mut world = of_tag([answer.clone()]);
        world.deploys(request.clone());
        assert_eq!(world.waits(&request), verdict == Pending, "{answer:?}");
        if verdict != Pending {
            let (status, rest) = world.answered();
            assert_eq!(status == "SUCCESS", may_deploy, "{answer:?}");
            match status.as_str() {
                "SUCCESS" => assert_eq!(rest["Verdict"], verdict.word(), "{answer:?}"),
                _ => assert_eq!(rest.as_str(), Some(checked.message.as_str()), "the same text as a blocked deployment reads"),
            }
        }
    }
}

#[test]
fn a_known_verdict_is_told_from_one_read() {
    let mut world = World::default();
    world.scans("app", [complete(ScanSource::Basic, 50, &[finding("CVE-1", "MEDIUM")])]);
    world.scan_ends("app");
    world.is_image("app");
    world.did.clear();
    let checked = checked(&mut world, &create("app"));
    assert_eq!((checked.verdict, world.did.as_slice()), (Verdict::Pass, ["ReadHeads".to_owned()].as_slice()));
}

#[test]
fn nobody_breaks_the_glass_for_a_check() {
    let mut world = of_tag([complete(ScanSource::Basic, 50, &[finding("CVE-1", "HIGH")])]);
    let request = with(|_| {});
    world.glass = Some(Glass { stack_id: String::new(), repository: repository(), digest: digest("app"), reason: "tonight".into(), until: at(9000) });
    assert!(!checked(&mut world, &request).may_deploy);
    assert!(world.glass.is_some(), "and it is not used up");
}

#[test]
fn what_could_not_be_looked_up_is_no_verdict() {
    for (broken, denied) in [("Look", true), ("Look", false), ("ReadHeads", false), ("ResolveImage", true), ("WriteHead", false)] {
        let mut world = of_tag([complete(ScanSource::Basic, 50, &[])]);
        world.broken.push((broken, denied));
        let outcome = checks(&mut world, &with(|_| {}));
        assert!(matches!(outcome, Outcome::Redeliver(_)), "{broken}: {outcome:?}");
    }
}

#[test]
fn a_block_whose_findings_are_gone_is_a_block_all_the_same() {
    let mut world = of_tag([complete(ScanSource::Basic, 50, &[finding("CVE-1", "HIGH")])]);
    world.scan_ends("app");
    world.facts.clear();
    let checked = checked(&mut world, &with(|gate| gate.on_block = OnBlock::Warn));
    assert_eq!((checked.verdict, checked.blocking_total, checked.blocking.len(), checked.counts.get("HIGH")), (Verdict::Block, 1, 0, 1));
}

#[test]
fn properties_that_cannot_be_read_are_refused_in_the_gates_words() {
    let named = Named { repository: "payments-api".into(), image: "1.4.2".into() };
    let mut world = World::default();
    let request = Request { gate: Err("this version does not know the property `x`".into()), named, ..create("app") };
    let checked = checked(&mut world, &request);
    assert_eq!((checked.verdict, checked.message.as_str()), (Verdict::Refused, "this version does not know the property `x`"));
    assert_eq!((checked.image.digest, checked.policy_hash), (None, None));
    assert!(world.did.is_empty());
}

#[test]
fn inspectors_list_is_not_believed_until_it_is_proven_whole_by_a_later_check() {
    let mut world = of_tag([complete(ScanSource::Enhanced, 50, &[])]);
    world.registry = ScanSource::Enhanced;
    let request = with(|gate| gate.scan = AskedScan::Enhanced);
    let first = checked(&mut world, &request);
    assert_eq!((first.verdict, first.retry_after_seconds), (Verdict::Pending, Some(20)));
    world.now += 19;
    assert_eq!(checked(&mut world, &request).verdict, Verdict::Pending, "19 s are too close");
    world.now += 1;
    assert_eq!(checked(&mut world, &request).verdict, Verdict::Pass);
}

#[test]
fn what_a_check_does_not_see_by_itself_on_scan_is_asked_to_look_at() {
    let page = |more| Answered::Findings(Report { more, status: Some("COMPLETE".into()), completed_at: Some(at(50)), listed: true, ..Report::default() });
    let many: Vec<_> = (0..6).map(|n| child(&format!("image {n}"), "linux/amd64")).collect();
    let index = |world: &mut World| world.tags.insert("1.4.2".into(), Resolved::Index(digest("index"), many.clone()));
    let mut long = of_tag([page(true)]);
    checked(&mut long, &with(|_| {}));
    assert_eq!(long.look_again.len(), 1, "the first page is not all of it");

    let mut large = World::default();
    index(&mut large);
    checked(&mut large, &with(|_| {}));
    assert_eq!((large.look_again.len(), large.did.contains(&"Look".to_owned())), (6, false), "of many images it looks at none");

    for answer in [Answered::NoScan, status("IN_PROGRESS")] {
        let mut world = of_tag([answer]);
        checked(&mut world, &with(|_| {}));
        assert!(world.look_again.is_empty(), "it has seen for itself");
    }
}

#[test]
fn of_an_index_every_counted_image_is_told() {
    let bad = |id: &str, n: usize| -> Vec<Finding> { (0..n).map(|m| finding(&format!("{id}-{m:02}"), "CRITICAL")).collect() };
    let mut world = World::default();
    let children = vec![child("amd", "linux/amd64"), child("arm", "linux/arm64"), child("riscv", "linux/riscv64")];
    world.tags.insert("1.4.2".into(), Resolved::Index(digest("index"), children));
    world.scans("amd", [complete(ScanSource::Basic, 60, &bad("CVE-A", 15))]).scans("arm", [complete(ScanSource::Basic, 50, &bad("CVE-B", 15))]);
    world.scans = std::mem::take(&mut world.scans).into_iter().chain([(digest("riscv"), VecDeque::from([Answered::NoScan]))]).collect();
    // Looked at, or known before and read from the record.
    for is_known in [false, true] {
        if is_known {
            world.did.clear();
        }
        let checked = checked(&mut world, &with(|_| {}));
        assert_eq!(world.did.contains(&"ReadFacts".to_owned()), is_known);
        assert_eq!((checked.verdict, checked.may_deploy, checked.scanned_at), (Verdict::Block, false, Some(at(50))));
        assert_eq!((checked.blocking_total, checked.blocking.len(), checked.counts.get("CRITICAL")), (30, 20, 30));
        assert_eq!(checked.blocking[19].digest, Some(digest("arm")));
        let images: Vec<_> = checked.images.iter().map(|image| (image.platform.as_str(), image.verdict)).collect();
        assert_eq!(images, [("linux/amd64", Verdict::Block), ("linux/arm64", Verdict::Block), ("linux/riscv64", Verdict::Pending)]);
    }
}

#[test]
fn the_answer_as_a_program_reads_it() {
    let xz = in_package(finding("CVE-2024-3094", "CRITICAL"), "xz-utils", "5.6.0", Some("5.6.1"));
    let answers = [complete(ScanSource::Basic, 50, &[xz, finding("CVE-1", "LOW")]), status("IN_PROGRESS"), complete(ScanSource::Basic, 50, &[])];
    let texts: Vec<String> = answers
        .into_iter()
        .map(|answer| serde_json::to_string_pretty(&checked(&mut of_tag([answer]), &with(|_| {}))).unwrap())
        .chain([
            serde_json::to_string_pretty(&checked(&mut of_tag([status("UNSUPPORTED_IMAGE")]), &with(|gate| gate.on_unscanned = OnUnscanned::Allow))).unwrap(),
            serde_json::to_string_pretty(&checked(
                &mut of_tag([complete(ScanSource::Basic, 50, &[finding("CVE-1", "HIGH")])]),
                &with(|gate| gate.on_block = OnBlock::Warn),
            ))
            .unwrap(),
        ])
        .collect();
    golden("checked", &texts.join("\n---\n"));
}

#[test]
fn the_page_shows_a_question_and_an_answer_that_are_read() {
    let page = include_str!("../../docs/direct-use.md");
    let block = |n: usize| -> serde_json::Value {
        let text = page.split("```json\n").nth(n).and_then(|rest| rest.split("```").next()).expect("a block of JSON");
        serde_json::from_str(text).expect("JSON")
    };
    let Ok(Event::CheckRequested(check)) = read(&block(1)) else { panic!("no check") };
    assert_eq!(check.gate().map(|gate| gate.policy), Ok(at_or_above("HIGH")));
    let answer: Checked = serde_json::from_value(block(2)).expect("an answer");
    assert_eq!((answer.verdict, answer.policy_hash.clone()), (Verdict::Block, Some(at_or_above("HIGH").hash().to_string())));
    let again = serde_json::to_value(answer).unwrap();
    let members = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(&again), members(&block(2)), "all members, and no other");
}

#[test]
fn what_a_check_reads_first_others_are_told_of_and_find() {
    let mut world = World::default();
    world.scans("app", [complete(ScanSource::Basic, 50, &[finding("CVE-1", "LOW")])]);
    assert_eq!(checked(&mut world, &create("app")).verdict, Verdict::Pass);
    assert_eq!(world.look_again.len(), 1);
    assert_eq!(checked(&mut world, &create("app")).verdict, Verdict::Pass);
    assert_eq!(world.look_again.len(), 1, "it is known by now");
}
