// The templates for those who deploy without the CDK. After a change that is meant: npm run test:update
import * as assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { existsSync, readFileSync, writeFileSync } from 'fs';
import * as path from 'path';
import { parse } from 'yaml';
import { plainGate, plainPipeline } from './plain-templates';
import { find, findAll, plain, readable } from './support';

type Json = any;

const FOLDER = path.join(__dirname, '..', '..', 'templates');

for (const [name, make] of [['pipeline', plainPipeline], ['gate-example', plainGate]] as const) {
  describe(`templates/${name}.yaml`, () => {
    const text = make();
    const template: Json = parse(text);

    test('is what the constructs synthesize', () => {
      const file = path.join(FOLDER, `${name}.yaml`);
      if (process.env.UPDATE_TEMPLATES === '1') {
        writeFileSync(file, text);
      }
      assert.ok(existsSync(file), `${file} is missing; npm run test:update writes it`);
      assert.equal(readFileSync(file, 'utf8'), text, 'if the change is meant: npm run test:update');
    });

    test('knows nothing of the CDK, of this machine and of the name that stood for the parameter', () => {
      assert.doesNotMatch(text, /cdk-hnb|BootstrapVersion|AssetParameters|aws:cdk|CDKMetadata|name-of-the-pipeline|TEST_ANSWER_ORIGIN/);
      assert.doesNotMatch(JSON.stringify(Object.keys(template.Resources)), /[0-9A-F]{8}"/);
    });

    test('has no date where a text is meant', () => {
      assert.match(text, /AWSTemplateFormatVersion: ["']2010-09-09["']/);
      assert.doesNotMatch(text, /: \d{4}-\d\d-\d\d$/m);
    });

    test('refers to nothing that is not there', () => {
      const there = [...Object.keys(template.Parameters), ...Object.keys(template.Resources)];
      const names: string[] = [];
      const look = (value: Json): void => {
        if (value === null || typeof value !== 'object') {
          return;
        }
        for (const [key, inner] of Object.entries<Json>(value)) {
          if (key === 'Ref') {
            names.push(inner);
          } else if (key === 'Fn::GetAtt') {
            names.push(inner[0]);
          } else if (key === 'Fn::Sub') {
            const [sentence, own = {}] = [inner].flat();
            const filledIn = [...sentence.matchAll(/\$\{([^!}][^}.]*)[^}]*\}/g)].map(([, of]: string[]) => of!);
            names.push(...filledIn.filter((one) => !(one in own)));
          } else if (key === 'DependsOn') {
            names.push(...[inner].flat());
          }
          look(inner);
        }
      };
      look(template.Resources);
      look(template.Outputs);
      assert.ok(names.length > 3);
      assert.deepEqual(names.filter((one) => !one.startsWith('AWS::') && !there.includes(one)), []);
    });

    test('uses every parameter', () => {
      const rest = JSON.stringify([template.Resources, template.Outputs, template.Conditions ?? {}]);
      for (const parameter of Object.keys(template.Parameters)) {
        assert.ok(rest.includes(`"Ref":"${parameter}"`) || rest.includes(`\${${parameter}}`), parameter);
      }
    });

    test('fits into a request to CloudFormation', () => {
      assert.ok(Buffer.byteLength(text) <= 51_200, `${Buffer.byteLength(text)} bytes`);
    });
  });
}

test('the pipeline takes each function from its zip, for the architecture that was chosen', () => {
  const functions = findAll(readable(parse(plainPipeline())), 'AWS::Lambda::Function').map((f) => f.Properties);
  assert.deepEqual(
    functions.map((f) => [f.FunctionName, f.Code, f.Architectures]),
    ['on-push', 'on-scan', 'on-deploy', 'on-sweep'].map((key) => [
      { 'Fn::Sub': `ecr-scan-verifier-\${PipelineName}-${key}` },
      { S3Bucket: '{BinariesBucket}', S3Key: { 'Fn::Sub': `\${BinariesPrefix}\${Architecture}/${key}.zip` } },
      ['{Architecture}'],
    ]),
  );
});

describe('what the pipeline is told by parameters', () => {
  const template = parse(plainPipeline());
  const resources = readable(template);
  const variables = (id: string): Json => find(resources, 'AWS::Lambda::Function', id).Properties.Environment.Variables;
  const nothing = { Ref: 'AWS::NoValue' };
  const only = (condition: string, value: Json, otherwise: Json = plain(nothing)): Json => ({ 'Fn::If': [condition, value, otherwise] });

  test('is told to the functions as the construct does, and what is empty is not said', () => {
    const { ALERTS, ALERT_TOPIC_ARN, EVENT_BUS } = variables('OnScan');
    assert.deepEqual([ALERT_TOPIC_ARN, EVENT_BUS], [only('SomebodyHears', '{AlertTopicArn}'), only('VerdictsAreAnnounced', 'default')]);
    assert.deepEqual(variables('OnDeploy').ALERT_TOPIC_ARN, ALERT_TOPIC_ARN);
    assert.equal(variables('OnSweep').DAILY_RESCANS, '{DailyRescans}');
    assert.equal(said(ALERTS, {}), '{"on":"DEPLOYED","warnDays":7}');
    assert.equal(
      said(ALERTS, { AlertOn: 'ALL', AlertSeverity: 'HIGH', AlertQuietSeconds: '3600', ExemptionWarningDays: '14' }),
      '{"on":"ALL","quietSeconds":3600,"severity":"HIGH","warnDays":14}',
    );
  });

  test('is granted only then', () => {
    const { Statement } = find(resources, 'AWS::IAM::Policy', 'OnScanRoleDefaultPolicy').Properties.PolicyDocument;
    const chosen = Statement.filter((s: Json) => 'Fn::If' in s).map(({ 'Fn::If': [condition, { Sid, Action }, otherwise] }: Json) => {
      assert.deepEqual(otherwise, plain(nothing));
      return [condition, Sid, Action];
    });
    assert.deepEqual(chosen, [
      ['SomebodyHears', 'Alerts', 'sns:Publish'],
      ['ItsKeyIsOurs', 'KeyOfAlerts', ['kms:Decrypt', 'kms:GenerateDataKey']],
      ['VerdictsAreAnnounced', 'AnnounceVerdicts', 'events:PutEvents'],
    ]);
  });

  test('is refused where it would do nothing: without a topic', () => {
    const { RuleCondition, Assertions } = template.Rules.AlertsNeedATopic;
    assert.deepEqual(RuleCondition, { 'Fn::Equals': [{ Ref: 'AlertTopicArn' }, ''] });
    for (const { Assert, AssertDescription } of Assertions) {
      const [{ Ref: parameter }, usual] = Assert['Fn::Equals'];
      assert.equal(usual, template.Parameters[parameter].Default, 'whoever says nothing is not refused');
      assert.equal(AssertDescription, `${parameter} does nothing without AlertTopicArn`);
    }
    const about = Object.keys(template.Parameters).filter((name) => name.startsWith('Alert') && name !== 'AlertTopicArn');
    assert.deepEqual(Assertions.map((a: Json) => a.Assert['Fn::Equals'][0].Ref).sort(), about.sort());
  });

  test('makes the backfill only where it is wanted, of what is there then', () => {
    assert.equal(template.Resources.Backfill.Condition, 'BackfillIsWanted');
    assert.deepEqual(template.Conditions.BackfillIsWanted, { 'Fn::Not': [{ 'Fn::Equals': [{ Ref: 'WithBackfill' }, 'false'] }] });
  });

  /** A text with the parameters filled in, as CloudFormation would. */
  function said(value: Json, given: Record<string, string>): string {
    if (typeof value === 'string') {
      return value;
    }
    const parameter = (name: string): string => String(given[name] ?? template.Parameters[name].Default);
    if ('Fn::If' in value) {
      const [condition, yes, no] = value['Fn::If'];
      const [{ 'Fn::Equals': [{ Ref: name }, text] }] = template.Conditions[condition]['Fn::Not'];
      return said(parameter(name) === text ? no : yes, given);
    }
    const [sentence, own = {}] = [value['Fn::Sub']].flat();
    return sentence.replace(/\$\{(\w+)\}/g, (_: string, name: string) => (name in own ? said(own[name], given) : parameter(name)));
  }
});

test('the gate asks the pipeline of that name, and all it says is text', () => {
  const { Properties } = find(readable(parse(plainGate())), 'Custom::EcrScanVerifier');
  assert.deepEqual(plain(Properties.ServiceToken), {
    'Fn::Sub': 'arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:ecr-scan-verifier-${PipelineName}-on-deploy',
  });
  const { ServiceToken, ServiceTimeout, repositoryArn, startScan, ignoreFindings, ...texts } = Properties;
  assert.deepEqual(texts, {
    repositoryName: '{RepositoryName}',
    imageTag: '{ImageTag}',
    scanType: '{ScanType}',
    severityThreshold: '{SeverityThreshold}',
    failOnVulnerability: 'true',
    suppressErrorOnRollback: 'true',
    pollingTimeoutSeconds: '840',
  });
});
