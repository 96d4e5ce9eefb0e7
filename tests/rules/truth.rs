//! Which images count, which need no scan, and how old a scan may be.

use ecr_scan_verifier::domain::finding::Epss;
use ecr_scan_verifier::domain::head::EventCounts;
use ecr_scan_verifier::domain::plan::Started;
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::protocol::Resolved;
use ecr_scan_verifier::domain::protocol::scan::Hints;
use ecr_scan_verifier::domain::request::{AskedScan, Glass, OnBlock, OnUnscanned, Request};
use ecr_scan_verifier::domain::scan::{Answered, ScanSource};

use crate::world::*;

const BASIC: ScanSource = ScanSource::Basic;
const HOUR: i64 = 3600;

fn clean(completed_at: i64) -> Answered {
    complete(BASIC, completed_at, &[])
}

fn for_platforms(wanted: &[&str]) -> Request {
    asking(create_by_tag("1.4.2"), |gate| gate.platforms = wanted.iter().map(|platform| (*platform).to_owned()).collect())
}

#[test]
fn only_the_images_of_the_platforms_that_are_deployed_count() {
    let mut world = World::default();
    let children = vec![child("amd", "linux/amd64"), child("arm", "linux/arm64/v8"), child("arm7", "linux/arm/v7")];
    world.tags.insert("1.4.2".into(), Resolved::Index(digest("index"), children));
    world.scans("amd", [complete(BASIC, 50, &[finding("CVE-1", "CRITICAL")])]).scans("arm", [clean(50)]).scans("arm7", [status("PENDING")]);
    for (wanted, verdict) in [
        (&["linux/arm64"][..], "SUCCESS PASS"), // without a variant: any
        (&["linux/arm64/v8"], "SUCCESS PASS"),
        (&["linux/arm64", "linux/amd64"], "FAILED ECR Image Scan found vulnerabilities."),
        (&["linux/arm64/v7"], "FAILED payments-api:1.4.2 has no image for linux/arm64/v7; it has linux/amd64, linux/arm/v7, linux/arm64/v8."),
        (&["windows/amd64", "linux/arm64"], "FAILED payments-api:1.4.2 has no image for windows/amd64; it has linux/amd64, linux/arm/v7, linux/arm64/v8."),
    ] {
        world.requests.clear();
        world.deploys(for_platforms(wanted));
        assert_eq!(world.verdict(), verdict, "{wanted:?}");
    }
    world.requests.clear();
    world.deploys(for_platforms(&["linux/arm/v7"]));
    assert!(world.waits(&for_platforms(&[])), "it waits for the one image that counts");
    world.scans("arm7", [clean(120)]);
    world.now = 130;
    world.scan_ends("arm7");
    assert_eq!(world.verdict(), "SUCCESS PASS");
}

#[test]
fn what_no_scanner_can_scan_passes_only_where_that_is_asked_for_and_nothing_else_does() {
    for (answer, softened) in [
        (status("UNSUPPORTED_IMAGE"), true),
        (status("FAILED"), false),
        (status("SCAN_ELIGIBILITY_EXPIRED"), false),
        (status("IMAGE_ARCHIVED"), false),
        (Answered::NoImage, false),
    ] {
        for on_unscanned in [OnUnscanned::Block, OnUnscanned::Warn, OnUnscanned::Allow] {
            for on_block in [OnBlock::Fail, OnBlock::Warn] {
                let mut world = World::default();
                world.scans("app", [answer.clone()]);
                world.deploys(asking(create("app"), |gate| (gate.on_unscanned, gate.on_block) = (on_unscanned, on_block)));
                let passes = softened && on_unscanned != OnUnscanned::Block;
                assert_eq!(world.verdict() == "SUCCESS UNSCANNED", passes, "{answer:?} {on_unscanned:?}: {}", world.verdict());
            }
        }
    }
    for answer in [Answered::NoScan, status("PENDING"), status("FINDINGS_UNAVAILABLE"), status("SOMETHING_NEW")] {
        let mut world = World::default();
        world.scans("app", [answer.clone()]);
        let request = asking(create("app"), |gate| gate.on_unscanned = OnUnscanned::Allow);
        world.deploys(request.clone());
        assert!(world.waits(&request), "{answer:?} is to be scanned still");
    }
    let mut world = World::default();
    world.broken.push(("Look", false));
    world.deploys(asking(create("app"), |gate| gate.on_unscanned = OnUnscanned::Allow));
    assert!(world.sent.is_empty(), "could not look is no state");
}

#[test]
fn an_unscannable_image_does_not_excuse_the_others_of_its_index() {
    let mut world = World::default();
    world.tags.insert("1.4.2".into(), Resolved::Index(digest("index"), vec![child("amd", "linux/amd64"), child("arm", "linux/arm64")]));
    world.scans("amd", [status("UNSUPPORTED_IMAGE")]).scans("arm", [complete(BASIC, 50, &[finding("CVE-1", "CRITICAL")])]);
    let asks = || asking(create_by_tag("1.4.2"), |gate| gate.on_unscanned = OnUnscanned::Allow);
    world.deploys(asks());
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
    world.requests.clear();
    world.scans("arm", [clean(60)]);
    world.now = 200;
    world.scan_ends("arm");
    world.deploys(asks());
    assert_eq!(world.verdict(), "SUCCESS UNSCANNED");
}

fn with_age(hours: Option<u32>, scan: AskedScan) -> Request {
    asking(create("app"), |gate| (gate.max_scan_age_s, gate.scan) = (hours.map(|hours| hours * 3600), scan))
}

/// A world in which the image was scanned long ago.
fn scanned_long_ago(hours: i64) -> World {
    let mut world = World { now: 100 + hours * HOUR, ..World::default() };
    world.scans("app", [clean(100)]);
    world.scan_ends("app");
    world.is_image("app");
    world
}

fn later(request: Request, world: &World) -> Request {
    Request { asked_at: at(world.now), ..request }
}

#[test]
fn a_scan_that_is_too_old_is_refused_where_nobody_here_can_start_another() {
    for (age, hours, verdict) in [(Some(48), 47, "SUCCESS PASS"), (Some(48), 49, "FAILED The scan of payments-api:"), (None, 10_000, "SUCCESS PASS")] {
        let mut world = scanned_long_ago(hours);
        let request = later(with_age(age, AskedScan::Basic { start_scan: false }), &world);
        world.deploys(request);
        assert!(world.verdict().starts_with(verdict), "{}", world.verdict());
    }
}

#[test]
fn a_scan_that_is_too_old_is_made_anew_where_the_gate_starts_scans() {
    let mut world = scanned_long_ago(25);
    let request = later(with_age(None, AskedScan::Basic { start_scan: true }), &world);
    world.deploys(request.clone());
    assert!(world.waits(&request), "a day is all, where the gate starts scans itself");
    let look = |world: &mut World| world.scan_with("app", Hints { must_look: true, for_a_request: true, ..Hints::default() });
    look(&mut world);
    assert_eq!(world.started, [digest("app")]);

    // The old result is still what ECR shows: that is not the new scan's, and nobody starts a second one.
    world.now += 20;
    look(&mut world);
    world.timer_rings();
    assert_eq!(world.started.len(), 1);
    assert!(world.waits(&request));
    world.scans("app", [complete(BASIC, world.now, &[finding("CVE-1", "CRITICAL")])]);
    world.now += 5;
    world.scan_ends("app");
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
}

#[test]
fn what_ecr_has_scanned_within_a_day_counts_although_it_is_asked_for_again() {
    let mut world = scanned_long_ago(3);
    world.starting = Started::Already;
    let request = later(with_age(Some(1), AskedScan::Basic { start_scan: true }), &world);
    world.deploys(request);
    world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    assert_eq!(world.verdict(), "SUCCESS PASS");
}

#[test]
fn a_scan_that_was_asked_for_and_never_came_is_asked_for_again_after_a_day() {
    let mut world = scanned_long_ago(25);
    let first = later(with_age(None, AskedScan::Basic { start_scan: true }), &world);
    world.deploys(first);
    world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    world.now += 25 * HOUR;
    let second = later(Request { request_id: "second".into(), ..with_age(None, AskedScan::Basic { start_scan: true }) }, &world);
    world.deploys(second);
    world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    assert_eq!(world.started.len(), 2);
}

#[test]
fn a_scan_that_nobody_makes_is_not_waited_for_to_the_end() {
    for (registry, scan) in [(ScanSource::Basic, AskedScan::Basic { start_scan: false }), (ScanSource::Enhanced, AskedScan::Enhanced)] {
        for on_demand_only in [true, false] {
            let mut world = World { registry, on_demand_only, ..World::default() };
            let request = asking(create("app"), |gate| gate.scan = scan);
            world.deploys(request.clone());
            while world.waits(&request) && world.now < 100 + 800 {
                world.timer_rings();
            }
            let refused_early = !world.sent.is_empty();
            assert_eq!(refused_early, on_demand_only, "{registry}");
            if refused_early {
                assert_eq!(world.now, 100 + 75, "on-push has had its minute");
                assert!(world.verdict().contains("are not scanned unless somebody asks"), "{}", world.verdict());
            }
        }
    }
    // A gate that starts scans itself has nothing to fear, and who may not ask waits on.
    for (scan, broken) in [(AskedScan::Basic { start_scan: true }, vec![]), (AskedScan::Basic { start_scan: false }, vec![("ReadFrequency", true)])] {
        let mut world = World { on_demand_only: true, broken, ..World::default() };
        let request = asking(create("app"), |gate| gate.scan = scan);
        world.deploys(request.clone());
        while world.now < 100 + 400 {
            world.timer_rings();
        }
        assert!(world.waits(&request), "{scan:?}");
    }
}

#[test]
fn a_policy_that_basic_scanning_cannot_judge_is_refused() {
    let mut world = World::default();
    world.scans("app", [clean(50)]);
    world.deploys(asking(create("app"), |gate| gate.policy = Policy::parse(r#"{"ignoreUnfixed":true,"graceDays":3}"#).unwrap()));
    assert!(world.verdict().contains("does not say what `ignoreUnfixed`, `graceDays` asks for"), "{}", world.verdict());
}

#[test]
fn a_verdict_is_judged_anew_when_an_exemption_has_ended() {
    let enhanced = ScanSource::Enhanced;
    let policy = Policy::parse(r#"{"exemptions":[{"id":"CVE-1","reason":"x","until":"2027-01-15"}]}"#).unwrap();
    let mut world = World { registry: enhanced, policies: vec![policy.clone()], ..World::default() };
    world.scans("app", [complete(enhanced, 50, &[finding("CVE-1", "CRITICAL")])]);
    world.scan_ends("app");
    world.now += 25;
    world.scan_with("app", Hints { must_look: true, ..Hints::default() });
    world.is_image("app");
    let asks = |world: &World, id: &str| later(Request { request_id: id.into(), ..asking(create("app"), |gate| gate.policy = policy.clone()) }, world);
    world.did.clear();
    world.deploys(asks(&world, "today"));
    assert_eq!(world.verdict(), "SUCCESS PASS");
    assert_eq!(world.did[..2], ["ReadHeads", "Record"], "answered from the head alone");

    // The world's time begins on 2027-01-15; a day later the exemption excuses nothing, and no event has told anybody.
    world.now += 24 * HOUR;
    world.did.clear();
    world.deploys(asks(&world, "tomorrow"));
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
    assert!(!world.did.contains(&"Look".to_owned()), "from the stored findings");
    assert!(world.answered().1.as_str().unwrap().contains("The exemption of CVE-1 ended on 2027-01-15"));
}

#[test]
fn whoever_breaks_the_glass_lets_one_image_in_once() {
    let glass =
        |until| Glass { stack_id: create("app").stack_id, repository: repository(), digest: digest("app"), reason: "the scanner is down".into(), until };
    let again = |id: &str| Request { request_id: id.into(), ..create("app") };
    for answer in [complete(BASIC, 50, &[finding("CVE-1", "CRITICAL")]), status("FAILED"), status("PENDING"), Answered::NoScan] {
        let mut world = World { glass: Some(glass(at(500))), ..World::default() };
        world.scans("app", [answer.clone()]);
        world.deploys(again("first"));
        assert_eq!(world.verdict(), "SUCCESS BREAK_GLASS", "{answer:?}");
        assert_eq!(world.decided, ["BREAK_GLASS"]);
        world.deploys(again("second"));
        assert_eq!(world.decided.iter().filter(|verdict| *verdict == "BREAK_GLASS").count(), 1, "used up: {answer:?}");
    }
    for (glass, what) in [(Glass { digest: digest("other"), ..glass(at(500)) }, "another image"), (glass(at(100)), "over by now")] {
        let mut world = World { glass: Some(glass), ..World::default() };
        world.scans("app", [complete(BASIC, 50, &[finding("CVE-1", "CRITICAL")])]);
        world.deploys(create("app"));
        assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.", "{what}");
    }
    // What passes anyway does not use it up, nor does it cost a look.
    let mut world = World { glass: Some(glass(at(500))), ..World::default() };
    world.scans("app", [clean(50)]);
    world.deploys(create("app"));
    assert_eq!(world.verdict(), "SUCCESS PASS");
    assert!(world.glass.is_some() && !world.did.contains(&"ReadGlass".to_owned()));
}

#[test]
fn of_two_deployments_one_uses_the_glass() {
    let glass = Glass { stack_id: create("app").stack_id, repository: repository(), digest: digest("app"), reason: "x".into(), until: at(500) };
    let mut world = World { glass: Some(glass), ..World::default() };
    world.scans("app", [complete(BASIC, 50, &[finding("CVE-1", "CRITICAL")])]);
    // The other one records first.
    world.before.push(("Record", |world| {
        world.deploys(Request { request_id: "other".into(), ..create("app") });
    }));
    world.deploys(create("app"));
    assert_eq!(world.decided, ["BREAK_GLASS", "BLOCK"]);
}

#[test]
fn the_glass_is_broken_for_the_image_and_not_for_what_its_tag_names_by_now() {
    let mut world = World::default();
    world.tags.insert("1.4.2".into(), Resolved::Image(digest("app")));
    world.scans("app", [status("PENDING")]);
    world.deploys(create_by_tag("1.4.2"));
    world.glass = Some(Glass { stack_id: create("app").stack_id, repository: repository(), digest: digest("app"), reason: "x".into(), until: at(500) });
    world.tags.insert("1.4.2".into(), Resolved::Image(digest("other")));
    world.timer_rings();
    assert!(world.verdict().contains("does not name"), "{}", world.verdict());
    assert!(world.glass.is_some(), "and it is not used up");

    for gone in [status("IMAGE_ARCHIVED"), Answered::NoImage] {
        let mut world = World { glass: world.glass.clone(), ..World::default() };
        world.scans("app", [gone]);
        world.deploys(create("app"));
        assert!(world.verdict().starts_with("FAILED"), "{}", world.verdict());
    }
}

#[test]
fn a_request_that_waits_finds_the_broken_glass_at_its_next_look() {
    let mut world = World::default();
    world.scans("app", [status("PENDING")]);
    world.deploys(create("app"));
    assert!(world.waits(&create("app")));
    world.glass = Some(Glass { stack_id: create("app").stack_id, repository: repository(), digest: digest("app"), reason: "x".into(), until: at(500) });
    world.timer_rings();
    assert_eq!(world.verdict(), "SUCCESS BREAK_GLASS");
}

fn only_likely_ones(epss: &str) -> Request {
    asking(create("app"), |gate| {
        gate.scan = AskedScan::Enhanced;
        gate.policy = Policy::parse(&format!(r#"{{"exploit":{{"epss":"{epss}"}}}}"#)).unwrap();
    })
}

/// One CRITICAL finding of which ECR does not say how likely it is exploited.
fn inspected(epss: Option<&str>) -> World {
    let mut world = World { registry: ScanSource::Enhanced, epss: epss.and_then(Epss::parse), ..World::default() };
    world.scans("app", [complete(ScanSource::Enhanced, 50, &[finding("CVE-1", "CRITICAL")])]);
    let counts = EventCounts { at: at(60), critical: 1, high: 0, medium: 0, total: 1 };
    world.scan_with("app", Hints { counts: Some(counts), must_look: true, ..Hints::default() });
    world
}

#[test]
fn how_likely_an_exploit_is_is_asked_for_before_it_decides() {
    for (limit, epss, verdict) in [
        ("0.1", Some("0.02"), "SUCCESS PASS"),
        ("0.1", Some("0.1"), "FAILED ECR Image Scan found vulnerabilities."),
        ("0.1", None, "FAILED ECR Image Scan found vulnerabilities."), // Inspector does not say
    ] {
        let mut world = inspected(epss);
        let request = only_likely_ones(limit);
        world.deploys(request.clone());
        assert!(world.waits(&request), "nobody has asked Inspector yet: {}", world.verdict());
        world.before.push(("ReadWaiting", |world| world.now += 1)); // no two readings are of one moment
        world.scan_with("app", Hints { must_look: true, for_a_request: true, ..Hints::default() });
        assert_eq!(world.verdict(), verdict, "{limit} {epss:?}");

        // From now on whoever reads the findings asks Inspector too, so a second deployment waits for nothing.
        world.scan_with("app", Hints { must_look: true, ..Hints::default() });
        world.requests.clear();
        let looks = world.did.iter().filter(|name| *name == "Look").count();
        world.deploys(only_likely_ones(limit));
        assert_eq!(world.verdict(), verdict);
        assert_eq!(world.did.iter().filter(|name| *name == "Look").count(), looks);
    }
}

#[test]
fn a_policy_without_a_likelihood_is_judged_without_asking_for_one() {
    let mut world = inspected(Some("0.02"));
    world.deploys(asking(create("app"), |gate| gate.scan = AskedScan::Enhanced));
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
    assert!(!world.heads[&digest("app")].needs_epss());
}

#[test]
fn a_likelihood_that_never_comes_is_no_pass_and_no_verdict() {
    let mut world = inspected(Some("0.02"));
    let request = only_likely_ones("0.1");
    world.deploys(request.clone());
    // The second list takes longer than a function has, each time.
    world.pages_left = usize::MAX;
    while world.waits(&request) {
        world.timer_rings();
    }
    assert!(world.verdict().starts_with("FAILED ECR image scan timed out"), "{}", world.verdict());
}
