// What each function may do: exactly the calls that its code makes, on exactly the things that it makes them on.
import { Stack } from 'aws-cdk-lib';
import * as dynamodb from 'aws-cdk-lib/aws-dynamodb';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as s3 from 'aws-cdk-lib/aws-s3';
import * as sns from 'aws-cdk-lib/aws-sns';
import * as sqs from 'aws-cdk-lib/aws-sqs';
import { keyUse } from './encryption';
import { FunctionKey, defaultBusArn, outputsRolesArn } from './names';
import { keyOf } from './outputs';
import { Lanes } from './queues';
import { grantsForAnySigner } from './signatures';
import { BY_DIGEST, HEADS_BY_REPOSITORY, LIVE, OPEN_BY_DUE, Tables } from './tables';
import { Watched } from './watched';

/** What verdicts on the bus come from. */
const EVENT_SOURCE = 'ecr-scan-verifier';

export interface Things {
  readonly tables: Tables;
  readonly lanes: Lanes;
  /** What on-deploy failed on for good. */
  readonly failures: sqs.Queue;
  readonly findings: s3.Bucket;
  readonly watched: Watched;
  /** The stacks whose state the gate may ask for. */
  readonly stacksArn: string;
  readonly encryptionKey?: kms.IKey;
  readonly alertTopic?: sns.ITopic;
  /** Whether verdicts are announced on the default bus. */
  readonly verdictEvents: boolean;
  /** Whether signatures may be asked for of whomever; else each gate brings what its own signers need. */
  readonly checksAnySignature: boolean;
  /** Whether the daily sweep looks for images in all repositories that are watched, or only at what is deployed. */
  readonly sweepsRegistry: boolean;
}

export function grantsOf(stack: Stack, key: FunctionKey, things: Things): iam.PolicyStatement[] {
  const { tables, lanes, failures, findings, watched } = things;
  const { verdicts, requests, deployments } = tables;
  const use = (...services: string[]): iam.PolicyStatement[] =>
    things.encryptionKey ? [keyUse(stack, things.encryptionKey, services)] : [];
  const signatures = things.checksAnySignature ? grantsForAnySigner(stack, watched.arns) : [];

  switch (key) {
    case 'on-push':
      return [
        consume(lanes.push.queue),
        send(lanes.scan.queue),
        allow('Images', ['ecr:BatchGetImage', 'ecr:StartImageScan'], watched.arns),
        ...scanningConfiguration(),
        allow('WhetherItIsScannedOnPush', ['ecr:BatchGetRepositoryScanningConfiguration'], watched.arns),
        allow('Verdicts', ['dynamodb:GetItem', 'dynamodb:PutItem'], [verdicts.tableArn]),
        ...use('dynamodb', 'sqs'),
      ];
    case 'on-scan':
      return [
        consume(lanes.scan.queue, lanes.findings.queue, failures),
        send(lanes.scan.queue),
        // Before it lets a deployment through that has waited, it looks again at what the tag names; and it starts the scan
        // that such a deployment asked for.
        allow('Images', ['ecr:BatchGetImage', 'ecr:DescribeImageScanFindings', 'ecr:DescribeImages', 'ecr:StartImageScan'], watched.arns),
        ...scanningConfiguration(),
        // Whether anybody scans what a deployment waits for.
        allow('WhetherItIsScannedOnPush', ['ecr:BatchGetRepositoryScanningConfiguration'], watched.arns),
        ...inspectorFindings(),
        ...signatures,
        allow(
          'Verdicts',
          ['dynamodb:BatchGetItem', 'dynamodb:ConditionCheckItem', 'dynamodb:GetItem', 'dynamodb:PutItem', 'dynamodb:UpdateItem'],
          [verdicts.tableArn],
        ),
        whoWaits(requests),
        allow('Deployments', ['dynamodb:GetItem', 'dynamodb:PutItem', 'dynamodb:Query', 'dynamodb:UpdateItem'], [deployments.tableArn]),
        allow('WhereItRuns', ['dynamodb:Query'], [`${deployments.tableArn}/index/${BY_DIGEST}`]),
        ...largeFacts(findings),
        // Each of these roles says itself which pipeline may take it.
        allow('OutputsOfTheGates', ['sts:AssumeRole'], [outputsRolesArn(stack)]),
        ...alerts(things.alertTopic),
        ...(things.verdictEvents ? [announce(stack)] : []),
        ...use('dynamodb', 's3', 'sqs'),
      ];
    case 'on-deploy':
      return [
        send(lanes.scan.queue),
        allow('WhatFailsForGood', ['sqs:SendMessage'], [failures.queueArn]),
        allow('Images', ['ecr:BatchGetImage', 'ecr:DescribeImageScanFindings'], watched.arns),
        ...scanningConfiguration(),
        ...inspectorFindings(),
        ...signatures,
        allow(
          'Verdicts',
          ['dynamodb:BatchGetItem', 'dynamodb:GetItem', 'dynamodb:PutItem', 'dynamodb:UpdateItem'],
          [verdicts.tableArn],
        ),
        whoWaits(requests),
        allow('Deployments', ['dynamodb:GetItem', 'dynamodb:PutItem', 'dynamodb:Query', 'dynamodb:UpdateItem'], [deployments.tableArn]),
        ...largeFacts(findings),
        allow('IsThisARollback', ['cloudformation:DescribeStacks'], [things.stacksArn]),
        ...use('dynamodb', 's3', 'sqs'),
      ];
    case 'on-sweep':
      return [
        allow('WhoHasNoAnswer', ['dynamodb:Query'], [`${requests.tableArn}/index/${OPEN_BY_DUE}`]),
        // By the index it finds them; a request's URL, and what becomes of the request, are in the table.
        // Where the daily walk has got to is kept there too.
        allow('Requests', ['dynamodb:DeleteItem', 'dynamodb:GetItem', 'dynamodb:PutItem', 'dynamodb:UpdateItem'], [requests.tableArn]),
        allow('Deployments', ['dynamodb:GetItem', 'dynamodb:PutItem', 'dynamodb:Query', 'dynamodb:UpdateItem'], [deployments.tableArn]),
        allow('WhatRuns', ['dynamodb:Query'], [`${deployments.tableArn}/index/${LIVE}`]),
        allow(
          'Verdicts',
          ['dynamodb:BatchGetItem', 'dynamodb:GetItem', 'dynamodb:PutItem', 'dynamodb:UpdateItem'],
          [verdicts.tableArn],
        ),
        allow('WhatIsKnown', ['dynamodb:Query'], [`${verdicts.tableArn}/index/${HEADS_BY_REPOSITORY}`]),
        send(lanes.scan.queue),
        allow('Images', ['ecr:BatchGetImage', 'ecr:DescribeImages', 'ecr:StartImageScan'], watched.arns),
        ...(things.sweepsRegistry ? [allow('Repositories', ['ecr:DescribeRepositories'], watched.arns)] : []),
        ...scanningConfiguration(),
        allow('WhetherItIsScannedOnPush', ['ecr:BatchGetRepositoryScanningConfiguration'], watched.arns),
        // A stack that is gone, or a gate that is gone from its stack, may have left without a word.
        allow('WhetherItIsStillDeployed', ['cloudformation:DescribeStackResource', 'cloudformation:DescribeStacks'], [things.stacksArn]),
        ...use('dynamodb', 'sqs'),
      ];
  }
}

function allow(sid: string, actions: string[], resources: string[]): iam.PolicyStatement {
  return new iam.PolicyStatement({ sid, actions, resources });
}

function consume(...queues: sqs.Queue[]): iam.PolicyStatement {
  return allow(
    'Consume',
    // ChangeMessageVisibility: the function itself says when a failed message comes back.
    ['sqs:ChangeMessageVisibility', 'sqs:DeleteMessage', 'sqs:GetQueueAttributes', 'sqs:ReceiveMessage'],
    queues.map((queue) => queue.queueArn),
  );
}

function send(queue: sqs.Queue): iam.PolicyStatement {
  return allow('LookAgainLater', ['sqs:SendMessage'], [queue.queueArn]);
}

// A transaction needs the permissions of its parts. Requests are written together with the pointers by which they are found,
// and the pointers go with the answer.
function whoWaits(requests: dynamodb.Table): iam.PolicyStatement {
  return allow(
    'Requests',
    ['dynamodb:DeleteItem', 'dynamodb:GetItem', 'dynamodb:PutItem', 'dynamodb:Query', 'dynamodb:UpdateItem'],
    [requests.tableArn],
  );
}

function alerts(topic?: sns.ITopic): iam.PolicyStatement[] {
  const key = topic && keyOf(topic);
  return [
    ...(topic ? [allow('Alerts', ['sns:Publish'], [topic.topicArn])] : []),
    ...(key ? [keyUse(Stack.of(key), key, ['sns'], 'KeyOfAlerts', ['kms:Decrypt', 'kms:GenerateDataKey'])] : []),
  ];
}

/** Under its own name alone: nobody's rule takes such an event for one of another source. */
function announce(stack: Stack): iam.PolicyStatement {
  return new iam.PolicyStatement({
    sid: 'AnnounceVerdicts',
    actions: ['events:PutEvents'],
    resources: [defaultBusArn(stack)],
    // One call brings several events, each with its source, so the key has several values; none comes without one.
    conditions: { 'ForAllValues:StringEquals': { 'events:source': EVENT_SOURCE } },
  });
}

// Without s3:ListBucket a missing object answers AccessDenied, and nobody could tell "gone" from "not allowed".
function largeFacts(findings: s3.Bucket): iam.PolicyStatement[] {
  return [
    allow('LargeFacts', ['s3:GetObject', 's3:PutObject'], [findings.arnForObjects('*')]),
    allow('WhetherTheyAreThere', ['s3:ListBucket'], [findings.bucketArn]),
  ];
}

// The registry's setting belongs to no resource: IAM knows this action only with `*`.
function scanningConfiguration(): iam.PolicyStatement[] {
  return [allow('BasicOrEnhanced', ['ecr:GetRegistryScanningConfiguration'], ['*'])];
}

// Under enhanced scanning ECR reads Inspector's findings in the caller's name, so the caller needs both. Inspector's
// actions have no resource types: IAM knows them only with `*`.
function inspectorFindings(): iam.PolicyStatement[] {
  return [allow('InspectorFindings', ['inspector2:ListCoverage', 'inspector2:ListFindings'], ['*'])];
}
