//! Parking: who waits is answered, once, whatever is lost, doubled or late.

use ecr_scan_verifier::domain::image::ImageRef;
use ecr_scan_verifier::domain::outputs::Outputs;
use ecr_scan_verifier::domain::plan::Started;
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::protocol::scan::Hints;
use ecr_scan_verifier::domain::protocol::wake::By;
use ecr_scan_verifier::domain::protocol::{Outcome, Resolved};
use ecr_scan_verifier::domain::request::{AskedScan, Data, Forward, Request, RequestKind, Stage};
use ecr_scan_verifier::domain::scan::{Answered, ScanSource};

use crate::world::*;

const BASIC: ScanSource = ScanSource::Basic;

fn clean() -> Answered {
    complete(BASIC, 110, &[])
}

fn bad() -> Answered {
    complete(BASIC, 110, &[finding("CVE-1", "CRITICAL")])
}

/// A world in which a deployment waits for a scan that is under way.
fn parked(request: &Request) -> World {
    let mut world = World::default();
    world.scans("app", [status("IN_PROGRESS")]);
    world.tags.insert("1.4.2".into(), Resolved::Image(digest("app")));
    world.deploys(request.clone());
    assert!(world.waits(request), "{:?}", world.decided);
    world.did.clear();
    world.look_again.clear();
    world
}

fn data_of(image: &str) -> Data {
    Data::admitted(create(image).gate.as_ref().unwrap(), &digest(image), "PASS", None)
}

/// Lets timers ring until nobody waits any more; how many rang.
fn until_answered(world: &mut World, request: &Request) -> usize {
    for rang in 0..200 {
        if !world.waits(request) {
            return rang;
        }
        world.timer_rings();
    }
    panic!("nobody answers");
}

#[test]
fn register_then_look() {
    let mut world = World::default();
    world.scans("app", [status("IN_PROGRESS")]);
    world.deploys(create("app"));
    assert_eq!(
        world.did,
        ["ReadHeads", "ResolveImage", "Look", "WriteHead", "ReadGlass", "Register", "SendTimer", "LookAgain", "ReadHeads"],
        "the request is stored, then its timer set, then on-scan told, then the row read once more"
    );
    assert_eq!((world.timers.len(), world.timers[0].1, world.timers[0].2), (1, 1, world.now + 5));
}

#[test]
fn a_deployment_that_waits_is_answered_by_the_scan_that_ends() {
    for (answer, verdict) in [(clean(), "SUCCESS PASS"), (bad(), "FAILED ECR Image Scan found vulnerabilities.")] {
        let mut world = parked(&create("app"));
        world.now = 120;
        world.scans("app", [answer]);
        world.scan_ends("app");
        assert_eq!(world.verdict(), verdict);
        assert_eq!(world.sent.len(), 1);
        assert_eq!(world.requests["request-1"].stage, Stage::Answered);
        assert_eq!(world.requests["request-1"].url, None, "the secret goes with the answer");
        // The timer that is still under way finds nothing to do, and sets no other.
        world.timer_rings();
        assert_eq!((world.sent.len(), world.timers.len()), (1, 0));
    }
}

#[test]
fn who_has_just_written_a_row_reads_it_once_more_for_each_who_waits_but_the_first() {
    let mut world = parked(&create("app"));
    let second = Request { request_id: "request-2".into(), logical_id: "Other".into(), ..create("app") };
    world.deploys(second);
    world.did.clear();
    world.now = 120;
    world.scans("app", [clean()]);
    // While the first is answered somebody finds more, and dies before he tells anybody.
    world.before.push(("MarkAnswered", |world| {
        world.now += 30;
        world.scans("app", [complete(BASIC, world.now - 10, &[finding("CVE-1", "CRITICAL")])]);
        world.broken = vec![("ReadWaiting", false)];
        world.scan_with("app", Hints { must_look: true, ..Hints::default() });
        world.broken.clear();
    }));
    world.scan_ends("app");
    let first: Vec<_> = world.did.iter().map(String::as_str).take_while(|name| *name != "Claim").collect();
    let read = ["ReadHeads", "Look", "ReadDeployed", "PutFacts", "WriteHead", "ReadWaiting", "ReadRequest"];
    assert_eq!(first, read, "its row is not read again");
    let let_through: Vec<bool> = world.sent.iter().map(|answer| answer.as_str().contains(r#""Status":"SUCCESS""#)).collect();
    assert_eq!(let_through, [true, false]);
}

#[test]
fn a_scan_that_ends_while_its_request_registers_is_not_lost() {
    for moment in ["Register", "SendTimer", "LookAgain"] {
        let mut world = World::default();
        world.scans("app", [status("IN_PROGRESS"), clean()]);
        world.before.push((moment, |world| {
            world.now = 120;
            world.scan_ends("app");
        }));
        world.deploys(create("app"));
        assert_eq!(world.verdict(), "SUCCESS PASS", "the scan ended before {moment}");
        assert_eq!(world.sent.len(), 1, "{moment}");
    }
}

#[test]
fn an_event_that_never_comes_is_made_up_for_by_a_timer() {
    let mut world = parked(&create("app"));
    world.scans("app", [status("IN_PROGRESS"), status("IN_PROGRESS"), clean()]);
    assert_eq!(until_answered(&mut world, &create("app")), 3);
    assert_eq!(world.verdict(), "SUCCESS PASS");
    assert_eq!(world.now, 100 + 35, "after 5, 15 and 35 seconds");
}

#[test]
fn when_its_time_is_up_a_request_is_looked_at_once_more_and_refused() {
    for (answer, verdict) in [
        (Answered::NoScan, "FAILED No scan results found for the image after 840 seconds."),
        (status("IN_PROGRESS"), "FAILED ECR image scan timed out after 840 seconds."),
        (status("FINDINGS_UNAVAILABLE"), "FAILED ECR image scan timed out after 840 seconds."),
    ] {
        let mut world = parked(&create("app"));
        world.scans("app", [answer.clone()]);
        until_answered(&mut world, &create("app"));
        assert!(world.verdict().starts_with(verdict), "{}", world.verdict());
        assert_eq!(world.now, 100 + 840, "on time");
        let looks = world.did.iter().rposition(|name| name == "Look").unwrap();
        assert!(looks < world.did.iter().rposition(|name| name == "Claim").unwrap(), "asked once more first");
        assert!(world.timers.is_empty());
    }
}

#[test]
fn a_scan_that_ends_just_before_the_end_is_seen() {
    let mut world = parked(&create("app"));
    while world.now < 100 + 810 {
        world.timer_rings();
    }
    assert!(world.waits(&create("app")));
    world.scans("app", [clean()]);
    until_answered(&mut world, &create("app"));
    assert_eq!(world.verdict(), "SUCCESS PASS");
}

#[test]
fn a_blocking_finding_in_an_incomplete_list_is_named_when_the_time_is_up() {
    let mut world = parked(&create("app"));
    let Answered::Findings(mut report) = bad() else { panic!() };
    report.stated_counts = Some(std::collections::BTreeMap::from([("CRITICAL".to_owned(), 2)]).into());
    world.scans("app", [Answered::Findings(report)]);
    until_answered(&mut world, &create("app"));
    let reason = world.answered().1;
    assert!(reason.as_str().unwrap().contains("(COUNTS_DISAGREE).\n1 of the findings that are listed so far blocks"), "{reason}");
}

#[test]
fn an_old_timer_looks_but_sends_nothing() {
    let mut world = parked(&create("app"));
    world.timer_rings();
    assert_eq!(world.timers.len(), 1);
    world.wakes("request-1", By::Timer(1));
    assert_eq!(world.timers.len(), 1, "timer 2 is under way already");
    assert_eq!(world.did.iter().filter(|name| *name == "Look").count(), 2);
}

#[test]
fn the_next_timer_is_sent_before_anything_that_can_fail() {
    for broken in ["ReadHeads", "Look", "AdvanceTimer"] {
        let mut world = parked(&create("app"));
        world.broken.push((broken, false));
        assert!(matches!(world.timer_rings(), Outcome::Redeliver(_)), "{broken}");
        assert_eq!(world.timers.len(), 1, "whatever happens, somebody comes again: {broken}");
    }
}

#[test]
fn who_claims_and_dies_leaves_the_very_bytes_behind() {
    let mut world = parked(&create("app"));
    world.now = 120;
    world.scans("app", [clean()]);
    world.broken.push(("Put", false));
    assert!(matches!(world.scan_ends("app"), Outcome::Redeliver(_)));
    assert!(world.sent.is_empty());
    world.broken.clear();

    // Meanwhile the image has become bad. Within the lease nobody else sends; afterwards the stored answer goes out.
    world.scans("app", [complete(BASIC, 130, &[finding("CVE-1", "CRITICAL")])]);
    world.now = 150;
    world.did.clear();
    world.scan_ends("app");
    assert!(world.sent.is_empty() && !world.did.contains(&"TakeLease".to_owned()), "the claimer may still be at it: {:?}", world.did);
    world.now = 181;
    world.timer_rings();
    assert_eq!(world.verdict(), "SUCCESS PASS");
    world.scan_ends("app");
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn whoever_follows_a_claimer_that_died_has_told_and_written_what_he_would_have() {
    let to_write = Outputs { topic_arn: Some("arn:aws:sns:eu-west-1:123456789012:own".into()), ..Outputs::default() };
    let wants = |outputs: Option<Outputs>| asking(create("app"), |gate| gate.outputs = outputs);
    for (request, is_heard, told, written) in [(wants(None), false, 0, 0), (wants(Some(to_write)), false, 0, 1), (wants(None), true, 1, 0)] {
        let mut world = parked(&request);
        if is_heard {
            world.alerting.topic_arn = Some("arn:aws:sns:eu-west-1:123456789012:alerts".into());
        }
        world.now = 120;
        world.scans("app", [bad()]);
        world.broken.push(("Put", false));
        assert!(matches!(world.scan_ends("app"), Outcome::Redeliver(_)));
        assert!(world.notices.is_empty() && world.to_write.is_empty());
        world.broken.clear();
        world.now = 200;
        world.wakes("request-1", By::Sweep);
        assert_eq!((world.sent.len(), world.notices.len(), world.to_write.len()), (1, told, written));
    }
}

#[test]
fn an_answer_that_was_not_marked_is_sent_once_more_and_is_the_same() {
    let mut world = parked(&create("app"));
    world.now = 120;
    world.scans("app", [clean()]);
    world.before.push(("MarkAnswered", |world| world.broken.push(("MarkAnswered", false))));
    world.scan_ends("app");
    assert_eq!(world.sent.len(), 1);
    world.broken.clear();
    world.now = 400;
    world.wakes("request-1", By::Sweep);
    assert_eq!(world.sent.len(), 2);
    assert_eq!(world.sent[0], world.sent[1]);
    assert_eq!(world.requests["request-1"].stage, Stage::Answered);
}

#[test]
fn the_sweep_answers_who_is_overdue_and_nobody_else() {
    let mut world = parked(&create("app"));
    world.timers.clear();
    for (now, answered) in [(100 + 839, false), (100 + 840 + 29, false), (100 + 840 + 30, true)] {
        world.now = now;
        world.wakes("request-1", By::Sweep);
        assert_eq!(!world.sent.is_empty(), answered, "at {now}");
    }
    assert!(world.verdict().starts_with("FAILED ECR image scan timed out after 840 seconds."));
    assert!(!world.did.contains(&"Look".to_owned()), "from its item alone");
    assert_eq!(world.recorded.last().unwrap().digest, Some(digest("app")), "its record names the image");
}

#[test]
fn an_answer_that_nobody_can_send_any_more_is_laid_to_rest() {
    let mut world = parked(&create("app"));
    world.now = 120;
    world.scans("app", [clean()]);
    world.broken.push(("Put", false));
    world.scan_ends("app");
    world.now = 120 + 840 + 3 * 3600;
    world.wakes("request-1", By::Sweep);
    assert_eq!(world.requests["request-1"].stage, Stage::Answered);
    assert!(world.sent.is_empty());
}

#[test]
fn the_same_request_three_times_before_during_and_after_the_answer() {
    let request = create("app");
    let mut world = parked(&request);
    world.deploys(request.clone());
    assert_eq!(world.timers.len(), 2, "perhaps the first delivery had died before setting it");
    world.now = 120;
    world.scans("app", [clean()]);
    world.broken.push(("Put", false));
    world.scan_ends("app");
    world.broken.clear();
    world.deploys(request.clone());
    assert_eq!(world.verdict(), "SUCCESS PASS", "its own delivery sends the stored bytes, whoever holds the lease");
    world.deploys(request);
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn a_request_that_finds_its_verdict_when_it_is_delivered_again_is_claimed() {
    let request = create("app");
    let mut world = parked(&request);
    world.scans("app", [clean()]);
    world.now = 130;
    world.deploys(request);
    assert_eq!(world.verdict(), "SUCCESS PASS");
    assert_eq!(world.decided, ["PASS"]);
}

#[test]
fn two_children_that_end_in_one_moment_make_one_answer() {
    let mut world = World::default();
    world.tags.insert("1.4.2".into(), Resolved::Index(digest("index"), vec![child("amd", "linux/amd64"), child("arm", "linux/arm64")]));
    world.scans("amd", [status("PENDING")]).scans("arm", [status("PENDING")]);
    world.deploys(create_by_tag("1.4.2"));
    world.now = 120;
    world.scans("amd", [clean()]).scans("arm", [clean()]);
    // arm ends, and wakes the request, right before the one that amd has woken claims it.
    world.before.push(("Claim", |world| {
        world.scan_ends("arm");
    }));
    world.scan_ends("amd");
    assert!(world.sent.is_empty(), "one is still missing: {:?}", world.sent);
    world.before.clear();
    world.scan_ends("arm");
    assert_eq!((world.verdict().as_str(), world.sent.len()), ("SUCCESS PASS", 1));
    assert_eq!(world.rows.len(), 3);

    let mut world = parked(&create("app"));
    world.now = 120;
    world.scans("app", [clean()]);
    world.before.push(("Claim", |world| {
        world.scan_ends("app");
    }));
    world.scan_ends("app");
    assert_eq!(world.sent.len(), 1, "two at once: the claim decides");
}

#[test]
fn an_image_of_several_indexes_is_read_once_for_all_of_them() {
    let mut world = World::default();
    world.scans("amd", [complete(BASIC, 50, &[])]).scans("arm", [complete(BASIC, 50, &[])]).scans("both", [status("PENDING")]);
    let deployments = [("index-1", "amd"), ("index-2", "arm")].map(|(index, other)| {
        let images = vec![child("both", "linux/386"), child(other, "linux/amd64")];
        world.tags.insert(digest(index).to_string(), Resolved::Index(digest(index), images));
        Request { request_id: index.into(), stack_id: format!("stack of {index}"), ..create(index) }
    });
    for request in &deployments {
        world.deploys(request.clone());
        assert!(world.waits(request));
    }
    world.did.clear();
    world.scans("both", [complete(BASIC, 120, &[finding("CVE-1", "CRITICAL")])]);
    world.now = 130;
    world.scan_ends("both");
    assert_eq!(world.sent.len(), 2);
    assert!(world.sent.iter().all(|answer| answer.as_str().contains("CVE-1") && answer.as_str().contains("linux/386")), "{:?}", world.sent);
    assert_eq!(world.did.iter().filter(|name| *name == "Look").count(), 1);
}

#[test]
fn two_stacks_that_wait_for_one_image_get_different_answers() {
    let strict = create("app");
    let other = |policy: Policy| Request {
        request_id: "request-2".into(),
        stack_id: "arn:aws:cloudformation:eu-west-1:123456789012:stack/billing/77aa".into(),
        ..asking(create("app"), |gate| gate.policy = policy)
    };
    let lenient = other(Policy::from_words(None, Some("CRITICAL"), ["CVE-1".to_owned()]).unwrap());
    let mut world = parked(&strict);
    world.deploys(lenient);
    world.now = 120;
    world.scans("app", [bad()]);
    world.scan_ends("app");
    let statuses: Vec<bool> = world.sent.iter().map(|answer| answer.as_str().contains("SUCCESS")).collect();
    assert_eq!((statuses.len(), statuses.iter().filter(|success| **success).count()), (2, 1));
    assert!(world.sent.iter().any(|answer| answer.as_str().contains("request-2") && answer.as_str().contains("SUCCESS")));
}

#[test]
fn one_request_that_cannot_be_answered_does_not_keep_the_others_waiting() {
    let mut world = parked(&create("app"));
    world.deploys(Request { request_id: "request-2".into(), ..create("app") });
    world.now = 120;
    world.scans("app", [clean()]);
    // The first PUT fails, the second does not.
    world.before.push(("Put", |world| world.broken.push(("Put", false))));
    world.before.push(("Claim", |_| {}));
    world.before.push(("Claim", |world| world.broken.clear()));
    assert!(matches!(world.scan_ends("app"), Outcome::Redeliver(_)), "the message comes again for the one that failed");
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn a_tag_that_moves_while_its_deployment_waits_is_not_let_through() {
    let mut world = parked(&create_by_tag("1.4.2"));
    world.now = 120;
    world.scans("app", [clean()]);
    world.tags.insert("1.4.2".into(), Resolved::Image(digest("other")));
    world.scan_ends("app");
    assert!(
        world.verdict().contains("the tag was moved while this deployment waited") || world.answered().1.as_str().unwrap().contains("was moved while"),
        "{}",
        world.verdict()
    );
    assert!(world.rows.is_empty());

    let mut world = parked(&create_by_tag("1.4.2"));
    world.now = 120;
    world.scans("app", [clean()]);
    world.scan_ends("app");
    assert_eq!(world.verdict(), "SUCCESS PASS");
}

#[test]
fn an_update_replaces_a_parked_update() {
    let asked = |second, image| Request { asked_at: at(second), ..update(image) };
    let mut world = parked(&asked(100, "app"));
    world.now = 150;
    world.scans("other", [clean()]);
    world.deploys(asked(150, "other"));
    let answers: Vec<_> =
        world.sent.iter().map(|answer| (answer.as_str().contains("update-app"), answer.as_str().contains("superseded by a later request"))).collect();
    assert_eq!(answers, [(true, true), (false, false)], "the older one first");
    // And its scan, when it ends, changes nothing.
    world.scans("app", [clean()]);
    world.scan_ends("app");
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn an_old_request_that_is_delivered_again_replaces_nothing() {
    let asked = |second, image| Request { asked_at: at(second), ..update(image) };
    let mut world = World::default();
    world.scans("new", [clean()]).scans("old", [clean()]);
    world.now = 150;
    world.deploys(asked(150, "new"));
    world.deploys(asked(100, "old"));
    assert_eq!(world.decided, ["PASS", "SUPERSEDED"]);
    let admitted: Vec<_> = world.rows.values().filter(|row| row.is_admitted).map(|row| row.digest.clone()).collect();
    assert_eq!(admitted, [digest("new")]);
    // Nor does it end the newer one while that waits.
    let mut world = parked(&asked(150, "app"));
    world.deploys(asked(100, "old"));
    assert!(world.waits(&asked(150, "app")));
}

#[test]
fn a_delete_ends_a_parked_create_and_a_late_create_deploys_nothing() {
    let mut world = parked(&create("app"));
    let delete = Request { kind: RequestKind::Delete, request_id: "delete".into(), asked_at: at(200), ..create("app") };
    world.now = 200;
    world.deploys(delete);
    assert!(world.sent[0].as_str().contains("SUCCESS"), "the Delete first");
    assert!(world.sent[1].as_str().contains("superseded by a later request"), "then what waited");
    // The Create is delivered once more, and by now its image is clean.
    world.requests.clear();
    world.scans("app", [clean()]);
    world.deploys(create("app"));
    assert_eq!(world.decided.last().map(String::as_str), Some("SUPERSEDED"));
    assert!(world.rows.values().all(|row| !row.is_admitted));
}

#[test]
fn a_waiting_request_has_its_scan_started_where_it_asks_for_that() {
    let asks = |start_scan| asking(create("app"), |gate| gate.scan = AskedScan::Basic { start_scan });
    for start_scan in [true, false] {
        let mut world = World::default();
        world.deploys(asks(start_scan));
        assert!(world.started.is_empty(), "on-deploy starts nothing");
        world.scan_with("app", Hints { must_look: true, for_a_request: true, ..Hints::default() });
        assert_eq!(world.started, if start_scan { vec![digest("app")] } else { vec![] });
    }
    for (starting, verdict) in [
        (Started::Unsupported, "FAILED ECR image scan failed: Image is not supported for scanning."),
        (
            Started::RegistryIsEnhanced,
            "FAILED StartImageScan is disabled because Enhanced scanning (Amazon Inspector) is enabled on this account. Use ScanConfig.enhanced() instead of ScanConfig.basic().",
        ),
        (Started::NoImage, "FAILED payments-api:"),
    ] {
        let mut world = World { starting, ..World::default() };
        world.deploys(asks(true));
        world.scan_with("app", Hints { must_look: true, ..Hints::default() });
        assert!(world.verdict().starts_with(verdict), "{}", world.verdict());
    }
}

#[test]
fn of_two_who_want_an_old_scan_made_anew_one_asks_and_neither_lets_the_old_one_count() {
    // Before he reads the request, and before he asks himself, somebody else has asked.
    for moment in ["ReadRequest", "StartScan"] {
        let mut world = World::default();
        world.scans("app", [complete(BASIC, -100_000, &[])]);
        let request = asking(create("app"), |gate| gate.scan = AskedScan::Basic { start_scan: true });
        world.deploys(request.clone());
        assert!(world.waits(&request), "it is more than a day old: {:?}", world.decided);
        world.before.push((moment, |world| {
            world.wakes("request-1", By::News);
            world.starting = Started::Already;
        }));
        world.scan_ends("app");
        assert!(world.before.is_empty() && world.waits(&request), "{moment}: {:?}", world.decided);
        assert_eq!(world.started.len(), if moment == "StartScan" { 2 } else { 1 }, "{moment}");
        // The new one finds something.
        world.now += 60;
        world.scans("app", [complete(BASIC, 150, &[finding("CVE-1", "CRITICAL")])]);
        world.scan_ends("app");
        assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.", "{moment}");
    }
}

#[test]
fn a_policy_that_needs_the_findings_waits_until_they_are_stored_again() {
    let ignoring = Policy::from_words(None, Some("HIGH"), ["CVE-1".to_owned()]).unwrap();
    let request = asking(create("app"), |gate| gate.policy = ignoring);
    let mut world = World::default();
    world.scans("app", [complete(BASIC, 50, &[finding("CVE-1", "CRITICAL")])]);
    world.scan_ends("app");
    world.is_image("app");
    world.facts.clear();
    world.scans("app", [Answered::NoScan]);
    world.now = 200;
    world.deploys(request.clone());
    assert!(world.waits(&request));
    world.scans("app", [complete(BASIC, 50, &[finding("CVE-1", "CRITICAL")])]);
    world.now = 210;
    world.scan_with("app", Hints { must_look: true, for_a_request: true, ..Hints::default() });
    assert_eq!(world.verdict(), "SUCCESS PASS");
}

#[test]
fn what_lambda_has_given_up_is_answered_with_the_reason() {
    let mut world = World::default();
    world.gives_up(create("app"), "could not read the verdicts: ThrottlingException");
    assert!(world.verdict().ends_with("could not be judged: could not read the verdicts: ThrottlingException"), "{}", world.verdict());

    // Stored and decided: the stored bytes. Parked: it goes on waiting, with a timer.
    let mut world = World::default();
    world.scans("app", [clean()]);
    world.broken.push(("Put", false));
    world.deploys(create("app"));
    world.broken.clear();
    world.gives_up(create("app"), "Runtime.ExitError");
    assert_eq!(world.verdict(), "SUCCESS PASS");
    let mut world = parked(&create("app"));
    world.timers.clear();
    world.gives_up(create("app"), "Task timed out");
    assert!(world.waits(&create("app")) && world.timers.len() == 1);

    let mut world = World::default();
    world.gives_up(Request { kind: RequestKind::Delete, ..create("app") }, "Runtime.ExitError");
    assert_eq!(world.verdict(), "SUCCESS ");
}

#[test]
fn a_rollback_that_nobody_may_ask_about_is_known_by_what_it_swaps() {
    let back = || Request { properties_hash: "good".into(), old_properties_hash: Some("bad".into()), asked_at: at(1000), ..update("x") };
    let forward = |new: &str, old: &str, second| Some(Forward { properties_hash: new.into(), old_properties_hash: Some(old.into()), at: at(second) });
    for (forward, rolls_back) in [
        (forward("bad", "good", 900), true),
        (forward("bad", "other", 900), false),
        (forward("other", "good", 900), false),
        (forward("bad", "good", 1000 - 24 * 3600), false), // a day ago
        (None, false),
    ] {
        let mut world = World { forward: forward.clone(), now: 1000, broken: vec![("ReadStack", true)], ..World::default() };
        world.data.insert("good".into(), data_of("x"));
        world.scans("x", [complete(BASIC, 60, &[finding("CVE-1", "CRITICAL")])]);
        world.deploys(back());
        let expected = if rolls_back { "ROLLBACK_UNVERIFIED" } else { "BLOCK" };
        assert_eq!(world.decided, [expected], "{forward:?}");

        // The same where on-deploy has failed for good: nothing but the record can be asked.
        let mut world = World { forward, now: 1000, broken: vec![("ReadStack", true)], ..World::default() };
        world.gives_up(back(), "Task timed out");
        assert_eq!(world.decided, [if rolls_back { "ROLLBACK_UNVERIFIED" } else { "GIVEN_UP" }]);
    }
}

#[test]
fn a_rollback_whose_tag_has_moved_returns_the_digest_of_then() {
    let by_tag = |kind, second| Request { kind, request_id: format!("request at {second}"), asked_at: at(second), ..create_by_tag("1.4.2") };
    let mut world = World::default();
    world.tags.insert("1.4.2".into(), Resolved::Image(digest("app")));
    world.scans("app", [clean()]);
    world.now = 120;
    world.deploys(by_tag(RequestKind::Create, 120));
    let then = world.answered();
    world.tags.insert("1.4.2".into(), Resolved::Image(digest("newer")));
    world.rolling_back = true;
    world.deploys(by_tag(RequestKind::Update, 300));
    assert_eq!(world.answered(), then);
}

#[test]
fn a_request_that_arrives_when_its_time_is_over_is_looked_at_and_refused_at_once() {
    let mut world = World { now: 100 + 900, ..World::default() };
    world.scans("app", [status("IN_PROGRESS")]);
    world.deploys(create("app"));
    assert!(world.verdict().starts_with("FAILED ECR image scan timed out"), "{}", world.verdict());
    let mut world = World { now: 100 + 900, ..World::default() };
    world.scans("app", [clean()]);
    world.deploys(asking(create("app"), |gate| gate.image = ImageRef::Digest(digest("app"))));
    assert_eq!(world.verdict(), "SUCCESS PASS");
}
