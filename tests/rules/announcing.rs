//! Who is told of what: once, word for word, and never of what is known already.

use ecr_scan_verifier::domain::alert::{AlertOn, AlertOptions, Alerting, Live, NoticeKind};
use ecr_scan_verifier::domain::finding::{Finding, Severity};
use ecr_scan_verifier::domain::head::Kind;
use ecr_scan_verifier::domain::outputs::Message;
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::protocol::scan::{Hints, Scan};
use ecr_scan_verifier::domain::protocol::wake::By;
use ecr_scan_verifier::domain::protocol::{Outcome, Resolved};
use ecr_scan_verifier::domain::request::{Forward, Glass, OnUnscanned, Request};
use ecr_scan_verifier::domain::scan::{Answered, ScanSource};
use jiff::SignedDuration;
use serde_json::Value;

use crate::world::*;

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:alerts";
const DAY: i64 = 24 * 3600;

fn alerting(options: AlertOptions) -> Alerting {
    Alerting { topic_arn: Some(TOPIC.into()), bus: false, options }
}

/// A pipeline with a topic, and the image `app` deployed and clean.
fn deployed() -> World {
    let mut world = World { alerting: alerting(AlertOptions::default()), lives: vec![live("payments")], ..World::default() };
    world.finds(&[]);
    world.is_image("app");
    let head = world.heads.get_mut(&digest("app")).unwrap();
    head.tags = vec!["1.4.2".into(), "latest".into()];
    assert!(world.told.is_empty(), "{:?}", world.told);
    world
}

/// A gate's own topic, and the role that may publish there.
fn own_topic() -> Option<(String, String)> {
    Some(("arn:aws:sns:eu-west-1:123456789012:gate".into(), "arn:aws:iam::123456789012:role/ecr-scan-verifier/x".into()))
}

fn xz() -> Finding {
    in_package(finding("CVE-2024-3094", "CRITICAL"), "xz-utils", "5.6.0", Some("5.6.1"))
}

fn glibc() -> Finding {
    in_package(finding("CVE-2023-4911", "CRITICAL"), "glibc", "2.36", None)
}

impl World {
    /// The scanner lists this now, and says so.
    fn finds(&mut self, findings: &[Finding]) -> Outcome {
        self.now += 100;
        let completed = self.now - 10;
        self.scans("app", [complete(self.registry, completed, findings)]);
        self.scan_ends("app")
    }

    /// A message comes that somebody may have to be told.
    fn announces(&mut self) -> Outcome {
        self.scan_with("app", Hints { announce: true, can_wait: true, looked_again: u32::MAX, ..Hints::default() })
    }

    fn kinds(&self) -> Vec<NoticeKind> {
        self.told.iter().map(|(kind, _)| *kind).collect()
    }
}

fn text(message: &Message) -> String {
    let body: Value = serde_json::from_str(&message.body).unwrap();
    assert_eq!(body["default"], body["email"]);
    let attributes: Vec<String> = message.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!(
        "Subject: {}\n\n{}\n\n[{}] stack={:?}",
        message.subject.as_deref().unwrap_or("-"),
        body["email"].as_str().unwrap(),
        attributes.join(" "),
        message.stacks
    )
}

fn chat(message: &Message) -> Value {
    let body: Value = serde_json::from_str(&message.body).unwrap();
    serde_json::from_str(body["https"].as_str().unwrap()).unwrap()
}

#[test]
fn only_what_is_new_and_objected_to_is_told_and_once() {
    use NoticeKind::{BlockedNow, Cleared, NewFindings};
    let mut world = deployed();
    for (findings, told) in [
        (vec![finding("CVE-1", "HIGH")], None), // the pipeline objects to CRITICAL alone
        (vec![xz()], Some(BlockedNow)),
        (vec![xz()], None),
        (vec![xz(), glibc()], Some(NewFindings)),
        (vec![glibc()], None),
        (vec![xz(), glibc()], Some(NewFindings)), // it was gone, and is back
        (vec![finding("CVE-1", "HIGH")], Some(Cleared)),
        (vec![], None),
        (vec![xz()], Some(BlockedNow)),
    ] {
        world.told.clear();
        world.finds(&findings);
        assert_eq!(world.kinds(), Vec::from_iter(told), "{findings:?}");
    }
}

#[test]
fn what_a_message_says_is_what_people_and_filters_need() {
    let mut world = deployed();
    world.lives.push(Live { stack_id: "arn:aws:cloudformation:eu-west-1:123456789012:stack/checkout/77".into(), ..live("checkout") });
    world.finds(&[xz()]);
    world.finds(&[xz(), glibc()]);
    world.finds(&[]);
    let texts: Vec<String> = world.told.iter().map(|(_, message)| text(message)).collect();
    golden("alerts_of_findings", &texts.join("\n\n----\n\n"));
    let threads: Vec<Value> = world.told.iter().map(|(_, message)| chat(message)["metadata"]["threadId"].clone()).collect();
    assert!(threads.iter().all(|thread| *thread == digest("app").as_str()), "one thread a digest: {threads:?}");
    golden("alert_for_a_chat", &serde_json::to_string_pretty(&chat(&world.told[0].1)).unwrap());
}

#[test]
fn a_finding_on_an_image_of_a_deployed_index_names_index_platform_and_stack() {
    let mut world = deployed();
    world.lives = vec![Live { of: digest("index"), ..live("payments") }];
    world.scans("index", [Answered::NoScan]);
    world.scan_ends("index");
    let index = world.heads.get_mut(&digest("index")).unwrap();
    index.kind = Kind::Index(vec![child("app", "linux/arm64"), child("other", "linux/amd64")]);
    index.tags = vec!["2.0".into()];
    world.heads.get_mut(&digest("app")).unwrap().tags.clear();
    world.finds(&[xz()]);
    assert_eq!(world.kinds(), [NoticeKind::BlockedNow]);
    golden("alert_of_an_image_of_an_index", &text(&world.told[0].1));
}

#[test]
fn where_nothing_is_deployed_it_depends_on_what_the_pipeline_was_asked_to_tell() {
    let newest = Resolved::Image(digest("app"));
    for (on, tag_names, told) in [
        (AlertOn::Deployed, newest.clone(), 0),
        (AlertOn::NewestOfTag, newest.clone(), 1),
        (AlertOn::NewestOfTag, Resolved::Image(digest("a newer one")), 0),
        (AlertOn::NewestOfTag, Resolved::NotFound, 0),
        (AlertOn::All, Resolved::NotFound, 1),
    ] {
        let mut world = deployed();
        (world.lives, world.alerting) = (Vec::new(), alerting(AlertOptions { on, ..AlertOptions::default() }));
        world.tags.insert("latest".into(), tag_names.clone());
        world.finds(&[xz()]);
        let kinds = vec![NoticeKind::NewFindings; told];
        assert_eq!(world.kinds(), kinds, "{on:?}, and its tag names {tag_names:?}");
        // Deployed later, it is told of, unless it has been.
        world.lives = vec![live("payments")];
        world.finds(&[xz()]);
        assert_eq!(world.kinds().len(), 1, "{on:?}");
    }
}

#[test]
fn findings_below_the_least_severity_raise_no_alert() {
    let mut world = deployed();
    world.alerting = alerting(AlertOptions { severity: Some(Severity::Critical), ..AlertOptions::default() });
    let policy = at_or_above("LOW");
    let scan = |world: &mut World, findings: &[Finding]| {
        world.now += 100;
        world.scans("app", [complete(ScanSource::Basic, world.now - 10, findings)]);
        let hints = Hints { newest: Some(at(world.now)), ..Hints::default() };
        let scan = Scan::new(repository(), digest("app"), hints, policy.clone(), home());
        world.drive(scan.telling(world.alerting.clone()));
    };
    scan(&mut world, &[finding("CVE-1", "HIGH")]);
    assert!(world.told.is_empty());
    scan(&mut world, &[finding("CVE-1", "HIGH"), finding("CVE-2", "CRITICAL")]);
    assert_eq!(world.kinds(), [NoticeKind::NewFindings], "it was blocked before");
}

#[test]
fn in_a_quiet_period_findings_are_gathered_and_told_at_its_end() {
    let mut world = deployed();
    world.alerting = alerting(AlertOptions { quiet_seconds: Some(3600), ..AlertOptions::default() });
    world.finds(&[xz()]);
    assert_eq!(world.told.len(), 1);
    world.finds(&[xz(), glibc()]);
    world.finds(&[xz(), glibc(), finding("CVE-3", "CRITICAL")]);
    assert_eq!(world.told.len(), 1, "gathered");
    // SQS delays no message for so long, so somebody comes again and again until it ends.
    let mut came = 0;
    for _ in 0..10 {
        let again = std::mem::take(&mut world.announce_again);
        let Some(after) = again.iter().max() else { break };
        assert!(*after <= SignedDuration::from_secs(900), "{again:?}");
        world.now += after.as_secs();
        came += 1;
        world.announces();
    }
    assert_eq!(came, 4);
    assert_eq!(world.kinds(), [NoticeKind::BlockedNow, NoticeKind::NewFindings]);
    let told = text(&world.told[1].1);
    assert!(told.contains("CVE-2023-4911") && told.contains("CVE-3") && !told.contains("CVE-2024-3094"), "{told}");
}

#[test]
fn two_who_bring_the_same_news_tell_of_it_once() {
    // Another one reads, compares, writes and sends between our read and our write; or between our write and our message.
    for (place, told) in [("WriteAnnounced", 1), ("PublishOwn", 1), ("ReadAnnounced", 1)] {
        let mut world = deployed();
        world.before.push((place, |world| {
            world.scan_with("app", Hints { must_look: true, ..Hints::default() });
        }));
        assert!(matches!(world.finds(&[xz()]), Outcome::Done(_)), "{place}");
        assert_eq!(world.told.len(), told, "{place}");
        assert!(world.announced.values().all(|announced| announced.outbox.is_empty()), "{place}: nothing is left over");
    }
}

#[test]
fn who_comes_late_with_an_older_reading_tells_nothing_of_it() {
    fn they_find(world: &mut World, findings: &[Finding]) {
        drop(world.finds(findings));
    }
    type Meeting = (Vec<Finding>, fn(&mut World), Vec<NoticeKind>);
    // Others read the image, and tell of it, when we have read it and not told of it yet.
    let meetings: [Meeting; 3] = [
        (vec![xz()], |world| they_find(world, &[xz(), glibc()]), vec![NoticeKind::BlockedNow]), // not once more what they have told
        (vec![], |world| they_find(world, &[xz()]), vec![NoticeKind::BlockedNow]),              // and not that it is cleared
        (vec![xz()], |world| they_find(world, &[]), vec![]),
    ];
    for (ours, theirs, told) in meetings {
        let mut world = deployed();
        world.finds(&[finding("CVE-1", "HIGH")]);
        world.before.push(("ReadAnnounced", theirs));
        world.finds(&ours);
        assert_eq!(world.kinds(), told, "{ours:?}");
    }
}

#[test]
fn an_image_that_is_back_after_its_row_had_gone_is_told_of() {
    let mut world = deployed();
    (0..5).for_each(|_| drop(world.finds(&[])));
    world.finds(&[finding("CVE-1", "HIGH")]);
    world.heads.clear();
    world.finds(&[xz()]);
    assert_eq!(world.kinds(), [NoticeKind::BlockedNow], "the record is of a row with more versions");
}

#[test]
fn whoever_dies_at_any_point_is_told_at_least_once() {
    let mut points = 0;
    for kill_at in 0.. {
        let mut world = deployed();
        world.alerting.bus = true;
        world.finds(&[]);
        world.events.clear();
        world.scans("app", [complete(ScanSource::Basic, world.now + 90, &[xz()])]);
        world.now += 100;
        world.kill_at = Some(kill_at);
        let died = world.scan_ends("app") == killed();
        if !died {
            break;
        }
        points += 1;
        // The message comes again when its visibility ends; the lease has by then.
        world.now += 150;
        world.scan_with("app", Hints { newest: Some(at(world.now - 150)), must_look: true, ..Hints::default() });
        assert!(!world.told.is_empty() && world.told.len() <= 2, "killed at {kill_at}: {:?}", world.kinds());
        assert!(!world.events.is_empty() && world.events.len() <= 2, "killed at {kill_at}");
        assert_eq!(world.index[&digest("app")].1, ["CVE-2024-3094"], "killed at {kill_at}");
        assert!(world.announced.values().all(|announced| announced.outbox.is_empty()));
    }
    assert!(points > 20, "{points} points");
}

#[test]
fn a_lease_that_somebody_died_over_is_looked_after() {
    let mut world = deployed();
    world.scans("app", [complete(ScanSource::Basic, 290, &[xz()])]);
    world.now += 100;
    world.broken = vec![("PublishOwn", false)];
    assert!(matches!(world.scan_ends("app"), Outcome::Redeliver(_)), "what could not be sent comes again");
    world.broken.clear();
    world.now += 5;
    world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    assert_eq!(world.told.len(), 1);

    // One who has died says nothing, so the next one leaves it to him and sees to it that somebody comes.
    let mut world = deployed();
    world.finds(&[]);
    let announced = world.announced.values_mut().next().unwrap();
    announced.outbox = vec![ecr_scan_verifier::domain::alert::Notice {
        id: "1".into(),
        kind: NoticeKind::Cleared,
        message: Message { subject: None, body: "{}".into(), attributes: vec![], stacks: vec![] },
        since: at(world.now),
    }];
    announced.lease_until = Some(at(world.now + 100));
    world.finds(&[]);
    assert_eq!(world.told.len(), 1, "the lease has ended meanwhile");
}

#[test]
fn a_message_that_cannot_be_sent_keeps_no_other_from_being_sent() {
    let mut world = deployed();
    world.alerting.bus = true;
    world.lives[0].topic = own_topic();
    // A gate's topic that is gone is its stack's business: somebody comes again for it, and this is no failure.
    world.broken = vec![("Publish", false)];
    let before = world.announce_again.len();
    assert!(matches!(world.finds(&[xz()]), Outcome::Done(_)));
    assert_eq!((world.told.len(), world.events.len()), (1, 1), "the pipeline's own have heard of it");
    assert!(world.announce_again[before..].contains(&SignedDuration::from_secs(900)), "{:?}", world.announce_again);
    // The pipeline's own bus is its own: it comes again, and the topic beside it hears all the same.
    world.broken = vec![("PutEvent", false)];
    assert!(matches!(world.finds(&[]), Outcome::Redeliver(_)));
    assert!(matches!(world.finds(&[xz(), glibc()]), Outcome::Redeliver(_)));
    assert_eq!(world.kinds(), [NoticeKind::BlockedNow, NoticeKind::Cleared, NoticeKind::BlockedNow]);
}

#[test]
fn what_could_not_be_sent_is_left_to_the_next_one_even_where_others_bring_more_meanwhile() {
    let mut world = deployed();
    world.broken = vec![("PublishOwn", false)];
    // They see that somebody is at it, add what they have found, and leave all of it to him.
    world.before.push(("PublishOwn", |world| drop(world.finds(&[xz(), glibc()]))));
    assert!(matches!(world.finds(&[xz()]), Outcome::Redeliver(_)));
    assert!(world.before.is_empty() && world.told.is_empty());
    world.broken.clear();
    world.announces();
    assert_eq!(world.kinds(), [NoticeKind::BlockedNow, NoticeKind::NewFindings], "at once, not after his lease");
}

#[test]
fn who_cannot_be_reached_for_a_day_is_told_what_is_true_then() {
    let mut world = deployed();
    world.broken = vec![("PublishOwn", false)];
    for n in 0..20 {
        world.finds(&(0..=n).map(|n| finding(&format!("CVE-{n}"), "CRITICAL")).collect::<Vec<_>>());
        world.now += 2 * 3600;
    }
    assert!(world.told.is_empty());
    world.broken.clear();
    world.now += DAY;
    for _ in 0..3 {
        world.now += 100;
        world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    }
    let texts: Vec<String> = world.told.iter().map(|(_, message)| text(message)).collect();
    assert!(texts.iter().any(|text| text.contains("CVE-19") || text.contains("20 findings")), "{texts:#?}");
}

#[test]
fn a_gates_own_topic_hears_of_it_in_the_originals_form_and_not_of_what_it_let_through_knowingly() {
    let own = own_topic();
    let mut world = World { lives: vec![Live { topic: own.clone(), ..live("payments") }, Live { topic: own.clone(), ..live("checkout") }], ..World::default() };
    let warned = [finding("CVE-OLD", "HIGH")];
    world.finds(&warned);
    let judged = world.heads[&digest("app")].result.as_ref().map(|result| result.facts.clone());
    world.published.clear();
    world.announced.clear();
    world.lives.iter_mut().for_each(|live| live.judged.clone_from(&judged));
    world.finds(&warned);
    assert!(world.published.is_empty(), "the gate's message has told of these");
    // The record of the first telling is lost, and the findings have changed in what nobody is told of.
    world.announced.clear();
    world.finds(&[Finding { first_seen: Some(at(1)), ..warned[0].clone() }]);
    assert!(world.published.is_empty(), "nor of the same, worded otherwise");
    world.finds(&[warned[0].clone(), xz()]);
    assert_eq!(world.published.len(), 1, "one topic under one policy hears it once");
    let (topic, message) = &world.published[0];
    assert_eq!(topic, "arn:aws:sns:eu-west-1:123456789012:gate");
    assert_eq!(message.subject, None);
    golden("alert_to_a_gates_own_topic", &text(message));
    world.finds(&[]);
    assert_eq!(world.published.len(), 1, "that it is cleared the original's form cannot say");
    assert!(world.told.is_empty(), "and the pipeline has no topic");
}

#[test]
fn an_exemption_that_ends_is_warned_of_once_and_its_finding_told_when_it_has() {
    let mut world = deployed();
    let policy = Policy::parse(r#"{"severity":["CRITICAL"],"exemptions":[{"id":"CVE-2024-3094","reason":"not reachable","until":"2027-01-20"}]}"#).unwrap();
    let scan = |world: &mut World| {
        let hints = Hints { must_look: true, ..Hints::default() };
        let scan = Scan::new(repository(), digest("app"), hints, policy.clone(), home());
        world.drive(scan.telling(world.alerting.clone()));
        std::mem::take(&mut world.told)
    };
    world.scans("app", [complete(ScanSource::Basic, 195, &[xz()])]);
    // It is 2027-01-15 08:00 UTC in this world at first: less than a week before.
    let warned = scan(&mut world);
    assert_eq!(warned.len(), 1);
    assert_eq!(warned[0].0, NoticeKind::ExemptionEnding);
    golden("alert_of_an_exemption_that_ends", &text(&warned[0].1));
    world.now += DAY;
    assert!(scan(&mut world).is_empty(), "once");
    world.now += 5 * DAY;
    let ended = scan(&mut world);
    assert_eq!(ended.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [NoticeKind::BlockedNow]);
    assert!(scan(&mut world).is_empty());
}

#[test]
fn a_deployed_image_that_is_not_scanned_any_more_is_told_of_once() {
    let mut world = deployed();
    for (answer, told) in [("SCAN_ELIGIBILITY_EXPIRED", 1), ("SCAN_ELIGIBILITY_EXPIRED", 0), ("FAILED", 1), ("IMAGE_ARCHIVED", 0), ("UNSUPPORTED_IMAGE", 1)] {
        world.told.clear();
        world.now += 100;
        world.scans("app", [status(answer)]);
        world.scan_ends("app");
        assert_eq!(world.kinds(), vec![NoticeKind::ScanFailed; told], "{answer}");
    }
    golden("alert_of_a_failed_scan", &text(&world.told[0].1));
}

#[test]
fn a_list_that_is_being_filled_clears_nothing() {
    let mut world = deployed();
    world.registry = ScanSource::Enhanced;
    world.finds(&[xz()]);
    world.told.clear();
    world.finds(&[]);
    assert!(world.told.is_empty(), "not proven whole yet");
    world.now += 30;
    world.scan_with("app", Hints { must_look: true, looked_again: 1, ..Hints::default() });
    assert_eq!(world.kinds(), [NoticeKind::Cleared]);
}

#[test]
fn the_bus_hears_of_each_verdict_that_changes() {
    let mut world = deployed();
    world.alerting = Alerting { bus: true, ..Alerting::default() };
    world.finds(&[]);
    world.finds(&[xz()]);
    world.finds(&[xz(), glibc()]);
    world.finds(&[]);
    world.now += 100;
    world.scans("app", [status("SCAN_ELIGIBILITY_EXPIRED")]);
    world.scan_ends("app");
    let changes: Vec<(Value, Value)> = world
        .events
        .iter()
        .map(|event| serde_json::from_str::<Value>(&event.body).unwrap())
        .map(|detail| (detail["previous-verdict"].clone(), detail["verdict"].clone()))
        .collect();
    assert_eq!(serde_json::to_string(&changes).unwrap(), r#"[[null,"PASS"],["PASS","BLOCK"],["BLOCK","PASS"],["PASS","UNSCANNED"]]"#);
    let detail: Value = serde_json::from_str(&world.events[1].body).unwrap();
    golden("verdict_event", &serde_json::to_string_pretty(&detail).unwrap());
    assert!(world.told.is_empty(), "there is no topic");
}

#[test]
fn findings_that_change_while_nobody_seems_to_deploy_the_image_are_looked_at_once_more() {
    let mut world = deployed();
    world.lives.clear();
    world.finds(&[xz()]);
    assert_eq!(world.announce_again.last(), Some(&SignedDuration::from_secs(90)), "a deployment may be on its way into the record");
    world.lives = vec![live("payments")];
    world.now += 90;
    world.announces();
    assert_eq!(world.kinds(), [NoticeKind::BlockedNow]);
}

#[test]
fn findings_that_change_under_our_hands_are_looked_at_once_more_as_well() {
    let mut world = World { alerting: alerting(AlertOptions::default()), ..World::default() };
    world.now += 100;
    // Others write the image's first row, by which it may be let through, when we have read that there is none.
    world.before.push(("WriteHead", |world| {
        world.scans("app", [complete(world.registry, world.now - 50, &[])]);
        world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    }));
    world.scans("app", [complete(world.registry, world.now - 10, &[xz()])]);
    world.scan_ends("app");
    assert_eq!(world.announce_again.last(), Some(&SignedDuration::from_secs(90)), "a deployment may be on its way into the record");
}

#[test]
fn decisions_that_somebody_should_know_of_are_told_once() {
    let is_told = |world: &mut World| {
        for request_id in std::mem::take(&mut world.notices) {
            assert!(matches!(world.tells(&request_id), Outcome::Done(_)));
            assert!(matches!(world.tells(&request_id), Outcome::Done(_)), "a message that comes twice finds nothing to tell");
        }
        std::mem::take(&mut world.told)
    };
    let heard = || World { alerting: alerting(AlertOptions::default()), ..World::default() };
    let mut texts = Vec::new();

    let mut world = heard();
    world.scans("app", [complete(ScanSource::Basic, 50, &[xz()])]);
    world.deploys(create("app"));
    texts.extend(is_told(&mut world));

    let mut world = heard();
    world.scans("app", [status("FAILED")]);
    world.deploys(create("app"));
    texts.extend(is_told(&mut world));

    let mut world = heard();
    world.scans("app", [status("IN_PROGRESS")]);
    world.deploys(create("app"));
    world.now += 2000;
    world.wakes("request-1", By::Sweep);
    texts.extend(is_told(&mut world));

    let mut world = heard();
    world.scans("app", [complete(ScanSource::Basic, 50, &[xz()])]);
    let request = create("app");
    world.glass = Some(Glass {
        stack_id: request.stack_id.clone(),
        repository: repository(),
        digest: digest("app"),
        reason: "INC-4711: the old version is worse".into(),
        until: at(1000),
    });
    world.deploys(request);
    texts.extend(is_told(&mut world));

    let mut world = heard();
    world.broken = vec![("ReadStack", true)];
    let request = Request { old_properties_hash: Some("new".into()), ..update("app") };
    world.forward = Some(Forward { properties_hash: "new".into(), old_properties_hash: Some(request.properties_hash.clone()), at: at(50) });
    world.scans("app", [complete(ScanSource::Basic, 50, &[xz()])]);
    world.deploys(request);
    texts.extend(is_told(&mut world));

    let mut world = heard();
    world.scans("app", [status("UNSUPPORTED_IMAGE")]);
    world.deploys(asking(create("app"), |gate| gate.on_unscanned = OnUnscanned::Warn));
    texts.extend(is_told(&mut world));

    let kinds: Vec<&str> = texts.iter().map(|(kind, _)| kind.word()).collect();
    assert_eq!(kinds, ["deployment-blocked", "deployment-blocked", "deployment-blocked", "break-glass-used", "rollback-unverified", "scan-failed"]);
    golden("alerts_of_decisions", &texts.iter().map(|(_, message)| text(message)).collect::<Vec<_>>().join("\n\n----\n\n"));
}

#[test]
fn a_decision_that_could_not_be_told_is_told_by_whoever_comes_next() {
    for also_broken in [None, Some("LetNoticeGo")] {
        let mut world = World { alerting: alerting(AlertOptions::default()), ..World::default() };
        world.scans("app", [complete(ScanSource::Basic, 50, &[xz()])]);
        world.deploys(create("app"));
        world.broken = [("PublishOwn", false)].into_iter().chain(also_broken.map(|effect| (effect, false))).collect();
        let outcome = world.tells("request-1");
        assert!(matches!(&outcome, Outcome::Redeliver(why) if why.text.contains("PublishOwn")), "{outcome:?}");
        assert!(world.told.is_empty());
        // At once; only where not even that could be said it takes until it is certain that nobody tells any more.
        world.broken.clear();
        if also_broken.is_some() {
            assert!(matches!(world.tells("request-1"), Outcome::Redeliver(_)));
            world.now += 131;
        }
        assert!(matches!(world.tells("request-1"), Outcome::Done(_)));
        assert_eq!(world.told.len(), 1, "{also_broken:?}");
    }
}

#[test]
fn what_was_to_be_expected_is_told_to_nobody() {
    let clean = || complete(ScanSource::Basic, 50, &[]);
    let mut world = World { alerting: alerting(AlertOptions::default()), ..World::default() };
    world.scans("app", [clean()]);
    world.deploys(create("app"));
    let mut refused = World { alerting: alerting(AlertOptions::default()), ..World::default() };
    refused.deploys(Request { gate: Err("no repository".into()), ..create("app") });
    let mut unheard = World::default();
    unheard.scans("app", [complete(ScanSource::Basic, 50, &[xz()])]);
    unheard.deploys(create("app"));
    for world in [world, refused, unheard] {
        assert!(world.notices.is_empty() && world.told.is_empty(), "{:?}", world.did);
    }
}

#[test]
fn a_gate_whose_own_topic_is_the_pipelines_has_said_already_what_blocks() {
    let found = complete(ScanSource::Basic, 50, &[xz()]);
    // The original has a message for findings, and none for an image that is not scanned.
    for (topic, answer, told) in [(TOPIC, found.clone(), 0), ("arn:aws:sns:eu-west-1:123456789012:own", found, 1), (TOPIC, status("FAILED"), 1)] {
        let mut world = World { alerting: alerting(AlertOptions::default()), ..World::default() };
        world.scans("app", [answer]);
        let outputs = ecr_scan_verifier::domain::outputs::Outputs { topic_arn: Some(topic.into()), ..Default::default() };
        world.deploys(asking(create("app"), |gate| gate.outputs = Some(outputs)));
        assert_eq!(world.notices, ["request-1"]);
        world.tells("request-1");
        assert_eq!(world.told.len(), told, "{topic}");
    }
}

#[test]
fn nothing_is_cleared_as_long_as_anything_blocks() {
    let mut world = deployed();
    world.alerting = alerting(AlertOptions { severity: Some(Severity::Critical), ..AlertOptions::default() });
    let policy = at_or_above("HIGH");
    for (findings, told) in [(vec![xz(), finding("CVE-2", "HIGH")], vec![NoticeKind::NewFindings]), (vec![finding("CVE-2", "HIGH")], vec![])] {
        world.told.clear();
        world.now += 100;
        world.scans("app", [complete(ScanSource::Basic, world.now - 10, &findings)]);
        let scan = Scan::new(repository(), digest("app"), Hints { must_look: true, ..Hints::default() }, policy.clone(), home());
        world.drive(scan.telling(world.alerting.clone()));
        assert_eq!(world.kinds(), told, "{findings:?}");
    }
}

#[test]
fn what_is_gathered_of_the_newest_of_a_tag_is_told_as_well() {
    let mut world = deployed();
    world.lives.clear();
    world.alerting = alerting(AlertOptions { on: AlertOn::NewestOfTag, quiet_seconds: Some(600), ..AlertOptions::default() });
    world.tags.insert("latest".into(), Resolved::Image(digest("app")));
    world.finds(&[xz()]);
    world.finds(&[xz(), glibc()]);
    assert_eq!(world.told.len(), 1);
    world.now += 700;
    world.announces();
    assert_eq!(world.told.len(), 2);
}

#[test]
fn what_a_gate_has_told_is_what_it_judged_by_its_own_policy_and_then() {
    // Another gate with the same topic has judged other findings by another policy.
    let mut world = World::default();
    world.finds(&[]);
    let clean = world.heads[&digest("app")].result.as_ref().map(|result| result.facts.clone());
    world.finds(&[finding("CVE-H", "HIGH")]);
    let bad = world.heads[&digest("app")].result.as_ref().map(|result| result.facts.clone());
    let by = |stack: &str, threshold: &str, judged| Live { topic: own_topic(), policy: Some(at_or_above(threshold)), judged, ..live(stack) };
    world.lives = vec![by("a", "CRITICAL", bad), by("b", "HIGH", clean)];
    world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    assert_eq!(world.published.len(), 1);

    // An exemption held when the gate judged, and has ended since.
    let policy = Policy::parse(r#"{"severity":["CRITICAL"],"exemptions":[{"id":"CVE-2024-3094","reason":"not reachable","until":"2027-01-15"}]}"#).unwrap();
    let mut world = World::default();
    world.finds(&[xz()]);
    let judged = world.heads[&digest("app")].result.as_ref().map(|result| result.facts.clone());
    world.lives = vec![Live { topic: own_topic(), policy: Some(policy), judged, ..live("payments") }];
    world.now += DAY;
    world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    assert_eq!(world.published.len(), 1);
}

#[test]
fn an_exemption_of_a_gate_is_warned_of_too() {
    let mut world = deployed();
    world.lives[0].policy =
        Some(Policy::parse(r#"{"severity":["HIGH"],"exemptions":[{"id":"CVE-1","reason":"not reachable","until":"2027-01-20"}]}"#).unwrap());
    world.finds(&[finding("CVE-1", "HIGH")]);
    assert_eq!(world.kinds(), [NoticeKind::ExemptionEnding]);
    world.finds(&[finding("CVE-1", "HIGH"), finding("CVE-2", "LOW")]);
    assert_eq!(world.told.len(), 1, "once");
}

#[test]
fn ears_that_are_given_later_hear_what_is_true() {
    let mut world = deployed();
    world.announced.clear();
    world.alerting = Alerting { bus: true, ..Alerting::default() };
    world.finds(&[xz()]);
    world.alerting.topic_arn = Some(TOPIC.into());
    world.now += DAY;
    world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    assert_eq!(world.kinds(), [NoticeKind::BlockedNow]);
}

#[test]
fn the_bus_hears_of_a_scan_that_fails_after_it_was_under_way() {
    let mut world = World { alerting: Alerting { bus: true, ..Alerting::default() }, ..World::default() };
    for answer in ["IN_PROGRESS", "FAILED"] {
        world.now += 100;
        world.scans("app", [status(answer)]);
        world.scan_ends("app");
    }
    assert_eq!(world.events.len(), 1);
}

#[test]
fn an_index_and_what_was_let_through_unscanned_are_no_failed_scans() {
    let unsupported = |world: &mut World| {
        world.now += 100;
        world.scans("app", [status("UNSUPPORTED_IMAGE")]);
        world.scan_ends("app");
    };
    let mut index = deployed();
    index.heads.get_mut(&digest("app")).unwrap().kind = Kind::Index(vec![child("c", "linux/amd64")]);
    unsupported(&mut index);
    let mut known = deployed();
    known.lives[0].verdict = "UNSCANNED".into();
    unsupported(&mut known);
    assert!(index.told.is_empty() && known.told.is_empty(), "{:?} {:?}", index.kinds(), known.kinds());
}

#[test]
fn a_topic_of_a_gate_that_is_the_pipelines_hears_each_finding_once() {
    let mut world = deployed();
    world.lives[0].topic = own_topic().map(|(_, role)| (TOPIC.to_owned(), role));
    world.lives[0].policy = Some(Policy::default());
    world.finds(&[xz()]);
    assert_eq!((world.told.len(), world.published.len()), (1, 0));
}
