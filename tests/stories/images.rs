//! What is judged: indexes, lists that grow, tags that move, one digest in two places.
use serde_json::Value;

use crate::local::events::Event;
use crate::local::images::Manifest;
use crate::local::pipeline::{Gate, Pipeline};
use crate::local::scan_plane::Registry;
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;

#[tokio::test]
async fn the_images_of_an_index_decide_and_its_attestations_do_not() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let platforms = |salt: &str| [Manifest::image_for(salt, "linux", "amd64"), Manifest::image_for(salt, "linux", "arm64")];
    let (good, good_index) = story.push_index("payments-api", "1.4.1", &platforms("good"), true).await;
    let (bad, bad_index) = story.push_index("payments-api", "1.4.2", &platforms("bad"), true).await;
    let critical = Findings::of([finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0")]);
    // The attestations stand behind the images, and nobody ever scans them.
    for image in good[..2].iter().chain([&bad[0]]) {
        story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
        story.tell(&Event::scanned(image, &Findings::none())).await;
        story.verdict(&pipeline, image, "PASS").await;
    }
    story.scans.say(&bad[1].scanned, [Scan::Complete(critical.clone())]);
    story.tell(&Event::scanned(&bad[1], &critical)).await;
    story.verdict(&pipeline, &bad[1], "BLOCK").await;
    story.verdict(&pipeline, &good_index, "see its 2 images").await;

    for gate in [Gate::on(&good_index), Gate::by_digest(&good_index)] {
        let answer = story.ask(&pipeline.function("on-deploy"), gate.request(&pipeline)).await;
        assert!(answer.is_success(), "{}", answer.reason());
        assert_eq!((answer.data("Verdict"), answer.data("ImageDigest")), ("PASS", good_index.digest()));
    }
    let answer = story.ask(&pipeline.function("on-deploy"), Gate::on(&bad_index).request(&pipeline)).await;
    assert!(answer.reason().contains(&format!("payments-api@{} (linux/arm64): 1 finding blocks", bad[1].digest())), "{}", answer.reason());

    let child = story.row(&pipeline.table("verdicts"), Pipeline::is_head_of(&bad[1])).await;
    assert_eq!(child["parents"][0], bad_index.digest(), "a finding on the image is a finding of the index");
}

#[tokio::test]
async fn a_list_of_inspector_that_is_still_filling_up_is_never_passed() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.registry(Registry::Enhanced);
    let image = story.push("payments-api", "1.4.2").await;
    let one = Findings::of([finding("CVE-2022-0563", "LOW")]);
    let three = Findings::of([finding("CVE-2022-0563", "LOW"), finding("CVE-2023-1", "MEDIUM"), finding("CVE-2024-3094", "CRITICAL")]);
    let gate = Gate::on(&image).enhanced();
    let ask = async || {
        let asked = story.expect_answer(gate.request(&pipeline));
        story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
        asked
    };

    story.scans.say(&image.scanned, [Scan::Active(Findings::not_yet())]);
    let waiting = [ask().await, {
        story.row(&pipeline.table("requests"), |row| row["state"] == "open").await;
        // The event tells of three findings, and the list has one.
        story.scans.say(&image.scanned, [Scan::Active(one.clone())]);
        story.tell(&Event::inspected(&image, &three)).await;
        story.verdict(&pipeline, &image, "PENDING (not proven whole yet)").await;
        ask().await
    }];

    story.scans.say(&image.scanned, [Scan::Active(three.clone())]);
    story.tell(&Event::finding(&image, &three.list()[2])).await;
    story.verdict(&pipeline, &image, "BLOCK").await;
    for asked in &waiting {
        let answer = story.answer_to(asked).await;
        assert!(answer.reason().contains("CVE-2024-3094"), "{}", answer.reason());
    }
    assert!(story.scans.answers().iter().all(|answer| !answer.is_success()), "never passed early");
}

#[tokio::test]
async fn a_list_that_agrees_with_the_event_is_passed_at_once() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.registry(Registry::Enhanced);
    let image = story.push("payments-api", "1.4.1").await;
    let found = Findings::of([finding("CVE-2022-0563", "LOW")]);
    story.scans.say(&image.scanned, [Scan::Active(found.clone())]);
    story.tell(&Event::inspected(&image, &found)).await;
    story.verdict(&pipeline, &image, "PASS").await;
    let stack = story.deploy("payments", &Gate::on(&image).enhanced()).await;
    assert_eq!((stack.status.as_str(), stack.outputs["Verdict"].as_str()), ("CREATE_COMPLETE", "PASS"));
}

#[tokio::test]
async fn a_tag_that_moves_after_it_was_resolved_does_not_change_what_is_judged() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (first, second) = (story.push("payments-api", "stable").await, story.push("payments-api", "1.4.2").await);
    let critical = Findings::of([finding("CVE-2024-3094", "CRITICAL")]);
    story.scans.say(&first.scanned, [Scan::Complete(critical.clone())]);
    story.scans.say(&second.scanned, [Scan::Complete(Findings::none())]);
    story.tell_all(&[Event::scanned(&first, &critical), Event::scanned(&second, &Findings::none())]).await;
    story.verdict(&pipeline, &first, "BLOCK").await;
    story.verdict(&pipeline, &second, "PASS").await;
    story.drained(pipeline.queue("Scan")).await;

    // The gate has resolved the tag to the bad image and is about to read its verdict; now the tag moves to the good one.
    let held = story.scans.on("GetItem").with(first.digest()).hold();
    let asked = story.expect_answer(Gate::on(&first).request(&pipeline));
    story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    held.reached().await;
    story.put("payments-api", Some("stable"), &second.manifest).await;
    held.release();
    let answer = story.answer_to(&asked).await;
    assert!(!answer.is_success());
    assert!(answer.reason().contains(first.digest()), "about the image that was judged: {}", answer.reason());

    let answer = story.ask(&pipeline.function("on-deploy"), Gate::on(&first).request(&pipeline)).await;
    assert_eq!((answer.data("Verdict"), answer.data("ImageDigest")), ("PASS", second.digest()), "asked again, it names another image");
}

#[tokio::test]
async fn what_is_true_of_a_digest_is_true_in_one_repository() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let same = Manifest::image("the very same");
    let (here, there) = (story.put("payments-api", Some("1.4.1"), &same).await, story.put("shadow/payments-api", Some("1.4.1"), &same).await);
    assert_eq!(here.digest(), there.digest());
    story.scans.say(&here.scanned, [Scan::Complete(Findings::none())]);
    story.scans.say(&there.scanned, [Scan::NotFound]);
    story.tell(&Event::scanned(&here, &Findings::none())).await;
    story.verdict(&pipeline, &here, "PASS").await;

    let on_deploy = pipeline.function("on-deploy");
    let answer = story.ask(&on_deploy, Gate::by_digest(&here).request(&pipeline)).await;
    assert!(answer.is_success(), "{}", answer.reason());
    let asked = story.expect_answer(Gate::by_digest(&there).with("PollingTimeoutSeconds", 3).with("StartScan", "false").request(&pipeline));
    story.invoke_later(&on_deploy, &asked.request).await;
    let answer = story.answer_to(&asked).await;
    assert!(answer.reason().starts_with("No scan results found for the image after 5 seconds."), "{}", answer.reason());
    assert!(answer.reason().contains("shadow/payments-api@"), "{}", answer.reason());
}

#[tokio::test]
async fn events_doubled_and_reversed_make_the_same_row() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let found = Findings::of([finding("CVE-2023-4911", "HIGH").package("glibc", "2.36")]);
    let same = Manifest::image("told in two ways");
    let mut rows = Vec::new();
    for (repository, backwards) in [("in-order", false), ("backwards", true)] {
        let image = story.put(repository, Some("1.4.1"), &same).await;
        story.scans.say(&image.scanned, [Scan::Complete(found.clone())]);
        let (pushed, scanned) = (Event::pushed(&image).id("push"), Event::scanned(&image, &found).id("scan"));
        let events = if backwards { vec![scanned.clone(), scanned.clone(), pushed.clone(), scanned, pushed.clone(), pushed] } else { vec![pushed, scanned] };
        for event in &events {
            story.tell(event).await;
        }
        let is_head = Pipeline::is_head_of(&image);
        let whole = |row: &Value| is_head(row) && row["kind"] == "image" && row["verdict"].as_str().is_some_and(|verdict| verdict.starts_with("BLOCK"));
        story.row(&pipeline.table("verdicts"), whole).await;
        // Everything that was sent has been worked off.
        for lane in ["Push", "Scan"] {
            story.drained(pipeline.queue(lane)).await;
        }
        let mut row = story.row(&pipeline.table("verdicts"), whole).await;
        // Which repository it is, and when and how often somebody looked, are the only differences there may be.
        for (part, names) in
            [("", &["item", "repository", "version", "last_read", "seen_at", "pushed_at"][..]), ("result", &["read_at", "reads", "equal_since"])]
        {
            let part = if part.is_empty() { &mut row } else { &mut row[part] };
            names.iter().for_each(|name| drop(part.as_object_mut().unwrap().remove(*name)));
        }
        rows.push(row);
    }
    assert_eq!(rows[0], rows[1]);
}

#[tokio::test]
async fn a_reading_that_runs_out_of_time_goes_on_in_the_next_message() {
    let story = Story::new().await;
    let pipeline = story.pipeline_where(&[("on-scan", "FAULT_READS_FOR_MS", "0")]).await;
    let image = story.push("payments-api", "1.4.2").await;
    let found = Findings::of((0..3_500).map(|n| finding(Manifest::image(&n.to_string()).digest(), "HIGH")));
    story.scans.say(&image.scanned, [Scan::Complete(found.clone())]);
    story.tell(&Event::scanned(&image, &found)).await;
    let row = story.verdict(&pipeline, &image, "BLOCK").await;
    assert_eq!(row["result"]["counts"]["HIGH"], 3_500);
    let messages = story.scans.calls("SendMessage").into_iter().filter(|call| String::from_utf8_lossy(&call.body).contains("rest-of-read")).count();
    assert_eq!(messages, 3, "four pages, one a message");
    assert_eq!(story.scans.calls("DescribeImageScanFindings").len(), 4, "and none of them twice");
}

#[tokio::test]
async fn findings_that_are_too_many_for_an_item_go_through_the_bucket() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.2").await;
    // Ids that do not compress, so that they cannot fit.
    let many = (0..12_000).map(|n| finding(Manifest::image(&n.to_string()).digest(), "HIGH"));
    let found = Findings::of(many);
    story.scans.say(&image.scanned, [Scan::Complete(found.clone())]);
    story.tell(&Event::scanned(&image, &found)).await;
    let row = story.verdict(&pipeline, &image, "BLOCK").await;
    assert_eq!(row["result"]["counts"]["HIGH"], 12_000);
    let is_facts = |row: &Value| row["item"].as_str().is_some_and(|item| item.contains("#facts#"));
    let facts = story.row(&pipeline.table("verdicts"), is_facts).await;
    assert!(facts["data"].is_null() && facts["key"].as_str().is_some_and(|key| key.starts_with("facts/")), "{facts}");

    let answer = story.ask(&pipeline.function("on-deploy"), Gate::on(&image).request(&pipeline)).await;
    assert!(answer.reason().contains("12000 findings block") && answer.reason().contains("and 11980 more"), "{}", answer.reason());
}
