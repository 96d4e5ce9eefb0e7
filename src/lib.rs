//! A deploy-time image gate for AWS.
//!
//! Every image pushed to ECR is scanned and judged, the verdict is kept by digest, and a deployment is let through or held
//! back by looking that verdict up. A handler reads facts, a pure function decides, the adapters carry the decision out:
//!
//! ```text
//! a push, a finished scan, a deployment, a tick of the clock
//!       │ JSON
//!   events ──> handlers ──> domain (judge, plan, protocol) ──> aws ──> ECR, DynamoDB, CloudFormation
//! ```
//!
//! Arrows go down only: `bin -> handlers -> {events, aws} -> domain`. `events` and `aws` do not know each other, `domain`
//! knows nobody, and names are imported from the file that owns them.
#![forbid(unsafe_code)]

#[cfg(feature = "aws")]
pub mod aws;
pub mod cli;
pub mod domain;
pub mod events;
#[cfg(feature = "aws")]
pub mod front_door;
#[cfg(feature = "aws")]
pub mod handlers;
