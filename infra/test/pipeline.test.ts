import * as assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { App, Duration, RemovalPolicy, Stack, Token } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as sns from 'aws-cdk-lib/aws-sns';
import { AlertOn, EcrScanPipeline, EcrScanPipelineProps, Severity } from '../src';
import { ACCOUNT, HOME, REGION, Resource, binaries, find, findAll, newApp, newStack, permissions, resources, warnings } from './support';

function pipelineIn(stack: Stack, own: Partial<EcrScanPipelineProps> = {}): Stack {
  new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'demo', ...own });
  return stack;
}

/** The resources of one pipeline, made once for each choice of props. */
function parts(own: Partial<EcrScanPipelineProps> = {}): Resource[] {
  return resources(pipelineIn(newStack(), own));
}

const plainPipeline = parts();

const ON_SWEEP = `arn:aws:lambda:${REGION}:${ACCOUNT}:function:ecr-scan-verifier-demo-on-sweep`;
const UNDER_ITS_NAME = '{"ForAllValues:StringEquals":{"events:source":"ecr-scan-verifier"}}';
const PUT_EVENTS = `Allow events:PutEvents on arn:aws:events:${REGION}:${ACCOUNT}:event-bus/default when ${UNDER_ITS_NAME}`;

describe('the name', () => {
  for (const name of ['a', 'demo', 'team-1', '-', 'x'.repeat(32)]) {
    test(`'${name}' is a name`, () => {
      assert.doesNotThrow(() => parts({ pipelineName: name }));
    });
  }

  for (const name of ['', 'Demo', 'a_b', 'a.b', 'x'.repeat(33), 'ä']) {
    test(`'${name}' is refused, and the text says what a name is made of`, () => {
      assert.throws(() => parts({ pipelineName: name }), {
        message: `pipelineName must be 1 to 32 characters out of a-z, 0-9 and '-', got '${name}'.`,
      });
      assert.throws(() => EcrScanPipeline.fromName(newStack(), 'Pipeline', name), /pipelineName must be/);
    });
  }

  test('a name that is only known at deployment is refused', () => {
    const later = Token.asString({ Ref: 'Name' });
    assert.throws(() => parts({ pipelineName: later }), /pipelineName must be known when the app is synthesized/);
  });

  test('is all that another stack needs', () => {
    const here = new EcrScanPipeline(newStack(), 'Pipeline', { pipelineName: 'demo' });
    const stack = newStack();
    const there = EcrScanPipeline.fromName(stack, 'Pipeline', 'demo');
    assert.equal(there.pipelineName, 'demo');
    assert.match(there.onDeployFunctionArn, new RegExp(`:lambda:${REGION}:${ACCOUNT}:function:ecr-scan-verifier-demo-on-deploy$`));
    assert.equal(stack.resolve(there.onDeployFunctionArn)['Fn::Join'][1].length, 3, 'a text, but for the partition');
    assert.deepEqual(Stack.of(here).resolve(here.onDeployFunctionArn), stack.resolve(there.onDeployFunctionArn));
    assert.deepEqual(resources(stack), [], 'and the import makes nothing');
  });
});

describe('the policy', () => {
  const policyOf = (from: Resource[], name: string): unknown =>
    find(from, 'AWS::Lambda::Function', name).Properties.Environment.Variables.PIPELINE_POLICY;

  for (const [what, props, text] of [
    ['nothing said', {}, '{"severity":["CRITICAL"]}'],
    ['a list', { severity: [Severity.HIGH, Severity.CRITICAL, Severity.HIGH] }, '{"severity":["CRITICAL","HIGH"]}'],
    ['a threshold', { severityThreshold: Severity.MEDIUM }, '{"severityThreshold":"MEDIUM"}'],
    [
      'ignored findings',
      { severityThreshold: Severity.HIGH, ignoreFindings: ['CVE-2', 'CVE-1', 'CVE-2'] },
      '{"ignoreFindings":["CVE-1","CVE-2"],"severityThreshold":"HIGH"}',
    ],
    ['an empty list of ignored findings', { ignoreFindings: [] }, '{"severity":["CRITICAL"]}'],
  ] as [string, Partial<EcrScanPipelineProps>, string][]) {
    test(`${what}: the functions that judge read ${text}`, () => {
      const from = parts(props);
      for (const writer of ['OnPush', 'OnScan', 'OnDeploy']) {
        assert.equal(policyOf(from, writer), text, writer);
      }
    });
  }

  test('severity and severityThreshold together are refused', () => {
    assert.throws(
      () => parts({ severity: [Severity.HIGH], severityThreshold: Severity.HIGH }),
      /Give either 'severity' or 'severityThreshold', not both/,
    );
  });

  test('an empty list of severities is refused', () => {
    assert.throws(() => parts({ severity: [] }), /severity must contain at least one severity/);
  });

  for (const unrated of [Severity.UNDEFINED, Severity.UNTRIAGED]) {
    test(`${unrated} is no threshold`, () => {
      assert.throws(() => parts({ severityThreshold: unrated }), /severityThreshold must be one of INFORMATIONAL, LOW, MEDIUM, HIGH, CRITICAL/);
    });
  }

  test('a list of ignored findings that fits into the environment is accepted, a longer one refused', () => {
    const cves = (count: number): string[] => Array.from({ length: count }, (_, n) => `CVE-2024-${10_000 + n}`);
    assert.doesNotThrow(() => parts({ ignoreFindings: cves(150) }));
    assert.throws(() => parts({ ignoreFindings: cves(200) }), /policy takes \d+ bytes, and a function's environment has room for 3000/);
  });

  test('a list with a gap raises a warning, one without does not', () => {
    const warned = (severity: Severity[]): string[] => warnings(pipelineIn(newStack(), { severity }));
    assert.match(warned([Severity.HIGH]).join(), /severityNotUpwardClosed/);
    assert.deepEqual(warned([Severity.HIGH, Severity.CRITICAL]), []);
  });
});

describe('the tables', () => {
  const table = (name: string): any => find(plainPipeline, 'AWS::DynamoDB::Table', name).Properties;
  const keys = (of: any): string[] => of.KeySchema.map((key: any) => `${key.KeyType} ${key.AttributeName}`);
  const types = (of: any): object =>
    Object.fromEntries(of.AttributeDefinitions.map((a: any) => [a.AttributeName, a.AttributeType]));

  const shape = (index: any): unknown[] => [index.IndexName, ...keys(index), index.Projection];

  test('Verdicts: by digest and item', () => {
    assert.equal(table('Verdicts').TableName, 'ecr-scan-verifier-demo-verdicts');
    assert.deepEqual(keys(table('Verdicts')), ['HASH digest', 'RANGE item']);
    assert.deepEqual(types(table('Verdicts')), { digest: 'S', item: 'S', repository: 'S' });
  });

  test('Verdicts: the heads of a repository, by their keys alone', () => {
    assert.deepEqual(table('Verdicts').GlobalSecondaryIndexes.map(shape), [
      ['heads-by-repository', 'HASH repository', 'RANGE digest', { ProjectionType: 'KEYS_ONLY' }],
    ]);
  });

  test('Requests: by key and sort, and the open ones by due, without anything secret', () => {
    assert.equal(table('Requests').TableName, 'ecr-scan-verifier-demo-requests');
    assert.deepEqual(keys(table('Requests')), ['HASH key', 'RANGE sort']);
    assert.deepEqual(types(table('Requests')), { key: 'S', sort: 'S', open: 'S', due: 'N' });
    const [index, ...others] = table('Requests').GlobalSecondaryIndexes;
    assert.deepEqual(others, []);
    assert.equal(index.IndexName, 'open-by-due');
    assert.deepEqual(keys(index), ['HASH open', 'RANGE due']);
    assert.deepEqual(index.Projection, {
      ProjectionType: 'INCLUDE',
      NonKeyAttributes: ['digest', 'repository', 'stack', 'logical_id', 'since', 'state', 'lease_until', 'request_id', 'image'],
    });
  });

  test('Deployments: by stack and row, and by what people and alerts ask for', () => {
    assert.equal(table('Deployments').TableName, 'ecr-scan-verifier-demo-deployments');
    assert.deepEqual(keys(table('Deployments')), ['HASH stack', 'RANGE row']);
    assert.deepEqual(types(table('Deployments')), {
      ...{ stack: 'S', row: 'S' },
      ...{ digest: 'S', live: 'S', decided_digest: 'S', stack_name: 'S' },
    });
    const everything = { ProjectionType: 'ALL' };
    assert.deepEqual(table('Deployments').GlobalSecondaryIndexes.map(shape), [
      ['by-digest', 'HASH digest', 'RANGE stack', everything],
      ['live', 'HASH live', 'RANGE digest', everything],
      ['decisions-by-digest', 'HASH decided_digest', 'RANGE row', everything],
      ['decisions-by-stack', 'HASH stack_name', 'RANGE row', everything],
    ]);
  });

  test('are on demand, encrypted and expire by ttl', () => {
    for (const { Properties } of findAll(plainPipeline, 'AWS::DynamoDB::Table')) {
      assert.equal(Properties.BillingMode, 'PAY_PER_REQUEST');
      assert.deepEqual(Properties.SSESpecification, { SSEEnabled: true });
      assert.deepEqual(Properties.TimeToLiveSpecification, { AttributeName: 'ttl', Enabled: true });
    }
  });

  test('can be restored, but for Requests, which holds secrets for an hour', () => {
    const restorable = { PointInTimeRecoveryEnabled: true };
    assert.deepEqual(table('Verdicts').PointInTimeRecoverySpecification, restorable);
    assert.deepEqual(table('Deployments').PointInTimeRecoverySpecification, restorable);
    assert.equal(table('Requests').PointInTimeRecoverySpecification, undefined);
  });

  test('Verdicts is written by nobody but the four functions', () => {
    const [deny, ...others] = table('Verdicts').ResourcePolicy.PolicyDocument.Statement;
    assert.deepEqual(others, []);
    assert.equal(deny.Effect, 'Deny');
    assert.deepEqual(deny.Principal, { AWS: '*' });
    assert.equal(deny.Resource, `arn:aws:dynamodb:${REGION}:${ACCOUNT}:table/ecr-scan-verifier-demo-verdicts`);
    assert.deepEqual(deny.Action, [
      'dynamodb:BatchWriteItem',
      'dynamodb:DeleteItem',
      'dynamodb:PartiQLDelete',
      'dynamodb:PartiQLInsert',
      'dynamodb:PartiQLUpdate',
      'dynamodb:PutItem',
      'dynamodb:UpdateItem',
    ]);
    assert.deepEqual(deny.Condition, {
      ArnNotEquals: {
        'aws:PrincipalArn': ['OnPush', 'OnScan', 'OnDeploy', 'OnSweep'].map((name) => `{Pipeline${name}Role.Arn}`),
      },
    });
    assert.equal(table('Requests').ResourcePolicy, undefined);
  });
});

describe('the functions', () => {
  for (const [id, name, timeout, memory] of [
    ['OnPush', 'on-push', 60, 256],
    ['OnScan', 'on-scan', 120, 512],
    ['OnDeploy', 'on-deploy', 60, 256],
    ['OnSweep', 'on-sweep', 60, 256],
  ] as const) {
    test(`${name}: ${timeout} s, ${memory} MB, a binary`, () => {
      const { Properties } = find(plainPipeline, 'AWS::Lambda::Function', id);
      assert.equal(Properties.FunctionName, `ecr-scan-verifier-demo-${name}`);
      assert.equal(Properties.Timeout, timeout);
      assert.equal(Properties.MemorySize, memory);
      assert.equal(Properties.Runtime, 'provided.al2023');
      assert.equal(Properties.Handler, 'bootstrap');
      assert.deepEqual(Properties.Architectures, ['arm64']);
      assert.match(Properties.Code.S3Key, /\.zip$/);
      assert.equal(Properties.PackageType, undefined);
      assert.equal(Properties.ReservedConcurrentExecutions, undefined);
    });

    test(`${name}: its log group has an end, and it may only write to it`, () => {
      const group = find(plainPipeline, 'AWS::Logs::LogGroup', `${id}Logs`);
      assert.equal(group.Properties.LogGroupName, `/aws/lambda/ecr-scan-verifier-demo-${name}`);
      assert.equal(group.Properties.RetentionInDays, 30);
      assert.deepEqual(find(plainPipeline, 'AWS::Lambda::Function', id).Properties.LoggingConfig, { LogGroup: `{${group.id}}` });
      assert.deepEqual(permissions(plainPipeline, id).filter((line) => line.includes('logs:')), [
        `Allow logs:CreateLogStream on {${group.id}.Arn}`,
        `Allow logs:PutLogEvents on {${group.id}.Arn}`,
      ]);
    });
  }

  test('are four, and nothing else runs', () => {
    assert.equal(findAll(plainPipeline, 'AWS::Lambda::Function').length, 4);
    const custom = plainPipeline.filter((r) => r.Type.startsWith('Custom::'));
    assert.deepEqual(custom.map((r) => r.Properties.ServiceToken), [ON_SWEEP], 'what is asked is one of the four');
  });

  test('only on-scan, which sends to its own queue, is free of the loop limit', () => {
    const free = findAll(plainPipeline, 'AWS::Lambda::Function').filter((f) => f.Properties.RecursiveLoop === 'Allow');
    assert.deepEqual(free.map((f) => f.Properties.FunctionName), ['ecr-scan-verifier-demo-on-scan']);
  });

  test('on-deploy is tried three times in all, for as long as CloudFormation may wait; then the request is kept', () => {
    const { Properties } = find(plainPipeline, 'AWS::Lambda::EventInvokeConfig', /OnDeploy/);
    assert.deepEqual(Properties, {
      FunctionName: '{PipelineOnDeploy}',
      Qualifier: '$LATEST',
      MaximumRetryAttempts: 2,
      MaximumEventAgeInSeconds: 3600,
      DestinationConfig: { OnFailure: { Destination: '{PipelineOnDeployFailures.Arn}' } },
    });
  });

  test('on-sweep is tried three times in all, for as long as a stack waits for its answer', () => {
    const { Properties } = find(plainPipeline, 'AWS::Lambda::EventInvokeConfig', /OnSweep/);
    assert.deepEqual(Properties, {
      FunctionName: '{PipelineOnSweep}',
      Qualifier: '$LATEST',
      MaximumRetryAttempts: 2,
      MaximumEventAgeInSeconds: 300,
    });
    assert.equal(find(plainPipeline, 'Custom::EcrScanVerifierBackfill').Properties.ServiceTimeout, '300');
  });

  test('what a queue feeds says by itself what comes back, so the other two have no such setting', () => {
    assert.equal(findAll(plainPipeline, 'AWS::Lambda::EventInvokeConfig').length, 2);
  });

  test('get each what they need to know, and no more', () => {
    const known = {
      PIPELINE: 'demo',
      VERDICTS_TABLE: '{PipelineVerdicts}',
      REQUESTS_TABLE: '{PipelineRequests}',
      DEPLOYMENTS_TABLE: '{PipelineDeployments}',
      SCAN_QUEUE_URL: '{PipelineScanQueue}',
      FINDINGS_BUCKET: '{PipelineFindingsBucket}',
      PIPELINE_POLICY: '{"severity":["CRITICAL"]}',
    };
    const { FINDINGS_BUCKET, REQUESTS_TABLE, DEPLOYMENTS_TABLE, ...everyWriter } = known;
    for (const [id, variables] of Object.entries({
      OnPush: everyWriter,
      OnScan: { ...known, ALERTS: '{"on":"DEPLOYED","warnDays":7}', EVENT_BUS: 'default' },
      OnDeploy: known,
      OnSweep: { ...everyWriter, REQUESTS_TABLE, DEPLOYMENTS_TABLE, SWEEPS: 'registry', DAILY_RESCANS: '500' },
    })) {
      assert.deepEqual(find(plainPipeline, 'AWS::Lambda::Function', id).Properties.Environment.Variables, variables, id);
    }
  });
});

/** What a function may do with a key of our own things. That of a signer is only read. */
function withKey(from: Resource[], id: string): string[] {
  return permissions(from, id).filter((line) => line.startsWith('Allow kms:') && !line.startsWith('Allow kms:GetPublicKey '));
}

describe('what the functions may do', () => {
  const anyImage = `arn:aws:ecr:${REGION}:${ACCOUNT}:repository/*`;
  const expected: Record<string, string[]> = {
    OnPush: [
      ...consuming('{PipelinePushQueue.Arn}'),
      'Allow dynamodb:GetItem on {PipelineVerdicts.Arn}',
      'Allow dynamodb:PutItem on {PipelineVerdicts.Arn}',
      `Allow ecr:BatchGetImage on ${anyImage}`,
      `Allow ecr:BatchGetRepositoryScanningConfiguration on ${anyImage}`,
      'Allow ecr:GetRegistryScanningConfiguration on *',
      `Allow ecr:StartImageScan on ${anyImage}`,
      'Allow sqs:SendMessage on {PipelineScanQueue.Arn}',
    ],
    OnScan: [
      ...consuming('{PipelineScanQueue.Arn}', '{PipelineFindingsQueue.Arn}', '{PipelineOnDeployFailures.Arn}'),
      ...['BatchGetItem', 'ConditionCheckItem', 'GetItem', 'PutItem', 'UpdateItem'].map((call) => `Allow dynamodb:${call} on {PipelineVerdicts.Arn}`),
      ...['DeleteItem', 'GetItem', 'PutItem', 'Query', 'UpdateItem'].map((call) => `Allow dynamodb:${call} on {PipelineRequests.Arn}`),
      ...['GetItem', 'PutItem', 'Query', 'UpdateItem'].map((call) => `Allow dynamodb:${call} on {PipelineDeployments.Arn}`),
      'Allow dynamodb:Query on {PipelineDeployments.Arn}/index/by-digest',
      PUT_EVENTS,
      `Allow ecr:BatchGetImage on ${anyImage}`,
      `Allow ecr:BatchGetRepositoryScanningConfiguration on ${anyImage}`,
      `Allow ecr:DescribeImageScanFindings on ${anyImage}`,
      `Allow ecr:DescribeImages on ${anyImage}`,
      'Allow ecr:GetRegistryScanningConfiguration on *',
      `Allow ecr:StartImageScan on ${anyImage}`,
      'Allow inspector2:ListCoverage on *',
      'Allow inspector2:ListFindings on *',
      `Allow ecr:GetDownloadUrlForLayer on ${anyImage}`,
      'Allow kms:GetPublicKey on arn:aws:kms:*:*:key/*',
      'Allow signer:GetRevocationStatus on *',
      'Allow s3:GetObject on {PipelineFindingsBucket.Arn}/*',
      'Allow s3:ListBucket on {PipelineFindingsBucket.Arn}',
      'Allow s3:PutObject on {PipelineFindingsBucket.Arn}/*',
      'Allow sqs:SendMessage on {PipelineScanQueue.Arn}',
      `Allow sts:AssumeRole on arn:aws:iam::${ACCOUNT}:role/ecr-scan-verifier/*`,
    ],
    OnDeploy: [
      `Allow cloudformation:DescribeStacks on arn:aws:cloudformation:${REGION}:${ACCOUNT}:stack/*`,
      'Allow dynamodb:BatchGetItem on {PipelineVerdicts.Arn}',
      ...['GetItem', 'PutItem', 'UpdateItem'].map((call) => `Allow dynamodb:${call} on {PipelineVerdicts.Arn}`),
      ...['DeleteItem', 'GetItem', 'PutItem', 'Query', 'UpdateItem'].map((call) => `Allow dynamodb:${call} on {PipelineRequests.Arn}`),
      ...['GetItem', 'PutItem', 'Query', 'UpdateItem'].map((call) => `Allow dynamodb:${call} on {PipelineDeployments.Arn}`),
      `Allow ecr:BatchGetImage on ${anyImage}`,
      `Allow ecr:DescribeImageScanFindings on ${anyImage}`,
      'Allow ecr:GetRegistryScanningConfiguration on *',
      'Allow inspector2:ListCoverage on *',
      'Allow inspector2:ListFindings on *',
      `Allow ecr:GetDownloadUrlForLayer on ${anyImage}`,
      'Allow kms:GetPublicKey on arn:aws:kms:*:*:key/*',
      'Allow signer:GetRevocationStatus on *',
      'Allow s3:GetObject on {PipelineFindingsBucket.Arn}/*',
      'Allow s3:ListBucket on {PipelineFindingsBucket.Arn}',
      'Allow s3:PutObject on {PipelineFindingsBucket.Arn}/*',
      'Allow sqs:SendMessage on {PipelineOnDeployFailures.Arn}',
      'Allow sqs:SendMessage on {PipelineScanQueue.Arn}',
    ],
    OnSweep: [
      ...['DescribeStackResource', 'DescribeStacks'].map(
        (call) => `Allow cloudformation:${call} on arn:aws:cloudformation:${REGION}:${ACCOUNT}:stack/*`,
      ),
      ...['DeleteItem', 'GetItem', 'PutItem', 'UpdateItem'].map((call) => `Allow dynamodb:${call} on {PipelineRequests.Arn}`),
      ...['GetItem', 'PutItem', 'Query', 'UpdateItem'].map((call) => `Allow dynamodb:${call} on {PipelineDeployments.Arn}`),
      ...['BatchGetItem', 'GetItem', 'PutItem', 'UpdateItem'].map((call) => `Allow dynamodb:${call} on {PipelineVerdicts.Arn}`),
      'Allow dynamodb:Query on {PipelineDeployments.Arn}/index/live',
      'Allow dynamodb:Query on {PipelineRequests.Arn}/index/open-by-due',
      'Allow dynamodb:Query on {PipelineVerdicts.Arn}/index/heads-by-repository',
      ...['BatchGetImage', 'BatchGetRepositoryScanningConfiguration', 'DescribeImages', 'DescribeRepositories', 'StartImageScan'].map(
        (call) => `Allow ecr:${call} on ${anyImage}`,
      ),
      'Allow ecr:GetRegistryScanningConfiguration on *',
      'Allow sqs:SendMessage on {PipelineScanQueue.Arn}',
    ],
  };

  for (const [id, lines] of Object.entries(expected)) {
    test(`${id}: exactly this`, () => {
      const logs = ['CreateLogStream', 'PutLogEvents'].map((call) => `Allow logs:${call} on {Pipeline${id}Logs.Arn}`);
      assert.deepEqual(permissions(plainPipeline, id), [...lines, ...logs].sort());
    });

    test(`${id}: through its own role alone, without managed policies`, () => {
      const role = find(plainPipeline, 'AWS::IAM::Role', `${id}Role`);
      assert.equal(role.Properties.ManagedPolicyArns, undefined);
      assert.equal(role.Properties.Policies, undefined);
      assert.equal(find(plainPipeline, 'AWS::Lambda::Function', id).Properties.Role, `{${role.id}.Arn}`);
    });
  }

  test('only the role that others have to name has a name, which is no longer than IAM takes', () => {
    const named = findAll(plainPipeline, 'AWS::IAM::Role').filter((role) => role.Properties.RoleName !== undefined);
    assert.deepEqual(named.map((role) => [role.id, role.Properties.RoleName]), [['PipelineOnScanRole', `ecr-on-scan-demo-${REGION}`]]);
    assert.equal(named[0]!.Properties.Path, undefined);
    const [longest] = findAll(parts({ pipelineName: 'x'.repeat(32) }), 'AWS::IAM::Role').flatMap((role) => role.Properties.RoleName ?? []);
    assert.ok(longest.length - REGION.length + 'us-isof-south-1'.length <= 64);
  });

  test('who may read an object may also learn that it is not there', () => {
    for (const id of Object.keys(expected)) {
      const may = (call: string): boolean => permissions(plainPipeline, id).some((line) => line.startsWith(`Allow s3:${call} `));
      assert.equal(may('ListBucket'), may('GetObject'), id);
    }
  });

  function consuming(...queues: string[]): string[] {
    const calls = ['ChangeMessageVisibility', 'DeleteMessage', 'GetQueueAttributes', 'ReceiveMessage'];
    return queues.flatMap((queue) => calls.map((call) => `Allow sqs:${call} on ${queue}`));
  }
});

describe('the queues', () => {
  for (const [lane, visibility] of [['Push', 90], ['Scan', 150], ['Findings', 150]] as const) {
    test(`${lane}: hidden for ${visibility} s, eight tries, then 14 days beside the others`, () => {
      const queue = find(plainPipeline, 'AWS::SQS::Queue', `${lane}Queue`);
      const deadLetters = find(plainPipeline, 'AWS::SQS::Queue', `${lane}DeadLetters`);
      assert.equal(queue.Properties.VisibilityTimeout, visibility);
      assert.deepEqual(queue.Properties.RedrivePolicy, { deadLetterTargetArn: `{${deadLetters.id}.Arn}`, maxReceiveCount: 8 });
      assert.equal(deadLetters.Properties.MessageRetentionPeriod, 14 * 24 * 3600);
      assert.equal(queue.Properties.SqsManagedSseEnabled, true);
      assert.equal(deadLetters.Properties.SqsManagedSseEnabled, true);
    });
  }

  test('take events from their own rules alone, and nothing without TLS', () => {
    for (const [queue, rules] of Object.entries({
      Push: ['Pushes'],
      Scan: ['BasicScans', 'EnhancedScans', 'Coverage'],
      Findings: ['Findings'],
    })) {
      for (const id of [`Pipeline${queue}Queue`, `Pipeline${queue}DeadLetters`]) {
        const policy = find(plainPipeline, 'AWS::SQS::QueuePolicy', `${id}Policy`);
        assert.deepEqual(policy.Properties.Queues, [`{${id}}`]);
        const [tls, ...events] = policy.Properties.PolicyDocument.Statement;
        assert.deepEqual([tls.Effect, tls.Action, tls.Condition], ['Deny', 'sqs:*', { Bool: { 'aws:SecureTransport': 'false' } }]);
        assert.deepEqual(
          events.map(({ Sid, ...statement }: any) => statement),
          rules.map((rule) => ({
            Effect: 'Allow',
            Principal: { Service: 'events.amazonaws.com' },
            Action: 'sqs:SendMessage',
            Resource: `{${id}.Arn}`,
            Condition: { ArnEquals: { 'aws:SourceArn': `{Pipeline${rule}.Arn}` } },
          })),
        );
      }
    }
  });

  describe('of on-deploy\'s failures', () => {
    const failures = find(plainPipeline, 'AWS::SQS::Queue', 'OnDeployFailures');

    test('hides a request for 150 s, keeps it for two hours, and has no second place for it', () => {
      assert.deepEqual(failures.Properties, { VisibilityTimeout: 150, MessageRetentionPeriod: 7200, SqsManagedSseEnabled: true });
      assert.equal(failures.DeletionPolicy, 'Delete');
    });

    test('gives to on-scan, and to nobody else', () => {
      const policy = find(plainPipeline, 'AWS::SQS::QueuePolicy', 'OnDeployFailuresPolicy');
      assert.deepEqual(policy.Properties.Queues, [`{${failures.id}}`]);
      const [tls, ...rest] = policy.Properties.PolicyDocument.Statement;
      assert.deepEqual([tls.Effect, tls.Action, tls.Condition], ['Deny', 'sqs:*', { Bool: { 'aws:SecureTransport': 'false' } }]);
      const deniedToAllBut = (sid: string, action: string, role: string): object => ({
        Sid: sid,
        Effect: 'Deny',
        Principal: { AWS: '*' },
        Action: action,
        Resource: `{${failures.id}.Arn}`,
        Condition: { ArnNotEquals: { 'aws:PrincipalArn': `{${role}.Arn}` } },
      });
      assert.deepEqual(rest, [
        deniedToAllBut('OnlyOnScanReads', 'sqs:ReceiveMessage', 'PipelineOnScanRole'),
      ]);
    });

    test('is named by no role but these two', () => {
      const named = ['OnPush', 'OnScan', 'OnDeploy', 'OnSweep'].filter((id) =>
        permissions(plainPipeline, id).some((line) => line.includes(failures.id)),
      );
      assert.deepEqual(named, ['OnScan', 'OnDeploy']);
    });

    test('hears of no rule', () => {
      for (const { Properties } of findAll(plainPipeline, 'AWS::Events::Rule')) {
        assert.doesNotMatch(JSON.stringify(Properties.Targets), /OnDeployFailures/);
      }
    });
  });

  for (const [id, queue, target, own] of [
    ['PushesToOnPush', 'PushQueue', 'OnPush', { BatchSize: 10 }],
    ['ScansToOnScan', 'ScanQueue', 'OnScan', { BatchSize: 10 }],
    [
      'FindingsToOnScan',
      'FindingsQueue',
      'OnScan',
      { BatchSize: 1000, MaximumBatchingWindowInSeconds: 20, ScalingConfig: { MaximumConcurrency: 2 } },
    ],
    ['FailuresToOnScan', 'OnDeployFailures', 'OnScan', { BatchSize: 1 }],
  ] as const) {
    test(`${id}: a failed record comes back alone`, () => {
      assert.deepEqual(find(plainPipeline, 'AWS::Lambda::EventSourceMapping', id).Properties, {
        EventSourceArn: `{Pipeline${queue}.Arn}`,
        FunctionName: `{Pipeline${target}}`,
        FunctionResponseTypes: ['ReportBatchItemFailures'],
        ...own,
      });
    });
  }
});

describe('the rules', () => {
  const repository = `arn:aws:ecr:${REGION}:${ACCOUNT}:repository/payments-api`;
  const image = `${repository}/sha256:${'4f0c'.repeat(16)}`;

  for (const [what, event, queue] of [
    ['a push', { source: 'aws.ecr', 'detail-type': 'ECR Image Action', resources: [], detail: { 'repository-name': 'payments-api' } }, 'Push'],
    ['an artifact', { source: 'aws.ecr', 'detail-type': 'ECR Artifact Action' }, 'Push'],
    ['a referrer', { source: 'aws.ecr', 'detail-type': 'ECR Referrer Action' }, 'Push'],
    ['a replica', { source: 'aws.ecr', 'detail-type': 'ECR Replication Action' }, 'Push'],
    ['a basic scan', { source: 'aws.ecr', 'detail-type': 'ECR Image Scan', resources: [repository] }, 'Scan'],
    ['an enhanced scan', { source: 'aws.inspector2', 'detail-type': 'Inspector2 Scan', detail: { 'repository-name': repository } }, 'Scan'],
    ['an instance scan', { source: 'aws.inspector2', 'detail-type': 'Inspector2 Scan', detail: { 'instance-id': 'i-1' } }, undefined],
    ['coverage', { source: 'aws.inspector2', 'detail-type': 'Inspector2 Coverage', resources: ['anything'] }, 'Scan'],
    ['a finding on an image', { source: 'aws.inspector2', 'detail-type': 'Inspector2 Finding', resources: [image] }, 'Findings'],
    ['a finding on an instance', { source: 'aws.inspector2', 'detail-type': 'Inspector2 Finding', resources: ['i-1'] }, undefined],
    ['a scan setting', { source: 'aws.ecr', 'detail-type': 'ECR Scan Resource Change' }, undefined],
    ['somebody else', { source: 'com.example', 'detail-type': 'ECR Image Scan' }, undefined],
  ] as [string, object, string | undefined][]) {
    test(`${what} goes to ${queue ? `the ${queue} queue` : 'no queue'}`, () => {
      assert.deepEqual(queuesThatHearOf(plainPipeline, event), queue ? [`{Pipeline${queue}Queue.Arn}`] : []);
    });
  }

  test('keep trying for a day, and leave what cannot be delivered beside what could not be handled', () => {
    const rules = findAll(plainPipeline, 'AWS::Events::Rule').filter((rule) => rule.Properties.EventPattern);
    assert.equal(rules.length, 5);
    for (const { Properties } of rules) {
      const [target, ...others] = Properties.Targets;
      assert.deepEqual(others, []);
      assert.deepEqual(target.RetryPolicy, { MaximumRetryAttempts: 185, MaximumEventAgeInSeconds: 86_400 });
      assert.equal(target.DeadLetterConfig.Arn, target.Arn.replace('Queue.Arn', 'DeadLetters.Arn'));
    }
  });
});

describe('the clock', () => {
  for (const [what, id, when, kind, attempts, age] of [
    ['every minute, and does not insist', 'EveryMinute', 'rate(1 minute)', 'sweep', 0, 60],
    ['soon after midnight UTC, when exemptions have ended, and insists for an hour', 'EveryDay', 'cron(20 0 * * ? *)', 'daily', 30, 3600],
  ] as const) {
    test(`wakes on-sweep ${what}`, () => {
      const { Description, ...properties } = find(plainPipeline, 'AWS::Events::Rule', id).Properties;
      assert.deepEqual(properties, {
        ScheduleExpression: when,
        Targets: [
          {
            Id: 'OnSweep',
            Arn: '{PipelineOnSweep.Arn}',
            Input: `{"v":1,"kind":"${kind}"}`,
            RetryPolicy: { MaximumRetryAttempts: attempts, MaximumEventAgeInSeconds: age },
          },
        ],
      });
    });
  }

  test('strikes by these two rules alone', () => {
    assert.equal(findAll(plainPipeline, 'AWS::Events::Rule').filter((r) => r.Properties.ScheduleExpression).length, 2);
  });

  test('is all that may call a function, and may call on-sweep alone', () => {
    assert.deepEqual(
      findAll(plainPipeline, 'AWS::Lambda::Permission').map((permission) => permission.Properties),
      ['EveryMinute', 'EveryDay'].map((rule) => ({
        Action: 'lambda:InvokeFunction',
        FunctionName: '{PipelineOnSweep.Arn}',
        Principal: 'events.amazonaws.com',
        SourceArn: `{Pipeline${rule}.Arn}`,
      })),
    );
  });
});

describe('alerts', () => {
  const KEY = `arn:aws:kms:${REGION}:${ACCOUNT}:key/1`;
  const TOPIC = `arn:aws:sns:${REGION}:${ACCOUNT}:alerts`;
  const toldTo = (topic: (stack: Stack) => sns.ITopic, own: Partial<EcrScanPipelineProps> = {}): Resource[] => {
    const stack = newStack();
    return resources(pipelineIn(stack, { alertTopic: topic(stack), ...own }));
  };
  const imported = (stack: Stack): sns.ITopic => sns.Topic.fromTopicArn(stack, 'Alerts', TOPIC);
  const variables = (from: Resource[], id: string): any => find(from, 'AWS::Lambda::Function', id).Properties.Environment.Variables;
  const about = (from: Resource[], id: string, service: string): string[] => permissions(from, id).filter((line) => line.includes(` ${service}:`));

  test('go to the topic: on-scan publishes, who else decides knows that somebody hears', () => {
    const told = toldTo(imported);
    assert.equal(variables(told, 'OnScan').ALERT_TOPIC_ARN, TOPIC);
    assert.equal(variables(told, 'OnDeploy').ALERT_TOPIC_ARN, TOPIC);
    assert.equal(variables(told, 'OnSweep').ALERT_TOPIC_ARN, TOPIC, 'it ends waits, and that is told too');
    assert.deepEqual(about(told, 'OnScan', 'sns'), [`Allow sns:Publish on ${TOPIC}`]);
    for (const id of ['OnPush', 'OnDeploy', 'OnSweep']) {
      assert.deepEqual(about(told, id, 'sns'), [], id);
    }
    assert.equal(variables(told, 'OnPush').ALERT_TOPIC_ARN, undefined);
  });

  test('go nowhere without one, and on-scan may publish nowhere', () => {
    assert.equal(variables(plainPipeline, 'OnScan').ALERT_TOPIC_ARN, undefined);
    assert.deepEqual(about(plainPipeline, 'OnScan', 'sns'), []);
  });

  test("use the topic's own key, through SNS alone, where there is one", () => {
    const encrypted = toldTo((stack) => new sns.Topic(stack, 'Alerts', { masterKey: kms.Key.fromKeyArn(stack, 'Key', KEY) }));
    const condition = JSON.stringify({ StringEquals: { 'kms:ViaService': [`sns.${REGION}.amazonaws.com`] } });
    assert.deepEqual(withKey(encrypted, 'OnScan'), ['Decrypt', 'GenerateDataKey'].map((call) => `Allow kms:${call} on ${KEY} when ${condition}`));
    assert.deepEqual(withKey(encrypted, 'OnDeploy'), []);
    assert.deepEqual(withKey(toldTo(imported), 'OnScan'), []);
  });

  for (const [what, props, text] of [
    ['nothing said', {}, '{"on":"DEPLOYED","warnDays":7}'],
    [
      'everything said',
      { alertOn: AlertOn.NEWEST_OF_TAG, alertSeverity: Severity.HIGH, alertQuietPeriod: Duration.hours(1), exemptionWarning: Duration.days(14) },
      '{"on":"NEWEST_OF_TAG","quietSeconds":3600,"severity":"HIGH","warnDays":14}',
    ],
    ['all images', { alertOn: AlertOn.ALL }, '{"on":"ALL","warnDays":7}'],
    ['the shortest of both', { alertQuietPeriod: Duration.minutes(1), exemptionWarning: Duration.hours(24) }, '{"on":"DEPLOYED","quietSeconds":60,"warnDays":1}'],
    ['the longest of both', { alertQuietPeriod: Duration.days(7), exemptionWarning: Duration.days(90) }, '{"on":"DEPLOYED","quietSeconds":604800,"warnDays":90}'],
  ] as [string, Partial<EcrScanPipelineProps>, string][]) {
    test(`${what}: on-scan reads ${text}, and nobody else does`, () => {
      const told = toldTo(imported, props);
      assert.equal(variables(told, 'OnScan').ALERTS, text);
      for (const id of ['OnPush', 'OnDeploy', 'OnSweep']) {
        assert.equal(variables(told, id).ALERTS, undefined, id);
      }
    });
  }

  for (const [prop, props] of [
    ['alertOn', { alertOn: AlertOn.ALL }],
    ['alertSeverity', { alertSeverity: Severity.HIGH }],
    ['alertQuietPeriod', { alertQuietPeriod: Duration.hours(1) }],
    ['exemptionWarning', { exemptionWarning: Duration.days(2) }],
  ] as [string, Partial<EcrScanPipelineProps>][]) {
    test(`${prop} without a topic is refused`, () => {
      assert.throws(() => parts(props), {
        message: `${prop} does nothing without alertTopic: it is about the alerts that go there. Give alertTopic, or leave it out.`,
      });
    });
  }

  for (const [props, text] of [
    [{ alertOn: 'SOMETIMES' }, /^Error: alertOn must be one of DEPLOYED, NEWEST_OF_TAG, ALL, got 'SOMETIMES'\. Use a member of AlertOn\.$/],
    [{ alertSeverity: Severity.UNTRIAGED }, /^Error: alertSeverity must be one of INFORMATIONAL, LOW, MEDIUM, HIGH, CRITICAL, got 'UNTRIAGED'/],
    [{ alertQuietPeriod: Duration.seconds(59) }, /^Error: alertQuietPeriod must be between 1 minute and 7 days, in whole seconds, got 59 seconds/],
    [{ alertQuietPeriod: Duration.days(8) }, /^Error: alertQuietPeriod must be between .*, got 8 days/],
    [{ alertQuietPeriod: Duration.millis(90_500) }, /^Error: alertQuietPeriod must be .* whole seconds, got 1 minute 30 seconds/],
    [{ exemptionWarning: Duration.hours(36) }, /^Error: exemptionWarning must be between 1 and 90 whole days, got 1 day 12 hours/],
    [{ exemptionWarning: Duration.days(0) }, /^Error: exemptionWarning must be between 1 and 90 whole days, got 0 days/],
    [{ exemptionWarning: Duration.days(91) }, /^Error: exemptionWarning must be between 1 and 90 whole days, got 91 days/],
  ] as [any, RegExp][]) {
    test(`${String(text).split('Error: ')[1]!.slice(0, 16)}... is refused: ${text.source.split('got ')[1] ?? ''}`, () => {
      assert.throws(() => toldTo(imported, props), text);
    });
  }

  test('a choice that is only known at deployment is left alone', () => {
    const later = { alertOn: Token.asString({ Ref: 'On' }) as AlertOn, alertQuietPeriod: Duration.seconds(Token.asNumber({ Ref: 'Quiet' })) };
    assert.equal(variables(toldTo(imported, later), 'OnScan').ALERTS, '{"on":"{On}","quietSeconds":{Quiet},"warnDays":7}');
  });
});

describe('verdict events', () => {
  const bus = (from: Resource[]): unknown => find(from, 'AWS::Lambda::Function', 'OnScan').Properties.Environment.Variables.EVENT_BUS;

  test('go to the default bus, in our name alone', () => {
    assert.equal(bus(plainPipeline), 'default');
    assert.ok(permissions(plainPipeline, 'OnScan').includes(PUT_EVENTS));
  });

  test('go nowhere, if so chosen, and nothing may be put', () => {
    const silent = parts({ verdictEvents: false });
    assert.equal(bus(silent), undefined);
    assert.deepEqual(permissions(silent, 'OnScan').filter((line) => line.includes('events:')), []);
  });
});

describe('the daily sweep', () => {
  const rescans = (dailyRescans: number): string =>
    find(parts({ dailyRescans }), 'AWS::Lambda::Function', 'OnSweep').Properties.Environment.Variables.DAILY_RESCANS;

  for (const count of [0, 1, 100_000]) {
    test(`has ${count} images scanned again, if so chosen`, () => {
      assert.equal(rescans(count), String(count));
    });
  }

  for (const count of [-1, 0.5, 100_001, NaN]) {
    test(`cannot have ${count} images scanned again`, () => {
      assert.throws(() => rescans(count), {
        message: `dailyRescans must be a whole number from 0 to 100000, got ${count}: so many deployed images are scanned again in a day. With 0 none is.`,
      });
    });
  }
});

describe('the backfill', () => {
  test('asks on-sweep once all is there, and nothing waits for it', () => {
    const backfill = find(plainPipeline, 'Custom::EcrScanVerifierBackfill');
    assert.deepEqual(backfill.Properties, { ServiceToken: ON_SWEEP, ServiceTimeout: '300', pipeline: 'demo' });
    const types = (type: string): string[] => findAll(plainPipeline, type).map((r) => r.id);
    for (const id of [
      ...types('AWS::Events::Rule'),
      ...types('AWS::Lambda::Permission'),
      ...types('AWS::Lambda::EventInvokeConfig'),
      ...types('AWS::Lambda::EventSourceMapping'),
      ...types('AWS::SQS::QueuePolicy'),
      'PipelineOnSweep',
    ]) {
      assert.ok(backfill.DependsOn.includes(id), id);
    }
    assert.deepEqual(plainPipeline.filter((r) => r.DependsOn.includes(backfill.id)), []);
  });

  test('is not asked for, if so chosen', () => {
    assert.deepEqual(findAll(parts({ backfill: false }), 'Custom::EcrScanVerifierBackfill'), []);
  });
});

describe('the findings bucket', () => {
  test('is private, encrypted and reached by TLS alone', () => {
    const { Properties } = find(plainPipeline, 'AWS::S3::Bucket');
    assert.deepEqual(Object.values(Properties.PublicAccessBlockConfiguration), [true, true, true, true]);
    assert.equal(Properties.BucketEncryption.ServerSideEncryptionConfiguration[0].ServerSideEncryptionByDefault.SSEAlgorithm, 'AES256');
    assert.equal(Properties.BucketName, undefined);
    assert.deepEqual(find(plainPipeline, 'AWS::S3::BucketPolicy').Properties, {
      Bucket: '{PipelineFindingsBucket}',
      PolicyDocument: {
        Version: '2012-10-17',
        Statement: [
          {
            Effect: 'Deny',
            Principal: { AWS: '*' },
            Action: 's3:*',
            Resource: ['{PipelineFindingsBucket.Arn}', '{PipelineFindingsBucket.Arn}/*'],
            Condition: { Bool: { 'aws:SecureTransport': 'false' } },
          },
        ],
      },
    });
  });

  test('drops uploads that were left unfinished, and no facts', () => {
    const { Rules } = find(plainPipeline, 'AWS::S3::Bucket').Properties.LifecycleConfiguration;
    assert.deepEqual(Rules, [
      { Id: 'UploadsLeftUnfinished', Status: 'Enabled', AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 } },
      { Id: 'ReadingsThatWentOn', Status: 'Enabled', Prefix: 'begun/', ExpirationInDays: 1 },
    ]);
  });
});

describe('breaking the glass', () => {
  const policyOf = (template: Resource[]) => find(template, 'AWS::DynamoDB::Table', 'Deployments').Properties.ResourcePolicy.PolicyDocument.Statement;
  const broken = { 'ForAnyValue:StringLike': { 'dynamodb:LeadingKeys': ['break-glass#*'] } };

  test('is for nobody unless a role is named', () => {
    const [put, use] = policyOf(plainPipeline);
    assert.deepEqual([put.Effect, put.Principal, put.Condition], ['Deny', { AWS: '*' }, broken]);
    assert.ok(put.Action.includes('dynamodb:PutItem') && put.Action.includes('dynamodb:BatchWriteItem'));
    assert.deepEqual(use.Effect, 'Deny');
    assert.ok(use.Action.includes('dynamodb:UpdateItem'), 'an update of a row that is not there makes one');
    assert.equal(use.Condition.ArnNotEquals['aws:PrincipalArn'].length, 4, 'the functions use it up');
  });

  test('is for the role that is named, which may do nothing else here', () => {
    const stack = newStack();
    const breakGlassRole = new iam.Role(stack, 'OnCall', { assumedBy: new iam.AccountRootPrincipal() });
    const template = resources(pipelineIn(stack, { breakGlassRole }));
    const [put] = policyOf(template);
    assert.match(JSON.stringify(put.Condition.ArnNotEquals), /OnCall/);
    const granted = find(template, 'AWS::IAM::Policy', 'OnCallDefaultPolicy').Properties.PolicyDocument.Statement;
    assert.equal(granted.length, 1);
    assert.deepEqual([granted[0].Action, granted[0].Condition], ['dynamodb:PutItem', { 'ForAllValues:StringLike': { 'dynamodb:LeadingKeys': ['break-glass#*'] } }]);
  });

  test('uses the key where there is one, through the table alone', () => {
    const stack = newStack();
    const breakGlassRole = new iam.Role(stack, 'OnCallRole', { assumedBy: new iam.AccountRootPrincipal() });
    const template = resources(pipelineIn(stack, { breakGlassRole, encryptionKey: new kms.Key(stack, 'Key') }));
    const lines = permissions(template, 'OnCall').join('\n');
    assert.match(lines, /kms:Decrypt/);
  });
});

describe('when the pipeline is removed', () => {
  const KEPT = ['AWS::DynamoDB::Table', 'AWS::Logs::LogGroup', 'AWS::S3::Bucket'];
  const fates = (from: Resource[]): Set<unknown> =>
    new Set(from.filter((r) => KEPT.includes(r.Type)).map((r) => r.DeletionPolicy));

  test('tables, findings and logs stay', () => {
    assert.deepEqual(fates(plainPipeline), new Set(['Retain']));
  });

  test('they go, if so chosen', () => {
    assert.deepEqual(fates(parts({ removalPolicy: RemovalPolicy.DESTROY })), new Set(['Delete']));
  });
});

describe("with the customer's key", () => {
  const stack = newStack();
  const encrypted = resources(pipelineIn(stack, { encryptionKey: new kms.Key(stack, 'Key') }));

  test('everything that lies somewhere is encrypted with it', () => {
    for (const { Properties } of findAll(encrypted, 'AWS::DynamoDB::Table')) {
      assert.deepEqual(Properties.SSESpecification, { SSEEnabled: true, KMSMasterKeyId: '{Key.Arn}', SSEType: 'KMS' });
    }
    for (const { Properties } of findAll(encrypted, 'AWS::SQS::Queue')) {
      assert.equal(Properties.KmsMasterKeyId, '{Key.Arn}');
    }
    for (const { Properties } of findAll(encrypted, 'AWS::Logs::LogGroup')) {
      assert.equal(Properties.KmsKeyId, '{Key.Arn}');
    }
    const [rule] = find(encrypted, 'AWS::S3::Bucket').Properties.BucketEncryption.ServerSideEncryptionConfiguration;
    assert.equal(rule.ServerSideEncryptionByDefault.KMSMasterKeyID, '{Key.Arn}');
  });

  test('EventBridge may fill the queues and CloudWatch may write the logs', () => {
    const statements = find(encrypted, 'AWS::KMS::Key').Properties.KeyPolicy.Statement;
    const ofService = (service: string): any => statements.filter((s: any) => s.Principal.Service === service);
    const [events, ...moreEvents] = ofService('events.amazonaws.com');
    assert.deepEqual(moreEvents, []);
    assert.deepEqual(events.Action, ['kms:Decrypt', 'kms:GenerateDataKey']);
    assert.deepEqual(events.Condition, { StringEquals: { 'aws:SourceAccount': ACCOUNT } });
    const [logs, ...moreLogs] = ofService(`logs.${REGION}.amazonaws.com`);
    assert.deepEqual(moreLogs, []);
    assert.deepEqual(logs.Condition, {
      ArnLike: {
        'kms:EncryptionContext:aws:logs:arn': `arn:aws:logs:${REGION}:${ACCOUNT}:log-group:/aws/lambda/ecr-scan-verifier-demo-*`,
      },
    });
  });

  for (const [id, services] of [
    ['OnPush', ['dynamodb', 'sqs']],
    ['OnScan', ['dynamodb', 's3', 'sqs']],
    ['OnDeploy', ['dynamodb', 's3', 'sqs']],
    ['OnSweep', ['dynamodb', 'sqs']],
  ] as [string, string[]][]) {
    test(`${id} uses it through ${services.join(', ')} alone`, () => {
      const condition = { StringEquals: { 'kms:ViaService': services.map((s) => `${s}.${REGION}.amazonaws.com`) } };
      const calls = ['Decrypt', 'DescribeKey', 'Encrypt', 'GenerateDataKey*', 'ReEncrypt*'];
      assert.deepEqual(
        withKey(encrypted, id),
        calls.map((call) => `Allow kms:${call} on {Key.Arn} when ${JSON.stringify(condition)}`),
      );
      assert.deepEqual(withKey(plainPipeline, id), []);
    });
  }

  test('a key whose policy we cannot change raises a warning that says what it needs, our own does not', () => {
    const imported = newStack();
    const key = kms.Key.fromKeyArn(imported, 'Key', `arn:aws:kms:${REGION}:${ACCOUNT}:key/1`);
    assert.match(warnings(pipelineIn(imported, { encryptionKey: key })).join(), /has to let events\.amazonaws\.com use kms:Decrypt/);
    assert.deepEqual(warnings(stack), []);
  });
});

test('a pipeline needs no account and no region to be synthesized', () => {
  const stack = new Stack(newApp(), 'anywhere');
  pipelineIn(stack);
  assert.equal(findAll(resources(stack), 'AWS::Lambda::Function').length, 4);
});

test('nothing is created when a prop is refused', () => {
  const stack = new Stack(new App({ context: { 'ecr-scan-verifier:binaries': binaries(['x86_64']) } }), 'payments', { env: HOME });
  assert.throws(() => pipelineIn(stack), /No arm64 binaries/);
  assert.deepEqual(resources(stack), []);
});

/** EventBridge's matching, as far as our patterns use it: equality and prefix, on texts and lists of texts. */
function queuesThatHearOf(from: Resource[], event: any): string[] {
  const matches = (pattern: any, value: any): boolean =>
    Array.isArray(pattern)
      ? [value].flat().some((v) => pattern.some((p) => (typeof p === 'string' ? v === p : String(v).startsWith(p.prefix))))
      : value !== undefined && Object.entries(pattern).every(([key, inner]) => matches(inner, value[key]));
  return findAll(from, 'AWS::Events::Rule')
    .filter((rule) => rule.Properties.EventPattern && matches(rule.Properties.EventPattern, event))
    .map((rule) => rule.Properties.Targets[0].Arn);
}
