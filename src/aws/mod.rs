//! Floor 2: AWS. One file a service; SDK types never leave this folder, and nothing is decided here.
//!
//! Every attempt that fails comes back as a [`Why`]: what was tried, what happened, and whether it was a matter of
//! permission. Throttles, 5xx and resets have been retried by then (three tries).

pub mod cloudformation;
pub mod connector;
pub mod dead_letters;
pub mod deployments;
pub mod ecr;
pub mod functions;
pub mod inspector;
pub mod outputs;
pub mod queue;
pub mod requests;
pub mod signatures;
pub mod verdicts;
pub mod walks;

use std::fmt::Display;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_runtime_api::client::http::{SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use jiff::Timestamp;

use self::connector::{CONNECT, connector};
use crate::domain::alert::{AlertOptions, Alerting};
use crate::domain::policy::Policy;
use crate::domain::protocol::{Do, Saw, Why};

/// What the functions are told by their environment. Each function is given what it needs, so most are optional here and
/// missed where they are used.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub pipeline: String,
    pub verdicts_table: String,
    pub requests_table: String,
    pub deployments_table: String,
    pub scan_queue_url: String,
    pub findings_bucket: String,
    pub policy: Policy,
    /// Whom the pipeline tells, and of what.
    pub alerting: Alerting,
    pub event_bus: Option<String>,
    /// Whether the daily walk goes through the whole registry, or through what is deployed alone.
    pub sweeps_registry: bool,
    /// So many deployed images are scanned again a day, under basic scanning.
    pub daily_rescans: u32,
    /// The one origin, besides CloudFormation's own, to which an answer may go. Tests alone set it.
    pub test_answer_origin: Option<String>,
}

impl Settings {
    /// Reads the settings by a look-up, as a rule `std::env::var`.
    pub fn read(look_up: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let text = |name: &str| look_up(name).unwrap_or_default();
        let policy = match look_up("PIPELINE_POLICY") {
            Some(text) => Policy::parse(&text).map_err(|error| format!("PIPELINE_POLICY: {error}"))?,
            None => Policy::default(),
        };
        let options = look_up("ALERTS").map(|text| AlertOptions::parse(&text).map_err(|error| format!("ALERTS: {error}"))).transpose()?;
        let set = |name: &str| look_up(name).filter(|value| !value.is_empty());
        let event_bus = set("EVENT_BUS");
        let daily_rescans = match look_up("DAILY_RESCANS") {
            Some(text) => text.parse().map_err(|_| format!("DAILY_RESCANS is `{text}`, expected a whole number from 0"))?,
            None => 0,
        };
        Ok(Self {
            sweeps_registry: text("SWEEPS") == "registry",
            daily_rescans,
            pipeline: look_up("PIPELINE").ok_or("PIPELINE is not set: the construct sets it")?,
            verdicts_table: text("VERDICTS_TABLE"),
            requests_table: text("REQUESTS_TABLE"),
            deployments_table: text("DEPLOYMENTS_TABLE"),
            scan_queue_url: text("SCAN_QUEUE_URL"),
            findings_bucket: text("FINDINGS_BUCKET"),
            policy,
            alerting: Alerting { topic_arn: set("ALERT_TOPIC_ARN"), bus: event_bus.is_some(), options: options.unwrap_or_default() },
            event_bus,
            test_answer_origin: set("TEST_ANSWER_ORIGIN"),
        })
    }

    /// The names that a pipeline's parts have: fixed, so that the CLI needs to be told nothing else.
    pub fn of_pipeline(pipeline: &str) -> Self {
        let table = |name: &str| format!("ecr-scan-verifier-{pipeline}-{name}");
        Self {
            pipeline: pipeline.to_owned(),
            verdicts_table: table("verdicts"),
            requests_table: table("requests"),
            deployments_table: table("deployments"),
            ..Self::default()
        }
    }
}

/// What comes of an effect that is being carried out.
pub type Carried<'a> = Pin<Box<dyn Future<Output = Result<Saw, Why>> + Send + 'a>>;
/// Carries an effect out. A pointer, so that a function is linked with the effects that it has.
pub type CarriesOut = for<'a> fn(Do, &'a Aws) -> Carried<'a>;

/// All adapters, built once at start.
pub struct Aws {
    pub settings: Settings,
    config: SdkConfig,
    http: SharedHttpConnector,
    role_may_be_fresh: AtomicBool,
    pub ecr: ecr::Ecr,
    pub inspector: inspector::Inspector,
    pub verdicts: verdicts::Verdicts,
    pub requests: requests::Requests,
    pub deployments: deployments::Deployments,
    pub walks: walks::Walks,
    pub queue: queue::Queue,
    pub stacks: cloudformation::Stacks,
    pub answers: cloudformation::Answers,
    /// Only where they are written.
    pub outputs: Option<Box<dyn outputs::PutsOut>>,
    /// Only where they are verified.
    pub signatures: Option<Box<dyn signatures::Verifies>>,
    /// Only where scans are looked into to their end.
    pub of_scans: Option<CarriesOut>,
}

impl Aws {
    /// For a function.
    pub fn of_function(settings: Settings) -> Self {
        let http = connector();
        Self::with(&config_of_function(&http, |name| std::env::var(name).ok()), http, settings)
    }

    /// For the CLI.
    pub async fn connect(settings: Settings) -> Self {
        let http = connector();
        Self::with(&config_by(&http).await, http, settings)
    }

    /// For the function that writes what gates want written.
    pub fn with_outputs(mut self) -> Self {
        self.outputs = Some(Box::new(outputs::Outputs::new(&self.config, &self.settings)));
        self
    }

    /// For the functions that decide about deployments.
    pub fn with_signatures(mut self) -> Self {
        let region = self.config.region().map(ToString::to_string).unwrap_or_default();
        self.signatures = Some(Box::new(signatures::Signatures::new(&self.config, &region, self.http.clone(), self.settings.test_answer_origin.clone())));
        self
    }

    /// For the function that looks into scans; `of_scans` carries out what it alone does.
    pub fn with_scans(mut self, of_scans: CarriesOut) -> Self {
        self.of_scans = Some(of_scans);
        self
    }

    fn with(config: &SdkConfig, http: SharedHttpConnector, settings: Settings) -> Self {
        let dynamo = aws_sdk_dynamodb::Client::new(config);
        Self {
            ecr: ecr::Ecr::new(config),
            inspector: inspector::Inspector::new(config),
            verdicts: verdicts::Verdicts::new(dynamo.clone(), config, &settings),
            requests: requests::Requests::new(dynamo.clone(), &settings),
            deployments: deployments::Deployments::new(dynamo.clone(), &settings),
            walks: walks::Walks::new(dynamo, &settings),
            queue: queue::Queue::new(config, &settings),
            stacks: cloudformation::Stacks::new(config),
            answers: cloudformation::Answers::new(http.clone()),
            outputs: None,
            signatures: None,
            of_scans: None,
            config: config.clone(),
            http,
            role_may_be_fresh: AtomicBool::new(false),
            settings,
        }
    }

    /// A refusal can be the first moments of a role: this function answers in the deployment that makes its role.
    pub fn with_a_role_that_may_be_fresh(mut self) -> Self {
        self.role_may_be_fresh = AtomicBool::new(true);
        self
    }

    pub fn role_may_be_fresh(&self) -> bool {
        self.role_may_be_fresh.load(Ordering::Relaxed)
    }

    pub fn role_is_not_fresh(&self) {
        self.role_may_be_fresh.store(false, Ordering::Relaxed);
    }
}

/// Credentials and endpoints as the SDKs read them everywhere (environment, profiles, `AWS_ENDPOINT_URL_*`): for the CLI.
pub async fn config() -> SdkConfig {
    config_by(&connector()).await
}

/// The same, where the connector is used for other things too.
pub async fn config_by(http: &SharedHttpConnector) -> SdkConfig {
    let http = http.clone();
    aws_config::defaults(BehaviorVersion::latest())
        // Not the SDK's own: that makes a connector for every client of a service to see whether it can, and throws it away.
        .http_client(http_client_fn(move |_, _| http.clone()))
        .retry_config(retries())
        .timeout_config(timeouts())
        .load()
        .await
}

/// For a function: Lambda puts region and credentials into its environment, and there is no profile and no role to look for elsewhere.
/// Looking all the same costs each start a millisecond, and each zip the code for it.
fn config_of_function(http: &SharedHttpConnector, look_up: fn(&str) -> Option<String>) -> SdkConfig {
    let http = http.clone();
    let is_set = |name: &str| look_up(name).map(|text| text.eq_ignore_ascii_case("true"));
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http_client_fn(move |_, _| http.clone()))
        .retry_config(retries())
        .timeout_config(timeouts())
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        // Shared by all clients: a role that is taken over for its outputs is taken over once.
        .identity_cache(IdentityCache::lazy().build())
        .sleep_impl(TokioSleep::new())
        .time_source(SystemTimeSource::new())
        .service_config(Environment(look_up));
    config.set_region(look_up("AWS_REGION").map(Region::new));
    config.set_use_fips(is_set("AWS_USE_FIPS_ENDPOINT"));
    config.set_use_dual_stack(is_set("AWS_USE_DUALSTACK_ENDPOINT"));
    config.build()
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3)
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(Duration::from_secs(10)).build()
}

/// What is set for one service (`AWS_ENDPOINT_URL_SQS`), or for all of them.
#[derive(Debug)]
struct Environment(fn(&str) -> Option<String>);

impl LoadServiceConfig for Environment {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let of_service = format!("{}_{}", key.env(), key.service_id().to_uppercase().replace(' ', "_"));
        (self.0)(&of_service).or_else(|| (self.0)(key.env()))
    }
}

/// The error's own text may hold the address; its kind says enough.
fn kind_of(error: &ConnectorError) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_io() {
        "connection failed"
    } else {
        "the request failed"
    }
}

/// What was tried, and what happened: AWS's code and message, or what kept the call from arriving.
fn why<E>(attempt: impl Display, error: &SdkError<E>) -> Why
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    let denied = ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedException"].contains(&code);
    // An answer's own text can hold a row, and a row a ResponseURL: code and message say enough.
    let what = match error {
        SdkError::ServiceError(service) => format!("{code}: {}", service.err().message().unwrap_or("no message")),
        SdkError::ResponseError(_) => "the answer could not be read".to_owned(),
        other => DisplayErrorContext(other).to_string(),
    };
    Why { text: format!("could not {attempt}: {what}"), denied }
}

/// Something that AWS's answer should have held.
fn missing(attempt: impl Display, what: &str) -> Why {
    Why { text: format!("could not {attempt}: the answer has no {what}"), denied: false }
}

fn timestamp(time: &aws_smithy_types::DateTime) -> Option<Timestamp> {
    Timestamp::from_nanosecond(time.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_takes_what_lambda_sets() {
        let config = config_of_function(&connector(), |name| match name {
            "AWS_REGION" => Some("eu-west-1".to_owned()),
            "AWS_ENDPOINT_URL" => Some("https://all".to_owned()),
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS" => Some("https://logs".to_owned()),
            "AWS_USE_FIPS_ENDPOINT" => Some("true".to_owned()),
            _ => None,
        });
        assert_eq!(config.region().map(Region::as_ref), Some("eu-west-1"));
        assert_eq!((config.use_fips(), config.use_dual_stack()), (Some(true), None));
        assert!(config.time_source().is_some() && config.sleep_impl().is_some(), "whoever takes over a role asks for the time");
        let environment = config.service_config().expect("it is set");
        let endpoint = |service: &str| {
            let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url").build().unwrap();
            environment.load_config(key)
        };
        assert_eq!(endpoint("CloudWatch Logs").as_deref(), Some("https://logs"));
        assert_eq!(endpoint("SQS").as_deref(), Some("https://all"));
    }
}
