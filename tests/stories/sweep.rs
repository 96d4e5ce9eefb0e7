//! The walk: what no event has told of is found within a day, and what was there before the pipeline when it is made.
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_ecr::types::ImageIdentifier;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::local::events::Event;
use crate::local::faults::Fault;
use crate::local::images::{Image, Manifest};
use crate::local::pipeline::{Gate, Pipeline};
use crate::local::scans::{Findings, Scan};
use crate::local::story::Story;

const BACKFILL: &str = "Custom::EcrScanVerifierBackfill";

pub async fn day(story: &Story, pipeline: &Pipeline) {
    story.invoke(&pipeline.function("on-sweep"), &json!({ "v": 1, "kind": "daily" })).await.expect("a walk begins");
}

pub async fn minute(story: &Story, pipeline: &Pipeline) -> Result<Value, Value> {
    story.invoke(&pipeline.function("on-sweep"), &json!({ "v": 1, "kind": "sweep" })).await
}

/// A walk, as it stands in the table.
pub async fn walk(story: &Story, pipeline: &Pipeline, walker: &str) -> Option<Value> {
    let row = story.rows(&pipeline.table("requests")).await.into_iter().find(|row| row["key"] == format!("walk#{walker}"))?;
    Some(serde_json::from_str(row["walk"].as_str().expect("the walk is text")).expect("and JSON"))
}

/// A walk that a minute was enough for.
async fn walked(story: &Story, pipeline: &Pipeline, walker: &str) -> Value {
    minute(story, pipeline).await.expect("a minute");
    let walk = walk(story, pipeline, walker).await.expect("it has begun");
    assert_eq!(walk["place"], "over", "{walk:#}");
    walk["found"].clone()
}

/// An image in the registry, scanned and clean, of which nobody is told.
pub async fn untold(story: &Story, tag: &str) -> Image {
    let image = story.put("payments-api", Some(tag), &Manifest::image(&format!("{} {tag}", story.account))).await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    image
}

/// One that the pipeline knows, scanned at that time.
async fn judged(story: &Story, pipeline: &Pipeline, tag: &str, scanned_at: Timestamp) -> Image {
    let image = story.push("payments-api", tag).await;
    let found = Findings::none().completed_at(scanned_at);
    story.scans.say(&image.scanned, [Scan::Complete(found.clone())]);
    story.tell(&Event::scanned(&image, &found)).await;
    story.verdict(pipeline, &image, "PASS").await;
    image
}

async fn set(story: &Story, table: &str, key: [(&str, &str); 2], expression: &str, values: &[(&str, AttributeValue)]) {
    let mut update = story.dynamodb().update_item().table_name(table).update_expression(expression);
    for (name, value) in key {
        update = update.key(name, AttributeValue::S(value.to_owned()));
    }
    for (name, value) in values {
        update = update.expression_attribute_values(*name, value.clone());
    }
    update.send().await.expect("UpdateItem");
}

/// What a stack deploys was asked for two hours ago. `lives`: its end has been missed.
pub async fn age(story: &Story, pipeline: &Pipeline, stack_id: &str, lives: bool) {
    let table = pipeline.table("deployments");
    let asked_at = AttributeValue::N((Timestamp::now() - SignedDuration::from_hours(2)).as_millisecond().to_string());
    for row in story.rows(&table).await {
        let (stack, row) = (row["stack"].as_str().unwrap(), row["row"].as_str().unwrap());
        if !stack.starts_with(stack_id) || !(row.starts_with("image#") || row == "newest") {
            continue;
        }
        let key = [("stack", stack), ("row", row)];
        set(story, &table, key, "SET asked_at = :asked_at", &[(":asked_at", asked_at.clone())]).await;
        if lives && row.starts_with("image#") {
            let text = |text: &str| AttributeValue::S(text.to_owned());
            let update = story.dynamodb().update_item().table_name(&table).key("stack", text(stack)).key("row", text(row));
            let update = update.update_expression("SET #state = :admitted, #live = :live REMOVE #until");
            let update =
                update.expression_attribute_names("#state", "state").expression_attribute_names("#live", "live").expression_attribute_names("#until", "until");
            update
                .expression_attribute_values(":admitted", text("admitted"))
                .expression_attribute_values(":live", text("live"))
                .send()
                .await
                .expect("UpdateItem");
        }
    }
}

/// What on-sweep wrote, once a line holds this text.
async fn said(story: &Story, pipeline: &Pipeline, text: &str) -> Vec<String> {
    let lines = || async { Some(story.logs(&pipeline.function("on-sweep")).await).filter(|lines| lines.iter().any(|line| line.contains(text))) };
    story.until(Duration::from_secs(30), lines).await.unwrap_or_else(|| panic!("no line with `{text}`"))
}

pub fn backfill(kind: &str) -> Value {
    json!({
        "RequestType": kind, "ResourceType": BACKFILL, "LogicalResourceId": "PipelineBackfill5B1C9F0E",
        "PhysicalResourceId": if kind == "Create" { Value::Null } else { json!("ecr-scan-verifier-backfill-of-old") },
        "ResourceProperties": { "ServiceToken": "arn:aws:lambda:eu-west-1:123456789012:function:ecr-scan-verifier-demo-on-sweep", "ServiceTimeout": "300", "pipeline": "demo" },
    })
}

#[tokio::test]
async fn an_image_whose_push_was_never_told_of_is_judged_within_a_day() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.hurry();
    let known = judged(&story, &pipeline, "1.4.1", Timestamp::now()).await;
    let lost = untold(&story, "1.4.2").await;
    // Its scan was told of, its push was not.
    let half = untold(&story, "1.4.3").await;
    story.tell(&Event::scanned(&half, &Findings::none())).await;
    story.verdict(&pipeline, &half, "PASS").await;
    day(&story, &pipeline).await;
    day(&story, &pipeline).await;
    let found = walked(&story, &pipeline, "daily").await;
    let row = story.verdict(&pipeline, &lost, "PASS").await;
    assert_eq!((row["tags"][0].as_str(), row["kind"].as_str()), (Some("1.4.2"), Some("image")), "remembered as a push would be: {row:#}");
    assert_eq!((found["repositories"].as_u64(), found["images"].as_u64(), found["remembered"].as_u64()), (Some(1), Some(3), Some(2)), "{found:#}");
    assert_eq!((found["looked_again"].as_u64(), found["errors"].as_u64()), (Some(2), Some(0)), "{found:#}");
    let read = |image: &Image| {
        story.scans.calls("DescribeImageScanFindings").iter().filter(|call| String::from_utf8_lossy(&call.body).contains(image.digest())).count()
    };
    assert_eq!(read(&known), 1, "what is judged is left alone");
    let lines = story.logs(&pipeline.function("on-sweep")).await;
    assert!(lines.iter().any(|line| line.contains("the one before it is still under way")), "a second day: {lines:#?}");
    assert!(lines.iter().any(|line| line.contains(r#""SweepRepaired":2"#)), "{lines:#?}");
}

#[tokio::test]
async fn a_stack_that_went_without_a_word_deploys_nothing_any_more() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.hurry();
    let image = judged(&story, &pipeline, "1.4.1", Timestamp::now()).await;
    let (gone, stays) = (story.deploy("payments", &Gate::by_digest(&image)).await, story.deploy("orders", &Gate::by_digest(&image)).await);
    let fresh = story.deploy("fresh", &Gate::by_digest(&image)).await;
    story.delete_stack("payments").await;
    story.settled("payments").await;
    story.row(&pipeline.table("deployments"), |row| row["state"] == "removed").await;
    age(&story, &pipeline, &gone.id, true).await;
    age(&story, &pipeline, &stays.id, false).await;
    // A gate that was taken out of a stack which lives on.
    let table = pipeline.table("deployments");
    let (stays_id, fresh_id) = (stays.id.as_str(), fresh.id.as_str());
    let item = story.dynamodb().scan().table_name(&table).send().await.unwrap().items.unwrap();
    let of_stays = |item: &&std::collections::HashMap<String, AttributeValue>| {
        item["stack"].as_s().unwrap().starts_with(stays_id) && item["row"].as_s().unwrap().starts_with("image#")
    };
    let mut taken_out = item.iter().find(of_stays).expect("it is deployed").clone();
    taken_out.insert("stack".into(), AttributeValue::S(format!("{stays_id}#TakenOut")));
    story.dynamodb().put_item().table_name(&table).set_item(Some(taken_out)).send().await.expect("PutItem");

    day(&story, &pipeline).await;
    let found = walked(&story, &pipeline, "daily").await;

    assert_eq!((found["closed"].as_u64(), found["errors"].as_u64()), (Some(2), Some(0)), "{found:#}");
    let rows: Vec<Value> = story.rows(&table).await.into_iter().filter(|row| row["row"].as_str().is_some_and(|row| row.starts_with("image#"))).collect();
    let state = |stack: &str, lives: bool| {
        let row = rows.iter().find(|row| row["stack"].as_str().is_some_and(|id| id.starts_with(stack) && id.ends_with("#TakenOut") != lives)).unwrap();
        (row["state"].as_str().unwrap().to_owned(), row["live"].is_string())
    };
    assert_eq!(state(&gone.id, true), ("removed".to_owned(), false));
    assert_eq!(state(stays_id, true), ("admitted".to_owned(), true));
    assert_eq!(state(stays_id, false), ("removed".to_owned(), false), "a resource that its stack does not have");
    assert_eq!(state(fresh_id, true), ("admitted".to_owned(), true));
    let asked = story.scans.calls("DescribeStacks");
    let about = |id: &str| asked.iter().filter(|call| String::from_utf8_lossy(&call.body).contains(id.rsplit('/').next().unwrap())).count();
    assert_eq!((about(stays_id), about(fresh_id)), (1, 0), "one call a stack, and none for what was deployed a moment ago");
}

#[tokio::test]
async fn who_may_not_ask_for_stacks_closes_nothing() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = judged(&story, &pipeline, "1.4.1", Timestamp::now()).await;
    let stack = story.deploy("payments", &Gate::by_digest(&image)).await;
    age(&story, &pipeline, &stack.id, false).await;
    story.scans.on("DescribeStacks").always().meets(Fault::AccessDenied);
    day(&story, &pipeline).await;
    let found = walked(&story, &pipeline, "daily").await;
    assert_eq!((found["closed"].as_u64(), found["errors"].as_u64(), found["looked_again"].as_u64()), (Some(0), Some(1), Some(1)), "{found:#}");
    story.row(&pipeline.table("deployments"), |row| row["state"] == "admitted" && row["live"] == "live").await;
}

#[tokio::test]
async fn an_image_that_was_deleted_without_a_word_is_forgotten() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.hurry();
    let (gone, stays) = (judged(&story, &pipeline, "1.4.1", Timestamp::now()).await, judged(&story, &pipeline, "1.4.2", Timestamp::now()).await);
    let id = ImageIdentifier::builder().image_digest(gone.digest()).build();
    story.ecr().batch_delete_image().repository_name("payments-api").image_ids(id).send().await.expect("BatchDeleteImage");
    day(&story, &pipeline).await;
    assert_eq!(walked(&story, &pipeline, "daily").await["forgotten"], 1);
    let row = story.verdict(&pipeline, &gone, "UNSCANNED (DELETED)").await;
    assert!(row["ttl"].is_number(), "it goes in a while: {row:#}");
    assert!(story.verdict(&pipeline, &stays, "PASS").await["ttl"].is_null());
    // The next day it is not missed any more.
    day(&story, &pipeline).await;
    assert_eq!(walked(&story, &pipeline, "daily").await["forgotten"], 0);
}

#[tokio::test]
async fn what_is_deployed_is_scanned_again_when_its_basic_scan_is_a_day_old() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.hurry();
    let now = Timestamp::now();
    let (old, fresh, idle) = (
        judged(&story, &pipeline, "1.4.1", now - SignedDuration::from_hours(21)).await,
        judged(&story, &pipeline, "1.4.2", now).await,
        judged(&story, &pipeline, "1.4.3", now - SignedDuration::from_hours(21)).await,
    );
    for (stack, image) in [("payments", &old), ("orders", &fresh)] {
        assert_eq!(story.deploy(stack, &Gate::by_digest(image)).await.status, "CREATE_COMPLETE");
    }
    day(&story, &pipeline).await;
    assert_eq!(walked(&story, &pipeline, "daily").await["rescans"], 1);
    let started = story.scans.calls("StartImageScan");
    let starts = |image: &Image| started.iter().filter(|call| String::from_utf8_lossy(&call.body).contains(image.digest())).count();
    assert_eq!((starts(&old), starts(&fresh), starts(&idle)), (1, 0, 0));
}

#[tokio::test]
async fn what_was_there_before_the_pipeline_is_judged_after_cloudformation_has_its_answer() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.hurry();
    let before = [untold(&story, "1.4.1").await, untold(&story, "1.4.2").await];
    let answer = story.ask(&pipeline.function("on-sweep"), backfill("Create")).await;
    assert!(answer.is_success(), "{}", answer.reason());
    assert_eq!(answer.physical_id(), "ecr-scan-verifier-backfill-demo");
    assert!(story.rows(&pipeline.table("verdicts")).await.is_empty(), "nothing waits for it");
    let found = walked(&story, &pipeline, "backfill").await;
    assert_eq!((found["remembered"].as_u64(), found["closed"].as_u64()), (Some(2), Some(0)), "{found:#}");
    for image in &before {
        story.verdict(&pipeline, image, "PASS").await;
    }
    let lines = story.logs(&pipeline.function("on-sweep")).await;
    assert!(!lines.iter().any(|line| line.contains("SweepRepaired")), "nobody was to tell of them: {lines:#?}");

    // What else CloudFormation asks begins nothing.
    for kind in ["Update", "Delete"] {
        let answer = story.ask(&pipeline.function("on-sweep"), backfill(kind)).await;
        assert_eq!((answer.is_success(), answer.physical_id()), (true, "ecr-scan-verifier-backfill-of-old"), "{kind}");
    }
    assert_eq!(walk(&story, &pipeline, "backfill").await.unwrap()["place"], "over");
}

#[tokio::test]
async fn a_backfill_that_cannot_be_noted_holds_no_stack_up_and_a_gate_is_never_answered_by_the_sweep() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.on("UpdateItem").with("walk#backfill").always().meets(Fault::ServerError);
    let answer = story.ask(&pipeline.function("on-sweep"), backfill("Create")).await;
    assert!(answer.is_success(), "{}", answer.reason());
    assert_eq!(walk(&story, &pipeline, "backfill").await, None);
    said(&story, &pipeline, "the stack goes on without it").await;

    let image = story.put("payments-api", Some("1.4.1"), &Manifest::image("a gate")).await;
    let gate = story.expect_answer(Gate::by_digest(&image).request(&pipeline));
    story.invoke_later(&pipeline.function("on-sweep"), &gate.request).await;
    said(&story, &pipeline, "this function answers `Custom::EcrScanVerifierBackfill` alone").await;
    let mut elsewhere = story.expect_answer(backfill("Create")).request;
    elsewhere["ResponseURL"] = json!("https://example.com/x");
    story.invoke_later(&pipeline.function("on-sweep"), &elsewhere).await;
    let lines = said(&story, &pipeline, "cannot answer the request of direct").await;
    assert!(!lines.iter().any(|line| line.contains("example.com/x")), "{lines:#?}");
    assert_eq!(story.scans.answers().len(), 1);
}

#[tokio::test]
async fn a_walk_that_is_killed_goes_on_where_it_was() {
    let story = Story::new().await;
    let pipeline =
        story.pipeline_where(&[("on-sweep", "FAULT_IMAGES_PAGE", "1"), ("on-sweep", "FAULT_WALK_DIES_AT", "the images of payments-api, try 0")]).await;
    story.scans.hurry();
    let images = [untold(&story, "1.4.1").await, untold(&story, "1.4.2").await, untold(&story, "1.4.3").await];
    assert!(story.ask(&pipeline.function("on-sweep"), backfill("Create")).await.is_success());
    let mut deaths = 0;
    for _ in 0..6 {
        deaths += usize::from(minute(&story, &pipeline).await.is_err());
        let walk_now = walk(&story, &pipeline, "backfill").await.unwrap();
        if walk_now["place"] == "over" {
            break;
        }
        // Whoever is dead holds the walk for a while yet, and nobody else takes it.
        minute(&story, &pipeline).await.expect("nothing to do");
        assert_eq!(walk(&story, &pipeline, "backfill").await.unwrap(), walk_now);
        let table = pipeline.table("requests");
        set(&story, &table, [("key", "walk#backfill"), ("sort", "walk")], "SET lease_until = :now", &[(":now", AttributeValue::N("0".to_owned()))]).await;
    }
    let walk = walk(&story, &pipeline, "backfill").await.unwrap();
    assert_eq!((walk["place"].as_str(), deaths), (Some("over"), 3), "{walk:#}");
    assert_eq!((walk["found"]["images"].as_u64(), walk["found"]["errors"].as_u64()), (Some(3), Some(0)), "{walk:#}");
    for image in &images {
        story.verdict(&pipeline, image, "PASS").await;
    }
}
