//! Stories: whole ways through the system, on a local AWS, without mocks of our own code.
#![forbid(unsafe_code)]

#[allow(dead_code)] // stories and demo share it, and neither uses all of it
#[path = "../local/mod.rs"]
mod local;

// What the proof of the verification makes, so that stories can put it into a registry.
#[allow(dead_code)]
#[path = "../signatures/making.rs"]
mod making;
#[allow(dead_code)]
#[path = "../signatures/pki.rs"]
mod pki;

mod alerts;
mod apis;
mod crashes;
mod direct;
mod faults;
mod harness;
mod images;
mod load;
mod outputs;
mod package;
mod parking;
mod permissions;
mod scenarios;
mod signatures;
mod signed;
mod signing;
mod spine;
mod stand_in;
mod sweep;
mod truth;
mod without_cdk;
