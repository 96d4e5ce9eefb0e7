//! What happens to an image after it was deployed: new findings, one alert, and who runs it.
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::local::events::Event;
use crate::local::images::{Image, Manifest};
use crate::local::pipeline::{Gate, PIPELINE, Pipeline};
use crate::local::profile;
use crate::local::scan_plane::Registry;
use crate::local::scans::{Finding, Findings, Scan, finding};
use crate::local::story::Story;
use crate::local::wire::REGION;

fn xz() -> Finding {
    finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0").fixed_in("5.6.1")
}

/// What the scanner lists of an image from now on. It says nothing.
fn lists(story: &Story, image: &Image, findings: &[Finding]) {
    story.scans.say(&image.scanned, [Scan::Active(Findings::of(findings.to_vec()))]);
}

async fn clean_and_scanned(story: &Story, image: &Image) {
    lists(story, image, &[]);
    story.tell(&Event::inspected(image, &Findings::none())).await;
}

/// The kinds, subjects and texts of the next so many alerts; and that there are no more.
async fn alerts(story: &Story, heard: &str, wanted: usize) -> Vec<(String, String, String)> {
    let mut alerts = Vec::new();
    while alerts.len() < wanted {
        for text in story.messages(heard, 1).await {
            let message: Value = serde_json::from_str(&text).expect("JSON");
            let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
            alerts.push((message["MessageAttributes"]["kind"]["Value"].as_str().unwrap_or_default().to_owned(), text("Subject"), text("Message")));
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let more = story.take_messages(heard).await;
    assert!(more.is_empty() && alerts.len() == wanted, "{alerts:#?} {more:#?}");
    alerts
}

fn cli(story: &Story, arguments: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(profile().join("ecr-scan-verifier"));
    command.args(arguments).args(["--pipeline", PIPELINE]).env("AWS_ENDPOINT_URL", story.scans.origin()).env("AWS_REGION", REGION);
    command.env("AWS_ACCESS_KEY_ID", &story.account).env("AWS_SECRET_ACCESS_KEY", "x").env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN");
    let output = command.output().expect("the CLI runs");
    (String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr), output.status.code())
}

#[tokio::test]
async fn a_new_finding_on_a_deployed_image_is_told_once_and_its_end_as_well() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.registry(Registry::Enhanced);
    story.scans.hurry();
    let image = story.push("payments-api", "1.4.1").await;
    story.tell(&Event::pushed(&image)).await;
    let heard = story.listen_to_topic(&pipeline.stack.outputs["AlertTopicArn"]).await;
    let events = story.listen_to_bus("ecr-scan-verifier").await;
    clean_and_scanned(&story, &image).await;
    story.verdict(&pipeline, &image, "PASS").await;
    assert_eq!(story.deploy("payments", &Gate::on(&image).enhanced()).await.status, "CREATE_COMPLETE");

    lists(&story, &image, &[xz()]);
    // From the administrator's account and the member's own, and once more.
    story.tell_all(&[Event::finding(&image, &xz()), Event::finding(&image, &xz()), Event::finding(&image, &xz())]).await;
    let told = alerts(&story, &heard, 1).await;
    assert_eq!(told[0].0, "blocked-now");
    assert!(told[0].1.contains("payments-api:1.4.1 is blocked now: CRITICAL: 1"), "{}", told[0].1);
    for wanted in ["CVE-2024-3094  xz-utils 5.6.0, fixed in 5.6.1", image.digest(), "Deployed:  payments ("] {
        assert!(told[0].2.contains(wanted), "{wanted}: {}", told[0].2);
    }

    // An update in between changes who runs it, at once.
    let (said, code) = cli(&story, &["who-has", "CVE-2024-3094"]);
    assert!(code == Some(0) && said.contains(image.digest()) && said.contains("payments"), "{said}");
    let other = story.push("payments-api", "1.4.2").await;
    clean_and_scanned(&story, &other).await;
    story.verdict(&pipeline, &other, "PASS").await;
    assert_eq!(story.update("payments", &Gate::on(&other).enhanced()).await.status, "UPDATE_COMPLETE");
    let (said, code) = cli(&story, &["who-has", "CVE-2024-3094"]);
    assert!(code == Some(0) && said.contains(image.digest()) && said.contains("deployed nowhere"), "{said}");
    assert_eq!(story.update("payments", &Gate::on(&image).enhanced().with("FailOnVulnerability", "false")).await.status, "UPDATE_COMPLETE");

    // Looks come sooner here than the record says, and what is told while one is on its way is left to it.
    story.looked_to_the_end(&pipeline, &image).await;
    lists(&story, &image, &[]);
    story.tell(&Event::finding(&image, &xz().closed()).at(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(61))).await;
    let told = alerts(&story, &heard, 1).await;
    assert_eq!((told[0].0.as_str(), told[0].1.as_str()), ("cleared", "[ecr-scan-verifier] payments-api:1.4.1 is cleared"));
    let (said, code) = cli(&story, &["who-has", "CVE-2024-3094"]);
    assert!(code == Some(3) && said.contains("No image"), "{said}");

    let mut changes = Vec::new();
    while changes.len() < 4 {
        changes.extend(story.messages(&events, 1).await);
    }
    let changes: Vec<Value> = changes.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let of_image = changes.iter().filter(|event| event["detail"]["image-digest"] == image.digest());
    let words: Vec<&str> = of_image.filter_map(|event| event["detail"]["verdict"].as_str()).collect();
    assert_eq!(words, ["PASS", "BLOCK", "PASS"], "{changes:#?}");
    assert!(changes.iter().all(|event| event["detail-type"] == "Image Verdict Changed" && event["detail"]["schema-version"] == "1"));
}

#[tokio::test]
async fn a_finding_on_an_image_of_a_deployed_index_is_told_of_both() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let platforms = [Manifest::image_for("told", "linux", "amd64"), Manifest::image_for("told", "linux", "arm64")];
    let (images, index) = story.push_index("payments-api", "2.0", &platforms, true).await;
    for image in &images {
        story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
        story.tell(&Event::scanned(image, &Findings::none())).await;
        story.verdict(&pipeline, image, "PASS").await;
    }
    let heard = story.listen_to_topic(&pipeline.stack.outputs["AlertTopicArn"]).await;
    assert_eq!(story.deploy("payments", &Gate::on(&index)).await.status, "CREATE_COMPLETE");
    let bad = Findings::of([xz()]);
    story.scans.say(&images[1].scanned, [Scan::Complete(bad.clone())]);
    story.tell(&Event::scanned(&images[1], &bad)).await;
    let told = alerts(&story, &heard, 1).await;
    for wanted in [images[1].digest(), index.digest(), "for linux/arm64", "Deployed:  payments ("] {
        assert!(told[0].2.contains(wanted), "{wanted}: {}", told[0].2);
    }
    assert!(cli(&story, &["who-has", "CVE-2024-3094"]).0.contains("runs in      payments "));
    story.delete_stack("payments").await;
    story.settled("payments").await;
    // A Delete is answered first, and closed then.
    let closed = || async { Some(cli(&story, &["who-has", "CVE-2024-3094"])).filter(|(said, _)| said.contains("deployed nowhere")) };
    let (said, code) = story.until(Duration::from_secs(30), closed).await.expect("closed");
    assert!(code == Some(0) && !said.contains("payments ("), "{said}");
}

#[tokio::test]
async fn a_refused_deployment_is_told_to_the_pipelines_topic() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let heard = story.listen_to_topic(&pipeline.stack.outputs["AlertTopicArn"]).await;
    let image = story.push("payments-api", "1.4.2").await;
    // Filters by attributes work.
    for (name, filter) in [("of-payments", json!({ "stack": ["payments"], "kind": ["deployment-blocked"] })), ("of-others", json!({ "stack": ["checkout"] }))] {
        story.listen_to_topic_with(&pipeline.stack.outputs["AlertTopicArn"], name, &filter).await;
    }
    story.scans.say(&image.scanned, [Scan::Complete(Findings::of([xz()]))]);
    assert_eq!(story.deploy("payments", &Gate::on(&image)).await.status, "ROLLBACK_COMPLETE");
    let told = alerts(&story, &heard, 1).await;
    assert_eq!(told[0].0, "deployment-blocked");
    assert!(told[0].2.contains("payments-api:1.4.2 was kept out of the stack payments (BLOCK).") && told[0].2.contains("CVE-2024-3094"), "{}", told[0].2);
    assert_eq!(story.take_messages(&story.queue_url("heard-of-of-payments").await).await.len(), 1);
    assert!(story.take_messages(&story.queue_url("heard-of-of-others").await).await.is_empty());
}

/// Hands a batch of findings to on-scan as Lambda makes them of what comes within 20 seconds: the local AWS makes batches of ten.
async fn hand_over(story: &Story, pipeline: &Pipeline, events: &[Event], received: u32) {
    let queue = pipeline.queue("Findings").rsplit('/').next().expect("a name");
    let record = |(n, event): (usize, &Event)| {
        json!({
            "messageId": n.to_string(), "receiptHandle": n.to_string(), "body": event.delivered(&story.account, &n.to_string()).to_string(),
            "eventSource": "aws:sqs", "eventSourceARN": format!("arn:aws:sqs:{REGION}:{}:{queue}", story.account),
            "attributes": { "ApproximateReceiveCount": received.to_string() },
        })
    };
    let records: Vec<Value> = events.iter().enumerate().map(record).collect();
    let answer = story.invoke(&pipeline.function("on-scan"), &json!({ "Records": records })).await.expect("worked off");
    assert_eq!(answer["batchItemFailures"], json!([]));
}

#[tokio::test]
async fn old_news_cost_no_reading_but_those_that_come_again_do() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.registry(Registry::Enhanced);
    let image = story.push("payments-api", "1.4.1").await;
    lists(&story, &image, &[xz()]);
    let reads = || story.scans.calls("DescribeImageScanFindings").len();
    hand_over(&story, &pipeline, &[Event::finding(&image, &xz())], 1).await;
    assert_eq!(reads(), 1);
    let old = Event::finding(&image, &xz()).at(jiff::Timestamp::now() - jiff::SignedDuration::from_secs(90));
    hand_over(&story, &pipeline, std::slice::from_ref(&old), 1).await;
    assert_eq!(reads(), 1, "the last reading has seen it");
    // Somebody has had it before, and has perhaps told nobody.
    hand_over(&story, &pipeline, &[old], 2).await;
    assert_eq!(reads(), 2);
}

/// 100 images, 100 findings each, told one by one, doubled now and then, in no order, before and after the end of the scan.
#[tokio::test]
async fn ten_thousand_findings_cost_few_readings_and_leave_every_row_right() {
    const IMAGES: usize = 100;
    const FINDINGS: usize = 100;
    const BURST: usize = 25;
    const GROUP: usize = 20;
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.registry(Registry::Enhanced);
    story.repository("fleet").await;
    let mut images = Vec::new();
    for n in 0..IMAGES {
        let image = story.put("fleet", Some(&format!("v{n}")), &Manifest::image(&format!("fleet {n}"))).await;
        let severity = |f: usize| if n % 2 == 0 && f == 7 { "CRITICAL" } else { "MEDIUM" };
        let findings: Vec<Finding> = (0..FINDINGS).map(|f| finding(format!("CVE-2024-{:05}", n * FINDINGS + f), severity(f))).collect();
        lists(&story, &image, &findings);
        images.push((image, findings));
    }
    // In bursts, as Inspector tells them of some images at a time, each image's in another order; in between the ends of the scans.
    let mut events = Vec::new();
    for (group, burst) in (0..IMAGES / GROUP).flat_map(|group| (0..FINDINGS / BURST).map(move |burst| (group, burst))) {
        for (n, (image, findings)) in images.iter().enumerate().skip(group * GROUP).take(GROUP) {
            let place = |f: usize| ((burst * BURST + f) * 37 + n) % FINDINGS;
            events.extend((0..BURST).map(|f| Event::finding(image, &findings[place(f)])));
            if burst == 1 {
                events.push(Event::inspected(image, &Findings::of(findings.clone())));
            }
        }
    }
    // And some of them twice.
    events.extend(images.iter().map(|(image, findings)| Event::finding(image, &findings[0])));
    assert!(events.len() >= 10_000);
    let began = std::time::Instant::now();
    for some in events.chunks(1_000) {
        hand_over(&story, &pipeline, some, 1).await;
    }
    let told_s = began.elapsed().as_secs_f64();
    let heads = || async {
        let rows = story.rows(&pipeline.table("verdicts")).await;
        let verdicts: BTreeMap<String, String> = rows
            .iter()
            .filter(|row| row["version"].is_number())
            .filter_map(|row| Some((row["digest"].as_str()?.to_owned(), row["verdict"].as_str()?.to_owned())))
            .collect();
        let right = |n: usize| if n.is_multiple_of(2) { "BLOCK (1 of CRITICAL: 1, MEDIUM: 99)" } else { "PASS" };
        let wrong = images.iter().enumerate().filter(|(n, (image, _))| verdicts.get(image.digest()).map(String::as_str) != Some(right(*n))).count();
        (wrong == 0).then_some(())
    };
    story.until(Duration::from_secs(180), heads).await.expect("every row is right");
    story.drained_within(pipeline.queue("Scan"), Duration::from_secs(180)).await;
    let right_s = began.elapsed().as_secs_f64();
    let read = story.scans.calls("DescribeImageScanFindings").len() + story.scans.calls("ListCoverage").len() + story.scans.calls("ListFindings").len();
    println!("{} events told in {told_s:.1} s; {IMAGES} rows right after {right_s:.1} s; {read} readings of the scanners' APIs", events.len());
    assert!(read <= 400, "{read} readings");
    assert!(story.take_messages(pipeline.dead_letters("Scan")).await.is_empty(), "no dead letter");
}
