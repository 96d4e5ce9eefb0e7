//! The deploy protocol: what a deployment is answered, and what that costs.

use ecr_scan_verifier::domain::head::News;
use ecr_scan_verifier::domain::image::ImageRef;
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::protocol::{Outcome, Resolved};
use ecr_scan_verifier::domain::request::{AskedScan, OnBlock, RequestKind};
use ecr_scan_verifier::domain::scan::{Answered, Report, ScanSource};

use crate::world::*;

/// A world in which an image has been scanned by basic scanning and judged.
fn scanned(image: &str, findings: &[ecr_scan_verifier::domain::finding::Finding]) -> World {
    let mut world = World::default();
    world.scans(image, [complete(ScanSource::Basic, 50, findings)]);
    world.scan_ends(image);
    world.is_image(image);
    world.did.clear();
    world
}

#[test]
fn a_known_verdict_costs_one_read_one_write_the_answer_and_the_mark() {
    let mut world = scanned("app", &[finding("CVE-1", "MEDIUM")]);
    assert_eq!(world.deploys(create("app")), Outcome::Done("PASS".into()));
    assert_eq!(world.did, ["ReadHeads", "Record", "Put", "MarkAnswered"]);
    let (status, data) = world.answered();
    assert_eq!(status, "SUCCESS");
    assert_eq!(data["ImageDigest"], digest("app").to_string());
    assert_eq!(data["ImageUri"], format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/payments-api@{}", digest("app")));
    assert_eq!(data["ScannedAt"], at(50).to_string());
    assert_eq!(data["PolicyHash"], at_or_above("HIGH").hash().to_string());
}

#[test]
fn a_tag_costs_one_call_more_and_the_answer_is_about_the_digest_it_named_then() {
    let mut world = scanned("app", &[]);
    world.tags.insert("1.4.2".into(), Resolved::Image(digest("app")));
    // The tag moves to a bad image right after it was resolved.
    world.before.push(("ReadHeads", |world| {
        world.tags.insert("1.4.2".into(), Resolved::Image(digest("bad")));
    }));
    world.deploys(create_by_tag("1.4.2"));
    assert_eq!(world.did, ["ResolveImage", "ReadHeads", "Record", "Put", "MarkAnswered"]);
    assert_eq!(world.answered().1["ImageDigest"], digest("app").to_string());
}

#[test]
fn a_finding_at_or_above_the_threshold_blocks_and_is_named() {
    let mut world = scanned("app", &[finding("CVE-1", "CRITICAL"), finding("CVE-2", "LOW")]);
    world.deploys(create("app"));
    let (status, reason) = world.answered();
    let reason = reason.as_str().unwrap();
    assert_eq!(status, "FAILED");
    assert!(reason.starts_with("ECR Image Scan found vulnerabilities.\nImage: payments-api:sha256:"), "{reason}");
    assert!(reason.contains("\n  CRITICAL      CVE-1"), "{reason}");
    assert!(world.rows.is_empty(), "nothing is deployed");
}

#[test]
fn a_block_whose_findings_are_gone_blocks_all_the_same() {
    for broken in [false, true] {
        let mut world = scanned("app", &[finding("CVE-1", "CRITICAL")]);
        world.facts.clear();
        if broken {
            world.broken.push(("ReadFacts", false));
        }
        world.deploys(create("app"));
        assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
    }
}

#[test]
fn a_policy_that_the_row_does_not_know_is_judged_from_the_findings() {
    let mut world = scanned("app", &[finding("CVE-1", "CRITICAL")]);
    let ignoring = |id: &str| Policy::from_words(None, Some("HIGH"), [id.to_owned()]).unwrap();
    world.deploys(asking(create("app"), |gate| gate.policy = ignoring("CVE-1")));
    assert_eq!(world.verdict(), "SUCCESS PASS");
    assert_eq!(world.did, ["ReadHeads", "ReadFacts", "Record", "Put", "MarkAnswered"]);

    let mut world = scanned("app", &[finding("CVE-1", "CRITICAL")]);
    world.deploys(asking(create("app"), |gate| gate.policy = ignoring("CVE-2")));
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
}

#[test]
fn findings_that_a_policy_needs_and_nobody_has_are_read_again() {
    let mut world = scanned("app", &[finding("CVE-1", "CRITICAL")]);
    world.facts.clear();
    world.now = 200;
    world.deploys(asking(create("app"), |gate| gate.policy = Policy::from_words(None, Some("HIGH"), ["CVE-1".to_owned()]).unwrap()));
    assert_eq!(world.verdict(), "SUCCESS PASS");
    assert!(world.did.contains(&"Look".to_owned()), "{:?}", world.did);
}

#[test]
fn a_finished_scan_is_seen_without_its_event() {
    let mut world = World::default();
    world.scans("app", [complete(ScanSource::Basic, 50, &[])]);
    world.deploys(create("app"));
    assert_eq!(world.verdict(), "SUCCESS PASS");
    assert_eq!(world.did, ["ReadHeads", "ResolveImage", "Look", "PutFacts", "WriteHead", "Record", "Put", "LookAgain", "MarkAnswered"]);
    assert!(world.heads.contains_key(&digest("app")), "whoever asks next finds it");
}

#[test]
fn an_image_without_a_result_waits_and_one_that_gets_none_is_refused() {
    let basic = ScanSource::Basic;
    let page = Answered::Findings(Report { more: true, status: Some("COMPLETE".into()), completed_at: Some(at(50)), listed: true, ..Report::default() });
    for (answer, first_line) in [
        (Answered::NoScan, "waits"),
        (status("IN_PROGRESS"), "waits"),
        (status("LIMIT_EXCEEDED"), "waits"),
        (status("FINDINGS_UNAVAILABLE"), "waits"),
        (status("SOMETHING_NEW"), "waits"),
        (page, "waits"),
        (status("FAILED"), "ECR image scan failed: Unknown error"),
        (status("UNSUPPORTED_IMAGE"), "ECR image scan failed: Image is not supported for scanning."),
        (status("IMAGE_ARCHIVED"), "payments-api:1.4.2 is archived in ECR and cannot be deployed."),
        (Answered::NoImage, "payments-api:1.4.2 does not exist in ECR."),
        (complete(basic, 50, &[finding("CVE-1", "HIGH")]), "ECR Image Scan found vulnerabilities."),
    ] {
        for on_block in [OnBlock::Fail, OnBlock::Warn] {
            let mut world = World::default();
            world.tags.insert("1.4.2".into(), Resolved::Image(digest("app")));
            world.scans("app", [answer.clone()]);
            let request = asking(create_by_tag("1.4.2"), |gate| gate.on_block = on_block);
            world.deploys(request.clone());
            if first_line == "waits" {
                assert!(world.waits(&request) && world.sent.is_empty(), "{answer:?}");
                continue;
            }
            let blocked = first_line.starts_with("ECR Image Scan found");
            // A Block is all that `failOnVulnerability: false` lets through.
            let expected = if blocked && on_block == OnBlock::Warn { "SUCCESS BLOCK".to_owned() } else { format!("FAILED {first_line}") };
            assert_eq!(world.verdict(), expected);
        }
    }
}

#[test]
fn a_scanner_that_cannot_be_asked_decides_nothing() {
    let mut world = World::default();
    world.broken.push(("Look", true));
    let outcome = world.deploys(create("app"));
    assert!(matches!(outcome, Outcome::Redeliver(_)), "{outcome:?}");
    assert!(world.sent.is_empty());
}

#[test]
fn inspectors_list_is_not_believed_until_it_is_proven_whole() {
    let enhanced = ScanSource::Enhanced;
    let asks = || asking(create("app"), |gate| gate.scan = AskedScan::Enhanced);
    let mut world = World { registry: enhanced, ..World::default() };
    world.scans("app", [complete(enhanced, 50, &[])]);
    world.deploys(asks());
    assert!(world.waits(&asks()));

    world.now += 19;
    world.requests.clear();
    world.deploys(asks());
    assert!(world.waits(&asks()), "19 s are too close");

    world.now += 1;
    world.requests.clear();
    world.deploys(asks());
    assert_eq!(world.verdict(), "SUCCESS PASS");
}

#[test]
fn a_redelivered_request_gets_the_bytes_of_the_first_answer() {
    let mut world = scanned("app", &[]);
    world.broken.push(("Put", false));
    assert!(matches!(world.deploys(create("app")), Outcome::Redeliver(_)));
    // In between a later scan finds something.
    world.broken.clear();
    world.scans("app", [complete(ScanSource::Basic, 150, &[finding("CVE-1", "CRITICAL")])]);
    world.now = 200;
    world.scan_ends("app");
    world.deploys(create("app"));
    assert_eq!(world.verdict(), "SUCCESS PASS");
    world.deploys(create("app"));
    assert_eq!(world.sent.len(), 1, "answered and marked: the third delivery sends nothing");
}

#[test]
fn the_worst_of_an_indexs_images_decides() {
    let index = || Resolved::Index(digest("index"), vec![child("amd", "linux/amd64"), child("arm", "linux/arm64")]);
    let clean = complete(ScanSource::Basic, 50, &[]);
    let bad = complete(ScanSource::Basic, 60, &[finding("CVE-1", "HIGH")]);
    for (amd, arm, verdict) in [
        (clean.clone(), clean.clone(), "SUCCESS PASS"),
        (clean.clone(), bad.clone(), "FAILED ECR Image Scan found vulnerabilities."),
        (clean.clone(), status("FAILED"), "FAILED ECR image scan failed: Unknown error"),
        (clean.clone(), Answered::NoScan, "waits"),
        (Answered::NoScan, bad, "FAILED ECR Image Scan found vulnerabilities."),
    ] {
        let mut world = World::default();
        world.tags.insert("1.4.2".into(), index());
        world.scans("amd", [amd]).scans("arm", [arm]);
        world.deploys(create_by_tag("1.4.2"));
        if verdict == "waits" {
            assert!(world.waits(&create_by_tag("1.4.2")));
            continue;
        }
        assert_eq!(world.verdict(), verdict);
        if verdict.contains("vulnerabilities") {
            let reason = world.answered().1;
            assert!(reason.as_str().unwrap().contains(&format!("payments-api@{} (linux/arm64): 1 finding blocks", digest("arm"))), "{reason}");
        }
        if verdict.starts_with("SUCCESS") {
            assert_eq!(world.answered().1["ImageDigest"], digest("index").to_string());
            assert_eq!(world.rows.len(), 3, "a row for the index and one for each of its images");
        }
    }
}

#[test]
fn an_index_that_cannot_be_judged_is_refused() {
    let many = (0..41).map(|n| child(&format!("image {n}"), "linux/amd64")).collect();
    for (is, first_line) in [
        (Resolved::Index(digest("index"), vec![]), "payments-api:1.4.2 is an index without a single image in it."),
        (Resolved::Index(digest("index"), many), "payments-api:1.4.2 is an index of 41 images; at most 40 can be judged together."),
        (
            Resolved::NotAnImage(digest("chart"), "application/x".into(), None),
            "payments-api:1.4.2 is not an image, but `application/x`: there is nothing to scan.",
        ),
        (Resolved::NotFound, "payments-api:1.4.2 does not exist in ECR (account 123456789012, region eu-west-1)."),
    ] {
        let mut world = World::default();
        world.tags.insert("1.4.2".into(), is);
        world.deploys(create_by_tag("1.4.2"));
        assert_eq!(world.verdict(), format!("FAILED {first_line}"));
    }
}

#[test]
fn the_scanner_that_was_asked_for_has_to_be_in_charge() {
    let clean = |source| complete(source, 50, &[]);
    let starts = AskedScan::Basic { start_scan: true };
    let only_reads = AskedScan::Basic { start_scan: false };
    for (asked, registry, verdict) in [
        (starts, ScanSource::Basic, "SUCCESS PASS"),
        (only_reads, ScanSource::Basic, "SUCCESS PASS"),
        (AskedScan::Enhanced, ScanSource::Enhanced, "SUCCESS PASS"),
        (only_reads, ScanSource::Enhanced, "SUCCESS PASS"),
        (
            starts,
            ScanSource::Enhanced,
            "FAILED StartImageScan is disabled because Enhanced scanning (Amazon Inspector) is enabled on this account. Use ScanConfig.enhanced() instead of ScanConfig.basic().",
        ),
        (
            AskedScan::Enhanced,
            ScanSource::Basic,
            &format!("FAILED payments-api:{} was to be judged by Enhanced scanning, but the registry's scan type is BASIC.", digest("app")),
        ),
    ] {
        let mut world = World { registry, ..World::default() };
        world.scans("app", [clean(registry)]);
        world.scan_ends("app");
        world.now = 200;
        world.scan_with("app", ecr_scan_verifier::domain::protocol::scan::Hints { must_look: true, ..Default::default() });
        world.deploys(asking(create("app"), |gate| gate.scan = asked));
        assert_eq!(world.verdict(), verdict, "{asked:?} asked, {registry} in charge");
    }
}

#[test]
fn a_record_of_the_scanner_that_was_in_charge_before_is_read_anew() {
    let mut world = scanned("app", &[]);
    world.registry = ScanSource::Enhanced;
    world.scans("app", [complete(ScanSource::Enhanced, 150, &[finding("CVE-1", "CRITICAL")])]);
    world.now = 200;
    world.deploys(asking(create("app"), |gate| gate.scan = AskedScan::Enhanced));
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
}

#[test]
fn an_update_replaces_what_was_deployed() {
    let mut world = scanned("old", &[]);
    world.deploys(create("old"));
    world.scans("new", [complete(ScanSource::Basic, 60, &[])]);
    world.scan_ends("new");
    world.is_image("new");
    world.did.clear();
    world.deploys(update("new"));
    assert_eq!(world.did, ["ReadOpen", "ReadHeads", "ReadRows", "Record", "Put", "MarkAnswered"], "who waits, and what is replaced");
    let admitted: Vec<_> = world.rows.values().filter(|row| row.is_admitted).map(|row| row.digest.clone()).collect();
    assert_eq!(admitted, [digest("new")]);
}

#[test]
fn an_update_to_a_bad_image_is_refused_and_its_rollback_let_through_from_the_record() {
    let mut world = scanned("good", &[]);
    world.deploys(create("good"));
    let first = world.answered();
    world.scans("bad", [complete(ScanSource::Basic, 60, &[finding("CVE-1", "CRITICAL")])]);
    world.deploys(update("bad"));
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");

    // By now the good image has a finding too, and every API is down.
    world.rolling_back = true;
    world.heads.clear();
    world.broken = vec![("ResolveImage", false), ("Look", false), ("ReadFacts", false)];
    let back = asking(update("good"), |gate| gate.image = ImageRef::Tag("1.4.1".into()));
    world.deploys(ecr_scan_verifier::domain::request::Request { properties_hash: create("good").properties_hash, ..back });
    assert_eq!(world.answered(), first, "the data last given for these properties");
}

#[test]
fn a_rollback_never_fails_because_of_us() {
    let by_tag = || asking(update("x"), |gate| gate.image = ImageRef::Tag("1.4.1".into()));
    // Nothing recorded, and nothing can be resolved.
    let mut world = World { rolling_back: true, broken: vec![("ResolveImage", false)], ..World::default() };
    world.deploys(by_tag());
    let (status, data) = world.answered();
    assert_eq!((status.as_str(), data["Verdict"].as_str(), data["ImageDigest"].as_str()), ("SUCCESS", Some("ROLLBACK"), Some("")));
    assert_eq!(data.as_object().unwrap().len(), 5, "a template may read any of the five");

    // Properties that this version does not understand.
    let mut world = World { rolling_back: true, ..World::default() };
    let mut request = by_tag();
    request.gate = Err("this version does not know the property `platforms`".into());
    world.deploys(request);
    assert_eq!(world.verdict(), "SUCCESS ROLLBACK");

    // A bad image: it was running before.
    let mut world = scanned("x", &[finding("CVE-1", "CRITICAL")]);
    world.rolling_back = true;
    world.deploys(update("x"));
    assert_eq!(world.verdict(), "SUCCESS ROLLBACK");
}

#[test]
fn a_rollback_that_asks_to_be_judged_is_judged_from_the_record_alone() {
    let strict = |image: &str| asking(update(image), |gate| gate.suppress_on_rollback = false);
    let mut world = scanned("x", &[finding("CVE-1", "CRITICAL")]);
    world.rolling_back = true;
    world.deploys(strict("x"));
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");

    let mut world = World { rolling_back: true, ..World::default() };
    world.deploys(strict("never scanned"));
    assert!(world.verdict().starts_with("FAILED No complete scan result for"), "{}", world.verdict());
    assert!(!world.did.contains(&"Look".to_owned()), "{:?}", world.did);
}

#[test]
fn a_stack_that_may_not_be_looked_at_is_judged_and_one_that_cannot_be_is_not() {
    let mut world = scanned("x", &[finding("CVE-1", "CRITICAL")]);
    world.broken.push(("ReadStack", true));
    world.deploys(update("x"));
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");

    let mut world = scanned("x", &[finding("CVE-1", "CRITICAL")]);
    world.broken.push(("ReadStack", false));
    assert!(matches!(world.deploys(update("x")), Outcome::Redeliver(_)));
    assert!(world.sent.is_empty());
}

#[test]
fn a_delete_succeeds_from_the_event_alone() {
    let mut world = World { broken: vec![("ReadRows", true), ("ReadHeads", true), ("CloseDeployments", true)], ..World::default() };
    let mut request = create("x");
    request.kind = RequestKind::Delete;
    request.gate = Err("addr and repositoryName are required.".into());
    world.deploys(request);
    assert_eq!(world.did, ["Put", "ReadOpen", "CloseDeployments"], "first the answer, then the rest, which decides nothing");
    assert_eq!(world.verdict(), "SUCCESS ");
}

#[test]
fn an_image_of_another_account_or_region_is_refused() {
    let mut world = World::default();
    world.deploys(asking(create("x"), |gate| gate.repository.region = "us-east-1".into()));
    assert!(world.verdict().starts_with("FAILED Repository payments-api is in account 123456789012, region us-east-1;"), "{}", world.verdict());
    assert_eq!(world.did, ["Record", "Put", "MarkAnswered"], "nothing is asked about it");
}

#[test]
fn who_loses_the_race_for_a_row_merges_with_what_is_there() {
    let mut world = World::default();
    world.scans("app", [complete(ScanSource::Basic, 50, &[])]);
    world.before.push(("WriteHead", |world| {
        // on-push gets in first.
        let kind = ecr_scan_verifier::domain::head::Kind::Image;
        let news = [News::Pushed { kind, tag: Some("1.4.2".into()), at: Some(at(40)) }];
        let change = ecr_scan_verifier::domain::head::merge(None, &digest("app"), &repository(), &news, &[]);
        let ecr_scan_verifier::domain::head::Change::Write(head) = change else { panic!() };
        world.heads.insert(digest("app"), *head);
    }));
    world.deploys(create("app"));
    assert_eq!(world.verdict(), "SUCCESS PASS");
    let head = &world.heads[&digest("app")];
    assert_eq!((head.tags.as_slice(), head.version), (&["1.4.2".to_owned()][..], 2), "neither piece of news is lost");
}

#[test]
fn a_rollback_of_a_refused_update_leaves_the_deployed_index_as_it_was() {
    let mut world = World::default();
    let index = Resolved::Index(digest("index"), vec![child("amd", "linux/amd64"), child("arm", "linux/arm64")]);
    world.tags.insert(digest("index").to_string(), index);
    for image in ["amd", "arm"] {
        world.scans(image, [complete(ScanSource::Basic, 50, &[])]);
    }
    world.deploys(create("index"));
    assert_eq!(world.verdict(), "SUCCESS PASS");
    world.scans("bad", [complete(ScanSource::Basic, 60, &[finding("CVE-1", "CRITICAL")])]);
    world.deploys(update("bad"));
    world.rolling_back = true;
    world.heads.clear();
    world.deploys(update("index"));
    assert_eq!(world.verdict(), "SUCCESS PASS", "the data last given");
    assert_eq!(world.rows.values().filter(|row| row.is_admitted).count(), 3, "the index and both of its images");
}

#[test]
fn a_rollback_to_an_index_admits_its_images_again() {
    let mut world = World::default();
    let index = Resolved::Index(digest("index"), vec![child("amd", "linux/amd64"), child("arm", "linux/arm64")]);
    world.tags.insert(digest("index").to_string(), index);
    for image in ["amd", "arm", "other"] {
        world.scans(image, [complete(ScanSource::Basic, 50, &[])]);
    }
    world.deploys(create("index"));
    world.deploys(update("other"));
    let admitted = |world: &World| world.rows.values().filter(|row| row.is_admitted).map(|row| row.digest.clone()).collect::<Vec<_>>();
    assert_eq!(admitted(&world), [digest("other")]);
    world.rolling_back = true;
    world.deploys(update("index"));
    let mut expected = vec![digest("index"), digest("amd"), digest("arm")];
    expected.sort();
    assert_eq!(admitted(&world), expected);
}

#[test]
fn an_index_that_was_archived_or_deleted_is_not_let_through_by_its_images() {
    let kind = ecr_scan_verifier::domain::head::Kind::Index(vec![child("amd", "linux/amd64")]);
    for (answer, verdict) in [
        (status("IMAGE_ARCHIVED"), "is archived in ECR and cannot be deployed."),
        (Answered::NoImage, "does not exist in ECR (account 123456789012, region eu-west-1)."),
    ] {
        let mut world = scanned("amd", &[]);
        let news = [News::Pushed { kind: kind.clone(), tag: None, at: Some(at(40)) }];
        let change = ecr_scan_verifier::domain::head::merge(None, &digest("index"), &repository(), &news, &[]);
        let ecr_scan_verifier::domain::head::Change::Write(head) = change else { panic!() };
        world.heads.insert(digest("index"), *head);
        world.deploys(create("index"));
        assert_eq!(world.verdict(), "SUCCESS PASS");

        world.requests.clear();
        world.scans("index", [answer]);
        world.tags.insert(digest("index").to_string(), Resolved::NotFound);
        world.scan_ends("index");
        assert!(world.look_again.is_empty(), "an index is not scanned, so there is nothing to look for again");
        world.deploys(create("index"));
        assert!(world.verdict().ends_with(verdict), "{}", world.verdict());
    }
}

#[test]
fn what_ecr_will_never_give_out_is_refused_with_the_reason() {
    let mut world = World::default();
    world.tags.insert("1.4.2".into(), Resolved::Unusable("ECR does not give it out (KmsError: the key is gone)".into()));
    world.deploys(create_by_tag("1.4.2"));
    assert_eq!(world.verdict(), "FAILED payments-api:1.4.2 cannot be judged: ECR does not give it out (KmsError: the key is gone).");
}

#[test]
fn findings_of_a_look_that_lost_the_race_do_not_speak_for_the_row() {
    let mut world = World::default();
    // Our look sees a clean list; while we write it, on-scan has recorded a newer scan with a finding.
    world.scans("app", [complete(ScanSource::Basic, 50, &[]), complete(ScanSource::Basic, 90, &[finding("CVE-9", "CRITICAL")])]);
    world.before.push(("WriteHead", |world| {
        world.scan_ends("app");
    }));
    let ignoring = Policy::from_words(None, Some("HIGH"), ["CVE-1".to_owned()]).unwrap();
    world.deploys(asking(create("app"), |gate| gate.policy = ignoring));
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
    assert!(world.answered().1.as_str().unwrap().contains("CVE-9"));
}

#[test]
fn a_policy_that_no_row_can_hold_is_refused() {
    let mut world = scanned("app", &[]);
    let endless = (0..20_000).map(|n| format!("CVE-2024-{n:06}"));
    world.deploys(asking(create("app"), |gate| gate.policy = Policy::from_words(None, Some("HIGH"), endless).unwrap()));
    assert!(world.verdict().starts_with("FAILED The policy for payments-api:"), "{}", world.verdict());
}

#[test]
fn a_digest_that_nobody_has_looked_at_is_not_taken_for_an_image() {
    // A scanner that calls an index complete, before on-push has told what it is.
    let mut world = World::default();
    world.scans("index", [complete(ScanSource::Basic, 50, &[])]).scans("arm", [complete(ScanSource::Basic, 50, &[finding("CVE-1", "CRITICAL")])]);
    world.scan_ends("index");
    world.tags.insert(digest("index").to_string(), Resolved::Index(digest("index"), vec![child("arm", "linux/arm64")]));
    world.deploys(create("index"));
    assert_eq!(world.verdict(), "FAILED ECR Image Scan found vulnerabilities.");
}

#[test]
fn another_digest_than_the_one_asked_for_is_refused() {
    for request in [asking(create_by_tag("1.4.2"), |gate| gate.expected = Some(digest("app"))), create("app")] {
        let mut world = scanned("other", &[]);
        for name in ["1.4.2".to_owned(), digest("app").to_string()] {
            world.tags.insert(name, Resolved::Image(digest("other")));
        }
        world.deploys(request);
        assert!(world.verdict().contains(" does not name "), "{}", world.verdict());
    }
}

#[test]
fn a_rollback_to_an_endless_name_is_still_an_answer_that_cloudformation_takes() {
    let mut world = World { rolling_back: true, broken: vec![("ResolveImage", false)], ..World::default() };
    let mut request = asking(update("x"), |gate| gate.image = ImageRef::Tag("t".repeat(5000)));
    request.named.image = "t".repeat(5000);
    world.deploys(request);
    assert_eq!(world.verdict(), "SUCCESS ROLLBACK");
    assert!(world.sent[0].as_str().len() <= 4096);
}
