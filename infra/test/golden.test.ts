// Golden templates show in a diff what a change does to people's stacks. After a change that is meant: npm run test:update
import * as assert from 'node:assert/strict';
import { test } from 'node:test';
import { existsSync, readFileSync, writeFileSync } from 'fs';
import * as path from 'path';
import { Stack } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import { GOLDEN_STACKS, explicitPipeline, fullPolicyGate, gateWithOutputs, gatesWithSignatures, implicitPipeline, sampleGate, watchedPipeline } from './golden-stacks';
import { find, plain, readable } from './support';

const INFRA = path.join(__dirname, '..', '..');
const UPDATE = process.env.UPDATE_TEMPLATES === '1';

const goldenTemplates: [string, () => Stack][] = [
  ['explicit-pipeline', explicitPipeline],
  ['implicit-pipeline-two-gates', implicitPipeline],
  ['gate-with-outputs', gateWithOutputs],
  ['gates-with-signatures', gatesWithSignatures],
];
for (const [name, stack] of goldenTemplates) {
  test(`templates/${name}.json is what the construct synthesizes`, () => {
    const template = withoutAssetHashes(Template.fromStack(stack()).toJSON());
    const file = path.join(INFRA, 'templates', `${name}.json`);
    if (UPDATE) {
      writeFileSync(file, JSON.stringify(template, null, 2) + '\n');
    }
    assert.ok(existsSync(file), `${file} is missing; npm run test:update writes it`);
    const golden = JSON.parse(readFileSync(file, 'utf8'));
    const meant = 'if the change is meant: npm run test:update';
    for (const id of Object.keys({ ...golden.Resources, ...template.Resources })) {
      assert.deepEqual(template.Resources[id], golden.Resources[id], `${id} differs; ${meant}`);
    }
    assert.deepEqual(template, golden, meant);
  });
}

test('templates/alarms-and-dashboard.json is what watches a pipeline', () => {
  const { Resources } = Template.fromStack(watchedPipeline()).toJSON();
  const watching = Object.fromEntries(Object.entries<any>(Resources).filter(([, { Type }]) => Type.startsWith('AWS::CloudWatch::')));
  const file = path.join(INFRA, 'templates', 'alarms-and-dashboard.json');
  if (UPDATE) {
    writeFileSync(file, JSON.stringify({ Resources: watching }, null, 2) + '\n');
  }
  assert.deepEqual({ Resources: watching }, JSON.parse(readFileSync(file, 'utf8')), 'if the change is meant: npm run test:update');
});

const sampleRequests: [string, () => Stack][] = [
  ['deploy-create.json', sampleGate],
  ['deploy-create-full-policy.json', fullPolicyGate],
];
for (const [sample, stack] of sampleRequests) {
  test(`events/${sample} is the request that the construct makes CloudFormation send`, () => {
    const template = Template.fromStack(stack()).toJSON();
    const [logicalId] = Object.keys(template.Resources);
    const gate = find(readable(template), 'Custom::EcrScanVerifier');
    const properties = asCloudFormationSends(plain(gate.Properties));

    const file = path.join(INFRA, '..', 'events', sample);
    const request = JSON.parse(readFileSync(file, 'utf8'));
    if (UPDATE) {
      Object.assign(request, { LogicalResourceId: logicalId, ServiceToken: properties.ServiceToken, ResourceProperties: properties });
      writeFileSync(file, JSON.stringify(request, null, 2) + '\n');
    }
    assert.deepEqual(request.ResourceProperties, properties, 'if the change is meant: npm run test:update, and tell the Rust side');
    assert.equal(request.LogicalResourceId, logicalId);
    assert.equal(request.ServiceToken, properties.ServiceToken);
    assert.equal(request.ResourceType, 'Custom::EcrScanVerifier');
    assert.equal(request.RequestType, 'Create');
  });
}

test('nothing that ships knows of the switch that tests use for their answers', () => {
  for (const stack of GOLDEN_STACKS) {
    assert.doesNotMatch(JSON.stringify(Template.fromStack(stack()).toJSON()), /TEST_ANSWER_ORIGIN/);
  }
});

function withoutAssetHashes(template: unknown): any {
  return JSON.parse(JSON.stringify(template).replace(/[0-9a-f]{64}\.zip/g, '<hash of the binary>.zip'));
}

// Numbers and booleans arrive as text, at any depth.
function asCloudFormationSends(value: any): any {
  if (Array.isArray(value)) {
    return value.map(asCloudFormationSends);
  }
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, asCloudFormationSends(inner)]));
  }
  return String(value);
}
