//! The product on the local AWS: the pipeline's stack and the gates' stacks, as the example app synthesizes them (`make synth`).
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::local::images::Image;
use crate::local::story::{Stack, StackEvent, Story};
use crate::local::wire::REGION;
use crate::local::{code, project, target};

/// The name that the example app gives its pipeline.
pub const PIPELINE: &str = "demo";

/// A deployed pipeline: the names of its parts.
#[derive(Clone, Debug)]
pub struct Pipeline {
    pub stack: Stack,
}

impl Pipeline {
    /// `on-deploy` and the like.
    pub fn function(&self, name: &str) -> String {
        format!("ecr-scan-verifier-{PIPELINE}-{name}")
    }

    /// `verdicts`, `requests`, `deployments`.
    pub fn table(&self, name: &str) -> String {
        format!("ecr-scan-verifier-{PIPELINE}-{name}")
    }

    pub fn service_token(&self) -> &str {
        self.output("OnDeployFunctionArn")
    }

    /// `Push`, `Scan` or `Findings`.
    pub fn queue(&self, lane: &str) -> &str {
        self.output(&format!("{lane}QueueUrl"))
    }

    /// Where Lambda puts what on-deploy fails on for good.
    pub fn failures(&self) -> &str {
        self.output("OnDeployFailuresUrl")
    }

    pub fn dead_letters(&self, lane: &str) -> &str {
        self.output(&format!("{lane}DeadLettersUrl"))
    }

    /// The row of an image in the verdicts table.
    pub fn is_head_of(image: &Image) -> impl Fn(&Value) -> bool {
        let (digest, repository) = (image.digest().to_owned(), image.scanned.repository_arn());
        move |row| row["digest"] == digest.as_str() && row["item"] == repository.as_str()
    }

    fn output(&self, name: &str) -> &str {
        self.stack.outputs.get(name).unwrap_or_else(|| panic!("the pipeline's stack has no output {name}: {:?}", self.stack.outputs))
    }
}

/// A gate's stack, as its parameters say.
#[derive(Clone, Debug)]
pub struct Gate {
    parameters: Vec<(&'static str, String)>,
}

impl Gate {
    /// By its tag.
    pub fn on(image: &Image) -> Self {
        Self { parameters: vec![("RepositoryName", image.repository().to_owned()), ("ImageTag", image.tag().to_owned())] }
    }

    pub fn by_digest(image: &Image) -> Self {
        Self { parameters: vec![("RepositoryName", image.repository().to_owned()), ("ImageTag", image.digest().to_owned())] }
    }

    /// Parameters of the example app: ScanType, StartScan, SeverityThreshold, FailOnVulnerability, SuppressErrorOnRollback,
    /// PollingTimeoutSeconds, IgnoreFindings, ServiceTimeout.
    pub fn with(mut self, parameter: &'static str, value: impl ToString) -> Self {
        self.parameters.retain(|(name, _)| *name != parameter);
        self.parameters.push((parameter, value.to_string()));
        self
    }

    pub fn enhanced(self) -> Self {
        self.with("ScanType", "ENHANCED").with("StartScan", "false")
    }

    /// What CloudFormation sends to on-deploy for such a gate, for a test that sends it itself. Create; set RequestType,
    /// PhysicalResourceId and OldResourceProperties for what else there is.
    pub fn request(&self, pipeline: &Pipeline) -> Value {
        let given = |name: &str, usual: &str| {
            let found = self.parameters.iter().find(|(known, _)| *known == name);
            found.map_or_else(|| usual.to_owned(), |(_, value)| value.clone())
        };
        let (repository, ignored) = (given("RepositoryName", ""), given("IgnoreFindings", ""));
        let account = pipeline.service_token().split(':').nth(4).expect("a function's ARN");
        json!({
            "RequestType": "Create", "ResourceType": "Custom::EcrScanVerifier", "LogicalResourceId": "Gate",
            "ResourceProperties": {
                "ServiceToken": pipeline.service_token(), "ServiceTimeout": given("ServiceTimeout", "960"),
                "addr": "c8c1bdec82dd01ed4f3a1c0dd7a62ad4a1d6b1e6f3", "repositoryName": repository,
                "repositoryArn": format!("arn:aws:ecr:{REGION}:{account}:repository/{repository}"), "imageTag": given("ImageTag", ""),
                "scanType": given("ScanType", "BASIC"), "startScan": given("StartScan", "true"), "severityThreshold": given("SeverityThreshold", "HIGH"),
                "failOnVulnerability": given("FailOnVulnerability", "true"), "ignoreFindings": ignored.split(',').filter(|id| !id.is_empty()).collect::<Vec<_>>(),
                "suppressErrorOnRollback": given("SuppressErrorOnRollback", "true"),
                "defaultLogGroupName": format!("/aws/lambda/{}", pipeline.function("on-deploy")),
                "pollingTimeoutSeconds": given("PollingTimeoutSeconds", "840"),
            },
        })
    }

    fn parameters(&self) -> Vec<(&str, &str)> {
        self.parameters.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

impl Story {
    /// Deploys the pipeline, with the binaries that were built last.
    pub async fn pipeline(&self) -> Pipeline {
        self.pipeline_with(&[]).await
    }

    /// The same, with more in the functions' environment.
    pub async fn pipeline_with(&self, environment: &[(&str, &str)]) -> Pipeline {
        let all: Vec<_> = environment.iter().map(|(variable, value)| ("on-", *variable, *value)).collect();
        self.pipeline_where(&all).await
    }

    /// The same, for the functions whose names begin so.
    pub async fn pipeline_where(&self, environment: &[(&str, &str, &str)]) -> Pipeline {
        self.pipeline_of("ecr-scan-verifier", environment, |_| {}).await
    }

    /// The same, with everything in it encrypted by a key of the user's own.
    pub async fn pipeline_with_key(&self) -> Pipeline {
        self.pipeline_of("ecr-scan-verifier-keyed", &[], |_| {}).await
    }

    /// The same, whose functions die where this folder says (`src/handlers/faults.rs`). They get one message at a time, so that nothing
    /// else dies with it; what a dead one held comes again after seconds, and is given up by nobody.
    pub async fn pipeline_of_mortals(&self, ways: &Path) -> Pipeline {
        let ways = ways.to_str().expect("a path");
        let change = |resource: &mut Value| match resource["Type"].as_str() {
            Some("AWS::Lambda::EventSourceMapping") => {
                resource["Properties"]["BatchSize"] = json!(1);
                resource["Properties"].as_object_mut().expect("an object").remove("MaximumBatchingWindowInSeconds");
            }
            Some("AWS::SQS::Queue") => {
                resource["Properties"]["VisibilityTimeout"] = json!(5);
                if resource["Properties"]["RedrivePolicy"].is_object() {
                    resource["Properties"]["RedrivePolicy"]["maxReceiveCount"] = json!(1000);
                }
            }
            _ => {}
        };
        self.pipeline_of("ecr-scan-verifier", &[("on-", "FAULT_FOLDER", ways)], change).await
    }

    async fn pipeline_of(&self, name: &str, environment: &[(&str, &str, &str)], change: impl Fn(&mut Value)) -> Pipeline {
        let mut template = template(name).clone();
        template["Resources"].as_object_mut().into_iter().flat_map(|all| all.values_mut()).for_each(change);
        for function in
            template["Resources"].as_object_mut().into_iter().flat_map(|all| all.values_mut()).filter(|part| part["Type"] == "AWS::Lambda::Function")
        {
            let properties = &mut function["Properties"];
            let name = properties["FunctionName"].as_str().and_then(|name| name.strip_prefix(&format!("ecr-scan-verifier-{PIPELINE}-")));
            let name = name.expect("the functions' names are fixed").to_owned();
            properties["Code"]["S3Key"] = code::key(&name).into();
            for (_, variable, value) in environment.iter().filter(|(function, ..)| name.starts_with(function)) {
                properties["Environment"]["Variables"][*variable] = (*value).into();
            }
        }
        self.create_stack("ecr-scan-verifier", &template, &[]).await;
        let stack = self.settled("ecr-scan-verifier").await;
        assert_eq!(stack.status, "CREATE_COMPLETE", "the pipeline's stack: {:#?}", self.stack_events("ecr-scan-verifier").await);
        Pipeline { stack }
    }

    /// Waits until the pipeline has come to a verdict on this image: PASS, BLOCK, UNSCANNED or PENDING.
    pub async fn verdict(&self, pipeline: &Pipeline, image: &Image, verdict: &str) -> Value {
        let is_head = Pipeline::is_head_of(image);
        self.row(&pipeline.table("verdicts"), |row| is_head(row) && row["verdict"].as_str().is_some_and(|text| text.starts_with(verdict))).await
    }

    /// Waits until on-scan has looked as often as it looks by itself.
    pub async fn looked_to_the_end(&self, pipeline: &Pipeline, image: &Image) {
        let is_head = Pipeline::is_head_of(image);
        self.row(&pipeline.table("verdicts"), |row| is_head(row) && row["look_at"].is_null()).await;
        self.drained(pipeline.queue("Scan")).await;
    }

    /// Waits until on-scan has looked once for the deployment that waits for this image: from now on only timers look.
    pub async fn only_timers_look(&self, pipeline: &Pipeline, image: &Image) {
        let asked = || async {
            let sent = self.scans.calls("SendMessage");
            let is_ours = |body: &str| body.contains("look-again") && body.contains("requestId") && body.contains(image.digest());
            sent.iter().any(|call| is_ours(&String::from_utf8_lossy(&call.body))).then_some(())
        };
        self.until(Duration::from_secs(30), asked).await.expect("on-deploy asks on-scan to look");
        self.drained(pipeline.queue("Scan")).await;
    }

    /// Creates a gate's stack; CloudFormation goes on by itself. `settled` waits for it.
    pub async fn begin(&self, stack: &str, gate: &Gate) {
        self.create_stack(stack, template("ecr-scan-verifier-gate"), &gate.parameters()).await;
    }

    pub async fn deploy(&self, stack: &str, gate: &Gate) -> Stack {
        self.begin(stack, gate).await;
        self.settled(stack).await
    }

    /// Deploys the three gates that write logs, an SBOM and messages.
    pub async fn deploy_with_outputs(&self, stack: &str, gate: &Gate) -> Stack {
        self.create_stack(stack, template("ecr-scan-verifier-outputs"), &gate.parameters()).await;
        self.settled(stack).await
    }

    pub async fn begin_update(&self, stack: &str, gate: &Gate) {
        self.update_stack(stack, template("ecr-scan-verifier-gate"), &gate.parameters()).await;
    }

    pub async fn update(&self, stack: &str, gate: &Gate) -> Stack {
        self.begin_update(stack, gate).await;
        self.settled(stack).await
    }

    /// Why the gate of this stack refused, as a person reads it in the stack's history; None when it did not.
    pub async fn refusal(&self, stack: &str) -> Option<String> {
        let refused = |event: &StackEvent| event.kind == "Custom::EcrScanVerifier" && event.status.ends_with("_FAILED");
        self.stack_events(stack).await.into_iter().find(refused).map(|event| event.reason)
    }

    /// Whether the resource that waits for the gate was ever begun.
    pub async fn released(&self, stack: &str) -> bool {
        self.stack_events(stack).await.iter().any(|event| event.kind == "AWS::SSM::Parameter" && event.status.starts_with("CREATE_"))
    }
}

pub fn synthesized() -> PathBuf {
    target().join("synth")
}

fn template(name: &str) -> &'static Value {
    static PIPELINE: OnceLock<Value> = OnceLock::new();
    static GATE: OnceLock<Value> = OnceLock::new();
    static OUTPUTS: OnceLock<Value> = OnceLock::new();
    static KEYED: OnceLock<Value> = OnceLock::new();
    let kept = match name.rsplit('-').next() {
        Some("gate") => &GATE,
        Some("outputs") => &OUTPUTS,
        Some("keyed") => &KEYED,
        _ => &PIPELINE,
    };
    kept.get_or_init(|| {
        let file = synthesized().join(format!("{name}.template.json"));
        let written = file.metadata().and_then(|file| file.modified()).unwrap_or_else(|e| panic!("{} ({e}): `make synth` makes it", file.display()));
        let newest = ["infra/src", "infra/example"].iter().map(|folder| newest(&project().join(folder))).max().expect("two folders");
        assert!(written >= newest, "{} is older than infra/: `make synth`", file.display());
        serde_json::from_slice(&std::fs::read(&file).expect("the template can be read")).expect("the template is JSON")
    })
}

fn newest(folder: &Path) -> SystemTime {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let times =
        entries.map(|path| if path.is_dir() { newest(&path) } else { path.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH) });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}
