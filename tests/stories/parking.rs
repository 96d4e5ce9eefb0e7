//! Deployments that wait: parked in a table, released by whoever learns the verdict, answered once and in time.
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::local::answers::Asked;
use crate::local::events::Event;
use crate::local::faults::Fault;
use crate::local::images::{Image, Manifest};
use crate::local::pipeline::{Gate, Pipeline};
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;

fn clean() -> Findings {
    Findings::of([finding("CVE-2022-0563", "LOW")])
}

fn critical() -> Findings {
    Findings::of([finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0")])
}

/// Sends a request as CloudFormation does, and does not wait for its answer.
async fn ask(story: &Story, pipeline: &Pipeline, request: Value) -> Asked {
    let asked = story.expect_answer(request);
    story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    asked
}

async fn parked(story: &Story, pipeline: &Pipeline, asked: &Asked) -> Value {
    let id = asked.request["RequestId"].clone();
    story.row(&pipeline.table("requests"), |row| row["request_id"] == id && row["state"] == "open").await
}

async fn answered(story: &Story, pipeline: &Pipeline, asked: &Asked) {
    let id = asked.request["RequestId"].clone();
    story.row(&pipeline.table("requests"), |row| row["request_id"] == id && row["state"] == "answered").await;
}

/// Of what on-deploy sends nothing arrives, and it does not know: whoever answers now was told by nobody but the table.
fn lose_timers_and_look_agains(story: &Story) {
    story.scans.on("SendMessage").with("requestId").always().meets(Fault::Says(r#"{"MessageId":"lost"}"#.to_owned()));
}

/// The scan of this image ends, and its event arrives.
async fn ends(story: &Story, image: &Image, found: &Findings) {
    story.scans.say(&image.scanned, [Scan::Complete(found.clone())]);
    story.tell(&Event::scanned(image, found)).await;
}

/// An Update of the same resource.
fn update_of(asked: &Asked, gate: &Gate, pipeline: &Pipeline) -> Value {
    let mut request = gate.request(pipeline);
    request["RequestType"] = json!("Update");
    for same in ["StackId", "LogicalResourceId"] {
        request[same] = asked.request[same].clone();
    }
    request["PhysicalResourceId"] = asked.request["ResourceProperties"]["addr"].clone();
    request["OldResourceProperties"] = asked.request["ResourceProperties"].clone();
    request
}

async fn ask_later(story: &Story, pipeline: &Pipeline, request: Value) -> Asked {
    // CloudFormation's signature tells whole seconds, and requests of one resource do not come within one.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    ask(story, pipeline, request).await
}

#[tokio::test]
async fn deploy_first_scan_later() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (good, bad) = (story.push("payments-api", "1.4.1").await, story.push("payments-api", "1.4.2").await);
    for image in [&good, &bad] {
        story.scans.say(&image.scanned, [Scan::InProgress]);
    }
    lose_timers_and_look_agains(&story);
    story.begin("payments", &Gate::on(&good)).await;
    story.begin("billing", &Gate::on(&bad)).await;
    let is_open = |image: &Image| {
        let digest = image.digest().to_owned();
        move |row: &Value| row["state"] == "open" && row["digest"] == digest.as_str()
    };
    for image in [&good, &bad] {
        story.row(&pipeline.table("requests"), is_open(image)).await;
    }
    assert!(story.scans.answers().is_empty(), "nobody is answered while nothing is known");

    ends(&story, &good, &clean()).await;
    ends(&story, &bad, &critical()).await;
    let stack = story.settled("payments").await;
    assert_eq!((stack.status.as_str(), stack.outputs["Verdict"].as_str(), stack.outputs["ImageDigest"].as_str()), ("CREATE_COMPLETE", "PASS", good.digest()));
    assert_eq!(story.settled("billing").await.status, "ROLLBACK_COMPLETE");
    assert!(story.refusal("billing").await.expect("a reason").contains("CVE-2024-3094"));

    // What is left: answered requests without their secret, and no pointers.
    let settled = || async { Some(story.rows(&pipeline.table("requests")).await).filter(|rows| rows.iter().all(|row| row["state"] == "answered")) };
    let rows = story.until(Duration::from_secs(30), settled).await.expect("the mark comes after the answer");
    let text = serde_json::to_string(&rows).unwrap();
    assert!(!text.contains("_plane/answer"), "{text}");
}

#[tokio::test]
async fn a_scan_that_ends_between_read_and_register_is_not_lost() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::InProgress]);
    lose_timers_and_look_agains(&story);
    let held = story.scans.on("TransactWriteItems").with("timer_seq").hold();
    let asked = ask(&story, &pipeline, Gate::by_digest(&image).request(&pipeline)).await;
    held.reached().await;
    ends(&story, &image, &clean()).await;
    story.verdict(&pipeline, &image, "PASS").await;
    story.drained(pipeline.queue("Scan")).await;
    assert!(story.scans.answers().is_empty(), "on-scan has found nobody waiting");
    held.release();
    assert_eq!(story.answer_to(&asked).await.data("Verdict"), "PASS");
}

#[tokio::test]
async fn a_scan_that_ends_between_register_and_look_again_is_answered_by_on_scan() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::InProgress]);
    let held = story.scans.on("SendMessage").with("timer").hold();
    let asked = ask(&story, &pipeline, Gate::by_digest(&image).request(&pipeline)).await;
    held.reached().await;
    ends(&story, &image, &clean()).await;
    assert_eq!(story.answer_to(&asked).await.data("Verdict"), "PASS");
    let timers = story.scans.calls("SendMessage").into_iter().filter(|call| String::from_utf8_lossy(&call.body).contains("timer")).count();
    assert_eq!(timers, 1, "on-deploy is still setting its timer, and has not looked again");
    held.release();
    answered(&story, &pipeline, &asked).await;
}

#[tokio::test]
async fn two_images_of_an_index_that_end_in_one_moment_make_one_answer() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let platforms = [Manifest::image_for("twins", "linux", "amd64"), Manifest::image_for("twins", "linux", "arm64")];
    let (images, index) = story.push_index("payments-api", "1.4.1", &platforms, false).await;
    for image in &images {
        story.scans.say(&image.scanned, [Scan::InProgress]);
    }
    let asked = ask(&story, &pipeline, Gate::on(&index).request(&pipeline)).await;
    parked(&story, &pipeline, &asked).await;
    // Both have found that all is complete before either claims.
    let claims: Vec<_> = (0..2).map(|_| story.scans.on("TransactWriteItems").with("claimed").hold()).collect();
    for image in &images {
        ends(&story, image, &clean()).await;
    }
    claims[0].reached().await;
    // The second one may have been read after the first was complete, or not at all yet; then nothing holds it.
    let _ = tokio::time::timeout(Duration::from_secs(3), claims[1].reached()).await;
    drop(claims);
    let answer = story.answer_to(&asked).await;
    assert_eq!((answer.data("Verdict"), answer.data("ImageDigest")), ("PASS", index.digest()));
    answered(&story, &pipeline, &asked).await;
    story.drained(pipeline.queue("Scan")).await;
    assert_eq!(story.scans.answers().iter().map(|answer| answer.times).collect::<Vec<_>>(), [1]);
    let deployed = story.rows(&pipeline.table("deployments")).await;
    assert_eq!(deployed.iter().filter(|row| row["state"] == "admitted").count(), 3, "the index and both images");
}

#[tokio::test]
async fn a_claimer_that_dies_before_the_put_leaves_its_answer_to_the_next() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::InProgress]);
    let asked = ask(&story, &pipeline, Gate::by_digest(&image).request(&pipeline)).await;
    parked(&story, &pipeline, &asked).await;
    story.scans.on("PutAnswer").times(3).meets(Fault::Cut);
    ends(&story, &image, &clean()).await;
    let claimed = story.row(&pipeline.table("requests"), |row| row["state"] == "claimed").await;
    // By now it is bad. The answer stays: timers come, and when the lease has ended one of them sends the stored bytes.
    story.scans.say(&image.scanned, [Scan::Complete(critical())]);
    let answer = story.scans.answer_to(&asked, Duration::from_secs(120)).await;
    assert_eq!(claimed["answer"], String::from_utf8_lossy(&answer.body).as_ref());
    assert_eq!(answer.data("Verdict"), "PASS");
    answered(&story, &pipeline, &asked).await;
}

#[tokio::test]
async fn an_answer_that_was_sent_and_not_marked_comes_again_with_the_same_bytes() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::InProgress]);
    let asked = ask(&story, &pipeline, Gate::by_digest(&image).request(&pipeline)).await;
    parked(&story, &pipeline, &asked).await;
    story.scans.on("UpdateItem").with("answered_at").times(3).meets(Fault::ServerError);
    ends(&story, &image, &clean()).await;
    story.answer_to(&asked).await;
    story.row(&pipeline.table("requests"), |row| row["state"] == "claimed").await;
    // Lambda delivers the request once more: its own delivery sends what is stored.
    story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    answered(&story, &pipeline, &asked).await;
    assert_eq!(story.scans.answers().iter().map(|answer| answer.times).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn an_event_that_never_comes_is_made_up_for_by_a_timer() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::InProgress]);
    // on-scan looks again by itself for a while; that is not what has to save it here.
    story.scans.on("SendMessage").with(r#"look-again\",\"n\""#).always().meets(Fault::Says(r#"{"MessageId":"lost"}"#.to_owned()));
    let asked = ask(&story, &pipeline, Gate::on(&image).request(&pipeline)).await;
    parked(&story, &pipeline, &asked).await;
    story.only_timers_look(&pipeline, &image).await;
    story.scans.say(&image.scanned, [Scan::Complete(clean())]);
    assert_eq!(story.answer_to(&asked).await.data("Verdict"), "PASS");
    let timers: Vec<_> = story.scans.calls("SendMessage").into_iter().filter(|call| String::from_utf8_lossy(&call.body).contains("timer")).collect();
    assert!(timers.len() <= 4, "a few messages while it waits: {timers:#?}");
}

#[tokio::test]
async fn when_the_time_is_up_it_is_asked_once_more_and_refused_on_time() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let gate = |image: &Image| Gate::on(image).with("PollingTimeoutSeconds", 12).with("StartScan", "false").request(&pipeline);
    let (late, never, just) = (story.push("payments-api", "1").await, story.push("payments-api", "2").await, story.push("payments-api", "3").await);
    story.scans.say(&late.scanned, [Scan::InProgress]);
    story.scans.say(&just.scanned, [Scan::InProgress]);
    let began = Instant::now();
    let asked = [ask(&story, &pipeline, gate(&late)).await, ask(&story, &pipeline, gate(&never)).await, ask(&story, &pipeline, gate(&just)).await];
    for one in &asked {
        parked(&story, &pipeline, one).await;
    }
    tokio::time::sleep_until((began + Duration::from_millis(8500)).into()).await;
    story.scans.say(&just.scanned, [Scan::Complete(clean())]);
    let [late_answer, never_answer, just_answer] = [story.answer_to(&asked[0]).await, story.answer_to(&asked[1]).await, story.answer_to(&asked[2]).await];
    assert!(late_answer.reason().starts_with("ECR image scan timed out after 15 seconds."), "{}", late_answer.reason());
    assert!(never_answer.reason().starts_with("No scan results found for the image after 15 seconds."), "{}", never_answer.reason());
    assert_eq!(just_answer.data("Verdict"), "PASS", "it ended after the timer before the last, and its event was lost");
    for answer in [&late_answer, &never_answer] {
        // How late it may be is the protocol's own test; here the machine would be measured.
        assert!(answer.took.as_secs() >= 11, "before its time was up: {:?}", answer.took);
    }
}

#[tokio::test]
async fn a_request_whose_timers_all_fail_is_answered_by_the_sweep() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::InProgress]);
    story.try_at_most(pipeline.queue("Scan"), pipeline.dead_letters("Scan"), 1).await;
    let asked = ask(&story, &pipeline, Gate::on(&image).with("PollingTimeoutSeconds", 10).request(&pipeline)).await;
    parked(&story, &pipeline, &asked).await;
    story.scans.on("DescribeImageScanFindings").always().meets(Fault::ServerError);
    // The look-again, and the timer.
    let lost = story.messages(pipeline.dead_letters("Scan"), 2).await;
    assert!(lost.iter().any(|message| message.contains("timer")), "{lost:?}");
    let sweep = async || story.invoke(&pipeline.function("on-sweep"), &json!({ "v": 1, "kind": "sweep" })).await;
    sweep().await.expect("swept");
    assert!(story.scans.answers().is_empty(), "the timer has half a minute more");
    tokio::time::sleep(Duration::from_secs(33)).await;
    sweep().await.expect("swept");
    let answer = story.answer_to(&asked).await;
    assert!(answer.reason().starts_with("ECR image scan timed out after 10 seconds."), "{}", answer.reason());
    assert!(answer.reason().contains("nobody could look in time"), "{}", answer.reason());
}

#[tokio::test]
async fn what_on_deploy_fails_on_every_time_is_answered_through_its_failure_queue() {
    let story = Story::new().await;
    let pipeline = story.pipeline_where(&[("on-deploy", "FAULT_PANIC_AT", "ReadHeads")]).await;
    let image = story.push("payments-api", "1.4.1").await;
    story.begin("payments", &Gate::by_digest(&image)).await;
    assert_eq!(story.settled("payments").await.status, "ROLLBACK_COMPLETE");
    let said = story.refusal("payments").await.expect("a reason");
    assert!(said.contains("could not be judged"), "{said}");
    story.drained(pipeline.failures()).await;
}

#[tokio::test]
async fn the_same_request_before_during_and_after_its_answer_gets_the_same_bytes() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::InProgress]);
    let asked = ask(&story, &pipeline, Gate::by_digest(&image).request(&pipeline)).await;
    parked(&story, &pipeline, &asked).await;
    let again = async || story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    again().await;
    let held = story.scans.on("PutAnswer").hold();
    ends(&story, &image, &clean()).await;
    held.reached().await;
    again().await;
    story.answer_to(&asked).await;
    held.release();
    answered(&story, &pipeline, &asked).await;
    again().await;
    story.drained(pipeline.queue("Scan")).await;
    let answers = story.scans.answers();
    assert_eq!(answers.len(), 1);
    assert!(answers[0].times <= 2, "{} times", answers[0].times);
}

#[tokio::test]
async fn two_stacks_that_wait_for_one_image_are_answered_by_their_own_policies() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.2").await;
    story.scans.say(&image.scanned, [Scan::InProgress]);
    let strict = ask(&story, &pipeline, Gate::on(&image).request(&pipeline)).await;
    let lenient = ask(&story, &pipeline, Gate::on(&image).with("IgnoreFindings", "CVE-2024-3094").request(&pipeline)).await;
    for asked in [&strict, &lenient] {
        parked(&story, &pipeline, asked).await;
    }
    ends(&story, &image, &critical()).await;
    assert!(story.answer_to(&strict).await.reason().contains("CVE-2024-3094"));
    assert_eq!(story.answer_to(&lenient).await.data("Verdict"), "PASS");
}

#[tokio::test]
async fn an_update_takes_the_place_of_a_parked_one() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (first, second) = (story.push("payments-api", "1").await, story.push("payments-api", "2").await);
    story.scans.say(&first.scanned, [Scan::InProgress]);
    ends(&story, &second, &clean()).await;
    story.verdict(&pipeline, &second, "PASS").await;
    let mut create = Gate::on(&second).request(&pipeline);
    // A stack that CloudFormation knows, and that is not rolling back.
    create["StackId"] = json!(pipeline.stack.id);
    let create = ask(&story, &pipeline, create).await;
    story.answer_to(&create).await;
    let parked_update = ask_later(&story, &pipeline, update_of(&create, &Gate::on(&first), &pipeline)).await;
    parked(&story, &pipeline, &parked_update).await;
    let newer = ask_later(&story, &pipeline, update_of(&create, &Gate::on(&second), &pipeline)).await;
    assert_eq!(story.answer_to(&parked_update).await.reason(), "superseded by a later request for the same resource");
    assert_eq!(story.answer_to(&newer).await.data("ImageDigest"), second.digest());
    // The scan that the first one waited for ends, and changes nothing.
    ends(&story, &first, &clean()).await;
    story.verdict(&pipeline, &first, "PASS").await;
    story.drained(pipeline.queue("Scan")).await;
    let deployed = story.rows(&pipeline.table("deployments")).await;
    let admitted: Vec<_> = deployed.iter().filter(|row| row["state"] == "admitted").map(|row| row["digest"].clone()).collect();
    assert_eq!(admitted, [second.digest()]);
}

#[tokio::test]
async fn a_delete_ends_a_parked_create_and_a_create_that_comes_after_it_deploys_nothing() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::InProgress]);
    let create = ask(&story, &pipeline, Gate::by_digest(&image).request(&pipeline)).await;
    parked(&story, &pipeline, &create).await;
    let mut delete = update_of(&create, &Gate::by_digest(&image), &pipeline);
    delete["RequestType"] = json!("Delete");
    let delete = ask_later(&story, &pipeline, delete).await;
    assert!(story.answer_to(&delete).await.is_success());
    assert_eq!(story.answer_to(&create).await.reason(), "superseded by a later request for the same resource");
    answered(&story, &pipeline, &create).await;

    // Another Create of before, delivered late: its image is clean by now, and it is refused all the same.
    ends(&story, &image, &clean()).await;
    story.verdict(&pipeline, &image, "PASS").await;
    let mut late = create.request.clone();
    late["RequestId"] = Value::Null;
    let signed = late["ResponseURL"].as_str().and_then(|url| url.split('?').nth(1)).expect("a signed URL").to_owned();
    let mut late = story.expect_answer(late);
    let url = late.request["ResponseURL"].as_str().and_then(|url| url.split('?').next()).expect("a URL").to_owned();
    late.request["ResponseURL"] = json!(format!("{url}?{signed}"));
    story.invoke_later(&pipeline.function("on-deploy"), &late.request).await;
    assert_eq!(story.answer_to(&late).await.reason(), "superseded by a later request for the same resource");
    let deployed = story.rows(&pipeline.table("deployments")).await;
    assert!(deployed.iter().all(|row| row["state"] != "admitted"), "{deployed:#?}");
}

#[tokio::test]
async fn a_rollback_returns_the_digest_of_then_whatever_became_of_the_tag() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (good, bad) = (story.push("payments-api", "stable").await, story.push("payments-api", "1.4.2").await);
    ends(&story, &good, &clean()).await;
    ends(&story, &bad, &critical()).await;
    story.verdict(&pipeline, &good, "PASS").await;
    story.verdict(&pipeline, &bad, "BLOCK").await;
    let stack = story.deploy("payments", &Gate::on(&good)).await;
    assert_eq!(stack.status, "CREATE_COMPLETE");
    // The tag moves on to the bad image; then an update fails, and the stack goes back to "stable".
    story.put("payments-api", Some("stable"), &bad.manifest).await;
    let stack = story.update("payments", &Gate::on(&bad)).await;
    assert_eq!(stack.status, "UPDATE_ROLLBACK_COMPLETE");
    let back = story.scans.answers().into_iter().rfind(|answer| answer.asked.kind() == "Update").expect("an answer to the rollback");
    assert_eq!((back.is_success(), back.data("ImageDigest")), (true, good.digest()));
}

#[tokio::test]
async fn a_rollback_that_nobody_may_ask_about_is_known_by_what_it_swaps() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (good, bad) = (story.push("payments-api", "1").await, story.push("payments-api", "2").await);
    ends(&story, &good, &clean()).await;
    ends(&story, &bad, &critical()).await;
    story.verdict(&pipeline, &good, "PASS").await;
    story.verdict(&pipeline, &bad, "BLOCK").await;
    story.scans.on("DescribeStacks").always().meets(Fault::AccessDenied);
    let create = ask(&story, &pipeline, Gate::by_digest(&good).request(&pipeline)).await;
    story.answer_to(&create).await;
    let forward = ask_later(&story, &pipeline, update_of(&create, &Gate::by_digest(&bad), &pipeline)).await;
    assert!(story.answer_to(&forward).await.reason().contains("CVE-2024-3094"), "not allowed to ask, so it is judged");
    // The good image has become bad too; but what comes now takes back exactly what was asked last.
    ends(&story, &good, &critical()).await;
    story.verdict(&pipeline, &good, "BLOCK").await;
    let mut back = update_of(&create, &Gate::by_digest(&good), &pipeline);
    back["OldResourceProperties"] = forward.request["ResourceProperties"].clone();
    let back = ask_later(&story, &pipeline, back).await;
    let answer = story.answer_to(&back).await;
    assert_eq!((answer.is_success(), answer.data("ImageDigest")), (true, good.digest()));
    story.row(&pipeline.table("deployments"), |row| row["verdict"] == "ROLLBACK_UNVERIFIED").await;
}

#[tokio::test]
async fn a_rollback_to_an_image_that_is_gone_succeeds_and_waits_for_a_busy_cloudformation() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (good, bad) = (story.push("payments-api", "stable").await, story.push("payments-api", "1.4.2").await);
    ends(&story, &good, &clean()).await;
    ends(&story, &bad, &critical()).await;
    story.verdict(&pipeline, &good, "PASS").await;
    story.verdict(&pipeline, &bad, "BLOCK").await;
    assert_eq!(story.deploy("payments", &Gate::on(&good)).await.status, "CREATE_COMPLETE");
    let gone = Fault::Error { status: 400, code: "RepositoryNotFoundException", message: "it is gone" };
    story.scans.on("BatchGetImage").with("stable").always().meets(gone);
    // The SDK gives up after three tries, and the function goes on by itself.
    story.scans.on("DescribeStacks").with("Action=DescribeStacks").times(4).meets(Fault::Throttle);
    assert_eq!(story.update("payments", &Gate::by_digest(&bad)).await.status, "UPDATE_ROLLBACK_COMPLETE");
    let back = story.scans.answers().into_iter().rfind(|answer| answer.asked.kind() == "Update").expect("an answer to the rollback");
    assert_eq!((back.is_success(), back.data("ImageDigest")), (true, good.digest()));
    assert!(story.scans.calls("DescribeStacks").iter().filter(|call| call.met.is_some()).count() == 4, "all four were met");
    let deliveries = story.scans.calls("Query").into_iter().filter(|call| String::from_utf8_lossy(&call.body).contains("stack#")).count();
    assert_eq!(deliveries, 2, "the update and its rollback, each delivered once");
}

#[tokio::test]
async fn a_nested_stack_rolls_back_with_its_parent() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let bad = story.push("payments-api", "1.4.2").await;
    ends(&story, &bad, &critical()).await;
    story.verdict(&pipeline, &bad, "BLOCK").await;
    let mut update = Gate::by_digest(&bad).request(&pipeline);
    update["RequestType"] = json!("Update");
    update["PhysicalResourceId"] = json!("c8");
    update["OldResourceProperties"] = json!({});
    let mut asked = story.expect_answer(update);
    let nested = asked.request["StackId"].as_str().expect("a stack").to_owned();
    let parent = nested.replace("stack/direct/", "stack/parent/");
    let describes = |id: &str, status: &str, parent: &str| {
        let parent = if parent.is_empty() { String::new() } else { format!("<ParentId>{parent}</ParentId>") };
        let stack = format!(
            "<StackId>{id}</StackId><StackName>x</StackName><CreationTime>2026-03-14T09:26:53Z</CreationTime><StackStatus>{status}</StackStatus>{parent}"
        );
        let result = format!("<DescribeStacksResult><Stacks><member>{stack}</member></Stacks></DescribeStacksResult>");
        Fault::Says(format!(r#"<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">{result}</DescribeStacksResponse>"#))
    };
    // The nested stack had been updated already: going back is one more update for it.
    story.scans.on("DescribeStacks").with("direct").always().meets(describes(&nested, "UPDATE_IN_PROGRESS", &parent));
    story.scans.on("DescribeStacks").with("parent").times(1).meets(describes(&parent, "UPDATE_IN_PROGRESS", ""));
    story.scans.on("DescribeStacks").with("parent").always().meets(describes(&parent, "UPDATE_ROLLBACK_IN_PROGRESS", ""));
    story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    assert!(!story.answer_to(&asked).await.is_success(), "the parent is only updating");
    asked.request["RequestId"] = Value::Null;
    let asked = story.expect_answer(asked.request);
    story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    let answer = story.answer_to(&asked).await;
    assert_eq!((answer.is_success(), answer.data("Verdict")), (true, "ROLLBACK"));
}

#[tokio::test]
async fn a_role_that_is_seconds_old_does_not_fail_the_first_deployment() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    ends(&story, &image, &clean()).await;
    story.verdict(&pipeline, &image, "PASS").await;
    story.scans.on("GetItem").times(4).meets(Fault::AccessDenied);
    let asked = ask(&story, &pipeline, Gate::by_digest(&image).request(&pipeline)).await;
    assert_eq!(story.answer_to(&asked).await.data("Verdict"), "PASS");
    assert!(story.logs(&pipeline.function("on-deploy")).await.iter().all(|line| !line.contains("ERROR")));
}

#[tokio::test]
async fn an_image_pushed_before_the_pipeline_has_its_scan_started_where_the_gate_asks_for_it() {
    let story = Story::new().await;
    let image = story.put("payments-api", Some("1.4.1"), &Manifest::image("older than the pipeline")).await;
    let pipeline = story.pipeline().await;
    story.scans.say_after_start(&image.scanned, [Scan::InProgress, Scan::Complete(clean())]);
    let asked = ask(&story, &pipeline, Gate::on(&image).with("StartScan", "true").request(&pipeline)).await;
    assert_eq!(story.answer_to(&asked).await.data("Verdict"), "PASS");
    assert_eq!(story.scans.calls("StartImageScan").len(), 1);
}

#[tokio::test]
async fn a_tag_that_moves_while_its_deployment_waits_is_not_let_through() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (first, second) = (story.push("payments-api", "stable").await, story.push("payments-api", "1.4.2").await);
    story.scans.say(&first.scanned, [Scan::InProgress]);
    let asked = ask(&story, &pipeline, Gate::on(&first).request(&pipeline)).await;
    parked(&story, &pipeline, &asked).await;
    story.put("payments-api", Some("stable"), &second.manifest).await;
    ends(&story, &first, &clean()).await;
    let answer = story.answer_to(&asked).await;
    assert!(answer.reason().contains("the tag was moved while this deployment waited"), "{}", answer.reason());
}

#[tokio::test]
async fn of_two_updates_that_decide_in_one_moment_the_newer_one_is_what_is_deployed() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let mut images = Vec::new();
    for tag in ["1", "2", "3"] {
        let image = story.push("payments-api", tag).await;
        ends(&story, &image, &clean()).await;
        story.verdict(&pipeline, &image, "PASS").await;
        images.push(image);
    }
    let create = ask(&story, &pipeline, Gate::by_digest(&images[0]).request(&pipeline)).await;
    story.answer_to(&create).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let older = story.expect_answer(update_of(&create, &Gate::by_digest(&images[1]), &pipeline));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // The newer one has read what it replaces, and is about to record; then the older one is recorded.
    let held = story.scans.on("TransactWriteItems").with(images[2].digest()).hold();
    let newer = ask(&story, &pipeline, update_of(&create, &Gate::by_digest(&images[2]), &pipeline)).await;
    held.reached().await;
    story.invoke_later(&pipeline.function("on-deploy"), &older.request).await;
    story.answer_to(&older).await;
    held.release();
    assert_eq!(story.answer_to(&newer).await.data("ImageDigest"), images[2].digest());
    answered(&story, &pipeline, &newer).await;
    let deployed = story.rows(&pipeline.table("deployments")).await;
    let admitted: Vec<_> = deployed.iter().filter(|row| row["state"] == "admitted").map(|row| row["digest"].clone()).collect();
    assert_eq!(admitted, [images[2].digest()]);
}

#[tokio::test]
async fn a_delete_leaves_alone_what_is_made_again_while_it_closes() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    ends(&story, &image, &clean()).await;
    story.verdict(&pipeline, &image, "PASS").await;
    let create = ask(&story, &pipeline, Gate::by_digest(&image).request(&pipeline)).await;
    story.answer_to(&create).await;
    let mut delete = update_of(&create, &Gate::by_digest(&image), &pipeline);
    delete["RequestType"] = json!("Delete");
    let held = story.scans.on("UpdateItem").with("removed").hold();
    let delete = ask_later(&story, &pipeline, delete).await;
    assert!(story.answer_to(&delete).await.is_success());
    held.reached().await;
    let mut again = create.request.clone();
    again["RequestId"] = Value::Null;
    let again = ask_later(&story, &pipeline, again).await;
    assert_eq!(story.answer_to(&again).await.data("Verdict"), "PASS");
    held.release();
    answered(&story, &pipeline, &again).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let deployed = story.rows(&pipeline.table("deployments")).await;
    assert_eq!(deployed.iter().filter(|row| row["state"] == "admitted").count(), 1, "{deployed:#?}");
}

#[tokio::test]
async fn an_operator_sees_who_waits_and_never_where_the_answer_goes() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let cli = |arguments: &[&str]| {
        let mut command = std::process::Command::new(crate::local::profile().join("ecr-scan-verifier"));
        for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN"] {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .args(["--pipeline", crate::local::pipeline::PIPELINE])
            .env("AWS_ACCESS_KEY_ID", &story.account)
            .env("AWS_SECRET_ACCESS_KEY", "x");
        let output = command.env("AWS_REGION", crate::local::wire::REGION).env("AWS_ENDPOINT_URL", story.scans.origin()).output().expect("the command runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains("_plane/answer"), "{arguments:?}: {text}");
        text
    };
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&cli(&[arguments, &["--format", "json"]].concat())).expect("JSON") };
    assert!(cli(&["waiters"]).starts_with("Nobody waits in pipeline "));

    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::InProgress]);
    let asked = ask(&story, &pipeline, Gate::on(&image).request(&pipeline)).await;
    parked(&story, &pipeline, &asked).await;
    assert!(cli(&["waiters"]).starts_with("payments-api:1.4.1 in direct (Gate) waits, "));
    let waiters = json(&["waiters"]);
    let waiter = &waiters["waiters"][0];
    assert_eq!(
        (waiter["requestId"].clone(), waiter["digest"].clone(), waiter["state"].clone()),
        (asked.request["RequestId"].clone(), json!(image.digest()), json!("open"))
    );
    assert!((800..=840).contains(&waiter["secondsLeft"].as_i64().unwrap_or_default()), "{waiter}");
    assert!(cli(&["explain", "payments-api:1.4.1"]).contains("\n  waiting      arn:aws:cloudformation:"));
    assert_eq!(json(&["explain", "payments-api:1.4.1"])["images"][0]["waiting"][0]["requestId"], asked.request["RequestId"]);

    ends(&story, &image, &clean()).await;
    answered(&story, &pipeline, &asked).await;
    assert_eq!(json(&["waiters"])["waiters"], json!([]));
    let explained = json(&["explain", "payments-api:1.4.1"]);
    assert_eq!((explained["images"][0]["verdict"].clone(), explained["images"][0]["deployments"][0]["state"].clone()), (json!("PASS"), json!("admitted")));
}
