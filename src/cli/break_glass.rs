//! `ecr-scan-verifier break-glass`: somebody takes it upon themselves to let one image into one stack, once.
//!
//! For the night on which a fix has to go out before its scan, or the scanner is down. It is bound to a digest, so that what goes
//! in is what was looked at; to a stack; it ends by itself; and the first deployment that it lets through uses it up. The tables
//! take it from the role that the pipeline's `breakGlassRole` names, and from nobody else.
//!
//! Exit 0: broken; 3: it is broken already, and not used; 1: not done.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::named::Named;
use super::{Format, Outcome};
use crate::aws::Aws;
use crate::domain::image::{ImageRef, Repository};
use crate::domain::request::Glass;

const BROKEN_ALREADY: u8 = 3;

/// Account and region are the stack's: a gate judges images of its own.
pub fn glass(stack: &str, reason: &str, minutes: u16, image: &str, now: Timestamp) -> Result<Glass, String> {
    let parts: Vec<&str> = stack.split(':').collect();
    let ["arn", partition, "cloudformation", region, account, resource] = parts.as_slice() else {
        return Err(format!("`{stack}` is no stack's ARN: expected arn:PARTITION:cloudformation:REGION:ACCOUNT:stack/NAME/ID"));
    };
    if !resource.starts_with("stack/") || resource.split('/').count() != 3 {
        return Err(format!("`{stack}` is no stack's ARN: it has to hold the stack's id too"));
    }
    if reason.trim().is_empty() {
        return Err("the reason is empty: whoever reads the history has to know why".to_owned());
    }
    let named = Named::parse(image)?;
    let (Some(name), ImageRef::Digest(digest)) = (named.repository, named.image) else {
        return Err(format!("`{image}` names no digest in a repository: a tag could be moved to another image. Give REPOSITORY@sha256:..."));
    };
    let until = now.saturating_add(SignedDuration::from_mins(i64::from(minutes))).map_err(|error| error.to_string())?;
    let repository = Repository { partition: (*partition).to_owned(), region: (*region).to_owned(), account: (*account).to_owned(), name };
    Ok(Glass { stack_id: stack.to_owned(), repository, digest, reason: reason.trim().to_owned(), until })
}

pub async fn break_glass(aws: &Aws, glass: &Glass, format: Format) -> Outcome {
    let Glass { stack_id, repository, digest, until, .. } = glass;
    match aws.deployments.break_glass(glass, Timestamp::now()).await {
        Ok(true) if format == Format::Json => Outcome::said(
            json!({ "schemaVersion": 1, "broken": true, "stack": stack_id, "repository": repository.arn(), "digest": digest, "until": until }).to_string()
                + "\n",
            0,
        ),
        Ok(true) => Outcome::said(
            format!(
                "{}@{digest} will be let into {stack_id} once, until {until}, whatever its scan says.\nDeploy now: a request that waits already finds it at its next look.\n",
                repository.name
            ),
            0,
        ),
        Ok(false) => Outcome {
            stderr: format!("break-glass: it is broken already for {}@{digest} in {stack_id}, and has not been used.\n", repository.name),
            stdout: String::new(),
            exit: BROKEN_ALREADY,
        },
        Err(why) => Outcome::failed(format!("break-glass: {}\nOnly the role that the pipeline's `breakGlassRole` names may do this.\n", why.text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_glass_is_broken_for_one_digest_in_one_stack() {
        let stack = "arn:aws:cloudformation:eu-west-1:123456789012:stack/payments/8f9a1c20-2a3b-11f1-8c4d-0ab1c2d3e4f5";
        let image = format!("payments-api@sha256:{}", "5c".repeat(32));
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let broken = glass(stack, " the scanner is down ", 30, &image, now).unwrap();
        assert_eq!(broken.repository.arn(), "arn:aws:ecr:eu-west-1:123456789012:repository/payments-api");
        assert_eq!((broken.reason.as_str(), broken.until), ("the scanner is down", Timestamp::from_second(1_700_001_800).unwrap()));
        for (stack, reason, image, says) in [
            ("payments", "x", image.as_str(), "no stack's ARN"),
            ("arn:aws:cloudformation:eu-west-1:123456789012:stack/payments", "x", &image, "the stack's id too"),
            (stack, " ", &image, "the reason is empty"),
            (stack, "x", "payments-api:1.4.2", "names no digest"),
            (stack, "x", &image[13..], "names no digest"),
        ] {
            let error = glass(stack, reason, 30, image, now).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
