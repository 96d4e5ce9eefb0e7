// docs/iam.md says what the roles may do and what people need; what it says is compared with what is synthesized. After a change
// that is meant: npm run test:update
import * as assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readFileSync, writeFileSync } from 'fs';
import * as path from 'path';
import { Stack } from 'aws-cdk-lib';
import { EcrScanPipeline } from '../src';
import { gateWithOutputs } from './golden-stacks';
import { ACCOUNT, FUNCTIONS, HOME, REGION, Resource, find, findAll, newApp, resources } from './support';

type Json = any;

const PAGE = path.join(__dirname, '..', '..', '..', 'docs', 'iam.md');
const BEGIN = '<!-- functions: made by npm run test:update -->\n';
const END = '<!-- end -->\n';

const stack = new Stack(newApp(), 'ecr-scan-verifier', { env: HOME });
new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'main', alarms: {}, dashboard: true });
const pipeline = resources(stack);

function asPage(): string {
  return FUNCTIONS.map((key) => {
    const id = key.replace(/(^|-)(.)/g, (_, __, letter: string) => letter.toUpperCase());
    const { Statement } = find(pipeline, 'AWS::IAM::Policy', `${id}RoleDefaultPolicy`).Properties.PolicyDocument;
    const rows = Statement.map((statement: Json) => {
      const actions = [statement.Action].flat().map((action: string) => `\`${action}\``);
      const things = [statement.Resource].flat().map(readableThing);
      return `| ${actions.join(', ')} | ${things.join(', ')} |`;
    });
    return `### ${key}\n\n| actions | on |\n| --- | --- |\n${rows.join('\n')}\n`;
  }).join('\n');
}

function readableThing(arn: string): string {
  const named = arn.replace(/^\{Pipeline(\w+)\.Arn\}/, '$1').replace(`:${REGION}:`, ':<region>:').replace(`:${ACCOUNT}:`, ':<account>:');
  return `\`${named}\``;
}

test('the page says of each function exactly what its role may do', () => {
  const page = readFileSync(PAGE, 'utf8');
  const [before, rest] = page.split(BEGIN) as [string, string];
  const after = rest.slice(rest.indexOf(END));
  const expected = `${before}${BEGIN}\n${asPage()}\n${after}`;
  if (process.env.UPDATE_TEMPLATES === '1') {
    writeFileSync(PAGE, expected);
  }
  assert.equal(readFileSync(PAGE, 'utf8'), expected, 'if the change is meant: npm run test:update');
});

/** A policy of the page, filled in for the account of the tests. */
function policy(name: string): Json[] {
  const [, text] = readFileSync(PAGE, 'utf8').match(new RegExp(`\`\`\`json ${name}\\n(.*?)\`\`\``, 's'))!;
  return JSON.parse(text!.replaceAll('REGION', REGION).replaceAll('ACCOUNT', ACCOUNT)).Statement;
}

function allows(statements: Json[], action: string, arn: string): boolean {
  const matches = (patterns: Json, text: string): boolean =>
    [patterns].flat().some((pattern: string) => new RegExp(`^${pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '.*')}$`).test(text));
  const said = (effect: string): boolean => statements.some((s) => s.Effect === effect && matches(s.Action, action) && matches(s.Resource, arn));
  return said('Allow') && !said('Deny');
}

describe('an operator', () => {
  const operator = policy('operator');
  const table = (key: string): string => `arn:aws:dynamodb:${REGION}:${ACCOUNT}:table/ecr-scan-verifier-main-${key}`;

  test('may read what the command line reads', () => {
    for (const [action, arn] of [
      ['dynamodb:Query', `${table('requests')}/index/open-by-due`],
      ...['by-digest', 'decisions-by-digest', 'decisions-by-stack', 'live'].map((index) => ['dynamodb:Query', `${table('deployments')}/index/${index}`]),
      ['dynamodb:Query', `${table('verdicts')}/index/heads-by-repository`],
      ['dynamodb:GetItem', table('deployments')],
      ['dynamodb:BatchGetItem', table('verdicts')],
      ['dynamodb:GetItem', table('verdicts')],
      ['dynamodb:Query', table('verdicts')],
    ] as [string, string][]) {
      assert.ok(allows(operator, action, arn), `${action} on ${arn}`);
    }
    const names = findAll(pipeline, 'AWS::DynamoDB::Table').map((t) => `arn:aws:dynamodb:${REGION}:${ACCOUNT}:table/${t.Properties.TableName}`);
    assert.deepEqual(names.sort(), ['deployments', 'requests', 'verdicts'].map(table).sort(), 'these are the names of the tables');
  });

  test('may not read where answers go, and writes nothing', () => {
    for (const action of ['GetItem', 'BatchGetItem', 'Query', 'Scan']) {
      assert.ok(!allows(operator, `dynamodb:${action}`, table('requests')), action);
    }
    const verbs = operator.flatMap((s) => [s.Action].flat()).map((action: string) => action.split(':')[1]!);
    assert.deepEqual(verbs.filter((verb) => !/^(BatchGet|Get|Query)/.test(verb)), []);
  });
});

/** What CloudFormation calls to make, change and remove a resource, at the least, and on what. */
const HANDLERS: Record<string, { verbs: string[]; arn: (resource: Resource) => string }> = {
  'Custom::EcrScanVerifierBackfill': { verbs: ['lambda:InvokeFunction'], arn: () => functionArn('on-sweep') },
  'AWS::CloudWatch::Alarm': {
    verbs: ['cloudwatch:PutMetricAlarm', 'cloudwatch:DeleteAlarms'],
    arn: ({ Properties }) => `arn:aws:cloudwatch:${REGION}:${ACCOUNT}:alarm:${Properties.AlarmName}`,
  },
  'AWS::CloudWatch::Dashboard': {
    verbs: ['cloudwatch:PutDashboard', 'cloudwatch:DeleteDashboards'],
    arn: ({ Properties }) => `arn:aws:cloudwatch::${ACCOUNT}:dashboard/${Properties.DashboardName}`,
  },
  'AWS::DynamoDB::Table': {
    verbs: ['dynamodb:CreateTable', 'dynamodb:UpdateTable', 'dynamodb:DeleteTable', 'dynamodb:UpdateTimeToLive', 'dynamodb:PutResourcePolicy'],
    arn: ({ Properties }) => `arn:aws:dynamodb:${REGION}:${ACCOUNT}:table/${Properties.TableName}`,
  },
  'AWS::Events::Rule': {
    verbs: ['events:PutRule', 'events:PutTargets', 'events:RemoveTargets', 'events:DeleteRule'],
    arn: ({ id }) => `arn:aws:events:${REGION}:${ACCOUNT}:rule/${made(id)}`,
  },
  'AWS::IAM::Policy': { verbs: ['iam:PutRolePolicy', 'iam:DeleteRolePolicy'], arn: ({ id }) => roleArn(id.replace(/DefaultPolicy$/, '')) },
  'AWS::IAM::Role': { verbs: ['iam:CreateRole', 'iam:UpdateAssumeRolePolicy', 'iam:DeleteRole'], arn: ({ id }) => roleArn(id) },
  'AWS::Lambda::EventInvokeConfig': {
    verbs: ['lambda:PutFunctionEventInvokeConfig', 'lambda:UpdateFunctionEventInvokeConfig', 'lambda:DeleteFunctionEventInvokeConfig'],
    arn: () => functionArn('on-deploy'),
  },
  'AWS::Lambda::EventSourceMapping': {
    verbs: ['lambda:CreateEventSourceMapping', 'lambda:UpdateEventSourceMapping', 'lambda:DeleteEventSourceMapping'],
    arn: () => `arn:aws:lambda:${REGION}:${ACCOUNT}:event-source-mapping:1`,
  },
  'AWS::Lambda::Function': {
    verbs: ['lambda:CreateFunction', 'lambda:UpdateFunctionCode', 'lambda:UpdateFunctionConfiguration', 'lambda:DeleteFunction', 'lambda:PutFunctionRecursionConfig'],
    arn: ({ Properties }) => `arn:aws:lambda:${REGION}:${ACCOUNT}:function:${Properties.FunctionName}`,
  },
  'AWS::Lambda::Permission': { verbs: ['lambda:AddPermission', 'lambda:RemovePermission'], arn: () => functionArn('on-sweep') },
  'AWS::Logs::LogGroup': {
    verbs: ['logs:CreateLogGroup', 'logs:PutRetentionPolicy', 'logs:DeleteLogGroup'],
    arn: ({ Properties }) => `arn:aws:logs:${REGION}:${ACCOUNT}:log-group:${Properties.LogGroupName}`,
  },
  'AWS::S3::Bucket': {
    verbs: ['s3:CreateBucket', 's3:PutLifecycleConfiguration', 's3:PutEncryptionConfiguration', 's3:PutBucketPublicAccessBlock', 's3:PutBucketOwnershipControls'],
    arn: ({ id }) => `arn:aws:s3:::${made(id).toLowerCase()}`,
  },
  'AWS::S3::BucketPolicy': { verbs: ['s3:PutBucketPolicy', 's3:DeleteBucketPolicy'], arn: ({ id }) => `arn:aws:s3:::${made(id).toLowerCase()}` },
  'AWS::SQS::Queue': {
    verbs: ['sqs:CreateQueue', 'sqs:SetQueueAttributes', 'sqs:DeleteQueue'],
    arn: ({ id }) => `arn:aws:sqs:${REGION}:${ACCOUNT}:${made(id)}`,
  },
  'AWS::SQS::QueuePolicy': { verbs: ['sqs:SetQueueAttributes'], arn: ({ id }) => `arn:aws:sqs:${REGION}:${ACCOUNT}:${made(id)}` },
};

// As CloudFormation names what has no name.
function made(id: string): string {
  return `ecr-scan-verifier-${id}-1A2B3C4D5E6F`;
}

function roleArn(id: string): string {
  const { RoleName } = find(pipeline, 'AWS::IAM::Role', id).Properties;
  return `arn:aws:iam::${ACCOUNT}:role/${RoleName ?? made(id)}`;
}

function functionArn(key: string): string {
  return `arn:aws:lambda:${REGION}:${ACCOUNT}:function:ecr-scan-verifier-main-${key}`;
}

describe('who deploys a pipeline', () => {
  const deployer = policy('pipeline');

  test('may make, change and remove everything in it', () => {
    for (const resource of pipeline) {
      const handler = HANDLERS[resource.Type];
      assert.ok(handler, `${resource.Type} is new: say here what it takes, and on the page`);
      for (const verb of handler.verbs) {
        assert.ok(allows(deployer, verb, handler.arn(resource)), `${verb} on ${handler.arn(resource)}`);
      }
    }
    for (const role of findAll(pipeline, 'AWS::IAM::Role')) {
      assert.ok(allows(deployer, 'iam:PassRole', roleArn(role.id)), role.id);
    }
  });

  test('may touch nothing of another name', () => {
    for (const [action, arn] of [
      ['iam:CreateRole', `arn:aws:iam::${ACCOUNT}:role/admin`],
      ['iam:PutRolePolicy', `arn:aws:iam::${ACCOUNT}:role/ecr-scan-verifier/payments-Outputs`],
      ['lambda:UpdateFunctionCode', `arn:aws:lambda:${REGION}:${ACCOUNT}:function:ecr-scan-verifier-other-on-deploy`],
      ['dynamodb:PutItem', `arn:aws:dynamodb:${REGION}:${ACCOUNT}:table/ecr-scan-verifier-main-verdicts`],
    ] as const) {
      assert.ok(!allows(deployer, action, arn), `${action} on ${arn}`);
    }
  });
});

describe('who deploys a gate', () => {
  const deployer = policy('gate');

  test('may ask the pipeline, and make the role for its outputs', () => {
    assert.ok(allows(deployer, 'lambda:InvokeFunction', functionArn('on-deploy')));
    const [role] = findAll(resources(gateWithOutputs()), 'AWS::IAM::Role');
    const arn = `arn:aws:iam::${ACCOUNT}:role${role!.Properties.Path}payments-${role!.id}-1A2B3C`;
    for (const verb of [...HANDLERS['AWS::IAM::Role']!.verbs, ...HANDLERS['AWS::IAM::Policy']!.verbs]) {
      assert.ok(allows(deployer, verb, arn), verb);
    }
    assert.ok(!allows(deployer, 'iam:PassRole', arn));
  });

  test('may not change what answers it, nor any other role', () => {
    assert.ok(!allows(deployer, 'lambda:UpdateFunctionCode', functionArn('on-deploy')));
    assert.ok(!allows(deployer, 'iam:CreateRole', `arn:aws:iam::${ACCOUNT}:role/ecr-on-scan-main-${REGION}`));
  });
});
