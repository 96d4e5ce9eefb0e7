// Everything that a pipeline consists of, wired up. An explicit pipeline (ecr-scan-pipeline.ts) and an implicit one
// (implicit-pipeline.ts) differ in whom they listen to and in how long their things live, in nothing else.
import { Duration, RemovalPolicy, Stack, Tokenization } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as s3 from 'aws-cdk-lib/aws-s3';
import * as sns from 'aws-cdk-lib/aws-sns';
import * as sqs from 'aws-cdk-lib/aws-sqs';
import { Construct, Dependable, IConstruct } from 'constructs';
import { findBinaries } from './binaries';
import { admitServices } from './encryption';
import { createFunction, createRole } from './functions';
import { grantsOf } from './grants';
import { DEFAULT_BUS, FUNCTIONS, FunctionKey } from './names';
import { Lanes, createFailures, createLanes, route } from './queues';
import { everyDay, everyMinute } from './schedules';
import { createTables } from './tables';
import { Watched } from './watched';

export interface PartsProps {
  readonly pipelineName: string;
  readonly architecture: lambda.Architecture;
  readonly watched: Watched;
  /** The policy that the pipeline judges by, as the functions read it. */
  readonly policy: string;
  readonly stacksArn: string;
  /** Who hears alerts, besides the topics of the gates. */
  readonly alertTopic?: sns.ITopic;
  /** What is told, as on-scan reads it. */
  readonly alerts: string;
  readonly verdictEvents: boolean;
  /** Whether signatures may be asked for of whomever; else each gate brings what its own signers need. */
  readonly checksAnySignature: boolean;
  /** Whether the daily sweep looks for images in all repositories that are watched, or only at what is deployed. */
  readonly sweepsRegistry: boolean;
  /** How many deployed images are scanned again in a day. */
  readonly dailyRescans: number;
  readonly breakGlassRole?: iam.IRole;
  readonly encryptionKey?: kms.IKey;
  /** Where the functions that answer gates log, instead of a log group of their own each. */
  readonly defaultLogGroup?: logs.ILogGroup;
  readonly removalPolicy: RemovalPolicy;
  readonly bucketRemovalPolicy: RemovalPolicy;
}

/** What else can be watched. */
export interface Parts {
  readonly lanes: Lanes;
  readonly failures: sqs.Queue;
  readonly functions: Record<FunctionKey, lambda.Function>;
}

/** Creates the parts right below `scope`. Whoever depends on `scope` afterwards waits until the pipeline works. */
export function createParts(scope: Construct, props: PartsProps): Parts {
  const stack = Stack.of(scope);
  const binaries = findBinaries(scope, props.architecture);
  if (props.encryptionKey) {
    admitServices(scope, props.encryptionKey, props.pipelineName);
  }

  const roles = forEachFunction((key) => createRole(scope, key, props.pipelineName));
  const tables = createTables(scope, { ...props, writers: Object.values(roles) });
  const lanes = createLanes(scope, props.encryptionKey);
  const failures = createFailures(scope, { ...props, reader: roles['on-scan'] });
  const findings = createFindingsBucket(scope, props);

  const variables = {
    PIPELINE: props.pipelineName,
    VERDICTS_TABLE: tables.verdicts.tableName,
    REQUESTS_TABLE: tables.requests.tableName,
    DEPLOYMENTS_TABLE: tables.deployments.tableName,
    SCAN_QUEUE_URL: lanes.scan.queue.queueUrl,
    FINDINGS_BUCKET: findings.bucketName,
    PIPELINE_POLICY: props.policy,
    ALERTS: props.alerts,
    ALERT_TOPIC_ARN: props.alertTopic?.topicArn,
    EVENT_BUS: props.verdictEvents ? DEFAULT_BUS : undefined,
    SWEEPS: props.sweepsRegistry ? 'registry' : 'deployed',
    DAILY_RESCANS: Tokenization.stringifyNumber(props.dailyRescans),
  };
  // Whoever writes a row writes the pipeline's verdict into it.
  const everyWriter = ['PIPELINE', 'VERDICTS_TABLE', 'SCAN_QUEUE_URL', 'PIPELINE_POLICY'] as const;
  const needed: Record<FunctionKey, readonly (keyof typeof variables)[]> = {
    'on-push': everyWriter,
    'on-scan': [...everyWriter, 'REQUESTS_TABLE', 'DEPLOYMENTS_TABLE', 'FINDINGS_BUCKET', 'ALERTS', 'ALERT_TOPIC_ARN', 'EVENT_BUS'],
    // These two tell nobody themselves; they only have to know that somebody is to be told of what they decide.
    'on-deploy': [...everyWriter, 'REQUESTS_TABLE', 'DEPLOYMENTS_TABLE', 'FINDINGS_BUCKET', 'ALERT_TOPIC_ARN'],
    'on-sweep': [...everyWriter, 'REQUESTS_TABLE', 'DEPLOYMENTS_TABLE', 'SWEEPS', 'DAILY_RESCANS', 'ALERT_TOPIC_ARN'],
  };

  const functions = forEachFunction((key) => {
    const role = roles[key];
    const things = { ...props, tables, lanes, failures, findings };
    grantsOf(stack, key, things).forEach((statement) => role.addToPolicy(statement));
    return createFunction(scope, key, {
      ...props,
      binaries: binaries[key],
      role,
      environment: Object.fromEntries(needed[key].map((name) => [name, variables[name]])),
      logGroup: key === 'on-deploy' || key === 'on-scan' ? props.defaultLogGroup : undefined,
      failures: key === 'on-deploy' ? failures : undefined,
    });
  });

  const mapping = (id: string, from: sqs.Queue, to: FunctionKey, own: Partial<lambda.EventSourceMappingOptions>): IConstruct =>
    new lambda.EventSourceMapping(scope, id, {
      eventSourceArn: from.queueArn,
      target: functions[to],
      reportBatchItemFailures: true, // one bad message does not take nine good ones along
      ...own,
    });
  const mappings = [
    mapping('PushesToOnPush', lanes.push.queue, 'on-push', { batchSize: 10 }),
    mapping('ScansToOnScan', lanes.scan.queue, 'on-scan', { batchSize: 10 }),
    // A first scan may send hundreds of findings for one image: gather them, and look at the image once.
    mapping('FindingsToOnScan', lanes.findings.queue, 'on-scan', {
      batchSize: 1000,
      maxBatchingWindow: Duration.seconds(20),
      maxConcurrency: 2,
    }),
    // Each is a deployment that waits: none shares its two minutes with another.
    mapping('FailuresToOnScan', failures, 'on-scan', { batchSize: 1 }),
  ];

  const { ecrDetail, inspectorScanDetail, findingResources } = props.watched;
  const rules = [
    route(
      scope,
      'Pushes',
      'Images and their artifacts: pushed, replicated, deleted, archived',
      {
        source: ['aws.ecr'],
        // Under which of the first three a signature is announced is nowhere promised; on-push tells them apart.
        'detail-type': ['ECR Image Action', 'ECR Artifact Action', 'ECR Referrer Action', 'ECR Replication Action'],
        detail: ecrDetail,
      },
      lanes.push,
    ),
    route(
      scope,
      'BasicScans',
      'Basic scans that ended',
      { source: ['aws.ecr'], 'detail-type': ['ECR Image Scan'], detail: ecrDetail },
      lanes.scan,
    ),
    route(
      scope,
      'EnhancedScans',
      'First enhanced scans that ended',
      { source: ['aws.inspector2'], 'detail-type': ['Inspector2 Scan'], detail: inspectorScanDetail },
      lanes.scan,
    ),
    route(
      scope,
      'Coverage',
      'Images that Inspector covers, or no longer covers',
      // Where these events name an image is not documented, so all of them come in; on-scan sorts them out.
      { source: ['aws.inspector2'], 'detail-type': ['Inspector2 Coverage'] },
      lanes.scan,
    ),
    route(
      scope,
      'Findings',
      'Findings on images: new, changed, closed, suppressed',
      { source: ['aws.inspector2'], 'detail-type': ['Inspector2 Finding'], resources: findingResources },
      lanes.findings,
    ),
  ];
  const schedules = [everyMinute, everyDay].map((schedule) => schedule(scope, functions['on-sweep']));

  // A gate must not ask before events can arrive, or the news that it waits for would be lost; nor before somebody ends
  // the waits whose news is lost anyway. A function brings along its EventInvokeConfig and the permission to call it.
  const queues = [...Object.values(lanes).flatMap((lane) => [lane.queue, lane.deadLetters]), failures];
  const complete = [functions['on-deploy'], functions['on-sweep'], ...mappings, ...rules, ...schedules, ...queues];
  Dependable.implement(scope, { dependencyRoots: complete });
  return { lanes, failures, functions };
}

function createFindingsBucket(scope: Construct, props: PartsProps): s3.Bucket {
  const encryption = props.encryptionKey
    ? { encryption: s3.BucketEncryption.KMS, encryptionKey: props.encryptionKey, bucketKeyEnabled: true }
    : { encryption: s3.BucketEncryption.S3_MANAGED };
  return new s3.Bucket(scope, 'FindingsBucket', {
    ...encryption,
    blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
    objectOwnership: s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
    enforceSSL: true,
    // No expiry by age: the facts of an image that still runs may be as old as its deployment.
    lifecycleRules: [
      { id: 'UploadsLeftUnfinished', abortIncompleteMultipartUploadAfter: Duration.days(1) },
      // What was read of a list until the time was up; the rest is read within minutes.
      { id: 'ReadingsThatWentOn', prefix: 'begun/', expiration: Duration.days(1) },
    ],
    removalPolicy: props.bucketRemovalPolicy,
  });
}

function forEachFunction<T>(make: (key: FunctionKey) => T): Record<FunctionKey, T> {
  return Object.fromEntries(FUNCTIONS.map((key) => [key, make(key)])) as Record<FunctionKey, T>;
}
