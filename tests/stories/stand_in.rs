//! CloudFormation on the local AWS: what it does with answers, shown with a stand-in for the function that gives them.
use serde_json::{Value, json};

use crate::local::faults::Fault;
use crate::local::story::Story;

/// A gate and a parameter that waits for it. The stand-in answers as its property `Say` tells it.
fn template() -> Value {
    let code = r#"
import json, time, urllib.request

def handler(event, context):
    say = event["ResourceProperties"]["Say"]
    if say == "crash":
        raise RuntimeError("on purpose")
    answer = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    answer.update(PhysicalResourceId="gate", Status="FAILED" if say == "block" and event["RequestType"] != "Delete" else "SUCCESS", Data={"Verdict": say})
    if answer["Status"] == "FAILED":
        answer["Reason"] = "2 findings block"
    if say == "wrong":
        del answer["RequestId"]
    for _ in range(3):
        try:
            urllib.request.urlopen(urllib.request.Request(event["ResponseURL"], json.dumps(answer).encode(), {"content-type": ""}, method="PUT"))
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("nobody takes the answer")
"#;
    json!({
        "Parameters": { "Say": { "Type": "String" }, "Timeout": { "Type": "Number", "Default": 60 } },
        "Resources": {
            "Failures": { "Type": "AWS::SQS::Queue", "Properties": { "QueueName": { "Fn::Sub": "${AWS::StackName}-failures" } } },
            "Role": { "Type": "AWS::IAM::Role", "Properties": { "AssumeRolePolicyDocument": { "Version": "2012-10-17", "Statement": [] } } },
            "Function": { "Type": "AWS::Lambda::Function", "Properties": {
                "FunctionName": { "Fn::Sub": "${AWS::StackName}-gate" }, "Runtime": "python3.11", "Handler": "index.handler", "Timeout": 10,
                "Role": { "Fn::GetAtt": ["Role", "Arn"] }, "Code": { "ZipFile": code },
            } },
            "Failing": { "Type": "AWS::Lambda::EventInvokeConfig", "Properties": {
                "FunctionName": { "Ref": "Function" }, "Qualifier": "$LATEST", "MaximumRetryAttempts": 1,
                "DestinationConfig": { "OnFailure": { "Destination": { "Fn::GetAtt": ["Failures", "Arn"] } } },
            } },
            "Gate": { "Type": "Custom::EcrScanVerifier", "DependsOn": "Failing", "Properties": {
                "ServiceToken": { "Fn::GetAtt": ["Function", "Arn"] }, "ServiceTimeout": { "Ref": "Timeout" }, "Say": { "Ref": "Say" },
            } },
            "Released": { "Type": "AWS::SSM::Parameter", "DependsOn": "Gate", "Properties": {
                "Name": { "Fn::Sub": "/${AWS::StackName}/released" }, "Type": "String", "Value": "yes",
            } },
        },
        "Outputs": { "Verdict": { "Value": { "Fn::GetAtt": ["Gate", "Verdict"] } } },
    })
}

#[tokio::test]
async fn a_gate_that_passes_lets_the_rest_be_made_and_is_asked_again_at_an_update_and_at_the_end() {
    let story = Story::new().await;
    story.create_stack("passes", &template(), &[("Say", "pass")]).await;
    let stack = story.settled("passes").await;
    assert_eq!((stack.status.as_str(), stack.outputs["Verdict"].as_str()), ("CREATE_COMPLETE", "pass"));

    story.update_stack("passes", &template(), &[("Say", "block")]).await;
    assert_eq!(story.settled("passes").await.status, "UPDATE_ROLLBACK_COMPLETE");
    story.delete_stack("passes").await;
    assert_eq!(story.settled("passes").await.status, "DELETE_COMPLETE");

    let mut asked: Vec<_> = story.scans.answers().iter().map(|answer| (answer.asked.kind().to_owned(), answer.is_success())).collect();
    assert_eq!(asked.pop(), Some(("Delete".to_owned(), true)));
    let [create, update, back] = asked.try_into().expect("a Create, the Update, the Update of the rollback");
    assert_eq!((create, update, back), (("Create".to_owned(), true), ("Update".to_owned(), false), ("Update".to_owned(), true)));
}

#[tokio::test]
async fn a_gate_that_blocks_rolls_back_and_what_waits_for_it_is_never_made() {
    let story = Story::new().await;
    story.create_stack("blocked", &template(), &[("Say", "block")]).await;
    assert_eq!(story.settled("blocked").await.status, "ROLLBACK_COMPLETE");
    let events = story.stack_events("blocked").await;
    assert!(
        events.iter().any(|event| event.logical_id == "Gate" && event.status == "CREATE_FAILED" && event.reason.contains("2 findings block")),
        "{events:#?}"
    );
    assert!(events.iter().all(|event| event.logical_id != "Released"), "{events:#?}");
}

#[tokio::test]
async fn a_function_that_fails_is_tried_again_and_its_request_ends_in_the_failure_queue() {
    let story = Story::new().await;
    story.create_stack("crashes", &template(), &[("Say", "crash"), ("Timeout", "15")]).await;
    let queue = loop {
        if let Ok(url) = story.sqs().get_queue_url().queue_name("crashes-failures").send().await {
            break url.queue_url.expect("a URL");
        }
    };
    let record: Value = serde_json::from_str(&story.messages(&queue, 1).await[0]).expect("JSON");
    assert_eq!(record["requestPayload"]["RequestType"], "Create");
    assert_eq!(story.settled("crashes").await.status, "ROLLBACK_COMPLETE");
}

#[tokio::test]
async fn an_answer_that_is_lost_on_its_way_back_comes_again_with_the_same_bytes() {
    let story = Story::new().await;
    story.scans.on("PutAnswer").meets(Fault::LoseAnswer);
    story.create_stack("lost", &template(), &[("Say", "pass")]).await;
    assert_eq!(story.settled("lost").await.status, "CREATE_COMPLETE");
    let times =
        story.until(std::time::Duration::from_secs(20), || async { story.scans.answers().first().map(|answer| answer.times).filter(|&times| times == 2) });
    assert_eq!(times.await, Some(2));
}

#[tokio::test]
async fn many_stacks_can_wait_at_the_same_time() {
    let story = Story::new().await;
    let held: Vec<_> = (0..12).map(|_| story.scans.on("PutAnswer").hold()).collect();
    for n in 0..12 {
        story.create_stack(&format!("waits-{n}"), &template(), &[("Say", "pass")]).await;
    }
    for one in &held {
        one.reached().await;
    }
    drop(held);
    for n in 0..12 {
        assert_eq!(story.settled(&format!("waits-{n}")).await.status, "CREATE_COMPLETE");
    }
}

#[tokio::test]
#[should_panic(expected = "RequestId is null")]
async fn a_stack_that_was_answered_wrongly_fails_its_story_at_once() {
    let story = Story::new().await;
    story.create_stack("wrong", &template(), &[("Say", "wrong")]).await;
    story.settled("wrong").await;
}
