//! A deployment asks: answer it now, or let it wait. Somebody asks without one: tell what a deployment would be answered.

use jiff::Timestamp;
use serde_json::Value;
use tracing::{info, warn};

use super::drive::{drive, drive_to_its_end};
use super::error::HandlerError;
use crate::aws::Aws;
use crate::domain::check::Checked;
use crate::domain::image::Repository;
use crate::domain::protocol::deploy::{Deploy, Home, asked_at, due};
use crate::domain::protocol::{Outcome, Why};
use crate::domain::request::{Gate, Named, Request, RequestKind, physical_id};
use crate::domain::response_url::{BadResponseUrl, ResponseUrl};
use crate::domain::signature::asked::KmsKeys;
use crate::events::check::Check;
use crate::events::deployment::properties::{self, GateProperties};
use crate::events::{self, Event, deployment};

/// The patience of a request whose properties cannot be read: the default.
const DEFAULT_PATIENCE_S: u32 = 840;

/// What the function returns: nothing to CloudFormation, which is answered where it wants to be, and the verdict to whoever asks
/// directly.
pub async fn on_deploy(event: Value, aws: &Aws, here: &Here) -> Result<Option<Box<Checked>>, HandlerError> {
    let arrived_at = Timestamp::now();
    let asked = match events::read(&event).map_err(HandlerError::UnreadableEvent)? {
        Event::DeploymentRequested(asked) => *asked,
        Event::CheckRequested(asked) => return check(&asked, aws, here, arrived_at).await.map(Some),
        other => return Err(HandlerError::NotForUs(other.kind())),
    };
    // Nobody can be answered at an address that is not CloudFormation's: better a deployment that times out than an answer
    // given to whoever wrote the request.
    let url = place_of_answer(&asked, aws, here);
    let request = request(&asked, here, url.as_ref().ok().and_then(|url| url.signed_at()), arrived_at);
    let url = url.map_err(|error| HandlerError::NoAnswerPossible { stack: request.stack_name().to_owned(), reason: error.to_string() })?;

    let machine = Deploy::new(request.clone(), url.clone(), here.home.clone(), aws.settings.policy.clone(), due_of(&request));
    let verdict = drive(machine, aws).await?;

    let took_ms = arrived_at.duration_until(Timestamp::now()).as_millis() as u64;
    info!(stack = request.stack_name(), request_id = request.request_id, logical_id = request.logical_id, took_ms, "worked off: {verdict}");
    Ok(None)
}

/// Answers at once, and records nothing. What could not be looked up is an error, and never a verdict.
async fn check(asked: &Check, aws: &Aws, here: &Here, arrived_at: Timestamp) -> Result<Box<Checked>, HandlerError> {
    let named = Named { repository: asked.glance().repository.unwrap_or_default(), image: asked.image().to_owned() };
    let gate = asked.gate().map_err(|error| error.to_string()).and_then(|properties| gate(properties, here));
    let machine = Deploy::checking(gate, named.clone(), here.home.clone(), aws.settings.policy.clone(), arrived_at);
    let checked = match drive_to_its_end(machine, aws).await? {
        Outcome::Checked(checked) => checked,
        Outcome::Done(what) | Outcome::Redeliver(Why { text: what, .. }) => {
            return Err(HandlerError::TryAgain(Why::new(format!("a check has ended with `{what}`"))));
        }
    };
    let took_ms = arrived_at.duration_until(Timestamp::now()).as_millis() as u64;
    let verdict = checked.verdict.word();
    info!(verdict, may_deploy = checked.may_deploy, took_ms, "checked {}:{}: {verdict}", named.repository, named.image);
    Ok(checked)
}

/// Lambda has delivered a request as often as it does. Somebody has to answer it.
pub async fn given_up(asked: &deployment::Request, why: &str, aws: &Aws, here: &Here) -> Result<String, HandlerError> {
    let url = place_of_answer(asked, aws, here);
    let request = request(asked, here, url.as_ref().ok().and_then(|url| url.signed_at()), Timestamp::now());
    let url = url.map_err(|error| HandlerError::NoAnswerPossible { stack: request.stack_name().to_owned(), reason: error.to_string() })?;
    warn!(stack = request.stack_name(), request_id = request.request_id, logical_id = request.logical_id, "on-deploy has failed on it: {why}");
    let due = due_of(&request);
    drive(Deploy::given_up(request, url.clone(), here.home.clone(), aws.settings.policy.clone(), due, why.to_owned()), aws).await
}

/// Where the answer goes: only to CloudFormation's bucket of this very region.
pub(super) fn place_of_answer<'a>(asked: &'a deployment::Request, aws: &Aws, here: &Here) -> Result<&'a ResponseUrl, BadResponseUrl> {
    let url = asked.answer_to(aws.settings.test_answer_origin.as_deref())?;
    if url.is_of_another_region(&here.home.region) { Err(BadResponseUrl::ForeignHost) } else { Ok(url) }
}

fn due_of(request: &Request) -> Timestamp {
    due(request.asked_at, request.gate.as_ref().map_or(DEFAULT_PATIENCE_S, |gate| gate.polling_timeout_s))
}

/// Where the function runs.
#[derive(Clone, Debug)]
pub struct Here {
    pub partition: String,
    pub home: Home,
}

impl Here {
    /// Read from the function's own ARN, which Lambda hands over with every event.
    pub fn of_function(arn: &str) -> Option<Self> {
        let mut parts = arn.split(':');
        let (partition, region, account) = (parts.nth(1)?, parts.nth(1)?, parts.next()?);
        Some(Self { partition: partition.to_owned(), home: Home { account: account.to_owned(), region: region.to_owned(), is_heard: false } })
    }
}

fn request(asked: &deployment::Request, here: &Here, signed_at: Option<Timestamp>, arrived_at: Timestamp) -> Request {
    let glance = asked.glance();
    let addr = asked.properties.get("addr").and_then(Value::as_str);
    let image = asked.properties.get("imageTag").and_then(Value::as_str).unwrap_or(properties::DEFAULT_TAG);
    Request {
        kind: match asked.kind {
            deployment::Kind::Create => RequestKind::Create,
            deployment::Kind::Update { .. } => RequestKind::Update,
            deployment::Kind::Delete => RequestKind::Delete,
        },
        physical_id: asked.physical_id.clone().unwrap_or_else(|| physical_id(addr, &asked.stack_id, &asked.logical_id)),
        request_id: asked.request_id.clone(),
        stack_id: asked.stack_id.clone(),
        logical_id: asked.logical_id.clone(),
        properties_hash: properties::properties_hash(&asked.properties),
        old_properties_hash: match &asked.kind {
            deployment::Kind::Update { old_properties } => Some(properties::properties_hash(old_properties)),
            deployment::Kind::Create | deployment::Kind::Delete => None,
        },
        asked_at: asked_at(signed_at, arrived_at),
        gate: asked.gate().map_err(|error| error.to_string()).and_then(|properties| gate(properties, here)),
        named: Named { repository: glance.repository.unwrap_or_default(), image: image.to_owned() },
    }
}

fn gate(properties: GateProperties, here: &Here) -> Result<Gate, String> {
    let home = || Repository {
        partition: here.partition.clone(),
        region: here.home.region.clone(),
        account: here.home.account.clone(),
        name: properties.repository_name.clone(),
    };
    // Where we run says which root of AWS Signer counts, and from where revocation can be asked.
    if let Some(asked) = &properties.signatures {
        asked.trust(&here.partition, &KmsKeys::new()).map_err(|error| format!("`signatureVerification` cannot be used: {error}."))?;
    }
    Ok(Gate {
        repository: properties.repository.clone().unwrap_or_else(home),
        image: properties.image.clone(),
        expected: properties.image_digest.clone(),
        scan: properties.scan,
        signatures: properties.signatures,
        policy: properties.policy,
        platforms: properties.platforms,
        max_scan_age_s: properties.max_scan_age_s,
        on_unscanned: properties.on_unscanned,
        on_block: properties.on_block,
        suppress_on_rollback: properties.suppress_error_on_rollback,
        polling_timeout_s: properties.polling_timeout_s,
        outputs: properties.outputs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_knows_where_it_is_by_its_own_name() {
        let here = Here::of_function("arn:aws-cn:lambda:cn-north-1:123456789012:function:ecr-scan-verifier-demo-on-deploy").unwrap();
        assert_eq!((here.partition.as_str(), here.home.region.as_str(), here.home.account.as_str()), ("aws-cn", "cn-north-1", "123456789012"));
    }
}
